//! The retry ladder (docs/contract.md §5; ARCHITECTURE.md, "When handling fails"): where an event goes when handling it
//! failed.
//!
//! ```text
//! its topic ─ RETRY_IMMEDIATE attempts ─▶ retry-1 ─▶ retry-2 ─▶ retry-3 ─▶ parked ─▶ dead + alarm
//!                                          one attempt each, after its delay   PARKED_ATTEMPTS batches
//! ```
//!
//! What makes no sense (`Unprocessable`) is dead at once; what a replay brought back is dead after its
//! immediate attempts. Each move is one transaction ([`moves`]): the event's row in the inbox, and an outbox
//! row or its row in `dead_letters`. So an event is in exactly one place, by construction; a record that says
//! another hop than the inbox is stale, and dropped.

mod alarm;
pub mod headers;
pub(crate) mod moves;
mod own_topics;
pub(crate) mod parked;

use std::time::Duration;

pub use alarm::Alarm;
pub use own_topics::{OwnTopic, Rung};
use service_runtime::settings::RetrySettings;

/// How often and when a failed event is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// Attempts in place; at least one.
    pub immediate: u32,
    /// The delay of each rung.
    pub delays: [Duration; Rung::ALL.len()],
    /// Batches that try a parked event.
    pub parked_attempts: u32,
    /// From parking to the first batch, and from batch to batch.
    pub parked_interval: Duration,
}

/// That of the settings.
impl Default for Ladder {
    fn default() -> Self {
        Self::from(&RetrySettings::default())
    }
}

impl From<&RetrySettings> for Ladder {
    fn from(settings: &RetrySettings) -> Self {
        let RetrySettings { immediate, delays, parked_attempts, parked_interval, .. } = settings;
        Self {
            immediate: *immediate,
            delays: *delays,
            parked_attempts: *parked_attempts,
            parked_interval: *parked_interval,
        }
    }
}

/// How a record came to this delivery, and so what the next failure means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Came {
    /// From its own topic.
    First,
    /// From the replay topic without a hop: somebody asks for an event again, or for its answers.
    Asked,
    /// From the replay topic or a retry topic, by this hop.
    Hop { over: OwnTopic, number: i32 },
    /// From the parked, by this hop; so many batches have tried it before.
    Parked { hop: i32, batches: u32 },
    /// From behind a failed event of its key, which is through.
    Waiting,
}

/// Where a failed event goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// To this retry topic.
    Rung(Rung),
    /// To the parked; so many batches have tried it.
    Parked {
        batches: u32,
    },
    Dead,
}

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hope {
    Some,
    None,
}

impl Ladder {
    /// How often a record that came this way is tried in place before it moves on.
    pub(crate) const fn attempts_in_place(&self, came: Came) -> u32 {
        match came {
            Came::First | Came::Asked | Came::Waiting | Came::Hop { over: OwnTopic::Replay, .. } => self.immediate,
            Came::Hop { .. } | Came::Parked { .. } => 1,
        }
    }

    /// Where it goes then.
    pub(crate) const fn next(&self, came: Came, hope: Hope) -> Place {
        match (hope, came) {
            (Hope::None, _) | (_, Came::Asked | Came::Hop { over: OwnTopic::Replay | OwnTopic::Dlt, .. }) => {
                Place::Dead
            }
            (_, Came::First | Came::Waiting) => Place::Rung(Rung::First),
            (_, Came::Hop { over: OwnTopic::Retry(rung), .. }) => match rung.next() {
                Some(next) => Place::Rung(next),
                None => self.parked_after(0),
            },
            (_, Came::Parked { batches, .. }) => self.parked_after(batches + 1),
        }
    }

    /// Parked, if a batch is left to try it.
    pub(crate) const fn parked_after(&self, batches: u32) -> Place {
        if batches < self.parked_attempts { Place::Parked { batches } } else { Place::Dead }
    }

    /// How long a record waits on this rung.
    pub(crate) const fn delay(&self, rung: Rung) -> Duration {
        match rung {
            Rung::First => self.delays[0],
            Rung::Second => self.delays[1],
            Rung::Third => self.delays[2],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every place of an event that fails each time, with its attempts in place before it.
    fn climb(ladder: &Ladder, mut came: Came) -> Vec<(u32, Place)> {
        let mut climbed = Vec::new();
        for hop in 1.. {
            let place = ladder.next(came, Hope::Some);
            climbed.push((ladder.attempts_in_place(came), place));
            came = match place {
                Place::Rung(rung) => Came::Hop { over: OwnTopic::Retry(rung), number: hop },
                Place::Parked { batches } => Came::Parked { hop, batches },
                Place::Dead => return climbed,
            };
        }
        unreachable!("a ladder has an end")
    }

    #[test]
    fn an_event_that_fails_each_time_takes_every_rung_once() {
        let whole = [
            (3, Place::Rung(Rung::First)),
            (1, Place::Rung(Rung::Second)),
            (1, Place::Rung(Rung::Third)),
            (1, Place::Parked { batches: 0 }),
            (1, Place::Parked { batches: 1 }),
            (1, Place::Parked { batches: 2 }),
            (1, Place::Dead),
        ];
        let ladder = Ladder::default();
        assert_eq!(climb(&ladder, Came::First), whole);
        assert_eq!(climb(&ladder, Came::Waiting), whole, "one that waited before has used up no attempt");
        let without_parking = Ladder { parked_attempts: 0, ..ladder };
        assert_eq!(climb(&without_parking, Came::First).len(), 4);
    }

    #[test]
    fn what_a_replay_brought_back_is_dead_after_its_immediate_attempts() {
        for came in [Came::Asked, Came::Hop { over: OwnTopic::Replay, number: 9 }] {
            assert_eq!(climb(&Ladder::default(), came), [(3, Place::Dead)]);
        }
    }

    #[test]
    fn what_makes_no_sense_is_dead_at_once_wherever_it_stands() {
        let retried = Came::Hop { over: OwnTopic::Retry(Rung::First), number: 1 };
        for came in [Came::First, Came::Waiting, retried, Came::Parked { hop: 4, batches: 0 }] {
            assert_eq!(Ladder::default().next(came, Hope::None), Place::Dead);
        }
    }
}
