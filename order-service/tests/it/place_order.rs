//! `POST /orders`.

use common_events::events::{OrderCreated, OrderLinePlaced};
use futures::future::join_all;
use order_service::domain::Status;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::shop::{CUP, POT, Shop, named, new_coupon, order_id, product_id, read, refused, send, table, won};

fn one_cup() -> Value {
    json!({"lines": [{"productId": "cup", "quantity": 1}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_taken_and_told_of_in_the_trace_of_its_request() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let body = json!({
        "lines": [{"productId": "cup", "quantity": 2}, {"productId": "pot", "quantity": 1}],
        "issuedCouponId": coupon,
    });
    let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    let answer = send(shop.post_order("key-1", &body).header("traceparent", traceparent)).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    assert_eq!(answer.headers()["x-trace-id"], trace_id);
    let location = answer.headers()["location"].to_str().expect("text").to_owned();
    let taken: Value = answer.json().await.expect("JSON");
    assert_eq!(location, format!("/orders/{}", order_id(&taken)));
    assert_eq!(taken, json!({"orderId": order_id(&taken), "traceId": trace_id, "status": "PENDING"}));

    let created = shop.seam.told::<OrderCreated>().await;
    let [created] = &created[..] else { panic!("told once, not {created:?}") };
    assert_eq!(created.trace.trace_id.to_string(), trace_id);
    let data = &created.data;
    assert_eq!((data.order_id, data.order_version, data.subtotal), (order_id(&taken), 1, won(2 * CUP + POT)));
    assert_eq!(
        (data.issued_coupon_id, data.lines[0].unit_price, data.lines[0].amount),
        (Some(coupon), won(CUP), won(2 * CUP))
    );
    let lines = shop.seam.told::<OrderLinePlaced>().await;
    let asked: Vec<_> = lines.iter().map(|line| (line.subject.as_str(), line.data.quantity.get())).collect();
    assert_eq!(asked, [("cup", 2), ("pot", 1)]);
    assert!(
        lines.iter().all(|line| line.data.order_id == data.order_id && line.trace.trace_id == created.trace.trace_id)
    );

    let stored = shop.order(data.order_id).await;
    assert_eq!((stored.status, stored.trace.trace_id), (Status::Pending, created.trace.trace_id));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_price_of_an_order_stays_when_the_product_gets_dearer() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    shop.hear(named("cup", 2 * CUP, 2)).await;
    assert_eq!(shop.order(order).await.subtotal, won(CUP));
    assert_eq!(shop.order(shop.place(&["cup"]).await).await.subtotal, won(2 * CUP));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_order_is_refused_with_its_field() {
    let shop = Shop::open().await;
    let line = |quantity: Value| json!({"lines": [{"productId": "cup", "quantity": quantity}]});
    let many = |count: usize| {
        let lines: Vec<Value> = (0..count).map(|n| json!({"productId": format!("p{n}"), "quantity": 1})).collect();
        json!({"lines": lines})
    };
    let cup = json!({"productId": "cup", "quantity": 1});
    for (body, code, field) in [
        (json!([]), "invalid-field", "body"),
        (json!([[["cup", 1]], null]), "invalid-field", "body"),
        (json!({"lines": [["cup", 1]]}), "invalid-field", "lines[0]"),
        (json!({}), "invalid-field", "lines"),
        (json!({"lines": "cup"}), "invalid-field", "lines"),
        (json!({"lines": [], "colour": "red"}), "invalid-field", "colour"),
        (json!({"lines": [{"productId": "cup", "quantity": 1, "price": 1}]}), "invalid-field", "lines[0].price"),
        (json!({"lines": [{"productId": "a b", "quantity": 1}]}), "invalid-field", "lines[0].productId"),
        (json!({"lines": [{"productId": "", "quantity": 1}]}), "invalid-field", "lines[0].productId"),
        (json!({"lines": [cup], "issuedCouponId": "42"}), "invalid-field", "issuedCouponId"),
        (line(json!(0)), "invalid-field", "lines[0].quantity"),
        (line(json!(-1)), "invalid-field", "lines[0].quantity"),
        (line(json!(10_001)), "invalid-field", "lines[0].quantity"),
        (line(json!(i64::MAX)), "invalid-field", "lines[0].quantity"),
        (line(json!(1.5)), "invalid-field", "lines[0].quantity"),
        (line(json!("1")), "invalid-field", "lines[0].quantity"),
        (line(Value::Null), "invalid-field", "lines[0].quantity"),
        (many(0), "invalid-field", "lines"),
        (many(101), "invalid-field", "lines"),
        (json!({"lines": [cup, cup]}), "invalid-field", "lines[1].productId"),
        (json!({"lines": [cup, {"productId": "vase", "quantity": 1}]}), "unknown-product", "lines[1].productId"),
    ] {
        refused(shop.post_order("key", &body), 422, code, Some(field)).await;
    }
    assert!(shop.seam.told::<OrderCreated>().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_product_is_named() {
    let shop = Shop::open().await;
    let (_, problem) = read(shop.post_order("key", &json!({"lines": [{"productId": "vase", "quantity": 1}]}))).await;
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("vase")), "{problem}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_total_that_no_number_can_hold_is_refused() {
    let shop = Shop::open().await;
    shop.hear(named("palace", (1 << 53) - 1, 1)).await;
    let palaces = |quantity: i32| json!({"lines": [{"productId": "palace", "quantity": quantity}]});
    refused(shop.post_order("one", &palaces(10_000)), 422, "invalid-field", Some("lines[0].quantity")).await;
    assert_eq!(send(shop.post_order("one", &palaces(1))).await.status(), StatusCode::ACCEPTED);
    let both = json!({"lines": [{"productId": "cup", "quantity": 1}, {"productId": "palace", "quantity": 1}]});
    refused(shop.post_order("two", &both), 422, "invalid-field", Some("lines[1].quantity")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_of_a_hundred_lines_is_taken() {
    let shop = Shop::open().await;
    let products: Vec<String> = (0..100).map(|n| format!("p{n}")).collect();
    let events: Vec<_> = products.iter().map(|product| shop.seam.event(named(product, 1, 1))).collect();
    shop.seam.deliver_batch(&events).await;
    let order = shop.place(&products.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let found = shop.order(order).await;
    assert_eq!((found.lines.len(), found.lines[99].placed.product_id.clone()), (100, product_id("p99")));
    assert_eq!(shop.seam.told::<OrderLinePlaced>().await.len(), 100);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_not_json_or_too_large_is_refused() {
    let shop = Shop::open().await;
    let post = |body: Vec<u8>| shop.ask(Method::POST, "/orders").header("Idempotency-Key", "key").body(body);
    for body in [&b""[..], b"rubbish", b"{\"lines\":", b"\xff\xfe\x00", b"{\"lines\":[]} and more"] {
        refused(post(body.to_vec()), 400, "malformed-json", Some("body")).await;
    }
    refused(post(vec![b' '; 65 * 1024]), 413, "body-too-large", Some("body")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_nobody_or_no_customer_orders_nothing() {
    let shop = Shop::open().await;
    let nobody = shop.ask_as_nobody(Method::POST, "/orders").header("Idempotency-Key", "key").json(&one_cup());
    refused(nobody, 401, "unauthorized", None).await;
    let operator = shop.ask_as("lee", "operator", Method::POST, "/orders").header("Idempotency-Key", "key");
    refused(operator.json(&one_cup()), 403, "forbidden", None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idempotency_key_is_needed_and_has_a_form() {
    let shop = Shop::open().await;
    let post = || shop.ask(Method::POST, "/orders").json(&one_cup());
    let field = Some("Idempotency-Key");
    refused(post(), 400, "idempotency-key-missing", field).await;
    for key in ["", "a b", "k\u{fc}", &"x".repeat(256)] {
        let key = reqwest::header::HeaderValue::from_bytes(key.as_bytes()).expect("a header");
        refused(post().header("Idempotency-Key", key), 400, "idempotency-key-invalid", field).await;
    }
    assert_eq!(send(post().header("Idempotency-Key", "x".repeat(255))).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_and_body_get_the_same_answer() {
    let shop = Shop::open().await;
    let first = send(shop.post_order("key", &one_cup())).await;
    let again = send(shop.post_order("key", &one_cup())).await;
    assert_eq!(again.status(), first.status());
    assert_eq!(again.headers()["location"], first.headers()["location"]);
    assert_eq!(again.text().await.expect("text"), first.text().await.expect("text"));
    assert_eq!(shop.seam.told::<OrderCreated>().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_for_one_body_and_one_caller() {
    let shop = Shop::open().await;
    let (_, kims) = read(shop.post_order("key", &one_cup())).await;
    let two_cups = json!({"lines": [{"productId": "cup", "quantity": 2}]});
    refused(shop.post_order("key", &two_cups), 422, "idempotency-key-reused", None).await;
    let lee = shop.ask_as("lee", "customer", Method::POST, "/orders").header("Idempotency-Key", "key");
    let (status, lees) = read(lee.json(&two_cups)).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    assert_ne!(order_id(&kims), order_id(&lees));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_order_does_not_use_up_its_key() {
    let shop = Shop::open().await;
    let vase = json!({"lines": [{"productId": "vase", "quantity": 1}]});
    refused(shop.post_order("key", &vase), 422, "unknown-product", Some("lines[0].productId")).await;
    shop.hear(named("vase", 9_000, 1)).await;
    assert_eq!(send(shop.post_order("key", &vase)).await.status(), StatusCode::ACCEPTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_sent_eight_times_at_once_makes_one_order() {
    let shop = Shop::open().await;
    let answers = join_all((0..8).map(|_| read(shop.post_order("key", &one_cup())))).await;
    let taken: Vec<&Value> =
        answers.iter().filter(|(status, _)| *status == StatusCode::ACCEPTED).map(|(_, body)| body).collect();
    let in_use = answers.iter().filter(|(_, body)| body["code"] == "idempotency-key-in-use").count();
    assert_eq!(taken.len() + in_use, 8, "{answers:?}");
    assert!(!taken.is_empty() && taken.iter().all(|body| *body == taken[0]), "{answers:?}");
    assert_eq!(shop.seam.told::<OrderCreated>().await.len(), 1);
    assert_eq!(table(&shop, "SELECT order_id::text, lines FROM orders").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_is_described() {
    let shop = Shop::open().await;
    let (status, api) = read(shop.ask_as_nobody(Method::GET, "/openapi.json")).await;
    assert_eq!(status, StatusCode::OK);
    for (path, method) in
        [("/orders", "post"), ("/orders", "get"), ("/orders/{order_id}", "get"), ("/orders/{order_id}/cancel", "post")]
    {
        assert!(api["paths"][path][method].is_object(), "{method} {path}");
    }
}
