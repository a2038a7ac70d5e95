//! Signed tokens. The algorithm is pinned by our own key, never by the token.

use anyhow::Context;
use common_events::UserId;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use secrecy::ExposeSecret;
use serde::Deserialize;

use super::{Caller, NotBelieved, Roles, jwks::Published};
use crate::settings::{JwtKey, JwtSettings};

/// Clocks of different machines differ.
const LEEWAY_SECONDS: u64 = 30;
/// Longer tokens aren't even looked at.
const MAX_TOKEN_BYTES: usize = 16 * 1024;

pub(super) struct Verifier {
    keys: Keys,
    audience: String,
}

enum Keys {
    Secret(DecodingKey),
    Published(Box<Published>),
}

#[derive(Deserialize)]
struct Claims {
    sub: UserId,
    #[serde(default)]
    roles: Vec<String>,
}

impl Verifier {
    pub(super) fn new(settings: &JwtSettings) -> anyhow::Result<Self> {
        let keys = match &settings.key {
            JwtKey::Secret(secret) => Keys::Secret(DecodingKey::from_secret(secret.expose_secret().as_bytes())),
            JwtKey::Published(url) => {
                Keys::Published(Box::new(Published::new(url).context("setting up AUTH_JWKS_URL")?))
            }
        };
        Ok(Self { keys, audience: settings.audience.clone() })
    }

    pub(super) async fn verify(&self, token: &str) -> Result<Caller, NotBelieved> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(NotBelieved::Unproven);
        }
        match &self.keys {
            Keys::Secret(key) => self.read(token, key, Algorithm::HS256),
            Keys::Published(published) => {
                let header = decode_header(token).map_err(|_| NotBelieved::Unproven)?;
                let (key, algorithm) = published.key(header.kid.as_deref()).await?;
                self.read(token, &key, algorithm)
            }
        }
    }

    fn read(&self, token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Caller, NotBelieved> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "aud", "sub"]);
        let claims = decode::<Claims>(token, key, &validation).map_err(|_| NotBelieved::Unproven)?.claims;
        Ok(Caller { user_id: claims.sub, roles: Roles::of(claims.roles.iter().map(String::as_str)) })
    }
}
