//! What is wrong, looked for again and again: sagas that don't move, sagas that don't match, dead letters, and
//! groups that fall behind.
//!
//! A round marks in one statement each which sagas are stuck or don't match, as far as everything is known
//! ([`watermark`]); then it asks why ([`cause`]), and brings the alarms up to date, one per cause. Nothing is
//! asked while a transaction is open. Several instances may go their rounds at the same time: they find the
//! same, and a cause alarms once by a unique key.

mod cause;
mod lag;
mod outbox;
mod watermark;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use common_events::Service;
use futures::{FutureExt, future::BoxFuture};
use messaging::Tx;
use serde::Deserialize;
use serde_json::json;
use service_runtime::{
    Pool, Tasks,
    museum::{self, Bug},
    tasks::{Next, Rounds},
};

use crate::{
    alarm::{AlarmKind, CauseClass, Raised},
    cluster::{Cluster, Standing},
    consumers::Observed,
    events,
    services::{Question, Services, readers},
    store::{
        self,
        alarms::{Notices, update_alarms},
        positions::list_positions,
        sagas::{self, Judged},
    },
};
use cause::Inquiry;
use lag::Lags;
use outbox::Outboxes;
pub use watermark::watermark;

/// What is known is believed this long after: records of one moment are written within it.
pub const GRACE: TimeDelta = TimeDelta::seconds(2);
/// How many sagas one round marks as stuck, so that whoever hears doesn't wait long for it; the next round goes on.
const MAX_MARKED: i64 = 5_000;
/// How many stuck sagas one round judges; those that were judged longest ago come first.
const MAX_JUDGED: i64 = 500;
/// How many mismatched sagas have an alarm of their own.
const MAX_MISMATCHED: i64 = 200;
/// How many keys an alarm names.
const KEYS_NAMED: i32 = 10;
/// A round every so many times within `STUCK_AFTER` …
const ROUNDS_PER_STUCK_AFTER: u32 = 10;
/// … but no more often, and no less.
const ROUND_EVERY: std::ops::RangeInclusive<Duration> = Duration::from_millis(250)..=Duration::from_secs(5);

/// Looks for what is wrong.
pub struct Detection {
    pool: Pool,
    cluster: Cluster,
    services: Services,
    stuck_after: TimeDelta,
    notices: Notices,
    observed: Observed,
    lags: Lags,
}

/// What a round found.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// Up to when everything is known; `None` when nothing could be judged.
    pub known_until: Option<DateTime<Utc>>,
    /// Sagas that are newly stuck.
    pub stuck: u64,
    /// Sagas that newly don't match.
    pub mismatched: u64,
    /// Stuck sagas whose cause was looked for.
    pub judged: u64,
}

impl Detection {
    /// Over this database; nothing is asked yet. A saga that doesn't move for `stuck_after` is stuck; so is an outbox,
    /// whose rows services tell of in what was `observed`.
    pub fn new(
        pool: Pool,
        cluster: Cluster,
        services: Services,
        stuck_after: TimeDelta,
        notices: Notices,
        observed: Observed,
    ) -> Self {
        Self { pool, cluster, services, stuck_after, notices, observed, lags: Lags::default() }
    }

    /// Goes its rounds as long as the process runs.
    pub fn go_rounds(self, tasks: &Tasks) {
        let stuck_after = self.stuck_after.to_std().unwrap_or_default();
        let every = (stuck_after / ROUNDS_PER_STUCK_AFTER).clamp(*ROUND_EVERY.start(), *ROUND_EVERY.end());
        tasks.repeat(Rounds::every("detection", every), self, |detection| {
            async move {
                let round = detection.round().await?;
                if round.stuck + round.mismatched > 0 {
                    tracing::info!(stuck = round.stuck, mismatched = round.mismatched, "sagas need somebody");
                }
                Ok(Next::Later)
            }
            .boxed()
        });
    }

    /// One round.
    ///
    /// # Errors
    /// When the database doesn't answer. When Kafka doesn't, no saga is judged and no lag is known: alarms of these
    /// stay as they are, the others go on.
    pub fn round(&mut self) -> BoxFuture<'_, anyhow::Result<Round>> {
        self.look_and_judge().boxed()
    }

    async fn look_and_judge(&mut self) -> anyhow::Result<Round> {
        let looked_at = Utc::now();
        let cluster = match self.cluster.look().await {
            Ok(cluster) => Some(cluster),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "Kafka doesn't say how groups stand: no saga is judged");
                None
            }
        };
        let read = list_positions(&self.pool.get().await?).await?;
        let mut known_until =
            cluster.as_ref().and_then(|cluster| watermark(events::topics(), cluster, &read, looked_at));
        if museum::is_back(Bug::AlarmAfterOwnAbsence) {
            known_until = Some(looked_at);
        }
        self.round_over(cluster.as_ref(), known_until).await
    }

    /// The same, given how the cluster stands, if that is known, and up to when everything is known.
    ///
    /// # Errors
    /// When the database doesn't answer.
    pub fn round_over<'a>(
        &'a mut self,
        cluster: Option<&'a Standing>,
        known_until: Option<DateTime<Utc>>,
    ) -> BoxFuture<'a, anyhow::Result<Round>> {
        self.judge_all(cluster, known_until).boxed()
    }

    async fn judge_all(
        &mut self,
        cluster: Option<&Standing>,
        known_until: Option<DateTime<Utc>>,
    ) -> anyhow::Result<Round> {
        let mut round = Round { known_until, ..Round::default() };
        let judged = match (cluster, known_until) {
            (Some(cluster), Some(known_until)) => self.judge_sagas(cluster, known_until - GRACE, &mut round).await,
            _ => Ok(()),
        };
        let dead = self.ask_for_dead_letters().await;
        let lags = match cluster {
            Some(cluster) => self.lags.look(cluster),
            None => self.lags.alarming(),
        };
        let outboxes = self.observed.latest().map(|look| outbox::waiting(&look, self.stuck_after));
        self.alarm_of_groups(dead, lags, outboxes).await?;
        judged.map(|()| round)
    }

    async fn judge_sagas(
        &self,
        cluster: &Standing,
        known_until: DateTime<Utc>,
        round: &mut Round,
    ) -> anyhow::Result<()> {
        (round.stuck, round.mismatched) = self.mark(known_until).await?;
        let mut inquiry = Inquiry::new(&self.pool, &self.services, cluster, known_until - self.stuck_after);
        let judged = judge(&self.pool, &mut inquiry).await?;
        round.judged = judged.len() as u64;
        self.alarm_of_sagas(&judged, inquiry).await
    }

    /// What doesn't move and what doesn't match, each in one statement.
    async fn mark(&self, known_until: DateTime<Utc>) -> anyhow::Result<(u64, u64)> {
        let mut client = self.pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        store::lock_projection(&tx).await?;
        let stuck = sagas::mark_stuck(&tx, known_until - self.stuck_after, MAX_MARKED).await?;
        let mismatched = sagas::mark_mismatched(&tx, known_until).await?;
        tx.commit().await?;
        Ok((stuck, mismatched))
    }

    async fn alarm_of_sagas(&self, judged: &[Judged], found: Inquiry<'_>) -> anyhow::Result<()> {
        let mut client = self.pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        store::lock_detection(&tx).await?;
        store::lock_projection(&tx).await?;
        sagas::update_judged(&tx, judged).await?;
        sagas::update_hop_times(&tx, &found.moved).await?;
        let suffering = sagas::list_suffering(&tx, KEYS_NAMED).await?;
        let named = |cause: Raised| {
            let sagas = suffering.get(&cause.cause)?;
            let mut detail = cause.detail;
            detail["sagas"] = json!(sagas.keys);
            Some(Raised { count: sagas.count, detail, ..cause })
        };
        let stuck: Vec<Raised> = found.raised.into_values().filter_map(named).collect();
        // What wasn't judged in this round is still there while a saga suffers from it, or one may that nobody judged.
        let are_causes_missing = sagas::is_any_unjudged(&tx).await?;
        let keep = |cause: &str| are_causes_missing || suffering.contains_key(cause);
        update_alarms(&tx, AlarmKind::Stuck, &stuck, keep, self.notices).await?;
        let mismatched = sagas::list_mismatched(&tx, MAX_MISMATCHED).await?;
        // When there are more than are listed, one that isn't may still be there.
        let are_all_listed = mismatched.len() < usize::try_from(MAX_MISMATCHED).unwrap_or(usize::MAX);
        let mismatched: Vec<Raised> = mismatched.into_iter().map(mismatch).collect();
        update_alarms(&tx, AlarmKind::Mismatched, &mismatched, |_| !are_all_listed, self.notices).await?;
        tx.commit().await?;
        Ok(())
    }

    async fn alarm_of_groups(
        &self,
        dead: DeadLetters,
        lags: Vec<Raised>,
        outboxes: Option<Outboxes>,
    ) -> anyhow::Result<()> {
        let mut client = self.pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        store::lock_detection(&tx).await?;
        let is_silent = |cause: &str| dead.silent.iter().any(|group| cause.starts_with(&format!("{group}/")));
        update_alarms(&tx, AlarmKind::DeadLetter, &dead.raised, is_silent, self.notices).await?;
        update_alarms(&tx, AlarmKind::Lag, &lags, |_| false, self.notices).await?;
        if let Some(Outboxes { raised, silent }) = outboxes {
            let is_silent = |cause: &str| silent.iter().any(|service| cause.starts_with(&format!("{service}/")));
            update_alarms(&tx, AlarmKind::Outbox, &raised, is_silent, self.notices).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Each service counts its own; of one that doesn't answer nothing is known, so nothing changes.
    async fn ask_for_dead_letters(&self) -> DeadLetters {
        let question = Question::get("/admin/dead-letters/groups").with("state", "DEAD");
        let groups: Vec<Service> = readers().filter(|group| self.services.knows(*group)).collect();
        let asked = groups.iter().map(async |group| (*group, self.services.ask(*group, &question).await));
        let mut dead = DeadLetters::default();
        for (group, answer) in futures::future::join_all(asked).await {
            let counted = answer.ok().and_then(|answer| serde_json::from_value::<Counted>(answer).ok());
            match counted {
                Some(counted) => dead.raised.extend(counted.items.into_iter().map(|count| count.raised(group))),
                None => dead.silent.push(group),
            }
        }
        dead
    }
}

async fn judge(pool: &Pool, inquiry: &mut Inquiry<'_>) -> anyhow::Result<Vec<Judged>> {
    let suspects = sagas::list_suspects(&pool.get().await?, MAX_JUDGED).await?;
    let mut judged = Vec::with_capacity(suspects.len());
    for suspect in &suspects {
        if inquiry.is_exhausted() {
            break;
        }
        judged.extend(inquiry.judge(suspect).await?);
    }
    Ok(judged)
}

fn mismatch(saga: sagas::Mismatched) -> Raised {
    Raised {
        kind: AlarmKind::Mismatched,
        class: CauseClass::Mismatch,
        title: format!("{}: {}", saga.saga, saga.mismatches.join(", ")),
        detail: json!({"sagas": [saga.key], "mismatches": saga.mismatches}),
        count: 1,
        cause: saga.saga,
    }
}

/// What the services say of their dead letters.
#[derive(Default)]
struct DeadLetters {
    raised: Vec<Raised>,
    silent: Vec<Service>,
}

#[derive(Deserialize)]
struct Counted {
    items: Vec<OfCause>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfCause {
    error_class: String,
    topic: String,
    count: i64,
}

impl OfCause {
    fn raised(self, group: Service) -> Raised {
        let Self { error_class, topic, count } = self;
        Raised {
            kind: AlarmKind::DeadLetter,
            cause: format!("{group}/{topic}/{error_class}"),
            class: CauseClass::DeadLetters,
            title: format!("{group} has set events of {topic} aside: {error_class}"),
            detail: json!({"group": group.name(), "topic": topic, "errorClass": error_class}),
            count,
        }
    }
}
