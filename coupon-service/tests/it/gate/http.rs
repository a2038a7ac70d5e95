//! The two calls of a sale, as the outside sees them.

use actix_web::{
    body::MessageBody,
    dev::ServiceResponse,
    http::{Method, StatusCode, header},
    test::{TestRequest, call_service, init_service, read_body},
};
use chrono::{TimeDelta, Utc};
use common_events::CouponId;
use coupon_service::{admission::Admission, domain::Mode, http::routes};
use serde_json::{Value, json};
use service_runtime::http::app;

use crate::gate::{
    own_parts::OwnRedis,
    station::{Process, Station, coupon},
};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

struct Answer {
    status: StatusCode,
    retry_after: Option<String>,
    trace_id: Option<String>,
    body: Value,
}

async fn call(station: &Station, admission: &Admission, method: Method, path: &str, user: Option<&str>) -> Answer {
    let app = init_service(app(&station.runtime, &routes(station.pool(), admission.clone())).expect("an app")).await;
    let mut request = TestRequest::default().method(method).uri(path).insert_header(("traceparent", TRACE));
    if let Some(user) = user {
        request = request.insert_header(("x-user-id", user));
    }
    answer(call_service(&app, request.to_request()).await).await
}

async fn answer(response: ServiceResponse<impl MessageBody>) -> Answer {
    let header = |name| Some(response.headers().get(name)?.to_str().expect("text").to_owned());
    let (retry_after, trace_id) = (header(header::RETRY_AFTER), header(header::HeaderName::from_static("x-trace-id")));
    let status = response.status();
    let body = read_body(response).await;
    let body = serde_json::from_slice(&body).unwrap_or_else(|error| panic!("{error}: {body:?}"));
    Answer { status, retry_after, trace_id, body }
}

async fn issue(station: &Station, process: &Process, coupon_id: &CouponId, user: &str) -> Answer {
    let path = format!("/coupons/{coupon_id}/issue");
    call(station, &process.admission, Method::POST, &path, Some(user)).await
}

async fn claim(station: &Station, process: &Process, coupon_id: &CouponId, user: &str) -> Answer {
    let path = format!("/coupons/{coupon_id}/claims/me");
    call(station, &process.admission, Method::GET, &path, Some(user)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_claim_is_answered_as_the_contract_says() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 1).await;
    assert_eq!(claim(&station, &process, &coupon_id, "kim").await.body, json!({"status": "NONE"}));

    let yes = issue(&station, &process, &coupon_id, "kim").await;
    assert_eq!(yes.status, 202);
    assert_eq!(
        yes.body,
        json!({"couponId": coupon_id, "userId": "kim", "status": "ADMITTED", "rank": 1, "traceId": TRACE_ID})
    );
    assert_eq!(yes.trace_id.as_deref(), Some(TRACE_ID));
    process.decided(&coupon_id, &"kim".parse().expect("an id")).await.expect("issued");
    let held = claim(&station, &process, &coupon_id, "kim").await.body;
    assert_eq!((&held["status"], &held["rank"]), (&json!("ISSUED"), &json!(1)));
    assert!(held["issuedCouponId"].is_string());

    let twice = issue(&station, &process, &coupon_id, "kim").await;
    assert_eq!((twice.status.as_u16(), &twice.body["code"]), (409, &json!("already-claimed")));
    let late = issue(&station, &process, &coupon_id, "lee").await;
    assert_eq!((late.status.as_u16(), &late.body["code"]), (410, &json!("sold-out")));
    assert_eq!(late.body["traceId"], TRACE_ID);
    assert_eq!(claim(&station, &process, &coupon_id, "lee").await.body, json!({"status": "NONE"}));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn too_early_and_too_late_are_403() {
    let station = Station::open().await;
    let process = station.admits().await;
    let hour = TimeDelta::hours(1);
    let early = station
        .put_up_as(&process, Mode::Set, 1, |mut coupon| {
            coupon.opens_at = Some(Utc::now() + hour);
            coupon
        })
        .await;
    let late = station
        .put_up_as(&process, Mode::Set, 1, |mut coupon| {
            coupon.closes_at = Some(Utc::now() - hour);
            coupon
        })
        .await;
    for (coupon_id, code) in [(early, "not-open-yet"), (late, "closed")] {
        let refused = issue(&station, &process, &coupon_id, "kim").await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (403, &json!(code)));
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_input_is_a_clear_4xx() {
    let station = Station::open().await;
    let process = station.admits().await;
    let admission = &process.admission;
    let coupon_id = station.put_up(&process, Mode::Set, 1).await;
    let long = "x".repeat(129);
    for path in ["/coupons/nothing/issue", &format!("/coupons/{long}/issue"), "/coupons/a%20b/issue"] {
        assert_eq!(call(&station, admission, Method::POST, path, Some("kim")).await.status, 404, "{path}");
    }
    for path in ["/coupons/nothing/claims/me", &format!("/coupons/{long}/claims/me")] {
        assert_eq!(call(&station, admission, Method::GET, path, Some("kim")).await.status, 404, "{path}");
    }
    let path = format!("/coupons/{coupon_id}/issue");
    let million = "x".repeat(1_000_000);
    for user in [None, Some("a b"), Some(&*long), Some(&*million)] {
        assert_eq!(call(&station, admission, Method::POST, &path, user).await.status, 401);
    }
    assert_eq!(issue(&station, &process, &coupon_id, "kim").await.status, 202, "nobody took it");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_told_now_is_503_and_says_when_to_ask_again() {
    let mut redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.admits().await;
    let never_opened = coupon(Mode::Set, 1);
    station.insert(&never_opened).await;
    let answers = [
        issue(&station, &process, &never_opened.coupon_id, "kim").await,
        claim(&station, &process, &never_opened.coupon_id, "kim").await,
    ];
    for answer in answers {
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (503, &json!("gate-rebuilding")));
        assert_eq!(answer.retry_after.as_deref(), Some("3"));
    }
    redis.kill();
    let away = issue(&station, &process, &never_opened.coupon_id, "kim").await;
    assert_eq!((away.status.as_u16(), &away.body["code"]), (503, &json!("admission-undecided")));
    assert_eq!(away.retry_after.as_deref(), Some("1"));
    process.stop().await;
}
