//! From recorded spans to a collector: one bounded queue, one task that sends batches.
//!
//! OpenTelemetry's `BatchSpanProcessor` isn't used: it doesn't tell how many spans it dropped, its
//! thread can't drive an async HTTP client, and each failed batch is a log line of its own. An
//! exporter that is away is one line when it goes and one when it is back.

use std::time::Duration;

use common_events::Service;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout},
};

use super::{Span, otlp::Otlp, zipkin::Zipkin};
use crate::settings::{TraceSettings, TracesExporter};

/// What is kept while the collector is slow: at some 300 bytes a span, 2.5 MB.
const QUEUE_SPANS: usize = 8_192;
/// What one request carries at most: some 200 KB of JSON.
const BATCH_SPANS: usize = 512;
/// How long a span waits for company. Traces can be looked at within a second.
const BATCH_DELAY: Duration = Duration::from_millis(400);
/// How long the collector may take for a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long nothing is sent after a batch failed; meanwhile spans are dropped when the queue is full.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

enum Message {
    Span(Span),
    Flush(oneshot::Sender<()>),
}

/// The way to the collector.
pub(crate) struct Batcher {
    queue: mpsc::Sender<Message>,
    dropped: metrics::Counter,
}

impl Batcher {
    /// Starts the sending task on the current tokio runtime; `None` when spans go nowhere.
    pub(crate) fn start(settings: &TraceSettings, service: Service) -> anyhow::Result<Option<Self>> {
        let exporter = match settings.exporter {
            TracesExporter::Zipkin => Exporter::Zipkin(Zipkin::new(&settings.zipkin_endpoint, service, SEND_TIMEOUT)?),
            TracesExporter::Otlp => {
                Exporter::Otlp(Box::new(Otlp::new(&settings.otlp_endpoint, service, SEND_TIMEOUT)?))
            }
            TracesExporter::None => return Ok(None),
        };
        let (queue, received) = mpsc::channel(QUEUE_SPANS);
        tokio::spawn(send_batches(received, exporter));
        Ok(Some(Self { queue, dropped: metrics::counter!("spans_dropped_total") }))
    }

    pub(crate) fn take(&self, span: Span) {
        if self.queue.try_send(Message::Span(span)).is_err() {
            self.dropped.increment(1);
        }
    }

    pub(crate) async fn flush(&self, at_most: Duration) {
        let flushed = async {
            let (done, is_done) = oneshot::channel();
            if self.queue.send(Message::Flush(done)).await.is_ok() {
                // The task only ends with the process.
                let _ = is_done.await;
            }
        };
        if timeout(at_most, flushed).await.is_err() {
            tracing::warn!("the last spans were not sent in time");
        }
    }
}

enum Exporter {
    Zipkin(Zipkin),
    Otlp(Box<Otlp>),
}

impl Exporter {
    async fn send(&mut self, spans: &mut Vec<Span>) -> anyhow::Result<()> {
        match self {
            Self::Zipkin(zipkin) => zipkin.send(spans).await,
            Self::Otlp(otlp) => otlp.send(spans).await,
        }
    }
}

async fn send_batches(mut queue: mpsc::Receiver<Message>, exporter: Exporter) {
    let mut outage = Outage { exporter, away: false, lost: 0 };
    let mut spans = Vec::new();
    let mut messages = Vec::new();
    while let Some(first) = queue.recv().await {
        let due = Instant::now() + BATCH_DELAY;
        let mut flushed = take(first, &mut spans);
        while flushed.is_none() && spans.len() < BATCH_SPANS {
            let room = BATCH_SPANS - spans.len();
            let Ok(received) = tokio::time::timeout_at(due, queue.recv_many(&mut messages, room)).await else { break };
            if received == 0 {
                break;
            }
            for message in messages.drain(..) {
                flushed = take(message, &mut spans).or(flushed);
            }
        }
        outage.send(&mut spans).await;
        if let Some(done) = flushed {
            // Whoever asked may have stopped waiting.
            let _ = done.send(());
        } else if outage.away {
            tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
        }
    }
}

fn take(message: Message, spans: &mut Vec<Span>) -> Option<oneshot::Sender<()>> {
    match message {
        Message::Span(span) => {
            spans.push(span);
            None
        }
        Message::Flush(done) => Some(done),
    }
}

/// Knows whether the collector is away, so that it is said once.
struct Outage {
    exporter: Exporter,
    away: bool,
    lost: usize,
}

impl Outage {
    async fn send(&mut self, spans: &mut Vec<Span>) {
        let count = spans.len();
        if count == 0 {
            return;
        }
        let sent = self.exporter.send(spans).await;
        spans.clear();
        match sent {
            Ok(()) if self.away => {
                self.away = false;
                tracing::info!(lost = std::mem::take(&mut self.lost), "spans are sent again");
            }
            Ok(()) => {}
            Err(error) => {
                metrics::counter!("spans_dropped_total").increment(count as u64);
                self.lost += count;
                if !self.away {
                    self.away = true;
                    tracing::warn!(
                        error = format!("{error:#}"),
                        "spans can't be sent; they are dropped until they can"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::Value;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

    use super::*;
    use crate::{
        settings::{Env, Ratio, Url},
        telemetry::{self, SpanKind},
    };

    const LONG: Duration = Duration::from_secs(10);

    fn settings(exporter: TracesExporter, collector: &str) -> TraceSettings {
        let env = Env::of([("U", collector)]);
        let url: Url = env.required("U").expect("an URL");
        let zipkin_endpoint = url.join("/api/v2/spans").expect("an URL");
        TraceSettings { exporter, zipkin_endpoint, otlp_endpoint: url, sampled: Ratio::ALL }
    }

    fn span(nth: usize) -> Span {
        let now = SystemTime::now();
        Span {
            name: format!("span {nth}").into(),
            kind: SpanKind::Internal,
            me: telemetry::root(),
            parent: None,
            start: now,
            end: now,
            tags: Vec::new(),
            error: None,
        }
    }

    async fn collector(status: u16) -> MockServer {
        let server = MockServer::start().await;
        Mock::given(matchers::method("POST")).respond_with(ResponseTemplate::new(status)).mount(&server).await;
        server
    }

    async fn received(server: &MockServer) -> Vec<wiremock::Request> {
        server.received_requests().await.expect("they are recorded")
    }

    #[tokio::test]
    async fn every_span_reaches_zipkin_once_in_few_requests() {
        let server = collector(202).await;
        let batcher = Batcher::start(&settings(TracesExporter::Zipkin, &server.uri()), Service::Order);
        let batcher = batcher.expect("starts").expect("spans go somewhere");
        for nth in 0..2_000 {
            batcher.take(span(nth));
        }
        batcher.flush(LONG).await;
        let requests = received(&server).await;
        let mut names: Vec<_> = requests
            .iter()
            .flat_map(|request| request.body_json::<Vec<Value>>().expect("a list"))
            .map(|span| span["name"].as_str().expect("a name").to_owned())
            .collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), 2_000);
        assert!(requests.len() <= 5, "{} requests", requests.len());
        assert!(requests.iter().all(|request| request.url.path() == "/api/v2/spans"));
    }

    #[tokio::test]
    async fn otlp_is_protobuf_at_v1_traces() {
        let server = collector(200).await;
        let batcher = Batcher::start(&settings(TracesExporter::Otlp, &server.uri()), Service::Order);
        let batcher = batcher.expect("starts").expect("spans go somewhere");
        batcher.take(span(1));
        batcher.flush(LONG).await;
        let requests = received(&server).await;
        let request = requests.first().expect("one");
        assert_eq!(request.url.path(), "/v1/traces");
        assert_eq!(request.headers["content-type"], "application/x-protobuf");
        let holds = |text: &str| request.body.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(holds("order-service") && holds("span 1"));
    }

    #[tokio::test]
    async fn a_collector_that_refuses_costs_its_callers_nothing() {
        let server = collector(500).await;
        let batcher = Batcher::start(&settings(TracesExporter::Zipkin, &server.uri()), Service::Order);
        let batcher = batcher.expect("starts").expect("spans go somewhere");
        for nth in 0..3 * QUEUE_SPANS {
            batcher.take(span(nth));
        }
        assert_eq!(batcher.queue.capacity(), 0, "what doesn't fit is dropped, nobody waits");
    }
}
