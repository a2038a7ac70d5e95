//! Hearing raw: records as they lie on their topics, whatever they hold, for who looks on and answers nothing.
//!
//! There is no inbox, no attempt, no ladder and no dead letter here: a raw handler takes every record, knows
//! those it had before by where they lie, and can fail only because what it stands on is away. Then its
//! partition waits, as it does for everybody.

use std::{collections::BTreeSet, error::Error};

use futures::future::BoxFuture;

use crate::{
    delivery::{Delivered, Stalled},
    record::Record,
    subscriptions::Subscriptions,
};

type Refused = Box<dyn Error + Send + Sync>;
type Handler = Box<dyn for<'r> Fn(Raw<'r>) -> BoxFuture<'r, Result<(), Refused>> + Send + Sync>;

/// What is heard of a partition.
#[derive(Debug, Clone, Copy)]
pub enum Raw<'r> {
    /// These records lie there, in this order.
    Records(&'r [Record]),
    /// All records before this offset were handed over, and it is past the last of them: a transaction ended there.
    Passed {
        /// Without the suite's prefix.
        topic: &'r str,
        /// Of the topic.
        partition: i32,
        /// What is read next.
        next_offset: i64,
    },
}

/// What a group hears raw.
#[derive(Default)]
pub(crate) struct RawHearing {
    topics: BTreeSet<String>,
    handler: Option<Handler>,
}

impl RawHearing {
    pub(crate) fn topics(&self) -> impl Iterator<Item = &str> {
        self.topics.iter().map(String::as_str)
    }

    /// Hands records of one partition over; `None` when their topic isn't heard raw.
    pub(crate) async fn deliver(&self, records: &[Record]) -> Option<Result<Delivered, Stalled>> {
        let handler = self.handler.as_ref()?;
        let first = records.first().filter(|record| self.topics.contains(&record.topic))?;
        debug_assert!(records.iter().all(|record| record.topic == first.topic), "records of one partition");
        let applied = Delivered { applied: records.len(), ..Delivered::default() };
        Some(handler(Raw::Records(records)).await.map(|()| applied).map_err(Stalled))
    }

    /// Says how far a partition is read; nothing when its topic isn't heard raw.
    pub(crate) async fn pass(&self, topic: &str, partition: i32, next_offset: i64) -> Result<(), Stalled> {
        match &self.handler {
            Some(handler) if self.topics.contains(topic) => {
                handler(Raw::Passed { topic, partition, next_offset }).await.map_err(Stalled)
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Subscriptions {
    /// Hears these topics raw, by their names without the suite's prefix: `handler` gets every record of a
    /// partition, in order, also those that are no events, and is told how far the partition is read where no
    /// record says so. Offsets move on when it returns. Several partitions are handed over at the same time;
    /// records may come again after a crash.
    ///
    /// It fails only when what it stands on is away; the same records are handed over again then, for as long
    /// as it takes.
    #[must_use]
    pub fn hear_raw<E, F>(mut self, topics: impl IntoIterator<Item = String>, handler: F) -> Self
    where
        E: Into<Refused> + 'static,
        F: for<'r> Fn(Raw<'r>) -> BoxFuture<'r, Result<(), E>> + Send + Sync + 'static,
    {
        let handler: Handler = Box::new(move |heard| {
            let work = handler(heard);
            Box::pin(async move { work.await.map_err(Into::into) })
        });
        self.raw = RawHearing { topics: topics.into_iter().collect(), handler: Some(handler) };
        self
    }
}
