//! The outside platform, over HTTP: one call per paid order, and what its answers mean here.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use common_events::{EventId, TraceParent, envelope::TRACEPARENT};
use messaging::{Failure, Transient, Unprocessable};
use reqwest::{
    Client, Response, StatusCode,
    header::{CONTENT_TYPE, HeaderName},
    redirect::Policy,
};
use service_runtime::{
    SettingError,
    settings::{Env, Url},
    telemetry::{self, Span, SpanKind},
};
use tokio::sync::Semaphore;

use crate::domain::PaidOrder;

const SHORTEST_TIMEOUT: Duration = Duration::from_millis(1);
const LONGEST_TIMEOUT: Duration = Duration::from_mins(5);
/// The most calls at the same time that can be asked for.
const MAX_CALLS: usize = 256;
/// How much of a refusal's text is kept, in bytes.
const SAID_BYTES: usize = 500;
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// How the platform is reached.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `DATA_PLATFORM_URL`: where paid orders are `POST`ed to; may hold `user:password@`.
    pub url: Url,
    /// `DATA_PLATFORM_TIMEOUT` (5s): how long one call may take, from the connection to the end of the answer.
    pub timeout: Duration,
    /// `DATA_PLATFORM_CONCURRENCY` (16): calls that this process has under way at the same time, at most.
    pub concurrency: usize,
}

impl Settings {
    /// Reads and checks `DATA_PLATFORM_…`.
    pub fn read(env: &Env) -> Result<Self, SettingError> {
        Ok(Self {
            url: env.required("DATA_PLATFORM_URL")?,
            timeout: env.between(
                "DATA_PLATFORM_TIMEOUT",
                Duration::from_secs(5),
                SHORTEST_TIMEOUT..=LONGEST_TIMEOUT,
            )?,
            concurrency: env.within("DATA_PLATFORM_CONCURRENCY", 16, 1..=MAX_CALLS)?,
        })
    }
}

/// Why a paid order was not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// 4xx: the same call will never be taken.
    #[error("the platform refuses it: {status} {said}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// The beginning of what it said.
        said: String,
    },
    /// 5xx, 408, 429, or a status that makes no sense for a `POST`.
    #[error("the platform can't take it now: {status} {said}")]
    Unavailable {
        /// Its status.
        status: StatusCode,
        /// The beginning of what it said.
        said: String,
    },
    /// It may have been taken; nobody knows.
    #[error("the platform gave no answer in time")]
    Silent(#[source] reqwest::Error),
    /// No connection, or one that broke.
    #[error("the platform can't be reached")]
    Unreachable(#[source] reqwest::Error),
}

impl From<NotTaken> for Failure {
    fn from(not_taken: NotTaken) -> Self {
        let class = match not_taken {
            NotTaken::Refused { .. } => return Unprocessable::new(not_taken.to_string()).into(),
            NotTaken::Unavailable { .. } => "platform-unavailable",
            NotTaken::Silent(_) => "platform-timeout",
            NotTaken::Unreachable(_) => "platform-unreachable",
        };
        Transient::new(class, not_taken).into()
    }
}

/// The platform. Cheap to clone; all clones share their connections.
#[derive(Clone)]
pub struct Platform {
    client: Client,
    url: Url,
    /// One for each call that may be under way.
    lines: Arc<Semaphore>,
}

impl Platform {
    /// The platform that these settings name. Nothing is called yet.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        // A POST that follows a redirect may arrive as a GET: it would be answered with 200 and lost.
        let client = service_runtime::http::client_builder(&settings.url, settings.timeout)
            .redirect(Policy::none())
            .build()
            .context("setting up the client of the data platform")?;
        Ok(Self { client, url: settings.url.clone(), lines: Arc::new(Semaphore::new(settings.concurrency)) })
    }

    /// Hands a paid order over, under the id of its event, as a step below `parent` in the order's trace. Waits
    /// while too many others are under way.
    ///
    /// # Panics
    /// Never: the lines are never closed.
    pub async fn hand_over(&self, event: EventId, order: &PaidOrder<'_>, parent: TraceParent) -> Result<(), NotTaken> {
        let _line = self.lines.acquire().await.expect("they are never closed");
        let (me, start) = (telemetry::child_of(parent), SystemTime::now());
        let answered = self.call(event, order, me).await;
        let outcome = match answered {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, said)) => Err(refusal(status, said)),
            Err(error) if error.is_timeout() => Err(NotTaken::Silent(error.without_url())),
            Err(error) => Err(NotTaken::Unreachable(error.without_url())),
        };
        telemetry::record(Span {
            name: "POST paid order".into(),
            kind: SpanKind::Client,
            me,
            parent: Some(parent.span_id),
            start,
            end: SystemTime::now(),
            tags: vec![
                ("server.address", Cow::Owned(self.url.host_str().unwrap_or_default().to_owned())),
                ("messaging.message.id", event.to_string().into()),
            ],
            error: outcome.as_ref().err().map(ToString::to_string),
        });
        outcome
    }

    async fn call(
        &self,
        event: EventId,
        order: &PaidOrder<'_>,
        me: TraceParent,
    ) -> Result<(StatusCode, String), reqwest::Error> {
        let request = self
            .client
            .post(self.url.clone())
            .header(IDEMPOTENCY_KEY, event.to_string())
            .header(TRACEPARENT, me.to_string())
            .header(CONTENT_TYPE, "application/json")
            .json(order);
        let response = request.send().await?;
        Ok((response.status(), beginning_of(response).await))
    }
}

/// What a status that is no success means.
fn refusal(status: StatusCode, said: String) -> NotTaken {
    let passes = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS].contains(&status);
    if status.is_client_error() && !passes {
        NotTaken::Refused { status, said }
    } else {
        NotTaken::Unavailable { status, said }
    }
}

/// The status says all; the text is for people, and may be missing.
async fn beginning_of(mut response: Response) -> String {
    let mut said = Vec::new();
    while said.len() < SAID_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        said.extend_from_slice(&chunk);
    }
    said.truncate(SAID_BYTES);
    String::from_utf8_lossy(&said).into_owned()
}
