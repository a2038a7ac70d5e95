//! Trying again what failed: ever later, up to a bound, and not all at the same moment. That it stands still
//! is said once, and so is that it goes on.

use std::{fmt::Display, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// No pause is shorter than this share of its length: so many who failed together come back one by one.
const SHORTEST_SHARE: f64 = 0.5;

/// What somebody tries again and again, and how it goes. `W` names it, in the log and in `task_failures_total`:
/// there are few different ones.
#[derive(Debug)]
pub struct Backoff<W> {
    what: W,
    first: Duration,
    longest: Duration,
    failing: Option<Failing>,
}

/// Failures without a success between them.
#[derive(Debug)]
struct Failing {
    since: Instant,
    times: u64,
    pause: Duration,
}

/// How something failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum How {
    Error,
    Panic,
    /// It takes so long that it looks as if it hung.
    Hang,
}

impl How {
    const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Panic => "panic",
            Self::Hang => "hang",
        }
    }
}

impl<W: Display> Backoff<W> {
    /// Nothing has failed yet. The first pause, which doubles with each failure, and the longest.
    pub const fn new(what: W, first: Duration, longest: Duration) -> Self {
        Self { what, first, longest, failing: None }
    }

    /// It failed. Returns how long to wait before it is tried again.
    pub fn failed(&mut self, error: &dyn Display) -> Duration {
        self.note(How::Error, error)
    }

    pub(super) fn panicked(&mut self) -> Duration {
        self.note(How::Panic, &"it panicked")
    }

    fn note(&mut self, how: How, error: &dyn Display) -> Duration {
        count(self.what.to_string(), how);
        let longest = self.longest;
        let failing = self.failing.get_or_insert_with(|| {
            tracing::warn!(task = %self.what, %error, "stands still");
            Failing { since: Instant::now(), times: 0, pause: self.first }
        });
        failing.times += 1;
        let pause = failing.pause.min(longest);
        failing.pause = pause.saturating_mul(2);
        pause.mul_f64(rand::random_range(SHORTEST_SHARE..=1.0))
    }

    /// It worked. Returns whether it had failed before.
    pub fn worked(&mut self) -> bool {
        let Some(Failing { since, times, .. }) = self.failing.take() else { return false };
        let seconds = since.elapsed().as_secs();
        tracing::info!(task = %self.what, seconds, failures = times, "goes on");
        true
    }

    /// Tries until it works. `None` when told to stop in a pause between two tries.
    pub async fn until_it_works<T, E: std::error::Error, F: Future<Output = Result<T, E>>>(
        mut self,
        mut attempt: impl FnMut() -> F,
        stopping: &CancellationToken,
    ) -> Option<T> {
        loop {
            match attempt().await {
                Ok(done) => {
                    self.worked();
                    return Some(done);
                }
                Err(error) => {
                    if !self.wait(&crate::chain(&error), stopping).await {
                        return None;
                    }
                }
            }
        }
    }

    /// It failed: waits. False when told to stop meanwhile.
    pub async fn wait(&mut self, error: &(dyn Display + Sync), stopping: &CancellationToken) -> bool {
        let pause = self.failed(&error);
        stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }
}

/// Counted from 0, so that the first failure is seen as one more.
pub(super) fn announce(task: &'static str, how: How) {
    counter(task, how).increment(0);
}

pub(super) fn count(task: impl Into<metrics::SharedString>, how: How) {
    counter(task, how).increment(1);
}

fn counter(task: impl Into<metrics::SharedString>, how: How) -> metrics::Counter {
    metrics::counter!("task_failures_total", "task" => task.into(), "how" => how.name())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::{
        super::own::{Log, Metrics},
        *,
    };

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(2);

    fn backoff() -> Backoff<&'static str> {
        Backoff::new("sweep", FIRST, LONGEST)
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_none_is_shorter_than_half_of_it() {
        let mut backoff = backoff();
        for times in 0..100 {
            let full = FIRST.saturating_mul(1 << times.min(20)).min(LONGEST);
            let pause = backoff.failed(&"away");
            assert!((full / 2..=full).contains(&pause), "{pause:?} after {times} failures, not {full:?}");
        }
    }

    #[test]
    fn those_who_failed_together_do_not_come_back_together() {
        let pauses: HashSet<Duration> = (0..20).map(|_| backoff().failed(&"away")).collect();
        assert!(pauses.len() > 10, "{pauses:?}");
    }

    #[test]
    fn after_a_success_it_begins_with_the_first_pause_again() {
        let mut backoff = backoff();
        assert!(!backoff.worked(), "nothing had failed");
        for _ in 0..10 {
            backoff.failed(&"away");
        }
        assert!(backoff.worked());
        assert!(!backoff.worked(), "said once");
        assert!(backoff.failed(&"away") <= FIRST);
    }

    #[tokio::test(start_paused = true)]
    async fn that_it_stands_still_is_said_once_and_so_is_that_it_goes_on() {
        let log = Log::listen();
        let mut backoff = backoff();
        for error in ["the first", "the second", "the third"] {
            backoff.failed(&error);
            tokio::time::advance(LONGEST).await;
        }
        assert_eq!(log.lines(), [" WARN stands still task=sweep error=the first"]);
        backoff.worked();
        backoff.worked();
        assert_eq!(log.lines()[1..], [" INFO goes on task=sweep seconds=6 failures=3"]);
        backoff.failed(&"away again");
        assert_eq!(log.lines()[2..], [" WARN stands still task=sweep error=away again"]);
    }

    #[test]
    fn each_failure_is_counted_by_how_it_failed() {
        let metrics = Metrics::listen();
        announce("sweep", How::Error);
        assert!(metrics.has(r#"task_failures_total{task="sweep",how="error"} 0"#), "before the first one, too");
        let mut backoff = backoff();
        backoff.failed(&"away");
        backoff.failed(&"away");
        backoff.panicked();
        backoff.worked();
        assert!(metrics.has(r#"task_failures_total{task="sweep",how="error"} 2"#));
        assert!(metrics.has(r#"task_failures_total{task="sweep",how="panic"} 1"#));
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_tried_until_it_works_or_is_told_to_stop() {
        let (log, stopping, mut tries) = (Log::listen(), CancellationToken::new(), 0);
        let third = || {
            tries += 1;
            std::future::ready(if tries == 3 { Ok(tries) } else { Err(std::io::Error::other("away")) })
        };
        assert_eq!(backoff().until_it_works(third, &stopping).await, Some(3));
        assert_eq!(log.lines().len(), 2, "that it stands still, and that it goes on");
        stopping.cancel();
        let never = || std::future::ready(Err::<(), _>(std::io::Error::other("away")));
        assert_eq!(backoff().until_it_works(never, &stopping).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_stop_waits_no_longer() {
        let (mut backoff, stopping) = (backoff(), CancellationToken::new());
        assert!(backoff.wait(&"away", &stopping).await, "the pause is over");
        stopping.cancel();
        let told = Instant::now();
        assert!(!backoff.wait(&"away", &stopping).await);
        assert_eq!(told.elapsed(), Duration::ZERO);
    }
}
