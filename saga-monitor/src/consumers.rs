//! How the groups and their processes do: lag from Kafka, rates and latencies from the services' `/metrics`.
//! Looked at every few seconds, so that who asks doesn't wait, and rates have two ends.

mod history;
mod metrics;

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use common_events::Service;
use futures::{FutureExt, future::BoxFuture};
use serde::Serialize;
use service_runtime::{
    Tasks,
    tasks::{Backoff, Next, Rounds},
};
use utoipa::ToSchema;

use crate::{
    cluster::{Cluster, Standing},
    services::{Process, Services},
};
pub use history::{BEATS_KEPT, Beat, Moment};
pub use metrics::Sample;

/// What counts acknowledgements of Kafka: in the relay, and where events are published without an outbox.
const PUBLISHED: &str = "events_published_total";
/// What counts handled events.
const HANDLED: &str = "events_handled_total";
/// How old events are when they are handled.
const AGE: &str = "event_age_seconds";
/// How often everything is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How many looks are kept: rates are over the last half minute.
const LOOKS_KEPT: usize = 7;

/// One look at everything.
#[derive(Debug, Clone)]
pub struct Look {
    /// When.
    pub at: DateTime<Utc>,
    /// How the cluster stood; `None` when it didn't answer.
    pub cluster: Option<Standing>,
    /// What the processes' `/metrics` said; nothing of those that didn't answer.
    pub samples: BTreeMap<Process, Sample>,
}

/// The last looks, and what followed from those before. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Observed(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    looks: VecDeque<Arc<Look>>,
    history: history::History,
}

impl Observed {
    /// Takes a look, and forgets the oldest.
    pub fn take(&self, look: Look) {
        let mut kept = self.kept();
        let Kept { looks, history } = &mut *kept;
        if let Some(before) = looks.back() {
            history.take(before, &look);
        }
        looks.push_back(Arc::new(look));
        if looks.len() > LOOKS_KEPT {
            looks.pop_front();
        }
    }

    /// Looks every few seconds, as long as the process runs.
    pub fn keep_up(&self, tasks: &Tasks, cluster: Cluster, services: Services) {
        let kafka = Backoff::new("look-at-kafka", LOOK_EVERY, LOOK_EVERY);
        let looking = Looking { cluster, services, observed: self.clone(), kafka };
        tasks.repeat(Rounds::every("observation", LOOK_EVERY), looking, |looking| looking.look().boxed());
    }

    /// The oldest and the latest look that are kept.
    pub fn ends(&self) -> Option<(Arc<Look>, Arc<Look>)> {
        let kept = self.kept();
        Some((Arc::clone(kept.looks.front()?), Arc::clone(kept.looks.back()?)))
    }

    /// The latest look.
    pub fn latest(&self) -> Option<Arc<Look>> {
        self.kept().looks.back().map(Arc::clone)
    }

    /// How groups did over the last hour, the oldest first.
    pub fn history(&self) -> Vec<Moment> {
        self.kept().history.moments()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks again and again.
struct Looking {
    cluster: Cluster,
    services: Services,
    observed: Observed,
    /// A look without Kafka is one all the same. That it is away is said once.
    kafka: Backoff<&'static str>,
}

impl Looking {
    async fn look(&mut self) -> anyhow::Result<Next> {
        let (look, silent) = look_around(&self.cluster, &self.services).await;
        self.observed.take(look);
        if let Some(error) = silent {
            self.kafka.failed(&format!("{error:#}"));
        } else {
            self.kafka.worked();
        }
        Ok(Next::Later)
    }
}

/// One look at everything.
pub fn look<'a>(cluster: &'a Cluster, services: &'a Services) -> BoxFuture<'a, Look> {
    look_around(cluster, services).map(|(look, _)| look).boxed()
}

/// The same, and why Kafka didn't answer, if it didn't.
async fn look_around(cluster: &Cluster, services: &Services) -> (Look, Option<anyhow::Error>) {
    let at = Utc::now();
    let (looked, answers) = tokio::join!(cluster.look(), services.texts("/metrics"));
    let (cluster, silent) = match looked {
        Ok(standing) => (Some(standing), None),
        Err(error) => (None, Some(error)),
    };
    let samples = answers.into_iter().map(|(process, text)| (process, Sample::read(&text)));
    (Look { at, cluster, samples: samples.collect() }, silent)
}

/// How long something takes, in milliseconds, over the last half minute; since the start when nothing came.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// The mean.
    pub avg_ms: f64,
    /// Half are faster.
    pub p50_ms: f64,
    /// 95 of 100 are faster.
    pub p95_ms: f64,
    /// 99 of 100 are faster.
    pub p99_ms: f64,
}

/// What a group does with a topic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Doing {
    /// Records of the topic that Kafka acknowledges per second, whoever sends them.
    pub publish_rate: f64,
    /// Events of the topic that the group handles per second.
    pub handle_rate: f64,
    /// From an event's own time to the end of its handling.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
    /// Events set aside since the group's process began.
    pub errors: u64,
    /// Attempts after a first that failed.
    pub retries: u64,
    /// Events that came again; of the whole process.
    pub duplicates: u64,
}

impl Look {
    /// What `group` did with `topic` between `before` and this look.
    pub fn doing(&self, before: &Self, group: Service, topic: &str) -> Doing {
        let total = |name: &str, labels: &[(&str, &str)]| {
            metrics::whole(self.of(group).map(|sample| sample.sum(name, labels)).sum())
        };
        Doing {
            publish_rate: self.publish_rate(before, topic),
            handle_rate: self.handle_rate(before, group, topic),
            latency: self.latency(before, group, topic),
            errors: total("events_dead_total", &[("topic", topic)]),
            retries: total("event_retries_total", &[("topic", topic)]),
            duplicates: total("event_duplicates_total", &[]),
        }
    }

    /// What the processes of a service said.
    pub fn of(&self, service: Service) -> impl Iterator<Item = &Sample> {
        self.samples.iter().filter(move |(process, _)| process.service == service).map(|(_, sample)| sample)
    }

    /// What each process said that answered both looks: at `before`, and at this one. Of another nothing is known of
    /// the time between: its totals would be a peak that never was.
    fn both<'l>(&'l self, before: &'l Self) -> impl Iterator<Item = (Service, &'l Sample, &'l Sample)> {
        let both =
            move |(process, now): (&Process, &'l Sample)| Some((process.service, before.samples.get(process)?, now));
        self.samples.iter().filter_map(both)
    }

    fn seconds_since(&self, before: &Self) -> f64 {
        (self.at - before.at).to_std().unwrap_or_default().as_secs_f64()
    }

    /// Records of a topic that Kafka acknowledged per second between `before` and this look, whoever sent them.
    fn publish_rate(&self, before: &Self, topic: &str) -> f64 {
        let grown = self.both(before).map(|(_, then, now)| now.grown(then, PUBLISHED, topic)).sum();
        per_second(grown, self.seconds_since(before))
    }

    /// Events of a topic that a group handled per second between `before` and this look.
    fn handle_rate(&self, before: &Self, group: Service, topic: &str) -> f64 {
        let processes = self.both(before).filter(|(service, ..)| *service == group);
        let grown = processes.map(|(_, then, now)| now.grown(then, HANDLED, topic)).sum();
        per_second(grown, self.seconds_since(before))
    }

    fn latency(&self, before: &Self, group: Service, topic: &str) -> Option<Latency> {
        let processes = self.both(before).filter(|(service, ..)| *service == group);
        let (then, now): (Vec<_>, Vec<_>) = processes.map(|(_, then, now)| (then, now)).unzip();
        let since = Sample::latency(&now, &then, AGE, topic);
        since.or_else(|| Sample::latency(&self.of(group).collect::<Vec<_>>(), &[], AGE, topic))
    }

    /// How much of a processor a service's processes used between `before` and this look: 1 is one core.
    pub fn cpu(&self, before: &Self, service: Service) -> Option<f64> {
        let used = |sample: &Sample| sample.value("process_cpu_seconds_total");
        let processes = self.both(before).filter(|(of, ..)| *of == service);
        let each = processes.filter_map(|(_, then, now)| Some(used(now)? - used(then)?).filter(|used| *used >= 0.0));
        let seconds = self.seconds_since(before);
        each.reduce(|one, other| one + other).filter(|_| seconds > 0.0).map(|used| used / seconds)
    }

    /// How much memory a service's processes have in use, in bytes.
    pub fn memory(&self, service: Service) -> Option<u64> {
        let each = self.of(service).filter_map(|sample| sample.value("process_resident_memory_bytes"));
        each.reduce(|one, other| one + other).map(metrics::whole)
    }
}

fn per_second(grown: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { grown / seconds } else { 0.0 }
}
