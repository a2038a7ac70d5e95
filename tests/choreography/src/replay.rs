//! Operators ask what a replay would do, replay dead letters, and see it come true.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use common_events::{Service, Topic};
use messaging::{OwnTopic, Record, faults::Step};
use rand::{RngExt, seq::IndexedRandom};
use serde_json::{Value, json};

use crate::{
    broker::Reading,
    desk::{Desk, fault_of},
    history::History,
    written::{Counts, WRITTEN},
};

/// So long a replay may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which dead letters a replay is about.
#[derive(Clone, Copy, PartialEq, Eq)]
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

/// What a replay is like.
#[derive(Clone, Copy)]
pub(crate) struct Replaying {
    pub(crate) which: Which,
    pub(crate) to: To,
    /// Whether what made them dead is mended before.
    pub(crate) is_mended: bool,
}

impl History<'_> {
    /// Replays these dead letters, and holds what comes of it against what was foretold. Returns how many were sent.
    pub(crate) async fn replay(&mut self, service: Service, replaying: Replaying) -> anyhow::Result<usize> {
        let Replaying { which, to, is_mended } = replaying;
        self.mend().await?;
        let own = OwnTopic::ALL.map(|own| own.name(service));
        let is_own = |reading: &Reading| own.contains(&reading.topic);
        if which == Which::One {
            // Nothing else happens meanwhile.
            self.settle(&[service], is_own).await?;
        }
        let letters = self.shop.process(service, 0).desk.dead_letters().await?;
        let Some(letter) = letters.choose(&mut self.chance) else { return Ok(0) };
        if !is_mended {
            let kind = *["transient", "unprocessable", "panic"].choose(&mut self.chance).context("a kind")?;
            for process in 0..=1 {
                let fault = json!({"kind": kind, "topic": letter.topic, "reason": "it isn't mended"});
                self.break_process((service, process), &fault).await?;
            }
        }
        let to_where = if to == To::Group { "group" } else { "origin" };
        let mut asked = json!({"to": to_where, "ratePerSecond": 10_000, "reason": "it is mended"});
        match which {
            Which::All => asked["filter"] = json!({"state": "DEAD"}),
            Which::One => asked["ids"] = json!([letter.id]),
        }
        let shop = self.shop;
        let desk = || &shop.process(service, 0).desk;
        let foretold = desk().foretell(&asked).await?;
        let is_alone = which == Which::One && to == To::Group;
        let told = self.told_by(service);
        shop.forget_written(service).await?;
        let Some(id) = desk().ask_for_replay(&asked).await? else { return Ok(0) };
        let death = (is_mended && self.chance.random_bool(0.3)).then(|| self.death_at(Step::Replay));
        if let Some(death) = death {
            self.break_process((service, 0), &fault_of(death)).await?;
        }
        // What the replay sends is read, and what is on its way in the group.
        let reads = |reading: &Reading| to == To::Origin || is_own(reading);
        let (ended, has_died) = self.until_it_ended(service, &id, death.is_some(), reads).await?;
        if let Some(death) = death.filter(|_| has_died) {
            self.outcome.count_death(death);
        }
        let of = || format!("a replay of {service}: {ended}");
        let count = |name: &str| ended[name].as_u64().map(usize::try_from).transpose().map(Option::unwrap_or_default);
        let kinds = [
            ("replays", true),
            ("replays of one letter", which == Which::One),
            ("replays to the origin", to == To::Origin),
            ("replays that failed again", count("deadAgain")? > 0),
        ];
        for (kind, is_it) in kinds {
            self.outcome.count(kind, usize::from(is_it));
        }
        if let Some(foretold) = foretold.filter(|_| ended["state"] != "HALTED") {
            let came_true = came_true(desk(), &foretold).await.with_context(of)?;
            self.outcome.count("letters of which was foretold what a replay does", came_true);
            if is_alone {
                // Many come in the order of their partitions, and what comes of one depends on those before it.
                self.relay_all(service).await?;
                let answers = self.told_by(service).since(&told);
                let came = Effects { answers, rows: shop.written(service).await? };
                ensure!(came == Effects::foretold(&foretold)?, "{foretold} was foretold, and {came:?} came of it");
            }
        }
        self.mend().await?;
        Ok(count("sent")?)
    }

    /// The first process works on the replay, and when it dies the other one. Returns how it ended, and whether one died.
    async fn until_it_ended(
        &mut self,
        service: Service,
        replay: &str,
        may_die: bool,
        reads: impl Fn(&Reading) -> bool,
    ) -> anyhow::Result<(Value, bool)> {
        let (mut runner, began) = (self.shop.process(service, 0).desk.runner(), Instant::now());
        let mut died = false;
        let ended = loop {
            self.go_on(&[service], &reads).await?;
            if may_die && !died && !self.shop.process(service, 0).desk.has_fault().await? {
                died = true;
                runner.stop().await.context("the replays' runner")?;
                runner = self.shop.process(service, 1).desk.runner();
            }
            if let Some(ended) = self.shop.process(service, 0).desk.ended(replay).await? {
                break ended;
            }
            ensure!(began.elapsed() < PATIENCE, "a replay of {service} doesn't end");
            tokio::time::sleep(Duration::from_millis(5)).await;
        };
        runner.stop().await.context("the replays' runner")?;
        Ok((ended, died))
    }

    /// How many events a service has published by now, by topic: only what it answers, not what it hands on.
    fn told_by(&self, service: Service) -> Counts {
        let own = |record: &&Record| record.topic.parse::<Topic>().is_ok_and(|topic| topic.spec().writer == service);
        self.broker.records().filter(own).map(|record| record.topic.clone()).collect()
    }
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

/// What was foretold of each dead letter is what became of it. Returns of how many it was.
async fn came_true(desk: &Desk, foretold: &Value) -> anyhow::Result<usize> {
    let mut foreseen = 0;
    for item in foretold["items"].as_array().context("items")? {
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
        foreseen += 1;
    }
    Ok(foreseen)
}
