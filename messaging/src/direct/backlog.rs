//! Working the backlog off: what is held goes to the outbox once Kafka answers, in order, and when nothing
//! is left the direct road is opened again.
//!
//! Every process that publishes the topic does this, and looks whether another one left a backlog. It ends
//! in the outbox, not in a producer here, as its relay already keeps the order and gives nothing up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use common_events::Topic;
use futures::FutureExt;
use metrics::gauge;
use service_runtime::{
    Tasks,
    database::Pool,
    settings::KafkaSettings,
    tasks::{Next, Rounds, blocking},
};
use tracing::info;

use super::{
    road::{OPENING_AT_MOST, Road},
    second_cluster::SecondCluster,
    store,
};
use crate::{kafka, relay};

/// How often a backlog is looked for, and how often it is worked at while there is one.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const WORK_EVERY: Duration = Duration::from_millis(100);
/// How long an answer of Kafka's is believed: whether it is there costs a client.
const ANSWER_BELIEVED: Duration = Duration::from_secs(2);
/// The most letters that one statement moves on.
const MAX_BATCH: i64 = 1_000;
/// After newcomers waited for the last letters in vain, nobody waits for them for so long.
const AFTER_GIVING_UP: Duration = Duration::from_secs(10);
/// How long it is remembered what was diverted: as long as sales topics keep their records.
const REMEMBERED_DAYS: i32 = 30;
const FORGET_EVERY: Duration = Duration::from_hours(1);

pub(super) struct Backlog {
    pub(super) topic: Topic,
    pub(super) full_topic: Arc<str>,
    pub(super) pool: Pool,
    pub(super) kafka: KafkaSettings,
    pub(super) road: Arc<Road>,
    pub(super) second: Option<Arc<SecondCluster>>,
    /// When Kafka answered last.
    pub(super) answered: Option<Instant>,
    /// When newcomers waited for the last letters in vain.
    pub(super) gave_up: Option<Instant>,
    /// When what went to its topic long ago was forgotten last.
    pub(super) forgot: Option<Instant>,
}

/// What one look found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Backlog,
}

impl Backlog {
    /// Closes the direct road if there is a backlog of before.
    pub(super) async fn look(&self) -> anyhow::Result<()> {
        let client = self.pool.get().await?;
        let there_is_one = store::count_backlog(&client, self.topic).await? != store::Counts::default()
            || self.waits_on_second_cluster().await;
        if there_is_one {
            self.close().await;
        }
        Ok(())
    }

    pub(super) fn work_off(self, tasks: &Tasks) {
        tasks.repeat(Rounds::every("producer-dead-letters", LOOK_EVERY), self, |backlog| backlog.work().boxed());
    }

    async fn work(&mut self) -> anyhow::Result<Next> {
        let mut forgot = Ok(());
        if self.forgot.is_none_or(|at| at.elapsed() > FORGET_EVERY) {
            // Also after a failure: it is tried again in an hour, and backlogs are worked off meanwhile.
            self.forgot = Some(Instant::now());
            forgot = self.forget().await;
        }
        if self.road.give_up_opening(OPENING_AT_MOST) {
            self.gave_up = Some(Instant::now());
        }
        if self.road.is_deaf() {
            self.close().await;
        }
        let found = self.round().await?;
        forgot.context("what was republished long ago stays for now")?;
        Ok(match found {
            Found::Backlog => Next::In(WORK_EVERY),
            Found::Nothing => Next::Later,
        })
    }

    async fn round(&mut self) -> anyhow::Result<Found> {
        let turned = self.road.turned();
        let waits_elsewhere = self.waits_on_second_cluster().await;
        let client = self.pool.get().await?;
        let counts = store::count_backlog(&client, self.topic).await?;
        #[expect(clippy::cast_precision_loss, reason = "a count")]
        gauge!("producer_dead_letters", "topic" => self.topic.name()).set((counts.held + counts.republishing) as f64);
        if counts == store::Counts::default() && !waits_elsewhere {
            if let (true, Some(turned)) = (self.road.is_closed(), turned)
                && self.kafka_answers().await
            {
                self.road.reopen(&self.full_topic, turned)?;
            }
            return Ok(if self.road.is_closed() { Found::Backlog } else { Found::Nothing });
        }
        self.close().await;
        let answers = self.kafka_answers().await;
        // The last ones: with those who come now there would always be another one.
        if answers && counts.held <= MAX_BATCH && self.gave_up.is_none_or(is_long_ago) {
            self.road.begin_opening();
        }
        if counts.held > 0 && answers {
            let moved = store::update_republishing(&client, self.topic, MAX_BATCH).await?;
            relay::hint();
            info!(topic = %self.topic, moved, held = counts.held, "Kafka answers: dead letters go to their topic");
        }
        if counts.republishing > 0 {
            store::update_republished(&client, self.topic).await?;
        }
        Ok(Found::Backlog)
    }

    async fn kafka_answers(&mut self) -> bool {
        if self.answered.is_none_or(|at| at.elapsed() > ANSWER_BELIEVED) {
            self.answered = kafka::answers(&self.kafka).await.then(Instant::now);
        }
        self.answered.is_some()
    }

    /// A second cluster that can't be asked holds no backlog that could be waited for: what it holds is
    /// noticed when it answers.
    async fn waits_on_second_cluster(&self) -> bool {
        let Some(second) = &self.second else { return false };
        Arc::clone(second).unread().await.is_ok_and(|letters| letters > 0)
    }

    async fn close(&self) {
        if !self.road.is_closed() {
            let road = Arc::clone(&self.road);
            blocking(move || road.close()).await;
        }
    }

    async fn forget(&self) -> anyhow::Result<()> {
        let client = self.pool.get().await?;
        let letters = store::delete_republished(&client, self.topic, REMEMBERED_DAYS).await?;
        if letters > 0 {
            info!(letters, "forgot what was diverted and republished long ago");
        }
        Ok(())
    }
}

fn is_long_ago(gave_up: Instant) -> bool {
    gave_up.elapsed() > AFTER_GIVING_UP
}
