//! Lists: a page of items, and where the next one begins.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use utoipa::{
    IntoParams, PartialSchema, ToSchema,
    openapi::{ObjectBuilder, RefOr, Schema, Type},
};

use crate::Problem;

/// The longest cursor that is looked at, in characters.
const MAX_CURSOR_CHARS: usize = 1_024;

/// A page of a list. Without `nextCursor` it was the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items, in the order of the list.
    pub items: Vec<T>,
    /// What to ask for the next page with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<Cursor>,
}

impl<T> Page<T> {
    /// Makes a page of what was found when one item more than `limit` was asked for: whether there
    /// was one more tells whether there is a next page, which begins after the last item shown.
    pub fn of<P: Serialize>(mut found: Vec<T>, limit: Limit, position: impl FnOnce(&T) -> P) -> Self {
        let limit = usize::from(limit.0);
        let more = found.len() > limit;
        found.truncate(limit);
        let next_cursor = found.last().filter(|_| more).map(|last| Cursor::at(&position(last)));
        Self { items: found, next_cursor }
    }
}

/// A position in a list; to the caller an opaque text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(max_length = 1_024)]
#[serde(transparent)]
pub struct Cursor(String);

impl Cursor {
    /// Behind which sort values the next page begins.
    ///
    /// # Panics
    /// When a sort value is none: a map with keys that aren't texts.
    pub fn at(position: &impl Serialize) -> Self {
        let json = serde_json::to_vec(position).expect("sort values are numbers, texts and times");
        Self(BASE64_URL_SAFE_NO_PAD.encode(json))
    }

    /// The sort values again; 400 `invalid-cursor` when it isn't one of this list.
    pub fn position<P: DeserializeOwned>(&self) -> Result<P, Problem> {
        let known = (self.0.len() <= MAX_CURSOR_CHARS)
            .then(|| BASE64_URL_SAFE_NO_PAD.decode(&self.0).ok())
            .flatten()
            .and_then(|json| serde_json::from_slice(&json).ok());
        known.ok_or_else(|| Problem::bad_request("invalid-cursor", "This list gave no such cursor.").of_field("cursor"))
    }
}

/// How many items a page has at most: 1 to 200, default 50.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Limit(u16);

/// A limit that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a limit is a whole number from 1 to {}", Limit::MAX)]
pub struct InvalidLimit;

impl Limit {
    /// The largest page.
    pub const MAX: u16 = 200;

    /// What to ask the database for, so that [`Page::of`] sees whether there is more.
    pub fn and_one(self) -> i64 {
        i64::from(self.0) + 1
    }
}

impl PartialSchema for Limit {
    fn schema() -> RefOr<Schema> {
        let limit = ObjectBuilder::new().schema_type(Type::Integer);
        limit.minimum(Some(1)).maximum(Some(Self::MAX)).default(Some(Self::default().0.into())).into()
    }
}

impl ToSchema for Limit {}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl TryFrom<u16> for Limit {
    type Error = InvalidLimit;

    fn try_from(items: u16) -> Result<Self, InvalidLimit> {
        if (1..=Self::MAX).contains(&items) { Ok(Self(items)) } else { Err(InvalidLimit) }
    }
}

impl From<Limit> for u16 {
    fn from(limit: Limit) -> Self {
        limit.0
    }
}

impl From<Limit> for i64 {
    fn from(limit: Limit) -> Self {
        Self::from(limit.0)
    }
}

/// The parameters of every list; `#[serde(flatten)]` doesn't work in a query, so a list with more
/// parameters names these two itself.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    pub limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    pub cursor: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_knows_whether_there_is_a_next_one() {
        let limit = Limit(2);
        let page = Page::of(vec![1, 2, 3], limit, |last| *last);
        assert_eq!(page.items, [1, 2]);
        assert_eq!(page.next_cursor.expect("there is more").position::<i32>().expect("ours"), 2);
        assert_eq!(Page::of(vec![1, 2], limit, |last| *last).next_cursor, None);
        assert_eq!(Page::<i32>::of(vec![], limit, |last| *last).next_cursor, None);
    }

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        let cursor = serde_json::to_value(Cursor::schema()).expect("JSON");
        assert_eq!(cursor["maxLength"], MAX_CURSOR_CHARS);
    }

    #[test]
    fn a_foreign_cursor_is_refused() {
        for foreign in ["", "%", "AAAA", &Cursor::at(&"text").0, &"A".repeat(70_000)] {
            let problem = Cursor(foreign.to_owned()).position::<(i64, i64)>().expect_err("refused");
            assert_eq!((problem.body().status, problem.body().code), (400, "invalid-cursor"));
        }
    }
}
