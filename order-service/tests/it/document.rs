//! What the service says of itself, to whoever generates a client from it.

use common_events::Service;
use order_service::{domain::Status, http};
use test_support::{assert_document, assert_words, runtime};

use crate::shop::Shop;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_be_generated_from_the_document() {
    let shop = Shop::open().await;
    let routes = http::routes(shop.database.pool.clone(), shop.waiting.clone());
    assert_document(&runtime(Service::Order), shop.seam.group(), &routes).await;
}

#[test]
fn words_are_documented_as_they_are_written() {
    assert_words::<Status>();
}
