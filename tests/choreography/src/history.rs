//! One history: a seed decides who does what when, and where it dies.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use common_events::{EventId, Service, envelope};
use messaging::{Delivered, Record, delivery::Stalled};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    broker::{Broker, Reading},
    law,
    outcome::Outcome,
    plan::{Action, Scene},
    replay::{Replaying, To, Which},
    shop::Shop,
    trouble,
};

/// A history ends after so many steps, whatever is left is delivered then.
pub const MAX_STEPS: usize = 120;
/// Rounds of delivering everything until all is quiet; a chain of the saga needs about ten.
const MAX_QUIET_ROUNDS: usize = 60;
/// How much the relay takes at once.
const RELAY_BATCH: i64 = 12;
/// As much as there is.
const ALL_ROWS: i64 = i64::MAX;
/// So many histories are troubled.
const TROUBLED: f64 = 0.6;
/// Steps between two looks at what holds at any moment, beside the places of events.
const LOOK_EVERY: usize = 12;
/// Rounds of replaying everything at the end; nothing fails then.
const MAX_REPLAYS: usize = 5;

/// Runs the history of `seed`, and checks the law on the way and at its end; of its first `steps` only, if so many are said.
///
/// # Errors
/// What of the law was broken, or what failed on the way.
pub async fn run(shop: &Shop, seed: u64, steps: Option<usize>) -> anyhow::Result<Outcome> {
    let mut history = History::begin(shop, seed).await?;
    for nth in 0..steps.unwrap_or(MAX_STEPS) {
        // What one step did, rivals or not, decides nothing of the next.
        history.chance = StdRng::seed_from_u64(seed ^ (nth as u64 + 1).rotate_left(32));
        if !history.step().await.with_context(|| format!("step {nth}"))? {
            break;
        }
        history.look(nth).await.with_context(|| format!("after step {nth}"))?;
    }
    while let Some(action) = history.actions.pop() {
        history.act(action).await?;
    }
    history.come_to_rest().await?;
    let mut outcome = history.outcome.clone();
    history.deliver_everything_again().await?;
    outcome += law::check(shop, &history.broker, &history.scene).await?;
    Ok(outcome)
}

pub(crate) struct History<'s> {
    pub(crate) shop: &'s Shop,
    pub(crate) chance: StdRng,
    pub(crate) broker: Broker,
    pub(crate) actions: Vec<Action>,
    pub(crate) scene: Scene,
    /// Whether handlers fail, operators act and processes die at named steps in it.
    pub(crate) is_troubled: bool,
    /// The processes in which a fault was switched on: it may last.
    pub(crate) faulty: BTreeSet<(Service, usize)>,
    /// The services in which an event may be parked, or wait for another.
    pub(crate) uneasy: BTreeSet<Service>,
    /// The services that may have dead letters.
    pub(crate) with_letters: BTreeSet<Service>,
    /// The groups whose events may have moved since they were looked at.
    moved: BTreeSet<Service>,
    pub(crate) outcome: Outcome,
}

impl<'s> History<'s> {
    async fn begin(shop: &'s Shop, seed: u64) -> anyhow::Result<Self> {
        let mut chance = StdRng::seed_from_u64(seed);
        let is_troubled = chance.random_bool(TROUBLED);
        let mut history = Self {
            shop,
            chance,
            broker: Broker::default(),
            actions: Vec::new(),
            scene: Scene::default(),
            is_troubled,
            faulty: BTreeSet::new(),
            uneasy: BTreeSet::new(),
            with_letters: BTreeSet::new(),
            moved: BTreeSet::new(),
            outcome: Outcome::default(),
        };
        history.set_the_scene().await?;
        Ok(history)
    }

    /// One step. False when there is nothing left to do.
    async fn step(&mut self) -> anyhow::Result<bool> {
        if self.is_troubled && self.chance.random_bool(trouble::PER_STEP) {
            self.make_trouble().await?;
            return Ok(true);
        }
        let waiting = self.broker.waiting(&self.shop.topics);
        let act = !self.actions.is_empty() && self.chance.random_bool(0.15);
        if act && let Some(action) = self.actions.pop() {
            self.act(action).await?;
        } else if waiting.is_empty() || self.chance.random_bool(0.35) {
            let relayed = self.relay_one().await?;
            return Ok(relayed || !waiting.is_empty() || !self.actions.is_empty());
        } else {
            self.deliver_some(&waiting).await?;
        }
        Ok(true)
    }

    /// What holds at any moment holds.
    async fn look(&mut self, nth: usize) -> anyhow::Result<()> {
        law::places::check(self.shop, &self.broker, &std::mem::take(&mut self.moved)).await?;
        if nth.is_multiple_of(LOOK_EVERY) {
            law::always(self.shop, &self.scene).await?;
        }
        Ok(())
    }

    /// The relay of one service that has something moves some rows; now and then it dies before it
    /// deletes them, and sends them again.
    async fn relay_one(&mut self) -> anyhow::Result<bool> {
        let services = self.shop.services();
        let first = self.chance.random_range(0..services.len());
        for service in services.iter().cycle().skip(first).take(services.len()) {
            let at_most = self.chance.random_range(1..=RELAY_BATCH);
            let dies = self.chance.random_bool(0.1);
            if self.relay(*service, at_most, dies).await? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn relay(&mut self, service: Service, at_most: i64, dies: bool) -> anyhow::Result<usize> {
        let rows = self.shop.outbox(service, at_most).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let moved = rows.len();
        for row in rows {
            self.broker.append(row.message);
        }
        if dies {
            self.outcome.count("rows sent twice", moved);
        } else if moved > 0 {
            self.shop.delete_relayed(service, &ids).await?;
        }
        Ok(moved)
    }

    /// All that the relay of a service has.
    pub(crate) async fn relay_all(&mut self, service: Service) -> anyhow::Result<usize> {
        self.relay(service, ALL_ROWS, false).await
    }

    /// Counts what became of events.
    pub(crate) fn note(&mut self, group: Service, delivered: Delivered) -> anyhow::Result<()> {
        let Delivered { retrying, waiting, parked, dead, resumed, .. } = delivered;
        let set_aside = retrying + waiting + parked + dead;
        // Conflicts aside, nothing fails by itself.
        ensure!(self.is_troubled || set_aside == 0, "{group} set {set_aside} records aside");
        self.moved.insert(group);
        if set_aside > 0 {
            self.uneasy.insert(group);
        }
        if dead > 0 {
            self.with_letters.insert(group);
        }
        let counts = [
            ("hops", retrying),
            ("kept waiting", waiting),
            ("parked", parked),
            ("dead letters", dead),
            ("answers told again", resumed),
        ];
        for (what, times) in counts {
            self.outcome.count(what, times);
        }
        Ok(())
    }

    /// Whatever it did, it may have done before that.
    pub(crate) fn note_cut_off(&mut self, group: Service) {
        self.moved.insert(group);
        if self.is_troubled {
            self.uneasy.insert(group);
            self.with_letters.insert(group);
        }
    }

    /// Counts where a process seemed to die. Anything else is no part of a history.
    pub(crate) fn note_stalled(&mut self, group: Service, stalled: Stalled) -> anyhow::Result<()> {
        self.note_cut_off(group);
        match stalled.death() {
            Some(death) => self.outcome.count_death(death),
            // Two members failed the same key's events at once: the second finds out as it comes again.
            None if stalled.was_outrun() => {}
            None => return Err(stalled.into()),
        }
        Ok(())
    }

    /// Lets everything end: what fails is mended, what is dead is replayed. Whoever waits for an answer that was given up
    /// waits for ever, unless he runs out of time; nobody else has to.
    async fn come_to_rest(&mut self) -> anyhow::Result<()> {
        self.mend().await?;
        self.quiet().await?;
        if self.is_troubled {
            for round in 0.. {
                ensure!(round < MAX_REPLAYS, "dead letters are left after {MAX_REPLAYS} replays");
                let mut sent = 0;
                for service in self.shop.services() {
                    sent +=
                        self.replay(service, Replaying { which: Which::All, to: To::Group, is_mended: true }).await?;
                }
                self.quiet().await?;
                if sent == 0 {
                    break;
                }
            }
            self.mend().await?;
        }
        if self.outcome.of("letters given up") > 0 {
            self.shop.time_out().await?;
            self.quiet().await?;
        }
        law::places::check(self.shop, &self.broker, &self.shop.services().into_iter().collect())
            .await
            .context("when all is quiet")
    }

    /// Whatever comes once more changes nothing, and nobody tells anything new.
    async fn deliver_everything_again(&mut self) -> anyhow::Result<()> {
        let ends = self.broker.ends();
        self.broker.rewind_all();
        self.quiet().await.context("delivering every topic again from the beginning")?;
        // Who was asked for his answers again gives them again: the same ones.
        let told: BTreeSet<_> = self.broker.before(&ends).filter(|_| self.is_troubled).map(identity).collect();
        let new: Vec<String> =
            self.broker.since(&ends).filter(|record| !told.contains(&identity(record))).map(described).collect();
        ensure!(new.is_empty(), "delivering every topic again published something new: {new:#?}");
        Ok(())
    }

    /// Relays and delivers everything, in order and without mishaps, until nothing moves any more.
    pub(crate) async fn quiet(&mut self) -> anyhow::Result<()> {
        self.shop.touch_all();
        self.settle(&self.shop.services(), |_| true).await
    }

    /// The same for these groups, and the topics that are read meanwhile.
    pub(crate) async fn settle(&mut self, groups: &[Service], reads: impl Fn(&Reading) -> bool) -> anyhow::Result<()> {
        for _ in 0..MAX_QUIET_ROUNDS {
            if self.go_on(groups, &reads).await? == 0 {
                return Ok(());
            }
        }
        anyhow::bail!("not quiet after {MAX_QUIET_ROUNDS} rounds")
    }

    /// One round of it. Returns how much moved.
    pub(crate) async fn go_on(
        &mut self,
        groups: &[Service],
        reads: impl Fn(&Reading) -> bool,
    ) -> anyhow::Result<usize> {
        let mut moved = 0;
        for service in groups {
            moved += self.relay_all(*service).await?;
            if self.uneasy.contains(service) {
                moved += self.look_after(*service, 0).await?;
            }
        }
        for reading in self.broker.waiting(&self.shop.topics) {
            if groups.contains(&reading.group) && reads(&reading) {
                let records = self.broker.unread(&reading).to_vec();
                let delivered = self.shop.deliver((reading.group, 0), &records).await?;
                self.note(reading.group, delivered)?;
                self.broker.commit(&reading, self.broker.position(&reading) + records.len());
                moved += records.len();
            }
        }
        Ok(moved)
    }
}

/// Which event a record tells, on which topic.
fn identity(record: &Record) -> (&str, Option<EventId>) {
    (&record.topic, envelope::peek(record.value.as_deref().unwrap_or_default()).id)
}

/// A record as people read it.
fn described(record: &Record) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    let value = record.value.as_deref().map_or_else(|| "nothing".to_owned(), text);
    format!("{}, {}: {value}", record.topic, headers.join(", "))
}
