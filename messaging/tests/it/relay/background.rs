//! What a relay does in the background, and that it is noticed when some of it panics.

use test_support::{Background, free_port};

use super::{
    process::Relay,
    writers::{self, Kind, outbox_is_empty},
};
use crate::broker::Broker;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_relay_does_in_the_background_panics_unnoticed() {
    let (one, other) = (writers::database(1).await, writers::database(1).await);
    let (databases, hints) = (format!("{},{}", one.url, other.url), format!("127.0.0.1:{}", free_port()));
    let of_each = |what: &str| [&one, &other].map(|database| format!("{what} of {}", database.name()));
    Background::of_any_program()
        .with_rounds(["hints"])
        .with_jobs(of_each("lease"))
        .with_jobs(of_each("fenced producer"))
        .with_loops(of_each("relay"))
        .never_panics_unnoticed(
            env!("CARGO_BIN_EXE_outbox-relay"),
            &[("DATABASE_URLS", &databases), ("OUTBOX_WAKE_ADDR", &hints), ("RELAY_LEASE", "1s")],
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_nobody_renews_any_more_is_asked_for_again() {
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(1).await);
    let faulty = format!("lease of {}", database.name());
    let relay = Relay::start_with(&broker, &[&database.url], &[("FAULT_INJECTION", "true"), ("FAULT_TASKS", &faulty)]);
    relay.leads(2).await;
    writers::write(&database.pool, Kind::Toy, &[0]).await;
    outbox_is_empty(&database.pool).await;
    assert!(relay.terminate().await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_producer_whose_thread_is_gone_is_replaced_and_holds_up_nobody_for_good() {
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(1).await);
    let faulty = format!("fenced producer of {}", database.name());
    let relay = Relay::start_with(&broker, &[&database.url], &[("FAULT_INJECTION", "true"), ("FAULT_TASKS", &faulty)]);
    relay.leads(3).await;
    assert!(relay.has_said("the fenced producer's thread ended by itself") > 0, "{:#?}", relay.said());
    assert!(relay.terminate().await.success());
}
