//! As many requests as will go, over a few connections that are kept.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures::future::try_join_all;
use load::client::Connection;
use tokio::time::Instant;

/// `GET` of this path, one after the other on each connection. Returns answers a second.
pub(crate) async fn gets_per_second(
    address: &str,
    path: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<f64> {
    let began = Instant::now();
    let tasks = (0..connections).map(|_| {
        let (address, path) = (address.to_owned(), path.to_owned());
        async move { tokio::spawn(get_until(address, path, began + duration)).await.context("a client")? }
    });
    let answers: u64 = try_join_all(tasks).await?.into_iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let answers = answers as f64;
    Ok(answers / began.elapsed().as_secs_f64())
}

async fn get_until(address: String, path: String, until: Instant) -> anyhow::Result<u64> {
    let mut connection = Connection::to(&address);
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let mut answers = 0;
    while Instant::now() < until {
        let answer = connection.ask(request.as_bytes()).await.with_context(|| format!("asking {address}"))?;
        ensure!(answer.status == 200, "answered {} {}", answer.status, String::from_utf8_lossy(answer.body));
        answers += 1;
    }
    Ok(answers)
}
