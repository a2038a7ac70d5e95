//! Programs that die, freeze, or get a twin, while orders come in.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, ensure};
use common_events::Service;
use load::{Live, Plan, Seeded, Tally, orders};
use system::{
    Suite, eventually,
    suite::{Instance, PROGRAMS, SERVICES},
};
use tokio::task::JoinHandle;

/// Orders a second.
const RATE: u64 = 40;
/// How long a killed program stays away, in seconds.
const AWAY_S: u64 = 2;
/// Well past the relay's lease, in seconds.
const FROZEN_S: u64 = 8;
const PATIENCE: Duration = Duration::from_mins(1);
/// Orders come in for this long at most, whatever a test waits for.
const LONGEST: Duration = Duration::from_mins(5);

/// Orders that come in, in the background.
pub(crate) struct Rush {
    live: Live,
    running: JoinHandle<Tally>,
}

impl Rush {
    /// Begins to send so many orders a second.
    pub(crate) async fn begin(suite: &Suite, rate: u64) -> anyhow::Result<Self> {
        let rate = f64::from(u16::try_from(rate)?);
        let plan = Plan { rate, duration: LONGEST, products: 10, users: 50, patience: PATIENCE * 2, ..Plan::default() };
        let seeded: Arc<Seeded> = Arc::new(orders::seed(&suite.shop, &plan).await?);
        let live = Live::default();
        let running = tokio::spawn({
            let live = live.clone();
            async move { orders::run(&seeded, &plan, &live).await }
        });
        Ok(Self { live, running })
    }

    /// How it goes.
    pub(crate) const fn live(&self) -> &Live {
        &self.live
    }

    /// Sends no more, and waits until every order has ended. All that were accepted must have.
    pub(crate) async fn end(self) -> anyhow::Result<Tally> {
        self.live.stop_sending();
        let tally = self.running.await.context("the load")?;
        ensure!(tally.unfinished == 0, "{} accepted orders never ended; {:?}", tally.unfinished, tally.answers);
        ensure!(tally.confirmed > 0, "nothing was confirmed: {:?} {:?}", tally.answers, tally.cancelled);
        Ok(tally)
    }

    /// Waits until so many more orders are accepted.
    pub(crate) async fn until_more_accepted(&self, more: u64) -> anyhow::Result<()> {
        self.until_more("orders are accepted", more, Tally::accepted).await
    }

    /// Waits until so many more orders are sent, whatever they are answered: time, told by the load.
    pub(crate) async fn until_more_sent(&self, more: u64) -> anyhow::Result<()> {
        self.until_more("orders are sent", more, |tally| tally.sent).await
    }

    async fn until_more(&self, what: &str, more: u64, count: fn(&Tally) -> u64) -> anyhow::Result<()> {
        let wanted = self.live.look(count) + more;
        eventually(what, PATIENCE, async || {
            let now = self.live.look(count);
            ensure!(now >= wanted, "{now} of {wanted}");
            Ok(())
        })
        .await
    }
}

pub(crate) async fn killed_under_load_each_program_loses_and_doubles_nothing(suite: &Suite) -> anyhow::Result<()> {
    let rush = Rush::begin(suite, RATE).await?;
    for program in PROGRAMS {
        rush.until_more_accepted(80).await?;
        suite.kill(program)?;
        rush.until_more_sent(AWAY_S * RATE).await?;
        suite.run(program).await?;
    }
    rush.until_more_accepted(80).await?;
    let tally = rush.end().await?;
    println!("killed each once: {:?}, {} confirmed, {:?}", tally.answers, tally.confirmed, tally.cancelled);
    Ok(())
}

pub(crate) async fn a_frozen_relay_that_wakes_after_its_stand_by_took_over_does_no_harm(
    suite: &Suite,
) -> anyhow::Result<()> {
    suite.run_second(Service::OutboxRelay).await?;
    let rush = Rush::begin(suite, RATE).await?;
    rush.until_more_accepted(80).await?;

    suite.stop(Service::OutboxRelay, Instance::First)?;
    rush.until_more_sent(FROZEN_S * RATE).await?;
    let confirmed = rush.live().look(|tally| tally.confirmed);
    eventually("the stand-by moves events", PATIENCE, async || {
        let now = rush.live().look(|tally| tally.confirmed);
        ensure!(now > confirmed + 40, "{now} confirmed, {confirmed} before");
        Ok(())
    })
    .await?;
    suite.cont(Service::OutboxRelay, Instance::First)?;
    rush.until_more_accepted(80).await?;

    rush.end().await?;
    let stopped = suite.terminate(Service::OutboxRelay, Instance::Second).await?;
    ensure!(stopped.success(), "{stopped}");
    Ok(())
}

pub(crate) async fn two_instances_of_each_service_share_the_work(suite: &Suite) -> anyhow::Result<()> {
    let rush = Rush::begin(suite, RATE).await?;
    for service in SERVICES {
        rush.until_more_accepted(40).await?;
        suite.run_second(service).await?;
    }
    rush.until_more_accepted(80).await?;
    for service in SERVICES {
        let stopped = suite.terminate(service, Instance::Second).await?;
        ensure!(stopped.success(), "{service}: {stopped}");
    }
    let tally = rush.end().await?;
    ensure!(tally.accepted() == tally.sent, "a rebalance refuses nobody: {:?}", tally.answers);
    Ok(())
}
