//! Keys that the identity provider publishes: fetched when needed, kept, and fetched again when they are
//! old or a token names one that isn't there; at most every so often, whoever asks.
//!
//! While the provider is away its keys are believed on, for a bounded time. What is unknown then is
//! undecided, and not refused: the provider may know it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use anyhow::ensure;
use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;
use tokio::{
    sync::{Mutex, RwLock},
    time::Instant,
};
use url::Url;

use super::NotBelieved;

/// How long the provider may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// An unknown key id makes us ask again, but not for every forged token.
pub(super) const FETCH_EVERY: Duration = Duration::from_secs(10);
/// Older keys are asked for again: while the provider answers, one that was withdrawn is believed no longer.
pub(super) const FRESH_FOR: Duration = Duration::from_mins(15);
/// While the provider doesn't answer, its keys are believed for so long.
pub(super) const KEPT_FOR: Duration = Duration::from_hours(6);
/// What a provider can publish at most.
const MAX_KEYS: usize = 100;
const MAX_BYTES: usize = 512 * 1024;

/// A key, and the one algorithm it may be used with.
type Key = (DecodingKey, Algorithm);

pub(super) struct Published(Arc<Provider>);

struct Provider {
    client: reqwest::Client,
    url: Url,
    known: RwLock<Known>,
    /// The last time the provider was asked. Held while it is being asked, so that one asks for all, and
    /// tokens with known keys don't wait.
    asked: Mutex<Option<Asked>>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, Key>,
    /// When the keys came.
    fetched: Option<Instant>,
}

#[derive(Clone, Copy)]
struct Asked {
    at: Instant,
    answered: bool,
}

/// A key that may be used, and whether it is time to ask for it again.
enum Found {
    Fresh(Key),
    Old(Key),
}

impl Published {
    pub(super) fn new(url: &Url) -> anyhow::Result<Self> {
        let client = crate::http::client(url, FETCH_TIMEOUT)?;
        Ok(Self(Arc::new(Provider { client, url: url.clone(), known: RwLock::default(), asked: Mutex::default() })))
    }

    /// The key with this id.
    pub(super) async fn key(&self, kid: Option<&str>) -> Result<Key, NotBelieved> {
        match self.0.find(kid).await {
            Some(Found::Fresh(key)) => Ok(key),
            Some(Found::Old(key)) => {
                if self.0.may_be_asked() {
                    drop(self.refresh());
                }
                Ok(key)
            }
            None => {
                let answered = self.refresh().await.unwrap_or(false);
                match self.0.find(kid).await {
                    Some(Found::Fresh(key) | Found::Old(key)) => Ok(key),
                    None if answered => Err(NotBelieved::Unproven),
                    None => Err(NotBelieved::Undecided { retry_after: FETCH_EVERY }),
                }
            }
        }
    }

    /// A task of its own: a caller that gives up half way must not make it as if nobody had asked.
    #[expect(clippy::disallowed_methods, reason = "it asks once; without an answer the next caller asks again")]
    fn refresh(&self) -> tokio::task::JoinHandle<bool> {
        let provider = Arc::clone(&self.0);
        tokio::spawn(async move { provider.refresh().await })
    }
}

impl Provider {
    async fn find(&self, kid: Option<&str>) -> Option<Found> {
        self.known.read().await.find(kid)
    }

    /// Asks for the keys, unless that was done a moment ago. Whether the provider answered, the last time.
    async fn refresh(&self) -> bool {
        let mut asked = self.asked.lock().await;
        if let Some(last) = asked.filter(|last| last.at.elapsed() < FETCH_EVERY) {
            return last.answered;
        }
        let fetched = self.fetch().await;
        let (at, answered) = (Instant::now(), fetched.is_ok());
        match fetched {
            Ok(keys) => *self.known.write().await = Known { keys, fetched: Some(at) },
            Err(error) => tracing::warn!(error = format!("{error:#}"), "the keys at AUTH_JWKS_URL can't be read"),
        }
        *asked = Some(Asked { at, answered });
        answered
    }

    /// Nobody asks just now, and nobody has a moment ago.
    fn may_be_asked(&self) -> bool {
        self.asked.try_lock().is_ok_and(|asked| asked.is_none_or(|last| last.at.elapsed() >= FETCH_EVERY))
    }

    async fn fetch(&self) -> anyhow::Result<HashMap<String, Key>> {
        /// Keys of kinds that nobody here knows are somebody else's.
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<Value>,
        }
        let mut answer = self.client.get(self.url.clone()).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(part) = answer.chunk().await? {
            ensure!(body.len() + part.len() <= MAX_BYTES, "more than {MAX_BYTES} bytes");
            body.extend_from_slice(&part);
        }
        let Set { keys } = serde_json::from_slice(&body)?;
        Ok(keys.into_iter().take(MAX_KEYS).filter_map(usable).collect())
    }
}

impl Known {
    /// A token without a key id is meant for the only key there is.
    fn find(&self, kid: Option<&str>) -> Option<Found> {
        let age = self.fetched.map(|at| at.elapsed()).filter(|age| *age < KEPT_FOR)?;
        let key = match kid {
            Some(kid) => self.keys.get(kid).cloned(),
            None if self.keys.len() == 1 => self.keys.values().next().cloned(),
            None => None,
        }?;
        Some(if age < FRESH_FOR { Found::Fresh(key) } else { Found::Old(key) })
    }
}

/// A key that signatures are verified with, by RS256 or ES256; `None` for one that is published for anything
/// else (RFC 7517 §4.2 to §4.4).
fn usable(jwk: Value) -> Option<(String, Key)> {
    let jwk: Jwk = serde_json::from_value(jwk).ok()?;
    let algorithm = algorithm(&jwk)?;
    let common = &jwk.common;
    let for_signatures = common.public_key_use.as_ref().is_none_or(|meant| *meant == PublicKeyUse::Signature)
        && common.key_operations.as_ref().is_none_or(|meant| meant.contains(&KeyOperations::Verify))
        && common.key_algorithm.is_none_or(|meant| meant == KeyAlgorithm::from(algorithm));
    let key = DecodingKey::from_jwk(&jwk).ok().filter(|_| for_signatures)?;
    Some((jwk.common.key_id.unwrap_or_default(), (key, algorithm)))
}

/// RS256 or ES256, by the kind of the key; other kinds aren't used.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        _ => None,
    }
}
