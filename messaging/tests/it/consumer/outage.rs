//! The database away while records come: the group stays together, and goes on by itself.

use std::time::{Duration, Instant};

use common_events::Service;
use test_support::eventually;

use super::TOPICS;
use crate::{
    broker::{Broker, Member},
    outage::Outage,
    toys::{self, Toy, event},
};

/// Much longer than the session timeout: without heartbeats the member would be thrown out.
const AWAY: Duration = Duration::from_mins(1);

#[tokio::test(flavor = "multi_thread")]
async fn a_database_away_costs_no_member_and_no_event() {
    let (broker, database) = (Broker::with(&TOPICS).await, toys::database().await);
    let pool = &database.pool;
    let member = Member::join(&broker, pool, Service::Order);
    member.has_joined().await;
    let round = |n| (0..20).map(|key| event(Toy::fine(&key.to_string(), n))).collect::<Vec<_>>();
    broker.send_all(&round(1)).await;
    eventually("the first round is handled", || async { (toys::journal(pool).await.len() == 20).then_some(()) }).await;
    let (state, members) = broker.group(Service::Order);
    assert_eq!((&*state, members.len()), ("Stable", 1));
    let calls = member.toys.calls();

    let outage = Outage::of(&database).await;
    broker.send_all(&round(2)).await;
    let began = Instant::now();
    // Each wait is shorter than the outage.
    for part in [AWAY / 2, AWAY] {
        eventually("the outage has lasted", || async {
            assert_eq!(broker.group(Service::Order), ("Stable".to_owned(), members.clone()), "heartbeats go on");
            (began.elapsed() > part).then_some(())
        })
        .await;
    }
    assert_eq!(member.toys.calls(), calls, "no handler was called in vain");
    outage.end().await;

    eventually("it goes on by itself", || async { (toys::journal(pool).await.len() == 40).then_some(()) }).await;
    member.stop().await;
    assert!(toys::dead_letters(pool).await.is_empty(), "nothing was counted against the events");
    assert_eq!(toys::count(pool, "SELECT count(*) FROM outbox").await, 0, "the ladder is empty");
    assert_eq!(toys::count(pool, "SELECT count(*) FROM inbox WHERE state <> 'applied' OR hop > 0").await, 0);
    assert!(toys::journal_by_key(pool).await.values().all(|numbers| *numbers == [1, 2]));
}
