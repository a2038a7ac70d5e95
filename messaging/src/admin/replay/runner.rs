//! Sends what a replay is about, at its rate, and follows each record until it is applied or dead again.
//!
//! A replay is a row; each step on it is one transaction that locks the row, and moves records from
//! WAITING to SENT together with their outbox rows. So it doesn't matter which instance takes a step, or
//! where one dies: what was committed is not sent again, and what wasn't never happened.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::NaiveDate;
use metrics::counter;
use serde_json::json;
use service_runtime::{
    museum::{self, Bug},
    tasks::Next,
};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    super::audit::{Act, Action},
    Destination,
};
use crate::{
    dead_letters::State,
    delivery::{Group, Stalled},
    faults::Step,
    inbox,
    ladder::{
        OwnTopic,
        headers::{Hop, Trouble, X_HOP, on_the_way, own_headers},
    },
    record::Record,
    relay, topics,
    tx::Tx,
};

/// How often a replay under way is looked at; also how often it sends, so that a rate is kept evenly.
const STEP: Duration = Duration::from_millis(100);
/// How often replays are looked for that another instance took in.
pub(in crate::admin) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// So many first records, or a quarter of them all if that is less, show whether the cause is gone: nothing
/// more is sent before they have ended.
const MAX_PROBE: i32 = 10;
/// Later on, so many that die one after another say that the cause is back.
const MAX_DEAD_IN_A_ROW: i32 = 20;
/// A replay of which somebody holds a record waits for so long: a forgotten `psql`.
const AFTER_LOCK_WAIT: Duration = Duration::from_secs(2);
/// Sent, and not heard of again yet: what may be out when the relay or Kafka is away.
const MAX_ON_THE_WAY: i32 = 2_000;

/// Works on the replays of one service; every instance has one.
pub(in crate::admin) struct Runner {
    pub(in crate::admin) group: Arc<Group>,
}

/// How far a replay is, and what that means for its next step.
#[derive(Debug, Clone, Copy)]
struct Progress {
    running: Running,
    rate_per_second: i32,
    selected: i32,
    sent: i32,
    skipped: i32,
    applied: i32,
    dead_again: i32,
    dead_in_a_row: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Running {
    Yes,
    Halted,
}

impl Progress {
    const fn waiting(&self) -> i32 {
        self.selected - self.sent - self.skipped
    }

    const fn on_the_way(&self) -> i32 {
        self.sent - self.applied - self.dead_again
    }

    fn probe(&self) -> i32 {
        (self.selected / 4).clamp(1, MAX_PROBE)
    }

    /// How many records one step sends at most: the rate, evenly.
    fn chunk(&self) -> i32 {
        (self.rate_per_second / 10).max(1)
    }

    /// How long a step that sent `sent` records lasts at that rate.
    fn pause(&self, sent: i32) -> Duration {
        if sent == 0 {
            STEP
        } else {
            Duration::from_secs(1) * sent.unsigned_abs() / self.rate_per_second.unsigned_abs()
        }
    }

    /// How many may be sent now.
    fn room(&self) -> i32 {
        if self.running == Running::Halted {
            return 0;
        }
        let ended = self.applied + self.dead_again;
        let out = if ended < self.probe() { self.probe() - self.sent } else { MAX_ON_THE_WAY - self.on_the_way() };
        out.min(self.chunk()).min(self.waiting()).max(0)
    }

    /// Why nothing more is to be sent, if so.
    fn halts(&self) -> Option<String> {
        if self.running == Running::Halted || self.waiting() == 0 {
            return None;
        }
        let ended = self.applied + self.dead_again;
        if ended <= self.probe() && self.dead_again * 2 > self.probe() {
            return Some(format!("{} of its first {} records died again", self.dead_again, self.probe()));
        }
        (self.dead_in_a_row >= MAX_DEAD_IN_A_ROW)
            .then(|| format!("{} records one after another died again", self.dead_in_a_row))
    }

    const fn has_ended(&self) -> bool {
        let sends_no_more = match self.running {
            Running::Yes => self.waiting() == 0,
            Running::Halted => true,
        };
        sends_no_more && self.on_the_way() == 0
    }
}

/// What a record's next step depends on, read under its locks.
#[derive(Debug, Clone, Copy)]
pub(in crate::admin) struct Standing {
    /// Of the dead letter.
    pub(in crate::admin) state: State,
    /// Applied after a replay, or discarded.
    pub(in crate::admin) is_closed: Closed,
    pub(in crate::admin) payload: Payload,
    /// Under which the inbox knows the event; none for what could not be read.
    pub(in crate::admin) day: Option<NaiveDate>,
    /// The event's in the inbox.
    pub(in crate::admin) inbox: Option<inbox::State>,
    /// Of key, value and headers, as [`BYTES`] counts them.
    pub(in crate::admin) bytes: i64,
}

/// What a dead letter's record takes, so that none is sent which its topic refuses: the relay would never
/// get on.
pub(in crate::admin) const BYTES: &str = "(
    coalesce(octet_length(key), 0) + coalesce(octet_length(payload), 0) + octet_length(array_to_string(header_names, ''))
    + coalesce((SELECT sum(octet_length(value)) FROM unnest(header_values) AS value), 0))::bigint";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Closed {
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Payload {
    There,
    Purged,
}

/// Why a record isn't sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::admin) enum Skip {
    Discarded,
    Purged,
    AlreadyApplied,
    UnderWay,
    Unreadable,
    TooOld,
    TooLarge,
    /// Would wait for itself at its origin.
    StillParked,
}

impl Skip {
    pub(in crate::admin) const fn name(self) -> &'static str {
        match self {
            Self::Discarded => "discarded",
            Self::Purged => "payload-purged",
            Self::AlreadyApplied => "already-applied",
            Self::UnderWay => "under-way",
            Self::Unreadable => "unreadable",
            Self::TooOld => "too-old",
            Self::TooLarge => "too-large",
            Self::StillParked => "still-parked",
        }
    }
}

impl Standing {
    /// Why it isn't sent, if so. An event is in one place, and only from there it is moved.
    pub(in crate::admin) fn skip(self, to: Destination) -> Option<Skip> {
        match (self.state, self.is_closed, self.payload) {
            (State::Discarded, _, _) => Some(Skip::Discarded),
            (State::Replayed, Closed::Yes, _) => Some(Skip::AlreadyApplied),
            (State::Replayed, Closed::No, _) => Some(Skip::UnderWay),
            (State::Dead | State::Parked, _, Payload::Purged) => Some(Skip::Purged),
            (State::Dead | State::Parked, _, Payload::There) => self.skip_open(to),
        }
    }

    fn skip_open(self, to: Destination) -> Option<Skip> {
        use inbox::State::{Applied, Dead, Discarded, Parked, Retrying, Unread, Waiting};
        if usize::try_from(self.bytes).is_ok_and(|bytes| !topics::own_topic_takes_bytes(bytes)) {
            return Some(Skip::TooLarge);
        }
        match (self.day, self.inbox, to) {
            (None, _, Destination::Group) | (Some(_), Some(Dead), _) | (Some(_), Some(Parked), Destination::Group) => {
                None
            }
            (Some(_), Some(Parked), Destination::Origin) => Some(Skip::StillParked),
            (None, _, Destination::Origin) => Some(Skip::Unreadable),
            (Some(_), None, _) => Some(Skip::TooOld),
            (Some(_), Some(Applied), _) => Some(Skip::AlreadyApplied),
            (Some(_), Some(Discarded), _) => Some(Skip::Discarded),
            (Some(_), Some(Waiting | Retrying | Unread), _) => Some(Skip::UnderWay),
        }
    }
}

/// A replay whose row is locked.
struct Locked {
    id: Uuid,
    to: Destination,
    progress: Progress,
}

/// A record that is to be sent.
struct Item {
    position: i32,
    letter: Uuid,
}

impl Runner {
    /// One step on the replay whose turn it is; one that is cut off never happened. Says when the next is due.
    pub(in crate::admin) async fn step(&self) -> Result<Next, Stalled> {
        let mut client = self.group.pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        let Some(replay) = lock_replay(&tx).await? else {
            let row = tx
                .query_one(
                    "SELECT extract(epoch FROM min(next_at) - clock_timestamp())::float8
                     FROM replays WHERE ended_at IS NULL",
                    &[],
                )
                .await?;
            tx.rollback().await?;
            let seconds: Option<f64> = row.get(0);
            let until_due = Duration::try_from_secs_f64(seconds.unwrap_or(f64::MAX)).unwrap_or(LOOK_EVERY);
            // Due, and locked: another instance is at it.
            return Ok(Next::In(until_due.clamp(Duration::from_millis(5), LOOK_EVERY)));
        };
        let id = replay.id;
        match self.step_on(tx, replay).await {
            Err(stalled) if stalled.is_lock_wait() => {
                // It is in nobody else's way meanwhile.
                warn!(replay = %id, "somebody holds a record of this replay: it goes on later");
                let sql = "UPDATE replays SET next_at = clock_timestamp() + $2 * interval '1 second' WHERE id = $1";
                client.execute(sql, &[&id, &AFTER_LOCK_WAIT.as_secs_f64()]).await?;
                Ok(Next::Now)
            }
            outcome => outcome.map(|()| Next::Now),
        }
    }

    async fn step_on(&self, tx: Tx<'_>, mut replay: Locked) -> Result<(), Stalled> {
        tx.wait_briefly().await?;
        let applied = follow(&tx, &mut replay).await?;
        self.halt(&tx, &mut replay).await?;
        let room = replay.progress.room();
        let sent = if room > 0 { self.send(&tx, &mut replay, room).await? } else { 0 };
        close(&tx, &applied).await?;
        self.update_replay(&tx, &replay, sent).await?;
        tx.commit_unless(|side| match sent {
            0 => Ok(()),
            _ => self.group.faults.die((Step::Replay, side), std::iter::empty()).map_err(Stalled::from),
        })
        .await
    }

    async fn halt(&self, tx: &Tx<'_>, replay: &mut Locked) -> Result<(), tokio_postgres::Error> {
        let Some(note) = replay.progress.halts() else { return Ok(()) };
        let waiting = replay.progress.waiting();
        warn!(replay = %replay.id, note, waiting, "a replay halts");
        counter!("replays_halted_total").increment(1);
        replay.progress.running = Running::Halted;
        tx.execute("UPDATE replays SET state = 'HALTED', note = $2 WHERE id = $1", &[&replay.id, &note]).await?;
        let act = self.act(Action::ReplayHalted, replay.id, Some(note));
        act.done(tx, json!({ "waiting": waiting, "deadAgain": replay.progress.dead_again })).await
    }

    /// Moves up to `room` records from the dead letters onto their way. Returns how many.
    async fn send(&self, tx: &Tx<'_>, replay: &mut Locked, room: i32) -> Result<i32, tokio_postgres::Error> {
        let items = list_waiting(tx, replay.id, room).await?;
        let letters = lock_letters(tx, &items.iter().map(|item| item.letter).collect::<Vec<_>>()).await?;
        let (mut sent, mut skipped) = (Vec::new(), Vec::new());
        for Item { position, letter } in &items {
            // A parked one that was applied in the meantime is no dead letter any more.
            let Some(letter) = letters.get(letter) else {
                skipped.push((*position, Skip::AlreadyApplied.name()));
                continue;
            };
            if let Some(skip) = letter.standing().skip(replay.to) {
                skipped.push((*position, skip.name()));
            } else {
                self.insert_outbox(tx, replay.to, letter).await?;
                sent.push((*position, letter));
            }
        }
        update_moved(tx, replay, &sent).await?;
        update_items(tx, replay.id, &sent, &skipped).await?;
        if !sent.is_empty() {
            tx.after_commit(relay::hint);
        }
        let (sent, skipped) = (small(sent.len()), small(skipped.len()));
        replay.progress.sent += sent;
        replay.progress.skipped += skipped;
        counter!("replay_records_total", "outcome" => "sent").increment(u64::from(sent.unsigned_abs()));
        counter!("replay_records_total", "outcome" => "skipped").increment(u64::from(skipped.unsigned_abs()));
        Ok(sent)
    }

    /// Key and payload never leave the database; the headers are those it came with, and for the group's own
    /// topic where it lay, how it failed, and which hop this is.
    async fn insert_outbox(&self, tx: &Tx<'_>, to: Destination, letter: &Letter) -> Result<(), tokio_postgres::Error> {
        let (topic, headers) = match to {
            Destination::Group => {
                let hop = Hop { number: letter.hop + 1, due_at: None };
                let mut headers = on_the_way(&letter.record, self.group.subscriptions.group(), hop, &letter.trouble);
                if letter.event.is_none() {
                    // The inbox doesn't know it, and so can't know its hops.
                    headers.retain(|(name, _)| name != X_HOP);
                }
                (OwnTopic::Replay.name(self.group.subscriptions.group()), headers)
            }
            Destination::Origin => (letter.record.topic.clone(), own_headers(&letter.record)),
        };
        let (names, values): (Vec<String>, Vec<Vec<u8>>) = headers.into_iter().unzip();
        let insert = if to == Destination::Origin && museum::is_back(Bug::ReplayReachesAll) {
            r#"INSERT INTO outbox (topic, key, payload, header_names, header_values)
               SELECT $2, key, convert_to(regexp_replace(convert_from(payload, 'UTF8'), '("id": *")[^"]+',
                                                         '\1' || gen_random_uuid()), 'UTF8'), $3, $4
               FROM dead_letters WHERE id = $1"#
        } else {
            "INSERT INTO outbox (topic, key, payload, header_names, header_values)
             SELECT $2, key, payload, $3, $4 FROM dead_letters WHERE id = $1"
        };
        tx.execute(insert, &[&letter.id, &topic, &names, &values]).await?;
        Ok(())
    }

    async fn update_replay(&self, tx: &Tx<'_>, replay: &Locked, sent: i32) -> Result<(), tokio_postgres::Error> {
        let progress = &replay.progress;
        let ended = progress.has_ended();
        // A step that comes late doesn't make the next ones come faster.
        tx.execute(
            "UPDATE replays SET sent = $2, skipped = $3, applied = $4, dead_again = $5, dead_in_a_row = $6,
                 next_at = greatest(next_at + make_interval(secs => $7), clock_timestamp()),
                 state = CASE WHEN $8 AND state = 'RUNNING' THEN 'DONE' ELSE state END,
                 ended_at = CASE WHEN $8 THEN clock_timestamp() END
             WHERE id = $1",
            &[
                &replay.id,
                &progress.sent,
                &progress.skipped,
                &progress.applied,
                &progress.dead_again,
                &progress.dead_in_a_row,
                &progress.pause(sent).as_secs_f64(),
                &ended,
            ],
        )
        .await?;
        if ended {
            let Progress { selected, sent, skipped, applied, dead_again, .. } = *progress;
            info!(replay = %replay.id, selected, sent, skipped, applied, dead_again, "a replay ended");
            let detail = json!({ "total": selected, "skipped": skipped, "applied": applied, "deadAgain": dead_again });
            self.act(Action::ReplayDone, replay.id, None).done(tx, detail).await?;
        }
        Ok(())
    }

    fn act(&self, action: Action, replay: Uuid, reason: Option<String>) -> Act {
        let subject = json!({ "replayId": replay });
        Act { who: self.group.subscriptions.group().name().to_owned(), action, subject, reason, trace: None }
    }
}

/// The one that has waited longest for its turn, and that no other instance is at.
async fn lock_replay(tx: &Tx<'_>) -> Result<Option<Locked>, tokio_postgres::Error> {
    let row = tx
        .query_opt(
            "SELECT id, destination, state, rate_per_second, selected, sent, skipped, applied, dead_again, dead_in_a_row
             FROM replays WHERE ended_at IS NULL AND next_at <= clock_timestamp()
             ORDER BY next_at LIMIT 1 FOR UPDATE SKIP LOCKED",
            &[],
        )
        .await?;
    Ok(row.map(|row| Locked {
        id: row.get(0),
        to: if row.get::<_, &str>(1) == Destination::Origin.name() { Destination::Origin } else { Destination::Group },
        progress: Progress {
            running: if row.get::<_, &str>(2) == "RUNNING" { Running::Yes } else { Running::Halted },
            rate_per_second: row.get(3),
            selected: row.get(4),
            sent: row.get(5),
            skipped: row.get(6),
            applied: row.get(7),
            dead_again: row.get(8),
            dead_in_a_row: row.get(9),
        },
    }))
}

/// Notes what became of those that were sent. Returns the dead letters that are applied now.
///
/// An event of a topic that is kept for ever has an inbox row only until it is applied. What could not be read
/// when it died has none, and no day: once it can be read, its letter is that of its event.
async fn follow(tx: &Tx<'_>, replay: &mut Locked) -> Result<Vec<Uuid>, tokio_postgres::Error> {
    if replay.progress.on_the_way() == 0 {
        return Ok(Vec::new());
    }
    let rows = tx
        .query(
            "UPDATE replay_items item SET state = heard.outcome, ended_at = clock_timestamp()
             FROM (
                 SELECT sent.position, letter.id, CASE
                     WHEN letter.state IN ('DEAD', 'DISCARDED') OR letter.replay_id <> sent.replay_id THEN 'DEAD'
                     WHEN letter.state = 'PARKED' THEN NULL
                     WHEN letter.closed_at IS NOT NULL OR inbox.state = 'applied' THEN 'APPLIED'
                     WHEN letter.day = $2 AND inbox.event_id IS NULL THEN 'APPLIED'
                     END AS outcome
                 FROM replay_items sent
                 JOIN dead_letters letter ON letter.id = sent.dead_letter_id
                 LEFT JOIN inbox ON inbox.event_id = letter.event_id AND inbox.day = letter.day
                 WHERE sent.replay_id = $1 AND sent.state = 'SENT'
             ) AS heard
             WHERE item.replay_id = $1 AND item.position = heard.position AND heard.outcome IS NOT NULL
             RETURNING heard.id, heard.outcome",
            &[&replay.id, &inbox::STANDING],
        )
        .await?;
    let (applied, dead): (Vec<_>, Vec<_>) = rows.iter().partition(|row| row.get::<_, &str>(1) == "APPLIED");
    let progress = &mut replay.progress;
    progress.applied += small(applied.len());
    progress.dead_again += small(dead.len());
    progress.dead_in_a_row = if applied.is_empty() { progress.dead_in_a_row + small(dead.len()) } else { 0 };
    counter!("replay_records_total", "outcome" => "applied").increment(applied.len() as u64);
    counter!("replay_records_total", "outcome" => "dead").increment(dead.len() as u64);
    Ok(applied.iter().map(|row| row.get(0)).collect())
}

/// Applied: nothing more is to be done about these.
async fn close(tx: &Tx<'_>, applied: &[Uuid]) -> Result<(), tokio_postgres::Error> {
    if !applied.is_empty() {
        let sql = "UPDATE dead_letters SET closed_at = clock_timestamp()
                   WHERE id = ANY($1) AND state = 'REPLAYED' AND closed_at IS NULL";
        tx.execute(sql, &[&applied]).await?;
    }
    Ok(())
}

async fn list_waiting(tx: &Tx<'_>, replay: Uuid, at_most: i32) -> Result<Vec<Item>, tokio_postgres::Error> {
    let rows = tx
        .query(
            "SELECT position, dead_letter_id FROM replay_items
             WHERE replay_id = $1 AND state = 'WAITING' ORDER BY position LIMIT $2",
            &[&replay, &i64::from(at_most)],
        )
        .await?;
    Ok(rows.iter().map(|row| Item { position: row.get(0), letter: row.get(1) }).collect())
}

/// A dead letter as it is sent; its key and payload stay where they are.
struct Letter {
    id: Uuid,
    state: State,
    is_closed: Closed,
    payload: Payload,
    event: Option<(NaiveDate, Uuid)>,
    inbox: Option<inbox::State>,
    hop: i32,
    /// Where it lay, and its own headers.
    record: Record,
    trouble: Trouble,
    bytes: i64,
}

impl Letter {
    fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            is_closed: self.is_closed,
            payload: self.payload,
            day: self.event.map(|(day, _)| day),
            inbox: self.inbox,
            bytes: self.bytes,
        }
    }
}

/// Locks first the events, then the letters, as everybody does.
async fn lock_letters(tx: &Tx<'_>, ids: &[Uuid]) -> Result<HashMap<Uuid, Letter>, tokio_postgres::Error> {
    let rows = tx
        .query(
            "SELECT letter.id, inbox.state, inbox.hop FROM dead_letters letter
             JOIN inbox ON inbox.event_id = letter.event_id AND inbox.day = letter.day
             WHERE letter.id = ANY($1) ORDER BY inbox.event_id FOR UPDATE OF inbox",
            &[&ids],
        )
        .await?;
    let mut events: HashMap<Uuid, (Option<inbox::State>, i32)> =
        rows.iter().map(|row| (row.get(0), (inbox::State::of(row.get(1)), row.get(2)))).collect();
    let sql = format!(
        "SELECT id, state, closed_at IS NOT NULL, purged_at IS NOT NULL, day, event_id,
             origin_topic, origin_partition, origin_offset, origin_timestamp, header_names, header_values,
             error_class, error_message, attempts, first_failed_at, {BYTES}
         FROM dead_letters WHERE id = ANY($1) ORDER BY id FOR UPDATE"
    );
    let rows = tx.query(&sql, &[&ids]).await?;
    let read = |row: &tokio_postgres::Row| {
        let id: Uuid = row.get(0);
        let (inbox, hop) = events.remove(&id).unwrap_or_default();
        let names: Vec<String> = row.get(10);
        let letter = Letter {
            id,
            state: State::of(row.get(1)).expect("the table holds no others"),
            is_closed: if row.get(2) { Closed::Yes } else { Closed::No },
            payload: if row.get(3) { Payload::Purged } else { Payload::There },
            event: row.get::<_, Option<NaiveDate>>(4).zip(row.get(5)),
            inbox,
            hop,
            record: Record {
                topic: row.get(6),
                partition: row.get(7),
                offset: row.get(8),
                timestamp: row.get(9),
                key: None,
                value: None,
                headers: names.into_iter().zip(row.get::<_, Vec<Vec<u8>>>(11)).collect(),
            },
            trouble: Trouble::new(row.get(12), row.get(13), row.get::<_, i32>(14).unsigned_abs(), row.get(15)),
            bytes: row.get(16),
        };
        (id, letter)
    };
    Ok(rows.iter().map(read).collect())
}

/// The events are on their way now, and their letters say so.
async fn update_moved(tx: &Tx<'_>, replay: &Locked, sent: &[(i32, &Letter)]) -> Result<(), tokio_postgres::Error> {
    let (days, events): (Vec<NaiveDate>, Vec<Uuid>) = sent.iter().filter_map(|(_, letter)| letter.event).unzip();
    let (state, tier) = match replay.to {
        Destination::Group => (inbox::State::Retrying, Some(OwnTopic::Replay.suffix())),
        Destination::Origin => (inbox::State::Unread, None),
    };
    tx.execute(
        "UPDATE inbox SET state = $3, tier = $4, due_at = NULL, hop = hop + 1, changed_at = clock_timestamp()
         FROM unnest($1::date[], $2::uuid[]) AS sent (day, event_id)
         WHERE inbox.event_id = sent.event_id AND inbox.day = sent.day",
        &[&days, &events, &state.name(), &tier],
    )
    .await?;
    let letters: Vec<Uuid> = sent.iter().map(|(_, letter)| letter.id).collect();
    tx.execute(
        "UPDATE dead_letters SET state = 'REPLAYED', replay_id = $2, due_at = NULL, alarm_due_at = NULL, closed_at = NULL
         WHERE id = ANY($1)",
        &[&letters, &replay.id],
    )
    .await?;
    Ok(())
}

async fn update_items(
    tx: &Tx<'_>,
    replay: Uuid,
    sent: &[(i32, &Letter)],
    skipped: &[(i32, &str)],
) -> Result<(), tokio_postgres::Error> {
    let sent: Vec<i32> = sent.iter().map(|(position, _)| *position).collect();
    let sql = "UPDATE replay_items SET state = 'SENT', sent_at = clock_timestamp()
               WHERE replay_id = $1 AND position = ANY($2)";
    tx.execute(sql, &[&replay, &sent]).await?;
    if !skipped.is_empty() {
        let (skipped, because): (Vec<i32>, Vec<&str>) = skipped.iter().copied().unzip();
        tx.execute(
            "UPDATE replay_items item SET state = 'SKIPPED', because = skipped.because, ended_at = clock_timestamp()
             FROM unnest($2::int[], $3::text[]) AS skipped (position, because)
             WHERE item.replay_id = $1 AND item.position = skipped.position",
            &[&replay, &skipped, &because],
        )
        .await?;
    }
    Ok(())
}

fn small(count: usize) -> i32 {
    i32::try_from(count).expect("at most MAX_ON_THE_WAY")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(selected: i32) -> Progress {
        Progress {
            running: Running::Yes,
            rate_per_second: 1_000,
            selected,
            sent: 0,
            skipped: 0,
            applied: 0,
            dead_again: 0,
            dead_in_a_row: 0,
        }
    }

    #[test]
    fn a_parked_one_would_wait_for_itself_at_its_origin() {
        let parked = Standing {
            state: State::Parked,
            is_closed: Closed::No,
            payload: Payload::There,
            day: NaiveDate::from_ymd_opt(2026, 11, 21),
            inbox: Some(inbox::State::Parked),
            bytes: 100,
        };
        assert_eq!(parked.skip(Destination::Origin), Some(Skip::StillParked));
        assert_eq!(parked.skip(Destination::Group), None);
    }

    #[test]
    fn the_first_records_go_alone_until_they_have_ended() {
        let fresh = progress(100);
        assert_eq!(fresh.room(), 10);
        assert_eq!(Progress { sent: 10, applied: 9, ..fresh }.room(), 0);
        assert_eq!(Progress { sent: 10, applied: 10, ..fresh }.room(), 90);
        assert_eq!(progress(3).room(), 1);
        assert_eq!(Progress { skipped: 100, ..fresh }.room(), 0);
    }

    #[test]
    fn it_halts_when_most_of_the_first_die_again_and_while_there_is_something_to_spare() {
        let probed = Progress { sent: 10, dead_again: 6, ..progress(100) };
        assert!(probed.halts().expect("halts").contains("6 of its first 10"));
        assert_eq!(Progress { dead_again: 5, applied: 5, ..probed }.halts(), None);
        assert_eq!(Progress { selected: 10, ..probed }.halts(), None, "nothing is left to spare");
        assert!(Progress { sent: 1, dead_again: 1, ..progress(2) }.halts().is_some());
        let later = Progress { sent: 500, applied: 400, dead_again: 25, dead_in_a_row: 20, ..progress(1_000) };
        assert!(later.halts().is_some());
        assert_eq!(Progress { running: Running::Halted, ..later }.halts(), None, "once");
        assert_eq!(Progress { running: Running::Halted, ..later }.room(), 0);
    }

    #[test]
    fn it_ends_when_nothing_is_on_its_way_any_more() {
        let sent = Progress { sent: 9, skipped: 1, applied: 8, dead_again: 1, ..progress(10) };
        assert!(sent.has_ended());
        assert!(!Progress { applied: 7, ..sent }.has_ended());
        assert!(!Progress { skipped: 0, ..sent }.has_ended());
        assert!(Progress { skipped: 0, running: Running::Halted, ..sent }.has_ended());
    }

    #[test]
    fn a_rate_is_kept_evenly() {
        let slow = Progress { rate_per_second: 3, sent: 10, applied: 10, ..progress(100) };
        assert_eq!((slow.room(), slow.pause(1)), (1, Duration::from_secs(1) / 3));
        let fast = Progress { rate_per_second: 10_000, ..slow };
        assert_eq!((fast.room(), fast.pause(90)), (90, Duration::from_millis(9)));
    }
}
