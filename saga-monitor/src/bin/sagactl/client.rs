//! The services as an operator reaches them: where each is, who asks, and what a no means.
//!
//! A service that is away hides nothing of the others: every question is asked of all at the same time, and
//! each answers for itself.

use std::{fmt, str::FromStr, time::Duration};

use anyhow::Context;
use common_events::{Service, Topic};
use futures::future::join_all;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use serde_json::Value;
use service_runtime::{
    SettingError,
    settings::{Env, ExposeSecret, SecretString, Setting, Url, default_port},
};

/// How long a service may take to answer: a replay of many is planned in one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Who asks, when neither `LOCAL_OPERATOR` nor `USER` says it.
const NAMELESS: &str = "sagactl";

/// `SERVICE_URLS`: `order-service=http://127.0.0.1:8081,…`.
#[derive(Debug, Clone)]
pub(crate) struct ServiceUrls(Vec<(Service, Url)>);

impl Setting for ServiceUrls {
    const MAY_HOLD: &'static str =
        "services and their URLs, such as order-service=http://127.0.0.1:8081,payment-service=…";

    fn parse(text: &str) -> Option<Self> {
        let one = |entry: &str| {
            let (name, url) = entry.trim().split_once('=')?;
            Some((Service::from_str(name).ok()?, <Url as Setting>::parse(url)?))
        };
        text.split(',').map(one).collect::<Option<_>>().map(Self)
    }
}

impl Default for ServiceUrls {
    /// Every service that handles events, on this machine, at its usual port (CONTRACT §1).
    fn default() -> Self {
        let hears = |service: &Service| Topic::read_by(*service).next().is_some();
        let at = |service| {
            let url = format!("http://127.0.0.1:{}", default_port(service));
            (service, Url::parse(&url).expect("an address and a port"))
        };
        Self(Service::ALL.iter().copied().filter(hears).map(at).collect())
    }
}

/// As whom the services are asked (CONTRACT §2).
enum Identity {
    /// `OPERATOR_TOKEN`: a JWT with the role.
    Token(SecretString),
    /// `AUTH_MODE=header`: by name, which the gateway, or loopback, vouches for.
    Name(String),
}

impl Identity {
    fn read(env: &Env) -> Result<Self, SettingError> {
        if let Some(token) = env.optional("OPERATOR_TOKEN")? {
            return Ok(Self::Token(token));
        }
        let name = env.text("LOCAL_OPERATOR").or_else(|| env.text("USER")).unwrap_or(NAMELESS);
        Ok(Self::Name(name.to_owned()))
    }

    fn on(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Token(token) => request.bearer_auth(token.expose_secret()),
            Self::Name(name) => request.header("x-user-id", name).header("x-roles", "operator"),
        }
    }
}

/// Why a service gave no answer, or no good one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// It can't be reached.
    #[error("is away ({0})")]
    Away(String),
    /// It said no.
    #[error("{status}, {code}: {detail}")]
    Refused { status: StatusCode, code: String, detail: String },
    /// What it said is no JSON.
    #[error("its answer can't be read: {0}")]
    Odd(String),
}

impl Trouble {
    /// Whether the service said that there is no such thing.
    pub(crate) fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether the service said no, by this code.
    pub(crate) fn says(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
    }
}

/// The innermost cause says it: `Connection refused`.
#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn away(error: reqwest::Error) -> Trouble {
    let causes = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
    Trouble::Away(causes.last().map(ToString::to_string).unwrap_or_default())
}

/// What one service answered.
pub(crate) type Answer = Result<Value, Trouble>;

/// A question to a service's API.
#[derive(Clone)]
pub(crate) struct Question {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
}

impl Question {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: None }
    }

    pub(crate) fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), query: Vec::new(), body: Some(body) }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }
}

/// The services, ready to be asked.
pub(crate) struct Services {
    http: Client,
    urls: Vec<(Service, Url)>,
    identity: Identity,
}

impl Services {
    /// Where `SERVICE_URLS` says; those named by `only`, or all.
    pub(crate) fn read(env: &Env, only: &[Service]) -> anyhow::Result<Self> {
        let ServiceUrls(mut urls) = env.or("SERVICE_URLS", ServiceUrls::default())?;
        if let Some(unknown) = only.iter().find(|service| !urls.iter().any(|(known, _)| known == *service)) {
            anyhow::bail!("SERVICE_URLS says nothing of {unknown}");
        }
        urls.retain(|(service, _)| only.is_empty() || only.contains(service));
        // Certificates are read only where one of them needs any.
        let strictest = urls.iter().map(|(_, url)| url).max_by_key(|url| url.scheme().len());
        let strictest = strictest.context("SERVICE_URLS names no service")?;
        let http = service_runtime::http::client(strictest, CALL_TIMEOUT)?;
        Ok(Self { http, urls, identity: Identity::read(env)? })
    }

    /// Who can be asked.
    pub(crate) fn names(&self) -> impl Iterator<Item = Service> + '_ {
        self.urls.iter().map(|(service, _)| *service)
    }

    /// Asks all of them the same, at the same time.
    pub(crate) async fn ask_all(&self, question: &Question) -> Vec<(Service, Answer)> {
        let asked = self.urls.iter().map(async |(service, url)| (*service, self.send(url, question).await));
        join_all(asked).await
    }

    /// Asks one of them.
    pub(crate) async fn ask(&self, service: Service, question: &Question) -> Answer {
        match self.urls.iter().find(|(known, _)| *known == service) {
            Some((_, url)) => self.send(url, question).await,
            None => Err(Trouble::Away("SERVICE_URLS says nothing of it".to_owned())),
        }
    }

    async fn send(&self, base: &Url, question: &Question) -> Answer {
        let mut url = base.clone();
        url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), question.path));
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&question.query);
        }
        let mut request = self.http.request(question.method.clone(), url);
        if let Some(body) = &question.body {
            request = request.json(body);
        }
        let response = self.identity.on(request).send().await.map_err(away)?;
        let status = response.status();
        let body = response.bytes().await.map_err(away)?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| Trouble::Odd(error.to_string()));
        }
        let problem: Value = serde_json::from_slice(&body).unwrap_or_default();
        let text = |field: &str| problem.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
        Err(Trouble::Refused { status, code: text("code"), detail: text("detail") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_urls_are_names_and_addresses() {
        let ServiceUrls(urls) = ServiceUrls::parse("order-service=http://a:1, data-platform=https://b/x").expect("two");
        let said: Vec<(Service, &str)> = urls.iter().map(|(service, url)| (*service, url.as_str())).collect();
        assert_eq!(said, [(Service::Order, "http://a:1/"), (Service::DataPlatform, "https://b/x")]);
        for wrong in ["order-service", "nobody=http://a", "order-service=ftp://a", ""] {
            assert!(ServiceUrls::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn without_service_urls_everybody_is_looked_for_who_can_have_dead_letters() {
        let ServiceUrls(urls) = ServiceUrls::default();
        assert!(urls.iter().any(|(service, _)| *service == Service::DataPlatform));
        assert!(urls.iter().all(|(service, _)| *service != Service::OutboxRelay));
    }
}
