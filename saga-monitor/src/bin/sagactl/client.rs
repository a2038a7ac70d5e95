//! The services as `sagactl` asks them: as whoever sits at the keyboard.

use std::time::Duration;

use common_events::Service;
use saga_monitor::services::Identity;
pub(crate) use saga_monitor::services::{Answer, Question, Services, Trouble};
use service_runtime::settings::Env;

/// How long a service may take to answer: a replay of many is planned in one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// Who asks, when neither `LOCAL_OPERATOR` nor `USER` says it.
const NAMELESS: &str = "sagactl";

/// Those that can have dead letters, where `SERVICE_URLS` says; those named by `only`, or all.
pub(crate) fn read(env: &Env, only: &[Service]) -> anyhow::Result<Services> {
    all(env)?.that_read().only(only)
}

/// The monitor, where `SERVICE_URLS` says.
pub(crate) fn monitor(env: &Env) -> anyhow::Result<Services> {
    all(env)?.only(&[Service::SagaMonitor])
}

fn all(env: &Env) -> anyhow::Result<Services> {
    let name = env.text("LOCAL_OPERATOR").or_else(|| env.text("USER")).unwrap_or(NAMELESS);
    Services::read(env, Identity::read(env, name)?, CALL_TIMEOUT)
}
