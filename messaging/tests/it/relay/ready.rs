//! Whether a relay is ready: while every one of its databases answers.

use serde_json::json;
use test_support::{faults_of_document, faults_of_metrics};

use super::{
    process::Relay,
    writers::{self, Kind, outbox_is_empty},
};
use crate::{broker::Broker, outage::Outage};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_is_ready_while_each_of_its_databases_answers() {
    let broker = Broker::with(&["order-created"]).await;
    let (one, other) = (writers::database(1).await, writers::database(1).await);
    let away = json!({"status": "unavailable", "waitingFor": [other.url.rsplit_once('/').unwrap().1]});
    let outage = Outage::of(&other).await;
    let relay = Relay::start(&broker, &[&one.url, &other.url]);
    // The database that is there is served meanwhile; what goes out tells that Kafka is there.
    writers::write(&one.pool, Kind::Toy, &[0]).await;
    outbox_is_empty(&one.pool).await;
    relay.is(503, &away).await;
    outage.end().await;
    relay.is(200, &json!({"status": "ready"})).await;

    let outage = Outage::of(&other).await;
    relay.is(503, &away).await;
    outage.end().await;
    relay.is(200, &json!({"status": "ready"})).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_relay_counts_is_told_as_prometheus_wants_it() {
    let broker = Broker::with(&["order-created"]).await;
    let database = writers::database(1).await;
    let relay = Relay::start(&broker, &[&database.url]);
    writers::write(&database.pool, Kind::Toy, &[0]).await;
    outbox_is_empty(&database.pool).await;
    let (status, text) = relay.get("/metrics").await.expect("it answers");
    assert_eq!((status, faults_of_metrics(&text)), (200, vec![]), "{text}");
    for told in [
        r#"events_published_total{topic="order-created"} 1"#,
        "# TYPE outbox_delay_seconds histogram",
        "# TYPE process_cpu_seconds_total counter",
        "# TYPE process_resident_memory_bytes gauge",
    ] {
        assert!(text.contains(told), "{told} in\n{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_has_a_document_though_it_has_no_calls() {
    let broker = Broker::with(&["order-created"]).await;
    let database = writers::database(1).await;
    let relay = Relay::start(&broker, &[&database.url]);
    relay.is(200, &json!({"status": "ready"})).await;
    let (status, text) = relay.get("/openapi.json").await.expect("it answers");
    let document = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, faults_of_document(&document)), (200, vec![]), "{text}");
}
