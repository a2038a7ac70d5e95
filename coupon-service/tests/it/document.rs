//! What the service says of itself, to whoever generates a client from it.

use test_support::assert_document;

use crate::desk::Desk;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_be_generated_from_the_document() {
    let desk = Desk::open().await;
    assert_document(&desk.runtime, desk.counter.seam.group(), &desk.routes()).await;
}
