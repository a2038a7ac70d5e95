//! What stands before and after every page: who may come in, what every answer carries, and that a problem is a page,
//! too.

use actix_web::{
    Error, HttpMessage, HttpRequest, HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
    web::Data,
};
use askama::Template;
use service_runtime::{Problem, http::ProblemPages};

use super::{Frame, MENU, Stand, access::check_origin, sign_in::SignIn};

/// Only what comes from here, by nobody's evaluation; no frame around it, no form to elsewhere.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// For pages that operators see.
pub(super) async fn operators(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match admit(&request).await {
        Ok(()) => finish(next.call(request).await),
        Err(problem) => Ok(refuse(request.request().clone(), &problem)),
    }
}

/// For the form by which one becomes somebody.
pub(super) async fn open(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match check_writes(&request) {
        Ok(()) => finish(next.call(request).await),
        Err(problem) => Ok(refuse(request.request().clone(), &problem)),
    }
}

async fn admit(request: &ServiceRequest) -> Result<(), Problem> {
    let stand = request.app_data::<Data<Stand>>().ok_or_else(Problem::unauthorized)?;
    let visitor = stand.access.visitor(request, &stand.desk).await?;
    check_writes(request)?;
    request.extensions_mut().insert(visitor);
    Ok(())
}

fn check_writes(request: &ServiceRequest) -> Result<(), Problem> {
    // HEAD has become GET by now.
    if *request.method() == Method::GET { Ok(()) } else { check_origin(request) }
}

/// Problems become pages; what is no problem of ours becomes one first.
fn finish(
    outcome: Result<ServiceResponse<impl MessageBody + 'static>, Error>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let mut response = outcome?.map_into_boxed_body();
    if let Some(error) = response.response().error() {
        let problem = error.as_error::<Problem>().cloned().unwrap_or_else(|| {
            let status = error.as_response_error().status_code();
            Problem::new(status, "bad-request", error.to_string())
        });
        return Ok(refuse(response.request().clone(), &problem));
    }
    protect(response.headers_mut());
    Ok(response)
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'p> {
    frame: Frame,
    status: u16,
    title: &'p str,
    detail: &'p str,
    trace_id: Option<&'p str>,
}

/// The problem as a page; whom nobody knows is asked who he is, where he can say it.
fn refuse(request: HttpRequest, problem: &Problem) -> ServiceResponse<BoxBody> {
    let visitor = request.extensions().get::<super::Visitor>().cloned();
    let body = problem.body();
    let has_form = request.app_data::<Data<Stand>>().is_some_and(|stand| stand.access.has_form());
    let status = StatusCode::from_u16(body.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let has_cookie = request.cookie(super::access::COOKIE).is_some();
    let page = if status == StatusCode::UNAUTHORIZED && has_form {
        SignIn::at(&request, has_cookie.then_some("You were signed out: the token is no longer valid.")).render()
    } else {
        let mut frame = Frame { who: None, signed_in: has_form && has_cookie, here: "" };
        if let Some(visitor) = &visitor {
            frame = Frame::of(visitor, "");
        }
        let title = title(body.status);
        ProblemPage { frame, status: body.status, title, detail: &body.detail, trace_id: body.trace_id.as_deref() }
            .render()
    };
    ServiceResponse::new(request, answer(problem, page))
}

/// With what the problem's headers say: when to come back, which methods there are.
pub(super) fn answer(problem: &Problem, page: askama::Result<String>) -> HttpResponse {
    let page = page.unwrap_or_else(|_| problem.body().detail.to_string());
    let mut answer = problem.error_response().set_body(BoxBody::new(page));
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    protect(answer.headers_mut());
    answer
}

/// For browsers that ask for what is no page: what is wrong, and the way back.
pub(super) const BEYOND_PAGES: ProblemPages = ProblemPages { are_for: is_a_browsers, show };

/// Programs say what they accept, too, or nothing; what is theirs is told as they read it.
fn is_a_browsers(request: &ServiceRequest) -> bool {
    let accepts = request.headers().get(header::ACCEPT).and_then(|accepts| accepts.to_str().ok()).unwrap_or_default();
    let is_of_programs = |area: &str| request.path() == area || request.path().starts_with(&format!("{area}/"));
    accepts.contains("text/html") && !["/api", "/admin", "/health"].into_iter().any(is_of_programs)
}

fn show(problem: &Problem) -> HttpResponse {
    let body = problem.body();
    let frame = Frame { who: None, signed_in: false, here: "" };
    let (status, title, trace_id) = (body.status, title(body.status), body.trace_id.as_deref());
    answer(problem, ProblemPage { frame, status, title, detail: &body.detail, trace_id }.render())
}

fn title(status: u16) -> &'static str {
    match status {
        401 => "Nobody is signed in",
        403 => "You may not do that",
        404 => "There is nothing here",
        405 => "That can't be opened",
        409 => "Not as things are now",
        503 => "Not just now",
        400 | 413 | 422 => "That can't be done",
        _ => "Something went wrong here",
    }
}

/// What every answer of the page carries.
pub(super) fn protect(headers: &mut HeaderMap) {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Of a form the browser hides the origin with `no-referrer`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::PERMISSIONS_POLICY, "camera=(), geolocation=(), microphone=(), payment=()"),
        (header::CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        (header::CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
