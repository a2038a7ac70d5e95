//! A load has a thread of its own: nothing else is polled between its requests, and what it costs in CPU can
//! be told from what everybody else costs.

use std::time::Duration;

use anyhow::Context;
use futures::future::LocalBoxFuture;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::oneshot;

/// Runs this on a new thread with a runtime of its own. Returns what came of it, and the CPU time it took.
pub(crate) async fn run<T: Send + 'static>(
    work: impl FnOnce() -> LocalBoxFuture<'static, anyhow::Result<T>> + Send + 'static,
) -> anyhow::Result<(T, Duration)> {
    let (done, outcome) = oneshot::channel();
    let thread = std::thread::Builder::new().name("load".to_owned());
    thread
        .spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("a runtime");
            let ran = runtime.and_then(|runtime| runtime.block_on(work()));
            // Who asked may be gone; then nobody wants to know.
            let _ = done.send(ran.map(|value| (value, cpu_of_this_thread())));
        })
        .context("a thread for the load")?;
    outcome.await.context("the load's thread panicked")?
}

fn cpu_of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}
