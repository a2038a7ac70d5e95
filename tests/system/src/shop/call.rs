//! One HTTP call: who asks, what, and what came back.

use std::time::Duration;

use common_events::UserId;
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

/// A call that didn't bring what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The service said no.
    #[error("{call} answered {status} {code}: {detail}")]
    Refused {
        /// Method and URL.
        call: String,
        /// HTTP status.
        status: u16,
        /// The problem's `code`, or empty.
        code: String,
        /// The problem's `detail`, or the body.
        detail: String,
    },
    /// No answer came, or it couldn't be read.
    #[error("{call} got no answer")]
    Silent {
        /// Method and URL.
        call: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The answer isn't what the contract says.
    #[error("{call} answered {body}")]
    Odd {
        /// Method and URL.
        call: String,
        /// What it answered.
        body: String,
        /// What was expected instead.
        source: serde_json::Error,
    },
}

impl Trouble {
    /// The status, when there was an answer that said no.
    pub const fn status(&self) -> Option<u16> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            Self::Silent { .. } | Self::Odd { .. } => None,
        }
    }

    /// The problem's code, when there was one.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Refused { code, .. } => Some(code),
            Self::Silent { .. } | Self::Odd { .. } => None,
        }
    }
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Page<T> {
    pub(super) items: Vec<T>,
    #[serde(default)]
    pub(super) next_cursor: Option<String>,
}

pub(super) struct Call {
    name: String,
    request: RequestBuilder,
}

impl Call {
    pub(super) fn new(http: &reqwest::Client, method: Method, base: &str, path: &str) -> Self {
        let url = format!("{base}{path}");
        Self { name: format!("{method} {url}"), request: http.request(method, url) }
    }

    pub(super) fn by(self, user: &UserId, roles: &str) -> Self {
        self.with(|request| request.header("x-user-id", user.as_str()).header("x-roles", roles))
    }

    pub(super) fn idempotency_key(self, key: &str) -> Self {
        self.with(|request| request.header("idempotency-key", key))
    }

    pub(super) fn prefer_wait(self, seconds: u64) -> Self {
        self.with(|request| {
            request.header("prefer", format!("wait={seconds}")).timeout(Duration::from_secs(seconds + 15))
        })
    }

    pub(super) fn body(self, body: &Value) -> Self {
        self.with(|request| request.json(body))
    }

    /// The answer as what it should be.
    pub(super) async fn answer<T: DeserializeOwned>(self) -> Result<T, Trouble> {
        let (name, bytes) = self.accepted().await?;
        serde_json::from_slice(&bytes).map_err(|source| Trouble::Odd {
            call: name,
            body: String::from_utf8_lossy(&bytes).into_owned(),
            source,
        })
    }

    /// The answer, whatever it says, so long as it isn't a no.
    pub(super) async fn any_json(self) -> Result<Value, Trouble> {
        let (_, bytes) = self.accepted().await?;
        Ok(serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// The answer as text.
    pub(super) async fn text(self) -> Result<String, Trouble> {
        let (_, bytes) = self.accepted().await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Status and answer, also of a no.
    pub(super) async fn any_answer(self) -> Result<(u16, Value), Trouble> {
        let (name, status, bytes) = self.sent().await?;
        match serde_json::from_slice(&bytes) {
            Ok(value) => Ok((status, value)),
            Err(source) => Err(Trouble::Odd { call: name, body: String::from_utf8_lossy(&bytes).into_owned(), source }),
        }
    }

    async fn accepted(self) -> Result<(String, Vec<u8>), Trouble> {
        let (call, status, bytes) = self.sent().await?;
        if (200..300).contains(&status) {
            return Ok((call, bytes));
        }
        let problem: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let text = |field: &str| problem.get(field).and_then(Value::as_str).map(str::to_owned);
        let detail = text("detail").unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
        Err(Trouble::Refused { call, status, code: text("code").unwrap_or_default(), detail })
    }

    async fn sent(self) -> Result<(String, u16, Vec<u8>), Trouble> {
        let Self { name, request } = self;
        let outcome = async {
            let response = request.send().await?;
            let status = response.status().as_u16();
            Ok((status, response.bytes().await?))
        };
        match outcome.await {
            Ok((status, bytes)) => Ok((name, status, bytes.to_vec())),
            Err(source) => Err(Trouble::Silent { call: name, source }),
        }
    }

    fn with(self, change: impl FnOnce(RequestBuilder) -> RequestBuilder) -> Self {
        Self { name: self.name, request: change(self.request) }
    }
}
