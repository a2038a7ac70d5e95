//! Each event is applied once, and in order.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use common_events::Service;
use futures::FutureExt;
use messaging::{Delivered, Event, Handled, Subscriptions, Tx, delivery::Group};
use tokio::sync::Barrier;

use crate::toys::{self, Coin, Label, Mood, Toy, ToyShop, event, ladder, record, records};

#[tokio::test]
async fn an_event_delivered_twice_is_applied_once() {
    let shop = ToyShop::open().await;
    let toy = event(Toy::new("bear", 1, Mood::Answers));
    let first = shop.deliver(&[record(&toy, 0)]).await;
    assert_eq!(first, Delivered { applied: 1, ..Delivered::default() });
    let again = shop.deliver(&[record(&toy, 0)]).await;
    assert_eq!(again, Delivered { duplicates: 1, ..Delivered::default() });
    let elsewhere = shop.deliver(&[record(&toy, 700)]).await;
    assert_eq!(elsewhere, Delivered { duplicates: 1, ..Delivered::default() });
    assert_eq!(shop.journal().await, [("bear".to_owned(), 1)]);
    assert_eq!(shop.outbox().await.len(), 1);
    assert_eq!(shop.state(toy.id).await.as_deref(), Some("applied"));
}

#[tokio::test]
async fn a_duplicate_within_one_batch_is_applied_once() {
    let shop = ToyShop::open().await;
    let (bear, duck) = (event(Toy::fine("bear", 1)), event(Toy::fine("duck", 1)));
    let batch = [record(&bear, 0), record(&duck, 1), record(&bear, 2)];
    let delivered = shop.deliver(&batch).await;
    assert_eq!(delivered, Delivered { applied: 2, duplicates: 1, ..Delivered::default() });
    assert_eq!(shop.journal().await, [("bear".to_owned(), 1), ("duck".to_owned(), 1)]);
}

#[tokio::test]
async fn an_event_delivered_by_two_at_the_same_time_is_applied_once() {
    let shop = ToyShop::open().await;
    let batch = records((1..=50).map(|n| Toy::new("bear", n, Mood::Answers)));
    let (one, other) = tokio::join!(shop.deliver(&batch), shop.deliver(&batch));
    assert_eq!((one.applied + other.applied, one.duplicates + other.duplicates), (50, 50));
    assert_eq!(shop.journal().await.len(), 50);
    assert_eq!(shop.outbox().await.len(), 50);
}

#[tokio::test]
async fn a_batch_is_one_transaction_in_the_order_of_the_offsets() {
    let shop = ToyShop::open().await;
    let delivered = shop.deliver(&records((1..=200).map(|n| Toy::new("bear", n, Mood::Answers)))).await;
    assert_eq!(delivered.applied, 200);
    assert_eq!(shop.count("SELECT count(DISTINCT transaction) FROM journal").await, 1);
    assert_eq!(shop.toys.calls(), 1, "one call of the handler");
    assert_eq!(shop.journal().await, (1..=200).map(|n| ("bear".to_owned(), n)).collect::<Vec<_>>());
    let answers = "SELECT count(*) FROM (SELECT convert_from(payload, 'utf8')::json->'data'->>'n' AS n,
                   row_number() OVER (ORDER BY id)::text AS place FROM outbox) AS answer WHERE n = place";
    assert_eq!(shop.count(answers).await, 200, "answers are in the order of their causes");
}

#[tokio::test]
async fn a_batch_of_several_topics_keeps_its_order() {
    let shop = ToyShop::open().await;
    let batch = [
        record(&event(Toy::fine("bear", 1)), 0),
        record(&event(Coin { key: "bear".to_owned(), n: 2 }), 1),
        record(&event(Toy::fine("bear", 3)), 2),
    ];
    assert_eq!(shop.deliver(&batch).await.applied, 3);
    assert_eq!(shop.journal().await, (1..=3).map(|n| ("bear".to_owned(), n)).collect::<Vec<_>>());
}

#[tokio::test]
async fn topics_that_are_kept_for_ever_or_compacted_have_no_inbox_row() {
    let shop = ToyShop::open().await;
    let coin = record(&event(Coin { key: "kim".to_owned(), n: 1 }), 0);
    let label = record(&event(Label { key: "bear".to_owned(), n: 1 }), 0);
    let delivered = shop.deliver(&[coin.clone(), label.clone()]).await;
    assert_eq!(delivered, Delivered { applied: 2, ..Delivered::default() });
    assert_eq!(shop.count("SELECT count(*) FROM inbox").await, 0);
    // Their handlers compare versions or entry ids: a second delivery reaches them.
    assert_eq!(shop.deliver(&[coin, label]).await.applied, 2);
    assert_eq!(shop.journal().await.len(), 4);
    assert_eq!(shop.outbox().await.len(), 2, "and their answers are published");
}

#[tokio::test]
async fn batches_that_lock_the_same_rows_in_opposite_order_are_both_applied() {
    let database = toys::database().await;
    let client = database.pool.get().await.unwrap();
    let rows = "CREATE TABLE shelf (key text PRIMARY KEY, toys bigint NOT NULL DEFAULT 0);
                INSERT INTO shelf VALUES ('bear'), ('duck')";
    client.batch_execute(rows).await.unwrap();
    drop(client);
    let rivals = Arc::new(Rivals { met: Barrier::new(2), calls: AtomicUsize::new(0) });
    let shared = Arc::clone(&rivals);
    let subscriptions = Subscriptions::of(Service::Order).hear::<Toy, _>(move |tx, events| {
        let rivals = Arc::clone(&shared);
        async move { rivals.on_toy(tx, events).await }.boxed()
    });
    let group = Group::new(database.pool.clone(), subscriptions, ladder());

    let forth = records([Toy::fine("bear", 1), Toy::fine("duck", 1)]);
    let back = records([Toy::fine("duck", 2), Toy::fine("bear", 2)]);
    let (forth, back) = tokio::join!(group.deliver(&forth), group.deliver(&back));

    assert_eq!(forth.unwrap(), Delivered { applied: 2, ..Delivered::default() });
    assert_eq!(back.unwrap(), Delivered { applied: 2, ..Delivered::default() });
    assert_eq!(toys::count(&database.pool, "SELECT min(toys) FROM shelf").await, 2);
    assert_eq!(toys::dead_letters(&database.pool).await.len(), 0);
    // It may lose again: who lost can be faster than who waited for it.
    assert!(rivals.calls.load(Ordering::SeqCst) >= 3, "one of the two lost, and was simply run again");
}

struct Rivals {
    /// Both hold their first row here.
    met: Barrier,
    calls: AtomicUsize,
}

impl Rivals {
    async fn on_toy(&self, tx: &Tx<'_>, events: &[&Event<Toy>]) -> Handled {
        let first_round = self.calls.fetch_add(1, Ordering::SeqCst) < 2;
        assert_eq!(events.len(), 2, "as a whole: nobody looks for a bad event among them");
        for (place, event) in events.iter().enumerate() {
            tx.execute("UPDATE shelf SET toys = toys + 1 WHERE key = $1", &[&event.data.key]).await?;
            if place == 0 && first_round {
                self.met.wait().await;
            }
        }
        Ok(())
    }
}
