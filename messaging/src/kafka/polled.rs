//! A producer whose reports are fetched by a thread of its own.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, Producer, ProducerContext, PurgeConfig},
};

/// How long the thread waits for a report: a report wakes it, but nothing else does.
const WAIT: Duration = Duration::from_secs(1);

/// What rdkafka's `ThreadedProducer` is, but for what that costs when idle: it asks for 100 ms at a time, and as the rest
/// of a wait is cut off to whole milliseconds, it spins through the last of them: a hundredth of a core each.
pub(crate) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    dropped: Arc<AtomicBool>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// # Errors
    /// When librdkafka makes no client of that.
    ///
    /// # Panics
    /// When there is no thread, as rdkafka's does.
    pub(crate) fn new(config: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        let producer: Arc<BaseProducer<C>> = Arc::new(config.create_with_context(context)?);
        let dropped = Arc::new(AtomicBool::new(false));
        let (polled, ends) = (Arc::clone(&producer), Arc::clone(&dropped));
        let reports = std::thread::Builder::new().name("reports".to_owned());
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with its producer, and hands reports on, and that is all"
        )]
        reports
            .spawn(move || {
                while !ends.load(Ordering::Acquire) {
                    polled.poll(WAIT);
                }
            })
            .expect("a thread");
        Ok(Self { producer, dropped })
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

/// Nothing of it is sent from then on; the thread closes the client within a second, and nobody waits for that.
impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    fn drop(&mut self) {
        self.dropped.store(true, Ordering::Release);
        self.producer.purge(PurgeConfig::default().queue().inflight());
    }
}

#[cfg(test)]
mod tests {
    use std::{thread::sleep, time::Instant};

    use super::*;
    use rdkafka::{
        ClientContext, Message,
        error::RDKafkaErrorCode,
        message::DeliveryResult,
        producer::{BaseRecord, NoCustomPartitioner},
    };

    /// What the reports say.
    #[derive(Clone)]
    struct Told(std::sync::mpsc::Sender<Option<RDKafkaErrorCode>>);

    impl ClientContext for Told {}

    impl ProducerContext<NoCustomPartitioner> for Told {
        type DeliveryOpaque = ();

        fn delivery(&self, outcome: &DeliveryResult<'_>, (): ()) {
            let failed = outcome.as_ref().err().and_then(|(error, record)| {
                assert_eq!(record.topic(), "somewhere");
                error.rdkafka_error_code()
            });
            let _ = self.0.send(failed);
        }
    }

    fn idle() -> (PolledProducer<Told>, std::sync::mpsc::Receiver<Option<RDKafkaErrorCode>>) {
        let (told, heard) = std::sync::mpsc::channel();
        let mut config = ClientConfig::new();
        // Nobody answers there.
        config.set("bootstrap.servers", "127.0.0.1:9").set("reconnect.backoff.ms", "10000");
        (PolledProducer::new(&config, Told(told)).expect("a producer"), heard)
    }

    #[test]
    fn who_drops_it_waits_for_nothing_and_learns_what_became_of_what_it_held() {
        let (producer, heard) = idle();
        producer.send(BaseRecord::<(), str>::to("somewhere").payload("a mug")).expect("it is queued");
        let began = Instant::now();
        drop(producer);
        assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
        assert_eq!(heard.recv_timeout(Duration::from_secs(5)), Ok(Some(RDKafkaErrorCode::PurgeQueue)));
    }

    /// What the threads that are called `reports` have computed so far, in hundredths of a second.
    fn ticks() -> u64 {
        let of_thread = |thread: std::fs::DirEntry| {
            let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
            let (name, rest) = stat.rsplit_once(')')?;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let spent = |field: usize| fields.get(field)?.parse::<u64>().ok();
            name.ends_with("(reports").then(|| spent(11).zip(spent(12)).map(|(user, kernel)| user + kernel))?
        };
        let threads = std::fs::read_dir("/proc/self/task").expect("Linux");
        threads.filter_map(|thread| of_thread(thread.ok()?)).sum()
    }

    /// Thirty that have nothing to do: each `ThreadedProducer` would spin for a hundredth of the time.
    #[test]
    fn idle_ones_cost_next_to_nothing() {
        let producers: Vec<_> = std::iter::repeat_with(idle).take(30).collect();
        sleep(Duration::from_secs(1));
        let before = ticks();
        sleep(Duration::from_secs(3));
        let spent = ticks() - before;
        assert!(spent < 30, "{spent} hundredths of a second of CPU in three seconds");
        drop(producers);
    }
}
