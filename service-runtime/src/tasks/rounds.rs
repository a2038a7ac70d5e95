//! Rounds: something that is done again and again, each time from what it finds.

use std::{
    panic::AssertUnwindSafe,
    pin::{Pin, pin},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{FutureExt, future::BoxFuture};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    backoff::{self, Backoff, How},
    strike,
};
use crate::{Health, health};

/// After a failed round the next one comes this soon at first, and this late at last: about as often as rounds
/// come anyway, within these limits.
const FIRST_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
const LONGEST_PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_mins(1));
/// How long the round under way may go on once it is told to stop.
const LAST_ROUND: Duration = Duration::from_secs(1);
/// A round that takes longer than this looks as if it hung.
const LONG_ROUND: Duration = Duration::from_mins(10);
/// When nobody has given it anything to do for so long, nobody is the worse for the round that failed before.
const QUIET: Duration = Duration::from_secs(10);

/// How the rounds of a task follow one another.
#[derive(Debug, Clone)]
pub struct Rounds {
    pub(super) name: &'static str,
    /// From the beginning of a round to that of the next. `None`: a round waits for something to do.
    pause: Option<Duration>,
    gap: Duration,
    wake: Option<Arc<Notify>>,
    first_pause: Duration,
    longest_pause: Duration,
    heard_by: Audience,
}

/// When the next round comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When the usual time has passed since this one began, or when it is woken.
    Later,
    /// At once: there may be more to do.
    Now,
    /// After so long, or when it is woken.
    In(Duration),
    /// Never: nobody is left who could give it something to do.
    Never,
}

/// Who is told of rounds that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Audience {
    Readiness,
    Nobody,
}

impl Rounds {
    /// The first round at once, and each further one so long after the one before has begun; at once when that one took
    /// longer.
    pub fn every(name: &'static str, pause: Duration) -> Self {
        Self {
            name,
            pause: Some(pause),
            gap: Duration::ZERO,
            wake: None,
            first_pause: pause.clamp(FIRST_PAUSES.0, FIRST_PAUSES.1),
            longest_pause: pause.clamp(LONGEST_PAUSES.0, LONGEST_PAUSES.1),
            heard_by: Audience::Readiness,
        }
    }

    /// One round after the other: each waits for something to do, from a queue or a socket
    /// ([`Tasks::repeat_on_demand`](super::Tasks::repeat_on_demand)). Told to stop, it is cut off at once.
    pub fn on_demand(name: &'static str) -> Self {
        Self { pause: None, ..Self::every(name, Duration::ZERO) }
    }

    /// A round comes before its time when there is something to do.
    #[must_use]
    pub fn woken_by(self, wake: Arc<Notify>) -> Self {
        Self { wake: Some(wake), ..self }
    }

    /// However often it is woken, a round begins this long after the one before has ended.
    #[must_use]
    pub fn at_least_apart(self, gap: Duration) -> Self {
        Self { gap, ..self }
    }

    /// The first pause after a failed round, which doubles each time, and the longest.
    #[must_use]
    pub fn backing_off(self, first: Duration, longest: Duration) -> Self {
        Self { first_pause: first, longest_pause: longest, ..self }
    }

    /// Nobody's requests are the worse for it: readiness doesn't tell.
    #[must_use]
    pub fn unknown_to_health(self) -> Self {
        Self { heard_by: Audience::Nobody, ..self }
    }

    /// Waits for the next round after one that began then. False when told to stop meanwhile.
    async fn wait(&self, next: Next, began: Instant, stopping: &CancellationToken) -> bool {
        let pause = match next {
            Next::Now => return true,
            Next::Never => return false,
            Next::Later => self.pause.unwrap_or_default().saturating_sub(began.elapsed()),
            Next::In(pause) => pause,
        };
        let woken = async {
            match &self.wake {
                Some(wake) => wake.notified().await,
                None => std::future::pending().await,
            }
        };
        let waited = async {
            if !self.gap.is_zero() {
                tokio::time::sleep(self.gap).await;
            }
            tokio::select! {
                () = tokio::time::sleep(pause.saturating_sub(self.gap)) => {}
                () = woken => {}
            }
        };
        stopping.run_until_cancelled(waited).await.is_some()
    }
}

/// What is done in a round.
pub(super) trait Work: Send {
    /// Waits for something to do; `None` where a round looks by itself.
    fn wait(&mut self) -> Option<BoxFuture<'_, anyhow::Result<()>>>;

    fn round(&mut self) -> BoxFuture<'_, anyhow::Result<Next>>;
}

pub(super) struct Stateful<S, F> {
    pub(super) state: S,
    pub(super) round: F,
}

impl<S, F> Work for Stateful<S, F>
where
    S: Send,
    F: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, anyhow::Result<Next>> + Send,
{
    fn wait(&mut self) -> Option<BoxFuture<'_, anyhow::Result<()>>> {
        None
    }

    fn round(&mut self) -> BoxFuture<'_, anyhow::Result<Next>> {
        (self.round)(&mut self.state)
    }
}

pub(super) struct OnDemand<S, W, F> {
    pub(super) state: S,
    pub(super) wait: W,
    pub(super) round: F,
}

impl<S, W, F> Work for OnDemand<S, W, F>
where
    S: Send,
    W: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, anyhow::Result<()>> + Send,
    F: for<'s> FnMut(&'s mut S) -> BoxFuture<'s, anyhow::Result<Next>> + Send,
{
    fn wait(&mut self) -> Option<BoxFuture<'_, anyhow::Result<()>>> {
        Some((self.wait)(&mut self.state))
    }

    fn round(&mut self) -> BoxFuture<'_, anyhow::Result<Next>> {
        (self.round)(&mut self.state)
    }
}

/// Goes round after round until told to stop, or until nothing is left to wait for.
pub(super) fn go(
    rounds: Rounds,
    work: Box<dyn Work>,
    stopping: CancellationToken,
    health: &Health,
    is_faulty: bool,
) -> BoxFuture<'static, ()> {
    for how in [How::Error, How::Panic, How::Hang] {
        backoff::announce(rounds.name, how);
    }
    let told = Told(match rounds.heard_by {
        Audience::Readiness => Some(health.task(rounds.name)),
        Audience::Nobody => None,
    });
    let backoff = Backoff::new(rounds.name, rounds.first_pause, rounds.longest_pause);
    let last_good = metrics::gauge!("task_last_good_round_timestamp_seconds", "task" => rounds.name);
    // One that waits is well so far; one that looks by itself is so after its first good round.
    last_good.set(rounds.pause.map_or_else(now, |_| 0.0));
    Going { rounds, work, stopping, told, backoff, last_good, is_faulty }.until_the_end().boxed()
}

struct Going {
    rounds: Rounds,
    work: Box<dyn Work>,
    stopping: CancellationToken,
    told: Told,
    backoff: Backoff<&'static str>,
    last_good: metrics::Gauge,
    is_faulty: bool,
}

/// What readiness tells of it, if it does.
struct Told(Option<health::Part>);

impl Told {
    fn works(&self) {
        if let Some(part) = &self.0 {
            part.ready();
        }
    }

    fn fails(&self) {
        if let Some(part) = &self.0 {
            part.lost();
        }
    }
}

/// How a round ended: well, with an error, or with a panic.
type Outcome = std::thread::Result<anyhow::Result<Next>>;

impl Going {
    async fn until_the_end(mut self) {
        while !self.stopping.is_cancelled() {
            let began = Instant::now();
            let Some(outcome) = self.round().await else { return };
            let goes_on = match outcome {
                Ok(Ok(next)) => {
                    self.note_good();
                    self.rounds.wait(next, began, &self.stopping).await
                }
                Ok(Err(error)) => {
                    let pause = self.backoff.failed(&format!("{error:#}"));
                    self.back_off(pause).await
                }
                Err(_) => {
                    let pause = self.backoff.panicked();
                    self.back_off(pause).await
                }
            };
            if !goes_on {
                return;
            }
        }
    }

    /// One round. `None` when it was cut off, as it is to stop.
    async fn round(&mut self) -> Option<Outcome> {
        let Self { rounds, work, stopping, told, is_faulty, .. } = self;
        let (name, is_faulty) = (rounds.name, *is_faulty);
        let ends = async {
            let begins = async {
                strike(name, is_faulty);
                match work.wait() {
                    Some(waiting) => unasked(told, waiting).await,
                    None => Ok(()),
                }
            };
            match AssertUnwindSafe(begins).catch_unwind().await? {
                Ok(()) => {}
                Err(error) => return Ok(Err(error)),
            }
            let round = AssertUnwindSafe(async { work.round().await }).catch_unwind();
            however_long(name, told, pin!(round)).await
        };
        // One that waits for something to do may wait for ever, and has nothing to finish.
        let last = rounds.pause.map_or(Duration::ZERO, |_| LAST_ROUND);
        let is_cut_off = async {
            stopping.cancelled().await;
            tokio::time::sleep(last).await;
        };
        tokio::select! {
            biased;
            outcome = ends => Some(outcome),
            () = is_cut_off => None,
        }
    }

    fn note_good(&mut self) {
        self.last_good.set(now());
        if self.backoff.worked() {
            self.told.works();
        }
    }

    /// False when told to stop meanwhile.
    async fn back_off(&mut self, pause: Duration) -> bool {
        self.told.fails();
        self.stopping.run_until_cancelled(tokio::time::sleep(pause)).await.is_some()
    }
}

/// Unix time, in seconds.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Waits for something to do. Whether it would be done now isn't known; a failure long ago is no news.
async fn unasked(told: &Told, mut waiting: BoxFuture<'_, anyhow::Result<()>>) -> anyhow::Result<()> {
    if let Ok(asked) = tokio::time::timeout(QUIET, &mut waiting).await {
        return asked;
    }
    told.works();
    waiting.await
}

/// Waits for the end of a round, and says so when it takes long.
async fn however_long(name: &'static str, told: &Told, mut round: Pin<&mut impl Future<Output = Outcome>>) -> Outcome {
    if let Ok(outcome) = tokio::time::timeout(LONG_ROUND, round.as_mut()).await {
        return outcome;
    }
    backoff::count(name, How::Hang);
    tracing::warn!(task = %name, "a round takes long: it looks as if it hung");
    told.fails();
    let outcome = round.await;
    told.works();
    outcome
}
