//! What the service says of itself, to whoever generates a client from it.

use common_events::Service;
use service_runtime::http::Routes;
use test_support::{assert_document, runtime};

use crate::{delivering::Desk, outside::Outside};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_be_generated_from_the_document() {
    let desk = Desk::open(Outside::that_takes().await).await;
    assert_document(&runtime(Service::DataPlatform), desk.seam.group(), &Routes::none()).await;
}
