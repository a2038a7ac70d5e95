//! How an admission ended: what the gate is told, so that it can close the books on it.

use common_events::{ClaimRefusal, CouponId, EventId, UserId};

/// An admission that the issuer has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// The id of the `coupon-issue-requested`: the token of the admission.
    pub request_id: EventId,
    /// Of which coupon.
    pub coupon_id: CouponId,
    /// Who was admitted.
    pub user_id: UserId,
    /// Under which rank; ranked mode only.
    pub rank: Option<i64>,
    /// In which epoch of the gate.
    pub epoch: i64,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of an admission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The user holds the coupon by it. Its slot is taken for good.
    Issued,
    /// The user holds the coupon by another admission, under this rank. He keeps his place; the rank
    /// of this admission is free, unless it is the same.
    AlreadyHeld {
        /// Ranked mode only.
        rank: Option<i64>,
    },
    /// The user gets none: his slot is free.
    Rejected(ClaimRefusal),
    /// The user gets none, as somebody else holds his rank, or there is no such rank: he may ask again, but
    /// the rank isn't free.
    RankTaken,
}
