//! A producer whose reports are fetched by a thread of its own.

use std::{ops::Deref, sync::Arc, thread, time::Duration};

use rdkafka::{
    ClientConfig,
    error::KafkaError,
    producer::{BaseProducer, Producer, ProducerContext, PurgeConfig},
};

/// How long the thread fetches reports before it sees whether it is needed any more. They are handed on as they come.
const POLL: Duration = Duration::from_millis(500);

/// What rdkafka's `ThreadedProducer` is, but for what that costs when idle: it polls for 100 ms at a time, and as the rest
/// of a wait is cut off to whole milliseconds, it spins through the last of them: a hundredth of a core each.
///
/// Dropped, it gives up what it holds, and says so in reports; what is on the wire may arrive. Its thread closes the
/// client a moment later, and only [`PolledProducer::close`] waits for that.
pub(crate) struct PolledProducer<C: ProducerContext + 'static> {
    producer: Arc<BaseProducer<C>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl<C: ProducerContext + 'static> PolledProducer<C> {
    /// # Errors
    /// When librdkafka makes no client of that.
    ///
    /// # Panics
    /// When there is no thread, as rdkafka's does.
    pub(crate) fn new(config: &ClientConfig, context: C) -> Result<Self, KafkaError> {
        let producer: Arc<BaseProducer<C>> = Arc::new(config.create_with_context(context)?);
        let polled = Arc::clone(&producer);
        let poll = move || {
            while Arc::strong_count(&polled) > 1 {
                polled.poll(POLL);
            }
        };
        let reports = thread::Builder::new().name("reports".to_owned());
        #[expect(
            clippy::disallowed_methods,
            reason = "it ends with its producer, whose owner asks whether it has ended"
        )]
        let thread = reports.spawn(poll).expect("a thread");
        Ok(Self { producer, thread: Some(thread) })
    }

    /// Whether nobody fetches reports any more: by a panic of one who was told.
    pub(crate) fn has_ended(&self) -> bool {
        self.thread.as_ref().is_some_and(thread::JoinHandle::is_finished)
    }

    /// Gives up what it holds. When this returns, nothing comes from it any more. Blocks, for a second or two at most.
    pub(crate) fn close(mut self) {
        let thread = self.thread.take();
        drop(self);
        // Who panicked there was told of where it happened.
        let _ = thread.map(thread::JoinHandle::join);
    }
}

impl<C: ProducerContext + 'static> Deref for PolledProducer<C> {
    type Target = BaseProducer<C>;

    fn deref(&self) -> &BaseProducer<C> {
        &self.producer
    }
}

impl<C: ProducerContext + 'static> Drop for PolledProducer<C> {
    fn drop(&mut self) {
        self.producer.purge(PurgeConfig::default().queue().inflight().non_blocking());
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::mpsc::{Receiver, Sender, channel},
        time::Instant,
    };

    use rdkafka::{
        ClientContext,
        error::RDKafkaErrorCode,
        message::DeliveryResult,
        producer::{BaseRecord, NoCustomPartitioner},
    };

    use super::*;

    type Report = Option<RDKafkaErrorCode>;

    /// Tells the reports; or panics, when told to.
    struct Told {
        reports: Sender<Report>,
        panics: bool,
    }

    impl ClientContext for Told {}

    impl ProducerContext<NoCustomPartitioner> for Told {
        type DeliveryOpaque = ();

        fn delivery(&self, outcome: &DeliveryResult<'_>, (): ()) {
            assert!(!self.panics, "as it was told to");
            let _ = self.reports.send(outcome.as_ref().err().and_then(|(error, _)| error.rdkafka_error_code()));
        }
    }

    /// One whose broker is nowhere.
    fn producer(panics: bool) -> (PolledProducer<Told>, Receiver<Report>) {
        let (reports, told) = channel();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", "127.0.0.1:9").set("reconnect.backoff.ms", "10000");
        (PolledProducer::new(&config, Told { reports, panics }).expect("a producer"), told)
    }

    fn holding(panics: bool) -> (PolledProducer<Told>, Receiver<Report>) {
        let (producer, told) = producer(panics);
        producer.send(BaseRecord::<(), str>::to("somewhere").payload("a mug")).expect("it is queued");
        (producer, told)
    }

    #[test]
    fn dropped_it_gives_up_what_it_holds_and_says_so_and_nobody_waits() {
        let (producer, told) = holding(false);
        let began = Instant::now();
        drop(producer);
        assert!(began.elapsed() < POLL / 2, "{:?}", began.elapsed());
        assert_eq!(told.recv_timeout(10 * POLL), Ok(Some(RDKafkaErrorCode::PurgeQueue)));
        // Its context goes with the client.
        told.recv_timeout(10 * POLL).expect_err("nothing more, and nobody who could say it");
    }

    #[test]
    fn once_it_is_closed_nothing_comes_any_more() {
        let (producer, told) = holding(false);
        producer.close();
        assert_eq!(told.try_recv(), Ok(Some(RDKafkaErrorCode::PurgeQueue)));
        assert_eq!(told.try_recv(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }

    #[test]
    fn that_nobody_fetches_reports_any_more_is_seen() {
        let (producer, _told) = holding(true);
        assert!(!producer.has_ended());
        producer.purge(PurgeConfig::default().queue());
        let began = Instant::now();
        while !producer.has_ended() {
            assert!(began.elapsed() < 10 * POLL, "its thread is there");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the threads that are called `reports` have computed so far, in hundredths of a second.
    fn ticks() -> u64 {
        let of_thread = |thread: fs::DirEntry| {
            let stat = fs::read_to_string(thread.path().join("stat")).ok()?;
            let (name, rest) = stat.rsplit_once(')')?;
            let fields: Vec<&str> = rest.split_whitespace().collect();
            let spent = |field: usize| fields.get(field)?.parse::<u64>().ok();
            name.ends_with("(reports").then(|| spent(11).zip(spent(12)).map(|(user, kernel)| user + kernel))?
        };
        let threads = fs::read_dir("/proc/self/task").expect("Linux");
        threads.filter_map(|thread| of_thread(thread.ok()?)).sum()
    }

    /// Thirty that have nothing to do: each `ThreadedProducer` would spin for a hundredth of the time.
    #[test]
    fn idle_ones_cost_next_to_nothing() {
        let producers: Vec<_> = std::iter::repeat_with(|| producer(false)).take(30).collect();
        thread::sleep(Duration::from_secs(1));
        let before = ticks();
        // Over a span of time, as that is what is measured.
        thread::sleep(Duration::from_secs(3));
        let spent = ticks() - before;
        assert!(spent < 30, "{spent} hundredths of a second of CPU in three seconds");
        drop(producers);
    }
}
