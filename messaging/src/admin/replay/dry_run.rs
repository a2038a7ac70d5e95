//! What a replay would do, record by record: each handler works in a transaction that is rolled back.
//!
//! Records of one transaction see what those before them would have done, as they would in a replay. Locks
//! are asked for briefly and held briefly; remote calls aren't made.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use chrono::NaiveDate;
use common_events::ReasonCode;
use serde::Serialize;
use serde_json::json;
use service_runtime::{Problem, chain};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Destination, Obstacle, Param, obstacle,
    runner::{BYTES, Closed, Payload, Skip, Standing},
};
use crate::{
    admin::{
        Office,
        audit::Act,
        selection::{self, Selection},
        shown::{Encoding, shown},
    },
    dead_letters::State,
    delivery::{Effects, NEWER_VERSION, OUT_OF_TIME, Rehearsed},
    inbox,
    record::Record,
    tx::Tx,
};

/// One dry run looks at so many records at most …
const MAX_LOOKED_AT: i64 = 1_000;
/// … and for so long.
const MAX_TIME: Duration = Duration::from_secs(20);
/// One transaction holds its locks for so many records, and about so long.
const MAX_RECORDS_HELD: usize = 100;
const MAX_TIME_HELD: Duration = Duration::from_secs(2);
/// Who works for real comes first: a rehearsal waits for a lock no longer than this, and for a statement.
const LIMITS: &str = "SET LOCAL lock_timeout = '300ms'; SET LOCAL statement_timeout = '2s'";

/// What a replay would do.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = DryRun)]
pub(in crate::admin) struct Prophecy {
    /// Always true.
    dry_run: bool,
    /// How many dead letters it would be about.
    total: i64,
    /// How many of them were looked at: at most 1000, and what can be looked at in 20 seconds.
    looked_at: usize,
    /// How many would end how.
    verdicts: BTreeMap<Verdict, usize>,
    /// In the order in which they would be sent.
    items: Vec<Foretold>,
}

/// How a record would end. The first four are applied, the next four sent and dead again, the rest not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
#[schema(as = ReplayVerdict)]
enum Verdict {
    /// It would be handled, with effects.
    WillApply,
    /// It would be handled, and change nothing.
    ChangesNothing,
    /// It would be handled, and nothing come of it, as its order was cancelled.
    OrderAlreadyCancelled,
    /// The same for another reason.
    CameTooLate,
    /// The handler would fail.
    WillFail,
    /// It is no event of its topic.
    CannotBeDecoded,
    /// A later release reads it: deploy that first.
    NewerVersion,
    /// It is older than events are remembered, or from the future.
    TooOld,
    /// It is applied.
    AlreadyApplied,
    /// It is on its way already.
    UnderWay,
    Discarded,
    PayloadPurged,
    /// No topic takes it as it is.
    TooLarge,
    /// `to:"origin"` isn't possible.
    CannotGoToOrigin,
    /// Somebody held a lock that its handler needs: ask again.
    Busy,
}

/// What would come of a dead letter.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ReplayForetold)]
struct Foretold {
    id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    event_id: Option<Uuid>,
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key_encoding: Option<Encoding>,
    #[serde(flatten)]
    ending: Ending,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Ending {
    verdict: Verdict,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// What it would publish.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<ForetoldAnswer>,
    /// How many rows it would write, by table.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    changes: BTreeMap<String, i64>,
}

/// An event that would be published.
#[derive(Debug, Serialize, ToSchema)]
struct ForetoldAnswer {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ReasonCode>,
}

impl Ending {
    fn of(verdict: Verdict, detail: impl Into<Option<String>>) -> Self {
        Self { verdict, detail: detail.into(), answers: Vec::new(), changes: BTreeMap::new() }
    }

    /// Of a record that would not be sent.
    fn of_skip(skip: Skip) -> Self {
        let verdict = match skip {
            Skip::AlreadyApplied => Verdict::AlreadyApplied,
            Skip::UnderWay => Verdict::UnderWay,
            Skip::Discarded => Verdict::Discarded,
            Skip::Purged => Verdict::PayloadPurged,
            Skip::Unreadable | Skip::StillParked => Verdict::CannotGoToOrigin,
            Skip::TooOld => Verdict::TooOld,
            Skip::TooLarge => Verdict::TooLarge,
        };
        Self::of(verdict, None)
    }

    fn of_obstacle(obstacle: Obstacle) -> Self {
        let verdict = match obstacle {
            Obstacle::Discarded => Verdict::Discarded,
            Obstacle::Purged => Verdict::PayloadPurged,
            Obstacle::TopicNotRemembered | Obstacle::Unreadable | Obstacle::TooOld | Obstacle::Parked => {
                Verdict::CannotGoToOrigin
            }
        };
        Self::of(verdict, obstacle.detail().to_owned())
    }

    fn of_rehearsal(rehearsed: Rehearsed) -> Self {
        match rehearsed {
            Rehearsed::Refused { class: OUT_OF_TIME, message } => Self::of(Verdict::TooOld, message),
            Rehearsed::Refused { class: NEWER_VERSION, message } => Self::of(Verdict::NewerVersion, message),
            Rehearsed::Refused { message, .. } => Self::of(Verdict::CannotBeDecoded, message),
            Rehearsed::Failed(failure) if failure.is_time_limit() || failure.is_conflict() => {
                Self::of(Verdict::Busy, chain(&failure))
            }
            Rehearsed::Failed(failure) => {
                Self::of(Verdict::WillFail, format!("{}: {}", failure.class(), chain(&failure)))
            }
            Rehearsed::Remote => {
                Self::of(Verdict::WillApply, "If the remote system takes it: it isn't called now.".to_owned())
            }
            Rehearsed::Handled(effects) => Self::of_effects(effects),
        }
    }

    fn of_effects(Effects { answers, changes, too_late }: Effects) -> Self {
        let verdict = match too_late {
            Some(ReasonCode::ORDER_CANCELLED) => Verdict::OrderAlreadyCancelled,
            Some(_) => Verdict::CameTooLate,
            None if answers.is_empty() && changes.is_empty() => Verdict::ChangesNothing,
            None => Verdict::WillApply,
        };
        let answers = answers.into_iter().map(|(kind, reason)| ForetoldAnswer { kind, reason }).collect();
        let detail = too_late.map(|reason| reason.to_string());
        Self { verdict, detail, answers, changes }
    }
}

/// A dead letter that is asked about.
struct Asked {
    id: Uuid,
    event_id: Option<Uuid>,
    topic: String,
    key: Option<Vec<u8>>,
    /// Why it would not be sent, if that is known without its handler.
    ending: Option<Ending>,
}

/// Says what a replay would do. Only the audit log learns of it.
pub(super) async fn foretell(
    office: &Office,
    act: &Act,
    selection: &Selection,
    to: Destination,
) -> Result<Prophecy, Problem> {
    let (total, asked) = find(office, selection, to).await?;
    let items = rehearse(office, asked).await?;
    let mut verdicts = BTreeMap::new();
    for item in &items {
        *verdicts.entry(item.ending.verdict).or_default() += 1;
    }
    let foretold = Prophecy { dry_run: true, total, looked_at: items.len(), verdicts, items };
    let mut client = office.pool().get().await?;
    let tx = Tx::begin(&mut client).await?;
    act.done(&tx, json!({ "total": total, "lookedAt": foretold.looked_at, "verdicts": foretold.verdicts })).await?;
    tx.commit().await?;
    Ok(foretold)
}

async fn find(office: &Office, selection: &Selection, to: Destination) -> Result<(i64, Vec<Asked>), Problem> {
    let mut client = office.pool().get().await?;
    let tx = Tx::begin(&mut client).await?;
    selection.check_ids(&tx).await?;
    let mut condition = selection.condition();
    let count = format!("SELECT count(*) FROM dead_letters WHERE {}", condition.sql());
    let total: i64 = tx.query_one(&count, &condition.params()).await?.get(0);
    if total == 0 {
        return Err(selection::nothing_matches());
    }
    let obstacle = obstacle(to, |param| match param {
        Param::Topics(topics) => condition.param(topics),
        Param::Since(since) => condition.param(since),
    });
    let limit = condition.param(MAX_LOOKED_AT);
    let sql = format!(
        "SELECT letter.id, letter.event_id, letter.origin_topic, letter.key, letter.state, letter.is_closed,
             letter.is_purged, letter.day, inbox.state, letter.obstacle, letter.bytes
         FROM (
             SELECT id, event_id, origin_topic, origin_partition, origin_offset, key, state, day,
                 closed_at IS NOT NULL AS is_closed, purged_at IS NOT NULL AS is_purged, {obstacle} AS obstacle,
                 {BYTES} AS bytes
             FROM dead_letters WHERE {} ORDER BY origin_topic, origin_partition, origin_offset LIMIT {limit}
         ) AS letter
         LEFT JOIN inbox ON inbox.event_id = letter.event_id AND inbox.day = letter.day
         ORDER BY letter.origin_topic, letter.origin_partition, letter.origin_offset",
        condition.sql()
    );
    let rows = tx.query(&sql, &condition.params()).await?;
    let asked = rows.iter().map(|row| read(row, to)).collect();
    tx.rollback().await?;
    Ok((total, asked))
}

fn read(row: &Row, to: Destination) -> Asked {
    let standing = Standing {
        state: State::of(row.get(4)).expect("the table holds no others"),
        is_closed: if row.get(5) { Closed::Yes } else { Closed::No },
        payload: if row.get(6) { Payload::Purged } else { Payload::There },
        day: row.get(7),
        inbox: row.get::<_, Option<&str>>(8).and_then(inbox::State::of),
        bytes: row.get(10),
    };
    let obstacle = row.get::<_, Option<&str>>(9).and_then(Obstacle::of).map(Ending::of_obstacle);
    Asked {
        id: row.get(0),
        event_id: row.get(1),
        topic: row.get(2),
        key: row.get(3),
        ending: standing.skip(to).map(Ending::of_skip).or(obstacle),
    }
}

async fn rehearse(office: &Office, asked: Vec<Asked>) -> Result<Vec<Foretold>, Problem> {
    let today = office.today().await?;
    let begun = Instant::now();
    let mut foretold = Vec::with_capacity(asked.len());
    let mut left = asked.into_iter().peekable();
    while left.peek().is_some() && begun.elapsed() < MAX_TIME {
        let mut client = office.pool().get().await?;
        let tx = Tx::begin(&mut client).await?;
        tx.transaction().batch_execute(LIMITS).await?;
        let held = Instant::now();
        for asked in left.by_ref().take(MAX_RECORDS_HELD) {
            let Asked { id, event_id, topic, key, ending } = asked;
            let ending = match ending {
                Some(ending) => ending,
                None => rehearse_one(office, &tx, id, today).await?,
            };
            let (key, key_encoding) = key.map(shown).unzip();
            foretold.push(Foretold { id, event_id, topic, key, key_encoding, ending });
            if held.elapsed() > MAX_TIME_HELD {
                break;
            }
        }
        tx.rollback().await?;
    }
    Ok(foretold)
}

async fn rehearse_one(
    office: &Office,
    tx: &Tx<'_>,
    id: Uuid,
    today: NaiveDate,
) -> Result<Ending, tokio_postgres::Error> {
    let row = tx
        .query_opt(
            "SELECT origin_topic, origin_partition, origin_offset, origin_timestamp, key, payload,
                 header_names, header_values
             FROM dead_letters WHERE id = $1",
            &[&id],
        )
        .await?;
    // A parked one that is applied in this moment is no dead letter any more.
    let Some(row) = row else { return Ok(Ending::of_skip(Skip::AlreadyApplied)) };
    let names: Vec<String> = row.get(6);
    let record = Record {
        topic: row.get(0),
        partition: row.get(1),
        offset: row.get(2),
        timestamp: row.get(3),
        key: row.get(4),
        value: row.get(5),
        headers: names.into_iter().zip(row.get::<_, Vec<Vec<u8>>>(7)).collect(),
    };
    Ok(Ending::of_rehearsal(office.group().rehearse(tx, &record, today).await?))
}
