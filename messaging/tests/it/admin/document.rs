//! What is said of the operators' calls, to whoever generates a client from it.

use messaging::dead_letters::State;
use service_runtime::http::Routes;
use test_support::{assert_document, assert_words};

use super::Desk;

#[actix_web::test]
async fn a_client_can_be_generated_from_the_document() {
    let desk = Desk::open().await;
    assert_document(&desk.runtime, &desk.group, &Routes::none()).await;
}

#[test]
fn words_are_documented_as_they_are_written() {
    assert_words::<State>();
}
