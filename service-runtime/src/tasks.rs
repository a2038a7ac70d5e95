//! Background tasks: what a process does beside answering. None of them ends, fails or panics unnoticed, so
//! tasks and threads are started here, and clippy refuses other ways (`clippy.toml`).
//!
//! | kind | such as | what becomes of an error or a panic | when it ends |
//! |---|---|---|---|
//! | rounds ([`Tasks::repeat`], [`Tasks::repeat_on_demand`]) | the sweep for overdue orders | the next round comes, ever later | they are over |
//! | a loop ([`Tasks::run`]) | the consumer's polling | the process ends, with exit code 1 | the same |
//! | a job ([`Tasks::once`], [`Tasks::thread`]) | renewing a lease | counted; whoever needs it notices | it is done |
//!
//! What can be seen of a task, by its name:
//!
//! | where | what |
//! |---|---|
//! | `/health/ready` | a task is among what is `lost` from a failed round on, until one ends well; and while a round takes long |
//! | `task_failures_total{task, how}` | rounds that failed (`error`), panicked (`panic`) or take long (`hang`), jobs and threads that panicked; 0 from when they are started |
//! | `task_last_good_round_timestamp_seconds{task}` | when a round last ended well; 0 before the first, or the start of one on demand |
//! | the log | `stands still` at the first failure, and `goes on` at the first good round after it ([`Backoff`]) |
//!
//! **What a round takes** from the database stays there until it is done, so that the next round finds it again.
//! What it takes from a queue is gone when it fails: whoever put it there is told (the gate, the monitor's recorder),
//! finds it again elsewhere (confirmations, settlements), or does without it (spans, hints); or the round keeps it
//! (letters of the second cluster).
//!
//! **Stopping.** Readiness goes first, as it hangs on the same token as the process's own tasks; these end
//! at once, or within a second when a round is under way, and are waited for before the process ends;
//! [threads](Tasks::thread) are not. What requests under way still need is a [group](Tasks::group) of its own, and
//! stopped by whoever began it.
//!
//! Left out on purpose: starting a loop again within the process. It would go on with half of a state; who
//! supervises the process begins with none.

mod backoff;
mod blocking;
mod rounds;

use std::{
    collections::BTreeSet,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Arc, OnceLock},
    thread,
};

use anyhow::Context;
use futures::{FutureExt, future::BoxFuture};
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;

pub use backoff::Backoff;
pub use blocking::{blocking, drop_aside};
pub use rounds::{Next, Rounds};

use crate::Health;
use backoff::How;
use rounds::{OnDemand, Stateful, Work};

/// Tasks that stop together: those of a process, or a group of them. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Tasks(Arc<Group>);

struct Group {
    /// `None` for the process's own.
    parent: Option<Tasks>,
    stopping: CancellationToken,
    #[expect(clippy::disallowed_types, reason = "this is where tasks are started")]
    running: tokio_util::task::TaskTracker,
    failed: OnceLock<Failed>,
    health: Health,
    /// Tasks that are made to panic.
    faulty: Arc<BTreeSet<String>>,
}

/// A task that was to go on ended by itself, and the process ends with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the background task {task} {how}")]
pub struct Failed {
    task: &'static str,
    how: String,
}

/// What a task's end means that nobody told to stop.
#[derive(Debug, Clone, Copy)]
enum End {
    Failure,
    Fine,
}

impl Tasks {
    /// The tasks of a process that has this health, and stops when it does. When one ends by itself, it stops.
    pub fn new(health: Health) -> Self {
        Self::with_faulty(health, BTreeSet::new())
    }

    /// The same, but those with these names panic: in each round, or when they begin.
    pub(crate) fn with_faulty(health: Health, faulty: BTreeSet<String>) -> Self {
        let stopping = health.shutdown().clone();
        Self(Arc::new(Group {
            parent: None,
            stopping,
            running: <_>::default(),
            failed: OnceLock::new(),
            health,
            faulty: Arc::new(faulty),
        }))
    }

    /// Tasks of the same process that are stopped for themselves, after those who need them.
    #[must_use]
    pub fn group(&self) -> Self {
        Self(Arc::new(Group {
            parent: Some(self.clone()),
            stopping: CancellationToken::new(),
            running: <_>::default(),
            failed: OnceLock::new(),
            health: self.0.health.clone(),
            faulty: Arc::clone(&self.0.faulty),
        }))
    }

    /// Goes round after round. A round may be cut off anywhere, and is to find again what it left undone.
    pub fn repeat<S, F>(&self, rounds: Rounds, state: S, round: F)
    where
        S: Send + 'static,
        F: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, anyhow::Result<Next>> + Send + 'static,
    {
        self.repeat_work(rounds, Box::new(Stateful { state, round }));
    }

    /// The same for [rounds on demand](Rounds::on_demand): `wait` returns when there is something to do, however long
    /// that takes, and keeps it in the state; `round` does it, and is looked at when it takes long.
    pub fn repeat_on_demand<S, W, F>(&self, rounds: Rounds, state: S, wait: W, round: F)
    where
        S: Send + 'static,
        W: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, anyhow::Result<()>> + Send + 'static,
        F: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, anyhow::Result<Next>> + Send + 'static,
    {
        self.repeat_work(rounds, Box::new(OnDemand { state, wait, round }));
    }

    fn repeat_work(&self, rounds: Rounds, work: Box<dyn Work>) {
        let (name, stopping) = (rounds.name, self.0.stopping.clone());
        let going = rounds::go(rounds, work, stopping, &self.0.health, self.is_faulty(name));
        self.watch(name, End::Fine, going.map(Ok).boxed());
    }

    /// Runs a loop. It ends when [`Tasks::stopping`] says so; when it ends before, the process does.
    pub fn run(&self, name: &'static str, work: BoxFuture<'static, anyhow::Result<()>>) {
        backoff::announce(name, How::Panic);
        let is_faulty = self.is_faulty(name);
        let work = async move {
            strike(name, is_faulty);
            work.await
        };
        self.watch(name, End::Failure, work.boxed());
    }

    /// Does something once, unless the group is stopped before.
    pub fn once(&self, name: &'static str, work: BoxFuture<'static, ()>) -> AbortHandle {
        backoff::announce(name, How::Panic);
        let (is_faulty, stopping) = (self.is_faulty(name), self.0.stopping.clone());
        let work = async move {
            strike(name, is_faulty);
            work.await;
        };
        let guarded = AssertUnwindSafe(stopping.run_until_cancelled_owned(work)).catch_unwind();
        let counted = guarded.map(move |ended| {
            if ended.is_err() {
                backoff::count(name, How::Panic);
            }
        });
        self.0.running.spawn(counted).abort_handle()
    }

    /// A job on a thread of its own, for calls that block. Whoever needs it looks whether it has ended.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn thread(
        &self,
        name: &'static str,
        work: impl FnOnce() + Send + 'static,
    ) -> anyhow::Result<thread::JoinHandle<()>> {
        backoff::announce(name, How::Panic);
        let is_faulty = self.is_faulty(name);
        let guarded = AssertUnwindSafe(move || {
            strike(name, is_faulty);
            work();
        });
        let counted = move || {
            if let Err(panic) = catch_unwind(guarded) {
                backoff::count(name, How::Panic);
                resume_unwind(panic);
            }
        };
        let thread = thread::Builder::new().name(name.to_owned());
        #[expect(clippy::disallowed_methods, reason = "this is where threads are started")]
        thread.spawn(counted).with_context(|| format!("a thread for {name}"))
    }

    fn watch(&self, name: &'static str, end: End, work: BoxFuture<'static, anyhow::Result<()>>) {
        let tasks = self.clone();
        self.0.running.spawn(async move {
            let how = match (AssertUnwindSafe(work).catch_unwind().await, end) {
                (Ok(Ok(())), End::Fine) => return,
                (Ok(Ok(())), End::Failure) if tasks.is_stopping() => return,
                (Ok(Ok(())), End::Failure) => "ended by itself".to_owned(),
                (Ok(Err(error)), _) => format!("failed: {error:#}"),
                (Err(_), _) => "panicked".to_owned(),
            };
            tasks.fail(&Failed { task: name, how });
        });
    }

    fn fail(&self, failed: &Failed) {
        tracing::error!(task = failed.task, how = failed.how, "a background task ended by itself: the process stops");
        let mut group = self;
        let _ = group.0.failed.set(failed.clone());
        while let Some(parent) = &group.0.parent {
            group = parent;
            let _ = group.0.failed.set(failed.clone());
        }
        group.0.stopping.cancel();
    }

    /// Cancelled when the tasks of this group are to stop.
    pub fn stopping(&self) -> &CancellationToken {
        &self.0.stopping
    }

    /// Of the process that these tasks belong to.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// Tells the tasks of this group to stop.
    pub fn tell_to_stop(&self) {
        self.0.stopping.cancel();
    }

    /// The same, and waits until they have.
    ///
    /// # Errors
    /// When one of them had ended by itself.
    pub async fn stop(&self) -> Result<(), Failed> {
        self.tell_to_stop();
        self.0.running.close();
        self.0.running.wait().await;
        self.0.failed.get().cloned().map_or(Ok(()), Err)
    }

    /// The group, or the whole process.
    fn is_stopping(&self) -> bool {
        self.0.stopping.is_cancelled() || self.0.parent.as_ref().is_some_and(Self::is_stopping)
    }

    fn is_faulty(&self, name: &str) -> bool {
        self.0.faulty.contains(name)
    }
}

/// Panics when the task is made to.
fn strike(name: &str, is_faulty: bool) {
    assert!(!is_faulty, "somebody made the task {name} panic (FAULT_TASKS)");
}

#[cfg(test)]
mod own;
#[cfg(test)]
mod tests;
