//! What was committed arrives, per key in the order of its commits, and leaves the outbox.

use std::{collections::HashSet, time::Duration};

use common_events::envelope::{CONTENT_TYPE, TRACEPARENT};
use rdkafka::{mocking::MockCluster, types::RDKafkaRespErr};
use test_support::eventually;
use tokio_postgres::{Client, NoTls};

use super::{
    process::Relay,
    writers::{self, Kind, all_have, nothing_is_lost_and_each_key_is_in_order, outbox_is_empty},
};
use crate::{
    broker::{Broker, Lying},
    toys::{self, Label, Told, Toy, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_many_keys_arrive_in_order_per_key_and_leave_the_outbox() {
    const KEYS: i64 = 40;
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(KEYS).await);
    let relay = Relay::start(&broker, &[&database.url]);
    writers::write_concurrently(&database.pool, Kind::Toy, KEYS, 5, 20).await;
    outbox_is_empty(&database.pool).await;
    let lying = broker.read_to_the_end("order-created").await;
    nothing_is_lost_and_each_key_is_in_order(&lying, KEYS, 100);
    assert_eq!(lying.len(), 4_000, "and none comes twice while nothing goes wrong");
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_commits_late_is_not_overlooked() {
    const KEYS: i64 = 10;
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(KEYS).await);
    let relay = Relay::start(&broker, &[&database.url]);
    // Their rows have low ids, and are seen only after rows with higher ids have come and gone.
    let mut late = Vec::new();
    for n in 0..3 {
        let client = own_connection(&database.url).await;
        client.batch_execute("BEGIN").await.unwrap();
        let toy = event(Toy::fine(&format!("late-{n}"), 1));
        insert_outbox(&client, "order-created", &toy.subject, &common_events::envelope::encode(&toy).unwrap()).await;
        late.push(client);
    }
    writers::write_concurrently(&database.pool, Kind::Toy, KEYS, 3, 10).await;
    outbox_is_empty(&database.pool).await;
    for (n, client) in late.iter().enumerate() {
        client.batch_execute(if n == 1 { "ROLLBACK" } else { "COMMIT" }).await.unwrap();
    }
    outbox_is_empty(&database.pool).await;
    let lying = broker.read_to_the_end("order-created").await;
    let late: HashSet<_> = lying.iter().filter_map(|lying| lying.key.as_deref()?.strip_prefix(b"late-")).collect();
    assert_eq!(late, HashSet::from([&b"0"[..], b"2"]), "and the one that was rolled back isn't there");
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_carry_their_content_type_and_their_trace_or_the_headers_they_had() {
    let topics = ["order-created", "product-catalog", "order-reserved"];
    let (broker, database) = (Broker::with(&topics).await, writers::database(1).await);
    let relay = Relay::start(&broker, &[&database.url]);
    writers::write(&database.pool, Kind::Toy, &[0]).await;
    writers::write(&database.pool, Kind::Label, &[0]).await;
    let client = database.pool.get().await.unwrap();
    client
        .execute(
            "INSERT INTO outbox (topic, payload, header_names, header_values)
             VALUES ('order-reserved', '{}', ARRAY['x-resume', 'odd'], ARRAY['1'::bytea, '\\x00ff'])",
            &[],
        )
        .await
        .unwrap();
    let toy = broker.read("order-created", |lying| !lying.is_empty()).await.remove(0);
    let label = broker.read("product-catalog", |lying| !lying.is_empty()).await.remove(0);
    let bare = broker.read("order-reserved", |lying| !lying.is_empty()).await.remove(0);
    for (lying, trace) in [(&toy, toy.event::<Toy>().trace), (&label, label.event::<Label>().trace)] {
        assert_eq!(lying.headers["content-type"], CONTENT_TYPE);
        assert_eq!(lying.headers[TRACEPARENT], trace.to_string());
        assert_eq!(lying.key.as_deref(), Some(&b"key-0"[..]));
    }
    assert_eq!(
        (bare.headers.len(), &*bare.headers["x-resume"]),
        (2, "1"),
        "what is sent on has its own, and no others"
    );
    assert_eq!(bare.headers["odd"], "\0\u{fffd}");
    assert_eq!((bare.key, &*bare.value), (None, &b"{}"[..]), "byte for byte");
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_relay_moves_the_rows_of_several_databases() {
    let broker = Broker::with(&["order-created"]).await;
    let (one, other) = (writers::database(2).await, writers::database(2).await);
    let relay = Relay::start(&broker, &[&one.url, &other.url]);
    writers::write(&one.pool, Kind::Toy, &[0, 1]).await;
    writers::write(&other.pool, Kind::Toy, &[0, 1]).await;
    broker.read("order-created", |lying| lying.len() == 4).await;
    outbox_is_empty(&one.pool).await;
    outbox_is_empty(&other.pool).await;
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_kafka_refuses_stays_and_does_not_stop_the_others() {
    // Nobody made the topic of the answers.
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(5).await);
    let told = event(Told { key: "bear".to_owned(), n: 1, ballast: String::new() });
    let client = own_connection(&database.url).await;
    insert_outbox(&client, "order-reserved", "bear", &common_events::envelope::encode(&told).unwrap()).await;
    let relay = Relay::start(&broker, &[&database.url]);
    for round in 1..=3 {
        writers::write(&database.pool, Kind::Toy, &[0, 1, 2, 3, 4]).await;
        let lying = broker.read("order-created", all_have(5, round)).await;
        nothing_is_lost_and_each_key_is_in_order(&lying, 5, round);
    }
    eventually("only the row without a topic is left", || async {
        (toys::count(&database.pool, "SELECT count(*) FROM outbox").await == 1).then_some(())
    })
    .await;
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_takes_nothing_holds_up_its_own_rows_only_until_it_does() {
    /// More than may be in flight, before all others.
    const ROWS: i64 = 5_000;
    let (mut broker, database) = (Broker::with(&["order-created"]).await, writers::database(5).await);
    let client = own_connection(&database.url).await;
    let refused = "INSERT INTO outbox (topic, key, payload)
                   SELECT 'order-reserved', 'bear', convert_to(n::text, 'UTF8') FROM generate_series(1, $1::bigint) n
                   ORDER BY n";
    client.execute(refused, &[&ROWS]).await.unwrap();
    let relay = Relay::start(&broker, &[&database.url]);
    for round in 1..=20 {
        writers::write(&database.pool, Kind::Toy, &[0, 1, 2, 3, 4]).await;
        let lying = broker.read("order-created", all_have(5, round)).await;
        nothing_is_lost_and_each_key_is_in_order(&lying, 5, round);
        assert_eq!(i64::try_from(lying.len()), Ok(5 * round), "and nothing comes twice");
    }
    eventually("it is told", || async {
        let told = relay.metrics().await;
        (told.contains("outbox_topic_refused{") && told.contains("topic=\"order-reserved\"} 1")).then_some(())
    })
    .await;
    assert_eq!(relay.has_said("the topic takes nothing"), 1);

    broker.make("order-reserved").await;
    let rows = usize::try_from(ROWS).expect("few");
    let lying = broker.read("order-reserved", |lying| lying.len() >= rows).await;
    let values: Vec<String> = lying.iter().map(|lying| String::from_utf8_lossy(&lying.value).into_owned()).collect();
    assert_eq!(values, (1..=ROWS).map(|n| n.to_string()).collect::<Vec<_>>(), "in their order, and once");
    outbox_is_empty(&database.pool).await;
    assert!(relay.metrics().await.contains("topic=\"order-reserved\"} 0"));
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compacted_topic_that_is_not_there_is_named_and_holds_up_its_own_rows_only() {
    let (mut broker, database) = (Broker::with(&["order-created"]).await, writers::database(5).await);
    for _ in 0..3 {
        writers::write(&database.pool, Kind::Label, &[0, 1, 2, 3, 4]).await;
    }
    let relay = Relay::start(&broker, &[&database.url]);
    writers::write(&database.pool, Kind::Toy, &[0, 1, 2, 3, 4]).await;
    broker.read("order-created", |lying| lying.len() >= 5).await;
    let refused = "topic=\"product-catalog\"} 1";
    eventually("it is told", || async { relay.metrics().await.contains(refused).then_some(()) }).await;
    assert_eq!(relay.has_said("the topic takes nothing"), 1);
    broker.make("product-catalog").await;
    let lying = broker.read("product-catalog", |lying| lying.len() >= 15).await;
    let labels = lying.iter().map(|lying| lying.event::<Label>().data).filter(|label| label.key == "key-3");
    assert_eq!(labels.map(|label| label.n).collect::<Vec<_>>(), [1, 2, 3], "in order, and once");
    outbox_is_empty(&database.pool).await;
    relay.terminate().await;
}

/// The one broker of these tests leads all of its partitions; so this is librdkafka's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_that_nobody_leads_leaves_room_for_the_others() {
    /// More than may be in flight, before all others.
    const ROWS: i64 = 15_000;
    let cluster = MockCluster::new(1).expect("a cluster");
    cluster.create_topic("order-created", 3, 1).expect("a topic");
    cluster.create_topic("order-reserved", 3, 1).expect("a topic");
    cluster.partition_leader("order-reserved", 0, None).expect("nobody leads it");
    cluster.create_topic("order-confirmed", 1, 1).expect("a topic");
    let refused = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.topic_error("order-confirmed", refused).expect("it is refused");
    let (broker, database) = (Broker::with(&[]).await, writers::database(5).await);
    let client = own_connection(&database.url).await;
    let insert = "INSERT INTO outbox (topic, key, payload)
                  SELECT 'order-reserved', convert_to((n % 30)::text, 'UTF8'), convert_to(n::text, 'UTF8')
                  FROM generate_series(1, $1::bigint) n ORDER BY n";
    let reserved = || toys::count(&database.pool, "SELECT count(*) FROM outbox WHERE topic = 'order-reserved'");
    let brokers = cluster.bootstrap_servers();
    let relay = Relay::start_with(&broker, &[&database.url], &[("KAFKA_BROKERS", &brokers), ("TOPIC_PREFIX", "")]);
    let mut stuck = 0;
    for round in 1..=3 {
        client.execute(insert, &[&30_i64]).await.unwrap();
        // Longer than what makes a row stand still.
        tokio::time::sleep(Duration::from_secs(3)).await;
        stuck = reserved().await;
        assert!((round..round * 30).contains(&stuck) && stuck % round == 0, "its other partitions go on: {stuck}");
    }
    client.execute(insert, &[&ROWS]).await.unwrap();
    for round in 1..=10 {
        // A row that is refused, in the middle: what has to end before it is tried again is of its own topic.
        if round == 5 {
            insert_outbox(&client, "order-confirmed", "bear", b"{}").await;
        }
        writers::write(&database.pool, Kind::Toy, &[0, 1, 2, 3, 4]).await;
        eventually("the others go on", || async {
            let waiting = "SELECT count(*) FROM outbox WHERE topic = 'order-created'";
            (toys::count(&database.pool, waiting).await == 0).then_some(())
        })
        .await;
    }
    let refused = "topic=\"order-confirmed\"} 1";
    eventually("it is told", || async { relay.metrics().await.contains(refused).then_some(()) }).await;
    assert!(reserved().await > stuck, "there was more than may be in flight");
    cluster.partition_leader("order-reserved", 0, Some(1)).expect("somebody leads it");
    eventually("the rest follows", || async { (reserved().await == 0).then_some(()) }).await;
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_its_topic_refuses_holds_up_its_own_key_only() {
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(5).await);
    broker.configure("order-created", "max.message.bytes", "2000").await;
    let client = own_connection(&database.url).await;
    insert_outbox(&client, "order-created", "bear", &[b'x'; 5_000]).await;
    insert_outbox(&client, "order-created", "bear", b"after it").await;
    let relay = Relay::start(&broker, &[&database.url]);
    for round in 1..=5 {
        writers::write(&database.pool, Kind::Toy, &[0, 1, 2, 3, 4]).await;
        let lying = broker.read("order-created", all_have(5, round)).await;
        nothing_is_lost_and_each_key_is_in_order(&lying, 5, round);
    }
    assert!(relay.metrics().await.contains("topic=\"order-created\"} 1"), "it is told");
    broker.configure("order-created", "max.message.bytes", "100000").await;
    let bears = |lying: &[Lying]| {
        let bears = lying.iter().filter(|lying| lying.key.as_deref() == Some(b"bear"));
        bears.map(|lying| lying.value.len()).collect::<Vec<_>>()
    };
    let lying = broker.read("order-created", |lying| bears(lying).len() >= 2).await;
    assert_eq!(bears(&lying), [5_000, 8], "in their order");
    outbox_is_empty(&database.pool).await;
    assert!(relay.metrics().await.contains("topic=\"order-created\"} 0"));
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_rows_wait_in_the_database_not_in_memory() {
    const ROWS: i64 = 250;
    /// What the process has without any rows, and three times what may be in flight. All rows at once would be
    /// 220 MiB, several times over.
    const AT_MOST_MIB: u64 = 160;
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(1).await);
    let client = database.pool.get().await.unwrap();
    let bears = "INSERT INTO outbox (topic, key, payload)
                 SELECT 'order-created', 'bear', convert_to(repeat('bear', 225 * 1024), 'UTF8')
                 FROM generate_series(1, $1::bigint)";
    client.execute(bears, &[&ROWS]).await.unwrap();
    let relay = Relay::start(&broker, &[&database.url]);
    outbox_is_empty(&database.pool).await;
    let peak_mib = relay.peak_memory_mib();
    assert!(peak_mib <= AT_MOST_MIB, "{peak_mib} MiB");
    assert!(relay.terminate().await.success());
}

/// A connection outside of the pool, which may stay in a transaction.
async fn own_connection(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the test's database");
    tokio::spawn(connection);
    client
}

async fn insert_outbox(client: &Client, topic: &str, key: &str, payload: &[u8]) {
    let sql = "INSERT INTO outbox (topic, key, payload) VALUES ($1, $2, $3)";
    client.execute(sql, &[&topic, &key.as_bytes(), &payload]).await.expect("a row");
}
