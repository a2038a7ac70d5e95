//! The retry ladder: where an event goes when handling it fails, in which order, and when.
//!
//! - `hops`, `waiting`, `calls`, `alarm`, `notices`, `strangers`: through the seam, without a broker; a crash is a step that isn't made;
//! - `climbing`: members, relay and broker, at delays of fractions of a second.

mod alarm;
mod calls;
mod climbing;
mod hops;
mod notices;
mod strangers;
mod waiting;

use std::time::Duration;

use messaging::{Delivered, Record, ladder::Ladder};

use crate::toys::{ATTEMPTS, ToyShop};

/// A ladder whose parked batches follow one another at once.
const SHORT: Ladder = Ladder {
    immediate: ATTEMPTS,
    delays: [Duration::from_millis(1); 3],
    parked_attempts: 2,
    parked_interval: Duration::ZERO,
};

const NONE: Delivered =
    Delivered { applied: 0, duplicates: 0, retrying: 0, waiting: 0, parked: 0, dead: 0, resumed: 0 };

/// Relays what is on its way and delivers it.
async fn next_hop(shop: &ToyShop) -> Delivered {
    shop.deliver(&shop.relay().await).await
}

fn headers(record: &Record, names: &[&str]) -> Vec<Option<String>> {
    names.iter().map(|name| record.header(name).map(ToOwned::to_owned)).collect()
}
