//! Whether the process can do its work (docs/contract.md §1).
//!
//! Two kinds of dependency: a *part* tells by itself when it was reached or lost (Kafka), and what is
//! lost later only degrades; a *probe* is asked (the database, Redis), and without an answer the
//! process isn't ready. A background task whose rounds fail is a part that is lost ([`Tasks`](crate::Tasks)).

use std::{
    collections::BTreeMap,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How long a probe's answer is believed.
const PROBE_KEPT: Duration = Duration::from_millis(900);
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// What the process needs, and how it stands. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Standing>>>,
    probes: Arc<Mutex<Vec<Arc<Probe>>>>,
    shutdown: CancellationToken,
}

/// How a part stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Not reached since the start.
    Awaited,
    Reached,
    /// Reached once, and lost since.
    Lost,
}

/// The handle of one part of the process.
#[derive(Clone)]
pub struct Part {
    name: &'static str,
    parts: Arc<Mutex<BTreeMap<&'static str, Standing>>>,
}

/// What `GET /health/ready` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "status", rename_all = "camelCase")]
pub enum Readiness {
    /// 200: everything answers.
    Ready,
    /// 200: what was reached once is away, or a background task stands still; the rest of the work goes on.
    Degraded {
        /// What is away, and which tasks stand still.
        lost: Vec<&'static str>,
    },
    /// 503: not everything was reached yet.
    #[serde(rename_all = "camelCase")]
    Starting {
        /// What wasn't reached yet.
        waiting_for: Vec<&'static str>,
        /// As in [`Readiness::Degraded`].
        #[serde(skip_serializing_if = "Vec::is_empty")]
        lost: Vec<&'static str>,
    },
    /// 503: something doesn't answer that the work can't do without.
    #[serde(rename_all = "camelCase")]
    Unavailable {
        /// What doesn't answer.
        waiting_for: Vec<&'static str>,
    },
    /// 503: on its way down.
    Stopping,
}

impl Readiness {
    /// Whether requests should come here.
    pub const fn takes_requests(&self) -> bool {
        match self {
            Self::Ready | Self::Degraded { .. } => true,
            Self::Starting { .. } | Self::Unavailable { .. } | Self::Stopping => false,
        }
    }
}

type Answer = Pin<Box<dyn Future<Output = bool> + Send>>;

struct Probe {
    name: &'static str,
    ask: Box<dyn Fn() -> Answer + Send + Sync>,
    last: tokio::sync::Mutex<Option<(Instant, bool)>>,
}

impl Health {
    /// A process that needs nothing yet, and is stopping once `shutdown` is cancelled.
    pub fn new(shutdown: CancellationToken) -> Self {
        Self { parts: Arc::default(), probes: Arc::default(), shutdown }
    }

    /// Registers something that must be reached once before the process is ready. The same name
    /// twice is the same part.
    pub fn part(&self, name: &'static str) -> Part {
        locked(&self.parts).entry(name).or_insert(Standing::Awaited);
        Part { name, parts: Arc::clone(&self.parts) }
    }

    /// Registers a background task. It counts as one that works until it says otherwise.
    pub(crate) fn task(&self, name: &'static str) -> Part {
        locked(&self.parts).entry(name).or_insert(Standing::Reached);
        Part { name, parts: Arc::clone(&self.parts) }
    }

    /// Cancelled when the process is to stop.
    pub(crate) const fn shutdown(&self) -> &CancellationToken {
        &self.shutdown
    }

    /// Registers something that is asked each time (at most once a second), and must answer.
    pub fn probe<F, A>(&self, name: &'static str, ask: F)
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        let ask = Box::new(move || Box::pin(ask()) as Answer);
        locked(&self.probes).push(Arc::new(Probe { name, ask, last: tokio::sync::Mutex::default() }));
    }

    /// How the process stands now.
    pub async fn readiness(&self) -> Readiness {
        if self.shutdown.is_cancelled() {
            return Readiness::Stopping;
        }
        let silent = self.silent().await;
        let standing = |wanted| {
            let parts = locked(&self.parts);
            parts.iter().filter(|(_, standing)| **standing == wanted).map(|(name, _)| *name).collect::<Vec<_>>()
        };
        let (awaited, lost) = (standing(Standing::Awaited), standing(Standing::Lost));
        if !awaited.is_empty() {
            return Readiness::Starting { waiting_for: silent.into_iter().chain(awaited).collect(), lost };
        }
        if !silent.is_empty() {
            return Readiness::Unavailable { waiting_for: silent };
        }
        if lost.is_empty() { Readiness::Ready } else { Readiness::Degraded { lost } }
    }

    async fn silent(&self) -> Vec<&'static str> {
        let probes = locked(&self.probes).clone();
        let answers = futures::future::join_all(probes.iter().map(|probe| probe.answers())).await;
        probes.iter().zip(answers).filter(|(_, answers)| !answers).map(|(probe, _)| probe.name).collect()
    }
}

impl Probe {
    /// Who asks meanwhile waits for the same answer.
    async fn answers(&self) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < PROBE_KEPT
        {
            return answer;
        }
        let answer = timeout(PROBE_TIMEOUT, (self.ask)()).await.unwrap_or(false);
        *last = Some((Instant::now(), answer));
        answer
    }
}

impl Part {
    /// It is reached.
    pub fn ready(&self) {
        locked(&self.parts).insert(self.name, Standing::Reached);
    }

    /// It is away. Before it was reached once, that is nothing new.
    pub fn lost(&self) {
        if let Some(standing) = locked(&self.parts).get_mut(self.name)
            && *standing == Standing::Reached
        {
            *standing = Standing::Lost;
        }
    }
}

/// Nothing that holds these locks can panic half way.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    fn json(readiness: &Readiness) -> serde_json::Value {
        serde_json::to_value(readiness).expect("JSON")
    }

    #[tokio::test]
    async fn a_part_makes_ready_once_and_degrades_when_it_is_lost() {
        let shutdown = CancellationToken::new();
        let health = Health::new(shutdown.clone());
        let kafka = health.part("kafka");
        assert_eq!(json(&health.readiness().await), serde_json::json!({"status": "starting", "waitingFor": ["kafka"]}));
        kafka.lost();
        assert!(!health.readiness().await.takes_requests(), "it was never reached");
        kafka.ready();
        assert_eq!(json(&health.readiness().await), serde_json::json!({"status": "ready"}));
        kafka.lost();
        assert_eq!(json(&health.readiness().await), serde_json::json!({"status": "degraded", "lost": ["kafka"]}));
        assert!(health.readiness().await.takes_requests());
        kafka.ready();
        assert_eq!(health.readiness().await, Readiness::Ready);
        shutdown.cancel();
        assert_eq!(json(&health.readiness().await), serde_json::json!({"status": "stopping"}));
    }

    #[tokio::test]
    async fn a_task_counts_as_working_until_it_says_otherwise_also_during_the_start() {
        let health = Health::new(CancellationToken::new());
        let sweep = health.task("sweep");
        assert_eq!(health.readiness().await, Readiness::Ready);
        sweep.lost();
        assert_eq!(health.readiness().await, Readiness::Degraded { lost: vec!["sweep"] });
        health.task("sweep");
        assert!(
            matches!(health.readiness().await, Readiness::Degraded { .. }),
            "another one by its name changes nothing"
        );
        health.part("kafka");
        let starting = serde_json::json!({"status": "starting", "waitingFor": ["kafka"], "lost": ["sweep"]});
        assert_eq!(json(&health.readiness().await), starting);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_is_asked_once_a_second_and_must_answer() {
        static ASKED: AtomicU32 = AtomicU32::new(0);
        static UP: AtomicBool = AtomicBool::new(true);
        let health = Health::new(CancellationToken::new());
        health.probe("database", || async {
            ASKED.fetch_add(1, Ordering::Relaxed);
            UP.load(Ordering::Relaxed)
        });
        assert_eq!(health.readiness().await, Readiness::Ready);
        UP.store(false, Ordering::Relaxed);
        assert_eq!(health.readiness().await, Readiness::Ready, "still believed");
        tokio::time::advance(PROBE_KEPT).await;
        assert_eq!(health.readiness().await, Readiness::Unavailable { waiting_for: vec!["database"] });
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_hangs_is_one_that_does_not_answer() {
        let health = Health::new(CancellationToken::new());
        health.probe("database", std::future::pending);
        assert!(!health.readiness().await.takes_requests());
    }
}
