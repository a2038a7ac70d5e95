//! Deliveries that happen at the same time, beside each other and beside what else is done, and how they end.

use std::time::Duration;

use anyhow::Context;
use common_events::{OrderId, Service};
use messaging::{Delivered, Record, delivery::Stalled};
use rand::{RngExt, rngs::StdRng, seq::IndexedRandom};

use crate::{
    broker::Reading,
    history::History,
    plan::Action,
    shop::{LookedAfter, Shop},
};

/// A delivery that is cut off is cut off within this time.
const LONGEST_LIFE_US: u64 = 3_000;
const MAX_BATCH: usize = 8;

/// How a delivery ends.
#[derive(Clone, Copy)]
enum Fate {
    Commits,
    /// It is cut off after so many microseconds, wherever it is by then: a stopwatch, no seed.
    IsCutOff(u64),
    DiesBeforeOffset,
    /// It ends well, and then the group's offset is set back.
    Rewinds,
}

impl Fate {
    fn by(chance: &mut StdRng) -> Self {
        match chance.random_range(0..100) {
            0..70 => Self::Commits,
            70..82 => Self::IsCutOff(chance.random_range(0..LONGEST_LIFE_US)),
            82..94 => Self::DiesBeforeOffset,
            _ => Self::Rewinds,
        }
    }
}

struct Delivery {
    reading: Reading,
    process: usize,
    records: Vec<Record>,
    /// The position behind them.
    end: usize,
    fate: Fate,
}

impl Delivery {
    /// What came of it; `None` when it was cut off.
    async fn run(&self, shop: &Shop) -> Option<Result<Delivered, Stalled>> {
        let delivering = shop.deliver((self.reading.group, self.process), &self.records);
        match self.fate {
            Fate::IsCutOff(after_us) => tokio::time::timeout(Duration::from_micros(after_us), delivering).await.ok(),
            Fate::Commits | Fate::DiesBeforeOffset | Fate::Rewinds => Some(delivering.await),
        }
    }
}

/// What is done beside deliveries.
#[derive(Clone, Copy)]
enum Rival {
    Nobody,
    /// A process of a service tries what is parked, and handles what waits.
    LookAfter(Service, usize),
    TimeOut,
    Cancel(OrderId),
}

impl Rival {
    async fn run(self, shop: &Shop) -> anyhow::Result<Option<(Service, LookedAfter)>> {
        match self {
            Self::Nobody => {}
            Self::LookAfter(service, process) => {
                return Ok(shop.look_after(service, process).await?.map(|looked_after| (service, looked_after)));
            }
            Self::TimeOut => shop.time_out().await?,
            Self::Cancel(order) => shop.cancel(order).await?,
        }
        Ok(None)
    }
}

impl History<'_> {
    /// One to three deliveries at the same time, to either process of their group, and sometimes something else.
    pub(crate) async fn deliver_some(&mut self, waiting: &[Reading]) -> anyhow::Result<()> {
        let count = if self.chance.random_bool(0.5) { 1 } else { self.chance.random_range(2..=3) };
        let mut deliveries = Vec::new();
        for _ in 0..count {
            let reading = waiting.choose(&mut self.chance).context("a reading")?.clone();
            let unread = self.broker.unread(&reading);
            let batch = self.chance.random_range(1..=MAX_BATCH).min(unread.len());
            let (records, end) = (unread[..batch].to_vec(), self.broker.position(&reading) + batch);
            let process = self.chance.random_range(0..=1);
            deliveries.push(Delivery { reading, process, records, end, fate: Fate::by(&mut self.chance) });
        }
        let (shop, rival) = (self.shop, self.rival());
        if let Rival::LookAfter(service, process) = rival {
            self.let_drains_die((service, process)).await?;
        }
        let delivering = futures::future::join_all(deliveries.iter().map(|delivery| delivery.run(shop)));
        let (outcomes, looked_after) = futures::join!(delivering, rival.run(shop));
        if let Some((service, looked_after)) = looked_after? {
            self.note_looked_after(service, looked_after)?;
        }
        for (Delivery { reading, end, fate, .. }, outcome) in deliveries.iter().zip(outcomes) {
            let delivered = match outcome {
                Some(Ok(delivered)) => delivered,
                None => {
                    self.outcome.count("deliveries cut off", 1);
                    self.note_cut_off(reading.group);
                    continue;
                }
                Some(Err(stalled)) => {
                    self.note_stalled(reading.group, stalled)?;
                    continue;
                }
            };
            self.note(reading.group, delivered)?;
            match fate {
                Fate::Commits | Fate::IsCutOff(_) => self.broker.commit(reading, *end),
                Fate::DiesBeforeOffset => self.outcome.count("deliveries that came again", 1),
                Fate::Rewinds => {
                    let to = self.chance.random_range(0..=4);
                    self.outcome.count("groups set back", usize::from(self.broker.rewind(reading, to)));
                }
            }
        }
        Ok(())
    }

    fn rival(&mut self) -> Rival {
        if !self.chance.random_bool(0.25) {
            return Rival::Nobody;
        }
        if let Some(service) = self.one_of(|history| &history.uneasy) {
            return Rival::LookAfter(service, self.chance.random_range(0..=1));
        }
        match (self.actions.last(), self.scene.orders.choose(&mut self.chance)) {
            (Some(Action::CancelOne), Some(order)) => {
                self.actions.pop();
                self.outcome.count("cancels", 1);
                Rival::Cancel(*order)
            }
            (Some(Action::TimeOut), _) => {
                self.actions.pop();
                self.outcome.count("times when every open order was late", 1);
                Rival::TimeOut
            }
            _ => Rival::Nobody,
        }
    }
}
