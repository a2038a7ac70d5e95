//! `POST /orders/{id}/cancel`.

use common_events::{OrderId, events::OrderCancelled};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

use crate::shop::{Shop, new_coupon, order_id, read, refused, stock_deducted, unknown_order};

fn cancel(shop: &Shop, order: OrderId) -> RequestBuilder {
    shop.ask(Method::POST, &format!("/orders/{order}/cancel"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_cancels_an_order_before_or_after_it_is_confirmed() {
    let shop = Shop::open().await;
    let awaiting = shop.place(&["cup"]).await;
    shop.hear(stock_deducted(awaiting, "cup")).await;
    let confirmed = shop.place_confirmed().await;
    for (order, told) in [(shop.place(&["cup"]).await, (0, 0, 1)), (awaiting, (1, 0, 1)), (confirmed, (1, 1, 1))] {
        let (status, answer) = read(cancel(&shop, order)).await;
        assert_eq!(status, StatusCode::ACCEPTED);
        assert_eq!(
            (order_id(&answer), &answer["status"], &answer["reason"]),
            (order, &json!("CANCELLED"), &json!("CUSTOMER"))
        );
        assert!(answer["lines"].is_array() && answer.get("note").is_none(), "the whole order: {answer}");
        let (_, read_again) = read(shop.ask(Method::GET, &format!("/orders/{order}"))).await;
        assert_eq!(read_again, answer);
        assert_eq!(shop.told_of(order).await, told);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_customer_says_is_kept_and_told() {
    let shop = Shop::open().await;
    let coupon = new_coupon();
    let order = shop.place_with(&["cup", "pot"], Some(coupon)).await;
    let note = "김".repeat(200);
    let (_, answer) = read(cancel(&shop, order).json(&json!({"reason": note}))).await;
    assert_eq!(answer["note"], json!(note));
    let told = shop.seam.told::<OrderCancelled>().await.remove(0);
    assert_eq!(told.trace.trace_id, shop.order(order).await.trace.trace_id);
    assert_eq!((told.data.note, told.data.issued_coupon_id, told.data.lines.len()), (Some(note), Some(coupon), 2));
    assert_eq!((told.data.order_version, told.data.reason.as_str()), (2, "CUSTOMER"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_cancelled_once_and_what_was_said_first_stands() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let (_, first) = read(cancel(&shop, order).json(&json!({"reason": "too slow"}))).await;
    let (status, again) = read(cancel(&shop, order).json(&json!({"reason": "too dear"}))).await;
    assert_eq!((status, &again), (StatusCode::ACCEPTED, &first));
    assert_eq!(shop.told_of(order).await, (0, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_cancels_anybodys_order_and_his_own_as_a_customer() {
    let shop = Shop::open().await;
    for (user, reason) in [("lee", "OPERATOR"), (crate::shop::KIM, "CUSTOMER")] {
        let order = shop.place(&["cup"]).await;
        let path = format!("/orders/{order}/cancel");
        let (status, answer) = read(shop.ask_as(user, "operator", Method::POST, &path)).await;
        assert_eq!((status, answer["reason"].as_str()), (StatusCode::ACCEPTED, Some(reason)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_cancels_anothers_order() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let path = format!("/orders/{order}/cancel");
    refused(shop.ask_as("lee", "customer", Method::POST, &path), 404, "not-found", None).await;
    refused(shop.ask_as_nobody(Method::POST, &path), 401, "unauthorized", None).await;
    for id in ["42", "%00", &unknown_order().to_string()] {
        refused(shop.ask(Method::POST, &format!("/orders/{id}/cancel")), 404, "not-found", None).await;
    }
    assert_eq!(shop.told_of(order).await, (0, 0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_may_be_left_out_but_not_be_nonsense() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let field = |body: Value| cancel(&shop, order).json(&body);
    refused(field(json!({"colour": "red"})), 422, "invalid-field", Some("colour")).await;
    refused(field(json!({"reason": 1})), 422, "invalid-field", Some("reason")).await;
    refused(field(json!({"reason": "x".repeat(201)})), 422, "invalid-field", Some("reason")).await;
    refused(field(json!({"reason": "a\u{0}b"})), 422, "invalid-field", Some("reason")).await;
    refused(field(json!(["too slow"])), 422, "invalid-field", Some("body")).await;
    refused(field(json!([])), 422, "invalid-field", Some("body")).await;
    refused(cancel(&shop, order).body("rubbish"), 400, "malformed-json", Some("body")).await;
    refused(cancel(&shop, order).body(vec![b' '; 65 * 1024]), 413, "body-too-large", Some("body")).await;
    assert_eq!(shop.told_of(order).await, (0, 0, 0));

    for body in [json!({}), json!({"reason": null}), json!({"reason": " "})] {
        let order = shop.place(&["cup"]).await;
        let (status, answer) = read(cancel(&shop, order).json(&body)).await;
        assert_eq!((status, answer.get("note")), (StatusCode::ACCEPTED, None));
    }
}
