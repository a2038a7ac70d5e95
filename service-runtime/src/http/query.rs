//! Query parameters.

use std::future::{Ready, ready};

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use serde::de::DeserializeOwned;

use super::json::field;
use crate::Problem;

/// The query of a request: 400 `invalid-query` with the parameter named when it isn't what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(read(request.query_string()).map(Query))
    }
}

fn read<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let reader = serde_urlencoded::Deserializer::new(form_urlencoded(query));
    serde_path_to_error::deserialize(reader).map_err(|error| {
        let path = error.path().to_string();
        let said = error.into_inner().to_string();
        Problem::bad_request("invalid-query", format!("{said}.")).of_field(field(&path, &said))
    })
}

fn form_urlencoded(query: &str) -> url::form_urlencoded::Parse<'_> {
    url::form_urlencoded::parse(query.as_bytes())
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde::Deserialize;

    use super::*;
    use crate::http::{Cursor, Limit};

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wanted {
        #[serde(default)]
        limit: Limit,
        cursor: Option<Cursor>,
        at: Option<chrono::DateTime<chrono::Utc>>,
    }

    #[test]
    fn what_is_not_said_is_the_default() {
        let wanted: Wanted = read("").expect("valid");
        assert_eq!((i64::from(wanted.limit), wanted.cursor, wanted.at), (50, None, None));
        assert_eq!(i64::from(read::<Wanted>("limit=200").expect("valid").limit), 200);
    }

    #[rstest]
    #[case("limit=0", "limit")]
    #[case("limit=201", "limit")]
    #[case("limit=-1", "limit")]
    #[case("limit=x", "limit")]
    #[case("limit=99999999999999999999", "limit")]
    #[case("at=yesterday", "at")]
    #[case("colour=red", "colour")]
    #[case("limit=1&limit=2", "limit")]
    fn a_bad_query_is_400_and_names_the_parameter(#[case] query: &str, #[case] field: &str) {
        let problem = read::<Wanted>(query).expect_err("refused");
        assert_eq!((problem.body().status, problem.body().field.as_deref()), (400, Some(field)), "{problem}");
    }
}
