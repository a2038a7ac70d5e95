//! What saga-monitor does in the background, and that it is noticed when some of it panics.

use saga_monitor::store;
use test_support::{Background, Database};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_done_in_the_background_panics_unnoticed() {
    let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
    let variables = [("DATABASE_URL", &*database.url), ("ALARM_WEBHOOK_URL", "http://127.0.0.1:1/")];
    Background::of_a_consumer()
        .with_rounds(["recorder", "detection", "alarm-webhook", "observation"])
        .with_jobs(["readable-events"])
        .never_panics_unnoticed(env!("CARGO_BIN_EXE_saga-monitor"), &variables)
        .await;
}
