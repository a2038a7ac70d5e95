//! `GET /orders`.

use chrono::{DateTime, SubsecRound, Utc};
use reqwest::{Method, StatusCode};
use serde_json::Value;
use test_support::made_at;

use crate::shop::{Shop, order_id, read, refused};

async fn list(shop: &Shop, query: &str) -> Value {
    let (status, page) = read(shop.ask(Method::GET, &format!("/orders{query}"))).await;
    assert_eq!(status, StatusCode::OK, "{page}");
    page
}

fn ids(page: &Value) -> Vec<common_events::OrderId> {
    page["items"].as_array().expect("items").iter().map(order_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_lists_his_own_orders_newest_first_page_by_page() {
    let shop = Shop::open().await;
    assert_eq!(list(&shop, "").await, serde_json::json!({"items": []}));
    let mut placed = Vec::new();
    for _ in 0..5 {
        placed.push(shop.place(&["cup"]).await);
    }
    placed.reverse();
    assert_eq!(ids(&list(&shop, "").await), placed);

    let mut paged = Vec::new();
    let mut query = "?limit=2".to_owned();
    for expected in [2, 2, 1] {
        let page = list(&shop, &query).await;
        assert_eq!(ids(&page).len(), expected);
        paged.extend(ids(&page));
        query = format!("?limit=2&cursor={}", page["nextCursor"].as_str().unwrap_or_default());
    }
    assert!(query.ends_with("cursor="), "the last page names no next one");
    assert_eq!(paged, placed);

    let (_, lees) = read(shop.ask_as("lee", "operator", Method::GET, "/orders")).await;
    assert!(ids(&lees).is_empty(), "an operator's own orders are listed, too, not everybody's");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_is_so_by_its_id_and_by_when_it_was_placed() {
    let shop = Shop::open().await;
    for _ in 0..20 {
        shop.place(&["cup"]).await;
    }
    let page = list(&shop, "").await;
    let placed = |order: &Value| -> DateTime<Utc> {
        serde_json::from_value(order["createdAt"].clone()).expect("when it was placed")
    };
    let times: Vec<_> = page["items"].as_array().expect("items").iter().map(placed).collect();
    assert!(times.is_sorted_by(|newer, older| newer > older), "{times:?}");
    let by_id: Vec<_> = ids(&page).iter().map(|id| made_at(id.uuid())).collect();
    assert_eq!(by_id, times.iter().map(|at| at.trunc_subsecs(3)).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_can_be_of_one_status() {
    let shop = Shop::open().await;
    let (pending, confirmed) = (shop.place(&["cup"]).await, shop.place_confirmed().await);
    let cancelled = shop.place_cancelled(None).await;
    for (status, found) in [("PENDING", pending), ("CONFIRMED", confirmed), ("CANCELLED", cancelled)] {
        assert_eq!(ids(&list(&shop, &format!("?status={status}")).await), [found]);
    }
    assert!(ids(&list(&shop, "?status=AWAITING_PAYMENT").await).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_makes_no_sense_is_refused_with_its_parameter() {
    let shop = Shop::open().await;
    for (query, code, field) in [
        ("status=LOST", "invalid-query", "status"),
        ("limit=0", "invalid-query", "limit"),
        ("limit=-1", "invalid-query", "limit"),
        ("limit=201", "invalid-query", "limit"),
        ("limit=99999999999999999999", "invalid-query", "limit"),
        ("colour=red", "invalid-query", "colour"),
        ("cursor=rubbish", "invalid-cursor", "cursor"),
    ] {
        refused(shop.ask(Method::GET, &format!("/orders?{query}")), 400, code, Some(field)).await;
    }
    refused(shop.ask_as_nobody(Method::GET, "/orders"), 401, "unauthorized", None).await;
}
