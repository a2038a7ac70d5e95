//! What goes wrong in a troubled history: faults that somebody switches on, and operators who do what they can.

use std::collections::BTreeSet;

use anyhow::Context;
use common_events::{Service, Topic};
use messaging::{
    Record, Tx,
    faults::{Death, Side, Step},
    resume::ask_for_answers,
};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::json;

use crate::{
    desk::{Letter, fault_of},
    history::History,
    replay::{Replaying, To, Which},
    shop::LookedAfter,
};

/// How often a step of a troubled history is trouble.
pub(crate) const PER_STEP: f64 = 0.2;

/// How handling fails, how often of a hundred times, and where a process can be made to seem dead then.
const FAULTS: [(&str, u32, &[Step]); 6] = [
    ("death", 15, &[Step::Handle, Step::Wait, Step::Release, Step::Release]),
    ("transient", 45, &[Step::Hop, Step::Park, Step::Bury, Step::Wait, Step::Wait, Step::Wait]),
    ("unprocessable", 12, &[Step::Bury]),
    ("panic", 10, &[Step::Hop, Step::Bury]),
    // Tried again at once, it would never get anywhere else.
    ("conflict", 10, &[]),
    ("lock-wait", 8, &[Step::Hop, Step::Park]),
];

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
            && self.chance.random_bool(0.25)
        {
            let to = if self.chance.random_bool(0.3) { To::Origin } else { To::Group };
            let which = if self.chance.random_bool(0.6) { Which::One } else { Which::All };
            let is_mended = which == Which::One || to == To::Origin || self.chance.random_bool(0.3);
            return match self.chance.random_range(0..100) {
                0..25 => self.give_up_some(service).await,
                _ => self.replay(service, Replaying { which, to, is_mended }).await.map(drop),
            };
        }
        if let Some(service) = self.one_of(|history| &history.uneasy)
            && self.chance.random_bool(0.4)
        {
            let process = self.chance.random_range(0..=1);
            self.let_drains_die((service, process)).await?;
            return self.look_after(service, process).await.map(drop);
        }
        if self.chance.random_bool(0.15) { self.ask_again().await } else { self.break_something().await }
    }

    pub(crate) fn one_of(&mut self, these: impl Fn(&Self) -> &BTreeSet<Service>) -> Option<Service> {
        let these: Vec<Service> = these(self).iter().copied().collect();
        these.choose(&mut self.chance).copied()
    }

    /// Somebody switches a fault on: events will fail, once or until it is over, or a process seems dead at some step; in one
    /// process or in both.
    async fn break_something(&mut self) -> anyhow::Result<()> {
        // Where much is to be done soon.
        let waiting = self.broker.waiting(&self.shop.topics);
        let some = waiting.sample(&mut self.chance, 3);
        let Some(reading) = some.max_by_key(|reading| self.broker.unread(reading).len()) else { return Ok(()) };
        let (kind, _, steps) = *FAULTS.choose_weighted(&mut self.chance, |(_, often, _)| *often)?;
        let step = steps.choose(&mut self.chance).filter(|_| kind == "death" || self.chance.random_bool(0.4));
        let mut fault = if let Some(step) = step {
            fault_of(self.death_at(*step))
        } else {
            let at_most = if kind != "conflict" && self.chance.random_bool(0.2) { 20 } else { 4 };
            json!({"times": self.chance.random_range(1..=at_most), "reason": "a test"})
        };
        fault["kind"] = json!(kind);
        if let Ok(topic) = reading.topic.parse::<Topic>()
            && self.chance.random_bool(0.6)
        {
            fault["topic"] = json!(topic.name());
        }
        let first = self.chance.random_range(0..=1);
        let many = if step == Some(&Step::Wait) { 2 } else { self.chance.random_range(1..=2) };
        for process in [first, 1 - first].into_iter().take(many) {
            self.break_process((reading.group, process), &fault).await?;
        }
        Ok(())
    }

    pub(crate) fn death_at(&mut self, step: Step) -> Death {
        Death { step, side: if self.chance.random_bool(0.5) { Side::Before } else { Side::After } }
    }

    /// Now and then a process dies as it claims keys with followers.
    pub(crate) async fn let_drains_die(&mut self, process: (Service, usize)) -> anyhow::Result<()> {
        if self.chance.random_bool(0.25) {
            let death = self.death_at(Step::Drain);
            self.break_process(process, &fault_of(death)).await?;
        }
        Ok(())
    }

    pub(crate) async fn break_process(
        &mut self,
        (service, process): (Service, usize),
        fault: &serde_json::Value,
    ) -> anyhow::Result<()> {
        self.shop.process(service, process).desk.set_fault(fault).await?;
        self.faulty.insert((service, process));
        self.outcome.count("faults", 1);
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
        let Some(looked_after) = self.shop.look_after(service, process).await? else {
            self.uneasy.remove(&service);
            return Ok(0);
        };
        self.note_looked_after(service, looked_after)
    }

    pub(crate) fn note_looked_after(&mut self, service: Service, looked_after: LookedAfter) -> anyhow::Result<usize> {
        let mut moved = 0;
        for outcome in looked_after {
            match outcome {
                Ok(delivered) => {
                    moved += delivered.applied + delivered.parked + delivered.retrying + delivered.dead;
                    self.note(service, delivered)?;
                }
                Err(stalled) => {
                    moved += 1;
                    self.note_stalled(service, stalled)?;
                }
            }
        }
        Ok(moved)
    }

    /// A monitor that believes an answer to be lost asks for it, whether it is or not.
    async fn ask_again(&mut self) -> anyhow::Result<()> {
        let service = *self.shop.services().choose(&mut self.chance).context("a service")?;
        let heard: Vec<Topic> = self.shop.process(service, 0).group.subscriptions().topics().collect();
        let heard = |record: &&Record| heard.iter().any(|topic| topic.name() == record.topic);
        // What the group hasn't read would overtake what lies before it.
        let records: Vec<Record> = self.broker.read_by(service).filter(heard).cloned().collect();
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
        self.outcome.count("letters given up", desk.discard(&one.topic).await?);
        Ok(())
    }
}
