//! Members come, leave, and are killed; every event is applied once.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use common_events::Service;
use service_runtime::{
    Health, Tasks,
    database::{self, Pool},
    settings::{DatabaseSettings, DatabaseUrl, Env, KafkaSettings},
};
use test_support::eventually;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::TOPICS;
use crate::{
    broker::{Broker, Member},
    toys::{self, Mood, Toy, event},
};

/// After so long without a heartbeat a member counts as dead.
const SESSION_TIMEOUT: Duration = Duration::from_secs(10);

async fn handled(pool: &Pool, count: i64) {
    eventually(&format!("{count} events are handled"), || async {
        (toys::count(pool, "SELECT count(*) FROM journal").await >= count).then_some(())
    })
    .await;
}

/// Each key's numbers are `1..=last`, once and in order.
async fn each_once(pool: &Pool, keys: usize, last: i64) {
    let by_key = toys::journal_by_key(pool).await;
    assert_eq!(by_key.len(), keys);
    for (key, numbers) in by_key {
        assert_eq!(numbers, (1..=last).collect::<Vec<_>>(), "{key}: each once, in order");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_has_committed_what_it_applied() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let toys: Vec<_> = (1..=300).map(|n| event(Toy::fine(&format!("key-{}", n % 10), n))).collect();
    let mut ends = std::collections::BTreeMap::new();
    for (partition, offset) in broker.send_all(&toys).await {
        ends.insert(partition, offset + 1);
    }
    let member = Member::join(&broker, &database.pool, Service::Order);
    handled(&database.pool, 300).await;
    member.stop().await;
    assert_eq!(broker.committed(Service::Order, "order-created"), ends, "so nothing is read twice");
    assert_eq!(broker.group(Service::Order).1.len(), 0, "and it has left");

    let next = Member::join(&broker, &database.pool, Service::Order);
    broker.send(&event(Toy::fine("late", 1))).await;
    handled(&database.pool, 301).await;
    next.stop().await;
    assert_eq!(toys::count(&database.pool, "SELECT count(*) FROM journal").await, 301);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_stops_or_is_dropped_hands_over_at_once() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let pool = &database.pool;
    let first = Member::join(&broker, pool, Service::Order);
    first.has_joined().await;
    let second = Member::join(&broker, pool, Service::Order);
    second.has_joined().await;
    let third = Member::join(&broker, pool, Service::Order);
    third.has_joined().await;
    let send =
        async |n| broker.send_all(&(0..30).map(|key| event(Toy::fine(&key.to_string(), n))).collect::<Vec<_>>()).await;
    send(1).await;
    handled(pool, 30).await;

    let stopped = Instant::now();
    first.stop().await;
    send(2).await;
    handled(pool, 60).await;
    assert!(stopped.elapsed() < SESSION_TIMEOUT, "nobody waits for a member that stopped");

    let dropped = Instant::now();
    drop(second);
    send(3).await;
    handled(pool, 90).await;
    assert!(dropped.elapsed() < SESSION_TIMEOUT, "nor for one that was dropped");
    third.stop().await;
    each_once(pool, 30, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_is_killed_while_it_handles_loses_nothing_and_repeats_nothing() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let pool = &database.pool;
    let killed = VictimProcess::start(&broker, &database.url);
    let round = |n| (0..30).map(|key| event(Toy::fine(&key.to_string(), n))).collect::<Vec<_>>();
    broker.send_all(&round(1)).await;
    handled(pool, 30).await;
    let mut stuck = round(2);
    for key in 0..30 {
        stuck.push(event(Toy::new(&key.to_string(), 3, Mood::Waits)));
    }
    broker.send_all(&stuck).await;
    let in_hand = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                   AND state = 'idle in transaction'";
    eventually("it has batches in hand", || async { (toys::count(pool, in_hand).await > 0).then_some(()) }).await;
    killed.kill().await;

    let next = Member::join(&broker, pool, Service::Order);
    next.toys.let_go();
    handled(pool, 90).await;
    next.stop().await;
    each_once(pool, 30, 3).await;
}

/// A member in a process of its own.
pub(crate) struct VictimProcess {
    child: Child,
}

const DATABASE: &str = "VICTIM_DATABASE";
const PREFIX: &str = "VICTIM_TOPIC_PREFIX";

impl VictimProcess {
    /// This very program, asked for the one test below.
    pub(crate) fn start(broker: &Broker, database: &str) -> Self {
        let this = std::env::current_exe().expect("the running program");
        let child = Command::new(this)
            .args(["--exact", "--ignored", "consumer::handing_over::a_member_for_others_to_kill"])
            .env(DATABASE, database)
            .env(PREFIX, &broker.settings.topic_prefix)
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        Self { child: child.expect("a process") }
    }

    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("SIGKILL");
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "no test: the process that another test starts and kills"]
async fn a_member_for_others_to_kill() {
    let env = Env::process();
    let url: DatabaseUrl = env.required(DATABASE).expect("the database of the test that started this");
    let settings = DatabaseSettings::of(url, &env).expect("defaults");
    let pool = database::connect(Service::Order, &settings, 6).expect("a pool");
    let toys = toys::Toys::new();
    let group = messaging::delivery::Group::new(pool, toys.only_toys(Service::Order), toys::QUICK_LADDER);
    let topic_prefix = env.text(PREFIX).expect("the prefix of the test that started this").to_owned();
    let kafka = KafkaSettings { brokers: test_support::kafka_brokers(), topic_prefix, security: Vec::new() };
    let tasks = Tasks::new(Health::new(CancellationToken::new()));
    let _member = messaging::Consumer::start_group(group.into(), &kafka, &tasks).expect("a member");
    std::future::pending::<()>().await;
}
