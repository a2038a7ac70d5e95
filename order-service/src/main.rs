//! The process: HTTP, the consumer group, and the sweep for orders that take too long.

use std::process::ExitCode;

use anyhow::Context;
use chrono::TimeDelta;
use common_events::Service;
use messaging::{Consumer, admin};
use order_service::{events, http, store, timeout, waiting::Waiting};
use service_runtime::{Runtime, idempotency};

fn main() -> ExitCode {
    service_runtime::main(Service::Order, run)
}

async fn run(runtime: Runtime) -> anyhow::Result<()> {
    let order_timeout = TimeDelta::from_std(runtime.settings.retry.order_timeout).context("ORDER_TIMEOUT")?;
    let pool = runtime.database(&[idempotency::MIGRATIONS, messaging::MIGRATIONS, store::MIGRATIONS]).await?;
    let waiting = Waiting::new(runtime.shutdown.clone());
    let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions(&waiting))?;
    waiting.look_for_endings(&runtime.tasks, pool.clone());
    timeout::sweep_on(&runtime.tasks, pool.clone(), waiting.clone(), order_timeout);
    let served = runtime.serve(admin::beside(&runtime, &consumer, http::routes(pool, waiting))).await;
    consumer.stop().await?;
    served
}
