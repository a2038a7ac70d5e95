//! Waiting for something that other tasks or processes bring about.

use std::time::Duration;

use tokio::time::Instant;

/// How long [`eventually`] waits before the test fails.
pub const PATIENCE: Duration = Duration::from_mins(1);
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer; fails the test, naming `what`, when there is none in time.
///
/// # Panics
/// After [`PATIENCE`].
pub async fn eventually<T, F, Fut>(what: &str, mut ask: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < until, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(PAUSE).await;
    }
}
