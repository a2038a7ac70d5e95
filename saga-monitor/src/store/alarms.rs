//! Alarms, and the notices of them that the webhook hasn't taken yet.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use deadpool_postgres::Client;
use messaging::Tx;
use serde_json::Value;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::sagas::Conditions;
use crate::alarm::{Alarm, AlarmKind, AlarmState, CauseClass, Raised};

/// What changed by one look at the causes of a kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Changed {
    /// Alarms that are new.
    pub opened: usize,
    /// Alarms whose cause is over.
    pub closed: usize,
}

struct Open {
    id: Uuid,
    class: String,
    title: String,
    count: i64,
    detail: Value,
}

/// Makes the open alarms of a kind be those of these causes: a cause that is new alarms once, one that is still
/// there is brought up to date, and one that is over closes its alarm, unless `keep` says that it isn't known.
/// Opening and closing is told to the webhook, where there is one. Whoever calls holds the detection's lock.
pub async fn update_alarms(
    tx: &Tx<'_>,
    kind: AlarmKind,
    raised: &[Raised],
    keep: impl Fn(&str) -> bool,
    notices: Notices,
) -> Result<Changed, Error> {
    let mut open = list_open(tx, kind).await?;
    let mut changed = Changed::default();
    for cause in raised {
        match open.remove(&cause.cause) {
            None => {
                changed.opened += 1;
                let id = insert_alarm(tx, cause).await?;
                insert_notice(tx, id, &format!("[{kind}] {}", cause.title), notices).await?;
            }
            Some(known) if is_new(&known, cause) => update_alarm(tx, known.id, cause).await?,
            Some(_) => {}
        }
    }
    for (_, over) in open.into_iter().filter(|(cause, _)| !keep(cause)) {
        changed.closed += 1;
        tx.execute("UPDATE alarms SET closed_at = now(), changed_at = now() WHERE id = $1", &[&over.id]).await?;
        insert_notice(tx, over.id, &format!("[{kind}] over: {}", over.title), notices).await?;
    }
    Ok(changed)
}

/// Whether anybody listens to alarms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notices {
    /// There is a webhook.
    Told,
    /// There is none.
    NotTold,
}

fn is_new(known: &Open, cause: &Raised) -> bool {
    (&*known.class, &known.title, known.count, &known.detail)
        != (cause.class.as_str(), &cause.title, cause.count, &cause.detail)
}

async fn list_open(tx: &Tx<'_>, kind: AlarmKind) -> Result<BTreeMap<String, Open>, Error> {
    let rows = tx
        .query(
            "SELECT cause, id, cause_class, title, count, detail FROM alarms WHERE kind = $1 AND closed_at IS NULL",
            &[&kind.as_str()],
        )
        .await?;
    let open = |row: &Row| {
        let open = Open { id: row.get(1), class: row.get(2), title: row.get(3), count: row.get(4), detail: row.get(5) };
        (row.get(0), open)
    };
    Ok(rows.iter().map(open).collect())
}

async fn insert_alarm(tx: &Tx<'_>, cause: &Raised) -> Result<Uuid, Error> {
    let id = tx.new_id();
    let (kind, class) = (cause.kind.as_str(), cause.class.as_str());
    tx.execute(
        "INSERT INTO alarms (id, kind, cause, cause_class, title, detail, count, opened_at, changed_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        &[&id, &kind, &cause.cause, &class, &cause.title, &cause.detail, &cause.count, &tx.now()],
    )
    .await?;
    Ok(id)
}

async fn update_alarm(tx: &Tx<'_>, id: Uuid, cause: &Raised) -> Result<(), Error> {
    tx.execute(
        "UPDATE alarms SET cause_class = $2, title = $3, detail = $4, count = $5, changed_at = now() WHERE id = $1",
        &[&id, &cause.class.as_str(), &cause.title, &cause.detail, &cause.count],
    )
    .await?;
    Ok(())
}

async fn insert_notice(tx: &Tx<'_>, alarm: Uuid, text: &str, notices: Notices) -> Result<(), Error> {
    match notices {
        Notices::Told => {
            tx.execute("INSERT INTO notices (alarm_id, text) VALUES ($1, $2)", &[&alarm, &text]).await?;
        }
        Notices::NotTold => {}
    }
    Ok(())
}

const COLUMNS: &str = "id, kind, cause_class, title, detail, count, opened_at, changed_at, acknowledged_at,
    acknowledged_by, closed_at";

fn alarm(row: &Row) -> Alarm {
    let (acknowledged_at, closed_at): (Option<DateTime<Utc>>, Option<DateTime<Utc>>) =
        (row.get("acknowledged_at"), row.get("closed_at"));
    let state = match (acknowledged_at, closed_at) {
        (_, Some(_)) => AlarmState::Closed,
        (Some(_), None) => AlarmState::Acknowledged,
        (None, None) => AlarmState::Open,
    };
    Alarm {
        id: row.get("id"),
        kind: row.get::<_, &str>("kind").parse().unwrap_or(AlarmKind::Stuck),
        state,
        cause: row.get::<_, &str>("cause_class").parse().unwrap_or(CauseClass::Unknown),
        title: row.get("title"),
        detail: row.get("detail"),
        count: row.get("count"),
        opened_at: row.get("opened_at"),
        changed_at: row.get("changed_at"),
        acknowledged_at,
        acknowledged_by: row.get("acknowledged_by"),
        closed_at,
    }
}

/// Alarms, the newest first, behind that one.
pub async fn list_alarms(
    client: &Client,
    state: Option<AlarmState>,
    kind: Option<AlarmKind>,
    behind: Option<(DateTime<Utc>, Uuid)>,
    at_most: i64,
) -> Result<Vec<Alarm>, Error> {
    let kind = kind.map(AlarmKind::as_str);
    let mut conditions = Conditions::default();
    match state {
        Some(AlarmState::Open) => conditions.and_so("closed_at IS NULL AND acknowledged_at IS NULL"),
        Some(AlarmState::Acknowledged) => conditions.and_so("closed_at IS NULL AND acknowledged_at IS NOT NULL"),
        Some(AlarmState::Closed) => conditions.and_so("closed_at IS NOT NULL"),
        None => {}
    }
    if let Some(kind) = &kind {
        conditions.and("kind = {}", kind);
    }
    if let Some((opened_at, id)) = &behind {
        let (opened_at, id) = (conditions.param(opened_at), conditions.param(id));
        conditions.and_so(&format!("(opened_at, id) < ({opened_at}, {id})"));
    }
    let limit = conditions.param(&at_most);
    let sql =
        format!("SELECT {COLUMNS} FROM alarms {} ORDER BY opened_at DESC, id DESC LIMIT {limit}", conditions.sql());
    let rows = client.query(&client.prepare_cached(&sql).await?, conditions.params()).await?;
    Ok(rows.iter().map(alarm).collect())
}

/// Alarms that aren't over: of each kind, open and acknowledged apart, so many of the newest; and whether there are more
/// open ones.
pub async fn list_standing(client: &Client, of_each: i64) -> Result<(Vec<Alarm>, bool), Error> {
    let sql = format!(
        "SELECT {COLUMNS}, acknowledged_at IS NULL AND of_its_like > $1 AS has_more
         FROM (SELECT *, row_number() OVER (of_one_kind ORDER BY opened_at DESC, id DESC) AS place,
                      count(*) OVER of_one_kind AS of_its_like
               FROM alarms WHERE closed_at IS NULL
               WINDOW of_one_kind AS (PARTITION BY kind, acknowledged_at IS NULL)) AS standing
         WHERE place <= $1"
    );
    let rows = client.query(&client.prepare_cached(&sql).await?, &[&of_each]).await?;
    Ok((rows.iter().map(alarm).collect(), rows.iter().any(|row| row.get("has_more"))))
}

/// Notes who takes an alarm on. Again, or when it is over: who did first stays.
pub async fn update_acknowledged(client: &Client, id: Uuid, who: &str) -> Result<Option<Alarm>, Error> {
    let sql = format!(
        "UPDATE alarms SET acknowledged_at = coalesce(acknowledged_at, now()),
                acknowledged_by = coalesce(acknowledged_by, $2), changed_at = now()
         WHERE id = $1 RETURNING {COLUMNS}"
    );
    let row = client.query_opt(&client.prepare_cached(&sql).await?, &[&id, &who]).await?;
    Ok(row.as_ref().map(alarm))
}

/// Something that the webhook hasn't taken yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Its place in the order in which things are told.
    pub id: i64,
    /// What is told.
    pub text: String,
}

/// The oldest notice of those that were refused least often.
pub async fn find_notice(client: &Client) -> Result<Option<Notice>, Error> {
    let statement = client.prepare_cached("SELECT id, text FROM notices ORDER BY attempts, id LIMIT 1").await?;
    Ok(client.query_opt(&statement, &[]).await?.map(|row| Notice { id: row.get(0), text: row.get(1) }))
}

/// It was taken.
pub async fn delete_notice(client: &Client, id: i64) -> Result<(), Error> {
    let statement = client.prepare_cached("DELETE FROM notices WHERE id = $1").await?;
    client.execute(&statement, &[&id]).await?;
    Ok(())
}

/// It wasn't taken. One that was refused goes behind the others; while nothing is taken they keep their order.
pub async fn update_refused(client: &Client, id: i64, error: &str, is_its_own: bool) -> Result<(), Error> {
    let statement =
        client.prepare_cached("UPDATE notices SET attempts = attempts + $3, last_error = $2 WHERE id = $1").await?;
    client.execute(&statement, &[&id, &error, &i32::from(is_its_own)]).await?;
    Ok(())
}
