//! With nothing to do the relay does next to nothing, and is woken by a hint.

use std::time::Duration;

use common_events::envelope;
use messaging::relay;
use service_runtime::settings::Env;
use test_support::{eventually, free_port};
use tokio::time::Instant;

use super::{
    process::Relay,
    writers::{self, Kind},
};
use crate::{
    broker::{Broker, Reader},
    toys::{Toy, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_relay_takes_next_to_no_processor_time() {
    const WATCHED: Duration = Duration::from_secs(5);
    let (broker, database) = (Broker::with(&["order-created"]).await, writers::database(1).await);
    let relay = Relay::start(&broker, &[&database.url]);
    let reader = Reader::of(&broker, "order-created");
    writers::write(&database.pool, Kind::Toy, &[0]).await;
    reader.next().await;
    let (before, began) = (relay.processor_time(), Instant::now());
    eventually("it was watched for a while", || async { (began.elapsed() >= WATCHED).then_some(()) }).await;
    let used = relay.processor_time().saturating_sub(before);
    // A busy loop would use all of it. Ten questions a second, a lease and Kafka's statistics use little.
    assert!(used < WATCHED / 10, "{used:?} of {:?}", began.elapsed());
    relay.terminate().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_makes_an_idle_relay_publish_at_once() {
    const TIMES: u32 = 15;
    /// The relay's longest pause: by then it polls that rarely.
    const IDLE: Duration = Duration::from_millis(100);
    let broker = Broker::with(&["order-created"]).await;
    let (hinted, silent) = (writers::database(1).await, writers::database(1).await);
    let address = format!("127.0.0.1:{}", free_port());
    let name = hinted.url.rsplit_once('/').unwrap().1;
    relay::send_hints(&Env::of([("OUTBOX_WAKE_ADDR", &*address)]), name).unwrap();
    let urls = [&*hinted.url, &*silent.url];
    let relay = Relay::start_with(&broker, &urls, &[("OUTBOX_WAKE_ADDR", &address)]);
    relay.leads(2).await;
    let reader = Reader::of(&broker, "order-created");
    let arrived_after = async |since: Instant| {
        reader.next().await;
        since.elapsed()
    };
    // Once each, so that connections and metadata are there.
    writers::write(&hinted.pool, Kind::Toy, &[0]).await;
    arrived_after(Instant::now()).await;
    write_without_hint(&silent.pool).await;
    arrived_after(Instant::now()).await;

    let (mut with_hint, mut without) = (Duration::ZERO, Duration::ZERO);
    for _ in 0..TIMES {
        let idle_since = Instant::now();
        eventually("the relay is idle", || async { (idle_since.elapsed() > IDLE * 3).then_some(()) }).await;
        writers::write(&hinted.pool, Kind::Toy, &[0]).await;
        with_hint += arrived_after(Instant::now()).await;
        let idle_since = Instant::now();
        eventually("the relay is idle", || async { (idle_since.elapsed() > IDLE * 3).then_some(()) }).await;
        write_without_hint(&silent.pool).await;
        without += arrived_after(Instant::now()).await;
    }
    // Without, half a pause on average; with, the way through Kafka.
    assert!(with_hint * 3 < without * 2, "{:?} with a hint, {:?} without", with_hint / TIMES, without / TIMES);
    relay.terminate().await;
}

async fn write_without_hint(pool: &service_runtime::database::Pool) {
    let client = pool.get().await.expect("a connection");
    let toy = envelope::encode(&event(Toy::fine("silent", 1))).expect("JSON");
    let sql = "INSERT INTO outbox (topic, key, payload) VALUES ('order-created', 'silent', $1)";
    client.execute(sql, &[&toy]).await.expect("a row");
}
