//! `coupon-service`: coupons, who holds them, and the gate of a sale.

use std::process::ExitCode;

use common_events::{Service, events::CouponIssueRequested};
use coupon_service::{admission::Admission, events, gate::Gate, http, store};
use messaging::{Consumer, admin, direct::Publisher};
use service_runtime::{Runtime, SettingError};
use tokio::sync::mpsc;

fn main() -> ExitCode {
    service_runtime::main(Service::Coupon, run)
}

async fn run(runtime: Runtime) -> anyhow::Result<()> {
    let pool = runtime.database(&[messaging::MIGRATIONS, store::MIGRATIONS]).await?;
    let gate = gate(&runtime)?;
    let publisher = Publisher::start::<CouponIssueRequested>(&runtime, pool.clone()).await?;
    let (settled, settling) = mpsc::channel(events::MAX_UNSETTLED_BATCHES);
    let admission = Admission::start(&runtime, pool.clone(), gate, publisher, settling)?;
    let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions(settled))?;
    let served = runtime.serve(admin::beside(&runtime, &consumer, http::routes(pool, admission.clone()))).await;
    // Both, also when one of them failed.
    let stopped = [consumer.stop().await, admission.stop().await];
    served.and(stopped.into_iter().collect())
}

/// Keys begin with `TOPIC_PREFIX`, so that suites share a Redis as they share a cluster.
fn gate(runtime: &Runtime) -> anyhow::Result<Gate> {
    let redis = runtime.settings.redis_url.as_ref();
    let redis =
        redis.ok_or_else(|| SettingError::missing("REDIS_URL", "a Redis URL such as redis://127.0.0.1:6379"))?;
    let gate = Gate::at(redis, &runtime.settings.kafka.topic_prefix, &runtime.tasks)?;
    let asked = gate.clone();
    runtime.health.probe("redis", move || {
        let asked = asked.clone();
        async move { asked.answers().await }
    });
    Ok(gate)
}
