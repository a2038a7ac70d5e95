//! Handlers with a remote call before their transaction.

use std::{
    collections::BTreeMap,
    slice::from_ref,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use common_events::{EventId, Service};
use futures::FutureExt;
use messaging::{Delivered, Event, Failure, Record, Subscriptions, Transient, Tx, Unprocessable, delivery::Group};
use test_support::Database;

use super::{NONE, SHORT};
use crate::toys::{self, Mood, Toy, event, record};

/// A remote system that takes toys.
#[derive(Default)]
struct Remote {
    calls: Mutex<Vec<(String, i64)>>,
    away: AtomicBool,
    at_once: AtomicUsize,
    most_at_once: AtomicUsize,
}

impl Remote {
    async fn take(&self, event: &Event<Toy>) -> Result<EventId, Failure> {
        let now = self.at_once.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(now, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.at_once.fetch_sub(1, Ordering::SeqCst);
        self.calls.lock().unwrap_or_else(PoisonError::into_inner).push((event.data.key.clone(), event.data.n));
        match event.data.mood {
            Mood::AnswersAndIsNonsense => Err(Unprocessable::new("400").into()),
            Mood::Panics => panic!("the client broke"),
            Mood::BreaksUntilFree if self.away.load(Ordering::SeqCst) => Err(Transient::new("remote", "503").into()),
            _ => Ok(event.id),
        }
    }

    fn calls(&self) -> BTreeMap<String, Vec<i64>> {
        let mut by_key: BTreeMap<String, Vec<i64>> = BTreeMap::new();
        for (key, n) in &*self.calls.lock().unwrap_or_else(PoisonError::into_inner) {
            by_key.entry(key.clone()).or_default().push(*n);
        }
        by_key
    }
}

async fn shop() -> (Database, Arc<Remote>, Group) {
    let (database, remote) = (toys::database().await, Arc::<Remote>::default());
    remote.away.store(true, Ordering::SeqCst);
    let called = Arc::clone(&remote);
    let subscriptions = Subscriptions::of(Service::Order).hear_remote::<Toy, EventId, _, _>(
        move |event| {
            let remote = Arc::clone(&called);
            async move { remote.take(event).await }.boxed()
        },
        |tx, events| write_down(tx, events).boxed(),
    );
    let group = Group::new(database.pool.clone(), subscriptions, SHORT);
    (database, remote, group)
}

async fn write_down(tx: &Tx<'_>, events: &[(&Event<Toy>, &EventId)]) -> messaging::Handled {
    for (event, answer) in events {
        assert_eq!(event.id, **answer, "each with its own answer");
        let insert = "INSERT INTO journal (event_id, key, n) VALUES ($1, $2, $3)";
        tx.execute(insert, &[&event.id.uuid(), &event.data.key, &event.data.n]).await?;
    }
    Ok(())
}

fn toy(key: &str, n: i64, mood: Mood) -> Record {
    record(&event(Toy::new(key, n, mood)), n)
}

async fn deliver(group: &Group, records: &[Record]) -> Delivered {
    group.deliver(records).await.expect("the database answers")
}

#[tokio::test]
async fn each_event_is_called_for_once_in_the_order_of_its_key_and_several_keys_at_a_time() {
    let (database, remote, group) = shop().await;
    let batch: Vec<Record> = (0..100).map(|n| toy(&format!("key-{}", n % 20), n, Mood::Fine)).collect();
    assert_eq!(deliver(&group, &batch).await, Delivered { applied: 100, ..NONE });
    assert_eq!(deliver(&group, &batch).await, Delivered { duplicates: 100, ..NONE });
    let calls = remote.calls();
    assert_eq!(calls.values().map(Vec::len).sum::<usize>(), 100, "none again for what is applied");
    assert!(calls.values().all(|numbers| numbers.is_sorted()));
    let most = remote.most_at_once.load(Ordering::SeqCst);
    assert!((2..=16).contains(&most), "{most} calls at once");
    assert_eq!(toys::journal(&database.pool).await.len(), 100);
}

#[tokio::test]
async fn while_the_remote_system_is_away_its_events_climb_and_those_behind_are_not_called_for() {
    let (database, remote, group) = shop().await;
    let batch = [
        toy("bear", 1, Mood::BreaksUntilFree),
        toy("bear", 2, Mood::Fine),
        toy("duck", 1, Mood::Fine),
        toy("goose", 1, Mood::AnswersAndIsNonsense),
        toy("swan", 1, Mood::Panics),
    ];
    let delivered = deliver(&group, &batch).await;
    assert_eq!(delivered, Delivered { applied: 1, retrying: 2, waiting: 1, dead: 1, ..NONE });
    let calls = remote.calls();
    assert_eq!((&*calls["bear"], &*calls["duck"], &*calls["goose"]), (&[1, 1, 1][..], &[1][..], &[1][..]));
    assert_eq!(toys::count(&database.pool, "SELECT count(*) FROM journal").await, 1);
}

#[tokio::test]
async fn a_call_that_was_made_is_not_made_again_because_the_transaction_lost_a_race() {
    let (database, remote, group) = shop().await;
    let client = database.pool.get().await.unwrap();
    let fail_once = "CREATE SEQUENCE races;
        CREATE FUNCTION lose_a_race() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            IF nextval('races') = 1 THEN RAISE EXCEPTION 'lost' USING ERRCODE = '40P01'; END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER loses BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION lose_a_race()";
    client.batch_execute(fail_once).await.unwrap();
    let one = toy("bear", 1, Mood::Fine);
    assert_eq!(deliver(&group, from_ref(&one)).await, Delivered { applied: 1, ..NONE });
    assert_eq!(remote.calls()["bear"], [1]);
}
