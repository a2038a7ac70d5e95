//! What a variable can hold.

use std::{collections::BTreeSet, fmt, net::SocketAddr, time::Duration};

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::Setting;

impl Setting for String {
    const MAY_HOLD: &'static str = "a text";

    fn parse(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

impl Setting for bool {
    const MAY_HOLD: &'static str = "true or false";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

macro_rules! whole_number {
    ($($kind:ty),*) => {$(
        impl Setting for $kind {
            const MAY_HOLD: &'static str = "a whole number";

            fn parse(text: &str) -> Option<Self> {
                text.parse().ok()
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize);

impl Setting for SocketAddr {
    const MAY_HOLD: &'static str = "an address such as 127.0.0.1:8081";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Setting for Duration {
    const MAY_HOLD: &'static str = "a duration such as 250ms, 30s, 1m or 2h";

    fn parse(text: &str) -> Option<Self> {
        let unit_at = text.find(|c: char| !c.is_ascii_digit())?;
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().ok()?;
        match unit {
            "ms" => Some(Self::from_millis(number)),
            "s" => Some(Self::from_secs(number)),
            "m" => number.checked_mul(60).map(Self::from_secs),
            "h" => number.checked_mul(3_600).map(Self::from_secs),
            _ => None,
        }
    }
}

/// A duration as a variable holds it, in the largest unit that is exact.
pub(super) fn in_words(length: Duration) -> String {
    let ms = length.as_millis();
    let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let exact = units.into_iter().find(|(in_ms, _)| ms >= *in_ms && ms.is_multiple_of(*in_ms));
    exact.map_or_else(|| format!("{ms}ms"), |(in_ms, unit)| format!("{}{unit}", ms / in_ms))
}

/// Durations one after another: `30s,1m,2m`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durations(pub Vec<Duration>);

impl Setting for Durations {
    const MAY_HOLD: &'static str = "durations separated by commas, such as 30s,1m,2m";

    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|one| Duration::parse(one.trim())).collect::<Option<_>>().map(Self)
    }
}

/// Names of things: `one,another`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub BTreeSet<String>);

impl Setting for Names {
    const MAY_HOLD: &'static str = "names separated by commas";

    fn parse(text: &str) -> Option<Self> {
        Some(Self(text.split(',').map(|name| name.trim().to_owned()).collect()))
    }
}

/// A share of the whole: 0 (none) to 1 (all).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// All of it.
    pub const ALL: Self = Self(1.0);

    /// 0 to 1.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Setting for Ratio {
    const MAY_HOLD: &'static str = "a number from 0 to 1";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).map(Self)
    }
}

impl Setting for Url {
    const MAY_HOLD: &'static str = "an http or https URL";

    fn parse(text: &str) -> Option<Self> {
        Self::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    }
}

impl Setting for SecretString {
    const MAY_HOLD: &'static str = "a secret text";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        Some(text.into())
    }
}

/// Where a PostgreSQL database is, and how to get in. Its `Debug` shows no password.
#[derive(Clone)]
pub struct DatabaseUrl(SecretString);

impl DatabaseUrl {
    /// What `tokio-postgres` makes of it.
    ///
    /// # Panics
    /// Never: it was parsed when it was read.
    pub fn config(&self) -> tokio_postgres::Config {
        self.0.expose_secret().parse().expect("it was parsed when it was read")
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&super::shown(self.0.expose_secret()))
    }
}

impl Setting for DatabaseUrl {
    const MAY_HOLD: &'static str = "a PostgreSQL URL such as postgres://user:password@127.0.0.1:5432/name";

    fn parse(text: &str) -> Option<Self> {
        let config: tokio_postgres::Config = text.parse().ok()?;
        (!config.get_hosts().is_empty() && config.get_dbname().is_some()).then(|| Self(text.into()))
    }
}
