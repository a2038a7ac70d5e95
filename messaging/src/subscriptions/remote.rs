//! Hearing with a remote call before the transaction.

use std::marker::PhantomData;

use common_events::{EventData, Topic, envelope::DecodeError};
use futures::future::BoxFuture;

use super::{Decoded, Hearing, Order};
use crate::{
    event::Event,
    failure::{Failure, Handled},
    tx::Tx,
};

pub(super) struct Remote<T, R, C, F> {
    call: C,
    handler: F,
    data: PhantomData<fn(T) -> R>,
}

impl<T, R, C, F> Remote<T, R, C, F> {
    pub(super) const fn new(call: C, handler: F) -> Self {
        Self { call, handler, data: PhantomData }
    }
}

impl<T, R, C, F> Hearing for Remote<T, R, C, F>
where
    T: EventData,
    R: Send + Sync + 'static,
    C: for<'a> Fn(&'a Event<T>) -> BoxFuture<'a, Result<R, Failure>> + Send + Sync + 'static,
    F: for<'a> Fn(&'a Tx<'a>, &'a [(&'a Event<T>, &'a R)]) -> BoxFuture<'a, Handled> + Send + Sync + 'static,
{
    fn topic(&self) -> Topic {
        T::TOPIC
    }

    fn order(&self) -> Order {
        Order::PerKey
    }

    fn decode(&self, value: &[u8]) -> Result<Decoded, DecodeError> {
        Decoded::of::<T>(value)
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn call<'a>(&'a self, event: &'a Decoded) -> Option<BoxFuture<'a, Handled>> {
        Some(Box::pin(async move {
            let answer = (self.call)(event.event::<T>()).await?;
            // The first answer stays: nobody calls twice for one delivery.
            let _ = event.answer.set(Box::new(answer));
            Ok(())
        }))
    }

    fn handle<'a>(&'a self, tx: &'a Tx<'a>, events: &'a [&'a Decoded]) -> BoxFuture<'a, Handled> {
        Box::pin(async move {
            let answer = |decoded: &'a Decoded| -> &'a R {
                let answer = decoded.answer.get().expect("called for before it is handled");
                answer.downcast_ref().expect("answered to this very hearing")
            };
            let events: Vec<(&Event<T>, &R)> =
                events.iter().map(|decoded| (decoded.event(), answer(decoded))).collect();
            (self.handler)(tx, &events).await
        })
    }
}
