//! What words of the monitor mean to somebody who has never seen it: how they are taken, and what to do.

use super::show::{Badge, Tone};
use crate::{
    alarm::{Alarm, AlarmKind, CauseClass},
    domain::{State, StepStatus},
    whereabouts::GroupState,
};

impl State {
    pub(super) fn badge(self) -> Badge {
        Badge::new(self.tone(), self.words())
    }

    const fn tone(self) -> Tone {
        match self {
            Self::InProgress => Tone::Busy,
            Self::Completed => Tone::Good,
            Self::Compensating => Tone::Warn,
            Self::Compensated | Self::Failed => Tone::Quiet,
        }
    }

    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::InProgress => "in progress",
            Self::Completed => "completed",
            Self::Compensating => "compensating",
            Self::Compensated => "compensated",
            Self::Failed => "failed",
        }
    }

    /// What it means, in a sentence.
    pub(super) const fn meaning(self) -> &'static str {
        match self {
            Self::InProgress => "something is still owed",
            Self::Completed => "confirmed, issued",
            Self::Compensating => "cancelled, being undone",
            Self::Compensated => "cancelled, all undone",
            Self::Failed => "rejected, or unreadable",
        }
    }

    /// As a class of a drawing.
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::InProgress => "s-progress",
            Self::Completed => "s-completed",
            Self::Compensating => "s-compensating",
            Self::Compensated => "s-compensated",
            Self::Failed => "s-failed",
        }
    }
}

impl StepStatus {
    pub(super) fn badge(self) -> Badge {
        let (tone, word) = match self {
            Self::Success => (Tone::Good, "done"),
            Self::Failed => (Tone::Warn, "refused"),
            Self::Retrying => (Tone::Warn, "retrying"),
            Self::Parked => (Tone::Warn, "parked"),
            Self::Dead => (Tone::Bad, "dead"),
        };
        Badge::new(tone, word)
    }
}

impl GroupState {
    pub(super) fn badge(self) -> Badge {
        let tone = match self {
            Self::Applied => Tone::Good,
            Self::Unread => Tone::Busy,
            Self::Waiting | Self::Retrying | Self::Parked | Self::Unknown => Tone::Warn,
            Self::Dead => Tone::Bad,
            Self::Discarded => Tone::Quiet,
        };
        Badge::new(tone, self.as_str())
    }
}

impl AlarmKind {
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::Stuck => "Stuck",
            Self::Mismatched => "Does not match",
            Self::DeadLetter => "Dead letters",
            Self::Lag => "Falling behind",
            Self::Outbox => "Events wait",
        }
    }

    /// What its count counts.
    pub(super) const fn counts(self, count: i64) -> &'static str {
        match (self, count) {
            (Self::Stuck | Self::Mismatched, 1) => "saga",
            (Self::Stuck | Self::Mismatched, _) => "sagas",
            (Self::DeadLetter, 1) => "dead letter",
            (Self::DeadLetter, _) => "dead letters",
            (Self::Lag, _) => "records behind",
            (Self::Outbox, 1) => "event",
            (Self::Outbox, _) => "events",
        }
    }

    /// The worst come first.
    pub(super) const fn weight(self) -> u8 {
        match self {
            Self::Stuck => 0,
            Self::Mismatched => 1,
            Self::DeadLetter => 2,
            Self::Outbox => 3,
            Self::Lag => 4,
        }
    }
}

impl CauseClass {
    /// Why, in a few words.
    pub(super) const fn words(self) -> &'static str {
        match self {
            Self::ConsumerDead => "the consumer is not running",
            Self::Unread => "the consumer has not read it yet",
            Self::Retrying => "an event failed and is tried again",
            Self::Parked => "an event failed and is parked",
            Self::Dead => "an event is a dead letter",
            Self::Discarded => "the event's dead letter was discarded",
            Self::WaitingBehind => "it waits behind an event that failed",
            Self::EventLost => "the event itself is lost",
            Self::AnswerLost => "the answer got lost",
            Self::RelayDead => "the relay does not answer",
            Self::NewerVersion => "it holds an event of a newer release, which this monitor cannot read",
            Self::Unknown => "the service does not answer",
            Self::Mismatch => "facts contradict each other",
            Self::DeadLetters => "events were set aside",
            Self::GrowingLag => "more is written than read",
            Self::OutboxWaits => "events do not leave the service's database",
        }
    }

    /// What somebody can do about it.
    pub(super) const fn advice(self) -> &'static str {
        match self {
            Self::ConsumerDead => {
                "Start the service again: it reads on where it stopped, and the saga goes on by itself."
            }
            Self::Unread => {
                "Nothing to do if the lag shrinks. If it grows, look at the service's log and add instances."
            }
            Self::Retrying => "It goes on by itself if the next attempt succeeds. Look at the error below.",
            Self::Parked => {
                "It is tried again in batches; replay it when its cause is gone and you don't want to wait."
            }
            Self::Dead => "Mend the cause, then replay the dead letter: the saga goes on from there.",
            Self::Discarded => {
                "Nobody will handle this event any more. Cancel the order, so that everything is undone."
            }
            Self::WaitingBehind => "It goes on when the event before it is through. Look at that one.",
            Self::EventLost => "Nobody can tell this event again. Cancel the order, so that everything is undone.",
            Self::AnswerLost => "Resume the saga: the service is asked again for the answer that it gave.",
            Self::RelayDead => "Start the outbox-relay: nothing is lost, it moves on what waits.",
            Self::NewerVersion => {
                "What is owed may be there. Deploy the newer release of saga-monitor, then run saga-monitor rebuild."
            }
            Self::Unknown => "Start the service, or find out why it does not answer.",
            Self::Mismatch => "Compare the steps below. What was not undone may have to be undone by hand.",
            Self::DeadLetters => "Look at one, mend the cause, then replay them all.",
            Self::GrowingLag => "Look at the group's rates, and at its log.",
            Self::OutboxWaits => {
                "Start the outbox-relay, or look at its log: Kafka may not take this topic. Nothing is lost, it waits."
            }
        }
    }
}

impl Alarm {
    /// One text of where to look.
    pub(super) fn says(&self, field: &str) -> Option<&str> {
        self.detail.get(field)?.as_str()
    }

    /// The sagas that it names.
    pub(super) fn sagas(&self) -> Vec<&str> {
        let named = self.detail.get("sagas").and_then(serde_json::Value::as_array);
        named.into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
    }
}
