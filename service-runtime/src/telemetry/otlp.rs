//! OTLP over HTTP, for collectors other than Zipkin.

use std::time::Duration;

use anyhow::Context;
use common_events::Service;
use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState},
};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanExporter, SpanLinks},
};
use url::Url;

use super::{Span, SpanKind};

pub(super) struct Otlp {
    exporter: OtlpExporter,
    scope: InstrumentationScope,
}

impl Otlp {
    pub(super) fn new(endpoint: &Url, service: Service, at_most: Duration) -> anyhow::Result<Self> {
        let traces = format!("{}/v1/traces", endpoint.as_str().trim_end_matches('/'));
        let mut exporter = OtlpExporter::builder()
            .with_http()
            .with_http_client(crate::http::client(endpoint, at_most)?)
            .with_endpoint(traces)
            .with_timeout(at_most)
            .build()
            .context("setting up OTLP")?;
        exporter.set_resource(&Resource::builder_empty().with_service_name(service.name()).build());
        Ok(Self { exporter, scope: InstrumentationScope::builder("service-runtime").build() })
    }

    pub(super) async fn send(&self, spans: &mut Vec<Span>) -> anyhow::Result<()> {
        let batch = spans.drain(..).map(|span| self.data(span)).collect();
        self.exporter.export(batch).await.context("sending spans by OTLP")
    }

    fn data(&self, span: Span) -> SpanData {
        let trace_id = TraceId::from_bytes(span.me.trace_id.bytes());
        let span_id = SpanId::from_bytes(span.me.span_id.bytes());
        SpanData {
            span_context: SpanContext::new(trace_id, span_id, TraceFlags::SAMPLED, false, TraceState::NONE),
            parent_span_id: span.parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.bytes())),
            parent_span_is_remote: matches!(span.kind, SpanKind::Server | SpanKind::Consumer),
            span_kind: match span.kind {
                SpanKind::Client => OtelKind::Client,
                SpanKind::Server => OtelKind::Server,
                SpanKind::Producer => OtelKind::Producer,
                SpanKind::Consumer => OtelKind::Consumer,
                SpanKind::Internal => OtelKind::Internal,
            },
            name: span.name,
            start_time: span.start,
            end_time: span.end,
            attributes: span.tags.into_iter().map(|(name, value)| KeyValue::new(name, value.into_owned())).collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: span.error.map_or(Status::Unset, Status::error),
            instrumentation_scope: self.scope.clone(),
        }
    }
}
