//! `Idempotency-Key`: a call that is sent again gets the answer it got first (docs/contract.md §3).
//!
//! The key is locked and its answer stored in the transaction of the call's own effects, so there
//! is never one without the other. What is refused rolls back, and is forgotten with it.
//!
//! ```text
//! let tx = client.transaction().await?;
//! let pending = match idempotency::begin(&tx, &caller.user_id, "POST /orders", &key, &request).await? {
//!     Attempt::First(pending) => pending,
//!     Attempt::Repeat(answer) => return Ok(answer.into()),
//! };
//! // … effects …
//! let answer = pending.remember(&tx, StatusCode::ACCEPTED, Some(location), &body).await?;
//! tx.commit().await?;
//! Ok(answer.into())
//! ```

mod clean_up;
mod key;

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use actix_web::{
    HttpResponse,
    http::{StatusCode, header},
};
pub(crate) use clean_up::keep_clean;
use common_events::UserId;
use deadpool_postgres::GenericClient;
pub use key::{IdempotencyKey, OptionalIdempotencyKey};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::{
    Problem,
    database::Migrations,
    museum::{self, Bug},
};

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The table of answers; goes into [`crate::Runtime::database`], which then also cleans it up.
pub const MIGRATIONS: Migrations =
    Migrations { table: "service_runtime_migrations", runner: embedded::migrations::runner };

const BEGIN: &str = "SELECT locked, request_hash, status, location, body FROM begin_idempotent($1, $2, $3, $4)";
const REMEMBER: &str = "INSERT INTO idempotency_keys (user_id, call, key, request_hash, status, location, body) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING";

/// Whether this call is the first with its key.
#[derive(Debug)]
pub enum Attempt {
    /// It is: do it, and [`Pending::remember`] the answer.
    First(Pending),
    /// It was done before: this was the answer.
    Repeat(StoredAnswer),
}

/// A first call whose answer isn't known yet. Holds the key until the transaction ends.
#[derive(Debug)]
#[must_use = "an answer that isn't remembered is given twice"]
pub struct Pending {
    user_id: UserId,
    call: &'static str,
    key: IdempotencyKey,
    request_hash: [u8; 32],
}

/// The answer of the first call, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredAnswer {
    /// Its status.
    pub status: StatusCode,
    /// Its `Location`, if it had one.
    pub location: Option<String>,
    /// Its JSON body.
    pub body: String,
}

/// Why a call with a key can't go on.
#[derive(Debug, thiserror::Error)]
pub enum IdempotencyError {
    /// The key was used for another request.
    #[error("the idempotency key was used for another request")]
    Reused,
    /// The first call with this key still runs.
    #[error("the first call with this idempotency key still runs")]
    InUse,
    /// The request, or the answer, is nothing that can be written as JSON.
    #[error("a request or an answer that is no JSON")]
    Json(#[from] serde_json::Error),
    /// The database failed.
    #[error("the database failed on an idempotency key")]
    Database(#[from] tokio_postgres::Error),
}

/// Takes the key for this caller and call (such as `POST /orders`). One statement; `tx` is the
/// transaction (READ COMMITTED) of the call's effects.
pub async fn begin(
    tx: &impl GenericClient,
    user_id: &UserId,
    call: &'static str,
    key: &IdempotencyKey,
    request: &impl Serialize,
) -> Result<Attempt, IdempotencyError> {
    let everybody = museum::is_back(Bug::KeyOfEverybody).then(|| "everybody".to_owned().try_into().ok()).flatten();
    let user_id = everybody.as_ref().unwrap_or(user_id);
    let request_hash: [u8; 32] = Sha256::digest(serde_json::to_vec(request)?).into();
    let statement = tx.prepare_cached(BEGIN).await?;
    let row =
        tx.query_one(&statement, &[&lock_of(user_id, call, key), &user_id.as_str(), &call, &key.as_str()]).await?;
    if !row.get::<_, bool>("locked") {
        return Err(IdempotencyError::InUse);
    }
    let Some(stored_hash) = row.get::<_, Option<&[u8]>>("request_hash") else {
        if museum::is_back(Bug::RefusalKeepsKey) && !is_new(lock_of(user_id, call, key)) {
            return Err(IdempotencyError::InUse);
        }
        return Ok(Attempt::First(Pending { user_id: user_id.clone(), call, key: key.clone(), request_hash }));
    };
    if stored_hash != request_hash {
        return Err(IdempotencyError::Reused);
    }
    let status = u16::try_from(row.get::<_, i16>("status")).ok().and_then(|code| StatusCode::from_u16(code).ok());
    Ok(Attempt::Repeat(StoredAnswer {
        status: status.unwrap_or(StatusCode::OK),
        location: row.get("location"),
        body: row.get("body"),
    }))
}

/// The advisory lock of a key: 64 bits of its hash. Lengths keep the parts apart.
fn lock_of(user_id: &UserId, call: &str, key: &IdempotencyKey) -> i64 {
    let mut hash = Sha256::new();
    for part in [user_id.as_str(), call, key.as_str()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let hash: [u8; 32] = hash.finalize().into();
    i64::from_be_bytes(hash[..8].try_into().expect("8 of 32 bytes"))
}

/// Of a bug: whether the key wasn't seen before.
fn is_new(key: i64) -> bool {
    static SEEN: Mutex<BTreeSet<i64>> = Mutex::new(BTreeSet::new());
    SEEN.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
}

impl Pending {
    /// Stores the answer in the same transaction, and gives it back as it will be repeated.
    ///
    /// # Panics
    /// Never: every status fits.
    pub async fn remember(
        self,
        tx: &impl GenericClient,
        status: StatusCode,
        location: Option<String>,
        body: &impl Serialize,
    ) -> Result<StoredAnswer, IdempotencyError> {
        let answer = StoredAnswer { status, location, body: serde_json::to_string(body)? };
        let code = i16::try_from(status.as_u16()).expect("a status has three digits");
        let hash: &[u8] = &self.request_hash;
        let statement = tx.prepare_cached(REMEMBER).await?;
        let (user_id, key) = (self.user_id.as_str(), self.key.as_str());
        let stored =
            tx.execute(&statement, &[&user_id, &self.call, &key, &hash, &code, &answer.location, &answer.body]).await?;
        if stored == 1 { Ok(answer) } else { Err(IdempotencyError::InUse) }
    }
}

impl From<StoredAnswer> for HttpResponse {
    fn from(answer: StoredAnswer) -> Self {
        let mut response = Self::build(answer.status);
        response.content_type("application/json");
        if let Some(location) = answer.location {
            response.insert_header((header::LOCATION, location));
        }
        response.body(answer.body)
    }
}

impl From<IdempotencyError> for Problem {
    fn from(error: IdempotencyError) -> Self {
        match error {
            IdempotencyError::Reused => Self::unprocessable(
                "idempotency-key-reused",
                "This Idempotency-Key was used for a request with another body.",
            ),
            IdempotencyError::InUse => Self::conflict(
                "idempotency-key-in-use",
                "The first request with this Idempotency-Key has not been answered yet.",
            ),
            IdempotencyError::Json(error) => Self::internal(error),
            IdempotencyError::Database(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests;
