//! The times that the suite tells and is told (docs/contract.md §3).

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, Utc};

/// The years of RFC 3339. chrono parses more and would write them as no RFC 3339; PostgreSQL holds each of these.
pub const YEARS: RangeInclusive<i32> = 0..=9_999;

/// Whether RFC 3339 can write it.
pub fn is_writable(time: &DateTime<Utc>) -> bool {
    YEARS.contains(&time.year())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_of_the_years_0000_to_9999_can_be_written() {
        let can_be_written = |text: &str| is_writable(&text.parse().expect("chrono reads it"));
        assert!(can_be_written("0000-01-01T00:00:00Z") && can_be_written("9999-12-31T23:59:59.999999999Z"));
        assert!(!can_be_written("-0001-12-31T23:59:59.999999999Z") && !can_be_written("+10000-01-01T00:00:00Z"));
    }
}
