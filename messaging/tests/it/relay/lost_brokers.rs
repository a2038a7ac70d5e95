//! A relay that was told that no broker is left finds one again, once there is one.

use super::{
    process::Relay,
    writers::{self, Kind},
};
use crate::broker::{Broker, leaving::LeavingBroker};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_knows_no_broker_any_more_begins_anew() {
    let (broker, leaving) = (Broker::with(&["order-created"]).await, LeavingBroker::start().await);
    let database = writers::database(1).await;
    let relay = Relay::start_with(&broker, &[&database.url], &[("KAFKA_BROKERS", &leaving.address())]);
    writers::write(&database.pool, Kind::Toy, &[0]).await;
    leaving.is_found_again().await;
    relay.leads(2).await;
    assert!(relay.terminate().await.success());
}
