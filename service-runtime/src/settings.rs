//! Settings come from the environment only, are read once at the start, and a wrong one stops it
//! with one line: which variable, what it held, what it may hold (docs/contract.md §6).
//!
//! [`CommonSettings`] is what every process has; a service reads its own beside it through [`Env`].
//! Left out on purpose: files, reloading, and defaults that depend on where the process runs.

mod auth;
mod common;
mod kafka;
mod kinds;

use std::{borrow::Cow, collections::BTreeMap, fmt::Display, ops::RangeInclusive, time::Duration};

pub use auth::{AuthSettings, JwtKey, JwtSettings};
pub use common::{
    CommonSettings, DatabaseSettings, LogFormat, RetrySettings, TraceSettings, TracesExporter, default_port,
};
pub use kafka::KafkaSettings;
pub use kinds::{DatabaseUrl, Durations, Names, Ratio};
pub use secrecy::{ExposeSecret, SecretString};
pub use url::Url;

/// How much of a wrong value the error line shows, in characters.
const SHOWN_CHARS: usize = 120;

/// The environment as it was when the process started. A variable that is set, but empty, counts
/// as not set, as compose files pass on what is missing as an empty text.
#[derive(Debug, Clone, Default)]
pub struct Env(BTreeMap<String, String>);

impl Env {
    /// The process's own environment.
    pub fn process() -> Self {
        let text = |part: std::ffi::OsString| part.to_string_lossy().into_owned();
        Self(std::env::vars_os().map(|(name, value)| (text(name), text(value))).collect())
    }

    /// Exactly these variables; for tests.
    pub fn of<N: Into<String>, V: Into<String>>(variables: impl IntoIterator<Item = (N, V)>) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }

    /// The variable as text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// All variables whose name starts with `prefix`: the rest of the name, and the value.
    pub fn starting_with<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0
            .iter()
            .filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
            .filter(|(_, value)| !value.is_empty())
    }

    /// The variable, which has no default.
    pub fn required<T: Setting>(&self, name: &str) -> Result<T, SettingError> {
        self.optional(name)?.ok_or_else(|| SettingError::missing(name, T::MAY_HOLD))
    }

    /// The variable, or its default.
    pub fn or<T: Setting>(&self, name: &str, default: T) -> Result<T, SettingError> {
        Ok(self.optional(name)?.unwrap_or(default))
    }

    /// The variable, if it is set.
    pub fn optional<T: Setting>(&self, name: &str) -> Result<Option<T>, SettingError> {
        let Some(held) = self.text(name) else { return Ok(None) };
        match T::parse(held) {
            Some(value) => Ok(Some(value)),
            None if T::SECRET => Err(SettingError::wrong(name, "***", T::MAY_HOLD)),
            None => Err(SettingError::wrong(name, held, T::MAY_HOLD)),
        }
    }

    /// The variable within limits, or its default.
    pub fn within<T>(&self, name: &str, default: T, limits: RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: Setting + PartialOrd + Display,
    {
        let value = self.or(name, default)?;
        if limits.contains(&value) {
            return Ok(value);
        }
        let may_hold = format!("{} from {} to {}", T::MAY_HOLD, limits.start(), limits.end());
        Err(SettingError::wrong(name, &value.to_string(), may_hold))
    }

    /// The duration within limits, or its default.
    pub fn between(
        &self,
        name: &str,
        default: Duration,
        limits: RangeInclusive<Duration>,
    ) -> Result<Duration, SettingError> {
        let value = self.or(name, default)?;
        if limits.contains(&value) {
            return Ok(value);
        }
        let (from, to) = (kinds::in_words(*limits.start()), kinds::in_words(*limits.end()));
        let may_hold = format!("{} from {from} to {to}", Duration::MAY_HOLD);
        Err(SettingError::wrong(name, self.text(name).unwrap_or_default(), may_hold))
    }
}

/// Something that a variable can hold.
pub trait Setting: Sized {
    /// What it may hold, as the end of the sentence "it may hold …".
    const MAY_HOLD: &'static str;
    /// Whether the value must never be shown.
    const SECRET: bool = false;

    /// `None` when the text is no such thing.
    fn parse(text: &str) -> Option<Self>;
}

/// A variable that stops the start. Its `Display` is one line and shows no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SettingError {
    /// It has no default.
    #[error("{name} is not set; it may hold {may_hold}")]
    Missing {
        /// The variable.
        name: String,
        /// What is expected.
        may_hold: Cow<'static, str>,
    },
    /// It holds something else than it may.
    #[error("{name} holds {held}; it may hold {may_hold}")]
    Wrong {
        /// The variable.
        name: String,
        /// What it held, quoted, shortened, secrets masked.
        held: String,
        /// What is expected.
        may_hold: Cow<'static, str>,
    },
}

impl SettingError {
    /// A variable that must be set and isn't.
    pub fn missing(name: &str, may_hold: impl Into<Cow<'static, str>>) -> Self {
        Self::Missing { name: name.to_owned(), may_hold: may_hold.into() }
    }

    /// A variable that holds what it may not. Passwords within `held` are masked.
    pub fn wrong(name: &str, held: &str, may_hold: impl Into<Cow<'static, str>>) -> Self {
        Self::Wrong { name: name.to_owned(), held: shown(held), may_hold: may_hold.into() }
    }
}

/// The value on one line, no longer than [`SHOWN_CHARS`], without passwords.
fn shown(held: &str) -> String {
    let masked = mask_keyword_password(&mask_url_password(held));
    let short: String = masked.chars().take(SHOWN_CHARS).collect();
    let dots = if short.len() < masked.len() { "…" } else { "" };
    format!("{short:?}{dots}")
}

/// `scheme://user:secret@host` → `scheme://user:***@host`, also where the rest is no URL.
fn mask_url_password(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let Some((user_info, host)) = rest.rsplit_once('@') else { return text.to_owned() };
    match user_info.split_once(':') {
        Some((user, _)) => format!("{scheme}://{user}:***@{host}"),
        None => text.to_owned(),
    }
}

/// `… password=secret …` → `… password=***`; what follows is dropped, as the end of a quoted
/// password can't be told in a text that is wrong anyway.
fn mask_keyword_password(text: &str) -> String {
    match text.to_ascii_lowercase().find("password=") {
        Some(at) => format!("{}=***", &text[..at + "password".len()]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests;
