//! Keys that the identity provider publishes: fetched when needed, kept, and fetched again when a
//! token names one that isn't there, at most every so often, whoever asks.

use std::{collections::HashMap, time::Duration};

use jsonwebtoken::{
    Algorithm, DecodingKey,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet},
};
use tokio::{
    sync::{Mutex, RwLock},
    time::Instant,
};
use url::Url;

/// How long the provider may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(3);
/// An unknown key id makes us ask again, but not for every forged token.
const FETCH_EVERY: Duration = Duration::from_secs(10);
/// A key that was withdrawn is believed no longer than this.
const KEPT: Duration = Duration::from_hours(1);
/// What a provider can publish at most.
const MAX_KEYS: usize = 100;

pub(super) struct Published {
    client: reqwest::Client,
    url: Url,
    known: RwLock<Known>,
    /// When the provider was last asked, with whatever outcome. Held while it is being asked, so
    /// that one asks for all, and tokens with known keys don't wait.
    asked: Mutex<Option<Instant>>,
}

#[derive(Default)]
struct Known {
    keys: HashMap<String, (DecodingKey, Algorithm)>,
    /// When the keys came.
    fetched: Option<Instant>,
}

impl Published {
    pub(super) fn new(url: &Url) -> anyhow::Result<Self> {
        let client = crate::http::client(url, FETCH_TIMEOUT)?;
        Ok(Self { client, url: url.clone(), known: RwLock::default(), asked: Mutex::default() })
    }

    /// The key with this id, and the one algorithm it may be used with.
    pub(super) async fn key(&self, kid: Option<&str>) -> Option<(DecodingKey, Algorithm)> {
        let find = async || self.known.read().await.find(kid);
        if let Some(key) = find().await {
            return Some(key);
        }
        let mut asked = self.asked.lock().await;
        let key = find().await;
        if key.is_some() || asked.is_some_and(|at| at.elapsed() < FETCH_EVERY) {
            return key;
        }
        *asked = Some(Instant::now());
        match self.fetch().await {
            Ok(keys) => *self.known.write().await = Known { keys, fetched: Some(Instant::now()) },
            Err(error) => tracing::warn!(error = crate::chain(&error), "the keys at AUTH_JWKS_URL can't be read"),
        }
        find().await
    }

    async fn fetch(&self) -> Result<HashMap<String, (DecodingKey, Algorithm)>, reqwest::Error> {
        let set: JwkSet = self.client.get(self.url.clone()).send().await?.error_for_status()?.json().await?;
        let usable = set.keys.iter().take(MAX_KEYS).filter_map(|jwk| {
            let kid = jwk.common.key_id.clone().unwrap_or_default();
            Some((kid, (DecodingKey::from_jwk(jwk).ok()?, algorithm(jwk)?)))
        });
        Ok(usable.collect())
    }
}

impl Known {
    /// A token without a key id is meant for the only key there is.
    fn find(&self, kid: Option<&str>) -> Option<(DecodingKey, Algorithm)> {
        if self.fetched.is_none_or(|at| at.elapsed() >= KEPT) {
            return None;
        }
        match kid {
            Some(kid) => self.keys.get(kid).cloned(),
            None if self.keys.len() == 1 => self.keys.values().next().cloned(),
            None => None,
        }
    }
}

/// RS256 or ES256, by the kind of the key; other kinds aren't used.
fn algorithm(jwk: &Jwk) -> Option<Algorithm> {
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Some(Algorithm::RS256),
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Some(Algorithm::ES256),
        _ => None,
    }
}
