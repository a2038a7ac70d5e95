//! The platform outside, for which `platform-receiver` stands in: what arrived there, and how it answers.

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use common_events::{OrderId, UserId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// More than any test sends.
const LISTED: usize = 1_000;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// It takes what comes.
    Takes,
    /// 503.
    Unavailable,
    /// 422.
    Refuses,
    /// It takes what comes, and answers when nobody waits any more.
    Late,
}

/// For whom.
#[derive(Debug, Clone, Copy)]
pub enum Whom<'u> {
    /// Whatever comes.
    Everybody,
    /// Only what this user bought.
    Only(&'u UserId),
}

/// One payment that arrived, however often.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of the receiver's list, under its names")]
pub struct Arrival {
    /// The event's id.
    pub idempotency_key: Uuid,
    pub order_id: OrderId,
    /// None when every call was turned away.
    pub taken_at: Option<DateTime<Utc>>,
    pub call_count: usize,
    /// The first fifty.
    pub calls: Vec<Call>,
}

/// One call of data-platform.
#[derive(Debug, Clone, Copy, Deserialize)]
#[expect(missing_docs, reason = "the fields of the receiver's list, under its names")]
pub struct Call {
    pub at: DateTime<Utc>,
    /// HTTP status.
    pub answered: u16,
}

#[derive(Deserialize)]
struct Listed {
    items: Vec<Arrival>,
}

#[derive(Deserialize)]
struct Shown {
    counts: Counts,
}

#[derive(Deserialize)]
struct Counts {
    taken: u64,
}

/// The platform. Cheap to clone.
#[derive(Clone)]
pub struct Outside {
    http: reqwest::Client,
    url: String,
}

impl Outside {
    /// The one that listens there.
    ///
    /// # Panics
    /// When the TLS library can't be set up.
    pub fn at(url: impl Into<String>) -> Self {
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().build();
        Self { http: http.expect("a client without special settings"), url: url.into() }
    }

    /// The one of the local suite: where `deploy/local/suite env` says, else at its usual port.
    pub fn from_env() -> Self {
        Self::at(std::env::var("PLATFORM_RECEIVER_URL").unwrap_or_else(|_| "http://127.0.0.1:8096".to_owned()))
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Tells it how to answer from now on.
    pub async fn answers(&self, answer: Answer, whom: Whom<'_>) -> anyhow::Result<()> {
        let mode = match whom {
            Whom::Everybody => json!({ "answer": answer }),
            Whom::Only(user) => json!({ "answer": answer, "userId": user }),
        };
        let told = self.http.put(format!("{}/mode", self.url)).json(&mode).send().await.context("the receiver")?;
        ensure!(told.status().is_success(), "the receiver answers {} to {mode}", told.status());
        Ok(())
    }

    /// What arrived about this order.
    pub async fn about(&self, order: OrderId) -> anyhow::Result<Vec<Arrival>> {
        self.list(&format!("orderId={order}")).await
    }

    /// All that arrived, the latest first.
    pub async fn arrivals(&self) -> anyhow::Result<Vec<Arrival>> {
        self.list(&format!("limit={LISTED}")).await
    }

    /// How many payments it has taken ever, each counted once.
    pub async fn taken(&self) -> anyhow::Result<u64> {
        let shown: Shown = self.http.get(&self.url).send().await.context("the receiver")?.json().await?;
        Ok(shown.counts.taken)
    }

    async fn list(&self, query: &str) -> anyhow::Result<Vec<Arrival>> {
        let url = format!("{}/received?{query}", self.url);
        let listed: Listed = self.http.get(url).send().await.context("the receiver")?.json().await?;
        Ok(listed.items)
    }
}
