//! Small parts that stand in many pages. What they show of others' texts they escape.

mod indent;

use std::fmt::{self, Display, Formatter};

use askama::{
    Template,
    filters::{Html, HtmlSafe, escape},
};
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
pub(super) use indent::indented;
use service_runtime::settings::Url;

/// A moment: how long ago, and exactly where one points at it.
#[derive(Debug, Clone, Copy)]
pub(super) struct When(pub(super) DateTime<Utc>);

impl Display for When {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let exact = self.0.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (ago, is_to_come) = match Utc::now() - self.0 {
            past if past >= TimeDelta::zero() => (past, false),
            future => (-future, true),
        };
        let words = match (ago < TimeDelta::seconds(1), is_to_come) {
            (true, _) => "now".to_owned(),
            (false, false) => format!("{} ago", Span(ago)),
            (false, true) => format!("in {}", Span(ago)),
        };
        write!(f, r#"<time datetime="{exact}" title="{exact}">{words}</time>"#)
    }
}

impl HtmlSafe for When {}

/// The time of day, to the millisecond, and the day when it isn't today.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(pub(super) DateTime<Utc>);

impl Display for Clock {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let exact = self.0.to_rfc3339_opts(SecondsFormat::Micros, true);
        let format = if self.0.date_naive() == Utc::now().date_naive() { "%H:%M:%S%.3f" } else { "%m-%d %H:%M:%S%.3f" };
        write!(f, r#"<time class="exact" datetime="{exact}" title="{exact}">{}</time>"#, self.0.format(format))
    }
}

impl HtmlSafe for Clock {}

/// A length of time, in the two digits that matter.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span(pub(super) TimeDelta);

impl Display for Span {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (ms, s) = (self.0.num_milliseconds(), self.0.num_seconds());
        match s {
            ..1 => write!(f, "{ms} ms"),
            1..10 => write!(f, "{}.{} s", s, (ms % 1_000) / 100),
            10..60 => write!(f, "{s} s"),
            60..3_600 => write!(f, "{} min", s / 60),
            3_600..86_400 => write!(f, "{} h {} min", s / 3_600, s % 3_600 / 60),
            86_400.. => write!(f, "{} days", s / 86_400),
        }
    }
}

impl HtmlSafe for Span {}

/// A count, in groups of three digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count(pub(super) i64);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        let first = (digits.len() - 1) % 3 + 1;
        f.write_str(if self.0 < 0 { "−" } else { "" })?;
        f.write_str(&digits[..first])?;
        for start in (first..digits.len()).step_by(3) {
            write!(f, "\u{202f}{}", &digits[start..start + 3])?;
        }
        Ok(())
    }
}

impl HtmlSafe for Count {}

/// Something per second.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rate(pub(super) f64);

impl Display for Rate {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = self.0;
        if rate < 0.05 {
            f.write_str("0")
        } else if rate < 10.0 {
            write!(f, "{rate:.1}")
        } else {
            write!(f, "{rate:.0}")
        }
    }
}

impl HtmlSafe for Rate {}

// Templates hand over references; these take them.

pub(super) fn when(at: &DateTime<Utc>) -> When {
    When(*at)
}

pub(super) fn clock(at: &DateTime<Utc>) -> Clock {
    Clock(*at)
}

pub(super) fn span(length: &TimeDelta) -> Span {
    Span(*length)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
pub(super) fn count(count: &i64) -> Count {
    Count(*count)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
pub(super) fn rate(rate: &f64) -> Rate {
    Rate(*rate)
}

/// An id, which can be copied.
#[derive(Template)]
#[template(path = "parts/id.html")]
pub(super) struct Id {
    text: String,
    shown: String,
    /// Where it leads.
    path: Option<String>,
}

impl HtmlSafe for Id {}

/// The whole id.
pub(super) fn id(text: &impl ToString) -> Id {
    let text = text.to_string();
    Id { shown: text.clone(), text, path: None }
}

/// How much of an id stands in tables, in characters.
const HEAD: usize = 8;
const TAIL: usize = 6;

/// Its ends: what tells ids apart that were made one after the other is at the end.
pub(super) fn short_id(text: &impl ToString) -> Id {
    let text = text.to_string();
    Id { shown: shorten(&text), text, path: None }
}

/// The same, that leads to its page.
pub(super) fn linked_id(path: String, text: &impl ToString) -> Id {
    Id { path: Some(path), ..short_id(text) }
}

/// The page of a saga. Keys that can't be read may hold anything.
pub(super) fn saga_path(key: &str) -> String {
    let mut url = Url::parse("http://here/").expect("a constant URL");
    if let Ok(mut path) = url.path_segments_mut() {
        path.clear().extend(["sagas", key]);
    }
    url.path().to_owned()
}

/// The ends of a text that is longer than they are.
pub(super) fn shorten(text: &str) -> String {
    let length = text.chars().count();
    if length <= HEAD + TAIL + 3 {
        return text.to_owned();
    }
    let head: String = text.chars().take(HEAD).collect();
    let tail: String = text.chars().skip(length - TAIL).collect();
    format!("{head}…{tail}")
}

/// How a word is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// Over, and nothing to do.
    Quiet,
    /// Worth a look.
    Warn,
    /// Somebody has to do something.
    Bad,
}

impl Tone {
    pub(super) const fn class(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Quiet => "quiet",
            Self::Warn => "warn",
            Self::Bad => "bad",
        }
    }
}

/// A word in its tone.
#[derive(Debug, Clone)]
pub(super) struct Badge {
    tone: Tone,
    word: String,
}

impl Badge {
    pub(super) fn new(tone: Tone, word: impl Into<String>) -> Self {
        Self { tone, word: word.into() }
    }
}

impl Display for Badge {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Ok(word) = escape(&self.word, Html);
        write!(f, r#"<span class="badge {}">{word}</span>"#, self.tone.class())
    }
}

impl HtmlSafe for Badge {}

/// Fields of a query, for a link.
pub(super) fn query<'q>(fields: impl IntoIterator<Item = (&'q str, &'q str)>) -> String {
    let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
    let mut url = Url::parse("http://here/").expect("a constant URL");
    url.query_pairs_mut().extend_pairs(said);
    url.query().filter(|query| !query.is_empty()).map(|query| format!("?{query}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_counts_read_as_people_say_them() {
        let span = |ms| Span(TimeDelta::milliseconds(ms)).to_string();
        assert_eq!(span(7), "7 ms");
        assert_eq!(span(1_250), "1.2 s");
        assert_eq!(span(59_999), "59 s");
        assert_eq!(span(6 * 60_000), "6 min");
        assert_eq!(span(3_600_000 + 5 * 60_000), "1 h 5 min");
        assert_eq!(Count(7).to_string(), "7");
        assert_eq!(Count(1_234_567).to_string(), "1\u{202f}234\u{202f}567");
        assert_eq!(Count(100).to_string(), "100");
    }

    #[test]
    fn hostile_words_are_text() {
        let badge = Badge::new(Tone::Bad, "<script>alert(1)</script>").to_string();
        assert!(!badge.contains("<script>"), "{badge}");
        let id = id(&"\"><img src=x onerror=alert(1)>").to_string();
        assert!(!id.contains("<img"), "{id}");
    }

    #[test]
    fn a_link_holds_what_is_said() {
        assert_eq!(query([("state", "DEAD"), ("topic", ""), ("key", "a&b")]), "?state=DEAD&key=a%26b");
        assert_eq!(query([("state", "")]), "");
    }
}
