//! Ten thousand dead letters, a real broker, real processes, and a kill −9 in the middle.

use std::{
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use common_events::{EventData, Service, envelope};
use messaging::{Consumer, delivery::Group};
use serde_json::{Value, json};
use service_runtime::{
    CommonSettings, Health, Tasks,
    database::{self, Pool},
    settings::{DatabaseSettings, DatabaseUrl, Env, KafkaSettings},
};
use test_support::eventually;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Desk, LADDER};
use crate::{
    broker::{Broker, Member},
    relay::process::Relay,
    toys::{self, Toy, Toys, event},
};

const MANY: i32 = 10_000;

const TOPICS: [&str; 11] = [
    "order-created",
    "order-service.retry-1",
    "order-service.retry-2",
    "order-service.retry-3",
    "order-service.replay",
    "order-service.dlt",
    "payment-service.retry-1",
    "payment-service.retry-2",
    "payment-service.retry-3",
    "payment-service.replay",
    "payment-service.dlt",
];

/// It answers nothing: its answer's topic isn't there.
fn toy(n: i64) -> Toy {
    Toy::fine(&format!("bear-{n}"), n)
}

/// Dead letters as `n` toys would have left them that died of something that is mended by now.
async fn bury(desk: &Desk, n: i32) {
    // One really dies, so that everything there is that others need.
    desk.bury_toys([toy(0)]).await;
    let toys: Vec<_> = (1..n).map(|n| event(toy(n.into()))).collect();
    let ids: Vec<Uuid> = toys.iter().map(|toy| toy.id.uuid()).collect();
    let keys: Vec<&str> = toys.iter().map(|toy| &*toy.subject).collect();
    let payloads: Vec<Vec<u8>> = toys.iter().map(|toy| envelope::encode(toy).expect("JSON")).collect();
    let client = desk.pool().get().await.expect("a connection");
    let buried = client
        .execute(
            r#"WITH toys AS (
                   SELECT * FROM unnest($1::uuid[], $2::text[], $3::bytea[]) WITH ORDINALITY
                       AS toy (event_id, key, payload, place)
               ), known AS (
                   INSERT INTO inbox (day, event_id, state, topic, "partition", "offset")
                   SELECT (now() AT TIME ZONE 'UTC')::date, event_id, 'dead', $4, 0, 1000 + place FROM toys
               )
               INSERT INTO dead_letters (
                   id, state, origin_topic, origin_partition, origin_offset, key, payload, header_names, header_values,
                   event_id, event_type, key_text, attempts, error_class, error_message, first_failed_at,
                   last_failed_at, day)
               SELECT gen_random_uuid(), 'DEAD', $4, 0, 1000 + place, key::bytea, payload, '{}', '{}',
                   event_id, $4, key, 1, 'unprocessable', 'mended by now', now(), now(),
                   (now() AT TIME ZONE 'UTC')::date
               FROM toys"#,
            &[&ids, &keys, &payloads, &Toy::TOPIC.name()],
        )
        .await
        .expect("dead letters");
    assert_eq!(buried, u64::try_from(n - 1).expect("positive"));
}

async fn progress(desk: &Desk, replay: &str) -> Value {
    desk.get(&format!("/admin/replays/{replay}")).await.body
}

async fn ended(desk: &Desk, replay: &str) -> Value {
    // More than the patience of one wait, as the machine may be busy.
    for _ in 0..5 {
        let waited = tokio::time::timeout(Duration::from_secs(50), async {
            loop {
                let progress = progress(desk, replay).await;
                if progress["endedAt"].is_string() {
                    return progress;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if let Ok(progress) = waited.await {
            return progress;
        }
    }
    panic!("not ended: {}", progress(desk, replay).await);
}

async fn each_once(desk: &Desk) {
    let many = i64::from(MANY);
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, many);
    assert_eq!(desk.count("SELECT count(DISTINCT event_id) FROM journal").await, many);
    assert_eq!(desk.count("SELECT count(*) FROM inbox WHERE state = 'applied'").await, many);
    assert_eq!(
        desk.count("SELECT count(*) FROM dead_letters WHERE state = 'REPLAYED' AND closed_at IS NOT NULL").await,
        many
    );
}

#[actix_web::test]
async fn a_replay_of_ten_thousand_survives_kill_9_of_service_and_relay_and_has_its_effects_once() {
    let broker = Broker::with(&TOPICS).await;
    let desk = Desk::open().await;
    bury(&desk, MANY).await;
    // Another group reads the same topic.
    let payments = toys::database().await;
    let other = Member::join(&broker, &payments.pool, Service::Payment);
    other.has_joined().await;

    let mut relay = Relay::start(&broker, &[desk.url()]);
    let mut service = ServiceProcess::start(&broker, desk.url());
    let asked = desk.replay(json!({"filter": {"state": "DEAD"}, "ratePerSecond": 1_000, "reason": "mended"})).await;
    assert_eq!((asked.status, &asked.body["total"]), (202, &json!(MANY)));
    let replay = asked.id();
    for (part, what) in [(MANY / 5, "service"), (2 * MANY / 5, "relay"), (3 * MANY / 5, "both")] {
        eventually(&format!("{part} are applied"), || async {
            (progress(&desk, &replay).await["applied"].as_i64()? >= part.into()).then_some(())
        })
        .await;
        if what != "relay" {
            service.kill().await;
            service = ServiceProcess::start(&broker, desk.url());
        }
        if what != "service" {
            relay.kill().await;
            relay = Relay::start(&broker, &[desk.url()]);
        }
    }
    let done = ended(&desk, &replay).await;
    assert_eq!((&done["state"], &done["applied"], &done["deadAgain"]), (&json!("DONE"), &json!(MANY), &json!(0)));
    each_once(&desk).await;

    let again = desk.replay(json!({"filter": {"state": "DEAD"}, "reason": "again"})).await;
    assert_eq!(again.refusal().0, 404, "nothing is dead any more");
    assert_eq!(other.toys.calls(), 0, "no other group's handler was called");
    assert_eq!(toys::count(&payments.pool, "SELECT count(*) FROM inbox").await, 0);
    service.kill().await;
    relay.terminate().await;
    other.stop().await;
}

#[actix_web::test]
async fn a_replay_at_full_rate() {
    let broker = Broker::with(&TOPICS[..6]).await;
    let desk = Desk::open().await;
    bury(&desk, MANY).await;
    let relay = Relay::start(&broker, &[desk.url()]);
    let group = Group::new(desk.pool().clone(), desk.toys.only_toys(Service::Order), LADDER);
    let consumer = consumer(&broker, Arc::new(group));
    let begun = Instant::now();
    let asked = desk.replay(json!({"filter": {"state": "DEAD"}, "ratePerSecond": 10_000, "reason": "mended"})).await;
    let runner = desk.runner();
    let done = ended(&desk, &asked.id()).await;
    let took = begun.elapsed().as_secs_f64();
    runner.stop().await.expect("in order");
    assert_eq!(done["applied"], MANY);
    each_once(&desk).await;
    println!("replay: {MANY} dead letters applied again in {took:.1} s: {:.0}/s", f64::from(MANY) / took);
    consumer.stop().await.expect("in order");
    relay.terminate().await;
}

fn consumer(broker: &Broker, group: Arc<Group>) -> Consumer {
    let tasks = Tasks::new(Health::new(CancellationToken::new()));
    Consumer::start_group(group, &broker.settings, &tasks).expect("a member")
}

/// A service in a process of its own: a member of the group, and its share in replays.
struct ServiceProcess {
    child: Child,
}

const DATABASE: &str = "VICTIM_DATABASE";
const PREFIX: &str = "VICTIM_TOPIC_PREFIX";

impl ServiceProcess {
    /// This very program, asked for the one test below.
    fn start(broker: &Broker, database: &str) -> Self {
        let this = std::env::current_exe().expect("the running program");
        let child = Command::new(this)
            .args(["--exact", "--ignored", "admin::many::a_service_for_others_to_kill"])
            .env(DATABASE, database)
            .env(PREFIX, &broker.settings.topic_prefix)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Self { child: child.expect("a process") }
    }

    async fn kill(mut self) {
        self.child.kill().await.expect("SIGKILL");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test: the process that another test starts and kills"]
async fn a_service_for_others_to_kill() {
    let env = Env::process();
    let url: DatabaseUrl = env.required(DATABASE).expect("the database of the test that started this");
    let settings = DatabaseSettings::of(url, &env).expect("defaults");
    let pool: Pool = database::connect(Service::Order, &settings, 6).expect("a pool");
    let group = Arc::new(Group::new(pool, Toys::new().only_toys(Service::Order), LADDER));
    let topic_prefix = env.text(PREFIX).expect("the prefix of the test that started this").to_owned();
    let kafka = KafkaSettings { brokers: test_support::kafka_brokers(), topic_prefix, security: Vec::new() };
    let tasks = Tasks::new(Health::new(CancellationToken::new()));
    let _member = Consumer::start_group(Arc::clone(&group), &kafka, &tasks).expect("a member");
    let settings = CommonSettings::read(Service::Order, &Env::of([("AUTH_MODE", "header")])).expect("settings");
    messaging::admin::Office::of(group, &settings).run_replays(&tasks);
    std::future::pending::<()>().await;
}
