//! What the service says of itself, to whoever generates a client from it.

use common_events::Service;
use payment_service::{domain::AccountState, http};
use test_support::{assert_document, assert_words, runtime};

use crate::cashier::Cashier;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_be_generated_from_the_document() {
    let cashier = Cashier::open().await;
    assert_document(&runtime(Service::Payment), cashier.seam.group(), &http::routes(cashier.pool.clone())).await;
}

#[test]
fn words_are_documented_as_they_are_written() {
    assert_words::<AccountState>();
}
