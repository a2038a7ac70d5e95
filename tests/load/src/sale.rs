//! A first-come sale: many users, some of whom ask more than once, for a few coupons.
//!
//! In a **closed loop** every connection asks again as soon as it was answered: that shows how much the
//! service can do, and its latencies are the service's own. In an **open loop** requests come when they were
//! planned to, and every latency counts from the planned time: that is what a customer feels.

mod asking;
mod ceiling;
mod empty;
mod geometry;
mod issuing;
mod page;
mod report;
mod tally;
mod verdict;

use std::time::Duration;

use anyhow::ensure;
use common_events::{CouponId, UserId};
use serde::Serialize;
use system::Shop;
use uuid::Uuid;

pub use asking::ask_all;
pub use ceiling::Ceiling;
pub use empty::Empty;
pub use issuing::{Issuing, Look};
pub use report::Report;
pub use tally::{Admission, Answers, Kind, SaleTally};
pub use verdict::{SaleVerdict, judge};

use crate::Live;

/// More would not fit the timeline and the memory of one client.
const MAX_USERS: u32 = 5_000_000;

/// What is asked for, where, and by whom.
#[derive(Debug, Clone)]
pub struct Sale {
    /// Where coupon-service listens.
    pub url: String,
    /// The coupon.
    pub coupon: CouponId,
    /// How many of it there are.
    pub quantity: i64,
    /// Before the names of its users, so that every run has users of its own.
    pub run: String,
}

/// How it is asked for.
#[derive(Debug, Clone)]
pub struct Rush {
    /// Different users, each of whom asks at least once.
    pub users: u32,
    /// Requests beyond that, each by one of the users.
    pub repeats: u32,
    /// Requests under way at once.
    pub connections: u32,
    /// When a request is sent.
    pub pace: Pace,
    /// What happens to a request whose answer decides nothing.
    pub persistence: Persistence,
}

/// When a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Pace {
    /// As soon as the connection's last one was answered.
    Closed,
    /// So many a second, at times planned beforehand.
    Open(f64),
}

/// What happens to a request that was answered with 503 or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It is counted, and that is all.
    AsksOnce,
    /// The user asks again, until so long after the first request of the sale.
    AsksAgainFor(Duration),
}

impl Sale {
    /// A sale of this coupon, by users that were never here before.
    pub fn of(shop: &Shop, coupon: CouponId, quantity: i64) -> Self {
        let run = format!("sale-{}", Uuid::now_v7().simple());
        Self { url: shop.urls().coupon.clone(), coupon, quantity, run }
    }

    /// The user with this number.
    ///
    /// # Panics
    /// Never: the name is made of letters, digits and dashes.
    pub fn user(&self, number: u32) -> UserId {
        format!("{}-{number}", self.run).parse().expect("letters, digits and dashes")
    }
}

impl Rush {
    /// So many users, each of whom asks once, as fast as the connections bear it.
    pub const fn of(users: u32, connections: u32) -> Self {
        Self { users, repeats: 0, connections, pace: Pace::Closed, persistence: Persistence::AsksOnce }
    }

    /// How many requests that is, when none is sent again.
    pub const fn requests(&self) -> u32 {
        self.users + self.repeats
    }

    fn check(&self) -> anyhow::Result<()> {
        ensure!(self.users > 0, "somebody has to ask");
        ensure!(self.users <= MAX_USERS && self.repeats <= MAX_USERS, "at most {MAX_USERS} users and repeats");
        ensure!(self.connections > 0, "nobody can ask without a connection");
        Ok(())
    }
}

/// What came of a sale.
#[derive(Debug, Clone)]
pub struct Held {
    /// The answers.
    pub tally: SaleTally,
    /// The coupons, as they were issued.
    pub issuing: Issuing,
}

/// Sends all requests and waits until as many coupons are issued as can be.
pub async fn hold(shop: &Shop, sale: &Sale, rush: &Rush, live: &Live<SaleTally>) -> anyhow::Result<Held> {
    let watch = issuing::Watch::begin(shop.clone(), sale.coupon.clone());
    let tally = ask_all(sale, rush, live).await?;
    shop.note_admissions(tally.admissions.iter().map(|admission| (sale.coupon.clone(), sale.user(admission.user))));
    let issuing = watch.until_drained(sale, &tally).await;
    Ok(Held { tally, issuing })
}
