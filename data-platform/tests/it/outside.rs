//! The outside platform: a server that answers as a test says, and remembers what came.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use common_events::{OrderId, events::PaymentCompleted};
use data_platform::platform::{Platform, Settings};
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::{Mock, MockServer, Request, Respond, ResponseTemplate, matchers};

/// How long a call may take here.
pub(crate) const TIMEOUT: Duration = Duration::from_millis(400);
/// Calls at the same time.
pub(crate) const CONCURRENCY: usize = 4;

/// How the platform answers from now on.
type Answering = Arc<Mutex<Box<dyn Respond>>>;

struct Mood(Answering);

impl Respond for Mood {
    fn respond(&self, request: &Request) -> ResponseTemplate {
        self.0.lock().expect("no answer panics").respond(request)
    }
}

/// The platform, and the way to it.
pub(crate) struct Outside {
    pub(crate) server: MockServer,
    answering: Answering,
}

impl Outside {
    /// Takes everything.
    pub(crate) async fn that_takes() -> Self {
        Self::that_answers(ResponseTemplate::new(201)).await
    }

    /// Answers every call so.
    pub(crate) async fn that_answers(answer: impl Respond + 'static) -> Self {
        let answering: Answering = Arc::new(Mutex::new(Box::new(answer)));
        let server = MockServer::start().await;
        let calls = Mock::given(matchers::method("POST")).and(matchers::path("/payments"));
        calls.respond_with(Mood(Arc::clone(&answering))).mount(&server).await;
        Self { server, answering }
    }

    /// Answers every call so from now on.
    pub(crate) fn answers(&self, answer: impl Respond + 'static) {
        *self.answering.lock().expect("no answer panics") = Box::new(answer);
    }

    pub(crate) fn platform(&self) -> Platform {
        platform_at(&format!("{}/payments", self.server.uri()))
    }

    /// All calls, in the order in which they came.
    pub(crate) async fn calls(&self) -> Vec<Request> {
        self.server.received_requests().await.expect("they are recorded")
    }

    /// The orders that were told of, in the order in which they came.
    pub(crate) async fn orders(&self) -> Vec<OrderId> {
        self.calls().await.iter().map(order_of).collect()
    }
}

pub(crate) fn platform_at(url: &str) -> Platform {
    let url = url.parse().expect("a URL");
    Platform::new(&Settings { url, timeout: TIMEOUT, concurrency: CONCURRENCY }).expect("a client")
}

pub(crate) fn body(call: &Request) -> Value {
    serde_json::from_slice(&call.body).expect("JSON")
}

pub(crate) fn order_of(call: &Request) -> OrderId {
    serde_json::from_value(body(call)["orderId"].clone()).expect("an order")
}

pub(crate) fn header(call: &Request, name: &str) -> String {
    call.headers.get(name).expect(name).to_str().expect("text").to_owned()
}

/// An order that was just paid.
pub(crate) fn payment() -> PaymentCompleted {
    serde_json::from_value(json!({
        "orderId": Uuid::now_v7(), "userId": "kim",
        "lines": [{"productId": "mug", "name": "Mug", "quantity": 2, "unitPrice": 12_000, "amount": 24_000}],
        "discount": 4_000, "total": 20_000, "paidAt": "2026-11-21T06:00:00.123Z",
    }))
    .expect("a payment")
}
