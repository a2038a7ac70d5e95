//! The house's types as columns: `row.try_get::<_, Word<UserId>>(…)?.0`. A text or a number that isn't one of
//! them is the database's error, as a column of the wrong type would be.

use std::{error::Error, str::FromStr};

use common_events::Won;
use tokio_postgres::types::{FromSql, Type};

/// A text that is read as a `T`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<T>(
    /// As it was read.
    pub T,
);

impl<'a, T> FromSql<'a> for Word<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(<&str>::from_sql(kind, raw)?.parse()?))
    }

    fn accepts(kind: &Type) -> bool {
        <&str as FromSql>::accepts(kind)
    }
}

/// A bigint that is an amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount(
    /// As it was read.
    pub Won,
);

impl<'a> FromSql<'a> for Amount {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn Error + Send + Sync>> {
        Ok(Self(i64::from_sql(kind, raw)?.try_into()?))
    }

    fn accepts(kind: &Type) -> bool {
        <i64 as FromSql>::accepts(kind)
    }
}
