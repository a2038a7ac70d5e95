//! `coupon-service`: coupons, who holds them, and the gate of a sale.

use std::process::ExitCode;

use common_events::Service;
use coupon_service::{events, http, store};
use messaging::Consumer;
use service_runtime::Runtime;
use tokio::sync::mpsc;

fn main() -> ExitCode {
    service_runtime::main(Service::Coupon, run)
}

async fn run(runtime: Runtime) -> anyhow::Result<()> {
    let pool = runtime.database(&[messaging::MIGRATIONS, store::MIGRATIONS]).await?;
    let (settled, _settling) = mpsc::channel(events::MAX_UNSETTLED_BATCHES);
    let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions(settled))?;
    let served = runtime.serve(http::routes(pool)).await;
    consumer.stop().await?;
    served
}
