//! What each process tells Prometheus.

use std::time::Duration;

use anyhow::ensure;
use common_events::Service;
use service_runtime::{http, settings::Url};
use system::{Suite, suite::Instance};
use test_support::faults_of_metrics;

const CALL_TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) async fn each_program_says_of_its_figures_what_they_are(suite: &Suite) -> anyhow::Result<()> {
    for service in Service::ALL {
        let url = Url::parse(&format!("{}/metrics", suite.url(*service, Instance::First)))?;
        let answer = http::client(&url, CALL_TIMEOUT)?.get(url).send().await?.error_for_status()?;
        let text = answer.text().await?;
        let faults = faults_of_metrics(&text);
        ensure!(text.contains("process_start_time_seconds") && faults.is_empty(), "{service}: {faults:#?}");
    }
    Ok(())
}
