//! `product-service`: products, prices, stock.

use std::process::ExitCode;

use common_events::Service;
use messaging::{Consumer, admin};
use product_service::{events, http, store};
use service_runtime::idempotency;

fn main() -> ExitCode {
    service_runtime::main(Service::Product, |runtime| async move {
        let pool = runtime.database(&[idempotency::MIGRATIONS, messaging::MIGRATIONS, store::MIGRATIONS]).await?;
        let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions())?;
        let served = runtime.serve(admin::beside(&runtime, &consumer, http::routes(pool))).await;
        consumer.stop().await?;
        served
    })
}
