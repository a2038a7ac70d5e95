use std::time::Duration;

use rdkafka::{
    ClientConfig,
    producer::{BaseProducer, BaseRecord, Producer},
};
use uuid::Uuid;

/// How long the broker may take for a step of a transaction.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A producer of somebody else, who writes in transactions. Everything of it blocks.
pub struct Foreign(BaseProducer);

impl Foreign {
    /// At these brokers.
    ///
    /// # Panics
    /// When the broker doesn't do it.
    pub fn at(brokers: &str) -> Self {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", brokers)
            .set("transactional.id", format!("foreign-{}", Uuid::now_v7().simple()))
            .create()
            .expect("settings of a producer");
        producer.init_transactions(TIMEOUT).expect("the broker knows transactions");
        Self(producer)
    }

    /// Writes this value to that partition, in a transaction that is open then.
    ///
    /// # Panics
    /// When the broker doesn't do it.
    pub fn begin(&self, full_topic: &str, partition: i32, value: &[u8]) {
        self.0.begin_transaction().expect("none is open");
        let record = BaseRecord::<[u8], [u8]>::to(full_topic).partition(partition).key(b"foreign").payload(value);
        self.0.send(record).map_err(|(error, _)| error).expect("room in the queue");
        self.0.flush(TIMEOUT).expect("the broker takes it");
    }

    /// Ends the open transaction: what it wrote is there.
    ///
    /// # Panics
    /// When the broker doesn't do it.
    pub fn commit(&self) {
        self.0.commit_transaction(TIMEOUT).expect("it is committed");
    }

    /// Ends the open transaction: nobody ever gets what it wrote.
    ///
    /// # Panics
    /// When the broker doesn't do it.
    pub fn abort(&self) {
        self.0.abort_transaction(TIMEOUT).expect("it is aborted");
    }
}
