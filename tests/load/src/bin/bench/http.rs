//! As many requests as will go, over a few connections that are kept: a client so small that it doesn't
//! hide the server.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::try_join_all;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

const MAX_ANSWER_BYTES: usize = 256 * 1024;

/// `GET` of this path, one after the other on each connection. Returns answers a second.
pub(crate) async fn gets_per_second(
    address: &str,
    path: &str,
    connections: usize,
    duration: Duration,
) -> anyhow::Result<f64> {
    let until = Instant::now() + duration;
    let began = Instant::now();
    let tasks = (0..connections).map(|_| {
        let (address, path) = (address.to_owned(), path.to_owned());
        async move { tokio::spawn(get_until(address, path, until)).await.context("a client")? }
    });
    let answers: u64 = try_join_all(tasks).await?.into_iter().sum();
    #[expect(clippy::cast_precision_loss, reason = "a count")]
    let answers = answers as f64;
    Ok(answers / began.elapsed().as_secs_f64())
}

async fn get_until(address: String, path: String, until: Instant) -> anyhow::Result<u64> {
    let mut stream = TcpStream::connect(&address).await.with_context(|| format!("connecting to {address}"))?;
    stream.set_nodelay(true)?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\n\r\n");
    let (mut buffer, mut answers) = (Vec::with_capacity(MAX_ANSWER_BYTES), 0);
    while Instant::now() < until {
        stream.write_all(request.as_bytes()).await?;
        buffer.clear();
        while !is_complete(&buffer)? {
            ensure!(stream.read_buf(&mut buffer).await? > 0, "the connection was closed");
        }
        answers += 1;
    }
    Ok(answers)
}

fn is_complete(answer: &[u8]) -> anyhow::Result<bool> {
    let Some(head) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") else { return Ok(false) };
    let text = std::str::from_utf8(&answer[..head]).context("headers")?.to_ascii_lowercase();
    ensure!(text.starts_with("http/1.1 200"), "answered {text}");
    let Some(length) = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next()) else {
        bail!("an answer without a length: {text}")
    };
    let length: usize = length.trim().parse().context("a length")?;
    Ok(answer.len() >= head + 4 + length)
}
