//! Log lines: JSON or text on standard output, each with the trace it was written in.

use std::fmt;

use common_events::Service;
use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
    util::SubscriberInitExt,
};

use crate::settings::{CommonSettings, LogFormat};

/// What says at "info" what is nobody's news; `RUST_LOG` may name them again.
const QUIETER: &str = "actix_server=warn,refinery_core=warn,tokio_postgres=warn";

/// Sets up the process's log. A second call, as tests make it, changes nothing.
pub fn start_logs(service: Service, settings: &CommonSettings) {
    let filter = EnvFilter::new(format!("{QUIETER},{}", settings.log_filter));
    let lines = tracing_subscriber::fmt::layer();
    let outcome = match settings.log_format {
        LogFormat::Json => {
            let format = tracing_subscriber::fmt::format().json().flatten_event(true).with_current_span(true);
            let lines = lines.json().event_format(JsonLine { format: format.with_span_list(false), service });
            tracing_subscriber::registry().with(filter).with(lines).try_init()
        }
        LogFormat::Text => {
            let lines = lines.event_format(TextLine(tracing_subscriber::fmt::format().compact()));
            tracing_subscriber::registry().with(filter).with(lines).try_init()
        }
    };
    // Only a log that is there already refuses.
    drop(outcome);
}

type Json = tracing_subscriber::fmt::format::Format<tracing_subscriber::fmt::format::Json>;
type Compact = tracing_subscriber::fmt::format::Format<tracing_subscriber::fmt::format::Compact>;

/// A JSON line that begins with the service and, within a trace, its id. Taken from the task
/// when a line is written, so that a request that writes none pays nothing.
struct JsonLine {
    format: Json,
    service: Service,
}

impl<S, N> FormatEvent<S, N> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::with_capacity(256);
        self.format.format_event(context, Writer::new(&mut line), event)?;
        write!(to, r#"{{"service":"{}","#, self.service)?;
        if let Some(trace) = super::current() {
            write!(to, r#""traceid":"{}","#, trace.trace_id)?;
        }
        to.write_str(line.strip_prefix('{').unwrap_or(&line))
    }
}

/// A line for people, with the trace id before it.
struct TextLine(Compact);

impl<S, N> FormatEvent<S, N> for TextLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut to: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        if let Some(trace) = super::current() {
            write!(to, "{} ", trace.trace_id)?;
        }
        self.0.format_event(context, to, event)
    }
}
