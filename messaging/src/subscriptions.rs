//! What a group listens to, and which handler hears it.

use std::{any::Any, collections::BTreeMap, marker::PhantomData};

use chrono::{DateTime, NaiveDate, Utc};
use common_events::{
    EventData, EventId, Service, Topic, TraceParent,
    catalogue::Retention,
    envelope::{self, DecodeError},
};
use futures::future::BoxFuture;
use service_runtime::telemetry;

use crate::{event::Event, failure::Handled, tx::Tx};

/// The subscriptions of one consumer group, which is one service.
pub struct Subscriptions {
    group: Service,
    hearings: BTreeMap<&'static str, Box<dyn Hearing>>,
}

impl Subscriptions {
    /// A group that hears nothing yet.
    pub fn of(group: Service) -> Self {
        Self { group, hearings: BTreeMap::new() }
    }

    /// Hears `T`: `handler` gets every batch of new events, in the order of their partition, in the
    /// transaction that will also remember them as applied. Two batches of different partitions may be
    /// handled at the same time.
    #[must_use]
    pub fn hear<T, F>(mut self, handler: F) -> Self
    where
        T: EventData,
        F: for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
    {
        self.hearings.insert(T::TOPIC.name(), Box::new(Typed { handler, data: PhantomData::<fn(T)> }));
        self
    }

    /// Whose subscriptions these are.
    pub const fn group(&self) -> Service {
        self.group
    }

    /// The topics heard.
    pub fn topics(&self) -> impl Iterator<Item = Topic> + '_ {
        self.hearings.values().map(|hearing| hearing.topic())
    }

    pub(crate) fn hearing(&self, topic: &str) -> Option<&dyn Hearing> {
        self.hearings.get(topic).map(|hearing| &**hearing)
    }
}

/// A decoded event whose type only its [`Hearing`] knows.
pub(crate) struct Decoded {
    pub(crate) id: EventId,
    pub(crate) time: DateTime<Utc>,
    /// The day under which it is remembered. `None` on topics that are kept for ever: their handlers
    /// compare versions or entry ids.
    pub(crate) day: Option<NaiveDate>,
    /// Where the event stands in its trace.
    pub(crate) trace: TraceParent,
    /// The span of its handling here.
    pub(crate) span: TraceParent,
    event: Box<dyn Any + Send + Sync>,
}

pub(crate) trait Hearing: Send + Sync {
    fn topic(&self) -> Topic;
    fn decode(&self, value: &[u8]) -> Result<Decoded, DecodeError>;
    fn handle<'a>(&'a self, tx: &'a Tx<'a>, events: &'a [&'a Decoded]) -> BoxFuture<'a, Handled>;
}

struct Typed<T, F> {
    handler: F,
    data: PhantomData<fn(T)>,
}

impl<T, F> Hearing for Typed<T, F>
where
    T: EventData,
    F: for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
{
    fn topic(&self) -> Topic {
        T::TOPIC
    }

    fn decode(&self, value: &[u8]) -> Result<Decoded, DecodeError> {
        let event = envelope::decode::<T>(value)?;
        let (id, time, trace) = (event.id, event.time, event.trace);
        let span = telemetry::child_of(trace);
        let day = match T::TOPIC.spec().retention {
            Retention::Days(_) => Some(time.date_naive()),
            Retention::ForEver | Retention::Compacted => None,
        };
        Ok(Decoded { id, time, day, trace, span, event: Box::new(Event::new(event, span, day)) })
    }

    fn handle<'a>(&'a self, tx: &'a Tx<'a>, events: &'a [&'a Decoded]) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            let events: Vec<&Event<T>> = events
                .iter()
                .map(|decoded| decoded.event.downcast_ref().expect("decoded by this very hearing"))
                .collect();
            (self.handler)(tx, &events).await
        })
    }
}
