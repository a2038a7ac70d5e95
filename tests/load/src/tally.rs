//! What came of the orders.

use std::{collections::BTreeMap, fmt, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;
use system::{
    Trouble,
    shop::{Accepted, Order, OrderStatus},
};

/// Latencies are counted in microseconds, up to ten minutes, to three digits.
const LONGEST_US: u64 = 600_000_000;

/// What came of the orders so far.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Orders whose time had come.
    pub sent: u64,
    /// Answers to `POST /orders`, by kind: `202`, `503 unavailable`, `no answer`.
    pub answers: BTreeMap<String, u64>,
    /// Ended well.
    pub confirmed: u64,
    /// Ended otherwise, by reason.
    pub cancelled: BTreeMap<String, u64>,
    /// Accepted, and not ended within their patience.
    pub unfinished: u64,
    /// From the planned time to the answer, in µs.
    pub answered: Histogram<u64>,
    /// From the planned time to CONFIRMED or CANCELLED, in µs.
    pub ended: Histogram<u64>,
    /// How long the sending took.
    pub sending: Duration,
    /// Until the last order had ended.
    pub lasted: Duration,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent: 0,
            answers: BTreeMap::new(),
            confirmed: 0,
            cancelled: BTreeMap::new(),
            unfinished: 0,
            answered: latencies(),
            ended: latencies(),
            sending: Duration::ZERO,
            lasted: Duration::ZERO,
        }
    }
}

impl Tally {
    /// Orders answered with 202.
    pub fn accepted(&self) -> u64 {
        self.answers.get("202").copied().unwrap_or_default()
    }

    /// Orders that were answered, or not.
    pub fn answered(&self) -> u64 {
        self.answers.values().sum()
    }

    /// Orders cancelled.
    pub fn cancelled(&self) -> u64 {
        self.cancelled.values().sum()
    }

    /// Orders sent of which nothing final is known.
    pub fn in_flight(&self) -> u64 {
        let refused = self.answered() - self.accepted();
        self.sent - refused - self.confirmed - self.cancelled() - self.unfinished
    }

    pub(crate) fn note_answer(&mut self, sent: &Result<Accepted, Trouble>, took: Duration) {
        let kind = match sent {
            Ok(_) => "202".to_owned(),
            Err(Trouble::Refused { status, code, .. }) => format!("{status} {code}"),
            Err(Trouble::Silent { .. }) => "no answer".to_owned(),
            Err(Trouble::Odd { .. }) => "odd answer".to_owned(),
        };
        *self.answers.entry(kind).or_default() += 1;
        if sent.is_ok() {
            self.answered.saturating_record(micros(took));
        }
    }

    pub(crate) fn note_end(&mut self, order: Option<&Order>, took: Duration) {
        match order.map(|order| (order.status, order.reason)) {
            None | Some((OrderStatus::Pending | OrderStatus::AwaitingPayment, _)) => {
                self.unfinished += 1;
                return;
            }
            Some((OrderStatus::Confirmed, _)) => self.confirmed += 1,
            Some((OrderStatus::Cancelled, reason)) => {
                let reason = reason.map_or_else(|| "no reason".to_owned(), |reason| reason.to_string());
                *self.cancelled.entry(reason).or_default() += 1;
            }
        }
        self.ended.saturating_record(micros(took));
    }
}

/// An empty histogram of microseconds.
pub(crate) fn latencies() -> Histogram<u64> {
    Histogram::new_with_max(LONGEST_US, 3).expect("fixed bounds")
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX).max(1)
}

/// A histogram's usual points, in milliseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "quantiles")]
pub struct Latency {
    pub count: u64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Latency {
    /// Of a histogram of microseconds.
    pub fn of(histogram: &Histogram<u64>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "at most ten minutes in µs")]
        let ms = |us: u64| us as f64 / 1_000.0;
        Self {
            count: histogram.len(),
            p50: ms(histogram.value_at_quantile(0.5)),
            p95: ms(histogram.value_at_quantile(0.95)),
            p99: ms(histogram.value_at_quantile(0.99)),
            max: ms(histogram.max()),
        }
    }
}

impl fmt::Display for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { count, p50, p95, p99, max } = self;
        write!(f, "p50 {p50:.1}  p95 {p95:.1}  p99 {p99:.1}  max {max:.1} ms  (of {count})")
    }
}
