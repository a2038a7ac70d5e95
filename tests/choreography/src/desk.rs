//! What operators do, and who makes a process fail: their calls, on a port of their own.

use std::sync::Arc;

use anyhow::{Context, bail, ensure};
use common_events::Service;
use messaging::{admin::Office, delivery::Group, faults::Death};
use reqwest::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use service_runtime::{Health, Tasks};
use test_support::{Served, runtime_with};
use tokio_util::sync::CancellationToken;

/// A dead letter, as lists have it.
#[derive(Debug, Deserialize)]
pub(crate) struct Letter {
    pub(crate) id: String,
    pub(crate) topic: String,
}

/// A fault: once, a process dies this death.
pub(crate) fn fault_of(Death { step, side }: Death) -> Value {
    json!({"kind": "death", "step": step, "side": side, "times": 1, "reason": "a test"})
}

/// The operators' calls of one process.
pub(crate) struct Desk {
    office: Office,
    served: Served,
    web: reqwest::Client,
}

impl Desk {
    pub(crate) fn of(service: Service, group: &Arc<Group>, web: &reqwest::Client) -> Self {
        let runtime = runtime_with(service, &[("FAULT_INJECTION", "true")]);
        let office = Office::of(Arc::clone(group), &runtime.settings);
        let served = Served::new(&runtime, office.routes());
        Self { office, served, web: web.clone() }
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<(u16, Value)> {
        let request = self.web.request(method, format!("{}{path}", self.served.url));
        let request = request.header("X-User-Id", "olga").header("X-Roles", "operator");
        let request = body.into_iter().fold(request, reqwest::RequestBuilder::json);
        let answer = request.send().await.with_context(|| path.to_owned())?;
        Ok((answer.status().as_u16(), answer.json().await.with_context(|| path.to_owned())?))
    }

    /// Switches a fault on, in place of the one before.
    pub(crate) async fn set_fault(&self, fault: &Value) -> anyhow::Result<()> {
        let (status, said) = self.call(Method::PUT, "/admin/faults", Some(fault)).await?;
        ensure!(status == 200, "{fault}: {status} {said}");
        Ok(())
    }

    /// Whether the fault that was switched on last can still strike.
    pub(crate) async fn has_fault(&self) -> anyhow::Result<bool> {
        let (status, said) = self.call(Method::GET, "/admin/faults", None).await?;
        ensure!(status == 200, "{status} {said}");
        Ok(!said["fault"].is_null())
    }

    pub(crate) async fn clear_fault(&self) -> anyhow::Result<()> {
        let (status, said) = self.call(Method::DELETE, "/admin/faults", None).await?;
        ensure!(status == 200, "{status} {said}");
        Ok(())
    }

    /// What is dead, the oldest last.
    pub(crate) async fn dead_letters(&self) -> anyhow::Result<Vec<Letter>> {
        let (status, mut said) = self.call(Method::GET, "/admin/dead-letters?state=DEAD", None).await?;
        ensure!(status == 200, "{status} {said}");
        serde_json::from_value(said["items"].take()).context("dead letters")
    }

    /// Says what a replay would do; `None` when there is nothing to replay.
    pub(crate) async fn foretell(&self, replay: &Value) -> anyhow::Result<Option<Value>> {
        let mut asked = replay.clone();
        asked["dryRun"] = json!(true);
        match self.call(Method::POST, "/admin/dead-letters/replay", Some(&asked)).await? {
            (200, foretold) => Ok(Some(foretold)),
            (404, _) => Ok(None),
            (409, problem) if problem["code"] == "topic-not-remembered" => Ok(None),
            (status, said) => bail!("a dry run: {status} {said}"),
        }
    }

    /// Asks for a replay; its id, or `None` when there is nothing to replay, or nothing that may go where it is to go.
    pub(crate) async fn ask_for_replay(&self, replay: &Value) -> anyhow::Result<Option<String>> {
        match self.call(Method::POST, "/admin/dead-letters/replay", Some(replay)).await? {
            (202, replay) => Ok(Some(replay["id"].as_str().context("an id")?.to_owned())),
            (404, _) => Ok(None),
            (409, problem) if problem["code"] == "topic-not-remembered" => Ok(None),
            (status, said) => bail!("a replay: {status} {said}"),
        }
    }

    /// How a replay ended, if it has.
    pub(crate) async fn ended(&self, replay: &str) -> anyhow::Result<Option<Value>> {
        let (status, said) = self.call(Method::GET, &format!("/admin/replays/{replay}"), None).await?;
        ensure!(status == 200, "{status} {said}");
        Ok(said["endedAt"].is_string().then_some(said))
    }

    /// Gives up all dead letters of a topic. Returns how many.
    pub(crate) async fn discard(&self, topic: &str) -> anyhow::Result<usize> {
        let asked = json!({"filter": {"state": "DEAD", "topic": topic}, "reason": "nobody needs it"});
        match self.call(Method::POST, "/admin/dead-letters/discard", Some(&asked)).await? {
            (200, closed) => Ok(usize::try_from(closed["discarded"].as_u64().unwrap_or_default())?),
            (404, _) => Ok(0),
            (status, said) => bail!("a discard: {status} {said}"),
        }
    }

    /// The state of a dead letter.
    pub(crate) async fn state_of(&self, letter: &str) -> anyhow::Result<String> {
        let (status, said) = self.call(Method::GET, &format!("/admin/dead-letters/{letter}"), None).await?;
        ensure!(status == 200, "{status} {said}");
        Ok(said["state"].as_str().context("a state")?.to_owned())
    }

    /// Works on replays until it is stopped.
    pub(crate) fn runner(&self) -> Tasks {
        let tasks = Tasks::new(Health::new(CancellationToken::new()));
        self.office.run_replays(&tasks);
        tasks
    }
}
