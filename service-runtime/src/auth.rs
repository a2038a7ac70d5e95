//! Who is asking, and whether he may (docs/contract.md §2).
//!
//! Handlers take a [`Caller`], a [`Customer`], an [`Operator`] or an [`Admin`] as an argument; that is the whole
//! check. Whether something is the caller's own is the handler's question.
//!
//! Roles that this suite doesn't know are ignored, as the same identity provider serves other
//! systems; a caller whose roles are all unknown has none.

mod jwks;
mod jwt;

use std::{
    future::{Future, Ready, ready},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderMap, HeaderValue},
    web::Data,
};
use common_events::UserId;
use futures::future::Either;

use crate::{Problem, http::only, settings::AuthSettings};

/// Role texts longer than this belong to nobody.
const MAX_ROLES_CHARS: usize = 4_096;

/// What a caller may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Roles {
    /// Buys.
    pub customer: bool,
    /// Sees everybody's orders, replays, resumes.
    pub operator: bool,
    /// Changes products, coupons, accounts.
    pub admin: bool,
}

impl Roles {
    fn of<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names.into_iter().fold(Self::default(), |mut roles, name| {
            match name.trim() {
                "customer" => roles.customer = true,
                "operator" => roles.operator = true,
                "admin" => (roles.admin, roles.operator) = (true, true),
                _ => {}
            }
            roles
        })
    }
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// His id at the identity provider.
    pub user_id: UserId,
    /// What he may do.
    pub roles: Roles,
}

impl Caller {
    /// Whether he may see what belongs to `owner`.
    pub fn may_see(&self, owner: &UserId) -> bool {
        self.roles.operator || self.user_id == *owner
    }
}

/// A caller who is a customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer(pub Caller);

/// A caller who is an operator or an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operator(pub Caller);

/// A caller who is an admin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admin(pub Caller);

/// Somebody whose word isn't taken for who he is. More than this is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotBelieved {
    /// What he shows proves nothing.
    #[error("not believed")]
    Unproven,
    /// His token names a key that isn't known here, and who may know it doesn't answer.
    #[error("the keys that tokens are signed with can't be read")]
    Undecided {
        /// Before that nobody is asked again.
        retry_after: Duration,
    },
}

impl From<NotBelieved> for Problem {
    fn from(why: NotBelieved) -> Self {
        match why {
            NotBelieved::Unproven => Self::unauthorized(),
            NotBelieved::Undecided { retry_after } => {
                Self::unavailable("keys-unavailable", "Who is asking can't be found out just now.", retry_after)
            }
        }
    }
}

/// Decides who is believed to be who. Cheap to clone.
#[derive(Clone)]
pub struct Auth(Arc<Mode>);

enum Mode {
    /// Nobody: the process has no call that asks.
    Nobody,
    Header,
    Jwt(Arc<jwt::Verifier>),
}

/// By what callers show who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proof {
    /// No call asks.
    Nothing,
    /// Headers that a gateway sets.
    Headers,
    /// A bearer token.
    Token,
}

impl Auth {
    /// As the settings say; `None` believes nobody.
    pub fn new(settings: Option<&AuthSettings>) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(match settings {
            None => Mode::Nobody,
            Some(AuthSettings::Header) => Mode::Header,
            Some(AuthSettings::Jwt(settings)) => Mode::Jwt(Arc::new(jwt::Verifier::new(settings)?)),
        })))
    }

    /// What a caller shows.
    pub(crate) fn proof(&self) -> Proof {
        match &*self.0 {
            Mode::Nobody => Proof::Nothing,
            Mode::Header => Proof::Headers,
            Mode::Jwt(_) => Proof::Token,
        }
    }

    /// Whose token this is, in jwt mode; for who gets it by another way than the header.
    pub async fn caller_of_token(&self, token: &str) -> Result<Caller, NotBelieved> {
        match &*self.0 {
            Mode::Nobody | Mode::Header => Err(NotBelieved::Unproven),
            Mode::Jwt(verifier) => verifier.verify(token).await,
        }
    }
}

async fn caller_of_bearer(verifier: &jwt::Verifier, token: Option<&str>) -> Result<Caller, Problem> {
    let caller = match token {
        Some(token) => verifier.verify(token).await,
        None => Err(NotBelieved::Unproven),
    };
    let challenge = HeaderValue::from_static("Bearer");
    caller.map_err(|why| match why {
        NotBelieved::Unproven => Problem::from(why).with_header(header::WWW_AUTHENTICATE, challenge),
        NotBelieved::Undecided { .. } => why.into(),
    })
}

fn caller_of_gateway(headers: &HeaderMap) -> Result<Caller, NotBelieved> {
    let user_id = only(headers, "x-user-id").and_then(|id| id.parse().ok()).ok_or(NotBelieved::Unproven)?;
    let roles = if headers.contains_key("x-roles") {
        let names =
            only(headers, "x-roles").filter(|names| names.len() <= MAX_ROLES_CHARS).ok_or(NotBelieved::Unproven)?;
        Roles::of(names.split(','))
    } else {
        Roles { customer: true, ..Roles::default() }
    };
    Ok(Caller { user_id, roles })
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = only(headers, "authorization")?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// At once where nobody else is asked: most requests are a gateway's.
type Extracted<T> = Either<Ready<Result<T, Problem>>, Pin<Box<dyn Future<Output = Result<T, Problem>>>>>;

fn extract<T: 'static>(request: &HttpRequest, check: fn(Caller) -> Option<T>) -> Extracted<T> {
    let checked = move |caller: Result<Caller, Problem>| check(caller?).ok_or_else(Problem::forbidden);
    let auth = request.app_data::<Data<Auth>>();
    let mode = auth.map_or(&Mode::Nobody, |auth| &auth.0);
    match mode {
        Mode::Nobody => Either::Left(ready(Err(Problem::unauthorized()))),
        Mode::Header => Either::Left(ready(checked(caller_of_gateway(request.headers()).map_err(Problem::from)))),
        Mode::Jwt(verifier) => {
            let (verifier, token) = (Arc::clone(verifier), bearer(request.headers()).map(str::to_owned));
            Either::Right(Box::pin(async move { checked(caller_of_bearer(&verifier, token.as_deref()).await) }))
        }
    }
}

impl FromRequest for Caller {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        extract(request, Some)
    }
}

impl FromRequest for Customer {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        extract(request, |caller| caller.roles.customer.then_some(Self(caller)))
    }
}

impl FromRequest for Operator {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        extract(request, |caller| caller.roles.operator.then_some(Self(caller)))
    }
}

impl FromRequest for Admin {
    type Error = Problem;
    type Future = Extracted<Self>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        extract(request, |caller| caller.roles.admin.then_some(Self(caller)))
    }
}

#[cfg(test)]
mod tests;
