//! Whether a relay is ready: while every one of its databases answers.

use serde_json::json;

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
