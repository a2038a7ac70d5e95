//! From recorded spans to a collector: one bounded queue, one task that sends batches.
//!
//! OpenTelemetry's `BatchSpanProcessor` isn't used: it doesn't tell how many spans it dropped, its
//! thread can't drive an async HTTP client, and each failed batch is a log line of its own. An
//! exporter that is away is one line when it goes and one when it is back.

use std::time::Duration;

use common_events::Service;
use futures::FutureExt;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};

use super::{Span, otlp::Otlp, zipkin::Zipkin};
use crate::{
    settings::{TraceSettings, TracesExporter},
    tasks::{Next, Rounds, Tasks},
};

/// What is kept while the collector is slow: at some 300 bytes a span, 2.5 MB.
const QUEUE_SPANS: usize = 8_192;
/// What one request carries at most: some 200 KB of JSON.
const BATCH_SPANS: usize = 512;
/// How long a span waits for company. Traces can be looked at within a second.
const BATCH_DELAY: Duration = Duration::from_millis(400);
/// How long the collector may take for a batch.
const SEND_TIMEOUT: Duration = Duration::from_secs(3);
/// How long nothing is sent after a batch failed, at first and at most; meanwhile spans are dropped when the queue
/// is full. Shorter than a flush may take at the end of the process.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

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
    /// Starts the task that sends; `None` when spans go nowhere.
    pub(crate) fn start(settings: &TraceSettings, service: Service, tasks: &Tasks) -> anyhow::Result<Option<Self>> {
        let exporter = match settings.exporter {
            TracesExporter::Zipkin => Exporter::Zipkin(Zipkin::new(&settings.zipkin_endpoint, service, SEND_TIMEOUT)?),
            TracesExporter::Otlp => {
                Exporter::Otlp(Box::new(Otlp::new(&settings.otlp_endpoint, service, SEND_TIMEOUT)?))
            }
            TracesExporter::None => return Ok(None),
        };
        let (queue, received) = mpsc::channel(QUEUE_SPANS);
        let rounds = Rounds::on_demand("spans").backing_off(FIRST_PAUSE, LONGEST_PAUSE).unknown_to_health();
        let sending = Sending { queue: received, exporter, messages: Vec::new(), spans: Vec::new(), flushed: None };
        tasks.repeat_on_demand(
            rounds,
            sending,
            |sending| sending.gather_batch().boxed(),
            |sending| sending.send_batch().boxed(),
        );
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

/// What sends batches. What a round holds that panics is dropped.
struct Sending {
    queue: mpsc::Receiver<Message>,
    exporter: Exporter,
    messages: Vec<Message>,
    spans: Vec<Span>,
    /// Who waits for these spans to be sent.
    flushed: Option<oneshot::Sender<()>>,
}

impl Sending {
    /// Waits for spans, and for what else comes within a moment. None come any more when there are none then.
    async fn gather_batch(&mut self) -> anyhow::Result<()> {
        while let Some(first) = self.queue.recv().await {
            self.flushed = self.gather(first).await;
            if !self.spans.is_empty() {
                break;
            }
            tell(self.flushed.take());
        }
        Ok(())
    }

    /// Sends them. A batch that fails is dropped.
    async fn send_batch(&mut self) -> anyhow::Result<Next> {
        if self.spans.is_empty() {
            return Ok(Next::Never);
        }
        let flushed = self.flushed.take();
        let mut spans = std::mem::take(&mut self.spans);
        let count = spans.len() as u64;
        let sent = self.exporter.send(&mut spans).await;
        spans.clear();
        self.spans = spans;
        if sent.is_err() {
            metrics::counter!("spans_dropped_total").increment(count);
        }
        tell(flushed);
        sent.map(|()| Next::Now)
    }

    /// Takes what comes within [`BATCH_DELAY`], or until somebody waits for it.
    async fn gather(&mut self, first: Message) -> Option<oneshot::Sender<()>> {
        let due = Instant::now() + BATCH_DELAY;
        let mut flushed = take(first, &mut self.spans);
        while flushed.is_none() && self.spans.len() < BATCH_SPANS {
            let room = BATCH_SPANS - self.spans.len();
            let Ok(received) = timeout_at(due, self.queue.recv_many(&mut self.messages, room)).await else { break };
            if received == 0 {
                break;
            }
            for message in self.messages.drain(..) {
                flushed = take(message, &mut self.spans).or(flushed);
            }
        }
        flushed
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

/// Whoever asked for a flush may have stopped waiting.
fn tell(flushed: Option<oneshot::Sender<()>>) {
    if let Some(done) = flushed {
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use serde_json::Value;
    use tokio_util::sync::CancellationToken;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers};

    use super::*;
    use crate::{
        Health,
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

    fn tasks() -> Tasks {
        Tasks::new(Health::new(CancellationToken::new()))
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
        let batcher = Batcher::start(&settings(TracesExporter::Zipkin, &server.uri()), Service::Order, &tasks());
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
        let batcher = Batcher::start(&settings(TracesExporter::Otlp, &server.uri()), Service::Order, &tasks());
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
        let batcher = Batcher::start(&settings(TracesExporter::Zipkin, &server.uri()), Service::Order, &tasks());
        let batcher = batcher.expect("starts").expect("spans go somewhere");
        for nth in 0..3 * QUEUE_SPANS {
            batcher.take(span(nth));
        }
        assert_eq!(batcher.queue.capacity(), 0, "what doesn't fit is dropped, nobody waits");
    }
}
