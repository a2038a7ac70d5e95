//! What every service answers, whatever is asked: through the whole app, and on a real port.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse, get,
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

fn routes(config: &mut ServiceConfig) {
    config.service(echo).service(order).service(trace).service(panics).service(of_actix).service(slow);
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
    text: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("JSON: {}", self.text))
    }
}

async fn ask(request: TestRequest) -> Answered {
    crate::metrics::start().expect("a recorder");
    let service = init_service(app(&runtime(), &Routes::new(routes)).expect("an app")).await;
    let response = match try_call_service(&service, request.to_request()).await {
        Ok(response) => response.into_parts().1,
        // As actix's server does it.
        Err(error) => error.error_response(),
    };
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().expect("text").to_owned());
    let (status, trace_id) = (response.status().as_u16(), header("x-trace-id").expect("every answer has it"));
    let (content_type, allow) = (header("content-type").unwrap_or_default(), header("allow"));
    let body = actix_web::body::to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("a body"));
    let text = String::from_utf8(body.to_vec()).expect("text");
    Answered { status, trace_id, content_type, allow, text }
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
    assert!(!answer.text.contains("secret ingredient"));
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
#[case("rubbish")]
#[case("00-00000000000000000000000000000000-00f067aa0ba902b7-01")]
#[actix_web::test]
async fn a_traceparent_that_is_none_is_ignored(#[case] sent: &str) {
    let answer = ask(TestRequest::get().uri("/trace").insert_header(("traceparent", sent))).await;
    assert_eq!(answer.status, 200);
    assert!(answer.trace_id.parse::<common_events::TraceId>().is_ok());
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
    ] {
        assert!(metrics.contains(expected), "{expected} in\n{metrics}");
    }
}

/// A server on a port of its own; its thread ends with `serve`.
struct Running {
    runtime: Runtime,
    address: SocketAddr,
    serving: std::thread::JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start() -> Self {
        let runtime = runtime();
        let (tell, told) = std::sync::mpsc::channel();
        let served = runtime.clone();
        let serving = std::thread::spawn(move || {
            let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            let stopping = web::Data::new(served.shutdown.clone());
            let routes = Routes::new(move |config| {
                config.app_data(stopping.clone());
                routes(config);
            });
            tokio.block_on(serve(&served, routes, move |address| tell.send(address).expect("somebody listens")))
        });
        let address = told.recv_timeout(Duration::from_secs(10)).expect("it listens");
        Self { runtime, address, serving }
    }

    fn send(&self, path: &str) -> TcpStream {
        self.send_a("GET", path)
    }

    fn send_a(&self, method: &str, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
        stream.write_all(format!("{method} {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).expect("sends");
        stream
    }
}

fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let (mut text, mut byte) = (String::new(), [0]);
    while !text.ends_with(end) && stream.read(&mut byte).expect("answers in time") > 0 {
        text.push(char::from(byte[0]));
    }
    text
}

#[test]
fn a_stop_answers_what_is_under_way_and_does_not_wait_for_idle_connections() {
    let server = Running::start();
    let mut idle = server.send("/health/live");
    assert!(read_until(&mut idle, "\r\n\r\n").starts_with("HTTP/1.1 200"));
    let mut under_way = server.send("/slow");
    let seen = server.send("/health/ready");
    drop(seen);
    // The request is under way once the server has it; the idle connection stays open meanwhile.
    let mut probe = server.send("/health/live");
    read_until(&mut probe, "}");

    let stopped = Instant::now();
    server.runtime.shutdown.cancel();
    assert!(read_until(&mut under_way, "done").ends_with("done"));
    server.serving.join().expect("no panic").expect("ends well");
    assert!(stopped.elapsed() < Duration::from_secs(3), "idle clients keep nobody: {:?}", stopped.elapsed());
}

#[test]
fn head_is_answered_like_get_without_the_body() {
    let server = Running::start();
    let path = "/orders/0190163d-8694-739b-aea5-966c26f8ad91";
    let mut get = server.send(path);
    let mut head = server.send_a("HEAD", path);
    let (got, mut told) = (read_until(&mut get, "\r\n\r\n"), read_until(&mut head, "\r\n\r\n"));
    let length = |head: &str| head.lines().find(|line| line.starts_with("content-length: ")).map(ToOwned::to_owned);
    assert!(told.starts_with("HTTP/1.1 200") && length(&told) > Some("content-length: 1".to_owned()), "{told}");
    assert_eq!(length(&told), length(&got));
    head.write_all(b"GET /health/live HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sends");
    told.clear();
    head.read_to_string(&mut told).expect("answers");
    assert!(told.starts_with("HTTP/1.1 200"), "nothing stands between the two answers: {told}");
    server.runtime.shutdown.cancel();
    server.serving.join().expect("no panic").expect("ends well");
}

#[test]
fn a_port_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let mut runtime = runtime();
    runtime.settings.http_addr = taken.local_addr().expect("an address");
    let tokio = tokio::runtime::Runtime::new().expect("a runtime");
    let error = tokio.block_on(runtime.serve(Routes::new(routes))).expect_err("taken");
    assert!(format!("{error:#}").starts_with(&format!("listening on HTTP_ADDR {}", runtime.settings.http_addr)));
}
