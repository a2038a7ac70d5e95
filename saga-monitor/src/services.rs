//! The services as an operator reaches them: where each is, who asks, and what a no means. The monitor asks by
//! this, and `sagactl`.
//!
//! A service that is away hides nothing of the others: each answers for itself.

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

/// `SERVICE_URLS`: `order-service=http://127.0.0.1:8081,…`. A name stands several times for several processes.
#[derive(Debug, Clone)]
pub struct ServiceUrls(Vec<(Service, Url)>);

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
    /// Everybody, on this machine, at the usual port (docs/contract.md §1).
    fn default() -> Self {
        let at = |service| {
            let url = format!("http://127.0.0.1:{}", default_port(service));
            (service, Url::parse(&url).expect("an address and a port"))
        };
        Self(Service::ALL.iter().copied().map(at).collect())
    }
}

/// As whom the services are asked (docs/contract.md §2).
#[derive(Clone)]
pub enum Identity {
    /// A JWT with the role.
    Token(SecretString),
    /// `AUTH_MODE=header`: by name, which the gateway, or loopback, vouches for.
    Name(String),
}

impl Identity {
    /// `OPERATOR_TOKEN`, else by this name.
    ///
    /// # Errors
    /// When the token can't be one.
    pub fn read(env: &Env, name: &str) -> Result<Self, SettingError> {
        Ok(env.optional("OPERATOR_TOKEN")?.map_or_else(|| Self::Name(name.to_owned()), Self::Token))
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
pub enum Trouble {
    /// It can't be reached.
    #[error("is away ({0})")]
    Away(String),
    /// It said no.
    #[error("{status}, {code}: {detail}")]
    Refused {
        /// The HTTP status.
        status: StatusCode,
        /// What programs tell problems apart by.
        code: String,
        /// What is wrong with the question.
        detail: String,
    },
    /// What it said can't be read.
    #[error("its answer can't be read: {0}")]
    Odd(String),
}

impl Trouble {
    /// Whether the service said that there is no such thing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::NOT_FOUND, .. })
    }

    /// Whether the service said no, by this code.
    pub fn says(&self, wanted: &str) -> bool {
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
pub type Answer = Result<Value, Trouble>;

/// A question to a service's API.
#[derive(Clone)]
pub struct Question {
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    body: Option<Value>,
    at_most: Option<Duration>,
}

impl Question {
    /// Something to look at.
    pub fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), query: Vec::new(), body: None, at_most: None }
    }

    /// Something to do.
    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self { method: Method::POST, path: path.into(), query: Vec::new(), body: Some(body), at_most: None }
    }

    /// Something that may take this long, instead of as long as all others.
    #[must_use]
    pub fn within(mut self, at_most: Duration) -> Self {
        self.at_most = Some(at_most);
        self
    }

    /// With this parameter.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.query.push((name, value.to_string()));
        self
    }
}

/// One process of a service: which of those that `SERVICE_URLS` names, from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Process {
    pub service: Service,
    pub nth: usize,
}

/// The services, ready to be asked. Cheap to clone.
#[derive(Clone)]
pub struct Services {
    http: Client,
    urls: Vec<(Service, Url)>,
    identity: Identity,
}

impl Services {
    /// Where `SERVICE_URLS` says, asked by this identity, each answer within `at_most`.
    ///
    /// # Errors
    /// When the variable can't be read or names nobody.
    pub fn read(env: &Env, identity: Identity, at_most: Duration) -> anyhow::Result<Self> {
        let ServiceUrls(urls) = env.or("SERVICE_URLS", ServiceUrls::default())?;
        // Certificates are read only where one of them needs any.
        let strictest = urls.iter().map(|(_, url)| url).max_by_key(|url| url.scheme().len());
        let strictest = strictest.context("SERVICE_URLS names no service")?;
        let http = service_runtime::http::client(strictest, at_most)?;
        Ok(Self { http, urls, identity })
    }

    /// The same services, asked by somebody else.
    #[must_use]
    pub fn asked_by(&self, identity: Identity) -> Self {
        Self { identity, ..self.clone() }
    }

    /// Only these of them; all, when none is named.
    ///
    /// # Errors
    /// When `SERVICE_URLS` says nothing of one.
    pub fn only(mut self, only: &[Service]) -> anyhow::Result<Self> {
        if let Some(unknown) = only.iter().find(|service| !self.knows(**service)) {
            anyhow::bail!("SERVICE_URLS says nothing of {unknown}");
        }
        self.urls.retain(|(service, _)| only.is_empty() || only.contains(service));
        Ok(self)
    }

    /// Only those that handle events, and so can have dead letters.
    #[must_use]
    pub fn that_read(mut self) -> Self {
        self.urls.retain(|(service, _)| readers().any(|reader| reader == *service));
        self
    }

    /// Who can be asked.
    pub fn names(&self) -> impl Iterator<Item = Service> + '_ {
        self.processes().filter(|process| process.nth == 0).map(|process| process.service)
    }

    /// Each process that can be asked, as they stand in `SERVICE_URLS`.
    fn processes(&self) -> impl Iterator<Item = Process> + '_ {
        self.urls.iter().enumerate().map(|(at, (service, _))| {
            let nth = self.urls[..at].iter().filter(|(other, _)| other == service).count();
            Process { service: *service, nth }
        })
    }

    /// Whether it is known where that one is.
    pub fn knows(&self, service: Service) -> bool {
        self.names().any(|known| known == service)
    }

    /// Asks all of them the same, at the same time.
    pub async fn ask_all(&self, question: &Question) -> Vec<(Service, Answer)> {
        let asked = self.names().map(async |service| (service, self.ask(service, question).await));
        join_all(asked).await
    }

    /// Asks one of them; of several processes, which have one database, the first.
    ///
    /// # Errors
    /// When it is away, says no, or nothing that can be read.
    pub async fn ask(&self, service: Service, question: &Question) -> Answer {
        self.send(self.url(service)?, question).await
    }

    /// What `GET` of a path answers, as text, of each process that answers it.
    pub async fn texts(&self, path: &str) -> Vec<(Process, String)> {
        let asked = self.processes().zip(&self.urls);
        let asked = asked.map(async |(process, (_, url))| Some((process, self.text(url, path).await.ok()?)));
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn text(&self, base: &Url, path: &str) -> Result<String, Trouble> {
        let (status, body) = self.fetch(base, &Question::get(path)).await?;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        String::from_utf8(body).map_err(|error| Trouble::Odd(error.to_string()))
    }

    fn url(&self, service: Service) -> Result<&Url, Trouble> {
        let known = self.urls.iter().find(|(known, _)| *known == service);
        known.map(|(_, url)| url).ok_or_else(|| Trouble::Away("SERVICE_URLS says nothing of it".to_owned()))
    }

    async fn send(&self, base: &Url, question: &Question) -> Answer {
        let (status, body) = self.fetch(base, question).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| Trouble::Odd(error.to_string()));
        }
        Err(refusal(status, &body))
    }

    async fn fetch(&self, base: &Url, question: &Question) -> Result<(StatusCode, Vec<u8>), Trouble> {
        let mut url = base.clone();
        url.set_path(&format!("{}{}", base.path().trim_end_matches('/'), question.path));
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&question.query);
        }
        let mut request = self.http.request(question.method.clone(), url);
        if let Some(body) = &question.body {
            request = request.json(body);
        }
        if let Some(at_most) = question.at_most {
            request = request.timeout(at_most);
        }
        let response = self.identity.on(request).send().await.map_err(away)?;
        let status = response.status();
        Ok((status, response.bytes().await.map_err(away)?.to_vec()))
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Trouble {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |field: &str| problem.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    Trouble::Refused { status, code: text("code"), detail: text("detail") }
}

/// The services whose dead letters, inboxes and lags are looked at: all that read anything.
pub fn readers() -> impl Iterator<Item = Service> {
    Service::ALL.iter().copied().filter(|service| Topic::read_by(*service).next().is_some())
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
    fn a_name_that_stands_twice_is_one_service_of_two_processes() {
        let env = Env::of([("SERVICE_URLS", "outbox-relay=http://a,order-service=http://b,outbox-relay=http://c")]);
        let services = Services::read(&env, Identity::Name("olga".to_owned()), Duration::from_secs(1)).expect("three");
        assert!(services.names().eq([Service::OutboxRelay, Service::Order]));
        let processes: Vec<(Service, usize)> = services.processes().map(|one| (one.service, one.nth)).collect();
        assert_eq!(processes, [(Service::OutboxRelay, 0), (Service::Order, 0), (Service::OutboxRelay, 1)]);
    }

    #[test]
    fn without_service_urls_everybody_is_looked_for_who_can_have_dead_letters() {
        let identity = Identity::Name("olga".to_owned());
        let nothing_said = Env::of([("", ""); 0]);
        let services = Services::read(&nothing_said, identity, Duration::from_secs(1)).expect("the usual ports");
        assert!(services.knows(Service::OutboxRelay));
        let names: Vec<Service> = services.that_read().names().collect();
        assert!(names.contains(&Service::DataPlatform) && !names.contains(&Service::OutboxRelay), "{names:?}");
    }
}
