//! Somebody holds a row and forgets it: whoever needs it goes up the ladder, and nobody waits behind.

use std::sync::Arc;

use common_events::Service;
use messaging::{Delivered, delivery::Group};
use service_runtime::{
    Env, database,
    settings::{DatabaseSettings, DatabaseUrl, Setting as _},
};

use crate::toys::{self, Mood, Toy, ToyShop, event, record, records};

/// A lock is waited for for a third of it.
const STATEMENT_TIMEOUT: (&str, &str) = ("DATABASE_STATEMENT_TIMEOUT", "900ms");

/// A shop in which each toy of a key is there once, and whose statements have little time.
async fn hasty_shop() -> ToyShop {
    let shop = ToyShop::open().await;
    let client = shop.pool().get().await.expect("a connection");
    client.batch_execute("CREATE UNIQUE INDEX ON journal (key, n)").await.expect("an index");
    let url = DatabaseUrl::parse(&shop.database.url).expect("a URL");
    let settings = DatabaseSettings::of(url, &Env::of([STATEMENT_TIMEOUT])).expect("settings");
    let pool = database::connect(Service::Order, &settings, 4).expect("a pool");
    let group = Group::new(pool, shop.toys.subscriptions(Service::Order), toys::ladder());
    ToyShop { group: Arc::new(group), ..shop }
}

#[tokio::test]
async fn who_waits_for_a_row_that_somebody_holds_is_tried_later_and_holds_up_no_other() {
    let shop = hasty_shop().await;
    let mut somebody = shop.pool().get().await.expect("a connection");
    let holding = somebody.transaction().await.expect("a transaction");
    let held = "INSERT INTO journal (event_id, key, n) VALUES (gen_random_uuid(), 'bear', 37)";
    holding.execute(held, &[]).await.expect("the row is free");

    let batch = records((0..100).map(|n| Toy::new("bear", n, Mood::Answers)));
    let delivered = shop.try_to_deliver(&batch).await.expect("the database is there, and so is all else");
    assert_eq!(delivered.retrying, 1, "{delivered:?}");
    let applied = shop.journal().await;
    assert_eq!(
        applied,
        (0..37).map(|n| ("bear".to_owned(), n)).collect::<Vec<_>>(),
        "the rest of its key waits behind"
    );
    let other = event(Toy::fine("duck", 1));
    assert_eq!(shop.deliver(&[record(&other, 100)]).await, Delivered { applied: 1, ..Delivered::default() });

    holding.rollback().await.expect("it lets go");
    let hop = shop.relay().await.remove(0);
    assert_eq!(hop.header("x-error-class"), Some("lock-wait"));
    assert_eq!(shop.deliver(&[hop]).await, Delivered { applied: 1, ..Delivered::default() });
}

#[tokio::test]
async fn what_takes_too_long_because_the_database_does_is_nobody_s_fault() {
    let shop = hasty_shop().await;
    let client = shop.pool().get().await.expect("a connection");
    let slow = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
                    'BEGIN PERFORM pg_sleep(2); RETURN NEW; END';
                CREATE TRIGGER slow BEFORE INSERT ON journal FOR EACH ROW EXECUTE FUNCTION slow()";
    client.batch_execute(slow).await.expect("a trigger");
    let toy = event(Toy::fine("bear", 1));
    shop.try_to_deliver(&[record(&toy, 0)]).await.expect_err("the partition waits");
    assert_eq!(shop.state(toy.id).await, None);
    client.batch_execute("DROP TRIGGER slow ON journal").await.expect("no trigger");
    assert_eq!(shop.deliver(&[record(&toy, 0)]).await, Delivered { applied: 1, ..Delivered::default() });
}
