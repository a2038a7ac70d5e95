//! What ranking-service does in the background, and that it is noticed when some of it panics.

use ranking_service::store;
use test_support::{Background, Database};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_done_in_the_background_panics_unnoticed() {
    let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
    let variables = [("DATABASE_URL", &*database.url)];
    Background::of_a_consumer().never_panics_unnoticed(env!("CARGO_BIN_EXE_ranking-service"), &variables).await;
}
