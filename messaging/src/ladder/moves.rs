//! Moves: what failed goes to its next place, in one transaction with its row in the inbox.
//!
//! If the process dies before the commit, nothing happened, and the event is delivered again. After it, the
//! event is at its new place, and whatever record or row brought it here is stale.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, NaiveDate, Utc};
use common_events::EventId;
use metrics::counter;
use service_runtime::museum::{self, Bug};

use super::{
    Came, Hope, OwnTopic, Place,
    headers::{self, Hop, Trouble},
};
use crate::{
    dead_letters::{self, Letter},
    delivery::{Delivered, Group, Heard, Outrun, Stalled},
    faults::{Death, Side, Step},
    inbox::{self, Move, State},
    outbox::{self, Forwarded},
    topics,
    tx::Tx,
    waiting::{self, Head},
};

/// The most records that move in one transaction.
const MAX_MOVES: usize = 100;

/// A record that is not tried again where it is.
pub(crate) struct Failed<'h> {
    pub(crate) heard: &'h Heard<'h>,
    pub(crate) trouble: Trouble,
    pub(crate) hope: Hope,
}

/// A failed record with the place it goes to.
struct Moving<'f> {
    failed: &'f Failed<'f>,
    to: Place,
    due_at: Option<DateTime<Utc>>,
    /// Known once the inbox has counted it; 0 for what the inbox doesn't know.
    hop: i32,
}

impl Group {
    /// Moves each of them on. Those that were overtaken stay where they are by now.
    pub(crate) async fn move_on(&self, failed: &[Failed<'_>]) -> Result<Delivered, Stalled> {
        let mut delivered = Delivered::default();
        for failed in failed.chunks(MAX_MOVES) {
            let mut client = self.pool.get().await?;
            let tx = Tx::begin(&mut client).await?;
            let now: DateTime<Utc> = tx.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
            let moving: Vec<Moving<'_>> = failed.iter().map(|failed| self.destination(failed, now)).collect();
            let moved = move_in_inbox(&tx, moving).await?;
            self.move_keys(&tx, &moved).await?;
            let moved = self.write_letters(&tx, moved, now).await?;
            if museum::is_back(Bug::HopInTwo) {
                tx.transaction().batch_execute("COMMIT; BEGIN").await?;
            }
            self.forward(&tx, &moved).await?;
            tx.commit_unless(|side| self.die_on_the_move(&moved, side).map_err(Stalled::from)).await?;
            delivered.duplicates += failed.len() - moved.len();
            delivered += self.tell_moved(&moved);
        }
        Ok(delivered)
    }

    fn die_on_the_move(&self, moved: &[Moving<'_>], side: Side) -> Result<(), Death> {
        for moving in moved {
            let step = match moving.to {
                Place::Rung(_) => Step::Hop,
                Place::Parked { .. } => Step::Park,
                Place::Dead => Step::Bury,
            };
            let heard = moving.failed.heard;
            let record = (heard.record, heard.event().map(|event| event.id));
            self.faults.die((step, side), std::iter::once(record))?;
        }
        Ok(())
    }

    fn destination<'f>(&self, failed: &'f Failed<'f>, now: DateTime<Utc>) -> Moving<'f> {
        let mut to = self.ladder.next(failed.heard.came, failed.hope);
        if matches!(to, Place::Rung(_)) && !topics::own_topic_takes(failed.heard.record) {
            to = self.ladder.parked_after(0);
        }
        let delay = match to {
            Place::Rung(rung) => Some(self.ladder.delay(rung)),
            Place::Parked { .. } => Some(self.ladder.parked_interval),
            Place::Dead => None,
        };
        Moving { failed, to, due_at: delay.map(|delay| now + delay), hop: 0 }
    }

    /// Whoever enters the ladder blocks its key, whoever leaves it frees it.
    async fn move_keys(&self, tx: &Tx<'_>, moved: &[Moving<'_>]) -> Result<(), Stalled> {
        let (mut entering, mut following, mut taken, mut leaving) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut drained = Vec::new();
        for Moving { failed: Failed { heard, .. }, to, .. } in moved {
            let Some((day, id)) = heard.identity() else { continue };
            let head = heard.order_key().map(|key| Head { key, day, id });
            match (heard.came, to) {
                (Came::First, Place::Rung(_) | Place::Parked { .. }) => entering.extend(head),
                (Came::Waiting, Place::Rung(_) | Place::Parked { .. }) => {
                    taken.push((day, id));
                    following.extend(head);
                }
                (Came::Waiting, Place::Dead) => {
                    taken.push((day, id));
                    // Also of what can't be read any more.
                    drained.extend(heard.record.key.as_deref().map(|key| (heard.record.event_topic(), key)));
                }
                (Came::Hop { .. } | Came::Parked { .. }, Place::Dead) => leaving.push((day, id)),
                (Came::First | Came::Asked, Place::Dead)
                | (Came::Asked | Came::Hop { .. } | Came::Parked { .. }, Place::Rung(_) | Place::Parked { .. }) => {}
            }
        }
        let (wanted, mut blocked) = (entering.len() + following.len(), 0);
        if !entering.is_empty() {
            blocked += waiting::block(tx, &entering).await?;
        }
        if !taken.is_empty() {
            waiting::take(tx, &taken).await?;
            blocked += waiting::block_again(tx, &following).await?;
            waiting::offer_to_drain(tx, &drained).await?;
        }
        if !leaving.is_empty() {
            waiting::release(tx, &leaving).await?;
        }
        if blocked < wanted as u64 {
            return Err(Stalled(Outrun.into()));
        }
        Ok(())
    }

    /// Parked and dead ones are rows. What could not be read and was a dead letter before is no news.
    async fn write_letters<'f>(
        &self,
        tx: &Tx<'_>,
        moved: Vec<Moving<'f>>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Moving<'f>>, Stalled> {
        let mut news = Vec::with_capacity(moved.len());
        for moving in moved {
            let Failed { heard, trouble, .. } = moving.failed;
            let (state, parked_attempts) = match (moving.to, heard.came) {
                (Place::Rung(_), _) => {
                    news.push(moving);
                    continue;
                }
                (Place::Parked { batches }, _) => (dead_letters::State::Parked, batches),
                (Place::Dead, Came::Parked { batches, .. }) => (dead_letters::State::Dead, batches + 1),
                (Place::Dead, _) => (dead_letters::State::Dead, 0),
            };
            if heard.came == Came::Asked
                && let Some(arrival) = heard.arrival()
            {
                dead_letters::adopt(tx, &[arrival]).await?;
            }
            let alarm_due_at = (moving.to == Place::Dead && self.alarm.is_heard()).then_some(now);
            let letter = Letter {
                record: heard.record,
                identity: heard.identity(),
                state,
                trouble,
                parked_attempts,
                due_at: moving.due_at,
                alarm_due_at,
            };
            if dead_letters::upsert(tx, &letter).await? {
                news.push(moving);
            }
        }
        Ok(news)
    }

    /// Rungs and the DLT are topics. To the DLT goes a notice; what is too large for it is only a row.
    async fn forward(&self, tx: &Tx<'_>, moved: &[Moving<'_>]) -> Result<(), Stalled> {
        let group = self.subscriptions.group();
        let mut records = Vec::with_capacity(moved.len());
        for moving in moved {
            let record = moving.failed.heard.record;
            let topic = match moving.to {
                Place::Rung(rung) => OwnTopic::Retry(rung),
                Place::Dead if topics::own_topic_takes(record) => OwnTopic::Dlt,
                Place::Dead | Place::Parked { .. } => continue,
            };
            let hop = Hop { number: moving.hop, due_at: moving.due_at };
            records.push(Forwarded {
                topic: topic.name(group),
                key: record.key.as_deref(),
                payload: record.value.as_deref(),
                headers: headers::on_the_way(record, group, hop, &moving.failed.trouble),
            });
        }
        outbox::insert_forwarded(tx, &records).await?;
        Ok(())
    }

    fn tell_moved(&self, moved: &[Moving<'_>]) -> Delivered {
        let mut delivered = Delivered::default();
        let mut released = false;
        for Moving { failed: Failed { heard, trouble, .. }, to, .. } in moved {
            let topic = || heard.record.event_topic().to_owned();
            let (class, message, attempts) = (&*trouble.class, &*trouble.message, trouble.attempts);
            match to {
                Place::Rung(rung) => {
                    delivered.retrying += 1;
                    let tier = OwnTopic::Retry(*rung).suffix();
                    counter!("event_hops_total", "topic" => topic(), "tier" => tier).increment(1);
                    heard.log_moved(self, tier, class, message, attempts);
                }
                Place::Parked { .. } => {
                    delivered.parked += 1;
                    counter!("event_hops_total", "topic" => topic(), "tier" => "parked").increment(1);
                    heard.log_moved(self, "parked", class, message, attempts);
                }
                Place::Dead => {
                    delivered.dead += 1;
                    released = true;
                    counter!("events_dead_total", "topic" => topic(), "class" => class.to_owned()).increment(1);
                    heard.log_dead(self, class, message);
                }
            }
        }
        if released {
            self.released.notify_one();
            self.alarm.wake();
        }
        delivered
    }
}

/// Moves those that still stand where this delivery found them.
async fn move_in_inbox<'f>(tx: &Tx<'_>, moving: Vec<Moving<'f>>) -> Result<Vec<Moving<'f>>, Stalled> {
    let mut wanted = Vec::with_capacity(moving.len());
    for Moving { failed, to, due_at, .. } in &moving {
        let Some(arrival) = failed.heard.known_arrival() else { continue };
        let from = match failed.heard.came {
            Came::First | Came::Asked => None,
            Came::Hop { number, .. } => Some((State::Retrying, Some(number))),
            Came::Parked { hop, .. } => Some((State::Parked, Some(hop))),
            Came::Waiting => Some((State::Waiting, None)),
        };
        let (to, tier) = match to {
            Place::Rung(rung) => (State::Retrying, Some(OwnTopic::Retry(*rung).suffix())),
            Place::Parked { .. } => (State::Parked, None),
            Place::Dead => (State::Dead, None),
        };
        wanted.push(Move { arrival, from, to, tier, due_at: *due_at });
    }
    let hops: HashMap<EventId, i32> = inbox::move_on(tx, &wanted).await?;
    let mut once: HashSet<(NaiveDate, EventId)> = HashSet::new();
    let moved = moving.into_iter().filter_map(|moving| {
        let Some((day, id)) = moving.failed.heard.identity() else { return Some(moving) };
        // The same event twice in a batch has moved once.
        once.insert((day, id)).then_some(())?;
        Some(Moving { hop: *hops.get(&id)?, ..moving })
    });
    Ok(moved.collect())
}
