//! What Zipkin knows of a trace.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use common_events::TraceId;
use serde::Deserialize;

use crate::Parts;

/// A span, as `GET /api/v2/trace/{id}` answers it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Span {
    /// Its id.
    pub id: String,
    /// The span it hangs below.
    pub parent_id: Option<String>,
    /// What was done.
    #[serde(default)]
    pub name: String,
    /// By whom.
    #[serde(default)]
    pub local_endpoint: Endpoint,
}

/// Who made a span.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// The service's name.
    pub service_name: String,
}

/// The spans of a trace that Zipkin has so far.
pub async fn spans(parts: &Parts, trace: TraceId) -> anyhow::Result<Vec<Span>> {
    let url = format!("{}/api/v2/trace/{trace}", parts.zipkin);
    let answer = reqwest::get(&url).await.with_context(|| format!("Zipkin doesn't answer at {url}"))?;
    let answer = answer.error_for_status().context("Zipkin doesn't know the trace yet")?;
    answer.json().await.context("Zipkin's answer")
}

/// The services that took part, when the trace is whole: one root, and every parent is there.
pub fn whole(spans: &[Span]) -> anyhow::Result<BTreeSet<&str>> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.id.as_str()).collect();
    let roots: Vec<&str> =
        spans.iter().filter(|span| span.parent_id.is_none()).map(|span| span.name.as_str()).collect();
    ensure!(roots.len() == 1, "it has the roots {roots:?}");
    for span in spans {
        let parent = span.parent_id.as_deref();
        ensure!(
            parent.is_none_or(|parent| ids.contains(parent)),
            "{} of {} hangs below {parent:?}, which isn't there",
            span.name,
            span.local_endpoint.service_name
        );
    }
    Ok(spans.iter().map(|span| span.local_endpoint.service_name.as_str()).collect())
}
