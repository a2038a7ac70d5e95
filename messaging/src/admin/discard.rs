//! Closing dead letters for good. The fact stays for audit; the payload may be taken away.

use actix_web::{post, web::Data};
use chrono::NaiveDate;
use common_events::EventId;
use serde::{Deserialize, Serialize};
use serde_json::json;
use service_runtime::{
    Caller, Problem,
    http::{Id, Json, RequestTrace},
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::{
    Office,
    audit::{Act, Action, Asked},
    justification::Justification,
    selection::{self, Filter, Selection},
};
use crate::{dead_letters::State, failure::Failure, subscriptions::Subscriptions, tx::Tx, waiting};

/// All that one call discards is one transaction.
const MAX_DISCARDED: i64 = 10_000;

/// Which dead letters are to be closed.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct AskedDiscard {
    /// These: 1 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Uuid>>, min_items = 1, max_items = 1_000)]
    ids: Option<Vec<Id>>,
    /// Or all that are like this now; `DEAD` ones when it names no state.
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<Filter>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = true, value_type = Justification, inline)]
    reason: Option<String>,
    /// Takes the payload away, too, of those that were discarded before as well.
    #[serde(default)]
    purge_payload: bool,
}

impl Asked for AskedDiscard {
    fn action(&self) -> Action {
        Action::Discard
    }

    fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }
}

/// What was closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Discarded)]
pub(super) struct Closed {
    /// Closed now.
    discarded: usize,
    /// Closed before.
    discarded_before: usize,
    /// Their payload was taken away now.
    purged: usize,
}

/// Closes dead letters for good: their events are never handled here.
#[utoipa::path(
    tag = "admin",
    security(("identity" = ["operator"])),
    request_body = AskedDiscard,
    responses(
        (status = 200, body = Closed),
        (status = 404, description = "`unknown-dead-letter`: an id is nobody's; `nothing-matches`: the filter fits \
            none"),
        (status = 409, description = "`under-way`: one is being replayed; `already-applied`: one was replayed, and is \
            applied; `cannot-be-discarded`: who is owed an answer can't be given one. None is discarded"),
        (status = 422, description = "`too-many`: the filter fits more than 10,000"),
    ),
)]
#[post("/admin/dead-letters/discard")]
pub(super) async fn discard_dead_letters(
    caller: Caller,
    trace: RequestTrace,
    office: Data<Office>,
    asked: Result<Json<AskedDiscard>, Problem>,
) -> Result<Json<Closed>, Problem> {
    let does = async |act: &Act, asked: AskedDiscard| {
        Justification::said(asked.reason.as_deref())?;
        let selection = Selection::of(asked.ids.as_deref(), asked.filter.as_ref())?;
        let payload = if asked.purge_payload { Payload::Purge } else { Payload::Keep };
        let closed = discard(&office, act, &selection, payload).await?;
        office.group().released.notify_one();
        Ok(Json(closed))
    };
    office.audited((caller, trace), Action::Discard, asked, does).await
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Payload {
    Keep,
    Purge,
}

/// One that is to be closed.
struct Closing {
    id: Uuid,
    event: Option<(NaiveDate, EventId)>,
}

async fn discard(office: &Office, act: &Act, selection: &Selection, payload: Payload) -> Result<Closed, Problem> {
    let mut client = office.pool().get().await?;
    let tx = Tx::begin(&mut client).await?;
    selection.check_ids(&tx).await?;
    let (closing, before) = lock(&tx, selection).await?;
    let events: Vec<(NaiveDate, EventId)> = closing.iter().filter_map(|letter| letter.event).collect();
    let ids: Vec<Uuid> = closing.iter().map(|letter| letter.id).collect();
    tell_handlers(&tx, office.group().subscriptions(), &ids).await?;
    update_inbox(&tx, &events).await?;
    waiting::release(&tx, &events).await?;
    tx.execute(
        "UPDATE dead_letters SET state = 'DISCARDED', closed_at = clock_timestamp(), due_at = NULL,
             alarm_due_at = NULL WHERE id = ANY($1)",
        &[&ids],
    )
    .await?;
    let purged = match payload {
        Payload::Keep => 0,
        Payload::Purge => purge(&tx, ids.iter().chain(&before).copied().collect()).await?,
    };
    let closed = Closed { discarded: ids.len(), discarded_before: before.len(), purged };
    act.done(&tx, json!(closed)).await?;
    tx.commit().await?;
    Ok(closed)
}

/// Locks them, events before letters as everybody does. Returns those to close, and those that were closed
/// before.
async fn lock(tx: &Tx<'_>, selection: &Selection) -> Result<(Vec<Closing>, Vec<Uuid>), Problem> {
    let mut condition = selection.condition();
    let limit = condition.param(MAX_DISCARDED + 1);
    let sql = format!("SELECT id FROM dead_letters WHERE {} LIMIT {limit}", condition.sql());
    let ids: Vec<Uuid> = tx.query(&sql, &condition.params()).await?.iter().map(|row| row.get(0)).collect();
    if ids.is_empty() {
        return Err(selection::nothing_matches());
    }
    if i64::try_from(ids.len()).unwrap_or(i64::MAX) > MAX_DISCARDED {
        let detail = format!("More than {MAX_DISCARDED} dead letters are like that.");
        return Err(Problem::unprocessable("too-many", detail).of_field("filter"));
    }
    tx.query(
        "SELECT FROM inbox JOIN dead_letters letter ON inbox.event_id = letter.event_id AND inbox.day = letter.day
         WHERE letter.id = ANY($1) ORDER BY inbox.event_id FOR UPDATE OF inbox",
        &[&ids],
    )
    .await?;
    let rows = tx
        .query(
            "SELECT id, state, closed_at IS NOT NULL, day, event_id FROM dead_letters
             WHERE id = ANY($1) ORDER BY id FOR UPDATE",
            &[&ids],
        )
        .await?;
    let (mut closing, mut before) = (Vec::new(), Vec::new());
    for row in &rows {
        let (id, is_closed): (Uuid, bool) = (row.get(0), row.get(2));
        match State::of(row.get(1)).expect("the table holds no others") {
            State::Discarded => before.push(id),
            State::Replayed if is_closed => {
                return Err(refused("already-applied", id, "was replayed, and is applied"));
            }
            State::Replayed => return Err(refused("under-way", id, "is being replayed")),
            State::Dead | State::Parked => {
                let event = row.get::<_, Option<NaiveDate>>(3).zip(row.get::<_, Option<Uuid>>(4).map(EventId::new));
                closing.push(Closing { id, event });
            }
        }
    }
    Ok((closing, before))
}

fn refused(code: &'static str, id: Uuid, why: &str) -> Problem {
    Problem::conflict(code, format!("{id} {why}; none is discarded.")).of_field("ids")
}

/// Services that owe somebody an answer about such an event give it now: it will never be handled.
async fn tell_handlers(tx: &Tx<'_>, subscriptions: &Subscriptions, ids: &[Uuid]) -> Result<(), Problem> {
    for topic in subscriptions.topics_told_of_discards() {
        let rows = tx
            .query(
                "SELECT payload FROM dead_letters
                 WHERE id = ANY($1) AND origin_topic = $2 AND day IS NOT NULL AND payload IS NOT NULL
                 ORDER BY origin_partition, origin_offset",
                &[&ids, &topic],
            )
            .await?;
        let payloads = rows.iter().map(|row| row.get::<_, &[u8]>(0));
        subscriptions.tell_discarded(tx, topic, payloads).await.map_err(|failure| match failure {
            Failure::Unprocessable(why) => Problem::conflict("cannot-be-discarded", format!("{why}.")),
            Failure::Transient(_) => Problem::internal(failure),
        })?;
    }
    Ok(())
}

async fn update_inbox(tx: &Tx<'_>, events: &[(NaiveDate, EventId)]) -> Result<(), tokio_postgres::Error> {
    let (days, ids): (Vec<NaiveDate>, Vec<Uuid>) = events.iter().map(|(day, id)| (*day, id.uuid())).unzip();
    tx.execute(
        "UPDATE inbox SET state = 'discarded', tier = NULL, due_at = NULL, hop = hop + 1,
             changed_at = clock_timestamp()
         FROM unnest($1::date[], $2::uuid[]) AS discarded (day, event_id)
         WHERE inbox.event_id = discarded.event_id AND inbox.day = discarded.day",
        &[&days, &ids],
    )
    .await?;
    Ok(())
}

async fn purge(tx: &Tx<'_>, ids: Vec<Uuid>) -> Result<usize, tokio_postgres::Error> {
    let purged = tx
        .execute(
            "UPDATE dead_letters SET payload = NULL, purged_at = clock_timestamp()
             WHERE id = ANY($1) AND purged_at IS NULL AND payload IS NOT NULL",
            &[&ids],
        )
        .await?;
    Ok(usize::try_from(purged).expect("at most MAX_DISCARDED"))
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<AskedDiscard>("/properties/ids/maxItems", selection::MAX_IDS);
        assert_limit::<AskedDiscard>("/properties/reason/maxLength", Justification::MAX_CHARS);
    }
}
