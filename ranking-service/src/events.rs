//! What ranking-service hears. A batch becomes sums in memory first, so that a product that everybody
//! buys is one row of an upsert, and partitions that are counted at the same time lock the rows in the
//! same order.

use std::collections::BTreeMap;

use common_events::{
    ProductId, Service,
    events::{OrderLine, PaymentCompleted, PaymentRefunded, ProductCatalog},
};
use futures::FutureExt;
use messaging::{Event, Handled, Subscriptions, Tx, Unprocessable};
use service_runtime::museum::{self, Bug};

use crate::{
    domain::{Moment, Sums},
    store,
};

/// The group `ranking-service`.
pub fn subscriptions() -> Subscriptions {
    Subscriptions::of(Service::Ranking)
        .hear::<PaymentCompleted, _>(|tx, events| on_payment_completed(tx, events).boxed())
        .hear::<PaymentRefunded, _>(|tx, events| on_payment_refunded(tx, events).boxed())
        .hear::<ProductCatalog, _>(|tx, events| on_product_catalog(tx, events).boxed())
}

/// What was paid for counts from when it was paid, however late it is heard.
async fn on_payment_completed(tx: &Tx<'_>, events: &[&Event<PaymentCompleted>]) -> Handled {
    let mut sums = Sums::default();
    for event in events {
        sums.count(&event.data.lines, Moment::try_from(event.data.paid_at).map_err(never)?).map_err(never)?;
    }
    store::update_sales(tx, &sums).await?;
    store::insert_names(tx, &said_by(events.iter().flat_map(|event| &event.data.lines))).await?;
    Ok(())
}

/// A refund counts back where its payment counted, also when it is heard first: the sums are below zero
/// then, until the payment is heard.
async fn on_payment_refunded(tx: &Tx<'_>, events: &[&Event<PaymentRefunded>]) -> Handled {
    let mut sums = Sums::default();
    for event in events.iter().filter(|_| !museum::is_back(Bug::RankingKeepsRefunded)) {
        sums.count_back(&event.data.lines, Moment::try_from(event.data.paid_at).map_err(never)?).map_err(never)?;
    }
    store::update_sales(tx, &sums).await?;
    store::insert_names(tx, &said_by(events.iter().flat_map(|event| &event.data.lines))).await?;
    Ok(())
}

/// The highest version says what a product is called. The topic is kept for ever and no inbox remembers
/// its events: comparing versions is what makes a second delivery change nothing.
async fn on_product_catalog(tx: &Tx<'_>, events: &[&Event<ProductCatalog>]) -> Handled {
    let mut latest: BTreeMap<&ProductId, &ProductCatalog> = BTreeMap::new();
    for event in events {
        let known = latest.entry(&event.data.product_id).or_insert(&event.data);
        if event.data.version > known.version {
            *known = &event.data;
        }
    }
    store::update_names(tx, latest.values().copied()).await?;
    Ok(())
}

/// What order lines call their products.
fn said_by<'e>(lines: impl Iterator<Item = &'e OrderLine>) -> BTreeMap<&'e ProductId, &'e str> {
    lines.map(|line| (&line.product_id, line.name.as_str())).collect()
}

/// What can't be counted now never can.
fn never(error: impl std::error::Error) -> Unprocessable {
    Unprocessable::new(error.to_string())
}
