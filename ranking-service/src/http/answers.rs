//! Answers that are rendered once for everybody who asks within [`MAX_AGE`].
//!
//! There is one slot per window and order, so what is kept is bounded by construction; it holds the longest
//! answer, of which a shorter one is the beginning. Who finds a slot too old, or of a window that is over,
//! renders it anew; who asks meanwhile waits for that, for a while. Past windows aren't kept, and are sorted one after the other: asking for many of them at once
//! takes one connection and one core's time, and nobody else's.

use std::{
    sync::{PoisonError, RwLock},
    time::{Duration, Instant},
};

use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use service_runtime::{Pool, Problem};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::timeout,
};

use super::{Item, Ranking, Top};
use crate::{
    domain::{By, Span, Window},
    store::{self, Ranked},
};

/// How old an answer about the current window may be.
pub const MAX_AGE: Duration = Duration::from_millis(200);
/// How long anyone waits for somebody else's rendering. Behind a database that doesn't answer, callers would
/// otherwise be told so one after the other.
const MAX_WAIT: Duration = Duration::from_secs(2);

/// What is asked about a window.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) window: Window,
    pub(super) by: By,
    /// 1 to [`Top::MAX`].
    pub(super) limit: u16,
}

impl Question {
    const SLOTS: usize = Window::ALL.len() * 2;

    fn slot(self) -> usize {
        let window = match self.window {
            Window::Hour => 0,
            Window::Day => 1,
            Window::Week => 2,
        };
        let by = match self.by {
            By::Quantity => 0,
            By::Amount => 1,
        };
        window * 2 + by
    }
}

/// A ranking as JSON, and where in it each of its items ends.
struct Rendered {
    json: Vec<u8>,
    ends: Vec<usize>,
}

impl Rendered {
    /// What stands behind the last item.
    const TAIL: &[u8] = b"]}";

    fn new(window: Window, span: Span, best: Vec<Ranked>) -> serde_json::Result<Self> {
        let mut json = serde_json::to_vec(&Ranking { window, from: span.from, to: span.to, items: Vec::new() })?;
        debug_assert!(json.ends_with(b"[]}"), "the items come last");
        json.truncate(json.len() - Self::TAIL.len());
        let mut ends = Vec::with_capacity(best.len());
        for (rank, Ranked { product_id, name, quantity, amount }) in (1..).zip(best) {
            if rank > 1 {
                json.push(b',');
            }
            serde_json::to_writer(&mut json, &Item { rank, product_id, name, quantity, amount })?;
            ends.push(json.len());
        }
        Ok(Self { json, ends })
    }

    /// The ranking with its first `limit` items.
    fn first(&self, limit: u16) -> Bytes {
        let end = self.ends.get(usize::from(limit) - 1).copied().unwrap_or(self.json.len());
        [&self.json[..end], Self::TAIL].concat().into()
    }
}

/// The rankings of the database, and the answers that are kept for a moment.
pub(super) struct Answers {
    pool: Pool,
    slots: Vec<Slot>,
    reading_past: Mutex<()>,
}

#[derive(Default)]
struct Slot {
    kept: RwLock<Option<Kept>>,
    rendering: Mutex<()>,
}

struct Kept {
    from: DateTime<Utc>,
    since: Instant,
    ranking: Rendered,
}

impl Answers {
    pub(super) fn new(pool: Pool) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(Question::SLOTS).collect();
        Self { pool, slots, reading_past: Mutex::default() }
    }

    /// The ranking of the current window, at most [`MAX_AGE`] old.
    pub(super) async fn current(&self, question: Question, current: Span) -> Result<Bytes, Problem> {
        let slot = &self.slots[question.slot()];
        if let Some(body) = slot.fresh(current, question.limit) {
            return Ok(body);
        }
        let _alone = wait_for(&slot.rendering).await?;
        if let Some(body) = slot.fresh(current, question.limit) {
            return Ok(body);
        }
        // Its age begins before it is read.
        let since = Instant::now();
        let ranking = self.read(Question { limit: Top::MAX, ..question }, current).await?;
        let body = ranking.first(question.limit);
        slot.keep(Kept { from: current.from, since, ranking });
        Ok(body)
    }

    /// The ranking of a window that isn't the current one, as it is now.
    pub(super) async fn past(&self, question: Question, past: Span) -> Result<Bytes, Problem> {
        let _alone = wait_for(&self.reading_past).await?;
        Ok(self.read(question, past).await?.first(question.limit))
    }

    async fn read(&self, question: Question, span: Span) -> Result<Rendered, Problem> {
        let Question { window, by, limit } = question;
        let client = self.pool.get().await?;
        let best = store::list_best(&client, window, span.from, by, limit.into()).await?;
        drop(client);
        Rendered::new(window, span, best).map_err(Problem::internal)
    }
}

async fn wait_for(turn: &Mutex<()>) -> Result<MutexGuard<'_, ()>, Problem> {
    let busy = |_| Problem::unavailable("rankings-busy", "Too many rankings are asked for just now.", MAX_WAIT);
    timeout(MAX_WAIT, turn.lock()).await.map_err(busy)
}

impl Slot {
    fn fresh(&self, current: Span, limit: u16) -> Option<Bytes> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.as_ref().filter(|kept| kept.from == current.from && kept.since.elapsed() < MAX_AGE)?;
        Some(fresh.ranking.first(limit))
    }

    fn keep(&self, kept: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(kept);
    }
}
