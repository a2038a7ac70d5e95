//! What is done around every request: its trace, its measures, and what a panic answers.

use std::{
    borrow::Cow,
    cell::RefCell,
    collections::HashMap,
    future::{Future, Ready, ready},
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use actix_web::{
    Error, FromRequest, HttpMessage, HttpRequest, ResponseError,
    body::BoxBody,
    dev::{Payload, Service, ServiceRequest, ServiceResponse},
    http::{
        ConnectionType, Method, StatusCode,
        header::{self, HeaderMap, HeaderValue},
    },
};
use common_events::{TraceParent, envelope::TRACEPARENT};
use futures::FutureExt;

use super::{MAX_BODY_BYTES, ProblemPages, Shared, only};
use crate::{
    Problem,
    problem::{RETRY_AFTER, WHOLE_BODY, X_TRACE_ID},
    telemetry::{self, Span, SpanKind},
};

/// Where a request stands in its trace: the server span, of which what the handler does is a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestTrace(pub TraceParent);

impl FromRequest for RequestTrace {
    type Error = std::convert::Infallible;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        // An app without `around`, in a test, begins a trace here.
        let trace = request.extensions().get::<Self>().copied();
        ready(Ok(trace.unwrap_or_else(|| Self(telemetry::current().unwrap_or_else(telemetry::root)))))
    }
}

pub(super) fn around<S>(
    mut request: ServiceRequest,
    inner: &S,
    shared: &Shared,
) -> impl Future<Output = Result<ServiceResponse<BoxBody>, Error>> + use<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error>,
{
    let visit = Visit::begin(&request, shared);
    request.extensions_mut().insert(RequestTrace(visit.me));
    if request.method() == Method::HEAD {
        // Answered like GET; the server writes the length of the body, and leaves the body out.
        request.head_mut().method = Method::GET;
    }
    let pages = ProblemPages::of(&request);
    let answer = match Refused::at_once(&request, shared) {
        None => Ok(inner.call(request)),
        Some(refused) => Err(refused),
    };
    telemetry::within(visit.me, async move {
        let answered = match answer {
            Ok(answer) => AssertUnwindSafe(answer).catch_unwind().await,
            Err(refused) => Ok(Err(refused.problem().into())),
        };
        let outcome = match answered {
            Ok(Ok(response)) => Ok(as_problem(response)),
            Ok(Err(error)) if error.as_error::<Problem>().is_some() => Err(error),
            Ok(Err(error)) => Err(problem_of(&error, error.as_response_error().status_code()).into()),
            // The panic hook has logged it.
            Err(_) => Err(Problem::internal_logged().into()),
        };
        visit.end(match pages {
            Some(pages) => pages.instead(outcome),
            None => outcome,
        })
    })
}

/// What no call takes, whatever it is.
enum Refused {
    TooLarge,
    UnknownParameter(String),
}

impl Refused {
    fn at_once(request: &ServiceRequest, shared: &Shared) -> Option<Self> {
        if is_too_large(request.headers()) {
            return Some(Self::TooLarge);
        }
        shared.documented.unknown_parameter(request).map(Self::UnknownParameter)
    }

    fn problem(self) -> Problem {
        match self {
            Self::TooLarge => too_large(),
            Self::UnknownParameter(name) => {
                Problem::bad_request("invalid-query", format!("There is no parameter `{name}` here.")).of_field(name)
            }
        }
    }
}

/// 413.
pub(super) fn too_large() -> Problem {
    let detail = format!("A body may have {MAX_BODY_BYTES} bytes at most.");
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", detail).of_field(WHOLE_BODY)
}

fn is_too_large(headers: &HeaderMap) -> bool {
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    length.is_some_and(|bytes| bytes > MAX_BODY_BYTES as u64)
}

/// An error of actix's own extractors becomes a problem, too.
fn as_problem(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let Some(error) = response.response().error().filter(|error| error.as_error::<Problem>().is_none()) else {
        return response;
    };
    let problem = problem_of(error, response.status());
    response.into_response(problem.error_response())
}

fn problem_of(error: &Error, status: StatusCode) -> Problem {
    if status.is_server_error() {
        tracing::error!(error = error.to_string(), "a request failed");
        return Problem::internal_logged();
    }
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        return too_large();
    }
    Problem::new(status, "bad-request", error.to_string())
}

/// One request on its way through.
struct Visit {
    me: TraceParent,
    parent: Option<TraceParent>,
    method: &'static str,
    path: Option<String>,
    start: SystemTime,
    clock: Instant,
    stopping: bool,
    _counted: Counted,
}

impl Visit {
    fn begin(request: &ServiceRequest, shared: &Shared) -> Self {
        let parent = only(request.headers(), TRACEPARENT).and_then(|sent| sent.parse().ok());
        let me = parent.map_or_else(telemetry::root, telemetry::child_of);
        Self {
            me,
            parent,
            method: known_method(request.method()),
            path: (telemetry::is_recorded(me) && !is_operational(request.path())).then(|| request.path().to_owned()),
            start: SystemTime::now(),
            clock: Instant::now(),
            stopping: shared.shutdown.is_cancelled(),
            _counted: Counted::in_(&shared.in_flight),
        }
    }

    fn end(self, outcome: Result<ServiceResponse<BoxBody>, Error>) -> Result<ServiceResponse<BoxBody>, Error> {
        match outcome {
            Ok(mut response) => {
                // A problem says it already.
                if !response.headers().contains_key(X_TRACE_ID) {
                    let trace_id = self.me.trace_id.to_string();
                    let value = HeaderValue::from_str(&trace_id).expect("hex digits");
                    response.headers_mut().insert(X_TRACE_ID, value);
                }
                if response.status() == StatusCode::SERVICE_UNAVAILABLE
                    && !response.headers().contains_key(header::RETRY_AFTER)
                {
                    response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
                }
                if self.stopping {
                    response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
                }
                self.measure(response.request().match_pattern(), response.status());
                Ok(response)
            }
            Err(error) => {
                self.measure(None, error.as_response_error().status_code());
                Err(error)
            }
        }
    }

    fn measure(self, pattern: Option<String>, status: StatusCode) {
        let route = Route {
            method: self.method,
            pattern: pattern.map_or(Cow::Borrowed("unmatched"), Cow::Owned),
            status: status.as_u16(),
        };
        let elapsed = self.clock.elapsed();
        let name = match self.path {
            Some(_) => format!("{} {}", route.method, route.pattern),
            None => String::new(),
        };
        count(route, elapsed);
        let Some(path) = self.path else { return };
        telemetry::record(Span {
            name: name.into(),
            kind: SpanKind::Server,
            me: self.me,
            parent: self.parent.map(|parent| parent.span_id),
            start: self.start,
            end: self.start + elapsed,
            tags: vec![("http.path", path.into()), ("http.status_code", status.as_u16().to_string().into())],
            error: status.is_server_error().then(|| status.to_string()),
        });
    }
}

/// Calls of machines that watch machines make no span.
fn is_operational(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics" || path == "/openapi.json" || path.starts_with("/docs")
}

/// A method of the caller's invention makes no time series of its own.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "OTHER",
    }
}

/// A request under way, counted until it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn in_(in_flight: &Arc<AtomicUsize>) -> Self {
        in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(in_flight))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The labels of a request's measures; as many as there are routes, methods and statuses.
#[derive(PartialEq, Eq, Hash)]
struct Route {
    method: &'static str,
    pattern: Cow<'static, str>,
    status: u16,
}

struct Measures {
    requests: metrics::Counter,
    duration: metrics::Histogram,
}

thread_local! {
    /// Looking a counter up by its labels costs more than counting.
    static MEASURES: RefCell<HashMap<Route, Measures>> = RefCell::default();
}

fn count(route: Route, elapsed: Duration) {
    MEASURES.with_borrow_mut(|known| {
        let measures = known.entry(route).or_insert_with_key(|route| {
            let labels = [
                ("method", route.method.to_owned()),
                ("path", route.pattern.clone().into_owned()),
                ("status", route.status.to_string()),
            ];
            Measures {
                requests: metrics::counter!("http_requests_total", &labels),
                duration: metrics::histogram!("http_request_duration_seconds", &labels),
            }
        });
        measures.requests.increment(1);
        measures.duration.record(elapsed);
    });
}
