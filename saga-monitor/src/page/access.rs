//! Who is looking (docs/contract.md §2). In header mode whoever the gateway names; on loopback, where there is none,
//! `LOCAL_OPERATOR` stands in. In jwt mode whoever the token is of, from the header or the cookie of the form.
//!
//! A browser sends what it is made to send: a page of somebody else can point it here, by a name of his own that
//! leads to this machine, or by a form. So `Host` has to be ours where nobody proves who he is, and whatever changes
//! something has to come from a page of this origin.

use std::net::IpAddr;

use actix_web::{
    FromRequest, HttpMessage, HttpRequest,
    dev::{Payload, ServiceRequest},
    http::{StatusCode, header},
    web::Data,
};
use anyhow::Context;
use common_events::UserId;
use service_runtime::{
    Auth, Caller, Problem, Runtime, SettingError,
    auth::{NotBelieved, Roles},
    settings::{AuthSettings, SecretString},
};

use crate::{http::Desk, services::Identity};

/// The cookie that holds the operator's token.
pub(super) const COOKIE: &str = "operator_token";

/// How the page finds out who is looking.
#[derive(Debug, Clone)]
pub struct Access {
    mode: Mode,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    /// A gateway says it; on loopback, this one stands in where it says nothing.
    Header { local: Option<UserId> },
    /// A token says it.
    Jwt,
}

impl Access {
    /// As the settings say. `LOCAL_OPERATOR` counts in header mode on loopback only, and where no gateway is
    /// trusted to say who is asking.
    ///
    /// # Errors
    /// When `LOCAL_OPERATOR` can't be a user's id.
    pub fn read(runtime: &Runtime) -> anyhow::Result<Self> {
        let env = &runtime.env;
        let named = env.text("LOCAL_OPERATOR").map(|name| {
            name.parse::<UserId>().map_err(|_| SettingError::wrong("LOCAL_OPERATOR", name, "a user's id, such as olga"))
        });
        let named = named.transpose()?;
        let is_trusted = env.or("AUTH_TRUST_GATEWAY", false)?;
        let is_local = runtime.settings.http_addr.ip().is_loopback() && !is_trusted;
        let mode = match runtime.settings.auth.as_ref().context("the monitor asks who is asking")? {
            AuthSettings::Header => Mode::Header { local: named.filter(|_| is_local) },
            AuthSettings::Jwt(_) => Mode::Jwt,
        };
        Ok(Self { mode })
    }

    /// Whether there is a form to sign in by.
    pub(super) fn has_form(&self) -> bool {
        self.mode == Mode::Jwt
    }

    /// Who is looking, if he may.
    pub(super) async fn visitor(&self, request: &ServiceRequest, desk: &Desk) -> Result<Visitor, Problem> {
        let visitor = match &self.mode {
            Mode::Header { local } => by_header(request, local.as_ref(), desk).await?,
            Mode::Jwt => by_token(request, desk).await?,
        };
        if visitor.caller.roles.operator { Ok(visitor) } else { Err(Problem::forbidden()) }
    }
}

async fn by_header(request: &ServiceRequest, local: Option<&UserId>, desk: &Desk) -> Result<Visitor, Problem> {
    let headers = request.headers();
    let is_named = headers.contains_key("x-user-id") || headers.contains_key("x-roles");
    // A page of a name that leads here could send these headers, too.
    if local.is_some() && !is_own_host(request) {
        return Err(foreign_host());
    }
    let caller = match local {
        Some(local) if !is_named => {
            Caller { user_id: local.clone(), roles: Roles { operator: true, ..Roles::default() } }
        }
        Some(_) | None => Caller::extract(request.request()).await?,
    };
    let identity = Identity::Name(caller.user_id.to_string());
    Ok(Visitor { caller, desk: asked_by(desk, identity), signed_in: false })
}

async fn by_token(request: &ServiceRequest, desk: &Desk) -> Result<Visitor, Problem> {
    if let Some(sent) = request.headers().get(header::AUTHORIZATION) {
        let caller = Caller::extract(request.request()).await?;
        let token = sent.to_str().ok().and_then(|text| text.split_once(' ')).map_or("", |(_, token)| token.trim());
        let identity = Identity::Token(SecretString::from(token.to_owned()));
        return Ok(Visitor { caller, desk: asked_by(desk, identity), signed_in: false });
    }
    let token = request.request().cookie(COOKIE).ok_or_else(Problem::unauthorized)?;
    let caller = caller_of(request.app_data::<Data<Auth>>(), token.value()).await?;
    let identity = Identity::Token(SecretString::from(token.value().to_owned()));
    Ok(Visitor { caller, desk: asked_by(desk, identity), signed_in: true })
}

/// Whose token this is.
pub(super) async fn caller_of(auth: Option<&Data<Auth>>, token: &str) -> Result<Caller, Problem> {
    match auth {
        Some(auth) => Ok(auth.caller_of_token(token).await?),
        None => Err(NotBelieved::Unproven.into()),
    }
}

/// The services are asked as whoever asks here, so that their audit names him.
fn asked_by(desk: &Desk, identity: Identity) -> Desk {
    Desk { services: desk.services.asked_by(identity), ..desk.clone() }
}

/// Somebody who may look and act.
#[derive(Clone)]
pub(super) struct Visitor {
    caller: Caller,
    /// What is asked by this asks as him.
    pub(super) desk: Desk,
    signed_in: bool,
}

impl Visitor {
    pub(super) fn name(&self) -> &str {
        self.caller.user_id.as_str()
    }

    pub(super) fn is_signed_in(&self) -> bool {
        self.signed_in
    }
}

/// The guard has let him in.
impl FromRequest for Visitor {
    type Error = Problem;
    type Future = std::future::Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        std::future::ready(request.extensions().get::<Self>().cloned().ok_or_else(Problem::unauthorized))
    }
}

/// 403 unless the browser says that a page of this origin sent it: by `Sec-Fetch-Site`, or, an older one, by `Origin`.
pub(super) fn check_origin(request: &ServiceRequest) -> Result<(), Problem> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let is_own = match (text("sec-fetch-site"), text("origin")) {
        (Some(site), _) => site == "same-origin",
        (None, Some(origin)) => {
            let authority = origin.split_once("://").map(|(_, authority)| authority);
            authority.is_some_and(|authority| text("host").is_some_and(|host| host.eq_ignore_ascii_case(authority)))
        }
        (None, None) => false,
    };
    let detail = "This came from a page of another site, or from no page at all: programs use /api.";
    if is_own { Ok(()) } else { Err(Problem::new(StatusCode::FORBIDDEN, "cross-site", detail)) }
}

/// A name of somebody else's that leads here is not ours: only what can't be anybody's is.
fn is_own_host(request: &ServiceRequest) -> bool {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn foreign_host() -> Problem {
    let detail = "LOCAL_OPERATOR is believed at 127.0.0.1 and localhost only.";
    Problem::new(StatusCode::FORBIDDEN, "foreign-host", detail)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("127.0.0.1:8090", true)]
    #[case("localhost:9999", true)]
    #[case("LOCALHOST", true)]
    #[case("[::1]:8090", true)]
    #[case("127.8.8.8", true)]
    #[case("evil.example", false)]
    #[case("127.0.0.1.evil.example:8090", false)]
    #[case("localhost.evil.example", false)]
    #[case("10.0.0.1:8090", false)]
    #[case("", false)]
    fn only_a_name_that_cannot_be_somebody_else_s_is_ours(#[case] host: &str, #[case] is_ours: bool) {
        let request = TestRequest::default().insert_header(("host", host)).to_srv_request();
        assert_eq!(is_own_host(&request), is_ours);
    }

    #[rstest]
    #[case::own_page(&[("sec-fetch-site", "same-origin")], true)]
    #[case::another_site(&[("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:8090")], false)]
    #[case::another_port(&[("sec-fetch-site", "same-site")], false)]
    #[case::typed_by_hand(&[("sec-fetch-site", "none")], false)]
    #[case::older_browser(&[("origin", "http://127.0.0.1:8090")], true)]
    #[case::older_browser_elsewhere(&[("origin", "http://evil.example")], false)]
    #[case::hidden_origin(&[("origin", "null")], false)]
    #[case::nothing_said(&[], false)]
    fn what_changes_something_comes_from_a_page_of_ours(#[case] headers: &[(&str, &str)], #[case] is_ours: bool) {
        let request = TestRequest::default().insert_header(("host", "127.0.0.1:8090"));
        let request = headers.iter().fold(request, |request, header| request.append_header(*header));
        assert_eq!(check_origin(&request.to_srv_request()).is_ok(), is_ours);
    }
}
