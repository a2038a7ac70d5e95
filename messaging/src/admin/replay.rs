//! Asking for a replay, and seeing how far it is. Sending is the [`runner`]'s.

pub(super) mod dry_run;
pub(super) mod runner;

use actix_web::{
    HttpResponse, get,
    http::{StatusCode, header},
    post,
    web::{Data, Path},
};
use chrono::{DateTime, Days, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_runtime::{
    Caller, Operator, Problem,
    http::{Id, Json, Page, Paging, Query, RequestTrace},
};
use tokio_postgres::Row;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Office,
    audit::{Act, Action, Asked},
    justification::Justification,
    selection::{self, Filter, Selection},
};
use crate::{partitions::MAX_AGE_DAYS, tx::Tx};

/// The default of records per second: slow enough to be watched.
const DEFAULT_RATE: i32 = 100;
const MAX_RATE: i32 = 10_000;
/// An event that every inbox forgets within so many days is not republished: it may be slow to come.
const ORIGIN_MARGIN_DAYS: u64 = 2;
/// One replay has at most so many records.
const MAX_SELECTED: i64 = 100_000;

/// Who handles the records again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ReplayDestination)]
pub(super) enum Destination {
    /// Only this consumer group, through its own topic.
    #[default]
    Group,
    /// Everybody who reads the record's first topic; those who had applied it notice, and do nothing.
    Origin,
}

impl Destination {
    const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Origin => "origin",
        }
    }
}

/// Which dead letters are to be handled again, and how.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskedReplay {
    /// These: 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Uuid>>, min_items = 1, max_items = 1_000)]
    ids: Option<Vec<Id>>,
    /// Or all that are like this now; `DEAD` ones when it names no state.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    #[serde(default)]
    to: Destination,
    /// Only says what would happen, record by record, and changes nothing.
    #[serde(default)]
    dry_run: bool,
    /// 1 to 10,000, default 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 10_000)]
    rate_per_second: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, value_type = Justification, inline)]
    reason: Option<String>,
}

impl Asked for AskedReplay {
    fn action(&self) -> Action {
        if self.dry_run { Action::DryRun } else { Action::Replay }
    }

    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

impl AskedReplay {
    fn rate(&self) -> Result<i32, Problem> {
        let rate = self.rate_per_second.unwrap_or(DEFAULT_RATE);
        if (1..=MAX_RATE).contains(&rate) {
            Ok(rate)
        } else {
            Err(Problem::invalid_field("ratePerSecond", format!("1 to {MAX_RATE} records per second are expected.")))
        }
    }
}

/// How a replay stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum ReplayState {
    Running,
    /// Nothing of it is on its way any more.
    Done,
    /// It sends no more; what it has sent is followed to its end.
    Halted,
}

impl ReplayState {
    fn of(name: &str) -> Option<Self> {
        match name {
            "RUNNING" => Some(Self::Running),
            "DONE" => Some(Self::Done),
            "HALTED" => Some(Self::Halted),
            _ => None,
        }
    }
}

/// How far a replay is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replay {
    id: Uuid,
    state: ReplayState,
    #[schema(value_type = Destination)]
    to: String,
    /// The ids or the filter, as they were asked for.
    #[schema(value_type = Object)]
    selection: serde_json::Value,
    rate_per_second: i32,
    reason: String,
    asked_by: String,
    asked_at: DateTime<Utc>,
    /// Since when nothing of it is on its way any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<DateTime<Utc>>,
    /// Why it halted.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    /// Records it is about: those that wait, were skipped, are on their way, were applied, died again.
    total: i32,
    /// Not sent yet; of a halted replay they stay dead letters.
    waiting: i32,
    /// Not sent: applied or under way already, or discarded meanwhile.
    skipped: i32,
    /// Sent, and not heard of again yet.
    on_the_way: i32,
    applied: i32,
    dead_again: i32,
}

const COLUMNS: &str = "id, state, destination, selection, rate_per_second, reason, asked_by, asked_at, ended_at, note,
    selected, sent, skipped, applied, dead_again";

impl Replay {
    /// Of [`COLUMNS`].
    fn read(row: &Row) -> Self {
        let (total, sent, skipped): (i32, i32, i32) = (row.get(10), row.get(11), row.get(12));
        let (applied, dead_again): (i32, i32) = (row.get(13), row.get(14));
        Self {
            id: row.get(0),
            state: ReplayState::of(row.get(1)).expect("the table holds no others"),
            to: row.get(2),
            selection: row.get(3),
            rate_per_second: row.get(4),
            reason: row.get(5),
            asked_by: row.get(6),
            asked_at: row.get(7),
            ended_at: row.get(8),
            note: row.get(9),
            total,
            waiting: total - sent - skipped,
            skipped,
            on_the_way: sent - applied - dead_again,
            applied,
            dead_again,
        }
    }
}

/// Has dead letters handled again. A dry run says for each what would come of it, and changes nothing.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    request_body = AskedReplay,
    responses(
        (status = 200, description = "What a replay would do", body = dry_run::Prophecy),
        (status = 202, description = "It is under way", body = Replay,
         headers(("Location" = String, description = "How far it is"))),
        (status = 404, description = "`unknown-dead-letter`: an id is nobody's; `nothing-matches`: the filter fits \
            none"),
        (status = 409, description = "Some of them can't be replayed that way, and none is. `discarded`: closed for \
            good; `payload-purged`: there is nothing to send; to the origin also `topic-not-remembered`, `too-old`, \
            `unreadable`, `still-parked`"),
        (status = 422, description = "`too-many`: the filter fits more than 100,000"),
    ),
)]
#[post("/admin/dead-letters/replay")]
pub(super) async fn replay_dead_letters(
    caller: Caller,
    trace: RequestTrace,
    office: Data<Office>,
    asked: Result<Json<AskedReplay>, Problem>,
) -> Result<HttpResponse, Problem> {
    let does = async |act: &Act, asked: AskedReplay| {
        let reason = Justification::said(asked.reason.as_deref())?;
        let rate = asked.rate()?;
        let selection = Selection::of(asked.ids.as_deref(), asked.filter.as_ref())?;
        if asked.dry_run {
            let foretold = dry_run::foretell(&office, act, &selection, asked.to).await?;
            return Ok(HttpResponse::Ok().json(foretold));
        }
        let wanted = WantedReplay { selection, to: asked.to, rate, reason };
        let replay = wanted.begin(&office, act).await?;
        office.wake_runner();
        let location = format!("/admin/replays/{}", replay.id);
        Ok(HttpResponse::Accepted().insert_header((header::LOCATION, location)).json(replay))
    };
    office.audited((caller, trace), Action::Replay, asked, does).await
}

struct WantedReplay {
    selection: Selection,
    to: Destination,
    rate: i32,
    reason: String,
}

impl WantedReplay {
    /// The replay and its records are written down; from here on it can't get lost.
    async fn begin(&self, office: &Office, act: &Act) -> Result<Replay, Problem> {
        let mut client = office.pool().get().await?;
        let tx = Tx::begin(&mut client).await?;
        self.selection.check_ids(&tx).await?;
        let selected = check(&tx, &self.selection, self.to).await?;
        let id = tx.new_id();
        self.insert(&tx, id, selected, act).await?;
        let replay = self.insert_items(&tx, id).await?;
        act.done(&tx, json!({ "replayId": id, "records": replay.total })).await?;
        tx.commit().await?;
        Ok(replay)
    }

    async fn insert(&self, tx: &Tx<'_>, id: Uuid, selected: i32, act: &Act) -> Result<(), Problem> {
        let selection = match &self.selection {
            Selection::Ids(ids) => json!({ "ids": ids }),
            Selection::Filter(filter) => json!({ "filter": filter }),
        };
        tx.execute(
            "INSERT INTO replays (id, asked_at, destination, selection, rate_per_second, reason, asked_by, selected)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            &[&id, &tx.now(), &self.to.name(), &selection, &self.rate, &self.reason, &act.who, &selected],
        )
        .await?;
        Ok(())
    }

    /// In the order in which they lay on their topics, so that those of one key keep theirs. Some may have come
    /// or gone since they were checked: what is written here counts.
    async fn insert_items(&self, tx: &Tx<'_>, id: Uuid) -> Result<Replay, Problem> {
        let mut condition = self.selection.condition();
        let replay = condition.param(id);
        let most = condition.param(MAX_SELECTED);
        let sql = format!(
            "INSERT INTO replay_items (replay_id, position, dead_letter_id)
             SELECT {replay}::uuid, row_number() OVER (ORDER BY origin_topic, origin_partition, origin_offset), id
             FROM dead_letters WHERE {} ORDER BY origin_topic, origin_partition, origin_offset LIMIT {most}",
            condition.sql()
        );
        let inserted = i32::try_from(tx.execute(&sql, &condition.params()).await?).expect("at most MAX_SELECTED");
        if inserted == 0 {
            return Err(selection::nothing_matches());
        }
        let sql = format!("UPDATE replays SET selected = $2 WHERE id = $1 RETURNING {COLUMNS}");
        Ok(Replay::read(&tx.query_one(&sql, &[&id, &inserted]).await?))
    }
}

/// How many they are, if all of them can go there. What was replayed before is skipped later, one by one: it
/// makes no replay wrong.
async fn check(tx: &Tx<'_>, selection: &Selection, to: Destination) -> Result<i32, Problem> {
    let mut condition = selection.condition();
    let obstacle = obstacle(to, |param| match param {
        Param::Topics(topics) => condition.param(topics),
        Param::Since(since) => condition.param(since),
    });
    let sql = format!(
        "SELECT obstacle, count(*), min(id::text) FROM (
             SELECT id, {obstacle} AS obstacle FROM dead_letters WHERE {}
         ) AS chosen GROUP BY obstacle ORDER BY obstacle NULLS LAST",
        condition.sql()
    );
    let rows = tx.query(&sql, &condition.params()).await?;
    let count: i64 = rows.iter().map(|row| row.get::<_, i64>(1)).sum();
    if count == 0 {
        return Err(selection::nothing_matches());
    }
    for row in &rows {
        let obstacle: Option<&str> = row.get(0);
        if let Some(obstacle) = obstacle.and_then(Obstacle::of) {
            let (count, id): (i64, &str) = (row.get(1), row.get(2));
            return Err(obstacle.problem(count, id));
        }
    }
    if count > MAX_SELECTED {
        let detail = format!("{count} dead letters are like that, one replay takes {MAX_SELECTED}.");
        return Err(Problem::unprocessable("too-many", detail).of_field("filter"));
    }
    Ok(i32::try_from(count).expect("at most MAX_SELECTED"))
}

/// Why a dead letter can't be replayed, whatever its handler would say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    Discarded,
    Purged,
    /// To the origin only: the inbox doesn't remember the events of that topic.
    TopicNotRemembered,
    /// To the origin only: an event that nobody can know by its id.
    Unreadable,
    /// To the origin only: the inboxes forget it soon, or have forgotten it.
    TooOld,
    /// To the origin only: its followers wait for it.
    Parked,
}

impl Obstacle {
    const ALL: [Self; 6] =
        [Self::Discarded, Self::Purged, Self::TopicNotRemembered, Self::Unreadable, Self::TooOld, Self::Parked];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Discarded => "discarded",
            Self::Purged => "payload-purged",
            Self::TopicNotRemembered => "topic-not-remembered",
            Self::Unreadable => "unreadable",
            Self::TooOld => "too-old",
            Self::Parked => "still-parked",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|obstacle| obstacle.name() == name)
    }

    pub(super) const fn detail(self) -> &'static str {
        match self {
            Self::Discarded => "It was closed for good.",
            Self::Purged => "Its payload was purged.",
            Self::TopicNotRemembered => {
                "Who reads that topic (compacted, or kept for ever) keeps no ids of it; replay it to the group."
            }
            Self::Unreadable => "No reader would know it again by its id; replay it to the group.",
            Self::TooOld => "It is older than the inboxes remember, or soon will be.",
            Self::Parked => "It is parked, and others wait for it; replay it to the group.",
        }
    }

    fn problem(self, count: i64, id: &str) -> Problem {
        let detail = format!("{count} of them, {id} among them: {}", self.detail());
        Problem::conflict(self.name(), detail)
    }
}

/// What [`obstacle`] asks for a parameter's place with.
pub(super) enum Param {
    Topics(Vec<&'static str>),
    Since(chrono::NaiveDate),
}

/// SQL that says what is in the way of a row of `dead_letters`, null for nothing.
pub(super) fn obstacle(to: Destination, mut param: impl FnMut(Param) -> String) -> String {
    let always = "WHEN state = 'DISCARDED' THEN 'discarded' WHEN purged_at IS NOT NULL THEN 'payload-purged'";
    match to {
        Destination::Group => format!("CASE {always} END"),
        Destination::Origin => {
            let topics = param(Param::Topics(selection::remembered_topics()));
            let since = param(Param::Since(Utc::now().date_naive() - Days::new(MAX_AGE_DAYS - ORIGIN_MARGIN_DAYS)));
            format!(
                "CASE {always}
                      WHEN origin_topic <> ALL({topics}::text[]) THEN 'topic-not-remembered'
                      WHEN day IS NULL OR event_id IS NULL THEN 'unreadable'
                      WHEN day < {since}::date THEN 'too-old'
                      WHEN state = 'PARKED' THEN 'still-parked' END"
            )
        }
    }
}

/// The replays of this service, the latest first.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(Paging),
    responses((status = 200, body = Page<Replay>)),
)]
#[get("/admin/replays")]
pub(super) async fn list_replays(
    _: Operator,
    office: Data<Office>,
    paging: Query<Paging>,
) -> Result<Json<Page<Replay>>, Problem> {
    let Paging { limit, cursor } = paging.0;
    let before: Uuid = cursor.map_or(Ok(Uuid::max()), |cursor| cursor.position())?;
    let client = office.pool().get().await?;
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id < $1 ORDER BY id DESC LIMIT $2");
    let rows = client.query(&client.prepare_cached(&sql).await?, &[&before, &limit.and_one()]).await?;
    Ok(Json(Page::of(rows.iter().map(Replay::read).collect(), limit, |last: &Replay| last.id)))
}

/// How far a replay is.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(("id" = Uuid, Path)),
    responses((status = 200, body = Replay)),
)]
#[get("/admin/replays/{id}")]
pub(super) async fn find_replay(_: Operator, office: Data<Office>, id: Path<Id>) -> Result<Json<Replay>, Problem> {
    let client = office.pool().get().await?;
    let sql = format!("SELECT {COLUMNS} FROM replays WHERE id = $1");
    let row = client.query_opt(&client.prepare_cached(&sql).await?, &[&id.0]).await?;
    row.map(|row| Json(Replay::read(&row))).ok_or_else(|| Problem::not_found("replay"))
}

/// Why a replay is to send no more.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskedHalt {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, value_type = Justification, inline)]
    reason: Option<String>,
}

impl Asked for AskedHalt {
    fn action(&self) -> Action {
        Action::ReplayHalted
    }

    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// Has a replay send no more. What it has sent is followed to its end; the rest stay dead letters.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    params(("id" = Uuid, Path)),
    request_body = AskedHalt,
    responses(
        (status = 200, body = Replay),
        (status = 409, description = "`replay-ended`: it ended before"),
    ),
)]
#[post("/admin/replays/{id}/halt")]
pub(super) async fn halt_replay(
    caller: Caller,
    trace: RequestTrace,
    office: Data<Office>,
    id: Path<Id>,
    asked: Result<Json<AskedHalt>, Problem>,
) -> Result<Json<Replay>, Problem> {
    let does = async |act: &Act, asked: AskedHalt| {
        let reason = Justification::said(asked.reason.as_deref())?;
        let mut client = office.pool().get().await?;
        let tx = Tx::begin(&mut client).await?;
        let state = tx.query_opt("SELECT state FROM replays WHERE id = $1 FOR UPDATE", &[&id.0]).await?;
        match state.as_ref().map(|row| row.get(0)) {
            None => return Err(Problem::not_found("replay")),
            Some("RUNNING") => {}
            Some(ended) => {
                let detail = format!("It is {ended} already.");
                return Err(Problem::new(StatusCode::CONFLICT, "replay-ended", detail));
            }
        }
        let sql = format!("UPDATE replays SET state = 'HALTED', note = $2 WHERE id = $1 RETURNING {COLUMNS}");
        let replay = Replay::read(&tx.query_one(&sql, &[&id.0, &reason]).await?);
        act.done(&tx, json!({ "replayId": id.0, "waiting": replay.waiting })).await?;
        tx.commit().await?;
        office.wake_runner();
        Ok(Json(replay))
    };
    office.audited((caller, trace), Action::ReplayHalted, asked, does).await
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<AskedReplay>("/properties/ids/maxItems", selection::MAX_IDS);
        assert_limit::<AskedReplay>("/properties/ratePerSecond/maximum", MAX_RATE);
        assert_limit::<AskedReplay>("/properties/reason/maxLength", Justification::MAX_CHARS);
        assert_limit::<AskedHalt>("/properties/reason/maxLength", Justification::MAX_CHARS);
    }
}
