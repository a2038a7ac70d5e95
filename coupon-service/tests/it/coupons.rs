//! Coupons as admins put them up, as anyone sees them, and as their holders do.

use chrono::{DateTime, TimeDelta, Utc};
use common_events::CouponId;
use reqwest::Method;
use rstest::rstest;
use serde_json::{Value, json};

use crate::{
    counter::{KIM, LEE, admission, new_order, order_cancelled, order_created},
    desk::Desk,
};

/// With what is changed about it.
fn coupon(changes: &Value) -> Value {
    let mut coupon = json!({
        "name": "Autumn", "mode": "set", "quantity": 100, "discount": {"kind": "amount", "value": 1_000},
    });
    for (field, value) in changes.as_object().expect("an object") {
        coupon[field] = value.clone();
    }
    coupon
}

fn id_of(body: &Value) -> CouponId {
    body["couponId"].as_str().expect("a couponId").parse().expect("a coupon id")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_that_is_put_up_can_be_claimed_at_once() {
    let desk = Desk::open().await;
    let wanted = coupon(&json!({
        "couponId": "autumn-2026", "mode": "ranked", "quantity": 50,
        "discount": {"kind": "percent", "value": 10, "max": 5_000},
        "rewards": [
            {"fromRank": 2, "toRank": 3, "discount": {"kind": "amount", "value": 500_000}},
            {"fromRank": 1, "toRank": 1, "discount": {"kind": "amount", "value": 1_000_000}},
        ],
        "opensAt": "2026-01-01T00:00:00Z", "closesAt": "2126-01-01T00:00:00.123456Z", "validUntil": "2126-02-01T09:00:00+09:00",
    }));
    let put_up = desk.put_up(&wanted).await;
    assert_eq!((put_up.status.as_u16(), put_up.location.as_deref()), (201, Some("/coupons/autumn-2026")));
    assert_eq!(
        put_up.body,
        json!({
            "couponId": "autumn-2026", "name": "Autumn", "mode": "ranked", "quantity": 50,
            "discount": {"kind": "percent", "value": 10, "max": 5_000},
            "rewards": [
                {"fromRank": 1, "toRank": 1, "discount": {"kind": "amount", "value": 1_000_000}},
                {"fromRank": 2, "toRank": 3, "discount": {"kind": "amount", "value": 500_000}},
            ],
            "opensAt": "2026-01-01T00:00:00Z", "closesAt": "2126-01-01T00:00:00.123456Z",
            "validUntil": "2126-02-01T00:00:00Z",
            "admitted": 0, "issued": 0, "remaining": 50, "state": "OPEN",
        })
    );
    let found = desk.ask_as(None, "", Method::GET, "/coupons/autumn-2026", None).await;
    assert_eq!((found.status.as_u16(), found.body), (200, put_up.body), "anyone sees the same");
    assert!(desk.gate().standing(&"autumn-2026".parse().expect("an id")).await.expect("Redis answers").is_some());

    let again = desk.put_up(&wanted).await;
    assert_eq!((again.status.as_u16(), &again.body["code"]), (409, &json!("coupon-exists")));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_without_an_id_gets_one_and_says_only_what_it_has() {
    let desk = Desk::open().await;
    let put_up = desk.put_up(&coupon(&json!({"rewards": []}))).await;
    assert_eq!(put_up.status, 201);
    let body = put_up.body.as_object().expect("an object");
    for absent in ["rewards", "opensAt", "closesAt", "validUntil"] {
        assert!(!body.contains_key(absent), "{absent}: {body:?}");
    }
    let other = desk.put_up(&coupon(&json!({}))).await;
    assert_ne!(id_of(&put_up.body), id_of(&other.body));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_tells_where_its_sale_stands() {
    let desk = Desk::open().await;
    let scheduled = desk.put_up(&coupon(&json!({"opensAt": "2126-01-01T00:00:00Z"}))).await.body;
    assert_eq!(scheduled["state"], "SCHEDULED");
    let path = format!("/coupons/{}", id_of(&scheduled));
    assert_eq!(desk.get(&path).await.body, scheduled);

    let sold = id_of(&desk.put_up(&coupon(&json!({"quantity": 2}))).await.body);
    let path = format!("/coupons/{sold}");
    let stands = async || {
        let body = desk.get(&path).await.body;
        (body["admitted"].clone(), body["issued"].clone(), body["remaining"].clone(), body["state"].clone())
    };
    for (user, issued, remaining, state) in [(KIM, 1, 1, "OPEN"), (LEE, 2, 0, "SOLD_OUT")] {
        desk.counter.hear(admission(&sold, user, None)).await;
        // The gate of this test let nobody in; what is issued is not less true.
        assert_eq!(stands().await, (json!(0), json!(issued), json!(remaining), json!(state)));
    }

    let closed = id_of(&desk.put_up(&coupon(&json!({}))).await.body);
    desk.counter.execute(&format!("UPDATE coupons SET closes_at = now() WHERE coupon_id = '{closed}'")).await;
    assert_eq!(desk.get(&format!("/coupons/{closed}")).await.body["state"], "CLOSED");

    let lost = id_of(&desk.put_up(&coupon(&json!({}))).await.body);
    desk.gate().close(&lost, 1).await.expect("Redis answers");
    let body = desk.get(&format!("/coupons/{lost}")).await.body;
    assert_eq!((body.get("admitted"), &body["remaining"], &body["state"]), (None, &json!(100), &json!("REBUILDING")));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_that_never_was_is_not_found() {
    let desk = Desk::open().await;
    for id in ["nothing", "a%20b", &"x".repeat(129), &"x".repeat(60_000)] {
        assert_eq!(desk.get(&format!("/coupons/{id}")).await.status, 404, "{id:.20}");
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_puts_up_coupons() {
    let desk = Desk::open().await;
    let body = coupon(&json!({})).to_string();
    for roles in ["customer", "operator", "ADMIN", ""] {
        assert_eq!(desk.ask(roles, Method::POST, "/coupons", Some(&body)).await.status, 403, "{roles}");
    }
    assert_eq!(desk.ask_as(None, "admin", Method::POST, "/coupons", Some(&body)).await.status, 401);
    assert_eq!(desk.counter.count("SELECT count(*) FROM coupons").await, 0);
    desk.close().await;
}

#[rstest]
#[case(json!({"quantity": 0}), "quantity")]
#[case(json!({"quantity": -1}), "quantity")]
#[case(json!({"quantity": 1_000_001}), "quantity")]
#[case(json!({"quantity": u64::MAX}), "quantity")]
#[case(json!({"quantity": 1.5}), "quantity")]
#[case(json!({"quantity": "100"}), "quantity")]
#[case(json!({"quantity": null}), "quantity")]
#[case(json!({"name": ""}), "name")]
#[case(json!({"name": "x".repeat(201)}), "name")]
#[case(json!({"couponId": "a b"}), "couponId")]
#[case(json!({"couponId": ""}), "couponId")]
#[case(json!({"couponId": "x".repeat(50_000)}), "couponId")]
#[case(json!({"mode": "lottery"}), "mode")]
#[case(json!({"colour": "red"}), "colour")]
#[case(json!({"discount": null}), "discount")]
#[case(json!({"discount": ["amount", 1]}), "discount")]
#[case(json!({"discount": {"kind": "amount"}}), "discount.value")]
#[case(json!({"discount": {"kind": "half", "value": 1}}), "discount.kind")]
#[case(json!({"discount": {"kind": "amount", "value": 0}}), "discount.value")]
#[case(json!({"discount": {"kind": "amount", "value": -1}}), "discount.value")]
#[case(json!({"discount": {"kind": "amount", "value": 1_000_000_000_001_i64}}), "discount.value")]
#[case(json!({"discount": {"kind": "amount", "value": 1, "max": 1}}), "discount.max")]
#[case(json!({"discount": {"kind": "percent", "value": 0}}), "discount.value")]
#[case(json!({"discount": {"kind": "percent", "value": 101}}), "discount.value")]
#[case(json!({"discount": {"kind": "percent", "value": 10, "max": 0}}), "discount.max")]
#[case(json!({"discount": {"kind": "percent", "value": 10, "max": -1}}), "discount.max")]
#[case(json!({"discount": {"kind": "percent", "value": 10, "min": 1}}), "discount.min")]
#[case(json!({"rewards": [reward(1, 1)]}), "rewards")]
#[case(json!({"mode": "ranked", "rewards": [reward(0, 1)]}), "rewards[0].fromRank")]
#[case(json!({"mode": "ranked", "rewards": [reward(2, 1)]}), "rewards[0].toRank")]
#[case(json!({"mode": "ranked", "rewards": [reward(1, 101)]}), "rewards[0].toRank")]
#[case(json!({"mode": "ranked", "rewards": [reward(101, 101)]}), "rewards[0].fromRank")]
#[case(json!({"mode": "ranked", "rewards": [reward(1, 2), reward(2, 3)]}), "rewards[1].fromRank")]
#[case(json!({"mode": "ranked", "rewards": [[1, 2, {"kind": "amount", "value": 1}]]}), "rewards[0]")]
#[case(json!({"mode": "ranked", "rewards": vec![reward(1, 1); 101]}), "rewards")]
#[case(json!({"closesAt": "2020-01-01T00:00:00Z"}), "closesAt")]
#[case(json!({"opensAt": "2126-01-02T00:00:00Z", "closesAt": "2126-01-01T00:00:00Z"}), "closesAt")]
#[case(json!({"opensAt": "2126-01-02T00:00:00Z", "closesAt": "2126-01-02T00:00:00Z"}), "closesAt")]
#[case(json!({"opensAt": "tomorrow"}), "opensAt")]
#[case(json!({"opensAt": 1_700_000_000}), "opensAt")]
#[case(json!({"opensAt": "-5000-01-01T00:00:00Z"}), "opensAt")]
#[case(json!({"opensAt": "-0001-01-01T00:00:00Z"}), "opensAt")]
#[case(json!({"opensAt": "+10000-01-01T00:00:00Z"}), "opensAt")]
#[case(json!({"closesAt": "+10000-01-01T00:00:00Z"}), "closesAt")]
#[case(json!({"validUntil": "2020-01-01T00:00:00Z"}), "validUntil")]
#[case(json!({"opensAt": "2126-01-02T00:00:00Z", "validUntil": "2126-01-01T00:00:00Z"}), "validUntil")]
#[case(json!({"validUntil": "+262142-01-01T00:00:00Z"}), "validUntil")]
#[tokio::test(flavor = "multi_thread")]
async fn what_can_be_no_coupon_is_422_and_names_the_field(#[case] changes: Value, #[case] field: &str) {
    let desk = Desk::open().await;
    let refused = desk.put_up(&coupon(&changes)).await;
    assert_eq!((refused.status.as_u16(), &refused.body["field"]), (422, &json!(field)), "{}", refused.body);
    assert_eq!(refused.body["code"], "invalid-field");
    assert_eq!(desk.counter.count("SELECT count(*) FROM coupons").await, 0);
    desk.close().await;
}

fn reward(from_rank: i64, to_rank: i64) -> Value {
    json!({"fromRank": from_rank, "toRank": to_rank, "discount": {"kind": "amount", "value": 1}})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_json_or_too_much_of_it_is_told_so() {
    let desk = Desk::open().await;
    for (body, status) in [("", 400), ("{", 400), ("[]", 422), ("null", 422), (&*" ".repeat(70_000), 413)] {
        assert_eq!(desk.ask("admin", Method::POST, "/coupons", Some(body)).await.status, status, "{body:.20}");
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_sees_his_coupons_and_whether_they_are_in_use() {
    let desk = Desk::open().await;
    let counter = &desk.counter;
    let ranked = counter.put_up_ranked(10).await;
    let plain = counter.put_up_set(10).await;
    counter.hear(admission(&ranked, KIM, Some(2))).await;
    counter.hear(admission(&ranked, LEE, Some(1))).await;
    let issued = counter.issue(&plain, KIM).await;
    let mine = desk.get("/users/me/coupons").await.body;
    let first = &mine["items"][1]["issuedCouponId"];
    assert_eq!(
        mine,
        json!({"items": [
            {"issuedCouponId": issued, "couponId": plain, "discount": {"kind": "amount", "value": 1_000}, "status": "ISSUED"},
            {"issuedCouponId": first, "couponId": ranked, "discount": {"kind": "amount", "value": 500_000}, "rank": 2,
             "status": "ISSUED"},
        ]})
    );
    let page = desk.get("/users/me/coupons?limit=1").await.body;
    assert_eq!(page["items"], json!([mine["items"][0]]));
    let cursor = page["nextCursor"].as_str().expect("there is more");
    let rest = desk.get(&format!("/users/me/coupons?limit=1&cursor={cursor}")).await.body;
    assert_eq!(rest, json!({"items": [mine["items"][1]]}));

    let order = new_order();
    let first = async || desk.get("/users/me/coupons").await.body["items"][0].clone();
    counter.hear(order_created(order, KIM, Some(issued))).await;
    let used = first().await;
    let used_at: DateTime<Utc> = used["usedAt"].as_str().expect("a time").parse().expect("RFC 3339");
    assert_eq!(used["status"], "USED");
    assert!((Utc::now() - used_at).abs() < TimeDelta::minutes(1), "{used}");
    counter.hear(order_cancelled(order, KIM, Some(issued))).await;
    let free = first().await;
    assert_eq!((&free["status"], &free["usedAt"]), (&json!("ISSUED"), &json!(null)));
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_customers_claim_coupons() {
    let desk = Desk::open().await;
    let coupon = desk.counter.put_up_set(10).await;
    let calls = [
        (Method::POST, format!("/coupons/{coupon}/issue")),
        (Method::GET, format!("/coupons/{coupon}/claims/me")),
        (Method::GET, "/users/me/coupons".to_owned()),
    ];
    for (method, path) in calls {
        assert_eq!(desk.ask("operator", method, &path, None).await.status, 403, "{path}");
    }
    desk.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_none_sees_none_and_who_is_nobody_is_refused() {
    let desk = Desk::open().await;
    assert_eq!(desk.get("/users/me/coupons").await.body, json!({"items": []}));
    for user in [None, Some("a b"), Some(&*"x".repeat(129)), Some(&*"x".repeat(60_000))] {
        assert_eq!(desk.ask_as(user, "customer", Method::GET, "/users/me/coupons", None).await.status, 401);
    }
    for (query, field) in [("limit=0", "limit"), ("limit=x", "limit"), ("cursor=x", "cursor"), ("colour=red", "colour")]
    {
        let refused = desk.get(&format!("/users/me/coupons?{query}")).await;
        assert_eq!((refused.status.as_u16(), &refused.body["field"]), (400, &json!(field)), "{query}");
    }
    desk.close().await;
}
