//! `data-platform`: completed payments, sent to the outside platform.

use std::process::ExitCode;

use common_events::Service;
use data_platform::{
    events,
    platform::{Platform, Settings},
};
use messaging::{Consumer, admin};
use service_runtime::http::Routes;

fn main() -> ExitCode {
    service_runtime::main(Service::DataPlatform, |runtime| async move {
        let platform = Platform::new(&Settings::read(&runtime.env)?)?;
        let pool = runtime.database(&[messaging::MIGRATIONS]).await?;
        let consumer = Consumer::start(&runtime, pool, events::subscriptions(platform))?;
        let served = runtime.serve(admin::beside(&runtime, &consumer, Routes::none())).await;
        consumer.stop().await?;
        served
    })
}
