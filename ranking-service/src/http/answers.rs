//! Answers that are rendered once for everybody who asks within [`MAX_AGE`].
//!
//! There is one slot per question, and few questions, so what is kept is bounded by construction. Who finds
//! a slot too old, or of a window that is over, renders it anew; who asks meanwhile waits for that, for a
//! while. Past windows aren't kept, and are sorted one after the other: asking for many of them at once
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
    store,
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
    const SLOTS: usize = Window::ALL.len() * 2 * Top::MAX as usize;

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
        (window * 2 + by) * usize::from(Top::MAX) + usize::from(self.limit) - 1
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
    body: Bytes,
}

impl Answers {
    pub(super) fn new(pool: Pool) -> Self {
        let slots = std::iter::repeat_with(Slot::default).take(Question::SLOTS).collect();
        Self { pool, slots, reading_past: Mutex::default() }
    }

    /// The ranking of the current window, at most [`MAX_AGE`] old.
    pub(super) async fn current(&self, question: Question, current: Span) -> Result<Bytes, Problem> {
        let slot = &self.slots[question.slot()];
        if let Some(body) = slot.fresh(current) {
            return Ok(body);
        }
        let _alone = wait_for(&slot.rendering).await?;
        if let Some(body) = slot.fresh(current) {
            return Ok(body);
        }
        // Its age begins before it is read.
        let since = Instant::now();
        let body = self.read(question, current).await?;
        slot.keep(Kept { from: current.from, since, body: body.clone() });
        Ok(body)
    }

    /// The ranking of a window that isn't the current one, as it is now.
    pub(super) async fn past(&self, question: Question, past: Span) -> Result<Bytes, Problem> {
        let _alone = wait_for(&self.reading_past).await?;
        self.read(question, past).await
    }

    async fn read(&self, question: Question, span: Span) -> Result<Bytes, Problem> {
        let Question { window, by, limit } = question;
        let client = self.pool.get().await?;
        let best = store::list_best(&client, window, span.from, by, limit.into()).await?;
        drop(client);
        let items = (1..).zip(best).map(|(rank, best)| Item {
            rank,
            product_id: best.product_id,
            name: best.name,
            quantity: best.quantity,
            amount: best.amount,
        });
        let ranking = Ranking { window, from: span.from, to: span.to, items: items.collect() };
        serde_json::to_vec(&ranking).map(Bytes::from).map_err(Problem::internal)
    }
}

async fn wait_for(turn: &Mutex<()>) -> Result<MutexGuard<'_, ()>, Problem> {
    let busy = |_| Problem::unavailable("rankings-busy", "Too many rankings are asked for just now.", MAX_WAIT);
    timeout(MAX_WAIT, turn.lock()).await.map_err(busy)
}

impl Slot {
    fn fresh(&self, current: Span) -> Option<Bytes> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let fresh = kept.as_ref().filter(|kept| kept.from == current.from && kept.since.elapsed() < MAX_AGE)?;
        Some(fresh.body.clone())
    }

    fn keep(&self, body: Kept) {
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = Some(body);
    }
}
