//! Balances rebuilt from the topics, on a real Kafka.

use common_events::{
    Topic, envelope,
    events::{PointCharged, PointDeducted, PointRefunded},
    ids::EntryId,
};
use messaging::{
    kafka,
    topics::{self, Cluster, Names},
};
use payment_service::rebuild::{self, Accounts, Repaired, Report};
use rand::{rng, seq::SliceRandom};
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use service_runtime::settings::{Env, KafkaSettings};
use std::{sync::Arc, time::Duration};
use test_support::Foreign;
use uuid::Uuid;

use crate::cashier::{Cashier, order, user, won};

const POINTS: [Topic; 3] = [Topic::PointCharged, Topic::PointDeducted, Topic::PointRefunded];
const PRODUCE_TIMEOUT: Duration = Duration::from_secs(20);

/// The three points topics of one test, on the real cluster.
struct Topics {
    settings: KafkaSettings,
    names: Names,
    cluster: Cluster,
    producer: FutureProducer,
}

impl Topics {
    async fn open() -> Self {
        let prefix = format!("test-{}.", Uuid::now_v7().simple());
        let brokers = test_support::kafka_brokers();
        let settings = KafkaSettings::read(&Env::of([("KAFKA_BROKERS", &brokers), ("TOPIC_PREFIX", &prefix)]));
        let settings = settings.expect("settings");
        let names = Names::with_prefix(prefix);
        let cluster = Cluster::connect(&settings).expect("a cluster");
        let points = POINTS.map(|topic| names.topic(topic.name()));
        let mut wanted = topics::wanted(&names);
        wanted.retain(|topic| points.contains(&topic.name));
        let changes = cluster.plan(&wanted).await.expect("Kafka answers at TEST_KAFKA_BROKERS");
        cluster.apply(&changes).await.expect("the topics are made");
        let producer = kafka::producing(&settings).create().expect("a producer");
        Self { settings, names, cluster, producer }
    }

    async fn produce(&self, topic: &str, key: &[u8], payload: &[u8]) {
        let topic = self.names.topic(topic);
        let record = FutureRecord::to(&topic).key(key).payload(payload);
        self.producer.send(record, PRODUCE_TIMEOUT).await.expect("acknowledged");
    }

    /// What outbox-relay does, but badly: in any order, and some twice.
    async fn relay_badly(&self, cashier: &Cashier) {
        let client = cashier.pool.get().await.expect("a connection");
        let names = POINTS.map(Topic::name);
        let sql = "SELECT topic, key, payload FROM outbox WHERE topic = ANY ($1)";
        let mut rows = client.query(sql, &[&names.as_slice()]).await.expect("rows");
        let again = client.query(&format!("{sql} LIMIT 5"), &[&names.as_slice()]).await.expect("rows");
        rows.extend(again);
        rows.shuffle(&mut rng());
        for row in rows {
            self.produce(row.get(0), row.get(1), row.get(2)).await;
        }
    }

    async fn close(self) {
        self.producer.flush(PRODUCE_TIMEOUT).expect("flushed");
        let names = POINTS.map(|topic| self.names.topic(topic.name()));
        self.cluster.delete(&names.each_ref().map(String::as_str)).await.expect("the topics are deleted");
    }
}

async fn trading_cashier() -> Arc<Cashier> {
    let cashier = Cashier::open().await;
    for who in ["kim", "lee", "park"] {
        cashier.charge(who, 1_000).await;
        let (kept, cancelled) = (order(), order());
        cashier.reserve(kept, who, 300).await;
        cashier.reserve(cancelled, who, 200).await;
        cashier.cancel(cancelled, who).await;
    }
    cashier
}

async fn compare(cashier: &Cashier, topics: &Topics, accounts: Accounts) -> Report {
    rebuild::balances(&cashier.pool, &topics.settings, accounts).await.expect("a report")
}

#[tokio::test(flavor = "multi_thread")]
async fn balances_rebuilt_from_the_topics_equal_the_ledger_whatever_came_twice_or_in_another_order() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    topics.relay_badly(&cashier).await;
    let report = compare(&cashier, &topics, Accounts::Leave).await;
    topics.close().await;
    assert!(report.all_agree(), "{report}");
    assert_eq!((report.entries, report.duplicates, report.users, report.unreadable), (12, 5, 3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_somebody_else_on_the_topics_hold_nothing_up() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    topics.relay_badly(&cashier).await;
    let (charged, foreign) = (topics.names.topic(Topic::PointCharged.name()), Foreign::at(&topics.settings.brokers));
    foreign.begin(&charged, 0, b"never there");
    foreign.abort();
    foreign.begin(&charged, 1, b"no event");
    foreign.commit();
    let report = compare(&cashier, &topics, Accounts::Leave).await;
    topics.close().await;
    assert_eq!((report.entries, report.users, report.unreadable), (12, 3, 1), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_that_drifted_are_reported_and_repaired_only_when_asked_to() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    topics.relay_badly(&cashier).await;
    let client = cashier.pool.get().await.expect("a connection");
    client.execute("UPDATE points_accounts SET balance = 1 WHERE user_id = 'kim'", &[]).await.expect("drifted");
    client.execute("DELETE FROM points_accounts WHERE user_id = 'lee'", &[]).await.expect("lost");

    let reported = compare(&cashier, &topics, Accounts::Leave).await;
    let drifted: Vec<&str> = reported.drifts.iter().map(|drift| drift.user_id.as_str()).collect();
    assert!(!reported.all_agree() && reported.differences.is_empty(), "{reported}");
    assert_eq!(drifted, ["kim", "lee"]);
    assert_eq!(compare(&cashier, &topics, Accounts::Leave).await.drifts, reported.drifts, "nothing was repaired");

    let repaired = compare(&cashier, &topics, Accounts::Repair).await;
    assert!(repaired.all_agree() && repaired.repaired == Repaired::Yes, "{repaired}");
    assert!(compare(&cashier, &topics, Accounts::Leave).await.drifts.is_empty());
    topics.close().await;
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_that_disagree_with_the_ledger_are_named_and_nothing_is_repaired() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    topics.relay_badly(&cashier).await;
    let alien = cashier.seam.event(PointCharged {
        entry_id: EntryId::new(Uuid::now_v7()),
        user_id: user("kim"),
        amount: won(5),
        balance: won(705),
        at: chrono::Utc::now(),
    });
    let payload = envelope::encode(&alien).expect("JSON");
    topics.produce(Topic::PointCharged.name(), b"kim", &payload).await;
    topics.produce(Topic::PointDeducted.name(), b"kim", b"rubbish").await;
    let client = cashier.pool.get().await.expect("a connection");
    client.execute("UPDATE points_accounts SET balance = 1 WHERE user_id = 'lee'", &[]).await.expect("drifted");

    let report = compare(&cashier, &topics, Accounts::Repair).await;
    topics.close().await;
    assert!(!report.all_agree());
    let [difference] = &*report.differences else { panic!("one difference: {report}") };
    assert_eq!((difference.user_id.as_str(), difference.topics.expect("known").balance), ("kim", 705));
    assert_eq!((report.unreadable, report.repaired, report.drifts.len()), (1, Repaired::No, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_never_reached_its_topic_is_found() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    let client = cashier.pool.get().await.expect("a connection");
    let lost = "DELETE FROM outbox WHERE id = (SELECT min(id) FROM outbox WHERE topic = $1)";
    client.execute(lost, &[&Topic::PointRefunded.name()]).await.expect("lost");
    topics.relay_badly(&cashier).await;
    let report = compare(&cashier, &topics, Accounts::Leave).await;
    topics.close().await;
    let [difference] = &*report.differences else { panic!("one difference: {report}") };
    let (on_topics, in_ledger) = (difference.topics.expect("known"), difference.ledger.expect("known"));
    assert_eq!((on_topics.entries, in_ledger.entries), (3, 4));
    assert_eq!(in_ledger.balance - on_topics.balance, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_still_on_their_way_are_waited_for() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    let (report, ()) = tokio::join!(compare(&cashier, &topics, Accounts::Leave), topics.relay_badly(&cashier));
    topics.close().await;
    assert!(report.all_agree(), "{report}");
}

/// They are kept for ever, and so in every version that there was.
#[tokio::test(flavor = "multi_thread")]
async fn entries_of_either_version_count() {
    let (cashier, topics) = (trading_cashier().await, Topics::open().await);
    let client = cashier.pool.get().await.expect("a connection");
    let told_later = "UPDATE outbox SET payload = convert_to(replace(convert_from(payload, 'UTF8'),
                          'urn:commerce:point-refunded:1', 'urn:commerce:point-refunded:2'), 'UTF8')
                      WHERE id = (SELECT max(id) FROM outbox WHERE topic = 'point-refunded')";
    assert_eq!(client.execute(told_later, &[]).await.expect("the outbox"), 1);
    let versions = "SELECT count(DISTINCT convert_from(payload, 'UTF8')::json ->> 'dataschema') FROM outbox
                    WHERE topic = 'point-refunded'";
    assert_eq!(client.query_one(versions, &[]).await.expect("the outbox").get::<_, i64>(0), 2);
    topics.relay_badly(&cashier).await;
    let report = compare(&cashier, &topics, Accounts::Leave).await;
    topics.close().await;
    assert!(report.all_agree(), "{report}");
    assert_eq!(report.unreadable, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_told_of_points_is_what_the_ledger_holds() {
    let cashier = trading_cashier().await;
    let (charged, deducted, refunded): (Vec<PointCharged>, Vec<PointDeducted>, Vec<PointRefunded>) =
        cashier.points_told().await;
    assert_eq!((charged.len(), deducted.len(), refunded.len()), (3, 6, 3));
    cashier.assert_lawful().await;
}
