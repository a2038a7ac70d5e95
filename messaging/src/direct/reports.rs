//! What becomes of an event on its way: it has arrived, or comes back and is diverted.

use std::sync::{
    Arc,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use common_events::EventId;
use metrics::counter;
use rdkafka::{
    ClientContext, Message, error::KafkaError, message::DeliveryResult, producer::ProducerContext,
    types::RDKafkaErrorCode,
};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::warn;

use super::{Kept, NotKept};

/// An event, ready to be sent.
#[derive(Debug)]
pub(super) struct Letter {
    pub(super) event_id: EventId,
    pub(super) key: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) traceparent: String,
}

/// An event that Kafka didn't take.
#[derive(Debug)]
pub(super) struct Diverted {
    pub(super) number: u64,
    pub(super) letter: Letter,
    /// Why, in words.
    pub(super) error: String,
    /// Whether Kafka was given it.
    sent: Sent,
    reply: Reply,
    _undecided: Undecided,
}

/// Counts a diverted event until it is decided whether it is kept.
#[derive(Debug)]
struct Undecided(Arc<AtomicUsize>);

impl Undecided {
    fn one_more(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Whether somebody was given the event, who may have kept it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Never,
    Perhaps,
}

/// Who waits for what becomes of an event. Each event is counted once, whether he still waits or not.
#[derive(Debug)]
pub(super) struct Reply {
    topic: &'static str,
    caller: Option<oneshot::Sender<Result<Kept, NotKept>>>,
}

impl Reply {
    pub(super) fn to(caller: oneshot::Sender<Result<Kept, NotKept>>, topic: &'static str) -> Self {
        Self { topic, caller: Some(caller) }
    }

    fn answer(mut self, outcome: Result<Kept, NotKept>) {
        self.tell(outcome);
    }

    fn tell(&mut self, outcome: Result<Kept, NotKept>) {
        let Some(caller) = self.caller.take() else { return };
        match &outcome {
            Ok(Kept::OnTopic) => counter!("events_published_total", "topic" => self.topic).increment(1),
            Ok(Kept::AsDeadLetter) => counter!("events_diverted_total", "topic" => self.topic).increment(1),
            Err(_) => counter!("events_not_kept_total", "topic" => self.topic).increment(1),
        }
        // Who asked may have stopped waiting.
        let _ = caller.send(outcome);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        self.tell(Err(NotKept::Unknown("the publisher is stopping".to_owned())));
    }
}

impl Diverted {
    pub(super) fn kept(self) {
        self.reply.answer(Ok(Kept::AsDeadLetter));
    }

    /// It couldn't be kept as a dead letter either; `written` says whether it may be one after all.
    pub(super) fn not_kept(self, why: &str, written: Sent) {
        let said = format!("{}; {why}", self.error);
        let outcome = match (self.sent, written) {
            (Sent::Never, Sent::Never) => NotKept::NeverSent(said),
            (Sent::Perhaps, _) | (_, Sent::Perhaps) => NotKept::Unknown(said),
        };
        self.reply.answer(Err(outcome));
    }
}

/// What is remembered of an event on its way to Kafka.
pub(super) struct OnTheWay {
    pub(super) number: u64,
    pub(super) event_id: EventId,
    pub(super) traceparent: String,
    pub(super) reply: Reply,
}

/// Tells who waits what became of his event, or diverts it.
#[derive(Clone)]
pub(super) struct Reports {
    diverted: mpsc::Sender<Diverted>,
    /// How many were diverted so far, and how many of them nothing is known about yet.
    turned: Arc<AtomicU64>,
    undecided: Arc<AtomicUsize>,
    brokers_lost: Arc<Notify>,
}

impl Reports {
    pub(super) fn to(diverted: mpsc::Sender<Diverted>) -> Self {
        let (turned, undecided, brokers_lost) = <_>::default();
        Self { diverted, turned, undecided, brokers_lost }
    }

    /// How many events were diverted so far, once it is known of all whether they are kept.
    pub(super) fn turned(&self) -> Option<u64> {
        let turned = self.turned.load(Ordering::Acquire);
        (self.undecided.load(Ordering::Acquire) == 0).then_some(turned)
    }

    /// Ends when no broker could be reached.
    pub(super) async fn brokers_lost(&self) {
        self.brokers_lost.notified().await;
    }

    pub(super) fn divert(&self, event: OnTheWay, letter: Letter, error: String, sent: Sent) {
        let undecided = Undecided::one_more(&self.undecided);
        self.turned.fetch_add(1, Ordering::AcqRel);
        let diverted =
            Diverted { number: event.number, letter, error, sent, reply: event.reply, _undecided: undecided };
        if let Err(full) = self.diverted.try_send(diverted) {
            full.into_inner().not_kept("too many dead letters wait to be written", Sent::Never);
        }
    }
}

impl ClientContext for Reports {
    fn error(&self, error: KafkaError, reason: &str) {
        if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.brokers_lost.notify_one();
        }
        warn!(%error, reason, "Kafka");
    }
}

impl ProducerContext for Reports {
    type DeliveryOpaque = Box<OnTheWay>;

    fn delivery(&self, result: &DeliveryResult<'_>, event: Box<OnTheWay>) {
        match result {
            Ok(_) => event.reply.answer(Ok(Kept::OnTopic)),
            // librdkafka knows more about which of these was never sent; it isn't told here, so none counts as such.
            Err((error, message)) => {
                let letter = Letter {
                    event_id: event.event_id,
                    key: message.key().unwrap_or_default().to_vec(),
                    payload: message.payload().unwrap_or_default().to_vec(),
                    traceparent: event.traceparent.clone(),
                };
                self.divert(*event, letter, error.to_string(), Sent::Perhaps);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn an_event_is_counted_once_also_when_nobody_waits_for_its_outcome() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || {
            let (caller, outcome) = oneshot::channel();
            drop(outcome);
            Reply::to(caller, "coupon-issue-requested").answer(Ok(Kept::OnTopic));
            let (caller, _outcome) = oneshot::channel();
            drop(Reply::to(caller, "coupon-issue-requested"));
        });
        let told = handle.render();
        for counted in ["events_published_total", "events_not_kept_total"] {
            let line = format!("{counted}{{topic=\"coupon-issue-requested\"}} 1\n");
            assert!(told.contains(&line), "{line} is missing: {told}");
        }
    }
}
