//! Who had sagas resumed, why, and with what result: rows of the `audit_log` that every service has. Nothing is
//! ever changed there.

use common_events::TraceId;
use messaging::Tx;
use serde_json::Value;
use tokio_postgres::Error;
use uuid::Uuid;

/// How what was asked for ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused.
    Refused,
}

/// A resume that was asked for.
#[derive(Debug, Clone)]
pub struct Act<'a> {
    /// Who asked.
    pub who: &'a str,
    /// The saga, as it was called.
    pub saga: &'a str,
    /// Why, in his words.
    pub reason: &'a str,
    /// The trace of the request.
    pub trace: Option<TraceId>,
}

/// Writes an act and what came of it down.
pub async fn insert_act(tx: &Tx<'_>, act: &Act<'_>, outcome: Outcome, detail: &Value) -> Result<(), Error> {
    let result = match outcome {
        Outcome::Done => "DONE",
        Outcome::Refused => "REFUSED",
    };
    tx.execute(
        "INSERT INTO audit_log (id, who, action, subject, reason, result, detail, trace_id)
         VALUES ($1, $2, 'resume', $3, $4, $5, $6, $7)",
        &[
            &Uuid::now_v7(),
            &act.who,
            &serde_json::json!({"saga": act.saga}),
            &act.reason,
            &result,
            detail,
            &act.trace.map(|trace| trace.to_string()),
        ],
    )
    .await?;
    Ok(())
}
