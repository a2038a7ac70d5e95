//! What is heard, and the read copy of the products.

use std::collections::{BTreeMap, BTreeSet};

use common_events::{Service, Topic};
use messaging::Delivered;
use order_service::{events, waiting::Waiting};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::shop::{Shop, named, table};

#[test]
fn what_the_catalogue_says_this_service_reads_is_what_it_hears() {
    let subscriptions = events::subscriptions(&Waiting::new(CancellationToken::new()));
    let heard: BTreeSet<Topic> = subscriptions.topics().collect();
    assert_eq!(heard, Topic::read_by(Service::Order).collect());
}

async fn prices(shop: &Shop) -> BTreeMap<String, Value> {
    table(shop, "SELECT product_id, to_jsonb(price) FROM products WHERE product_id LIKE 'mug%'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_highest_version_of_a_product_wins_whenever_it_comes() {
    let shop = Shop::open().await;
    for (price, version, then) in [(200, 2, 200), (100, 1, 200), (300, 3, 300), (300, 3, 300), (200, 2, 300)] {
        shop.hear(named("mug", price, version)).await;
        assert_eq!(prices(&shop).await["mug"], json!(then));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_may_hold_several_versions_of_a_product() {
    let shop = Shop::open().await;
    let versions = [("mug", 100, 1), ("mug2", 7, 1), ("mug", 300, 3), ("mug", 200, 2)];
    let events = versions.map(|(product, price, version)| shop.seam.event(named(product, price, version)));
    assert_eq!(shop.seam.deliver_batch(&events).await, Delivered { applied: 4, ..Delivered::default() });
    assert_eq!(prices(&shop).await, BTreeMap::from([("mug".into(), json!(300)), ("mug2".into(), json!(7))]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_can_be_read_from_its_beginning_again() {
    let shop = Shop::open().await;
    let event = shop.seam.event(named("mug", 100, 1));
    shop.seam.deliver(&event).await;
    shop.hear(named("mug", 200, 2)).await;
    // No inbox row: it is the version that keeps it from being applied again.
    assert_eq!(shop.seam.deliver(&event).await.dead, 0);
    assert_eq!(prices(&shop).await["mug"], json!(200));
}
