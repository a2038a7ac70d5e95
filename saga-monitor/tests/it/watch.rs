//! A monitor with a database of its own, and other services that answer what a test makes them answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{EventId, Service};
use messaging::{OwnTopic, Record, admin::Office, delivery::Group, ladder::Ladder};
use reqwest::{Method, RequestBuilder, redirect::Policy};
use saga_monitor::{
    cluster::{Cluster, Standing, topics_read_by},
    consumers::Observed,
    detection::{Detection, Round},
    events::{self, recorder::Recorder, watched_groups},
    http::{self, Desk},
    page,
    services::{Identity, Services},
    store::{self, alarms::Notices},
};
use serde_json::{Value, json};
use service_runtime::{CommonSettings, Env, Runtime};
use test_support::{Database, Served};
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{method, path},
};

use crate::story::{Story, Told};

/// How long a saga may stand still.
pub(crate) const STUCK_AFTER: TimeDelta = TimeDelta::minutes(5);

/// One monitor.
pub(crate) struct Watch {
    pub(crate) database: Database,
    recorder: Arc<Recorder>,
    /// Every other service, in one.
    pub(crate) others: MockServer,
    pub(crate) services: Services,
    detection: tokio::sync::Mutex<Detection>,
    next: Mutex<BTreeMap<String, i64>>,
    http: reqwest::Client,
    served: Served,
    pub(crate) runtime: Runtime,
    pub(crate) desk: Desk,
    pub(crate) group: Arc<Group>,
}

impl Watch {
    /// Without Kafka: these tests hand over what the cluster says.
    pub(crate) async fn begin() -> Self {
        Self::begin_with(&[("AUTH_MODE", "header")]).await
    }

    /// Beside this broker, which has no topic of ours.
    pub(crate) async fn begin_beside(brokers: &str) -> Self {
        Self::begin_with(&[("AUTH_MODE", "header"), ("KAFKA_BROKERS", brokers)]).await
    }

    /// With these variables beside those that every test has.
    pub(crate) async fn begin_with(variables: &[(&str, &str)]) -> Self {
        let prefix = format!("nobody-{}-", uuid::Uuid::now_v7().simple());
        let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let others = MockServer::start().await;
        let urls: Vec<String> = Service::ALL.iter().map(|service| format!("{service}={}", others.uri())).collect();
        let service_urls = urls.join(",");
        let usual = [
            ("OTEL_TRACES_EXPORTER", "none"),
            ("KAFKA_BROKERS", "127.0.0.1:1"),
            ("TOPIC_PREFIX", &prefix),
            ("SERVICE_URLS", &service_urls),
        ];
        let env = Env::of(usual.iter().chain(variables).copied());
        let identity = Identity::read(&env, "saga-monitor").expect("a name");
        let services = Services::read(&env, identity, std::time::Duration::from_secs(5)).expect("good URLs");
        let settings = CommonSettings::read(Service::SagaMonitor, &env).expect("good settings");
        let pool = database.pool.clone();
        let cluster = Cluster::new(&settings.kafka);
        let observed = Observed::default();
        let detection = Detection::new(
            pool.clone(),
            cluster.clone(),
            services.clone(),
            STUCK_AFTER,
            Notices::Told,
            observed.clone(),
        );
        let zipkin = settings.traces.zipkin_endpoint.clone();
        let desk = Desk { pool: pool.clone(), cluster, services: services.clone(), observed, zipkin };
        let runtime = Runtime::new(Service::SagaMonitor, env, settings);
        let recorder = Arc::new(Recorder::start(&runtime.tasks, pool.clone()));
        let subscriptions = events::subscriptions(Arc::clone(&recorder));
        let group = Arc::new(Group::new(pool, subscriptions, Ladder::default()));
        let operators = Office::of(Arc::clone(&group), &runtime.settings).routes();
        let page = page::routes(&runtime, desk.clone()).expect("good settings");
        let routes = http::routes(desk.clone()).and(page).and(operators);
        Self {
            recorder,
            database,
            others,
            services,
            detection: detection.into(),
            next: Mutex::default(),
            // A page that sends on is looked at as it is.
            http: reqwest::Client::builder().redirect(Policy::none()).build().expect("a client"),
            served: Served::new(&runtime, routes),
            runtime,
            desk,
            group,
        }
    }

    // --- hearing --------------------------------------------------------------------------------

    /// The next record of a topic, on one partition.
    pub(crate) fn record(&self, topic: &str, key: &str, value: &[u8], at: DateTime<Utc>) -> Record {
        let mut next = self.next.lock().expect("no test panics while it holds this");
        let next = next.entry(topic.to_owned()).or_default();
        *next += 1;
        Record {
            topic: topic.to_owned(),
            partition: 0,
            offset: *next - 1,
            timestamp: Some(at),
            key: Some(key.as_bytes().to_vec()),
            value: Some(value.to_vec()),
            headers: Vec::new(),
        }
    }

    pub(crate) fn record_of(&self, told: &Told) -> Record {
        self.record(told.topic, &told.key, &told.value, told.at)
    }

    /// Hears records as a partition hands them over; returns when they are written down.
    pub(crate) async fn hear(&self, records: &[Record]) {
        self.recorder.record(records).await.expect("PostgreSQL takes them");
    }

    /// Hears a story in its order; returns where its events lie.
    pub(crate) async fn hear_all(&self, story: &Story) -> Vec<Record> {
        let records: Vec<Record> = story.told.iter().map(|told| self.record_of(told)).collect();
        self.hear(&records).await;
        records
    }

    /// What a group makes of an event that it could not handle; `record` is where the event lies.
    pub(crate) fn hop(
        &self,
        group: Service,
        own: OwnTopic,
        record: &Record,
        attempt: u32,
        at: DateTime<Utc>,
    ) -> Record {
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        let mut hop = self.record(&own.name(group), "a key", record.value.as_deref().unwrap_or_default(), at);
        hop.headers = vec![
            header("x-origin-topic", &record.topic),
            header("x-origin-partition", &record.partition.to_string()),
            header("x-origin-offset", &record.offset.to_string()),
            header("x-attempt", &attempt.to_string()),
            header("x-error-class", "broken"),
            header("x-error-message", "it did not work"),
            header("x-group", group.name()),
        ];
        if own != OwnTopic::Dlt {
            hop.headers.push(header("x-due-at", &(at + TimeDelta::seconds(30)).to_rfc3339()));
        }
        hop
    }

    // --- judging --------------------------------------------------------------------------------

    /// A round when everything before that moment is known, and every group has read everything.
    pub(crate) async fn round_at(&self, known_until: DateTime<Utc>) -> Round {
        self.round_over(&caught_up(), known_until).await
    }

    /// The same, though something may fail.
    pub(crate) async fn try_round_at(&self, known_until: DateTime<Utc>) -> anyhow::Result<Round> {
        self.detection.lock().await.round_over(Some(&caught_up()), Some(known_until)).await
    }

    pub(crate) async fn round_over(&self, cluster: &Standing, known_until: DateTime<Utc>) -> Round {
        let mut detection = self.detection.lock().await;
        detection.round_over(Some(cluster), Some(known_until)).await.expect("PostgreSQL answers")
    }

    /// Makes every group answer so about this event.
    pub(crate) async fn others_say(&self, event: EventId, state: &str, more: Value) {
        let mut body = json!({"group": "whoever", "eventId": event, "state": state});
        body.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
        self.others_answer(&format!("/admin/inbox/{event}"), ResponseTemplate::new(200).set_body_json(body)).await;
    }

    /// The relay is ready.
    pub(crate) async fn relay_works(&self) {
        self.others_answer("/health/ready", ResponseTemplate::new(200).set_body_json(json!({"status": "ready"}))).await;
    }

    pub(crate) async fn others_answer(&self, at: &str, answer: ResponseTemplate) {
        Mock::given(method("GET")).and(path(at)).respond_with(answer).mount(&self.others).await;
    }

    // --- asking ---------------------------------------------------------------------------------

    /// A call of an operator.
    pub(crate) fn ask(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as_nobody(method, path).header("X-User-Id", "olga").header("X-Roles", "operator")
    }

    pub(crate) fn ask_as_customer(&self, method: Method, path: &str) -> RequestBuilder {
        self.ask_as_nobody(method, path).header("X-User-Id", "kim")
    }

    pub(crate) fn ask_as_nobody(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    /// Where a path is.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.served.url)
    }

    /// What a call answers that goes well.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let (status, body) = read(self.ask(Method::GET, path)).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub(crate) async fn saga(&self, key: impl std::fmt::Display) -> Value {
        self.get(&format!("/api/sagas/{key}")).await
    }

    /// The open alarms of a kind: cause and count.
    pub(crate) async fn alarms(&self, kind: &str) -> Vec<(String, i64)> {
        let found = self.get(&format!("/api/alarms?kind={kind}&state=OPEN")).await;
        let cause = |alarm: &Value| (text(&alarm["cause"]), alarm["count"].as_i64().expect("a count"));
        found["items"].as_array().expect("items").iter().map(cause).collect()
    }

    pub(crate) async fn count(&self, what: &str) -> i64 {
        let client = self.database.pool.get().await.expect("a connection");
        client.query_one(&format!("SELECT count(*) FROM {what}"), &[]).await.expect("PostgreSQL answers").get(0)
    }
}

/// The status and the JSON of an answer.
pub(crate) async fn read(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.expect("the server answers");
    let status = answer.status().as_u16();
    let text = answer.text().await.expect("a body");
    (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}")))
}

pub(crate) fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// Every group is there and has read everything.
pub(crate) fn caught_up() -> Standing {
    let all = |group| topics_read_by(group).map(|topic| ((topic, 0), i64::MAX)).collect();
    Standing {
        committed: watched_groups().map(|group| (group, all(group))).collect(),
        members: watched_groups().map(|group| (group, 1)).collect(),
        ..Standing::default()
    }
}
