//! What goes wrong in a troubled history: faults that somebody switches on, and operators who do what they can.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use common_events::{Service, Topic};
use messaging::{OwnTopic, Record, Tx, resume::ask_for_answers};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    desk::{Desk, Letter, REPLAY_PATIENCE},
    history::History,
    written::{Counts, WRITTEN},
};

/// How often a step of a troubled history is trouble.
pub(crate) const PER_STEP: f64 = 0.2;

/// How handling fails, how often of a hundred times, and where a process can be made to seem dead then; replays apart.
const FAULTS: [(&str, u32, &[&str]); 6] = [
    ("death", 15, &["handle", "wait", "release"]),
    ("transient", 45, &["hop", "park", "bury", "wait"]),
    ("unprocessable", 12, &["bury"]),
    ("panic", 10, &["hop", "bury"]),
    ("conflict", 10, &["hop", "wait"]),
    ("lock-wait", 8, &["hop", "park"]),
];
const SIDES: [&str; 2] = ["before-commit", "after-commit"];

/// What an operator may give up, and the order ends all the same: it runs out of time, or he who asked is turned away.
const DISCARDABLE: [(Service, Topic); 7] = [
    (Service::Coupon, Topic::OrderCreated),
    (Service::Coupon, Topic::CouponIssueRequested),
    (Service::Product, Topic::OrderLinePlaced),
    (Service::Order, Topic::StockDeducted),
    (Service::Order, Topic::CouponUsed),
    (Service::Order, Topic::PaymentCompleted),
    (Service::Payment, Topic::OrderReserved),
];

impl History<'_> {
    pub(crate) async fn make_trouble(&mut self) -> anyhow::Result<()> {
        if let Some(service) = self.one_of(|history| &history.with_letters)
            && self.chance.random_bool(0.15)
        {
            return match self.chance.random_range(0..100) {
                0..30 => self.give_up_some(service).await,
                30..40 => self.replay(service, Which::All, To::Origin).await.map(drop),
                40..50 => self.replay(service, Which::All, To::Group).await.map(drop),
                _ => self.replay(service, Which::One, To::Group).await.map(drop),
            };
        }
        if let Some(service) = self.one_of(|history| &history.uneasy)
            && self.chance.random_bool(0.3)
        {
            let process = self.chance.random_range(0..=1);
            if self.chance.random_bool(0.1) {
                let side = SIDES.choose(&mut self.chance);
                let fault = json!({"kind": "death", "step": "drain", "side": side, "times": 1, "reason": "a test"});
                self.shop.process(service, process).desk.set_fault(&fault).await?;
                self.faulty.insert((service, process));
            }
            return self.look_after(service, process).await.map(drop);
        }
        if self.chance.random_bool(0.15) {
            return self.ask_again().await;
        }
        self.break_something().await
    }

    fn one_of(&mut self, these: impl Fn(&Self) -> &BTreeSet<Service>) -> Option<Service> {
        let these: Vec<Service> = these(self).iter().copied().collect();
        these.choose(&mut self.chance).copied()
    }

    /// Somebody switches a fault on: events will fail, once or until it is over, or a process seems dead at some step; in one
    /// process or in both.
    async fn break_something(&mut self) -> anyhow::Result<()> {
        // Where something is to be done soon.
        let waiting = self.broker.waiting(&self.shop.topics);
        let Some(reading) = waiting.choose(&mut self.chance) else { return Ok(()) };
        let (service, topic) = (reading.group, reading.topic.parse::<Topic>().ok());
        let (kind, _, steps) = *FAULTS.choose_weighted(&mut self.chance, |(_, often, _)| *often)?;
        let mut fault = json!({"kind": kind, "reason": "a test"});
        let at_most = if self.chance.random_bool(0.2) { 20 } else { 4 };
        fault["times"] = json!(self.chance.random_range(1..=at_most));
        if kind == "death" || self.chance.random_bool(0.4) {
            fault["times"] = json!(1);
            fault["step"] = json!(steps.choose(&mut self.chance));
            fault["side"] = json!(SIDES.choose(&mut self.chance));
        }
        if let Some(topic) = topic
            && self.chance.random_bool(0.6)
        {
            fault["topic"] = json!(topic.name());
        }
        let first = self.chance.random_range(0..=1);
        let many = self.chance.random_range(1..=2);
        for process in [first, 1 - first].into_iter().take(many) {
            self.shop.process(service, process).desk.set_fault(&fault).await?;
            self.faulty.insert((service, process));
            self.outcome.faults += 1;
        }
        Ok(())
    }

    /// Everything works again.
    pub(crate) async fn mend(&mut self) -> anyhow::Result<()> {
        for (service, process) in std::mem::take(&mut self.faulty) {
            self.shop.process(service, process).desk.clear_fault().await?;
        }
        Ok(())
    }

    /// What a running consumer does beside reading: it tries parked events, and handles those whose turn it is. Returns how
    /// many were handled, or moved.
    pub(crate) async fn look_after(&mut self, service: Service, process: usize) -> anyhow::Result<usize> {
        if !self.shop.let_time_pass(service).await? {
            self.uneasy.remove(&service);
            return Ok(0);
        }
        let group = &self.shop.process(service, process).group;
        let mut moved = 0;
        for outcome in [group.try_parked().await, group.drain().await] {
            match outcome {
                Ok(delivered) => {
                    moved += delivered.applied + delivered.parked + delivered.retrying + delivered.dead;
                    self.note(service, delivered)?;
                }
                Err(stalled) => self.note_stalled(service, &stalled),
            }
        }
        Ok(moved)
    }

    /// A monitor that believes an answer to be lost asks for it, whether it is or not.
    async fn ask_again(&mut self) -> anyhow::Result<()> {
        let services: Vec<Service> = self.shop.participants.keys().copied().collect();
        let service = *services.choose(&mut self.chance).context("a service")?;
        let heard: Vec<Topic> = self.shop.process(service, 0).group.subscriptions().topics().collect();
        let heard = |record: &&Record| heard.iter().any(|topic| topic.name() == record.topic);
        let records: Vec<Record> = self.broker.records().filter(heard).cloned().collect();
        let Some(record) = records.choose(&mut self.chance) else { return Ok(()) };
        let mut client = self.shop.pool(service).get().await?;
        let tx = Tx::begin(&mut client).await?;
        ask_for_answers(&tx, service, record).await?;
        tx.commit().await.context("asking again")
    }

    async fn give_up_some(&mut self, service: Service) -> anyhow::Result<()> {
        let desk = &self.shop.process(service, 0).desk;
        let may_be_given_up =
            |letter: &&Letter| DISCARDABLE.iter().any(|(of, topic)| *of == service && topic.name() == letter.topic);
        let letters = desk.dead_letters().await?;
        let Some(one) = letters.iter().find(may_be_given_up) else { return Ok(()) };
        self.outcome.discarded += desk.discard(&one.topic).await?;
        Ok(())
    }

    /// Operators mend a service, ask what a replay of these dead letters would do, replay them, and see it come true.
    /// Returns how many were sent.
    pub(crate) async fn replay(&mut self, service: Service, which: Which, to: To) -> anyhow::Result<usize> {
        self.mend().await?;
        if matches!(which, Which::One) {
            // Nothing else happens meanwhile.
            while self.go_on(service, To::Group).await? > 0 {}
        }
        let shop = self.shop;
        let desk = &shop.process(service, 0).desk;
        let to_where = if to == To::Group { "group" } else { "origin" };
        let mut asked = json!({"to": to_where, "ratePerSecond": 10_000, "reason": "it is mended"});
        match which {
            Which::All => asked["filter"] = json!({"state": "DEAD"}),
            Which::One => match desk.dead_letters().await?.choose(&mut self.chance) {
                Some(one) => asked["ids"] = json!([one.id]),
                None => return Ok(0),
            },
        }
        let foretold = if to == To::Group { desk.foretell(&asked).await? } else { None };
        let dies = self.chance.random_bool(0.3);
        if dies {
            let side = SIDES.choose(&mut self.chance);
            let fault = json!({"kind": "death", "step": "replay", "side": side, "times": 1, "reason": "a test"});
            desk.set_fault(&fault).await?;
            self.faulty.insert((service, 0));
        }
        let (told, written) = (self.told_by(service), shop.written(service).await?);
        let Some(id) = desk.ask_for_replay(&asked).await? else { return Ok(0) };
        let ended = self.until_it_ended(service, to, &id).await?;
        if dies && !desk.has_fault().await? {
            self.outcome.died_replaying += 1;
        }
        let count = |name: &str| usize::try_from(ended[name].as_u64().unwrap_or_default());
        self.outcome.replays += 1;
        self.outcome.replayed += count("applied")?;
        match which {
            Which::One => self.outcome.replays_of_one += 1,
            Which::All if to == To::Origin => self.outcome.replays_to_the_origin += 1,
            Which::All => {}
        }
        let Some(foretold) = foretold.filter(|_| ended["state"] != "HALTED") else { return Ok(count("sent")?) };
        let of = || format!("a replay of {service}: {ended}");
        self.outcome.foretold += came_true(desk, &foretold).await.with_context(of)?;
        if matches!(which, Which::One) {
            // Many come in the order of their partitions, and what comes of one depends on those before it.
            self.relay(service, i64::from(u16::MAX), false).await?;
            let came = Effects {
                answers: self.told_by(service).since(&told),
                rows: shop.written(service).await?.since(&written),
            };
            ensure!(came == Effects::foretold(&foretold)?, "{foretold} was foretold, and {came:?} came of it");
        }
        Ok(count("sent")?)
    }

    async fn until_it_ended(&mut self, service: Service, to: To, replay: &str) -> anyhow::Result<Value> {
        let (runner, began) = (self.shop.process(service, 0).desk.runner(), Instant::now());
        let ended = loop {
            self.go_on(service, to).await?;
            if let Some(ended) = self.shop.process(service, 0).desk.ended(replay).await? {
                break ended;
            }
            ensure!(began.elapsed() < REPLAY_PATIENCE, "a replay of {service} doesn't end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        runner.stop().await.context("the replays' runner")?;
        Ok(ended)
    }

    /// How many events a service has published by now, by topic: only what it answers, not what it hands on.
    fn told_by(&self, service: Service) -> Counts {
        let own = |record: &&Record| record.topic.parse::<Topic>().is_ok_and(|topic| topic.spec().writer == service);
        self.broker.records().filter(own).map(|record| record.topic.clone()).collect()
    }

    /// What is on its way in a service goes on: what lies on its own topics, on all of them if the replay goes to origins.
    /// Returns how much did.
    async fn go_on(&mut self, group: Service, replays: To) -> anyhow::Result<usize> {
        let own = OwnTopic::ALL.map(|own| own.name(group));
        let mut moved = self.relay(group, i64::from(u16::MAX), false).await?;
        moved += self.look_after(group, 0).await?;
        for reading in self.broker.waiting(&self.shop.topics) {
            if reading.group != group || (replays == To::Group && !own.contains(&reading.topic)) {
                continue;
            }
            let records = self.broker.unread(&reading).to_vec();
            moved += records.len();
            match self.shop.deliver((group, 0), &records).await {
                Ok(delivered) => {
                    self.note(group, delivered)?;
                    self.broker.commit(&reading, self.broker.position(&reading) + records.len());
                }
                Err(stalled) => self.note_stalled(group, &stalled),
            }
        }
        Ok(moved)
    }
}

/// Which dead letters a replay is about.
#[derive(Clone, Copy)]
pub(crate) enum Which {
    One,
    All,
}

/// Where it sends them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum To {
    Group,
    Origin,
}

/// What comes of handling events.
#[derive(Debug, PartialEq, Eq)]
struct Effects {
    /// Events, by their topics.
    answers: Counts,
    /// Rows written, by their tables.
    rows: Counts,
}

impl Effects {
    fn foretold(foretold: &Value) -> anyhow::Result<Self> {
        let (mut answers, mut rows) = (Counts::default(), Counts::default());
        for item in foretold["items"].as_array().context("items")? {
            for answer in item["answers"].as_array().into_iter().flatten() {
                answers.add(answer["type"].as_str().context("a type")?, 1);
            }
            for (table, count) in item["changes"].as_object().into_iter().flatten() {
                rows.add(table, count.as_i64().context("a number")?);
            }
        }
        Ok(Self { answers, rows: rows.without(WRITTEN) })
    }
}

/// What was foretold of each dead letter is what became of it. Returns of how many.
async fn came_true(desk: &Desk, foretold: &Value) -> anyhow::Result<usize> {
    let items = foretold["items"].as_array().context("items")?;
    for item in items {
        let (letter, verdict) = (item["id"].as_str().context("an id")?, item["verdict"].as_str().context("a verdict")?);
        let expected = match verdict {
            "will-apply" | "changes-nothing" | "order-already-cancelled" | "came-too-late" | "already-applied" => {
                "REPLAYED"
            }
            "busy" => continue,
            _ => "DEAD",
        };
        let state = desk.state_of(letter).await?;
        ensure!(state == expected, "{verdict} was foretold, and it is {state}: {item}");
    }
    Ok(items.len())
}
