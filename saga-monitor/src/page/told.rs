//! What services say of their dead letters, replays and audit (docs/contract.md §5), as far as the page shows it.

use chrono::{DateTime, Utc};
use common_events::Service;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use super::show::{Badge, Tone};

/// A page of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", bound = "T: serde::de::DeserializeOwned")]
pub(super) struct Items<T> {
    pub(super) items: Vec<T>,
    pub(super) next_cursor: Option<String>,
}

/// Dead letters of one cause.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Group {
    pub(super) error_class: String,
    pub(super) topic: String,
    pub(super) count: i64,
    pub(super) first_failed_at: DateTime<Utc>,
    pub(super) last_failed_at: DateTime<Utc>,
}

/// A record that a group could not handle.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Letter {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) offset: i64,
    pub(super) key: Option<String>,
    pub(super) event_id: Option<Uuid>,
    pub(super) event_type: Option<String>,
    pub(super) trace_id: Option<String>,
    pub(super) error_class: String,
    pub(super) error_message: String,
    pub(super) attempts: i32,
    pub(super) first_failed_at: DateTime<Utc>,
    pub(super) last_failed_at: DateTime<Utc>,
    pub(super) due_at: Option<DateTime<Utc>>,
    pub(super) closed_at: Option<DateTime<Utc>>,
    pub(super) replay_id: Option<Uuid>,
    pub(super) purged_at: Option<DateTime<Utc>>,
    pub(super) payload_bytes: Option<i64>,
    // Of one only.
    pub(super) payload: Option<String>,
    pub(super) payload_encoding: Option<String>,
    #[serde(default)]
    pub(super) headers: Vec<Header>,
    pub(super) origin_timestamp: Option<DateTime<Utc>>,
    pub(super) trace_url: Option<String>,
}

impl Letter {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    pub(super) fn path(&self, service: &Service) -> String {
        format!("/dead-letters/{service}/{}", self.id)
    }

    pub(super) fn badge(&self) -> Badge {
        letter_badge(&self.state)
    }

    /// How often it was tried.
    pub(super) fn tried(&self) -> String {
        if self.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", self.attempts) }
    }

    /// Whether somebody can still do something about it.
    pub(super) fn is_open(&self) -> bool {
        OPEN.contains(&&*self.state)
    }
}

/// Those in which something is still to be done about it.
pub(super) const OPEN: [&str; 2] = ["DEAD", "PARKED"];

/// The states a dead letter can have.
pub(super) const LETTER_STATES: [&str; 4] = ["DEAD", "PARKED", "REPLAYED", "DISCARDED"];

fn letter_badge(state: &str) -> Badge {
    match state {
        "DEAD" => Badge::new(Tone::Bad, "dead"),
        "PARKED" => Badge::new(Tone::Warn, "parked"),
        "REPLAYED" => Badge::new(Tone::Good, "replayed"),
        "DISCARDED" => Badge::new(Tone::Quiet, "discarded"),
        other => Badge::new(Tone::Quiet, other),
    }
}

/// A header of a record.
#[derive(Debug, Deserialize)]
pub(super) struct Header {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) encoding: String,
}

/// How far a replay is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Replay {
    pub(super) id: Uuid,
    pub(super) state: String,
    pub(super) to: String,
    pub(super) selection: Value,
    pub(super) rate_per_second: i32,
    pub(super) reason: String,
    pub(super) asked_by: String,
    pub(super) asked_at: DateTime<Utc>,
    pub(super) ended_at: Option<DateTime<Utc>>,
    pub(super) note: Option<String>,
    pub(super) total: i64,
    pub(super) waiting: i64,
    pub(super) skipped: i64,
    pub(super) on_the_way: i64,
    pub(super) applied: i64,
    pub(super) dead_again: i64,
}

impl Replay {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    pub(super) fn path(&self, service: &Service) -> String {
        format!("/replays/{service}/{}", self.id)
    }

    pub(super) fn badge(&self) -> Badge {
        match &*self.state {
            "RUNNING" => Badge::new(Tone::Busy, "running"),
            "DONE" if self.dead_again > 0 => Badge::new(Tone::Warn, "done, some died again"),
            "DONE" => Badge::new(Tone::Good, "done"),
            "HALTED" => Badge::new(Tone::Warn, "halted"),
            other => Badge::new(Tone::Quiet, other),
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.state == "RUNNING"
    }

    /// Whether nothing more comes of it. One that was halted sends no more, and what it has sent is still followed.
    pub(super) fn is_over(&self) -> bool {
        self.ended_at.is_some()
    }

    /// Of a hundred, how much is over.
    pub(super) fn percent(&self) -> i64 {
        (self.applied + self.dead_again + self.skipped) * 100 / self.total.max(1)
    }
}

/// A line of an audit log.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Entry {
    pub(super) id: Uuid,
    pub(super) at: DateTime<Utc>,
    pub(super) who: String,
    pub(super) action: String,
    pub(super) subject: Value,
    pub(super) reason: Option<String>,
    pub(super) result: String,
    pub(super) detail: Value,
    pub(super) trace_id: Option<String>,
}

impl Entry {
    pub(super) fn badge(&self) -> Badge {
        match &*self.result {
            "DONE" => Badge::new(Tone::Good, "done"),
            "REFUSED" => Badge::new(Tone::Warn, "refused"),
            other => Badge::new(Tone::Quiet, other),
        }
    }
}

/// An event that Kafka didn't take when it was published.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ProducerLetter {
    pub(super) topic: String,
    pub(super) key: String,
    pub(super) state: String,
    pub(super) error: String,
    pub(super) diverted_at: DateTime<Utc>,
}
