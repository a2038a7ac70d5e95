//! What every service answers, whatever is asked: through the whole app, and, in `on_a_port`, on a real one.

mod on_a_port;

use std::time::Duration;

use actix_web::{
    HttpResponse, ResponseError, get,
    http::Method,
    post,
    test::{TestRequest, init_service, try_call_service},
    web,
};
use common_events::{OrderId, Service};
use rstest::rstest;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa_actix_web::service_config::ServiceConfig;

use super::*;
use crate::settings::{CommonSettings, Env};

const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
struct Echo {
    amount: u32,
}

/// Says it back.
#[utoipa::path]
#[post("/echo")]
async fn echo(body: Json<Echo>) -> Json<Echo> {
    body
}

#[utoipa::path]
#[get("/orders/{id}")]
async fn order(id: web::Path<OrderId>) -> HttpResponse {
    HttpResponse::Ok().json(json!({ "orderId": *id }))
}

#[utoipa::path]
#[get("/trace")]
async fn trace(trace: RequestTrace) -> HttpResponse {
    let same = crate::telemetry::current() == Some(trace.0);
    HttpResponse::Ok().json(json!({"trace": trace.0, "same": same}))
}

#[utoipa::path]
#[get("/panic")]
async fn panics() -> HttpResponse {
    panic!("the secret ingredient")
}

#[utoipa::path(params(("amount" = u32, Query)))]
#[post("/actix")]
async fn of_actix(body: web::Json<Echo>, _: web::Query<Echo>) -> HttpResponse {
    HttpResponse::Ok().json(body.into_inner())
}

/// Work that goes on for a while after the process was told to stop.
#[utoipa::path]
#[get("/slow")]
async fn slow(stopping: web::Data<CancellationToken>) -> &'static str {
    stopping.cancelled().await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    "done"
}

#[utoipa::path]
#[get("/busy")]
async fn busy() -> HttpResponse {
    HttpResponse::ServiceUnavailable().body("later")
}

#[utoipa::path]
#[get("/closed")]
async fn closed() -> Result<HttpResponse, Problem> {
    Err(Problem::new(actix_web::http::StatusCode::SERVICE_UNAVAILABLE, "closed", "It is closed."))
}

fn routes(config: &mut ServiceConfig) {
    config.service(echo).service(order).service(trace).service(panics).service(of_actix).service(slow);
    config.service(busy).service(closed);
}

/// The same, and pages for whoever can read them.
fn with_pages(config: &mut ServiceConfig) {
    routes(config);
    config.app_data(ProblemPages {
        are_for: |request| request.headers().contains_key("accept"),
        show: |problem| problem.error_response().set_body(BoxBody::new(format!("<h1>{}", problem.body().status))),
    });
}

fn runtime() -> Runtime {
    let env = Env::of([("AUTH_MODE", "header"), ("HTTP_ADDR", "127.0.0.1:0"), ("HTTP_WORKERS", "1")]);
    Runtime::new(Service::Order, env.clone(), CommonSettings::read(Service::Order, &env).expect("valid"))
}

struct Answered {
    status: u16,
    trace_id: String,
    content_type: String,
    allow: Option<String>,
    retry_after: Option<String>,
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("JSON: {}", self.text))
    }
}

async fn ask(request: TestRequest) -> Answered {
    ask_of(&Routes::new(routes), request).await
}

async fn ask_of(routes: &Routes, request: TestRequest) -> Answered {
    crate::metrics::start().expect("a recorder");
    let service = init_service(app(&runtime(), routes).expect("an app")).await;
    let response = match try_call_service(&service, request.to_request()).await {
        Ok(response) => response.into_parts().1,
        // As actix's server does it.
        Err(error) => error.error_response(),
    };
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let (status, trace_id) = (response.status().as_u16(), header("x-trace-id").expect("every answer has it"));
    let (content_type, allow) = (header("content-type").unwrap_or_default(), header("allow"));
    let retry_after = header("retry-after");
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("a body"));
    let text = String::from_utf8(body.to_vec()).expect("text");
    Answered { status, trace_id, content_type, allow, retry_after, text }
}

#[rstest]
#[case::unknown_path(TestRequest::get().uri("/nothing"), 404, "not-found")]
#[case::no_such_id(TestRequest::get().uri("/orders/42"), 404, "not-found")]
#[case::an_id_in_braces(TestRequest::get().uri("/orders/%7B0190163d-8694-739b-aea5-966c26f8ad91%7D"), 404, "not-found")]
#[case::an_id_without_hyphens(TestRequest::get().uri("/orders/0190163d8694739baea5966c26f8ad91"), 404, "not-found")]
#[case::an_urn(TestRequest::get().uri("/orders/urn:uuid:0190163d-8694-739b-aea5-966c26f8ad91"), 404, "not-found")]
#[case::no_text(TestRequest::get().uri("/orders/%ff%00"), 404, "not-found")]
#[case::wrong_method(TestRequest::post().uri("/orders/0190163d-8694-739b-aea5-966c26f8ad91"), 405, "method-not-allowed")]
#[case::no_such_parameter(TestRequest::get().uri("/trace?verbose=1"), 400, "invalid-query")]
#[case::no_such_parameter_of_a_post(TestRequest::post().uri("/echo?dryRun").set_payload("{"), 400, "invalid-query")]
#[case::no_body(TestRequest::post().uri("/echo"), 400, "malformed-json")]
#[case::no_json(TestRequest::post().uri("/echo").set_payload("{"), 400, "malformed-json")]
#[case::unknown_field(TestRequest::post().uri("/echo").set_payload(r#"{"amount":1,"x":1}"#), 422, "invalid-field")]
#[case::negative(TestRequest::post().uri("/echo").set_payload(r#"{"amount":-1}"#), 422, "invalid-field")]
#[case::too_large(TestRequest::post().uri("/echo").set_payload("x".repeat(65 * 1024)), 413, "body-too-large")]
#[case::said_too_large(TestRequest::get().uri("/trace").insert_header(("content-length", "65537")), 413, "body-too-large")]
#[case::panics(TestRequest::get().uri("/panic"), 500, "internal")]
#[case::actix_s_body(TestRequest::post().uri("/actix?amount=1").set_payload("{"), 400, "bad-request")]
#[case::actix_s_query(
    TestRequest::post().uri("/actix").set_payload("{\"amount\":1}").insert_header(("content-type", "application/json")),
    400, "invalid-query"
)]
#[actix_web::test]
async fn bad_input_is_a_problem(#[case] request: TestRequest, #[case] status: u16, #[case] code: &str) {
    let answer = ask(request.insert_header(("traceparent", TRACEPARENT))).await;
    assert_eq!(
        (answer.status, answer.content_type.as_str()),
        (status, crate::problem::CONTENT_TYPE),
        "{}",
        answer.text
    );
    assert_eq!((answer.json()["code"].as_str(), answer.json()["status"].as_u64()), (Some(code), Some(status.into())));
    assert_eq!((answer.json()["traceId"].as_str(), answer.trace_id.as_str()), (Some(TRACE_ID), TRACE_ID));
    let is_of_body = ["malformed-json", "body-too-large"].contains(&code);
    assert!(!is_of_body || answer.json()["field"] == "body", "{}", answer.text);
    assert!(!answer.text.contains("secret ingredient"));
}

#[actix_web::test]
async fn an_id_is_read_in_either_case_and_written_in_lower_case() {
    let answer = ask(TestRequest::get().uri("/orders/0190163D-8694-739B-AEA5-966C26F8AD91")).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"orderId": "0190163d-8694-739b-aea5-966c26f8ad91"})));
}

#[actix_web::test]
async fn whatever_is_503_says_when_to_come_back() {
    for path in ["/busy", "/closed"] {
        let answer = ask(TestRequest::get().uri(path)).await;
        assert_eq!((answer.status, answer.retry_after.as_deref()), (503, Some("1")), "{path}");
    }
    let runtime = runtime();
    runtime.shutdown.cancel();
    let service = init_service(app(&runtime, &Routes::none()).expect("an app")).await;
    let stopping = TestRequest::get().uri("/health/ready").to_request();
    let stopping = actix_web::test::call_service(&service, stopping).await;
    assert_eq!(stopping.status(), 503);
    assert_eq!(stopping.headers().get("retry-after").expect("it says when"), "1");
}

#[rstest]
#[case::no_such_thing(TestRequest::get().uri("/nothing"), 404)]
#[case::wrong_method(TestRequest::post().uri("/trace"), 405)]
#[case::no_such_id(TestRequest::get().uri("/orders/42"), 404)]
#[case::too_large(TestRequest::post().uri("/echo").insert_header(("content-length", "65537")), 413)]
#[case::panics(TestRequest::get().uri("/panic"), 500)]
#[case::away(TestRequest::get().uri("/closed"), 503)]
#[actix_web::test]
async fn who_can_read_pages_is_shown_problems_as_pages(#[case] request: TestRequest, #[case] status: u16) {
    let answer = ask_of(&Routes::new(with_pages), request.insert_header(("accept", "text/html"))).await;
    assert_eq!((answer.status, answer.text), (status, format!("<h1>{status}")));
    assert_eq!((answer.allow.is_some(), answer.retry_after.is_some()), (status == 405, status == 503));
}

#[actix_web::test]
async fn who_cannot_gets_json_also_where_there_are_pages() {
    let answer = ask_of(&Routes::new(with_pages), TestRequest::get().uri("/nothing")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (404, Some("not-found")));
}

#[actix_web::test]
async fn a_wrong_method_is_told_the_right_ones() {
    assert_eq!(ask(TestRequest::get().uri("/echo")).await.allow.as_deref(), Some("POST"));
    assert_eq!(ask(TestRequest::default().method(Method::HEAD).uri("/echo")).await.allow.as_deref(), Some("POST"));
    assert_eq!(ask(TestRequest::post().uri("/metrics")).await.allow.as_deref(), Some("GET, HEAD"));
    assert_eq!(ask(TestRequest::post().uri("/trace")).await.allow.as_deref(), Some("GET, HEAD"));
}

#[actix_web::test]
async fn a_parameter_that_is_unknown_is_named_and_machines_may_add_theirs() {
    let answer = ask(TestRequest::post().uri("/actix?amount=1&am%20ount=2")).await;
    assert_eq!((answer.status, answer.json()["field"].as_str()), (400, Some("am ount")));
    assert_eq!(ask(TestRequest::get().uri("/metrics?collect=all")).await.status, 200);
    assert_eq!(ask(TestRequest::get().uri("/nothing?x=1")).await.status, 404);
}

#[actix_web::test]
async fn a_body_is_read_whatever_its_type_and_up_to_the_limit() {
    let padded = format!("{{\"amount\":7}}{}", " ".repeat(MAX_BODY_BYTES - 12));
    let request = TestRequest::post().uri("/echo").insert_header(("content-type", "text/plain"));
    let answer = ask(request.set_payload(padded)).await;
    assert_eq!((answer.status, answer.json()), (200, json!({"amount": 7})));
}

#[actix_web::test]
async fn a_trace_is_continued_and_the_handler_stands_below_the_caller() {
    let answer = ask(TestRequest::get().uri("/trace").insert_header(("traceparent", TRACEPARENT))).await;
    let below = answer.json()["trace"].as_str().expect("a trace").to_owned();
    assert!(below.starts_with(&format!("00-{TRACE_ID}-")) && below != TRACEPARENT, "{below}");
    assert_eq!((answer.json()["same"].as_bool(), answer.trace_id.as_str()), (Some(true), TRACE_ID));
}

#[rstest]
#[case::rubbish(&["rubbish"])]
#[case::no_trace(&["00-00000000000000000000000000000000-00f067aa0ba902b7-01"])]
#[case::capitals(&["00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"])]
#[case::two(&[TRACEPARENT, "00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])]
#[case::two_of_one_trace(&[TRACEPARENT, TRACEPARENT])]
#[case::two_in_one(&["00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01, 00-5bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"])]
#[actix_web::test]
async fn a_new_trace_begins_where_none_is_said_as_w3c_wants_it(#[case] sent: &[&str]) {
    let request = TestRequest::get().uri("/trace");
    let answer = ask(sent.iter().fold(request, |request, value| request.append_header(("traceparent", *value)))).await;
    assert_eq!(answer.status, 200);
    let begun: common_events::TraceId = answer.trace_id.parse().expect("a trace");
    assert!(!sent.iter().any(|sent| sent.to_lowercase().contains(&begun.to_string())), "{begun}");
}

#[actix_web::test]
async fn every_service_tells_how_it_is_and_what_it_does() {
    assert_eq!(ask(TestRequest::get().uri("/health/live")).await.json(), json!({"status": "live"}));
    assert_eq!(ask(TestRequest::get().uri("/health/ready")).await.json(), json!({"status": "ready"}));
    let description = ask(TestRequest::get().uri("/openapi.json")).await.json();
    assert_eq!(description["info"]["title"], "order-service");
    assert!(description["paths"]["/echo"]["post"]["requestBody"].is_object(), "{description}");
    assert_eq!(ask(TestRequest::get().uri("/docs")).await.status, 307);
    assert!(ask(TestRequest::get().uri("/docs/")).await.text.contains("swagger-ui"));
}

#[actix_web::test]
async fn requests_are_counted_by_route_and_the_process_by_the_system() {
    ask(TestRequest::get().uri("/orders/0190163d-8694-739b-aea5-966c26f8ad91")).await;
    let metrics = ask(TestRequest::get().uri("/metrics")).await.text;
    for expected in [
        r#"http_requests_total{method="GET",path="/orders/{id}",status="200"}"#,
        r#"http_request_duration_seconds_bucket{method="GET",path="/orders/{id}",status="200",le="0.0005"}"#,
        "process_resident_memory_bytes ",
        "process_cpu_seconds_total ",
        "process_start_time_seconds ",
        "# HELP http_requests_total Requests answered",
        "# TYPE http_request_duration_seconds histogram",
        "# HELP process_cpu_seconds_total ",
        "# TYPE process_cpu_seconds_total counter",
    ] {
        assert!(metrics.contains(expected), "{expected} in\n{metrics}");
    }
}
