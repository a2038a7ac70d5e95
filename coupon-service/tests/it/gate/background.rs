//! What coupon-service does in the background, and that it is noticed when some of it panics.

use common_events::Service;
use coupon_service::domain::Mode;
use messaging::topics::{self, Cluster};
use test_support::{Background, kafka_brokers};

use super::station::{Station, coupon, shared_redis};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_done_in_the_background_panics_unnoticed() {
    let station = Station::open().await;
    // Its gate was never opened: the reconciler has it rebuilt.
    station.insert(&coupon(Mode::Set, 10)).await;
    let (redis, brokers) = (shared_redis(), kafka_brokers());
    let variables = [
        ("DATABASE_URL", &*station.database.url),
        ("REDIS_URL", &redis),
        ("TOPIC_PREFIX", station.prefix()),
        ("DEAD_LETTER_BROKERS", &brokers),
    ];
    Background::of_a_consumer()
        .with_rounds(["gate", "confirmations", "settlements", "sold-out-sales", "reconciler"])
        .with_rounds(["producer-dead-letters", "second-cluster"])
        .with_jobs(["first-metadata", "gate-rebuild"])
        .with_loops(["diversion"])
        .never_panics_unnoticed(env!("CARGO_BIN_EXE_coupon-service"), &variables)
        .await;
    let cluster = Cluster::connect(&station.runtime.settings.kafka).expect("settings of a client");
    let made = format!("{}{}", station.prefix(), topics::producer_dead_letter_topic(Service::Coupon));
    cluster.delete(&[&made]).await.expect("what the program made can be deleted");
}
