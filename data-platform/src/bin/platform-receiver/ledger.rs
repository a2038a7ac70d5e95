//! What arrived: by `Idempotency-Key`, each with the calls that brought it.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, Utc};
use common_events::ids::in_lower_case;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// So many payments are kept at most; older ones are forgotten.
const MAX_KEPT: usize = 10_000;
/// And so many bytes of them.
const MAX_KEPT_BYTES: usize = 32 * 1024 * 1024;
/// The first calls about one payment that are told one by one; the rest is counted.
const MAX_CALLS_TOLD: usize = 50;

/// One payment, as it arrived.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Arrival {
    idempotency_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    /// When it was taken; not at all when every call was turned away.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_at: Option<DateTime<Utc>>,
    /// How many calls were about it.
    call_count: usize,
    /// The first of them, and what each was answered.
    calls: Vec<Call>,
    /// The latest call's place in the trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    /// The body, as it came.
    body: Box<RawValue>,
}

#[derive(Debug, Clone, Serialize)]
struct Call {
    at: DateTime<Utc>,
    answered: u16,
}

/// A call, as the ledger notes it.
pub(crate) struct Incoming {
    pub(crate) idempotency_key: String,
    pub(crate) traceparent: Option<String>,
    pub(crate) body: Box<RawValue>,
    pub(crate) order_id: Option<String>,
    pub(crate) user_id: Option<String>,
}

/// What is asked for.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    pub(crate) idempotency_key: Option<String>,
    pub(crate) order_id: Option<String>,
    pub(crate) user_id: Option<String>,
}

/// What is said of it all.
#[derive(Debug, Default, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Counts {
    /// Payments that were taken, ever.
    taken: u64,
    /// Calls that came, ever.
    calls: u64,
    /// Payments that are kept here, with those that were turned away.
    kept: usize,
}

/// All that arrived.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Pages>);

#[derive(Default)]
struct Pages {
    arrivals: HashMap<String, Arrival>,
    /// The keys, oldest first.
    order: VecDeque<String>,
    bytes: usize,
    counts: Counts,
}

impl Ledger {
    /// Notes a call that is turned away with this status.
    pub(crate) fn turn_away(&self, call: Incoming, status: u16) {
        self.pages().note(call, status);
    }

    /// Takes what the call brought: 201. Again: 200. With another body under the same key: 422.
    pub(crate) fn take(&self, call: Incoming) -> u16 {
        let mut pages = self.pages();
        let known = pages.arrivals.get(&call.idempotency_key);
        let status = match known {
            Some(arrival) if arrival.body.get() != call.body.get() => 422,
            Some(Arrival { taken_at: Some(_), .. }) => 200,
            Some(_) | None => 201,
        };
        let key = call.idempotency_key.clone();
        pages.note(call, status);
        if status == 201 {
            pages.counts.taken += 1;
            if let Some(arrival) = pages.arrivals.get_mut(&key) {
                arrival.taken_at = Some(Utc::now());
            }
        }
        status
    }

    /// What was asked for, the latest first.
    pub(crate) fn list(&self, wanted: &Wanted, at_most: usize) -> Vec<Arrival> {
        let pages = self.pages();
        let newest_first = pages.order.iter().rev().filter_map(|key| pages.arrivals.get(key));
        newest_first.filter(|arrival| wanted.is(arrival)).take(at_most).cloned().collect()
    }

    pub(crate) fn counts(&self) -> Counts {
        let pages = self.pages();
        Counts { kept: pages.arrivals.len(), ..pages.counts }
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        // Nothing panics while it is locked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wanted {
    fn is(&self, arrival: &Arrival) -> bool {
        let fits = |wanted: &Option<String>, has: Option<&String>| wanted.is_none() || wanted.as_ref() == has;
        fits(&self.idempotency_key, Some(&arrival.idempotency_key))
            && fits(&self.order_id.as_deref().map(in_either_case), arrival.order_id.as_ref())
            && fits(&self.user_id, arrival.user_id.as_ref())
    }
}

/// An id of the suite's, as it is written; anything else stays as it is.
fn in_either_case(id: &str) -> String {
    in_lower_case(id).unwrap_or_else(|| id.to_owned())
}

impl Pages {
    fn note(&mut self, call: Incoming, answered: u16) {
        self.counts.calls += 1;
        let Incoming { idempotency_key, traceparent, body, order_id, user_id } = call;
        if !self.arrivals.contains_key(&idempotency_key) {
            self.order.push_back(idempotency_key.clone());
            self.bytes += body.get().len();
        }
        let arrival = self.arrivals.entry(idempotency_key.clone()).or_insert_with(|| Arrival {
            idempotency_key,
            order_id,
            user_id,
            taken_at: None,
            call_count: 0,
            calls: Vec::new(),
            traceparent: None,
            body,
        });
        arrival.call_count += 1;
        arrival.traceparent = traceparent;
        if arrival.calls.len() < MAX_CALLS_TOLD {
            arrival.calls.push(Call { at: Utc::now(), answered });
        }
        self.forget_the_oldest();
    }

    fn forget_the_oldest(&mut self) {
        while self.arrivals.len() > MAX_KEPT || self.bytes > MAX_KEPT_BYTES {
            let Some(oldest) = self.order.pop_front().and_then(|key| self.arrivals.remove(&key)) else { return };
            self.bytes -= oldest.body.get().len();
        }
    }
}

/// What a body says of itself, as far as it can be read.
pub(crate) fn text_of(body: &Value, field: &str) -> Option<String> {
    body.get(field)?.as_str().map(str::to_owned)
}
