//! The calls of coupon-service over HTTP; the gate is on the real Redis.

use common_events::{Service, events::CouponIssueRequested};
use coupon_service::{admission::Admission, events, gate::Gate, http::routes};
use messaging::direct::Publisher;
use reqwest::{Method, StatusCode, header};
use serde_json::Value;
use service_runtime::{Runtime, http::Routes};
use test_support::{Served, runtime_with};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::counter::{Counter, KIM};

const SHARED_REDIS: &str = "redis://127.0.0.1:16379";

/// The desk beside the counter: what is asked over HTTP.
pub(crate) struct Desk {
    pub(crate) counter: Counter,
    pub(crate) runtime: Runtime,
    admission: Admission,
    served: Served,
    client: reqwest::Client,
}

pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Value,
}

impl Desk {
    pub(crate) async fn open() -> Self {
        let counter = Counter::open().await;
        let redis = std::env::var("TEST_REDIS_URL").unwrap_or_else(|_| SHARED_REDIS.to_owned());
        let prefix = format!("test-{}-", Uuid::now_v7().simple());
        let runtime = runtime_with(
            Service::Coupon,
            &[
                ("DATABASE_URL", &counter.database.url),
                ("REDIS_URL", &redis),
                ("KAFKA_BROKERS", &test_support::kafka_brokers()),
                ("TOPIC_PREFIX", &prefix),
            ],
        );
        let pool = counter.database.pool.clone();
        let gate =
            Gate::at(runtime.settings.redis_url.as_ref().expect("set"), &prefix, &runtime.tasks).expect("a gate");
        let publisher = Publisher::start::<CouponIssueRequested>(&runtime, pool.clone()).await.expect("a publisher");
        let (_, settling) = mpsc::channel(events::MAX_UNSETTLED_BATCHES);
        let admission = Admission::start(&runtime, pool, gate, publisher, settling).expect("good settings");
        let served = Served::new(&runtime, routes(counter.database.pool.clone(), admission.clone()));
        Self { counter, runtime, admission, served, client: reqwest::Client::new() }
    }

    /// The calls of coupon-service.
    pub(crate) fn routes(&self) -> Routes {
        routes(self.counter.database.pool.clone(), self.admission.clone())
    }

    pub(crate) fn gate(&self) -> &Gate {
        self.admission.gate()
    }

    /// An admin puts up a coupon.
    pub(crate) async fn put_up(&self, coupon: &Value) -> Answer {
        self.ask("admin", Method::POST, "/coupons", Some(&coupon.to_string())).await
    }

    /// Kim asks, who is a customer.
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("customer", Method::GET, path, None).await
    }

    pub(crate) async fn ask(&self, roles: &str, method: Method, path: &str, body: Option<&str>) -> Answer {
        self.ask_as(Some(KIM), roles, method, path, body).await
    }

    pub(crate) async fn ask_as(
        &self,
        user: Option<&str>,
        roles: &str,
        method: Method,
        path: &str,
        body: Option<&str>,
    ) -> Answer {
        let request = self.client.request(method, format!("{}{path}", self.served.url)).header("X-Roles", roles);
        let request = match user {
            Some(user) => request.header("X-User-Id", user),
            None => request,
        };
        let answer = request.body(body.unwrap_or_default().to_owned()).send().await.expect("the server answers");
        let location = answer.headers().get(header::LOCATION);
        let location = location.map(|location| location.to_str().expect("text").to_owned());
        Answer { status: answer.status(), location, body: answer.json().await.expect("the answer is JSON") }
    }

    pub(crate) async fn close(self) {
        drop(self.served);
        self.admission.stop().await.expect("it stops in order");
    }
}
