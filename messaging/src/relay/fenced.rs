//! The way of rows for compacted topics: through a transactional producer.
//!
//! There a late duplicate would stay for ever, as the latest record of its key. A relay that takes over
//! starts the same `transactional.id` anew before it sends the first row, which fences the old relay's
//! producer: nothing of it can still arrive. These topics are small (catalogues), so a transaction per
//! batch is cheap enough.

use std::{thread, time::Duration};

use rdkafka::{
    error::KafkaError,
    producer::{BaseProducer, BaseRecord, Producer},
};
use service_runtime::settings::KafkaSettings;
use tokio::sync::mpsc;

use super::{
    claim::Row,
    pipeline::{Ack, headers},
};
use crate::{kafka, topics::Names};

/// How long starting, committing or aborting a transaction may take.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(15);
/// The most rows of one transaction.
const MAX_BATCH: usize = 500;

/// Hands rows to the thread that publishes them; dropped, it ends after the batch at hand.
pub(super) struct Fenced {
    rows: mpsc::UnboundedSender<Row>,
}

impl Fenced {
    pub(super) fn new(
        settings: &KafkaSettings,
        names: &Names,
        database: &str,
        acks: mpsc::UnboundedSender<Ack>,
    ) -> Self {
        let (rows, waiting) = mpsc::unbounded_channel();
        let mut config = kafka::producer(settings);
        config.remove("message.timeout.ms");
        config
            .set("transactional.id", names.topic(&format!("outbox-relay.{database}")))
            .set("transaction.timeout.ms", "20000")
            .set("message.timeout.ms", "15000");
        let publisher = Publisher { config, names: names.clone(), producer: None };
        // Transactions are blocking calls; a thread of their own keeps them off the runtime.
        let thread = thread::Builder::new().name("fenced producer".to_owned());
        if let Err(error) = thread.spawn(move || publisher.run(waiting, &acks)) {
            tracing::error!(%error, "no thread for the fenced producer: compacted topics wait");
        }
        Self { rows }
    }

    pub(super) fn send(&self, row: Row) {
        // The thread ends only after this sender is dropped.
        let _ = self.rows.send(row);
    }
}

struct Publisher {
    config: rdkafka::ClientConfig,
    names: Names,
    /// Made when the first row comes: starting it is what fences the relay before.
    producer: Option<BaseProducer>,
}

impl Publisher {
    fn run(mut self, mut waiting: mpsc::UnboundedReceiver<Row>, acks: &mpsc::UnboundedSender<Ack>) {
        let mut batch = Vec::new();
        while waiting.blocking_recv_many(&mut batch, MAX_BATCH) > 0 {
            let outcome = self.publish(&batch);
            if outcome.is_err() {
                // Whatever state the transaction is in, a new producer begins clean.
                self.producer = None;
            }
            for row in batch.drain(..) {
                let _ = acks.send(Ack { id: row.id, outcome: outcome.clone() });
            }
        }
    }

    fn publish(&mut self, rows: &[Row]) -> Result<(), KafkaError> {
        let producer = if let Some(producer) = self.producer.take() {
            producer
        } else {
            let producer: BaseProducer = self.config.create()?;
            producer.init_transactions(TRANSACTION_TIMEOUT)?;
            producer
        };
        producer.begin_transaction()?;
        for row in rows {
            let topic = self.names.topic(&row.topic);
            let record = BaseRecord::to(&topic).key(&row.key).payload(&row.payload).headers(headers(row));
            producer.send(record).map_err(|(error, _)| error)?;
        }
        producer.commit_transaction(TRANSACTION_TIMEOUT)?;
        self.producer = Some(producer);
        Ok(())
    }
}
