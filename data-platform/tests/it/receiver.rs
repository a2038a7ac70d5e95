//! `platform-receiver`, the platform of the local suite, as a process.

use std::process::{Child, Command, Output, Stdio};

use serde_json::{Value, json};
use service_runtime::{http, settings::Url};
use test_support::{eventually, free_port};

use crate::outside::TIMEOUT;

struct Receiver {
    process: Child,
    url: String,
    client: reqwest::Client,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(address: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_platform-receiver"));
    command.env_clear().env("HTTP_ADDR", address).stdin(Stdio::null()).stdout(Stdio::null());
    command
}

impl Receiver {
    async fn start() -> Self {
        let port = free_port();
        let process = command(&format!("127.0.0.1:{port}")).spawn().expect("the program was built");
        let url = format!("http://127.0.0.1:{port}");
        let client = http::client(&url.parse::<Url>().expect("a URL"), TIMEOUT * 10).expect("a client");
        let receiver = Self { process, url, client };
        eventually("the receiver listens", async || receiver.get("/health/ready").await).await;
        receiver
    }

    async fn get(&self, path: &str) -> Option<Value> {
        self.client.get(format!("{}{path}", self.url)).send().await.ok()?.json().await.ok()
    }

    /// The status of a payment that is sent.
    async fn pays(&self, key: Option<&str>, body: &str) -> u16 {
        let mut request = self.client.post(format!("{}/payments", self.url)).body(body.to_owned());
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        request.send().await.expect("an answer").status().as_u16()
    }

    async fn be(&self, mode: Value) -> u16 {
        let told = self.client.put(format!("{}/mode", self.url)).body(mode.to_string());
        told.send().await.expect("an answer").status().as_u16()
    }

    async fn received(&self, query: &str) -> Vec<Value> {
        let listed = self.get(&format!("/received{query}")).await.expect("a list");
        listed["items"].as_array().expect("items").clone()
    }
}

#[tokio::test]
async fn what_arrives_twice_under_one_key_is_there_once_and_both_calls_are_told() {
    let receiver = Receiver::start().await;
    let (kim, lee) = (r#"{"orderId":"1","userId":"kim","total":5}"#, r#"{"orderId":"2","userId":"lee"}"#);
    assert_eq!(receiver.pays(Some("a"), kim).await, 201);
    assert_eq!(receiver.pays(Some("a"), kim).await, 200);
    assert_eq!(receiver.pays(Some("a"), lee).await, 422, "the key stands for another body");
    assert_eq!(receiver.pays(Some("b"), lee).await, 201);

    let [b, a] = &*receiver.received("").await else { panic!("two") };
    assert_eq!((&a["idempotencyKey"], &b["idempotencyKey"]), (&json!("a"), &json!("b")));
    assert_eq!(a["body"], serde_json::from_str::<Value>(kim).expect("JSON"));
    let answered: Vec<&Value> = a["calls"].as_array().expect("calls").iter().map(|call| &call["answered"]).collect();
    assert_eq!(answered, [&json!(201), &json!(200), &json!(422)]);
    for query in ["?orderId=1", "?userId=kim", "?idempotencyKey=a"] {
        let found = receiver.received(query).await;
        assert_eq!((found.len(), &found[0]["idempotencyKey"]), (1, &json!("a")), "{query}");
    }
    assert_eq!(receiver.received("?limit=1").await.len(), 1);
    let id = "0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b";
    assert_eq!(receiver.pays(Some("c"), &json!({"orderId": id}).to_string()).await, 201);
    assert_eq!(receiver.received(&format!("?orderId={}", id.to_uppercase())).await.len(), 1, "in either case");
    let shown = receiver.get("/").await.expect("how it stands");
    assert_eq!(shown["counts"], json!({ "taken": 3, "calls": 5, "kept": 3 }));
    assert_eq!(shown["mode"]["answer"], "takes");
}

#[tokio::test]
async fn it_is_down_or_refuses_as_it_is_told_and_for_whom() {
    let receiver = Receiver::start().await;
    let (kim, lee) = (r#"{"orderId":"1","userId":"kim"}"#, r#"{"orderId":"2","userId":"lee"}"#);
    assert_eq!(receiver.be(json!({ "answer": "unavailable", "userId": "kim" })).await, 200);
    assert_eq!(receiver.pays(Some("a"), kim).await, 503);
    assert_eq!(receiver.pays(Some("b"), lee).await, 201);
    assert_eq!(receiver.be(json!({ "answer": "refuses" })).await, 200);
    assert_eq!(receiver.pays(Some("a"), kim).await, 422);
    let [turned_away] = &*receiver.received("?orderId=1").await else { panic!("one") };
    assert_eq!((&turned_away["takenAt"], &turned_away["callCount"]), (&Value::Null, &json!(2)));

    assert_eq!(receiver.be(json!({ "answer": "takes" })).await, 200);
    assert_eq!(receiver.pays(Some("a"), kim).await, 201);

    assert_eq!(receiver.be(json!({ "answer": "unavailable", "seconds": 1 })).await, 200);
    assert_eq!(receiver.pays(Some("c"), kim).await, 503);
    eventually("it is up again by itself", async || (receiver.pays(Some("c"), kim).await == 201).then_some(())).await;

    assert_eq!(receiver.be(json!({ "answer": "sings" })).await, 400);
    assert_eq!(receiver.be(json!({ "answer": "late", "seconds": 1_000_000 })).await, 422);
}

#[tokio::test]
async fn what_is_no_payment_is_refused() {
    let receiver = Receiver::start().await;
    assert_eq!(receiver.pays(None, "{}").await, 400);
    assert_eq!(receiver.pays(Some("a"), "not JSON").await, 400);
    assert_eq!(receiver.pays(Some("a"), &"x".repeat(300_000)).await, 413);
    assert!(receiver.received("").await.is_empty());
}

#[test]
fn it_listens_on_loopback_only() {
    let Output { status, stderr, .. } = command("0.0.0.0:0").output().expect("the program was built");
    assert_eq!(status.code(), Some(2));
    let said = String::from_utf8_lossy(&stderr).into_owned();
    assert!(said.starts_with("HTTP_ADDR") && said.lines().count() == 1, "{said}");
}
