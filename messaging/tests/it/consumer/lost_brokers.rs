//! A client that was told that no broker is left finds one again, once there is one.

use common_events::Service;
use messaging::{Consumer, delivery::Group};
use service_runtime::{Health, Tasks, settings::KafkaSettings};
use tokio_util::sync::CancellationToken;

use crate::{
    broker::leaving::LeavingBroker,
    toys::{self, Toys},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_knows_no_broker_any_more_joins_anew() {
    let (broker, database) = (LeavingBroker::start().await, toys::database().await);
    let kafka = KafkaSettings { brokers: broker.address(), topic_prefix: "test-".to_owned(), security: Vec::new() };
    let group = Group::new(database.pool.clone(), Toys::new().only_toys(Service::Order), toys::ladder());
    let tasks = Tasks::new(Health::new(CancellationToken::new()));
    let member = Consumer::start_group(group.into(), &kafka, &tasks).expect("a member");
    broker.is_found_again().await;
    assert!(!tasks.stopping().is_cancelled(), "nothing of it ended by itself");
    member.stop().await.expect("it stops in order");
}
