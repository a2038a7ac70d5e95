//! What the service says of itself, to whoever generates a client from it.

use common_events::Service;
use ranking_service::{
    domain::{By, Window},
    http,
};
use test_support::{assert_document, assert_words, runtime};

use crate::board::Board;

#[actix_web::test]
async fn a_client_can_be_generated_from_the_document() {
    let board = Board::new().await;
    assert_document(&runtime(Service::Ranking), board.seam.group(), &http::routes(board.pool.clone())).await;
}

#[test]
fn words_are_documented_as_they_are_written() {
    assert_words::<Window>();
    assert_words::<By>();
}
