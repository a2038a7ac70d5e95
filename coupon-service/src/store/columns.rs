//! The house's types as columns. A text that isn't one of them is the database's error,
//! as a column of the wrong type would be.

use std::{error::Error, str::FromStr};

use tokio_postgres::types::{FromSql, Type};

/// A text that is read as a `T`.
pub(super) struct Word<T>(pub(super) T);

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
