//! What a group listens to, and which handler hears it.

mod remote;

use std::{any::Any, collections::BTreeMap, marker::PhantomData, sync::OnceLock};

use chrono::{DateTime, NaiveDate, Utc};
use common_events::{
    EventData, EventId, Service, Topic, TraceParent,
    catalogue::Retention,
    envelope::{self, DecodeError},
};
use futures::future::BoxFuture;
use service_runtime::telemetry;

use crate::{
    event::Event,
    failure::{Failure, Handled},
    raw::RawHearing,
    tx::Tx,
};

/// The subscriptions of one consumer group, which is one service.
pub struct Subscriptions {
    group: Service,
    hearings: BTreeMap<&'static str, Box<dyn Hearing>>,
    foundations: Vec<Foundation>,
    /// By topic: who is told that an event was discarded.
    discards: BTreeMap<&'static str, Box<dyn Hearing>>,
    pub(crate) raw: RawHearing,
}

/// Something whose absence is no event's fault.
struct Foundation {
    name: &'static str,
    answers: Box<dyn Fn() -> BoxFuture<'static, bool> + Send + Sync>,
}

impl Subscriptions {
    /// A group that hears nothing yet.
    pub fn of(group: Service) -> Self {
        let (hearings, foundations, discards, raw) = <_>::default();
        Self { group, hearings, foundations, discards, raw }
    }

    /// Hears `T`: `handler` gets every batch of new events, in the order of their partition, in the
    /// transaction that will also remember them as applied. Two batches of different partitions may be
    /// handled at the same time. While an event that failed waits to be tried again, later ones of its key
    /// wait behind it.
    #[must_use]
    pub fn hear<T, F>(self, handler: F) -> Self
    where
        T: EventData,
        F: for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
    {
        self.hear_by(Local { handler, order: Order::PerKey, data: PhantomData::<fn(T)> })
    }

    /// The same for a handler that is commutative: its effects are the same in whatever order the events of
    /// a key come. So one that failed holds up no other.
    #[must_use]
    pub fn hear_in_any_order<T, F>(self, handler: F) -> Self
    where
        T: EventData,
        F: for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
    {
        self.hear_by(Local { handler, order: Order::Any, data: PhantomData::<fn(T)> })
    }

    /// Hears `T` with a call to a remote system: `call` is made for each new event, outside of any
    /// transaction, with nothing locked; in the order of the event's key, for several keys at a time. Then
    /// `handler` gets the events with what came of their calls, as with [`Self::hear`].
    ///
    /// A call may be made again for the same event (the process died before it was remembered): give the
    /// remote system the event's id as its idempotency key.
    #[must_use]
    pub fn hear_remote<T, R, C, F>(self, call: C, handler: F) -> Self
    where
        T: EventData,
        R: Send + Sync + 'static,
        C: for<'a> Fn(&'a Event<T>) -> BoxFuture<'a, Result<R, Failure>> + Send + Sync + 'static,
        F: for<'a> Fn(&'a Tx<'a>, &'a [(&'a Event<T>, &'a R)]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
    {
        self.hear_by(remote::Remote::new(call, handler))
    }

    /// Is told when an operator discards a dead `T` that this group never handled, in the transaction that
    /// discards it: who owes somebody an answer gives it here. A failure of `handler` refuses the discard.
    #[must_use]
    pub fn when_discarded<T, F>(mut self, handler: F) -> Self
    where
        T: EventData,
        F: for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
    {
        let told = Local { handler, order: Order::Any, data: PhantomData::<fn(T)> };
        self.discards.insert(T::TOPIC.name(), Box::new(told));
        self
    }

    /// The handlers can't work without this, as they can't without the database: while `answers` says no, a
    /// failure counts against no event, and its partition waits.
    #[must_use]
    pub fn stand_on<F, A>(mut self, name: &'static str, answers: F) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = bool> + Send + 'static,
    {
        self.foundations.push(Foundation { name, answers: Box::new(move || Box::pin(answers())) });
        self
    }

    fn hear_by(mut self, hearing: impl Hearing + 'static) -> Self {
        self.hearings.insert(hearing.topic().name(), Box::new(hearing));
        self
    }

    /// Whose subscriptions these are.
    pub const fn group(&self) -> Service {
        self.group
    }

    /// Whether later events of a key wait behind one of this topic that failed.
    pub fn keeps_order_of(&self, topic: Topic) -> bool {
        self.hearing(topic.name()).is_some_and(|hearing| hearing.order() == Order::PerKey)
    }

    /// The topics heard.
    pub fn topics(&self) -> impl Iterator<Item = Topic> + '_ {
        self.hearings.values().map(|hearing| hearing.topic())
    }

    pub(crate) fn hearing(&self, topic: &str) -> Option<&dyn Hearing> {
        self.hearings.get(topic).map(|hearing| &**hearing)
    }

    pub(crate) fn topics_told_of_discards(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.discards.keys().copied()
    }

    /// Tells of discarded events of one topic. Of what can't be read as its event nobody is owed anything.
    pub(crate) async fn tell_discarded(
        &self,
        tx: &Tx<'_>,
        topic: &str,
        payloads: impl Iterator<Item = &[u8]>,
    ) -> Handled {
        let Some(told) = self.discards.get(topic) else { return Ok(()) };
        let events: Vec<Decoded> = payloads.filter_map(|payload| told.decode(payload).ok()).collect();
        if events.is_empty() {
            return Ok(());
        }
        told.handle(tx, &events.iter().collect::<Vec<_>>()).await
    }

    /// What the handlers stand on and isn't there now, the database aside.
    pub(crate) async fn missing(&self) -> Option<&'static str> {
        for foundation in &self.foundations {
            if !(foundation.answers)().await {
                return Some(foundation.name);
            }
        }
        None
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
    /// What came of its remote call.
    answer: OnceLock<Box<dyn Any + Send + Sync>>,
}

impl Decoded {
    fn of<T: EventData>(value: &[u8]) -> Result<Self, DecodeError> {
        let event = envelope::decode::<T>(value)?;
        let (id, time, trace) = (event.id, event.time, event.trace);
        let span = telemetry::child_of(trace);
        let day = match T::TOPIC.spec().retention {
            Retention::Days(_) => Some(time.date_naive()),
            Retention::ForEver | Retention::Compacted => None,
        };
        let event = Box::new(Event::new(event, span, day));
        Ok(Self { id, time, day, trace, span, event, answer: OnceLock::new() })
    }

    fn event<T: EventData>(&self) -> &Event<T> {
        self.event.downcast_ref().expect("decoded by this very hearing")
    }

    /// Whether its remote call was made.
    pub(crate) fn is_answered(&self) -> bool {
        self.answer.get().is_some()
    }
}

/// Whether a failed event holds up the later ones of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    PerKey,
    Any,
}

pub(crate) trait Hearing: Send + Sync {
    fn topic(&self) -> Topic;
    fn order(&self) -> Order;
    fn decode(&self, value: &[u8]) -> Result<Decoded, DecodeError>;
    /// Whether it makes remote calls.
    fn is_remote(&self) -> bool;
    /// Makes the event's remote call; `None` when this hearing makes none.
    fn call<'a>(&'a self, event: &'a Decoded) -> Option<BoxFuture<'a, Handled>>;
    /// Every event was called for before, where there is a call.
    fn handle<'a>(&'a self, tx: &'a Tx<'a>, events: &'a [&'a Decoded]) -> BoxFuture<'a, Handled>;
}

struct Local<T, F> {
    handler: F,
    order: Order,
    data: PhantomData<fn(T)>,
}

impl<T, F> Hearing for Local<T, F>
where
    T: EventData,
    F: for<'a> Fn(&'a Tx<'a>, &'a [&'a Event<T>]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
{
    fn topic(&self) -> Topic {
        T::TOPIC
    }

    fn order(&self) -> Order {
        self.order
    }

    fn decode(&self, value: &[u8]) -> Result<Decoded, DecodeError> {
        Decoded::of::<T>(value)
    }

    fn is_remote(&self) -> bool {
        false
    }

    fn call<'a>(&'a self, _: &'a Decoded) -> Option<BoxFuture<'a, Handled>> {
        None
    }

    fn handle<'a>(&'a self, tx: &'a Tx<'a>, events: &'a [&'a Decoded]) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            let events: Vec<&Event<T>> = events.iter().map(|decoded| decoded.event()).collect();
            (self.handler)(tx, &events).await
        })
    }
}
