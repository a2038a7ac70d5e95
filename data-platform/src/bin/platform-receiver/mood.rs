//! How the platform answers, as it was told to.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

/// The longest that the platform can be told to be in a mood, in seconds; without a time it stays so.
const LONGEST_S: u64 = 24 * 60 * 60;

/// What the platform does with a call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Answer {
    /// 201, and 200 when it has it already.
    #[default]
    Takes,
    /// 503: it is down for a while.
    Unavailable,
    /// 422: it will never take it.
    Refuses,
    /// It takes it, and answers so late that nobody waits any more.
    Late,
}

/// What it is told: `PUT /mode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Told {
    answer: Answer,
    /// For so long; without it until told otherwise.
    seconds: Option<u64>,
    /// Only for what this user bought; without it for everybody.
    user_id: Option<String>,
}

impl Told {
    pub(crate) fn is_too_long(&self) -> bool {
        self.seconds.is_some_and(|seconds| seconds > LONGEST_S)
    }
}

/// How it is now: `GET /mode`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Now {
    answer: Answer,
    /// For so long yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
}

/// The platform's mood.
#[derive(Default)]
pub(crate) struct Mood(Mutex<Held>);

#[derive(Default)]
struct Held {
    answer: Answer,
    until: Option<Instant>,
    user_id: Option<String>,
}

impl Mood {
    pub(crate) fn be(&self, told: Told) {
        let until = told.seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
        *self.held() = Held { answer: told.answer, until, user_id: told.user_id };
    }

    /// What to do with a call about this user's order.
    pub(crate) fn answer_for(&self, user_id: Option<&str>) -> Answer {
        let held = self.held();
        let is_meant = held.user_id.is_none() || held.user_id.as_deref() == user_id;
        if is_meant { held.answer } else { Answer::Takes }
    }

    pub(crate) fn now(&self) -> Now {
        let held = self.held();
        Now {
            answer: held.answer,
            seconds: held.until.map(|until| until.saturating_duration_since(Instant::now()).as_secs() + 1),
            user_id: held.user_id.clone(),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // Nothing panics while it is locked.
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.until.is_some_and(|until| until <= Instant::now()) {
            *held = Held::default();
        }
        held
    }
}
