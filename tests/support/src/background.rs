//! What a program does in the background, and that a panic of any of it is noticed.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::{Program, eventually};

/// The background tasks of a program, by what becomes of one that panics.
#[derive(Debug, Clone)]
pub struct Background {
    /// Begun again, counted, and `lost` meanwhile.
    rounds: BTreeSet<String>,
    /// Counted; whoever needs them begins another.
    jobs: BTreeSet<String>,
    /// The process ends with them.
    loops: BTreeSet<String>,
}

impl Background {
    /// Of any program.
    pub fn of_any_program() -> Self {
        let none = Self { rounds: BTreeSet::new(), jobs: BTreeSet::new(), loops: BTreeSet::new() };
        none.with_rounds(["metrics-upkeep"]).with_loops(["signals"])
    }

    /// Of one that consumes events, and answers its operators.
    pub fn of_a_consumer() -> Self {
        Self::of_any_program()
            .with_rounds(["drain", "parked-events", "dead-letter-alarms", "old-days", "replays"])
            .with_rounds(["set-aside-counts", "outbox-counts", "read-after-all"])
            .with_loops(["poll", "poll-thread"])
    }

    /// And these rounds.
    #[must_use]
    pub fn with_rounds(mut self, rounds: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.rounds.extend(rounds.into_iter().map(Into::into));
        self
    }

    /// And these jobs, which begin with the program.
    #[must_use]
    pub fn with_jobs(mut self, jobs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.jobs.extend(jobs.into_iter().map(Into::into));
        self
    }

    /// And these loops.
    #[must_use]
    pub fn with_loops(mut self, loops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.loops.extend(loops.into_iter().map(Into::into));
        self
    }

    /// Makes each of the program's tasks panic, and looks what becomes of it. None may be missing here.
    ///
    /// # Panics
    /// When one panics unnoticed.
    pub async fn never_panics_unnoticed(&self, path: &str, variables: &[(&str, &str)]) {
        let prefix = format!("test-{}-", Uuid::now_v7().simple());
        let start = |faulty: &str| {
            let faults = [("TOPIC_PREFIX", &*prefix), ("FAULT_INJECTION", "true"), ("FAULT_TASKS", faulty)];
            Program::start(path, &[&faults[..], variables].concat())
        };
        self.is_all_that_runs(start("")).await;
        let list = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        self.are_begun_again(start(&list(&self.rounds))).await;
        // Apart from rounds, which begin some of them.
        if !self.jobs.is_empty() {
            self.are_counted(start(&list(&self.jobs))).await;
        }
        for name in &self.loops {
            ends_the_process(start(name), name).await;
        }
    }

    async fn is_all_that_runs(&self, mut program: Program) {
        let known: BTreeSet<String> = [&self.rounds, &self.jobs, &self.loops].into_iter().flatten().cloned().collect();
        eventually(&format!("it runs {known:?}; it said {:#?}", program.said()), || async {
            (known == panics(&program).await.into_keys().collect()).then_some(())
        })
        .await;
        // Whoever stands on something that is just being made may have failed once.
        eventually("nothing is lost", || async {
            let (_, readiness) = program.readiness().await?;
            readiness.get("lost").is_none().then_some(())
        })
        .await;
        assert!(program.terminate().await.success(), "{:#?}", program.said());
    }

    async fn are_counted(&self, mut program: Program) {
        have_panicked(&program, &self.jobs, 1).await;
        assert!(program.terminate().await.success(), "{:#?}", program.said());
    }

    async fn are_begun_again(&self, mut program: Program) {
        have_panicked(&program, &self.rounds, 2).await;
        eventually("it says which stand still", || async {
            let (_, readiness) = program.readiness().await?;
            let lost = readiness["lost"].as_array()?.iter();
            (self.rounds == lost.filter_map(|name| name.as_str().map(str::to_owned)).collect()).then_some(())
        })
        .await;
        assert!(program.terminate().await.success(), "{:#?}", program.said());
    }
}

async fn have_panicked(program: &Program, tasks: &BTreeSet<String>, times: u64) {
    eventually(&format!("{tasks:?} have panicked {times} times"), || async {
        let panics = panics(program).await;
        tasks.iter().all(|task| panics.get(task).is_some_and(|panics| *panics >= times)).then_some(())
    })
    .await;
}

async fn ends_the_process(mut program: Program, name: &str) {
    let status = program.end().await;
    assert_eq!(status.code(), Some(1), "{name}: {status}; {:#?}", program.said());
    for said in [&*format!("somebody made the task {name} panic"), "ended by a failure", "the background task"] {
        eventually(&format!("{name}: it says {said:?}"), || async { (program.has_said(said) > 0).then_some(()) }).await;
    }
}

/// How often each of its tasks has panicked, as it counts.
async fn panics(program: &Program) -> BTreeMap<String, u64> {
    let Some((200, metrics)) = program.get("/metrics").await else { return BTreeMap::new() };
    let counted = |line: &str| {
        let (name, rest) = line.strip_prefix("task_failures_total{task=\"")?.split_once("\",how=\"panic\"} ")?;
        Some((name.to_owned(), rest.parse().ok()?))
    };
    metrics.lines().filter_map(counted).collect()
}
