//! Errors as the caller sees them: RFC 9457 `application/problem+json` (docs/contract.md §3).
//!
//! A problem says what the caller can do something about. What went wrong inside is logged here,
//! once, with its whole chain of causes, and never told.

use std::{borrow::Cow, fmt, time::Duration};

use actix_web::{
    HttpResponse, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{RefOr, Schema},
};

use crate::{database, telemetry};

/// The media type of every problem.
pub const CONTENT_TYPE: &str = "application/problem+json";
const CONTENT_TYPE_VALUE: HeaderValue = HeaderValue::from_static(CONTENT_TYPE);
/// The header that every answer carries.
pub const X_TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");
/// What stands in `field` when the body as a whole is to blame.
pub(crate) const WHOLE_BODY: &str = "body";
/// What a caller is told to wait when the database is away, in seconds.
const DATABASE_RETRY_AFTER: Duration = Duration::from_secs(2);
/// What a 503 says that says nothing else of when to come back: a second.
pub(crate) const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");
/// The longest detail, in characters: parsers quote what they read.
const DETAIL_CHARS: usize = 300;

/// An answer other than success. The documents of calls know it without being told, and that its type is
/// [`CONTENT_TYPE`].
#[derive(Debug, Clone)]
pub struct Problem {
    body: Box<ProblemBody>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What a problem looks like on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ProblemBody {
    /// `urn:commerce:problem:<code>`.
    #[serde(rename = "type")]
    #[schema(format = "uri")]
    pub kind: String,
    /// The status in words.
    pub title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    pub status: u16,
    /// What is wrong with this request.
    pub detail: Cow<'static, str>,
    /// What programs tell problems apart by.
    #[schema(pattern = "^[a-z]+(-[a-z]+)*$")]
    pub code: &'static str,
    /// The trace of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The JSON path or parameter that is wrong, such as `lines[0].quantity`; `body` for all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
}

impl Problem {
    /// Any problem. `code` is kebab-case. The trace id is that of the running task.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        let body = ProblemBody {
            kind: format!("urn:commerce:problem:{code}"),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: bounded(detail.into()),
            code,
            trace_id: telemetry::current().map(|trace| trace.trace_id.to_string()),
            field: None,
        };
        Self { body: Box::new(body), headers: Vec::new() }
    }

    /// 400: it can't be read.
    pub fn bad_request(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, detail)
    }

    /// 401: nobody knows who is asking.
    pub fn unauthorized() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who is asking is missing, or is not believed.")
    }

    /// 403: this caller may not.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "This caller may not do that.")
    }

    /// 404: `what` isn't there, or isn't this caller's.
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", format!("There is no such {what}."))
    }

    /// 405: the resource is there, and has these methods only (as in `Allow`: `GET, HEAD`).
    pub fn method_not_allowed(allowed: &str) -> Self {
        let problem =
            Self::new(StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "This resource has no such method.");
        match allowed.parse() {
            Ok(allowed) => problem.with_header(header::ALLOW, allowed),
            Err(_) => problem,
        }
    }

    /// 409: not as things are now.
    pub fn conflict(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 422: it can be read, and makes no sense.
    pub fn unprocessable(code: &'static str, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, detail)
    }

    /// 422 `invalid-field`: this field can't be that.
    pub fn invalid_field(field: impl Into<String>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self::unprocessable("invalid-field", detail).of_field(field)
    }

    /// 503: not now; again after so long.
    pub fn unavailable(code: &'static str, detail: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        let seconds = retry_after.as_secs().max(1);
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail).with_header(header::RETRY_AFTER, seconds.into())
    }

    /// 500: our fault. The cause is logged and not told.
    pub fn internal(error: impl Into<anyhow::Error>) -> Self {
        tracing::error!(error = format!("{:#}", error.into()), "a request failed");
        Self::internal_logged()
    }

    /// 500, for a cause that has been logged.
    pub(crate) fn internal_logged() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something went wrong here; the trace id finds it.")
    }

    /// Names the field or parameter that is wrong.
    #[must_use]
    pub fn of_field(mut self, field: impl Into<String>) -> Self {
        self.body.field = Some(field.into());
        self
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// What goes over the wire.
    pub fn body(&self) -> &ProblemBody {
        &self.body
    }
}

fn bounded(detail: Cow<'static, str>) -> Cow<'static, str> {
    match detail.char_indices().nth(DETAIL_CHARS) {
        Some((end, _)) => format!("{}…", &detail[..end]).into(),
        None => detail,
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.body.status, self.body.code, self.body.detail)
    }
}

impl std::error::Error for Problem {}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.body.status).expect("made from a StatusCode")
    }

    fn error_response(&self) -> HttpResponse {
        let mut answer = HttpResponse::build(self.status_code());
        answer.insert_header((header::CONTENT_TYPE, CONTENT_TYPE_VALUE));
        for (name, value) in &self.headers {
            answer.append_header((name.clone(), value.clone()));
        }
        if self.body.status == StatusCode::SERVICE_UNAVAILABLE
            && self.headers.iter().all(|(name, _)| name != header::RETRY_AFTER)
        {
            answer.insert_header((header::RETRY_AFTER, RETRY_AFTER));
        }
        if let Some(trace_id) = &self.body.trace_id {
            answer.insert_header((X_TRACE_ID, trace_id.as_str()));
        }
        answer.body(serde_json::to_vec(&self.body).expect("texts and a number are JSON"))
    }
}

impl From<tokio_postgres::Error> for Problem {
    fn from(error: tokio_postgres::Error) -> Self {
        // A conflict is gone at the next try, which is the caller's here.
        if database::is_connection_lost(&error) || database::is_retryable(&error) {
            database_unavailable(&error)
        } else if database::is_beyond_values(&error) {
            Self::bad_request("invalid-value", "A text or a time in it is beyond what can be looked for.")
        } else {
            Self::internal(error)
        }
    }
}

impl From<deadpool_postgres::PoolError> for Problem {
    fn from(error: deadpool_postgres::PoolError) -> Self {
        if database::is_pool_unavailable(&error) { database_unavailable(&error) } else { Self::internal(error) }
    }
}

fn database_unavailable(error: &dyn std::error::Error) -> Problem {
    tracing::warn!(error = crate::chain(error), "the database doesn't answer");
    Problem::unavailable("database-unavailable", "The database doesn't answer just now.", DATABASE_RETRY_AFTER)
}

impl PartialSchema for Problem {
    fn schema() -> RefOr<Schema> {
        ProblemBody::schema()
    }
}

impl ToSchema for Problem {
    fn name() -> Cow<'static, str> {
        "Problem".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_is_what_rfc_9457_says() {
        let problem = Problem::invalid_field("lines[0].quantity", "too many");
        assert_eq!(
            serde_json::to_value(problem.body()).expect("JSON"),
            serde_json::json!({
                "type": "urn:commerce:problem:invalid-field", "title": "Unprocessable Entity", "status": 422,
                "detail": "too many", "code": "invalid-field", "field": "lines[0].quantity",
            })
        );
        let answer = Problem::unavailable("busy", "later", Duration::from_millis(1)).error_response();
        assert_eq!(answer.headers().get("retry-after").expect("said"), "1");
        assert_eq!(answer.headers().get("content-type").expect("said"), CONTENT_TYPE);
        let unsaid = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "later").error_response();
        assert_eq!(unsaid.headers().get("retry-after").expect("said"), "1");
    }

    #[test]
    fn the_cause_of_our_own_fault_is_not_told() {
        let problem = Problem::internal(anyhow::anyhow!("password is hunter2"));
        assert!(!serde_json::to_string(problem.body()).expect("JSON").contains("hunter2"));
    }

    #[test]
    fn a_detail_is_bounded() {
        let problem = Problem::bad_request("x", "김".repeat(70_000));
        assert_eq!(problem.body().detail.chars().count(), DETAIL_CHARS + 1);
    }
}
