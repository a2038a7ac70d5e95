//! Waiting for something that other processes bring about.

use std::time::Duration;

use anyhow::bail;
use tokio::time::Instant;

const PAUSE: Duration = Duration::from_millis(50);

/// Asks until there is an answer. Without one within `patience` the error names `what`, and what was said last.
pub async fn eventually<T>(
    what: &str,
    patience: Duration,
    mut ask: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let until = Instant::now() + patience;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(last) if Instant::now() >= until => bail!("not within {patience:?}: {what}; at last {last:#}"),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}
