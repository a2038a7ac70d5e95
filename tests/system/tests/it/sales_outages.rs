//! Sales during which Kafka or Redis goes away. These tests have parts of their own, as the others need theirs.

use std::{path::Path, time::Duration};

use anyhow::{Context, ensure};
use common_events::Service;
use load::sale::Rush;
use messaging::topics::producer_dead_letter_topic;
use system::{Settings, Suite, eventually, law, parts::OwnParts, shop::CouponMode, topics::Groups};

use crate::sales::{Selling, at};

/// Users a second, and how many of them there are: a minute, half of which Kafka is away.
const RATE: f64 = 100.0;
const USERS: u32 = 6_000;
const QUANTITY: i64 = 4_500;
/// How long Kafka is away, in requests at that rate.
const AWAY: u64 = 30 * 100;
/// A sale that Redis forgets in the middle.
const FORGOTTEN: Rush = at(200.0, 4_000);
const FORGOTTEN_QUANTITY: i64 = 2_000;
const PATIENCE: Duration = Duration::from_mins(2);

pub(crate) async fn without_kafka_for_thirty_seconds_every_admission_is_kept_and_goes_to_its_topic_later(
    parts: &OwnParts,
    suite: &Suite,
) -> anyhow::Result<()> {
    let selling = Selling::begin(suite, CouponMode::Ranked, QUANTITY, at(RATE, USERS)).await?;
    selling.until_admitted(500).await?;
    parts.stop("kafka").await?;
    selling.until_more_asked(AWAY).await?;
    let kept = suite.shop.operator().producer_dead_letters().await?;
    ensure!(!kept.is_empty(), "Kafka is away, and nothing was set aside");
    parts.start("kafka").await?;
    selling.end(suite).await?;
    until_nothing_is_set_aside(suite).await
}

pub(crate) async fn with_a_second_cluster_admissions_are_kept_there_while_the_first_is_away() -> anyhow::Result<()> {
    let parts = OwnParts::up().await?;
    let second = OwnParts::only_kafka().await?;
    let variables = vec![("DEAD_LETTER_BROKERS".to_owned(), second.addresses().kafka.clone())];
    let suite = Suite::start(Settings { parts: parts.addresses().clone(), variables, ..Settings::default() }).await?;
    let letters = Groups::at(&second.addresses().kafka, suite.names())?;
    let selling = Selling::begin(&suite, CouponMode::Set, 2_000, at(RATE, 3_000)).await?;
    selling.until_admitted(300).await?;
    parts.stop("kafka").await?;
    selling.until_admitted(900).await?;
    let held = letters.records_on(&producer_dead_letter_topic(Service::Coupon)).await?;
    ensure!(held > 0, "nothing lies on the second cluster");
    parts.start("kafka").await?;
    selling.end(&suite).await?;
    until_nothing_is_set_aside(&suite).await?;
    law::holds(&suite).await?;
    Ok(())
}

pub(crate) async fn flushall_in_mid_sale_closes_the_gate_until_it_is_rebuilt(
    parts: &OwnParts,
    suite: &Suite,
) -> anyhow::Result<()> {
    let selling = Selling::begin(suite, CouponMode::Ranked, FORGOTTEN_QUANTITY, FORGOTTEN).await?;
    selling.until_admitted(600).await?;
    let client = redis::Client::open(parts.addresses().redis.as_str()).context("Redis's address")?;
    let mut redis = client.get_multiplexed_async_connection().await.context("Redis")?;
    redis::cmd("FLUSHALL").exec_async(&mut redis).await.context("FLUSHALL")?;
    selling.end(suite).await.map(drop)
}

pub(crate) async fn redis_restarted_without_its_data_in_mid_sale_is_rebuilt(
    parts: &OwnParts,
    suite: &Suite,
) -> anyhow::Result<()> {
    let selling = Selling::begin(suite, CouponMode::Ranked, FORGOTTEN_QUANTITY, FORGOTTEN).await?;
    selling.until_admitted(600).await?;
    parts.stop("redis").await?;
    tokio::fs::remove_dir_all(parts.data_of("redis")).await.context("throwing Redis's data away")?;
    parts.start("redis").await?;
    selling.end(suite).await.map(drop)
}

pub(crate) async fn redis_restarted_with_stale_data_in_mid_sale_is_rebuilt(
    parts: &OwnParts,
    suite: &Suite,
) -> anyhow::Result<()> {
    let selling = Selling::begin(suite, CouponMode::Ranked, FORGOTTEN_QUANTITY, FORGOTTEN).await?;
    selling.until_admitted(300).await?;
    let (data, old) = (parts.data_of("redis"), parts.data_of("redis-before"));
    copy(&data, &old).await?;
    selling.until_admitted(900).await?;
    parts.stop("redis").await?;
    tokio::fs::remove_dir_all(&data).await.context("throwing Redis's data away")?;
    tokio::fs::rename(&old, &data).await.context("putting the old data in its place")?;
    parts.start("redis").await?;
    selling.end(suite).await.map(drop)
}

/// Redis's log only grows: a copy of it is Redis as it was a moment ago.
async fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let copied = tokio::process::Command::new("cp").arg("-r").args([from, to]).status().await?;
    ensure!(copied.success(), "copying Redis's data: {copied}");
    Ok(())
}

async fn until_nothing_is_set_aside(suite: &Suite) -> anyhow::Result<()> {
    let database = suite.database(Service::Coupon).await?;
    eventually("what was set aside is on its topic", PATIENCE, async || {
        let sql = "SELECT count(*) FROM producer_dead_letters WHERE state <> 'REPUBLISHED'";
        let held: i64 = database.query_one(sql, &[]).await?.get(0);
        ensure!(held == 0, "{held}");
        Ok(())
    })
    .await
}
