//! Parts that go away. These tests have parts of their own, as the others need theirs.

use std::time::Duration;

use anyhow::ensure;
use common_events::Service;
use system::{
    Suite, eventually,
    parts::OwnParts,
    suite::{Instance, SERVICES},
};

use crate::crashes::Rush;

/// Orders a second.
const RATE: u64 = 20;
/// How long Kafka is away, in seconds.
const AWAY_S: u64 = 30;
const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) async fn without_kafka_orders_are_still_taken_and_end_once_it_is_back(
    parts: &OwnParts,
    suite: &Suite,
) -> anyhow::Result<()> {
    let rush = Rush::begin(suite, RATE).await?;
    rush.until_more_accepted(60).await?;

    parts.stop("kafka").await?;
    let order_service = suite.url(Service::Order, Instance::First);
    eventually("order-service says that Kafka is away", PATIENCE, async || {
        let (status, said) = suite.shop.readiness(&order_service).await?;
        ensure!(status == 200 && said["status"] == "degraded", "{status} {said}");
        Ok(())
    })
    .await?;
    // Which they are only if they are answered with 202 all the time.
    rush.until_more_accepted(AWAY_S * RATE).await?;
    parts.start("kafka").await?;
    rush.until_more_accepted(60).await?;

    let tally = rush.end().await?;
    println!("Kafka away: {:?}, {} confirmed, {:?}", tally.answers, tally.confirmed, tally.cancelled);
    ensure!(tally.accepted() == tally.sent, "every order is answered with 202: {:?}", tally.answers);
    for service in SERVICES {
        eventually(&format!("{service} is well again"), PATIENCE, async || {
            let (status, said) = suite.shop.readiness(&suite.url(service, Instance::First)).await?;
            ensure!(status == 200 && said["status"] == "ready", "{status} {said}");
            Ok(())
        })
        .await?;
    }
    Ok(())
}

pub(crate) async fn a_restart_of_postgresql_loses_no_acknowledged_order(
    parts: &OwnParts,
    suite: &Suite,
) -> anyhow::Result<()> {
    let rush = Rush::begin(suite, RATE).await?;
    rush.until_more_accepted(60).await?;

    parts.restart("postgres").await?;
    rush.until_more_accepted(60).await?;

    let tally = rush.end().await?;
    println!("PostgreSQL restarted: {:?}, {} confirmed, {:?}", tally.answers, tally.confirmed, tally.cancelled);
    Ok(())
}
