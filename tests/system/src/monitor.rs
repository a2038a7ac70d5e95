//! saga-monitor as its operators use it, and the other services' calls for operators.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use common_events::Service;
use reqwest::{Client, Method};
use serde_json::Value;

use crate::{Suite, eventually, suite::Instance};

/// No answer within this counts as none.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// An operator of a suite.
pub struct Operator<'s> {
    suite: &'s Suite,
    http: Client,
}

impl<'s> Operator<'s> {
    /// Somebody who may look at everything of this suite.
    pub fn of(suite: &'s Suite) -> anyhow::Result<Self> {
        let http = Client::builder().timeout(CALL_TIMEOUT).no_proxy().build().context("an HTTP client")?;
        Ok(Self { suite, http })
    }

    /// What a service answers, with its status.
    pub async fn ask(
        &self,
        service: Service,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<(u16, Value)> {
        let url = format!("{}{path}", self.suite.url(service, Instance::First));
        let request = self.http.request(method, &url).header("x-user-id", "olga").header("x-roles", "operator");
        let request = body.into_iter().fold(request, reqwest::RequestBuilder::json);
        let answer = request.send().await.with_context(|| url.clone())?;
        let status = answer.status().as_u16();
        let text = answer.text().await.with_context(|| url.clone())?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::String(text))))
    }

    /// What the monitor answers to a look that goes well.
    pub async fn look(&self, path: &str) -> anyhow::Result<Value> {
        let (status, answer) = self.ask(Service::SagaMonitor, Method::GET, path, None).await?;
        ensure!(status == 200, "{path}: {status} {answer}");
        Ok(answer)
    }

    /// The saga, once it stands so.
    pub async fn saga(&self, key: impl std::fmt::Display, state: &str, patience: Duration) -> anyhow::Result<Value> {
        eventually(&format!("the saga {key} is {state}"), patience, async || {
            let saga = self.look(&format!("/api/sagas/{key}")).await?;
            ensure!(saga["state"] == state, "{} waits for {}", saga["state"], saga["waitingFor"]);
            Ok(saga)
        })
        .await
    }

    /// The alarms that are open, of one kind.
    pub async fn open_alarms(&self, kind: &str) -> anyhow::Result<Vec<Value>> {
        let page = self.look(&format!("/api/alarms?state=OPEN&kind={kind}")).await?;
        page["items"].as_array().cloned().context("items")
    }

    /// The one alarm that is open, of one kind, once it has this cause and concerns so many.
    pub async fn one_alarm(&self, kind: &str, cause: &str, count: i64, patience: Duration) -> anyhow::Result<Value> {
        eventually(&format!("there is one alarm, {cause} of {count}"), patience, async || {
            let alarms = self.open_alarms(kind).await?;
            let [alarm] = alarms.as_slice() else { anyhow::bail!("{alarms:?}") };
            ensure!(alarm["cause"] == cause && alarm["count"] == count, "{alarm}");
            Ok(alarm.clone())
        })
        .await
    }

    /// The ids of all alarms about sagas that there ever were, each also when it is over.
    pub async fn alarms_about_sagas(&self) -> anyhow::Result<BTreeSet<String>> {
        let mut ids = BTreeSet::new();
        for kind in ["stuck", "mismatched"] {
            let page = self.look(&format!("/api/alarms?kind={kind}&limit=200")).await?;
            let items = page["items"].as_array().context("items")?;
            ensure!(items.len() < 200, "more {kind} alarms than one page takes");
            for alarm in items {
                ids.insert(alarm["id"].as_str().context("an id")?.to_owned());
            }
        }
        Ok(ids)
    }

    /// Waits until the monitor has judged what it knows by now: a round may have begun before.
    pub async fn has_judged(&self, patience: Duration) -> anyhow::Result<()> {
        let url = format!("{}/metrics", self.suite.url(Service::SagaMonitor, Instance::First));
        let last_round = async || {
            let text = self.http.get(&url).send().await.with_context(|| url.clone())?.text().await?;
            let last = "task_last_good_round_timestamp_seconds{task=\"detection\"} ";
            let last = text.lines().find_map(|line| line.strip_prefix(last)).context("no round of detection")?;
            Ok::<f64, anyhow::Error>(last.parse()?)
        };
        for _ in 0..2 {
            let before = last_round().await?;
            eventually("the monitor judges", patience, async || {
                let last = last_round().await?;
                ensure!(last > before, "its last round ended at {last}");
                Ok(())
            })
            .await?;
        }
        Ok(())
    }

    /// Waits until no alarm of the kind is open any more.
    pub async fn no_alarm_is_left(&self, kind: &str, patience: Duration) -> anyhow::Result<()> {
        eventually(&format!("no {kind} alarm is open"), patience, async || {
            let alarms = self.open_alarms(kind).await?;
            ensure!(alarms.is_empty(), "{alarms:?}");
            Ok(())
        })
        .await
    }

    /// Asks for a resume; the status and what was answered.
    pub async fn resume(&self, key: impl std::fmt::Display) -> anyhow::Result<(u16, Value)> {
        let body = serde_json::json!({"reason": "it stands still"});
        self.ask(Service::SagaMonitor, Method::POST, &format!("/api/sagas/{key}/resume"), Some(&body)).await
    }
}
