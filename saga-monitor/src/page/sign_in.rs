//! The form by which an operator shows his token, in jwt mode, and the cookie that keeps it (docs/contract.md §2).

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite},
    http::StatusCode,
    web::{Data, Form},
};
use askama::Template;
use serde::Deserialize;
use service_runtime::{Auth, Problem};

use super::{
    Frame, MENU, Stand,
    access::{COOKIE, caller_of},
    html, see,
};

/// Browsers keep no cookie that is longer, its name included.
const MAX_TOKEN_BYTES: usize = 4_000;

/// The form.
#[derive(Template)]
#[template(path = "sign_in.html")]
pub(super) struct SignIn {
    frame: Frame,
    /// Where one wanted to go.
    next: String,
    /// Why it is shown again.
    trouble: Option<&'static str>,
}

impl SignIn {
    /// Before the page that was asked for.
    pub(super) fn at(request: &HttpRequest, trouble: Option<&'static str>) -> Self {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        let next = if request.method() == actix_web::http::Method::GET { path } else { "/" };
        Self::before(next, trouble)
    }

    fn before(next: &str, trouble: Option<&'static str>) -> Self {
        let next = if is_ours(next) { next } else { "/" };
        Self { frame: Frame { who: None, signed_in: false, here: "" }, next: next.to_owned(), trouble }
    }
}

/// A path here, and nothing that a browser takes for another host.
fn is_ours(next: &str) -> bool {
    let is_path = next.starts_with('/') && !next.starts_with("//") && !next.starts_with("/sign-");
    is_path && !next.contains(['\\', '\r', '\n', '\t'])
}

pub(super) async fn form(stand: Data<Stand>) -> Result<HttpResponse, Problem> {
    if stand.access.has_form() { html(StatusCode::OK, &SignIn::before("/", None)) } else { Ok(see("/")) }
}

#[derive(Deserialize)]
pub(super) struct Shown {
    token: String,
    #[serde(default)]
    next: String,
}

/// Keeps the token, if it is an operator's.
pub(super) async fn sign_in(
    request: HttpRequest,
    stand: Data<Stand>,
    shown: Form<Shown>,
) -> Result<HttpResponse, Problem> {
    if !stand.access.has_form() {
        return Err(Problem::not_found("form"));
    }
    let Shown { token, next } = shown.into_inner();
    let token = token.trim();
    let again = |status, trouble| html(status, &SignIn::before(&next, Some(trouble)));
    if token.len() > MAX_TOKEN_BYTES {
        return again(StatusCode::UNPROCESSABLE_ENTITY, "This token is too long for a browser to keep.");
    }
    let caller = match caller_of(request.app_data::<Data<Auth>>(), token).await {
        Ok(caller) => caller,
        Err(problem) if problem.body().status == 401 => {
            return again(StatusCode::UNAUTHORIZED, "This token is not valid, or no longer.");
        }
        Err(problem) => return Err(problem),
    };
    if !caller.roles.operator {
        return again(StatusCode::FORBIDDEN, "This token is valid, but not an operator's.");
    }
    let next = if is_ours(&next) { next } else { "/".to_owned() };
    let mut answer = see(&next);
    answer.add_cookie(&kept(&request, token)).map_err(Problem::internal)?;
    Ok(answer)
}

/// Forgets the token.
pub(super) async fn sign_out(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let mut answer = see("/sign-in");
    let mut cookie = kept(&request, "");
    cookie.make_removal();
    answer.add_cookie(&cookie).map_err(Problem::internal)?;
    Ok(answer)
}

/// For the browser's session, out of reach of scripts and of other sites' pages.
fn kept<'c>(request: &HttpRequest, token: &'c str) -> Cookie<'c> {
    let is_https = request.connection_info().scheme() == "https";
    Cookie::build(COOKIE, token).path("/").http_only(true).same_site(SameSite::Strict).secure(is_https).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_sent_on_to_a_page_of_ours_only() {
        for ours in ["/", "/sagas?stuck=true", "/sagas/0190"] {
            assert!(is_ours(ours), "{ours}");
        }
        for foreign in ["", "//evil.example", "https://evil.example", "/\\evil.example", "/\t/evil", "/sign-out"] {
            assert!(!is_ours(foreign), "{foreign}");
        }
    }
}
