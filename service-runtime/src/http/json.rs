//! JSON bodies, and what is said about those that aren't what they should be.

use std::{borrow::Cow, future::Future, pin::Pin};

use actix_web::{FromRequest, HttpRequest, HttpResponse, Responder, body::BoxBody, dev::Payload, web};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::error::Category;

use super::{MAX_BODY_BYTES, around::too_large};
use crate::{Problem, problem::WHOLE_BODY};

/// A JSON body: read from a request (whatever its content type says), or written as an answer.
///
/// Not JSON: 400 `malformed-json`, as is no body at all. JSON of another shape, a field that isn't
/// known (where the type denies those), a number out of range: 422 `invalid-field`, with the path of
/// the field. More than 64 KiB: 413.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: DeserializeOwned> FromRequest for Json<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = bytes_of(request, payload);
        Box::pin(async move { read(&body.await?).map(Json) })
    }
}

/// The same, of a call that needs no body: without one it is `None`, however it is said that there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionalJson<T>(pub Option<T>);

impl<T: DeserializeOwned> FromRequest for OptionalJson<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = bytes_of(request, payload);
        Box::pin(async move {
            let body = body.await?;
            if body.is_empty() { Ok(Self(None)) } else { read(&body).map(|value| Self(Some(value))) }
        })
    }
}

fn bytes_of(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<web::Bytes, Problem>> + 'static {
    let body = web::Payload::from_request(request, payload);
    async move {
        let unreadable = |_| malformed("The body broke off.");
        let body = body.await.map_err(unreadable)?;
        body.to_bytes_limited(MAX_BODY_BYTES).await.map_err(|_| too_large())?.map_err(unreadable)
    }
}

impl<T: Serialize> Responder for Json<T> {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        match serde_json::to_vec(&self.0) {
            Ok(body) => HttpResponse::Ok().content_type("application/json").body(body),
            Err(error) => HttpResponse::from_error(Problem::internal(error)),
        }
    }
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    if body.trim_ascii().is_empty() {
        return Err(malformed("This call needs a JSON body, and there was none."));
    }
    // serde reads a struct from an array of its fields, too, which nobody was promised.
    if body.trim_ascii_start().starts_with(b"[") {
        serde_json::from_slice::<serde::de::IgnoredAny>(body).map_err(|error| refused(".", &error))?;
        return Err(Problem::invalid_field(WHOLE_BODY, "An array, where an object is expected."));
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path = error.path().to_string();
        refused(&path, &error.into_inner())
    })?;
    reader.end().map_err(|error| refused(".", &error))?;
    Ok(value)
}

fn refused(path: &str, error: &serde_json::Error) -> Problem {
    match error.classify() {
        Category::Data => {
            let said = error.to_string();
            // The place in the text is the path's business.
            let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what);
            Problem::invalid_field(field(path, said), format!("{said}."))
        }
        Category::Syntax | Category::Eof | Category::Io => malformed(format!("The body is not JSON: {error}.")),
    }
}

fn malformed(detail: impl Into<Cow<'static, str>>) -> Problem {
    Problem::bad_request("malformed-json", detail).of_field(WHOLE_BODY)
}

/// The path of the field: serde names one that is missing or unknown in its text only.
pub(super) fn field(path: &str, said: &str) -> String {
    let named = ["missing field `", "unknown field `", "duplicate field `"]
        .into_iter()
        .find_map(|start| said.strip_prefix(start)?.split('`').next());
    match (path, named) {
        (".", None) => WHOLE_BODY.to_owned(),
        (".", Some(name)) => name.to_owned(),
        (path, Some(name)) if path != name && !path.ends_with(&format!(".{name}")) => format!("{path}.{name}"),
        (path, _) => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use actix_web::{http::header::TRANSFER_ENCODING, test::TestRequest};
    use rstest::rstest;
    use serde::Deserialize;

    use super::*;
    use crate::http::Object;

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Order {
        lines: Vec<Object<Line>>,
        issued_coupon_id: Option<uuid::Uuid>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Line {
        product_id: common_events::ProductId,
        quantity: common_events::Quantity,
    }

    #[test]
    fn an_array_of_the_fields_is_no_object() {
        let problem = read::<Line>(br#" ["cup", 2]"#).expect_err("refused");
        assert_eq!((problem.body().status, problem.body().code), (422, "invalid-field"));
        let problem = read::<Line>(br#"["cup", 2"#).expect_err("refused");
        assert_eq!(problem.body().status, 400);
    }

    #[rstest]
    #[case("", false)]
    #[case("", true)]
    #[case("{}", true)]
    #[actix_web::test]
    async fn a_call_that_needs_no_body_takes_none_however_that_is_said(
        #[case] body: &'static str,
        #[case] chunked: bool,
    ) {
        let request = TestRequest::post().set_payload(body);
        let request = if chunked { request.insert_header((TRANSFER_ENCODING, "chunked")) } else { request };
        let (request, mut payload) = request.to_http_parts();
        let read =
            OptionalJson::<serde_json::Value>::from_request(&request, &mut payload).await.expect("a body, or none");
        assert_eq!(read.0.is_some(), !body.is_empty());
    }

    #[rstest]
    #[case("")]
    #[case("  ")]
    #[case("rubbish")]
    #[case("{")]
    #[case(r#"{"lines":[]} x"#)]
    #[case(r#"{"lines":[]}{"lines":[]}"#)]
    #[case("{\"lines\":\u{1}}")]
    fn what_is_not_json_is_400(#[case] body: &str) {
        let problem = read::<Order>(body.as_bytes()).expect_err("refused");
        assert_eq!((problem.body().status, problem.body().code), (400, "malformed-json"));
        assert_eq!(problem.body().field.as_deref(), Some("body"));
    }

    #[test]
    fn neither_bytes_nor_depth_make_it_panic() {
        assert_eq!(read::<Order>(b"\xff\xfe").expect_err("refused").body().status, 400);
        assert_eq!(read::<serde_json::Value>("[".repeat(60_000).as_bytes()).expect_err("refused").body().status, 400);
    }

    #[rstest]
    #[case("[]", "body")]
    #[case("null", "body")]
    #[case(r"{}", "lines")]
    #[case(r#"{"lines":null}"#, "lines")]
    #[case(r#"{"lines":[],"colour":1}"#, "colour")]
    #[case(r#"{"lines":[],"lines":[]}"#, "lines")]
    #[case(r#"{"lines":[],"issuedCouponId":"42"}"#, "issuedCouponId")]
    #[case(r#"{"lines":[["p",1]]}"#, "lines[0]")]
    #[case(r#"{"lines":[{"productId":"p"}]}"#, "lines[0].quantity")]
    #[case(r#"{"lines":[{"productId":"p","quantity":1,"x":1}]}"#, "lines[0].x")]
    #[case(r#"{"lines":[{"productId":"p","quantity":0}]}"#, "lines[0].quantity")]
    #[case(r#"{"lines":[{"productId":"p","quantity":-1}]}"#, "lines[0].quantity")]
    #[case(r#"{"lines":[{"productId":"p","quantity":1.5}]}"#, "lines[0].quantity")]
    #[case(r#"{"lines":[{"productId":"p","quantity":99999999999999999999}]}"#, "lines[0].quantity")]
    #[case(r#"{"lines":[{"productId":"p","quantity":"1"}]}"#, "lines[0].quantity")]
    #[case(r#"{"lines":[{"productId":"p","quantity":1},{"productId":"a b","quantity":1}]}"#, "lines[1].productId")]
    fn what_makes_no_sense_is_422_and_names_the_field(#[case] body: &str, #[case] field: &str) {
        let problem = read::<Order>(body.as_bytes()).expect_err("refused");
        assert_eq!((problem.body().status, problem.body().code), (422, "invalid-field"));
        assert_eq!(problem.body().field.as_deref(), Some(field), "{problem}");
    }
}
