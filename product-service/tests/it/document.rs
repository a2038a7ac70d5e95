//! What the service says of itself, to whoever generates a client from it.

use common_events::Service;
use product_service::http;
use test_support::{assert_document, runtime};

use crate::shop::Shop;

#[actix_web::test]
async fn a_client_can_be_generated_from_the_document() {
    let shop = Shop::open().await;
    assert_document(&runtime(Service::Product), shop.seam.group(), &http::routes(shop.pool.clone())).await;
}
