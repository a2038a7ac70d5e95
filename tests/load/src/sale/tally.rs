//! What the askers were answered.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use serde::{Serialize, Serializer, ser::SerializeMap};

use crate::{
    Latency,
    tally::{latencies, micros},
};

/// One step of the timeline.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// Ten minutes; what comes later is counted to the last tick.
const MAX_TICKS: usize = 60_000;

/// What a request was answered with (docs/contract.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 202.
    Admitted,
    /// 409.
    HasItAlready,
    /// 410.
    SoldOut,
    /// 403.
    NotOpen,
    /// 503.
    Undecided,
    /// Another status.
    Other,
    /// Nothing came back, or nothing that is HTTP.
    Silence,
}

impl Kind {
    /// All of them, as they are shown.
    pub const ALL: [Self; 7] =
        [Self::Admitted, Self::HasItAlready, Self::SoldOut, Self::NotOpen, Self::Undecided, Self::Other, Self::Silence];

    /// By HTTP status.
    pub const fn of(status: u16) -> Self {
        match status {
            202 => Self::Admitted,
            409 => Self::HasItAlready,
            410 => Self::SoldOut,
            403 => Self::NotOpen,
            503 => Self::Undecided,
            _ => Self::Other,
        }
    }

    /// For people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admitted => "202 admitted",
            Self::HasItAlready => "409 has it already",
            Self::SoldOut => "410 sold out",
            Self::NotOpen => "403 not open",
            Self::Undecided => "503 not decided",
            Self::Other => "another status",
            Self::Silence => "no answer",
        }
    }

    /// Whether the user knows no more than before.
    pub const fn decides_nothing(self) -> bool {
        match self {
            Self::Undecided | Self::Silence => true,
            Self::Admitted | Self::HasItAlready | Self::SoldOut | Self::NotOpen | Self::Other => false,
        }
    }
}

/// How many of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answers([u64; Kind::ALL.len()]);

impl Answers {
    /// How many of this kind.
    pub const fn of(&self, kind: Kind) -> u64 {
        self.0[kind as usize]
    }

    /// All of them; no answer is none.
    pub fn count(&self) -> u64 {
        self.0.iter().sum::<u64>() - self.of(Kind::Silence)
    }

    /// Those kinds that there were.
    pub fn seen(&self) -> impl Iterator<Item = (Kind, u64)> {
        Kind::ALL.into_iter().map(|kind| (kind, self.of(kind))).filter(|(_, count)| *count > 0)
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(sum, more)| *sum += more);
    }

    const fn note(&mut self, kind: Kind) {
        self.0[kind as usize] += 1;
    }
}

impl Serialize for Answers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        for (kind, count) in self.seen() {
            map.serialize_entry(kind.name(), &count)?;
        }
        map.end()
    }
}

/// A 202.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admission {
    /// The number of the user.
    pub user: u32,
    /// The rank he was told, in ranked mode.
    pub rank: Option<i64>,
}

/// What came of the requests so far.
#[derive(Debug, Clone)]
pub struct SaleTally {
    /// When the first request was sent.
    pub began: Option<Instant>,
    /// Requests sent, each counted once.
    pub asked: u64,
    /// Of these, how often one was sent again.
    pub asked_again: u64,
    /// Answers, by kind.
    pub answers: Answers,
    /// To every answer, in µs: from when it was asked (closed loop) or was planned to be (open loop).
    pub latency: Histogram<u64>,
    /// To each 202 alone, in µs.
    pub admitted_latency: Histogram<u64>,
    /// Who was admitted, in the order of the answers.
    pub admissions: Vec<Admission>,
    /// Answers in each 10 ms since the first request.
    pub timeline: Vec<Answers>,
    /// From the first request to the last answer.
    pub lasted: Duration,
    /// CPU time of the asking thread.
    pub cpu: Duration,
}

impl Default for SaleTally {
    fn default() -> Self {
        Self {
            began: None,
            asked: 0,
            asked_again: 0,
            answers: Answers::default(),
            latency: latencies(),
            admitted_latency: latencies(),
            admissions: Vec::new(),
            timeline: Vec::new(),
            lasted: Duration::ZERO,
            cpu: Duration::ZERO,
        }
    }
}

impl SaleTally {
    /// Answers a second.
    pub fn per_second(&self) -> f64 {
        rate(self.answers.count(), self.lasted)
    }

    /// 202 a second, from the first request until the last 202.
    pub fn admitted_per_second(&self) -> f64 {
        rate(self.answers.of(Kind::Admitted), self.last_admission())
    }

    /// When the last 202 came, counted from the first request, to a step of the timeline.
    pub fn last_admission(&self) -> Duration {
        let last = self.timeline.iter().rposition(|tick| tick.of(Kind::Admitted) > 0);
        let ticks = u32::try_from(last.map_or(0, |last| last + 1)).unwrap_or(u32::MAX);
        self.lasted.min(TICK * ticks)
    }

    /// CPU time of the asking thread per request.
    pub fn cpu_per_request(&self) -> Duration {
        self.cpu / u32::try_from((self.asked + self.asked_again).max(1)).unwrap_or(u32::MAX)
    }

    /// Different users that were admitted.
    pub fn admitted_users(&self) -> usize {
        self.admissions.iter().map(|admission| admission.user).collect::<HashSet<_>>().len()
    }

    /// To every answer.
    pub fn latencies(&self) -> Latency {
        Latency::of(&self.latency)
    }

    pub(super) fn note(&mut self, user: u32, kind: Kind, rank: Option<i64>, took: Duration, since_began: Duration) {
        self.answers.note(kind);
        let tick = usize::try_from(since_began.as_millis() / TICK.as_millis()).unwrap_or(usize::MAX).min(MAX_TICKS - 1);
        if self.timeline.len() <= tick {
            self.timeline.resize(tick + 1, Answers::default());
        }
        self.timeline[tick].note(kind);
        if kind == Kind::Silence {
            return;
        }
        self.latency.saturating_record(micros(took));
        if kind == Kind::Admitted {
            self.admitted_latency.saturating_record(micros(took));
            self.admissions.push(Admission { user, rank });
        }
    }
}

fn rate(count: u64, within: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let count = count as f64;
    count / within.as_secs_f64().max(0.001)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_counted_and_is_no_answer() {
        let mut tally = SaleTally::default();
        tally.note(0, Kind::Silence, None, Duration::from_secs(1), Duration::ZERO);
        assert_eq!((tally.answers.count(), tally.answers.of(Kind::Silence), tally.latency.len()), (0, 1, 0));
    }

    #[test]
    fn admissions_are_counted_until_the_last_of_them() {
        let mut tally = SaleTally::default();
        for ms in 0..100 {
            tally.note(ms, Kind::Admitted, None, Duration::from_micros(300), Duration::from_millis(ms.into()));
        }
        tally.note(100, Kind::SoldOut, None, Duration::from_micros(300), Duration::from_secs(1));
        tally.lasted = Duration::from_secs(1);
        assert!((tally.admitted_per_second() - 1_000.0).abs() < 0.001, "{}", tally.admitted_per_second());
        assert!((tally.per_second() - 101.0).abs() < 0.001);
    }
}
