//! The monitor against the real broker: what lies on topics under a prefix of its own gets into the log, and the
//! watermark follows what was read.

mod corner;

use std::collections::BTreeSet;

use chrono::{TimeDelta, Utc};
use common_events::Service;
use messaging::{OwnTopic, Rung};
use saga_monitor::{
    cluster::Cluster,
    consumers::Observed,
    detection::{Detection, watermark},
    events,
    services::{Identity, Services},
    store::{alarms::Notices, positions::list_positions},
};
use serde_json::json;
use service_runtime::Env;
use test_support::{Foreign, eventually};
use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

use self::corner::{Corner, Place};

const SECOND: TimeDelta = TimeDelta::seconds(1);

#[tokio::test(flavor = "multi_thread")]
async fn whatever_lies_on_the_topics_gets_into_the_log_once() {
    let corner = Corner::new().await;
    let consumer = corner.start_monitor();
    let sent = [
        corner.send("order-created", "a", b"rubbish", &[]).await,
        corner.send("stock-deducted", "b", br#"{"specversion":"1.0"}"#, &[]).await,
        corner.send("point-charged", "kim", b"{}", &[]).await,
        corner
            .send(
                &OwnTopic::Retry(Rung::Second).name(Service::Product),
                "a",
                b"\xff",
                &[("x-origin-topic", "order-created")],
            )
            .await,
        corner.send(&OwnTopic::Dlt.name(Service::Coupon), "a", b"", &[]).await,
    ];
    let heard = eventually("all of it is in the log", async || {
        let rows = corner.logged().await;
        (rows.len() >= sent.len()).then_some(rows)
    })
    .await;
    for place in &sent {
        assert!(heard.contains(place), "{place:?} is in {heard:?}");
    }
    consumer.stop().await.expect("it stops");
    let again = corner.start_monitor();
    let more = corner.send("order-created", "a", b"more rubbish", &[]).await;
    eventually("the rest is in the log", async || corner.logged().await.contains(&more).then_some(())).await;
    again.stop().await.expect("it stops");
    assert_eq!(corner.logged().await.len(), sent.len() + 1, "nothing of it twice");
}

/// What is no step of a saga, or is read by whoever it was sent to; and the monitor's own failures, of which it would make
/// more of them.
fn is_heard(topic: &str) -> bool {
    let others = [".replay", ".producer-dlt"];
    topic != "product-catalog" && !topic.starts_with("saga-monitor.") && !others.iter().any(|end| topic.ends_with(end))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_topic_is_heard_but_its_own_and_those_that_are_part_of_no_saga() {
    let corner = Corner::with_every_topic().await;
    let consumer = corner.start_monitor();
    let mut topics = corner.topics();
    let meant: BTreeSet<String> = topics.iter().filter(|topic| is_heard(topic)).cloned().collect();
    assert_eq!(events::topics().collect::<BTreeSet<_>>(), meant);
    // What isn't to be heard lies there first.
    topics.sort_by_key(|topic| is_heard(topic));
    let mut heard = BTreeSet::new();
    for topic in topics {
        let place = corner.send(&topic, "a", b"{}", &[("x-origin-topic", "order-created")]).await;
        if is_heard(&topic) {
            heard.insert(place);
        }
    }
    let last = corner.send("order-created", "a", b"{}", &[]).await;
    heard.insert(last);
    let all = eventually("what is heard is in the log", async || {
        let logged: BTreeSet<Place> = corner.logged().await.into_iter().collect();
        logged.is_superset(&heard).then_some(logged)
    })
    .await;
    assert_eq!(all, heard);
    assert!(heard.len() > 20 && heard.len() < corner.topics().len(), "some are, and some aren't");
    consumer.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_known_beyond_what_was_read() {
    let corner = Corner::new().await;
    let cluster = Cluster::new(&corner.settings);
    let known_until = async || {
        let looked_at = Utc::now();
        let standing = cluster.look().await.expect("Kafka answers");
        let client = corner.database.pool.get().await.expect("a connection");
        let read = list_positions(&client).await.expect("PostgreSQL answers");
        (looked_at, watermark(events::topics(), &standing, &read, looked_at))
    };
    let (looked_at, known) = known_until().await;
    assert_eq!(known, Some(looked_at), "nothing was ever written");
    corner.send("order-created", "a", b"{}", &[]).await;
    assert_eq!(known_until().await.1, None, "something lies there that was never read");
    let consumer = corner.start_monitor();
    eventually("it is read", async || {
        let (looked_at, known) = known_until().await;
        (known == Some(looked_at)).then_some(())
    })
    .await;
    consumer.stop().await.expect("it stops");
    let away_since = Utc::now();
    corner.send("order-created", "a", b"{}", &[]).await;
    let (_, known) = known_until().await;
    assert!(known.is_some_and(|known| known <= away_since), "what happens while it is away isn't known: {known:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_of_somebody_else_hold_up_nothing_once_they_have_ended_and_hide_nothing_before() {
    let corner = Corner::new().await;
    let (cluster, foreign) = (Cluster::new(&corner.settings), Foreign::at(&corner.settings.brokers));
    let order_created = corner.full("order-created");
    let is_all_known = async || {
        let looked_at = Utc::now();
        let standing = cluster.look().await.expect("Kafka answers");
        let client = corner.database.pool.get().await.expect("a connection");
        let read = list_positions(&client).await.expect("PostgreSQL answers");
        let of_monitor = standing.committed[&Service::SagaMonitor].keys();
        let lag: i64 = of_monitor.filter_map(|at| standing.lag(Service::SagaMonitor, at)).sum();
        watermark(events::topics(), &standing, &read, looked_at) == Some(looked_at) && lag == 0
    };
    let consumer = corner.start_monitor();
    // A partition of which nobody ever gets anything, and one that ends with a commit.
    foreign.begin(&order_created, 0, b"{}");
    assert!(!is_all_known().await, "something is written that may come yet");
    foreign.abort();
    eventually("what was aborted is passed", async || is_all_known().await.then_some(())).await;
    foreign.begin(&order_created, 1, b"{}");
    assert!(!is_all_known().await, "something is written that may come yet");
    foreign.commit();
    eventually("the commit is passed", async || is_all_known().await.then_some(())).await;
    assert_eq!(corner.logged().await, [("order-created".to_owned(), 1, 0)]);
    consumer.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_seen_where_they_stand() {
    let corner = Corner::new().await;
    let consumer = corner.start_monitor();
    let (_, partition, offset) = corner.send("order-created", "a", b"{}", &[]).await;
    let cluster = Cluster::new(&corner.settings);
    let standing = eventually("the monitor has committed", async || {
        let standing = cluster.look().await.expect("Kafka answers");
        let committed =
            standing.committed[&Service::SagaMonitor].get(&("order-created".to_owned(), partition)).copied();
        (committed == Some(offset + 1)).then_some(standing)
    })
    .await;
    assert!(standing.is_alive(Service::SagaMonitor));
    assert!(!standing.is_alive(Service::Coupon), "nobody else is there");
    let place = saga_monitor::domain::Place { partition, offset };
    assert!(standing.is_unread(Service::Coupon, "order-created", place));
    assert!(!standing.is_unread(Service::SagaMonitor, "order-created", place));
    assert_eq!(standing.lag(Service::Coupon, &("order-created".to_owned(), place.partition)), Some(1));
    consumer.stop().await.expect("it stops");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_kafka_no_saga_is_judged_and_dead_letters_are_told_of_all_the_same() {
    let corner = Corner::new().await;
    let others = MockServer::start().await;
    let counted = json!({"items": [{"errorClass": "undecodable", "topic": "order-created", "count": 3}]});
    let groups = Mock::given(path("/admin/dead-letters/groups"));
    groups.respond_with(ResponseTemplate::new(200).set_body_json(&counted)).mount(&others).await;
    let urls = format!("coupon-service={}", others.uri());
    let nowhere = Env::of([("KAFKA_BROKERS", "127.0.0.1:1"), ("SERVICE_URLS", &urls)]);
    let settings = service_runtime::settings::KafkaSettings::read(&nowhere).expect("good settings");
    let identity = Identity::read(&nowhere, "saga-monitor").expect("a name");
    let services = Services::read(&nowhere, identity, std::time::Duration::from_secs(1)).expect("a URL");
    let pool = corner.database.pool.clone();
    let mut detection =
        Detection::new(pool.clone(), Cluster::new(&settings), services, SECOND, Notices::NotTold, Observed::default());
    let round = detection.round().await.expect("PostgreSQL answers");
    assert_eq!(round.known_until, None, "nothing is known, so nothing is judged");
    let client = pool.get().await.expect("a connection");
    let alarms = client.query("SELECT kind, cause FROM alarms WHERE closed_at IS NULL", &[]).await.expect("alarms");
    let alarms: Vec<(String, String)> = alarms.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(alarms, [("dead-letter".to_owned(), "coupon-service/order-created/undecodable".to_owned())]);
}
