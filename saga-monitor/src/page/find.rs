//! `/find`: whatever somebody has in his hands: an order, a trace, an event.

use actix_web::{HttpResponse, web::Query};
use common_events::EventId;
use serde::Deserialize;
use service_runtime::Problem;

use super::{
    Visitor, see,
    show::{query, saga_path},
};
use crate::store::sagas;

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    q: String,
}

/// A saga by its key or trace; else the event; else what happened with that key.
pub(super) async fn find(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let text = wanted.into_inner().q.trim().replace('\0', "");
    if text.is_empty() {
        return Ok(see("/sagas"));
    }
    let client = visitor.desk.pool.get().await?;
    if !sagas::find_sagas(&client, &text).await?.is_empty() {
        return Ok(see(&saga_path(&text.to_ascii_lowercase())));
    }
    if let Ok(event) = text.parse::<EventId>() {
        return Ok(see(&format!("/where{}", query([("event", &*event.to_string())]))));
    }
    Ok(see(&format!("/events{}", query([("key", &*text)]))))
}
