//! What operators see of one service: where an event stands, and what died (docs/contract.md §5).

use std::time::Duration;

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use reqwest::{Method, RequestBuilder};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use uuid::Uuid;

const CALL_TIMEOUT: Duration = Duration::from_secs(30);

/// Where an event stands in a group.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[expect(missing_docs, reason = "the fields of docs/contract.md §5, under its names")]
pub struct Place {
    pub state: String,
    pub tier: Option<String>,
    pub due_at: Option<DateTime<Utc>>,
    pub behind: Option<Uuid>,
}

/// A service's admin API, in header mode.
#[derive(Clone)]
pub struct Office {
    http: reqwest::Client,
    url: String,
}

impl Office {
    /// That of the service that listens there.
    ///
    /// # Panics
    /// When the TLS library can't be set up.
    pub fn at(url: impl Into<String>) -> Self {
        let http = reqwest::Client::builder().timeout(CALL_TIMEOUT).no_proxy().build();
        Self { http: http.expect("a client without special settings"), url: url.into() }
    }

    /// data-platform's of the local suite. `DATA_PLATFORM_URL` is where the platform outside is.
    pub fn of_data_platform() -> Self {
        Self::at(std::env::var("DATA_PLATFORM_SERVICE_URL").unwrap_or_else(|_| "http://127.0.0.1:8086".to_owned()))
    }

    /// Where this event stands.
    pub async fn place(&self, event: Uuid) -> anyhow::Result<Place> {
        self.get(&format!("/admin/inbox/{event}")).await
    }

    /// Any list or resource below `/admin`.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.send(self.request(Method::GET, path)).await
    }

    /// Asks for something to be done.
    pub async fn send_body<T: DeserializeOwned>(&self, method: Method, path: &str, body: &Value) -> anyhow::Result<T> {
        self.send(self.request(method, path).json(body)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        request.header("x-user-id", "operator").header("x-roles", "operator")
    }

    async fn send<T: DeserializeOwned>(&self, request: RequestBuilder) -> anyhow::Result<T> {
        let response = request.send().await.with_context(|| format!("asking {}", self.url))?;
        let (url, status) = (response.url().clone(), response.status());
        let body = response.bytes().await.context("an answer")?;
        ensure!(status.is_success(), "{url} answers {status} {}", String::from_utf8_lossy(&body));
        serde_json::from_slice(&body).with_context(|| format!("what {url} answers"))
    }
}
