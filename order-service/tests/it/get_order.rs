//! `GET /orders/{id}`.

use std::time::{Duration, Instant};

use common_events::{OrderId, Service, StockRefusal};
use order_service::{events, waiting::Waiting};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use test_support::{PATIENCE, Seam, eventually, runtime};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::shop::{
    CUP, KIM, POT, Shop, coupon_used, new_coupon, read, refused, send, stock_deduct_failed, stock_deducted,
    unknown_order,
};

fn path(order: OrderId) -> String {
    format!("/orders/{order}")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_shown_whole() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup", "pot"], Some(coupon)).await;
    shop.hear(coupon_used(order, coupon, 500)).await;
    let (status, mut shown) = read(shop.ask(Method::GET, &path(order))).await;
    assert_eq!(status, StatusCode::OK);
    let trace_id = shop.order(order).await.trace.trace_id;
    for time in ["createdAt", "updatedAt"] {
        let text = shown[time].take();
        let text = text.as_str().expect("a time");
        assert!(text.ends_with('Z') && text.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{text}");
    }
    let expected = json!({
        "orderId": order, "userId": KIM, "status": "PENDING",
        "lines": [
            {"productId": "cup", "name": "The cup", "quantity": 1, "unitPrice": CUP},
            {"productId": "pot", "name": "The pot", "quantity": 1, "unitPrice": POT},
        ],
        "issuedCouponId": coupon, "subtotal": CUP + POT, "discount": 500, "total": CUP + POT - 500,
        "traceId": trace_id, "createdAt": null, "updatedAt": null,
    });
    assert_eq!(shown, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_seen_by_its_owner_and_by_operators_only() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    refused(shop.ask_as_nobody(Method::GET, &path(order)), 401, "unauthorized", None).await;
    refused(shop.ask_as("lee", "customer", Method::GET, &path(order)), 404, "not-found", None).await;
    for role in ["operator", "admin"] {
        assert_eq!(send(shop.ask_as("lee", role, Method::GET, &path(order))).await.status(), StatusCode::OK);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_is_not_there_is_not_found_however_it_is_called() {
    let shop = Shop::open().await;
    let odd = ["42", "x", "%00", "..%2f", "%F0%9F%98%80", "null", "-1", &"a".repeat(2_000)];
    for id in odd.map(str::to_owned).into_iter().chain([unknown_order().to_string(), Uuid::nil().to_string()]) {
        refused(shop.ask(Method::GET, &format!("/orders/{id}")), 404, "not-found", None).await;
    }
}

fn waiting_for(shop: &Shop, order: OrderId, prefer: &str) -> impl Future<Output = Response> {
    send(shop.ask(Method::GET, &path(order)).header("Prefer", prefer))
}

/// Who asked to wait has looked at the order, which was the last thing its connection did: it was open, so
/// now only its end wakes him.
async fn see_somebody_wait(shop: &Shop) {
    let watcher = shop.database.pool.get().await.expect("a connection");
    eventually("he has looked at the order", async || {
        let looked = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database()
                      AND state = 'idle' AND query LIKE '%FROM orders WHERE order_id = $1'";
        watcher.query_opt(looked, &[]).await.expect("PostgreSQL answers")
    })
    .await;
}

async fn status(answer: Response) -> Value {
    let mut body: Value = answer.json().await.expect("JSON");
    body["status"].take()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_when_the_order_ends() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let began = Instant::now();
    let ends = async {
        see_somebody_wait(&shop).await;
        shop.hear(stock_deduct_failed(order, "cup", StockRefusal::OutOfStock)).await;
    };
    let (answer, ()) = futures::join!(waiting_for(&shop, order, "wait=30"), ends);
    assert!(began.elapsed() < Duration::from_secs(20), "it was not waited for the time to be up");
    assert_eq!(answer.headers()["preference-applied"], "wait=30");
    assert_eq!(status(answer).await, "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_when_another_instance_ends_the_order() {
    let shop = Shop::open().await;
    let stopping = CancellationToken::new();
    let other = Seam::new(&shop.database, events::subscriptions(&Waiting::new(stopping)));
    let tasks = runtime(Service::Order).tasks;
    let order = shop.place(&["cup"]).await;
    let began = Instant::now();
    let event = other.event(stock_deduct_failed(order, "cup", StockRefusal::OutOfStock));
    let ends = async {
        see_somebody_wait(&shop).await;
        shop.waiting.look_for_endings(&tasks, shop.database.pool.clone());
        other.deliver(&event).await;
    };
    let (answer, ()) = futures::join!(waiting_for(&shop, order, "wait=30"), ends);
    assert!(began.elapsed() < Duration::from_secs(20), "it was not waited for the time to be up");
    assert_eq!(status(answer).await, "CANCELLED");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_answered_with_the_order_as_it_is_when_time_is_up() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let began = Instant::now();
    let ends = shop.hear(stock_deducted(order, "cup"));
    let (answer, ()) = futures::join!(waiting_for(&shop, order, "wait=1"), ends);
    assert!(began.elapsed() >= Duration::from_secs(1) && began.elapsed() < PATIENCE);
    assert_eq!(status(answer).await, "AWAITING_PAYMENT");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_an_order_that_has_ended_or_without_saying_how_long() {
    let shop = Shop::open().await;
    let began = Instant::now();
    let confirmed = shop.place_confirmed().await;
    assert_eq!(status(waiting_for(&shop, confirmed, "wait=30").await).await, "CONFIRMED");
    let open = shop.place(&["cup"]).await;
    for prefer in ["wait=0", "wait=soon", "respond-async"] {
        assert_eq!(status(waiting_for(&shop, open, prefer).await).await, "PENDING");
    }
    assert!(began.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn waiting_shows_nobody_anothers_order() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let lee = shop.ask_as("lee", "customer", Method::GET, &path(order)).header("Prefer", "wait=30");
    refused(lee, 404, "not-found", None).await;
}
