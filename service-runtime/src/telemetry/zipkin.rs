//! Zipkin v2 JSON (`POST /api/v2/spans`), as no kept crate writes it with the service's name.

use std::{
    borrow::Cow,
    time::{Duration, SystemTime},
};

use anyhow::Context;
use common_events::Service;
use serde::{Serialize, Serializer, ser::SerializeMap};
use url::Url;

use super::{Span, SpanKind};

pub(super) struct Zipkin {
    client: reqwest::Client,
    endpoint: Url,
    service: &'static str,
}

impl Zipkin {
    pub(super) fn new(endpoint: &Url, service: Service, at_most: Duration) -> anyhow::Result<Self> {
        let client = crate::http::client(endpoint, at_most)?;
        Ok(Self { client, endpoint: endpoint.clone(), service: service.name() })
    }

    pub(super) async fn send(&self, spans: &[Span]) -> anyhow::Result<()> {
        let wire: Vec<_> = spans.iter().map(|span| WireSpan::of(span, self.service)).collect();
        let body = serde_json::to_vec(&wire).context("spans as JSON")?;
        let request = self.client.post(self.endpoint.clone()).header("content-type", "application/json").body(body);
        request.send().await.context("sending spans to Zipkin")?.error_for_status().context("Zipkin refused spans")?;
        Ok(())
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireSpan<'a> {
    trace_id: String,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    name: &'a str,
    timestamp: u64,
    duration: u64,
    local_endpoint: Endpoint,
    tags: Tags<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    service_name: &'static str,
}

struct Tags<'a> {
    tags: &'a [(&'static str, Cow<'static, str>)],
    error: Option<&'a str>,
}

impl Serialize for Tags<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        for (name, value) in self.tags {
            map.serialize_entry(name, value)?;
        }
        if let Some(error) = self.error {
            map.serialize_entry("error", error)?;
        }
        map.end()
    }
}

impl<'a> WireSpan<'a> {
    fn of(span: &'a Span, service_name: &'static str) -> Self {
        let duration = span.end.duration_since(span.start).unwrap_or_default();
        Self {
            trace_id: span.me.trace_id.to_string(),
            id: span.me.span_id.to_string(),
            parent_id: span.parent.map(|parent| parent.to_string()),
            kind: match span.kind {
                SpanKind::Client => Some("CLIENT"),
                SpanKind::Server => Some("SERVER"),
                SpanKind::Producer => Some("PRODUCER"),
                SpanKind::Consumer => Some("CONSUMER"),
                SpanKind::Internal => None,
            },
            name: &span.name,
            timestamp: microseconds(span.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()),
            // Zipkin takes 0 for "not known".
            duration: microseconds(duration).max(1),
            local_endpoint: Endpoint { service_name },
            tags: Tags { tags: &span.tags, error: span.error.as_deref() },
        }
    }
}

fn microseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_what_zipkin_reads() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("valid");
        let me = crate::telemetry::child_of(parent);
        let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1);
        let span = Span {
            name: "POST /orders".into(),
            kind: SpanKind::Server,
            me,
            parent: Some(parent.span_id),
            start,
            end: start + Duration::from_millis(3),
            tags: vec![("http.status_code", "500".into())],
            error: Some("broken".to_owned()),
        };
        assert_eq!(
            serde_json::to_value(WireSpan::of(&span, "order-service")).expect("JSON"),
            serde_json::json!({
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736", "id": me.span_id.to_string(),
                "parentId": "00f067aa0ba902b7", "kind": "SERVER", "name": "POST /orders",
                "timestamp": 1_000_000, "duration": 3_000, "localEndpoint": {"serviceName": "order-service"},
                "tags": {"http.status_code": "500", "error": "broken"},
            })
        );
    }
}
