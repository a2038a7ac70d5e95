//! A broker on its way down, who is the only one: asked who is there, it names itself once, then nobody.
//!
//! Answers `ApiVersions` v0 and `Metadata` v4, as <https://kafka.apache.org/protocol> has them, and nothing else.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use test_support::eventually;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const API_VERSIONS: i16 = 18;
const METADATA: i16 = 3;
/// What an idempotent producer wants to see, and each with its newest version here: `Produce`, `Fetch` and
/// `InitProducerId`. Never answered.
const PROMISED: [(i16, i16); 3] = [(0, 3), (1, 4), (22, 0)];
const METADATA_VERSION: i16 = 4;
const UNSUPPORTED_VERSION: i16 = 35;
const UNKNOWN_TOPIC: i16 = 3;
/// A connection that is opened so long after nobody was named belongs to a client that didn't know of it then.
const LATER: Duration = Duration::from_secs(1);

/// Dropping it closes its port.
pub(crate) struct LeavingBroker {
    port: u16,
    seen: Arc<Mutex<Seen>>,
    answering: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    named_nobody: Option<Instant>,
    returned: bool,
}

impl LeavingBroker {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let seen = Arc::<Mutex<Seen>>::default();
        let noting = Arc::clone(&seen);
        let answering = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                {
                    let mut seen = lock(&noting);
                    seen.returned |= seen.named_nobody.is_some_and(|at| at.elapsed() > LATER);
                }
                tokio::spawn(answer(connection, port, Arc::clone(&noting)));
            }
        });
        Self { port, seen, answering }
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Waits until somebody who was told of nobody comes again.
    pub(crate) async fn is_found_again(&self) {
        eventually("somebody is told of nobody", || async { lock(&self.seen).named_nobody.map(drop) }).await;
        eventually("he comes again", || async { lock(&self.seen).returned.then_some(()) }).await;
    }
}

impl Drop for LeavingBroker {
    fn drop(&mut self) {
        self.answering.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> std::sync::MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Until the other side leaves.
async fn answer(mut connection: TcpStream, port: u16, seen: Arc<Mutex<Seen>>) -> io::Result<()> {
    let mut was_named = false;
    loop {
        let length = connection.read_i32().await?;
        let mut request = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        connection.read_exact(&mut request).await?;
        let at = |index: usize| i16::from_be_bytes([request[index], request[index + 1]]);
        let (key, version, correlation) = (at(0), at(2), &request[4..8]);
        let body = match key {
            API_VERSIONS => api_versions(version),
            METADATA => {
                if was_named {
                    lock(&seen).named_nobody = Some(Instant::now());
                }
                let body = metadata((!was_named).then_some(port));
                was_named = true;
                body
            }
            _ => continue,
        };
        let mut answer = i32::try_from(4 + body.len()).map_err(io::Error::other)?.to_be_bytes().to_vec();
        answer.extend(correlation);
        answer.extend(body);
        connection.write_all(&answer).await?;
    }
}

fn api_versions(version: i16) -> Vec<u8> {
    let error = if version == 0 { 0 } else { UNSUPPORTED_VERSION };
    let mut body = error.to_be_bytes().to_vec();
    let answered = [(API_VERSIONS, 0), (METADATA, METADATA_VERSION)];
    body.extend(5_i32.to_be_bytes());
    for (key, newest) in answered.into_iter().chain(PROMISED) {
        body.extend([key, 0, newest].iter().flat_map(|field| field.to_be_bytes()));
    }
    body
}

/// One broker or none, and one topic, which is what tells this answer from none at all.
fn metadata(broker_port: Option<u16>) -> Vec<u8> {
    let throttle = 0_i32;
    let mut body = throttle.to_be_bytes().to_vec();
    body.extend(i32::from(broker_port.is_some()).to_be_bytes());
    if let Some(port) = broker_port {
        body.extend(1_i32.to_be_bytes());
        text(&mut body, Some("127.0.0.1"));
        body.extend(i32::from(port).to_be_bytes());
        text(&mut body, None);
    }
    text(&mut body, None);
    let (controller, topics) = (-1_i32, 1_i32);
    body.extend(controller.to_be_bytes());
    body.extend(topics.to_be_bytes());
    body.extend(UNKNOWN_TOPIC.to_be_bytes());
    text(&mut body, Some("some-topic"));
    let (is_internal, partitions) = (0_u8, 0_i32);
    body.push(is_internal);
    body.extend(partitions.to_be_bytes());
    body
}

fn text(body: &mut Vec<u8>, text: Option<&str>) {
    let length = text.map_or(-1, |text| i16::try_from(text.len()).expect("a short text"));
    body.extend(length.to_be_bytes());
    body.extend(text.unwrap_or_default().bytes());
}
