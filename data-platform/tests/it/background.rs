//! What data-platform does in the background, and that it is noticed when some of it panics.

use test_support::{Background, Database};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_done_in_the_background_panics_unnoticed() {
    let database = Database::new(&[messaging::MIGRATIONS]).await;
    let variables = [("DATABASE_URL", &*database.url), ("DATA_PLATFORM_URL", "http://127.0.0.1:1/")];
    Background::of_a_consumer().never_panics_unnoticed(env!("CARGO_BIN_EXE_data-platform"), &variables).await;
}
