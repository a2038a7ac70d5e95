//! What an admin proposes, and why it can't be a coupon.

use chrono::{DateTime, SubsecRound, Utc};
use common_events::{
    CouponId, Percent, Won,
    events::Discount,
    money::InvalidPercent,
    time::{YEARS, is_writable},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::{Coupon, Mode, Reward};

/// The most that a coupon takes off, in won: this service's own bound, so that a slip of the keyboard
/// doesn't give the shop away.
pub const MAX_DISCOUNT: i64 = 1_000_000_000_000;
/// The most rewards of one coupon.
pub const MAX_REWARDS: usize = 100;
/// The epoch in which a gate opens for the first time.
const FIRST_EPOCH: i64 = 1;

/// What a field of a proposal can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// Not a [`CouponName`].
    #[error("a name has 1 to {} characters, not only white space, and no control characters", CouponName::MAX_CHARS)]
    Name,
    /// Not a [`Quantity`].
    #[error("a quantity is a whole number from 1 to {}", Quantity::MAX)]
    Quantity,
}

/// What customers call a coupon: 1 to 200 characters, not only white space, without control characters.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    value_type = String,
    min_length = 1,
    max_length = 200,
    pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\s\u0000-\u001f\u007f-\u009f][^\u0000-\u001f\u007f-\u009f]*$"
)]
pub struct CouponName(String);

impl CouponName {
    /// The longest name.
    pub const MAX_CHARS: usize = 200;
}

impl TryFrom<String> for CouponName {
    type Error = Invalid;

    fn try_from(name: String) -> Result<Self, Invalid> {
        let length = name.chars().count();
        let valid = length <= Self::MAX_CHARS && !name.trim().is_empty() && !name.contains(char::is_control);
        if valid { Ok(Self(name)) } else { Err(Invalid::Name) }
    }
}

/// How many coupons there are: 1 to 1,000,000. The gate holds every admitted user in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "i64")]
#[schema(as = CouponQuantity, value_type = i64, minimum = 1, maximum = 1_000_000)]
pub struct Quantity(i64);

impl Quantity {
    /// The most.
    pub const MAX: i64 = 1_000_000;
}

impl TryFrom<i64> for Quantity {
    type Error = Invalid;

    fn try_from(quantity: i64) -> Result<Self, Invalid> {
        if (1..=Self::MAX).contains(&quantity) { Ok(Self(quantity)) } else { Err(Invalid::Quantity) }
    }
}

/// What a proposed discount takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DiscountKind {
    /// So many won.
    Amount,
    /// So many percent.
    Percent,
}

/// A discount as it was proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProposedDiscount {
    /// What it takes.
    pub kind: DiscountKind,
    /// How many of them.
    pub value: i64,
    /// At most so many won; of percent only.
    pub max: Option<i64>,
}

/// Why a discount is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDiscount {
    /// Its value, as an amount.
    #[error("an amount is a whole number of won from 1 to {MAX_DISCOUNT}")]
    Amount,
    /// Its value, as a percentage.
    #[error(transparent)]
    Percent(#[from] InvalidPercent),
    /// Its maximum.
    #[error("a maximum is a whole number of won from 1 to {MAX_DISCOUNT}")]
    Max,
    /// A maximum where there can be none.
    #[error("only a percentage has a maximum")]
    MaxOfAmount,
}

impl TryFrom<ProposedDiscount> for Discount {
    type Error = InvalidDiscount;

    fn try_from(proposed: ProposedDiscount) -> Result<Self, InvalidDiscount> {
        let ProposedDiscount { kind, value, max } = proposed;
        match kind {
            DiscountKind::Amount if max.is_some() => Err(InvalidDiscount::MaxOfAmount),
            DiscountKind::Amount => Ok(Self::Amount { value: amount(value).ok_or(InvalidDiscount::Amount)? }),
            DiscountKind::Percent => {
                let value = Percent::try_from(value)?;
                let max = max.map(|max| amount(max).ok_or(InvalidDiscount::Max)).transpose()?;
                Ok(Self::Percent { value, max })
            }
        }
    }
}

fn amount(won: i64) -> Option<Won> {
    Won::try_from(won).ok().filter(|_| (1..=MAX_DISCOUNT).contains(&won))
}

/// What some ranks are to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct ProposedReward {
    pub from_rank: i64,
    pub to_rank: i64,
    pub discount: ProposedDiscount,
}

/// A coupon as an admin wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields are those of a coupon")]
pub struct Proposal {
    pub coupon_id: CouponId,
    pub name: CouponName,
    pub mode: Mode,
    pub quantity: Quantity,
    pub discount: ProposedDiscount,
    pub rewards: Vec<ProposedReward>,
    pub opens_at: Option<DateTime<Utc>>,
    pub closes_at: Option<DateTime<Utc>>,
    pub valid_until: Option<DateTime<Utc>>,
}

/// Why a proposal is no coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// What it takes off.
    #[error("{0}")]
    Discount(InvalidDiscount),
    /// What a reward takes off.
    #[error("{why}")]
    RewardDiscount {
        /// Which of the rewards, from 0 on.
        reward: usize,
        /// What is wrong with it.
        why: InvalidDiscount,
    },
    /// Rewards by rank, where there are no ranks.
    #[error("only a ranked coupon has rewards")]
    RewardsWithoutRanks,
    /// Too many rewards.
    #[error("a coupon has at most {MAX_REWARDS} rewards")]
    TooManyRewards,
    /// The first rank isn't one.
    #[error("ranks are from 1 to the quantity, {quantity}")]
    FromRank {
        /// Which of the rewards, from 0 on.
        reward: usize,
        /// The last rank there is.
        quantity: i64,
    },
    /// The last rank isn't one, or comes before the first.
    #[error("the last rank is from the first, {from_rank}, to the quantity, {quantity}")]
    ToRank {
        /// Which of the rewards, from 0 on.
        reward: usize,
        /// The first rank of it.
        from_rank: i64,
        /// The last rank there is.
        quantity: i64,
    },
    /// A rank with two rewards.
    #[error("rank {rank} has a reward already")]
    RankTwice {
        /// Which of the rewards, from 0 on.
        reward: usize,
        /// The rank.
        rank: i64,
    },
    /// No time that can be written.
    #[error("it opens in the years {:04} to {}", YEARS.start(), YEARS.end())]
    OpensAt,
    /// It would never open.
    #[error("it closes after it opens, later than now, and by the year {}", YEARS.end())]
    ClosesAt,
    /// Nobody could use it.
    #[error("it is valid until after it opens, until later than now, and until the year {} at most", YEARS.end())]
    ValidUntil,
}

impl Proposal {
    /// The coupon, or why it can't be one. `now`: what ends before it makes no sense any more.
    pub fn accept(self, now: DateTime<Utc>) -> Result<Coupon, Refusal> {
        let discount = self.discount.try_into().map_err(Refusal::Discount)?;
        let rewards = self.accept_rewards()?;
        if self.opens_at.is_some_and(|opens| !is_writable(&opens)) {
            return Err(Refusal::OpensAt);
        }
        let begins = self.opens_at.map_or(now, |opens| opens.max(now));
        if self.closes_at.is_some_and(|closes| closes <= begins || !is_writable(&closes)) {
            return Err(Refusal::ClosesAt);
        }
        if self.valid_until.is_some_and(|until| until <= begins || !is_writable(&until)) {
            return Err(Refusal::ValidUntil);
        }
        Ok(Coupon {
            coupon_id: self.coupon_id,
            name: self.name.0,
            mode: self.mode,
            quantity: self.quantity.0,
            discount,
            rewards,
            opens_at: self.opens_at.map(storable),
            closes_at: self.closes_at.map(storable),
            valid_until: self.valid_until.map(storable),
            epoch: FIRST_EPOCH,
            issued: 0,
            created_at: now,
        })
    }

    fn accept_rewards(&self) -> Result<Vec<Reward>, Refusal> {
        if self.rewards.is_empty() {
            return Ok(Vec::new());
        }
        if self.mode == Mode::Set {
            return Err(Refusal::RewardsWithoutRanks);
        }
        if self.rewards.len() > MAX_REWARDS {
            return Err(Refusal::TooManyRewards);
        }
        let mut accepted: Vec<Reward> = Vec::with_capacity(self.rewards.len());
        for (reward, proposed) in self.rewards.iter().enumerate() {
            let (from_rank, to_rank, quantity) = (proposed.from_rank, proposed.to_rank, self.quantity.0);
            if !(1..=quantity).contains(&from_rank) {
                return Err(Refusal::FromRank { reward, quantity });
            }
            if !(from_rank..=quantity).contains(&to_rank) {
                return Err(Refusal::ToRank { reward, from_rank, quantity });
            }
            let other = accepted.iter().find(|other| other.from_rank <= to_rank && from_rank <= other.to_rank);
            if let Some(other) = other {
                return Err(Refusal::RankTwice { reward, rank: from_rank.max(other.from_rank) });
            }
            let discount = proposed.discount.try_into().map_err(|why| Refusal::RewardDiscount { reward, why })?;
            accepted.push(Reward { from_rank, to_rank, discount });
        }
        accepted.sort_by_key(|reward| reward.from_rank);
        Ok(accepted)
    }
}

/// To the microsecond: what PostgreSQL holds, so that a time reads the same ever after.
fn storable(time: DateTime<Utc>) -> DateTime<Utc> {
    time.trunc_subsecs(6)
}
