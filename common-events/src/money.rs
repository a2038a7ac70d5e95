//! Money and counts that can't be negative or too large, checked where they come in.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// An amount that is not one: negative, or above [`Won::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an amount is a whole number of won from 0 to {}", Won::MAX.0)]
pub struct InvalidWon;

/// Integer won, 0 … 2^53 − 1 (what every JSON reader can hold exactly).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(!try_from, !into)]
pub struct Won(#[schemars(range(min = 0, max = 9_007_199_254_740_991_i64))] i64);

impl Won {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// The largest amount.
    pub const MAX: Self = Self((1 << 53) - 1);

    /// The bare number, for the database.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// `None` when the sum can't be held.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Self::try_from(self.0.checked_add(other.0)?).ok()
    }

    /// `None` when there is not that much.
    #[must_use]
    pub fn checked_sub(self, other: Self) -> Option<Self> {
        Self::try_from(self.0.checked_sub(other.0)?).ok()
    }

    /// What is left, at least nothing.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self((self.0 - other.0).max(0))
    }

    /// The price of so many. `None` when it can't be held.
    #[must_use]
    pub fn checked_times(self, quantity: Quantity) -> Option<Self> {
        Self::try_from(self.0.checked_mul(i64::from(quantity.get()))?).ok()
    }
}

impl TryFrom<i64> for Won {
    type Error = InvalidWon;

    fn try_from(amount: i64) -> Result<Self, InvalidWon> {
        if (0..=Self::MAX.0).contains(&amount) { Ok(Self(amount)) } else { Err(InvalidWon) }
    }
}

impl From<Won> for i64 {
    fn from(won: Won) -> Self {
        won.0
    }
}

impl fmt::Display for Won {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} won", self.0)
    }
}

/// A quantity that is not one: not 1 … 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a quantity is a whole number from 1 to {}", Quantity::MAX)]
pub struct InvalidQuantity;

/// How many pieces of one product an order line asks for: 1 … 10,000 (docs/contract.md §3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(!try_from, !into)]
pub struct Quantity(#[schemars(range(min = 1, max = 10_000))] i32);

impl Quantity {
    /// The largest quantity of one line.
    pub const MAX: i32 = 10_000;

    /// The bare number, for the database.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl TryFrom<i64> for Quantity {
    type Error = InvalidQuantity;

    fn try_from(pieces: i64) -> Result<Self, InvalidQuantity> {
        i32::try_from(pieces).ok().filter(|pieces| (1..=Self::MAX).contains(pieces)).map(Self).ok_or(InvalidQuantity)
    }
}

impl From<Quantity> for i64 {
    fn from(quantity: Quantity) -> Self {
        Self::from(quantity.0)
    }
}

/// A share that is not one: not 1 … 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a percentage is a whole number from 1 to 100")]
pub struct InvalidPercent;

/// A share of an amount: 1 … 100 percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "i64", into = "i64")]
#[schemars(!try_from, !into)]
pub struct Percent(#[schemars(range(min = 1, max = 100))] u8);

impl Percent {
    /// So many percent of an amount, rounded down to the won.
    #[must_use]
    pub const fn of(self, amount: Won) -> Won {
        // By hundreds and the rest, so that no amount is too large.
        let (hundreds, rest) = (amount.0 / 100, amount.0 % 100);
        Won(hundreds * self.0 as i64 + rest * self.0 as i64 / 100)
    }
}

impl TryFrom<i64> for Percent {
    type Error = InvalidPercent;

    fn try_from(percent: i64) -> Result<Self, InvalidPercent> {
        u8::try_from(percent).ok().filter(|percent| (1..=100).contains(percent)).map(Self).ok_or(InvalidPercent)
    }
}

impl From<Percent> for i64 {
    fn from(percent: Percent) -> Self {
        Self::from(percent.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_1_to_100_and_rounds_down() {
        let percent = |percent: i64| Percent::try_from(percent);
        let won = |won: i64| Won::try_from(won).expect("an amount");
        assert!([0, 101, 256 + 10, -1].into_iter().all(|wrong| percent(wrong).is_err()));
        assert_eq!(percent(10).map(|ten| ten.of(won(1_999))), Ok(won(199)));
        assert_eq!(percent(33).map(|third| third.of(won(299))), Ok(won(98)));
        assert_eq!(percent(100).map(|all| all.of(Won::MAX)), Ok(Won::MAX));
        assert_eq!(percent(1).map(|one| one.of(won(99))), Ok(Won::ZERO));
    }

    #[test]
    fn won_refuses_what_it_cannot_hold() {
        assert_eq!(Won::try_from(-1), Err(InvalidWon));
        assert_eq!(Won::try_from(1_i64 << 53), Err(InvalidWon));
        assert_eq!(Won::MAX.checked_add(Won::MAX), None);
        assert_eq!(Won::ZERO.checked_sub(Won::MAX), None);
        assert!(serde_json::from_str::<Won>("1.5").is_err());
        assert!(serde_json::from_str::<Won>("99999999999999999999").is_err());
    }

    #[test]
    fn quantity_is_1_to_10_000() {
        assert!(Quantity::try_from(0).is_err());
        assert!(Quantity::try_from(10_001).is_err());
        assert_eq!(Quantity::try_from(10_000).map(Quantity::get), Ok(10_000));
    }
}
