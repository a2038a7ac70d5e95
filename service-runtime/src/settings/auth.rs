//! Who is believed to be who, as the environment says it (docs/contract.md §2).

use std::net::SocketAddr;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{Env, Setting, SettingError};

/// RFC 7518 §3.2: a key of the same size as the hash output or larger.
const MIN_HS256_SECRET_BYTES: usize = 32;

/// Who is believed to be who (docs/contract.md §2).
#[derive(Debug, Clone)]
pub enum AuthSettings {
    /// `AUTH_MODE=header`: a gateway says so in `X-User-Id` and `X-Roles`.
    Header,
    /// `AUTH_MODE=jwt` (the default): a signed token says so.
    Jwt(JwtSettings),
}

/// What a token must be.
#[derive(Debug, Clone)]
pub struct JwtSettings {
    /// What it is signed with.
    pub key: JwtKey,
    /// `AUTH_JWT_AUDIENCE`: whom it must be meant for.
    pub audience: String,
}

/// What a token is signed with, which pins the algorithms.
#[derive(Debug, Clone)]
pub enum JwtKey {
    /// `AUTH_JWT_SECRET`: HS256 only.
    Secret(SecretString),
    /// `AUTH_JWKS_URL`: RS256 or ES256, as the published key says.
    Published(Url),
}

#[derive(Clone, Copy)]
enum AuthMode {
    Header,
    Jwt,
}

impl Setting for AuthMode {
    const MAY_HOLD: &'static str = "jwt or header";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "jwt" => Some(Self::Jwt),
            "header" => Some(Self::Header),
            _ => None,
        }
    }
}

impl AuthSettings {
    pub(super) fn read(env: &Env, http_addr: SocketAddr) -> Result<Self, SettingError> {
        match env.or("AUTH_MODE", AuthMode::Jwt)? {
            AuthMode::Header => {
                if http_addr.ip().is_loopback() || env.or("AUTH_TRUST_GATEWAY", false)? {
                    return Ok(Self::Header);
                }
                let may_hold = "header only where HTTP_ADDR is a loopback address or AUTH_TRUST_GATEWAY is true";
                Err(SettingError::wrong("AUTH_MODE", "header", may_hold))
            }
            AuthMode::Jwt => {
                Ok(Self::Jwt(JwtSettings { key: JwtKey::read(env)?, audience: env.required("AUTH_JWT_AUDIENCE")? }))
            }
        }
    }
}

impl JwtKey {
    fn read(env: &Env) -> Result<Self, SettingError> {
        const MAY_HOLD: &str =
            "a secret of at least 32 bytes (or AUTH_JWKS_URL an URL, but not both; or AUTH_MODE header)";
        let secret: Option<SecretString> = env.optional("AUTH_JWT_SECRET")?;
        let published: Option<Url> = env.optional("AUTH_JWKS_URL")?;
        match (secret, published) {
            (Some(secret), None) if secret.expose_secret().len() >= MIN_HS256_SECRET_BYTES => Ok(Self::Secret(secret)),
            (Some(_), _) => Err(SettingError::wrong("AUTH_JWT_SECRET", "***", MAY_HOLD)),
            (None, Some(url)) => Ok(Self::Published(url)),
            (None, None) => Err(SettingError::missing("AUTH_JWT_SECRET", MAY_HOLD)),
        }
    }
}
