//! `ranking-service`: sales rankings.

use std::process::ExitCode;

use common_events::Service;
use messaging::{Consumer, admin};
use ranking_service::{events, http, store};

fn main() -> ExitCode {
    service_runtime::main(Service::Ranking, |runtime| async move {
        let pool = runtime.database(&[messaging::MIGRATIONS, store::MIGRATIONS]).await?;
        let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions())?;
        let served = runtime.serve(admin::beside(&runtime, &consumer, http::routes(pool))).await;
        consumer.stop().await?;
        served
    })
}
