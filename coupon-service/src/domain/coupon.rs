//! What a coupon is: how many there are, what each takes off, and when it can be claimed and used.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use common_events::{CouponId, EventId, IssuedCouponId, UserId, events::Discount};
use serde::{Deserialize, Serialize};

/// How a coupon is given out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// To the first so many, all alike.
    Set,
    /// To the first so many, each with his rank, and a reward that may depend on it.
    Ranked,
}

impl Mode {
    /// As it is written in answers and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Ranked => "ranked",
        }
    }
}

/// A text that names no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no mode of a coupon")]
pub struct UnknownMode(String);

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        [Self::Set, Self::Ranked]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// What some ranks get.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reward {
    /// The first of these ranks, 1-based.
    pub from_rank: i64,
    /// The last of them.
    pub to_rank: i64,
    /// What they take off.
    pub discount: Discount,
}

/// A coupon as it was put up for claiming. Only `epoch` and `issued` change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Coupon {
    pub coupon_id: CouponId,
    /// What customers call it.
    pub name: String,
    pub mode: Mode,
    /// How many there are: at least one.
    pub quantity: i64,
    /// What it takes off for ranks without a reward of their own, and in set mode.
    pub discount: Discount,
    /// By rank, without overlaps; empty in set mode.
    pub rewards: Vec<Reward>,
    /// From when on it can be claimed; from the beginning when there is none.
    pub opens_at: Option<DateTime<Utc>>,
    /// From when on it can't be claimed any more.
    pub closes_at: Option<DateTime<Utc>>,
    /// An order that is placed later can't use it.
    pub valid_until: Option<DateTime<Utc>>,
    /// Of the gate: 1, and one more after each rebuild.
    pub epoch: i64,
    /// How many were issued.
    pub issued: i64,
    pub created_at: DateTime<Utc>,
}

impl Coupon {
    /// Whether who was admitted then was admitted in time.
    pub fn is_open_at(&self, time: DateTime<Utc>) -> bool {
        self.opens_at.is_none_or(|opens| opens <= time) && self.closes_at.is_none_or(|closes| time < closes)
    }

    /// Whether there is such a rank.
    pub fn has_rank(&self, rank: i64) -> bool {
        (1..=self.quantity).contains(&rank)
    }

    /// What the coupon of this rank takes off; without a rank, what everybody's does.
    pub fn discount_of(&self, rank: Option<i64>) -> &Discount {
        let reward = rank
            .and_then(|rank| self.rewards.iter().find(|reward| (reward.from_rank..=reward.to_rank).contains(&rank)));
        reward.map_or(&self.discount, |reward| &reward.discount)
    }
}

/// A coupon in somebody's hands.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct IssuedCoupon {
    pub issued_coupon_id: IssuedCouponId,
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// 1-based; ranked mode only.
    pub rank: Option<i64>,
    /// The request that it was issued for.
    pub request_id: EventId,
    pub discount: Discount,
    pub valid_until: Option<DateTime<Utc>>,
    pub issued_at: DateTime<Utc>,
}
