//! What data-platform hears. There is nothing to do in its own database: what is done is done outside, before
//! the transaction that remembers the event.

use std::future;

use common_events::{Service, events::PaymentCompleted};
use futures::FutureExt;
use messaging::{Event, Failure, Subscriptions};
use service_runtime::telemetry;

use crate::{domain::PaidOrder, platform::Platform};

/// The group `data-platform`.
pub fn subscriptions(platform: Platform) -> Subscriptions {
    Subscriptions::of(Service::DataPlatform).hear_remote::<PaymentCompleted, _, _, _>(
        move |event| {
            let platform = platform.clone();
            async move { hand_over(&platform, event).await }.boxed()
        },
        |_, _| future::ready(Ok(())).boxed(),
    )
}

/// Comes twice when the process dies before the event is remembered: the platform knows it by its id.
async fn hand_over(platform: &Platform, event: &Event<PaymentCompleted>) -> Result<(), Failure> {
    let order = PaidOrder::of(&event.data, event.trace.trace_id);
    // The call hangs below the span of its handling, in which it is made.
    let parent = telemetry::current().unwrap_or(event.trace);
    Ok(platform.hand_over(event.id, &order, parent).await?)
}
