//! Alarms and what causes them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::domain::words;

words! {
    /// What kind of alarm it is (docs/contract.md §7).
    AlarmKind, "kind of alarm" {
        /// A saga doesn't move.
        Stuck => "stuck",
        /// Something in a saga doesn't match.
        Mismatched => "mismatched",
        /// A group has set events aside.
        DeadLetter => "dead-letter",
        /// A group falls behind.
        Lag => "lag",
        /// Events don't leave a service's database.
        Outbox => "outbox",
    }
}

words! {
    /// How an alarm stands.
    AlarmState, "state of an alarm" {
        /// Nobody has seen it yet.
        Open => "OPEN",
        /// Somebody looks after it.
        Acknowledged => "ACKNOWLEDGED",
        /// What caused it is over.
        Closed => "CLOSED",
    }
}

words! {
    /// Why there is an alarm.
    CauseClass, "cause" {
        /// The group that owes the answer has no member.
        ConsumerDead => "CONSUMER_DEAD",
        /// The group that owes the answer has the event still before it.
        Unread => "UNREAD",
        /// The event waits in a retry topic.
        Retrying => "RETRYING",
        /// The event waits for the next batch of parked ones.
        Parked => "PARKED",
        /// The group has given the event up.
        Dead => "DEAD",
        /// An operator closed the event's dead letter for good.
        Discarded => "DISCARDED",
        /// The event waits behind another of its key.
        WaitingBehind => "WAITING_BEHIND",
        /// The answer was never on its topic: nobody handles what it is owed for, it began with a request.
        EventLost => "EVENT_LOST",
        /// The group did the work, and its answer is on no topic.
        AnswerLost => "ANSWER_LOST",
        /// Nobody moves events from the services' databases to Kafka.
        RelayDead => "RELAY_DEAD",
        /// It holds an event of a newer release, which this monitor can't read.
        NewerVersion => "NEWER_VERSION",
        /// Where the event lies can't be found out: the service doesn't answer.
        Unknown => "UNKNOWN",
        /// Facts of a saga contradict each other.
        Mismatch => "MISMATCH",
        /// Dead letters wait for somebody.
        DeadLetters => "DEAD_LETTERS",
        /// More is written than read.
        GrowingLag => "GROWING_LAG",
        /// Rows of an outbox wait: the relay is dead, or Kafka doesn't take their topic.
        OutboxWaits => "OUTBOX_WAITS",
    }
}

impl CauseClass {
    /// Whether what is owed may still come without anybody doing anything about the event itself; as far as is known.
    pub const fn is_on_its_way(self) -> bool {
        match self {
            Self::ConsumerDead
            | Self::Unread
            | Self::Retrying
            | Self::Parked
            | Self::WaitingBehind
            | Self::RelayDead
            | Self::OutboxWaits
            | Self::NewerVersion
            | Self::Unknown => true,
            Self::Dead
            | Self::Discarded
            | Self::EventLost
            | Self::AnswerLost
            | Self::Mismatch
            | Self::DeadLetters
            | Self::GrowingLag => false,
        }
    }
}

/// A cause that is there now.
#[derive(Debug, Clone, PartialEq)]
pub struct Raised {
    /// What kind of alarm it makes.
    pub kind: AlarmKind,
    /// What tells it from other causes of the kind.
    pub cause: String,
    /// Its class.
    pub class: CauseClass,
    /// For people, in one line.
    pub title: String,
    /// Where to look: sagas, event, group, place.
    pub detail: Value,
    /// How many sagas, dead letters or records.
    pub count: i64,
}

/// An alarm.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Alarm {
    /// Its id.
    pub id: uuid::Uuid,
    /// What kind of alarm it is.
    pub kind: AlarmKind,
    /// How it stands.
    pub state: AlarmState,
    /// Why there is one.
    pub cause: CauseClass,
    /// For people, in one line.
    pub title: String,
    /// Where to look: sagas, event, group, place.
    #[schema(value_type = Object)]
    pub detail: Value,
    /// How many sagas, dead letters or records.
    pub count: i64,
    /// When it was raised.
    pub opened_at: DateTime<Utc>,
    /// When anything of it changed last.
    pub changed_at: DateTime<Utc>,
    /// When somebody took it on, and who.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<DateTime<Utc>>,
    /// Who took it on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged_by: Option<String>,
    /// When it was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed_at: Option<DateTime<Utc>>,
}
