//! The token of an admission: who was admitted when, by which request.

use chrono::{DateTime, Utc};
use common_events::{CouponId, Event, EventId, TraceParent, UserId, events::CouponIssueRequested};
use uuid::Uuid;

/// One admission. It says everything that its request says, so that the request can be sent again as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Token {
    pub request_id: EventId,
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// 1-based; ranked mode only.
    pub rank: Option<i64>,
    pub epoch: i64,
    /// By Redis's clock, to the microsecond.
    pub admitted_at: DateTime<Utc>,
    /// The span that publishes the request.
    pub trace: TraceParent,
}

impl Token {
    /// The request, with the same id and time whenever it is asked for.
    pub fn request(&self) -> Event<CouponIssueRequested> {
        Event {
            id: self.request_id,
            time: self.admitted_at,
            subject: self.coupon_id.as_str().to_owned(),
            trace: self.trace,
            data: CouponIssueRequested {
                coupon_id: self.coupon_id.clone(),
                user_id: self.user_id.clone(),
                rank: self.rank,
                epoch: self.epoch,
                admitted_at: self.admitted_at,
            },
        }
    }

    /// As `admit.lua` writes it: request id, rank or nothing, epoch, microseconds, traceparent.
    pub(super) fn parse(coupon_id: &CouponId, user_id: &UserId, text: &str) -> Option<Self> {
        let mut parts = text.split('|');
        let mut next = || parts.next();
        Some(Self {
            request_id: EventId::new(Uuid::parse_str(next()?).ok()?),
            coupon_id: coupon_id.clone(),
            user_id: user_id.clone(),
            rank: match next()? {
                "" => None,
                rank => Some(rank.parse().ok()?),
            },
            epoch: next()?.parse().ok()?,
            admitted_at: DateTime::from_timestamp_micros(next()?.parse().ok()?)?,
            trace: next()?.parse().ok()?,
        })
    }
}
