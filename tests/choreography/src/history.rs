//! One history: a seed decides who does what when, and where it dies.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use common_events::{EventId, IssuedCouponId, OrderId, ProductId, Quantity, Service, Topic, UserId, Won, envelope};
use coupon_service::domain::Coupon;
use messaging::{Delivered, Record, delivery::Stalled};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use uuid::Uuid;

use crate::{
    broker::{Broker, Message, Reading},
    law, sale,
    shop::Shop,
    trouble::{self, To, Which},
};

/// A history ends after so many steps, whatever is left is delivered then.
pub const MAX_STEPS: usize = 120;
/// Rounds of delivering everything until all is quiet; a chain of the saga needs about ten.
const MAX_QUIET_ROUNDS: usize = 60;
/// A delivery that dies before its COMMIT dies within this time.
const LONGEST_LIFE_US: u64 = 3_000;
/// How much the relay takes at once.
const RELAY_BATCH: i64 = 12;
const MAX_BATCH: usize = 8;
/// So many histories are troubled.
const TROUBLED: f64 = 0.6;
/// How often it is looked where each event is, in steps.
const LOOK_EVERY: usize = 12;
/// Nothing fails any more when dead letters are replayed in the end.
const MAX_REPLAYS: usize = 5;

macro_rules! counted {
    ($(#[$of:meta])* $name:ident { $($(#[$doc:meta])+ $count:ident),+ $(,)? }) => {
        $(#[$of])*
        #[derive(Debug, Default, Clone, Copy)]
        pub struct $name {
            $($(#[$doc])+ pub $count: usize),+
        }

        impl $name {
            /// Each count, by its name.
            pub fn counts(&self) -> impl Iterator<Item = (&'static str, usize)> {
                [$((stringify!($count), self.$count)),+].into_iter()
            }
        }

        impl std::ops::AddAssign for $name {
            fn add_assign(&mut self, more: Self) {
                $(self.$count += more.$count);+
            }
        }
    };
}
counted! {
    /// What histories were made of, and how they ended.
    Outcome {
        /// Orders that were confirmed and stayed so.
        confirmed,
        /// Orders that were cancelled.
        cancelled,
        /// Coupons that were used by an order that was confirmed and stayed so.
        coupons_used,
        /// Coupons that were used by one order after the other, as the first ended.
        coupons_reused,
        /// Cancels that somebody asked for.
        asked_to_cancel,
        /// Times at which all open orders were too late.
        timeouts,
        /// Deliveries that were cut off, died behind their COMMIT, or came again.
        crashes,
        /// Deliveries that died before or after the COMMIT in which events were handled,
        died_handling,
        /// waited behind another of their key,
        died_waiting,
        /// let their followers go,
        died_releasing,
        /// went to a retry topic,
        died_hopping,
        /// were parked,
        died_parking,
        /// or became dead letters.
        died_burying,
        /// Processes that died as they claimed keys with followers,
        died_draining,
        /// or sent dead letters again.
        died_replaying,
        /// Rows that a relay sent twice.
        sent_twice,
        /// Times that a group was set back to an older offset.
        set_back,
        /// Faults that were switched on.
        faults,
        /// Events that went to a retry topic.
        hops,
        /// Events that were parked.
        parked,
        /// Events that were set aside as dead letters.
        dead,
        /// Events that waited behind another of their key.
        waited,
        /// Replays,
        replays,
        /// of these, of one dead letter,
        replays_of_one,
        /// and to the topic where each lay first.
        replays_to_the_origin,
        /// Dead letters of which it was foretold what a replay would do.
        foretold,
        /// Dead letters that were applied by one.
        replayed,
        /// Dead letters that were given up.
        discarded,
        /// Answers that were asked for again.
        resumed,
    }
}

/// What somebody does from outside.
enum Action {
    Place { user: UserId, lines: Vec<(ProductId, Quantity)>, wish: Wish },
    CancelOne,
    TimeOut,
}

/// Which coupon a customer means to use.
#[derive(Clone, Copy)]
enum Wish {
    None,
    /// One of those he holds by then, if any.
    HisOwn,
    /// One that somebody else holds.
    AnothersOwn,
    /// One that nobody holds.
    Nobodys,
}

/// What a history is about.
#[derive(Default)]
pub(crate) struct Scene {
    pub(crate) orders: Vec<OrderId>,
    /// Each with the pieces it began with.
    pub(crate) products: Vec<(ProductId, i64)>,
    pub(crate) users: Vec<UserId>,
    pub(crate) coupons: Vec<Coupon>,
}

/// Runs the history of `seed`, and checks the law at its end; of its first `steps` only, if so many are said.
///
/// # Errors
/// What of the law was broken, or what failed on the way.
pub async fn run(shop: &Shop, seed: u64, steps: Option<usize>) -> anyhow::Result<Outcome> {
    let mut history = History::begin(shop, seed).await?;
    for nth in 0..steps.unwrap_or(MAX_STEPS) {
        if !history.step().await.with_context(|| format!("step {nth}"))? {
            break;
        }
        if history.is_troubled && nth % LOOK_EVERY == 0 {
            law::places::check(shop, &history.broker).await.with_context(|| format!("after step {nth}"))?;
        }
    }
    while let Some(action) = history.actions.pop() {
        history.act(action).await?;
    }
    history.come_to_rest().await?;
    let ends = history.broker.ends();
    history.broker.rewind_all();
    history.quiet().await.context("delivering every topic again from the beginning")?;
    // Who is asked for his answers again gives them again: the same ones.
    let told: BTreeSet<_> = history.broker.before(&ends).map(told_by).collect();
    let new: Vec<String> =
        history.broker.since(&ends).filter(|record| !told.contains(&told_by(record))).map(described).collect();
    ensure!(new.is_empty(), "delivering every topic again published something new: {new:#?}");
    let kept = law::check(shop, &history.broker, &history.scene).await?;
    let mut outcome = history.outcome;
    outcome += kept;
    Ok(outcome)
}

/// What a record tells: which event, on which topic.
fn told_by(record: &Record) -> (&str, Option<EventId>) {
    (&record.topic, envelope::peek(record.value.as_deref().unwrap_or_default()).id)
}

/// A record as people read it.
fn described(record: &Record) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let headers: Vec<String> = record.headers.iter().map(|(name, value)| format!("{name}: {}", text(value))).collect();
    let value = record.value.as_deref().map_or_else(|| "nothing".to_owned(), text);
    format!("{}, {}: {value}", record.topic, headers.join(", "))
}

pub(crate) struct History<'s> {
    pub(crate) shop: &'s Shop,
    pub(crate) chance: StdRng,
    pub(crate) broker: Broker,
    actions: Vec<Action>,
    scene: Scene,
    /// Whether handlers fail, operators act and processes die at named steps in it.
    is_troubled: bool,
    /// The processes in which a fault was switched on: it may last.
    pub(crate) faulty: BTreeSet<(Service, usize)>,
    /// The services in which an event may be parked, or wait for another.
    pub(crate) uneasy: BTreeSet<Service>,
    /// The services that had dead letters.
    pub(crate) with_letters: BTreeSet<Service>,
    pub(crate) outcome: Outcome,
}

impl<'s> History<'s> {
    async fn begin(shop: &'s Shop, seed: u64) -> anyhow::Result<Self> {
        let mut chance = StdRng::seed_from_u64(seed);
        // Ids are new in every run, so that one database serves many histories.
        let unique = Uuid::now_v7().simple().to_string();
        let mut scene = Scene::default();
        for n in 0..chance.random_range(1..=3) {
            let product: ProductId = format!("p{n}-{unique}").parse()?;
            let pieces = chance.random_range(0..=12);
            shop.stock(&product, Won::try_from(chance.random_range(0..=5) * 100)?, pieces).await?;
            scene.products.push((product, pieces));
        }
        for n in 0..chance.random_range(1..=3) {
            let user: UserId = format!("u{n}-{unique}").parse()?;
            let limit = if chance.random_bool(0.2) { Some(Won::try_from(900)?) } else { None };
            shop.charge(&user, Won::try_from(chance.random_range(1..=40) * 100)?, limit).await?;
            scene.users.push(user);
        }
        let is_troubled = chance.random_bool(TROUBLED);
        let mut history = Self {
            shop,
            chance,
            broker: Broker::default(),
            actions: Vec::new(),
            scene,
            is_troubled,
            faulty: BTreeSet::new(),
            uneasy: BTreeSet::new(),
            with_letters: BTreeSet::new(),
            outcome: Outcome::default(),
        };
        let early = history.chance.random_bool(0.7);
        if early {
            history.open_sales(&unique).await?;
        }
        // Products are known to order-service before the first order comes; coupons not always to their holders.
        history.quiet().await?;
        if !early {
            history.open_sales(&unique).await?;
        }
        history.plan()?;
        Ok(history)
    }

    /// Up to two coupons, and admissions to them as the gate publishes them: past any outbox.
    async fn open_sales(&mut self, unique: &str) -> anyhow::Result<()> {
        for n in 0..self.chance.random_range(0..=2) {
            let coupon = sale::coupon(&mut self.chance, &format!("c{n}-{unique}"))?;
            self.shop.put_up(&coupon).await?;
            for admission in sale::admissions(&mut self.chance, &coupon, &self.scene.users)? {
                self.broker.append(Message {
                    topic: Topic::CouponIssueRequested.name().to_owned(),
                    key: Some(coupon.coupon_id.as_str().into()),
                    value: Some(admission),
                    headers: Vec::new(),
                });
            }
            self.scene.coupons.push(coupon);
        }
        Ok(())
    }

    fn plan(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.chance.random_range(1..=4) {
            let user = self.scene.users.choose(&mut self.chance).context("a user")?.clone();
            let mut lines = Vec::new();
            for (product, _) in &self.scene.products {
                if lines.is_empty() || self.chance.random_bool(0.6) {
                    lines.push((product.clone(), Quantity::try_from(self.chance.random_range(1..=3))?));
                }
            }
            let wish = match self.chance.random_range(0..100) {
                0..40 => Wish::None,
                40..85 => Wish::HisOwn,
                85..93 => Wish::AnothersOwn,
                _ => Wish::Nobodys,
            };
            self.actions.push(Action::Place { user, lines, wish });
            if self.chance.random_bool(0.3) {
                self.actions.insert(0, Action::CancelOne);
            }
        }
        if self.chance.random_bool(0.15) {
            self.actions.insert(0, Action::TimeOut);
        }
        Ok(())
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

    async fn act(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Place { user, lines, wish } => {
                let coupon = self.wished_for(&user, wish).await?;
                self.scene.orders.push(self.shop.place(&user, &lines, coupon).await?);
            }
            Action::CancelOne => {
                if let Some(order) = self.scene.orders.choose(&mut self.chance) {
                    self.shop.cancel(*order).await?;
                    self.outcome.asked_to_cancel += 1;
                }
            }
            Action::TimeOut => {
                self.shop.time_out().await?;
                self.outcome.timeouts += 1;
            }
        }
        Ok(())
    }

    async fn wished_for(&mut self, user: &UserId, wish: Wish) -> anyhow::Result<Option<IssuedCouponId>> {
        let held = self.shop.held_by(&self.scene.users).await?;
        let (own, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|(holder, _)| holder == user);
        let of = match wish {
            Wish::None => return Ok(None),
            Wish::Nobodys => return Ok(Some(IssuedCouponId::new(Uuid::now_v7()))),
            Wish::HisOwn => own,
            Wish::AnothersOwn => others,
        };
        Ok(of.choose(&mut self.chance).map(|(_, coupon)| *coupon))
    }

    /// The relay of one service that has something moves some rows; now and then it dies before it
    /// deletes them, and sends them again.
    async fn relay_one(&mut self) -> anyhow::Result<bool> {
        let services: Vec<Service> = self.shop.participants.keys().copied().collect();
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

    pub(crate) async fn relay(&mut self, service: Service, at_most: i64, dies: bool) -> anyhow::Result<usize> {
        let rows = self.shop.outbox(service, at_most).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let moved = rows.len();
        for row in rows {
            self.broker.append(row.message);
        }
        if dies {
            self.outcome.sent_twice += moved;
        } else if moved > 0 {
            self.shop.delete_relayed(service, &ids).await?;
        }
        Ok(moved)
    }

    /// One to three deliveries at the same time, to either process of their group.
    async fn deliver_some(&mut self, waiting: &[Reading]) -> anyhow::Result<()> {
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
        let shop = self.shop;
        let outcomes = futures::future::join_all(deliveries.iter().map(|delivery| delivery.run(shop))).await;
        for (Delivery { reading, end, fate, .. }, outcome) in deliveries.iter().zip(outcomes) {
            let delivered = match outcome {
                Some(Ok(delivered)) => delivered,
                // It may have done something before it died; nobody knows.
                None => {
                    self.note_crash(reading.group);
                    continue;
                }
                Some(Err(stalled)) if self.is_troubled => {
                    self.note_stalled(reading.group, &stalled);
                    continue;
                }
                Some(Err(stalled)) => return Err(stalled.into()),
            };
            self.note(reading.group, delivered)?;
            match fate {
                Fate::Commits | Fate::DiesBeforeCommit(_) => self.broker.commit(reading, *end),
                Fate::DiesBeforeOffset => self.outcome.crashes += 1,
                Fate::Rewinds => {
                    self.outcome.set_back += 1;
                    let to = self.chance.random_range(0..=4);
                    self.broker.rewind(reading, to);
                }
            }
        }
        Ok(())
    }

    /// Counts what became of events.
    pub(crate) fn note(&mut self, group: Service, delivered: Delivered) -> anyhow::Result<()> {
        let Delivered { retrying, waiting, parked, dead, resumed, .. } = delivered;
        let set_aside = retrying + waiting + parked + dead;
        // Conflicts aside, nothing fails by itself.
        ensure!(self.is_troubled || set_aside == 0, "{group} set {set_aside} records aside");
        if set_aside > 0 {
            self.uneasy.insert(group);
        }
        if dead > 0 {
            self.with_letters.insert(group);
        }
        self.outcome.hops += retrying;
        self.outcome.waited += waiting;
        self.outcome.parked += parked;
        self.outcome.dead += dead;
        self.outcome.resumed += resumed;
        Ok(())
    }

    /// What it did before it died nobody knows.
    fn note_crash(&mut self, group: Service) {
        self.outcome.crashes += 1;
        self.set_something_aside(group);
    }

    /// It may have.
    fn set_something_aside(&mut self, group: Service) {
        if self.is_troubled {
            self.uneasy.insert(group);
            self.with_letters.insert(group);
        }
    }

    /// Counts where a process seemed to die.
    pub(crate) fn note_stalled(&mut self, group: Service, stalled: &Stalled) {
        let said = service_runtime::chain(stalled);
        let Some((_, at)) = said.split_once("somebody wants it dead: ") else { return self.note_crash(group) };
        self.set_something_aside(group);
        let count = match at.split(',').next() {
            Some("Handle") => &mut self.outcome.died_handling,
            Some("Wait") => &mut self.outcome.died_waiting,
            Some("Release") => &mut self.outcome.died_releasing,
            Some("Hop") => &mut self.outcome.died_hopping,
            Some("Park") => &mut self.outcome.died_parking,
            Some("Bury") => &mut self.outcome.died_burying,
            Some("Drain") => &mut self.outcome.died_draining,
            step => panic!("{step:?} is a step of which nothing is counted"),
        };
        *count += 1;
    }

    /// Lets everything end: what fails is mended, what is dead is replayed, and what nobody answers any more runs out of
    /// time.
    async fn come_to_rest(&mut self) -> anyhow::Result<()> {
        self.mend().await?;
        self.quiet().await?;
        if !self.is_troubled {
            return Ok(());
        }
        for round in 0.. {
            ensure!(round < MAX_REPLAYS, "dead letters are left after {MAX_REPLAYS} replays");
            let mut replayed = 0;
            let services: Vec<Service> = self.shop.participants.keys().copied().collect();
            for service in services {
                replayed += self.replay(service, Which::All, To::Group).await?;
            }
            self.quiet().await?;
            if replayed == 0 {
                break;
            }
        }
        // Whoever waits for an answer that was given up waits for ever.
        self.shop.time_out().await?;
        self.quiet().await?;
        law::places::check(self.shop, &self.broker).await.context("when all is quiet")
    }

    /// Relays and delivers everything, in order and without mishaps, until nothing moves any more.
    pub(crate) async fn quiet(&mut self) -> anyhow::Result<()> {
        let services: Vec<Service> = self.shop.participants.keys().copied().collect();
        for _ in 0..MAX_QUIET_ROUNDS {
            let mut moved = 0;
            for service in &services {
                moved += self.relay(*service, i64::from(u16::MAX), false).await?;
                if self.uneasy.contains(service) {
                    moved += self.look_after(*service, 0).await?;
                }
            }
            let waiting = self.broker.waiting(&self.shop.topics);
            if moved == 0 && waiting.is_empty() {
                return Ok(());
            }
            for reading in waiting {
                let records = self.broker.unread(&reading).to_vec();
                let delivered = self.shop.deliver((reading.group, 0), &records).await?;
                self.note(reading.group, delivered)?;
                self.broker.commit(&reading, self.broker.position(&reading) + records.len());
            }
        }
        anyhow::bail!("not quiet after {MAX_QUIET_ROUNDS} rounds")
    }
}

/// How a delivery ends.
#[derive(Clone, Copy)]
enum Fate {
    Commits,
    /// It is cut off after so many microseconds, if it isn't done by then.
    DiesBeforeCommit(u64),
    DiesBeforeOffset,
    /// It ends well, and then the group's offset is set back.
    Rewinds,
}

impl Fate {
    fn by(chance: &mut StdRng) -> Self {
        match chance.random_range(0..100) {
            0..70 => Self::Commits,
            70..82 => Self::DiesBeforeCommit(chance.random_range(0..LONGEST_LIFE_US)),
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
            Fate::DiesBeforeCommit(after_us) => {
                tokio::time::timeout(Duration::from_micros(after_us), delivering).await.ok()
            }
            Fate::Commits | Fate::DiesBeforeOffset | Fate::Rewinds => Some(delivering.await),
        }
    }
}
