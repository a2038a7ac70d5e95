//! The scripts, the keys they work on, and what they answer.

use std::sync::LazyLock;

use common_events::CouponId;
use redis::{Cmd, Value};

use super::Unanswered;

/// A script, and the name by which Redis knows it once it is loaded.
pub(super) struct Script {
    pub(super) source: &'static str,
    hash: String,
}

macro_rules! scripts {
    ($($name:ident = $file:literal),+ $(,)?) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::of(include_str!($file)));)+
    };
}

scripts! {
    ADMIT = "admit.lua",
    CONFIRM = "confirm.lua",
    SETTLE = "settle.lua",
    STANDING = "standing.lua",
    CLAIM = "claim.lua",
    OVERDUE = "overdue.lua",
    OPEN = "open.lua",
    CLOSE = "close.lua",
}

impl Script {
    fn of(source: &'static str) -> Self {
        Self { source, hash: redis::Script::new(source).get_hash().to_owned() }
    }

    /// A call on these keys; its arguments are to follow.
    pub(super) fn call(&self, keys: &[&str]) -> Cmd {
        let mut call = redis::cmd("EVALSHA");
        call.arg(&self.hash).arg(keys.len()).arg(keys);
        call
    }
}

/// The keys of one coupon. What stands in braces decides about the node of a cluster; a coupon's id has none.
pub(super) struct Keys<'k> {
    pub(super) prefix: &'k str,
    pub(super) coupon_id: &'k CouponId,
}

impl Keys<'_> {
    fn named(&self, what: &str) -> String {
        format!("{}gate:{{{}}}:{what}", self.prefix, self.coupon_id)
    }

    pub(super) fn state(&self) -> String {
        self.named("state")
    }

    pub(super) fn holders(&self) -> String {
        self.named("holders")
    }

    pub(super) fn tokens(&self) -> String {
        self.named("tokens")
    }

    pub(super) fn pending(&self) -> String {
        self.named("pending")
    }

    /// In the order in which scripts take them.
    pub(super) fn all(&self) -> [String; 5] {
        [self.state(), self.holders(), self.tokens(), self.pending(), self.named("freed")]
    }

    /// What a gate will be opened with, while it is brought there.
    pub(super) fn staged(&self) -> [String; 2] {
        [self.named("staged-holders"), self.named("staged-freed")]
    }
}

pub(super) fn number(value: &Value) -> Result<i64, Unanswered> {
    if let Value::Int(number) = value { Ok(*number) } else { Err(nonsense(value)) }
}

pub(super) fn text(value: &Value) -> Result<&str, Unanswered> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|_| nonsense(value)),
        Value::SimpleString(text) => Ok(text),
        _ => Err(nonsense(value)),
    }
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, Unanswered> {
    if let Value::Array(values) = value { Ok(values) } else { Err(nonsense(&value)) }
}

/// What `SCAN` and its like answer: the next cursor, and a page.
pub(super) fn scanned(value: Value) -> Result<(u64, Vec<Value>), Unanswered> {
    let mut parts = list(value)?.into_iter();
    let (Some(cursor), Some(page)) = (parts.next(), parts.next()) else { return Err(nonsense(&Value::Nil)) };
    let next = text(&cursor)?.parse().map_err(|_| nonsense(&cursor))?;
    Ok((next, list(page)?))
}

fn nonsense(value: &Value) -> Unanswered {
    Unanswered::Nonsense(format!("{value:?}"))
}
