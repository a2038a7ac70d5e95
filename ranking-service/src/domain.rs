//! Windows of the calendar, and what was sold in them.
//!
//! Left out on purpose: what "now" is, where sums are stored, and who asks.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, Utc};
use common_events::{ProductId, Quantity, Won, events::OrderLine, time::is_writable};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

const HOUR_S: i64 = 60 * 60;
const DAY_S: i64 = 24 * HOUR_S;
const WEEK_S: i64 = 7 * DAY_S;
/// A Monday: 1969-12-29, three days before the epoch.
const MONDAY_S: i64 = -3 * DAY_S;
/// Nothing was sold before the epoch.
const FIRST_YEAR: i32 = 1970;

/// A stretch of the calendar, in UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Window {
    /// From a full hour to the next.
    Hour,
    /// From midnight to midnight.
    #[default]
    Day,
    /// From Monday to Monday: the ISO week.
    Week,
}

/// From when (included) to when (not included).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The first moment of it.
    pub from: DateTime<Utc>,
    /// The first moment of the next one.
    pub to: DateTime<Utc>,
}

impl Window {
    /// Every window there is.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// As it is written in queries, answers and tables.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Hour => "hour",
            Self::Day => "day",
            Self::Week => "week",
        }
    }

    /// The window of this kind that a moment lies in.
    ///
    /// # Panics
    /// Never: a [`Moment`] is far from the ends of time.
    pub fn span(self, Moment(at): Moment) -> Span {
        let (origin_s, length_s) = match self {
            Self::Hour => (0, HOUR_S),
            Self::Day => (0, DAY_S),
            Self::Week => (MONDAY_S, WEEK_S),
        };
        let from_s = at.timestamp() - (at.timestamp() - origin_s).rem_euclid(length_s);
        let time = |seconds| DateTime::from_timestamp(seconds, 0).expect("a moment has a time near it");
        Span { from: time(from_s), to: time(from_s + length_s) }
    }
}

/// A time that can be ranked: from 1970 on, and before the week in which the year 9999 ends. Each window of it ends at
/// a time that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, ToSchema)]
#[serde(try_from = "DateTime<Utc>")]
pub struct Moment(DateTime<Utc>);

/// A time that can't be ranked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a time from 1970-01-01T00:00:00Z on and before 9999-12-27T00:00:00Z is expected")]
pub struct OutOfTime;

impl TryFrom<DateTime<Utc>> for Moment {
    type Error = OutOfTime;

    fn try_from(at: DateTime<Utc>) -> Result<Self, OutOfTime> {
        let ends = |window: &Window| is_writable(&window.span(Self(at)).to);
        let can_be_ranked = at.year() >= FIRST_YEAR && is_writable(&at) && Window::ALL.iter().all(ends);
        if can_be_ranked { Ok(Self(at)) } else { Err(OutOfTime) }
    }
}

/// What a ranking is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum By {
    /// Pieces.
    #[default]
    Quantity,
    /// Won, before any discount.
    Amount,
}

/// What was sold of one product in one window.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The kind of window.
    pub window: Window,
    /// When it begins.
    pub from: DateTime<Utc>,
    /// The product.
    pub product_id: ProductId,
}

/// Pieces and money. Below zero where more was refunded than is known to be paid, yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sold {
    /// Pieces.
    pub quantity: i64,
    /// Won, before any discount.
    pub amount: i64,
}

/// More than can be counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more than can be counted was sold")]
pub struct TooMuch;

impl Sold {
    fn of(quantity: Quantity, amount: Won) -> Self {
        Self { quantity: quantity.get().into(), amount: amount.get() }
    }

    const fn back(self) -> Self {
        Self { quantity: -self.quantity, amount: -self.amount }
    }

    fn plus(self, more: Self) -> Option<Self> {
        Some(Self {
            quantity: self.quantity.checked_add(more.quantity)?,
            amount: self.amount.checked_add(more.amount)?,
        })
    }
}

/// What a number of payments and refunds come to. Counting commutes: any order gives the same sums.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Sums(BTreeMap<Key, Sold>);

impl Sums {
    /// Counts what was paid for, in the windows of when it was paid.
    pub fn count(&mut self, lines: &[OrderLine], paid_at: Moment) -> Result<(), TooMuch> {
        lines.iter().try_for_each(|line| self.add(line, paid_at, Sold::of(line.quantity, line.amount)))
    }

    /// Counts back what was refunded, in the windows of when it had been paid.
    pub fn count_back(&mut self, lines: &[OrderLine], paid_at: Moment) -> Result<(), TooMuch> {
        lines.iter().try_for_each(|line| self.add(line, paid_at, Sold::of(line.quantity, line.amount).back()))
    }

    /// The sums, sorted by key: whoever locks their rows does it in this order.
    pub fn iter(&self) -> impl Iterator<Item = (&Key, &Sold)> {
        self.0.iter()
    }

    fn add(&mut self, line: &OrderLine, paid_at: Moment, sold: Sold) -> Result<(), TooMuch> {
        for window in Window::ALL {
            let key = Key { window, from: window.span(paid_at).from, product_id: line.product_id.clone() };
            let sum = self.0.entry(key).or_default();
            *sum = sum.plus(sold).ok_or(TooMuch)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::{NaiveTime, SubsecRound, TimeDelta, Timelike};
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn moment(text: &str) -> Moment {
        Moment(text.parse().expect("a time"))
    }

    #[rstest]
    #[case(Window::Hour, "2026-11-21T06:00:00Z", "2026-11-21T06:00:00Z", "2026-11-21T07:00:00Z")]
    #[case(Window::Hour, "2026-11-21T06:59:59.999999Z", "2026-11-21T06:00:00Z", "2026-11-21T07:00:00Z")]
    #[case(Window::Hour, "2026-11-21T23:59:59Z", "2026-11-21T23:00:00Z", "2026-11-22T00:00:00Z")]
    #[case(Window::Day, "2026-12-31T23:59:59Z", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z")]
    #[case(Window::Day, "2026-11-22T01:00:00+09:00", "2026-11-21T00:00:00Z", "2026-11-22T00:00:00Z")]
    #[case(Window::Week, "2026-11-21T06:00:00Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z")]
    #[case(Window::Week, "2026-11-22T23:59:59Z", "2026-11-16T00:00:00Z", "2026-11-23T00:00:00Z")]
    #[case(Window::Week, "2026-11-23T00:00:00Z", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z")]
    #[case(Window::Week, "2027-01-01T00:00:00Z", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z")]
    #[case(Window::Week, "1970-01-01T00:00:00Z", "1969-12-29T00:00:00Z", "1970-01-05T00:00:00Z")]
    fn a_window_is_one_of_the_calendar(#[case] window: Window, #[case] at: &str, #[case] from: &str, #[case] to: &str) {
        let time = |text: &str| text.parse().expect("a time");
        assert_eq!(window.span(moment(at)), Span { from: time(from), to: time(to) });
    }

    #[test]
    fn each_window_of_a_moment_ends_at_a_time_that_can_be_written() {
        for at in ["1970-01-01T00:00:00Z", "9999-12-26T23:59:59.999999999Z"] {
            let moment = Moment::try_from(at.parse::<DateTime<Utc>>().expect("a time")).expect("a moment");
            for window in Window::ALL {
                assert!(
                    is_writable(&window.span(moment).from) && is_writable(&window.span(moment).to),
                    "{at} {window:?}"
                );
            }
        }
    }

    #[rstest]
    #[case("1969-12-31T23:59:59.999999999Z")]
    #[case("9999-12-27T00:00:00Z")]
    #[case("9999-12-31T00:00:00Z")]
    #[case("+10000-01-01T00:00:00Z")]
    fn a_time_before_1970_or_in_a_window_without_an_end_is_not_ranked(#[case] at: &str) {
        assert_eq!(Moment::try_from(at.parse::<DateTime<Utc>>().expect("a time")), Err(OutOfTime));
    }

    #[test]
    fn what_lies_at_the_ends_of_time_is_not_ranked() {
        for at in [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC] {
            assert_eq!(Moment::try_from(at), Err(OutOfTime));
        }
    }

    #[test]
    fn more_than_can_be_counted_is_said_and_not_wrapped() {
        let line = OrderLine {
            product_id: "tea".parse().expect("a product id"),
            name: "Tea".to_owned(),
            quantity: Quantity::try_from(1).expect("a quantity"),
            unit_price: Won::MAX,
            amount: Won::MAX,
        };
        let paid_at = moment("2026-11-21T06:00:00Z");
        let mut sums = Sums::default();
        assert_eq!((0..1_024).try_for_each(|_| sums.count(std::slice::from_ref(&line), paid_at)), Ok(()));
        assert_eq!(sums.count(&[line], paid_at), Err(TooMuch));
    }

    proptest! {
        #[test]
        fn every_moment_lies_in_its_window(seconds in 0_i64..253_402_300_800, nanos in 0_u32..1_000_000_000) {
            let at = DateTime::from_timestamp(seconds, nanos).expect("a time");
            for window in Window::ALL {
                let Span { from, to } = window.span(Moment(at));
                prop_assert!(from <= at && at < to);
                let length = match window {
                    Window::Hour => TimeDelta::hours(1),
                    Window::Day => TimeDelta::days(1),
                    Window::Week => TimeDelta::weeks(1),
                };
                prop_assert_eq!(to - from, length);
                prop_assert_eq!((from.minute(), from.trunc_subsecs(0)), (0, from));
                prop_assert!(window == Window::Hour || from.time() == NaiveTime::MIN);
                prop_assert!(window != Window::Week || from.weekday() == chrono::Weekday::Mon);
            }
        }
    }
}
