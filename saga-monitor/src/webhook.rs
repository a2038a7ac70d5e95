//! Alarms told to a Slack-compatible webhook. Notices are written with their alarms and told in order; one that
//! isn't taken is told again until it is, so nothing is lost while the webhook is down. One that the webhook refuses goes
//! behind the others. Should two instances tell the same, it is told twice.

use std::time::Duration;

use anyhow::Context;
use futures::FutureExt;
use reqwest::StatusCode;
use serde_json::json;
use service_runtime::{
    Pool, Tasks,
    settings::Url,
    tasks::{Next, Rounds},
};

use crate::store::alarms;

/// What a chat takes at most, about.
const MAX_TEXT_BYTES: usize = 3_000;
/// How long the webhook may take.
const TELL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often it is looked for notices.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause after a notice wasn't taken: the first, doubled each time, and the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Whoever is told of alarms.
pub struct Webhook {
    http: reqwest::Client,
    url: Url,
    pool: Pool,
}

impl Webhook {
    /// The webhook at `url`, told what is in this database.
    ///
    /// # Errors
    /// When no HTTP client can be set up.
    pub fn new(url: Url, pool: Pool) -> anyhow::Result<Self> {
        Ok(Self { http: service_runtime::http::client(&url, TELL_TIMEOUT)?, url, pool })
    }

    /// Tells whatever there is, as long as the process runs.
    pub fn tell_all(self, tasks: &Tasks) {
        let rounds = Rounds::every("alarm-webhook", LOOK_EVERY).backing_off(FIRST_PAUSE, LONGEST_PAUSE);
        tasks.repeat(rounds, self, |webhook| {
            async move { Ok(if webhook.tell_next().await? { Next::Now } else { Next::Later }) }.boxed()
        });
    }

    /// Tells the next notice. Returns whether there was one.
    ///
    /// # Errors
    /// When it wasn't taken: it is told again.
    pub async fn tell_next(&self) -> anyhow::Result<bool> {
        let Some(notice) = alarms::find_notice(&self.pool.get().await?).await? else { return Ok(false) };
        let told = self.http.post(self.url.clone()).json(&json!({"text": bounded(&notice.text)})).send().await;
        let told = told.and_then(reqwest::Response::error_for_status).map_err(reqwest::Error::without_url);
        let client = self.pool.get().await?;
        if let Err(error) = &told {
            alarms::update_refused(&client, notice.id, &service_runtime::chain(error), is_refused(error)).await?;
        }
        told.context("the webhook")?;
        alarms::delete_notice(&client, notice.id).await?;
        Ok(true)
    }
}

/// Whether it is this notice that isn't taken, rather than any.
fn is_refused(error: &reqwest::Error) -> bool {
    let for_its_text = [StatusCode::BAD_REQUEST, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::UNPROCESSABLE_ENTITY];
    error.status().is_some_and(|status| for_its_text.contains(&status))
}

fn bounded(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}
