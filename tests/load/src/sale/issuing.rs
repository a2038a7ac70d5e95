//! The coupons, as they are issued behind the answers.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use common_events::CouponId;
use system::{Shop, shop::Coupon};
use tokio::task::JoinHandle;

use super::{Sale, SaleTally, report::Seen};

const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Ten minutes.
const MAX_LOOKS: usize = 12_000;
/// Without a new coupon for so long, no more is coming: longer than a killed member's partitions stay away.
const SETTLED_AFTER: Duration = Duration::from_secs(20);

/// What `GET /coupons/{id}` said at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// When.
    pub at: Instant,
    /// Issued by the database.
    pub issued: i64,
}

/// How the coupons were issued.
#[derive(Debug, Clone, Default)]
pub struct Issuing {
    /// Look by look.
    pub looks: Vec<Look>,
    /// From the last 202 until the last coupon was seen to be issued; `None`: some were still missing in the end.
    pub drained_after: Option<Duration>,
}

/// Looks again and again, beside the asking.
pub(super) struct Watch {
    looks: Arc<Mutex<Vec<Look>>>,
    looking: JoinHandle<()>,
}

impl Watch {
    pub(super) fn begin(shop: Shop, coupon: CouponId) -> Self {
        let looks = Arc::<Mutex<Vec<Look>>>::default();
        let looking = tokio::spawn(look_on(shop, coupon, Arc::clone(&looks)));
        Self { looks, looking }
    }

    /// Waits until everybody who was admitted has a coupon, or until no more are coming.
    pub(super) async fn until_drained(self, sale: &Sale, tally: &SaleTally) -> Issuing {
        let expected = i64::try_from(tally.admitted_users()).unwrap_or(i64::MAX).min(sale.quantity);
        let last_admission = tally.began.map_or_else(Instant::now, |began| began + tally.last_admission());
        let (mut most, mut grew) = (0, Instant::now());
        let drained_after = loop {
            let complete = self.looked(|looks| looks.iter().find(|look| look.issued >= expected).copied());
            if let Some(look) = complete {
                break Some(look.at.saturating_duration_since(last_admission));
            }
            let issued = self.looked(|looks| looks.last().map_or(0, |look| look.issued));
            if issued > most {
                (most, grew) = (issued, Instant::now());
            }
            if grew.elapsed() >= SETTLED_AFTER {
                break None;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        };
        self.looking.abort();
        Issuing { looks: self.looked(Clone::clone), drained_after }
    }

    fn looked<T>(&self, look: impl FnOnce(&Vec<Look>) -> T) -> T {
        look(&self.looks.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn look_on(shop: Shop, coupon: CouponId, looks: Arc<Mutex<Vec<Look>>>) {
    let mut tick = tokio::time::interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        // A service that doesn't answer, as when a test has killed it, is asked again.
        let Ok(Coupon { issued, .. }) = shop.coupon(&coupon).await else { continue };
        let mut looks = looks.lock().unwrap_or_else(PoisonError::into_inner);
        if looks.len() >= MAX_LOOKS {
            looks.pop();
        }
        looks.push(Look { at: Instant::now(), issued });
    }
}

impl Issuing {
    /// How many were issued how long after the sale began.
    pub(super) fn issued_since(&self, began: Instant) -> Vec<Seen> {
        let seen = |look: &Look| Seen { seconds: (look.at - began).as_secs_f64(), issued: look.issued };
        self.looks.iter().filter(|look| look.at >= began).map(seen).collect()
    }
}
