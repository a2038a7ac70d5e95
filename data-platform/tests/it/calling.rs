//! One call to the platform: what goes out, and what the answers mean.

use common_events::EventId;
use data_platform::{
    domain::PaidOrder,
    platform::{NotTaken, Settings},
};
use messaging::Failure;
use service_runtime::{settings::Env, telemetry};
use test_support::free_port;
use uuid::Uuid;
use wiremock::ResponseTemplate;

use crate::outside::{Outside, TIMEOUT, body, header, payment, platform_at};

/// What becomes of a call that is answered so.
async fn answered(answer: ResponseTemplate) -> Result<(), NotTaken> {
    let outside = Outside::that_answers(answer).await;
    hand_over(&outside.platform()).await
}

async fn hand_over(platform: &data_platform::platform::Platform) -> Result<(), NotTaken> {
    let (payment, trace) = (payment(), telemetry::root());
    platform.hand_over(EventId::new(Uuid::now_v7()), &PaidOrder::of(&payment, trace.trace_id), trace).await
}

#[tokio::test]
async fn a_call_says_which_event_it_is_and_in_which_trace() {
    let outside = Outside::that_takes().await;
    let (payment, trace, event) = (payment(), telemetry::root(), EventId::new(Uuid::now_v7()));
    let order = PaidOrder::of(&payment, trace.trace_id);
    outside.platform().hand_over(event, &order, trace).await.expect("taken");

    let [call] = &*outside.calls().await else { panic!("one call") };
    assert_eq!(header(call, "idempotency-key"), event.to_string());
    assert_eq!(header(call, "content-type"), "application/json");
    let told: common_events::TraceParent = header(call, "traceparent").parse().expect("a trace");
    assert_eq!(told.trace_id, trace.trace_id);
    assert_ne!(told.span_id, trace.span_id, "the call is a step of its own");
    assert_eq!(body(call)["orderId"], payment.order_id.to_string());
    assert_eq!(body(call)["traceId"], trace.trace_id.to_string());
}

#[tokio::test]
async fn a_status_says_whether_trying_again_may_help() {
    for status in [200, 201, 202, 204] {
        assert!(answered(ResponseTemplate::new(status)).await.is_ok(), "{status}");
    }
    for status in [400, 401, 403, 404, 409, 410, 422] {
        let failure = Failure::from(answered(ResponseTemplate::new(status)).await.expect_err("refused"));
        assert!(matches!(failure, Failure::Unprocessable(_)), "{status}: {failure:?}");
    }
    for status in [408, 429, 500, 502, 503, 504] {
        let failure = Failure::from(answered(ResponseTemplate::new(status)).await.expect_err("not taken"));
        assert_eq!((failure.class(), matches!(failure, Failure::Transient(_))), ("platform-unavailable", true));
    }
}

#[tokio::test]
async fn a_refusal_says_what_the_platform_said_and_no_more_than_fits() {
    let endless = "no such product ".repeat(10_000);
    let refused = answered(ResponseTemplate::new(422).set_body_string(endless)).await.expect_err("refused");
    let said = refused.to_string();
    assert!(said.contains("422") && said.contains("no such product"), "{said}");
    assert!(said.len() < 700, "{} bytes", said.len());
}

#[tokio::test]
async fn no_answer_in_time_is_transient_as_it_may_have_been_taken() {
    let late = ResponseTemplate::new(201).set_delay(TIMEOUT * 10);
    let failure = Failure::from(answered(late).await.expect_err("too late"));
    assert_eq!((failure.class(), matches!(failure, Failure::Transient(_))), ("platform-timeout", true));
}

#[tokio::test]
async fn a_platform_that_is_not_there_is_transient_and_its_password_is_not_told() {
    let port = free_port();
    let platform = platform_at(&format!("http://kim:secret@127.0.0.1:{port}/payments"));
    let failure = Failure::from(hand_over(&platform).await.expect_err("nobody there"));
    assert_eq!((failure.class(), matches!(failure, Failure::Transient(_))), ("platform-unreachable", true));
    let told = service_runtime::chain(&failure);
    assert!(told.contains("refused") && !told.contains("secret"), "{told}");
}

#[tokio::test]
async fn a_redirect_is_not_followed_as_the_order_would_get_lost_on_the_way() {
    let elsewhere = Outside::that_takes().await;
    let moved = ResponseTemplate::new(302).insert_header("location", format!("{}/payments", elsewhere.server.uri()));
    let failure = Failure::from(answered(moved).await.expect_err("not taken"));
    assert!(matches!(failure, Failure::Transient(_)), "{failure:?}");
    assert!(elsewhere.calls().await.is_empty());
}

#[tokio::test]
async fn a_wrong_setting_is_named() {
    let read = |name: &str, value: &str| {
        let env = [("DATA_PLATFORM_URL", "http://127.0.0.1:8096/payments"), (name, value)];
        Settings::read(&Env::of(env)).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(read("DATA_PLATFORM_TIMEOUT", "2s"), Ok(()));
    for (name, value) in [
        ("DATA_PLATFORM_URL", "nowhere"),
        ("DATA_PLATFORM_URL", ""),
        ("DATA_PLATFORM_TIMEOUT", "0ms"),
        ("DATA_PLATFORM_TIMEOUT", "soon"),
        ("DATA_PLATFORM_CONCURRENCY", "0"),
        ("DATA_PLATFORM_CONCURRENCY", "257"),
    ] {
        let said = read(name, value).expect_err("refused");
        assert!(said.starts_with(name), "{said}");
    }
}
