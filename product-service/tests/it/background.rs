//! What product-service does in the background, and that it is noticed when some of it panics.

use product_service::store;
use service_runtime::idempotency;
use test_support::{Background, Database};

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_is_done_in_the_background_panics_unnoticed() {
    let database = Database::new(&[idempotency::MIGRATIONS, messaging::MIGRATIONS, store::MIGRATIONS]).await;
    let variables = [("DATABASE_URL", &*database.url)];
    Background::of_a_consumer()
        .with_rounds(["idempotency-keys"])
        .never_panics_unnoticed(env!("CARGO_BIN_EXE_product-service"), &variables)
        .await;
}
