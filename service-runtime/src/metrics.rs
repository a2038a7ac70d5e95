//! What `GET /metrics` tells. Everybody counts with the `metrics` crate's macros; this is where the
//! numbers are kept and written out, beside what the operating system knows about the process.
//!
//! A histogram is named `*_seconds`. Names, units and labels belong to who counts, and so does the sentence that
//! stands beside the numbers (`describe_counter!` and the like).

use std::{sync::OnceLock, time::Duration};

use ::metrics::{describe_counter, describe_gauge, describe_histogram};
use anyhow::Context;
use futures::FutureExt;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::tasks::{Next, Rounds, Tasks};

/// Upper bounds in seconds: three per factor of two and a half or so, for p50, p95 and p99 that
/// are right within a third, from half a millisecond to a minute.
const BUCKETS_SECONDS: [f64; 26] = [
    0.0005, 0.00075, 0.001, 0.0015, 0.002, 0.003, 0.004, 0.006, 0.008, 0.012, 0.016, 0.024, 0.032, 0.048, 0.064, 0.1,
    0.15, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0,
];
/// How often samples move into their buckets; until then each takes eight bytes.
const UPKEEP_EVERY: Duration = Duration::from_secs(1);

static RECORDER: OnceLock<PrometheusHandle> = OnceLock::new();

/// Sets up the process's recorder. A second call, as tests make it, changes nothing.
pub(crate) fn start() -> anyhow::Result<()> {
    if RECORDER.get().is_some() {
        return Ok(());
    }
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS_SECONDS)
        .context("the buckets are in order")?
        .build_recorder();
    let handle = recorder.handle();
    if ::metrics::set_global_recorder(recorder).is_ok() {
        describe();
        let _ = RECORDER.set(handle);
    }
    Ok(())
}

fn describe() {
    metrics_process::Collector::default().describe();
    describe_counter!("http_requests_total", "Requests answered, by method, route and status.");
    describe_histogram!("http_request_duration_seconds", "Time to an answer, by method, route and status.");
    describe_counter!("spans_dropped_total", "Spans that were not sent: the queue was full, or the collector away.");
    describe_counter!("task_failures_total", "Rounds and jobs of background tasks that failed, by task and how.");
    describe_gauge!("task_last_good_round_timestamp_seconds", "When a background task last had a good round, by task.");
}

/// Keeps the memory that samples take bounded.
pub(crate) fn keep_up(tasks: &Tasks) {
    tasks.repeat(Rounds::every("metrics-upkeep", UPKEEP_EVERY), (), |()| {
        async {
            if let Some(recorder) = RECORDER.get() {
                recorder.run_upkeep();
            }
            Ok(Next::Later)
        }
        .boxed()
    });
}

/// The text that Prometheus reads.
pub(crate) fn render() -> String {
    metrics_process::Collector::default().collect();
    let text = RECORDER.get().map(PrometheusHandle::render).unwrap_or_default();
    // CPU time has fractions of a second, and the recorder's counters have none: so a gauge keeps it.
    text.replacen("# TYPE process_cpu_seconds_total gauge", "# TYPE process_cpu_seconds_total counter", 1)
}
