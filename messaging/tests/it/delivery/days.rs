//! What is remembered, for how long, and in which day's partition.

use std::slice::from_ref;

use chrono::{Days, NaiveDate, Utc};
use common_events::Service;
use messaging::{Delivered, Record, delivery::Group};
use test_support::eventually;

use crate::toys::{self, Coin, Mood, Toy, ToyShop, Toys, event, ladder, record};

const MAX_AGE: Days = Days::new(45);
const ONE_DAY: Days = Days::new(1);

/// An answering toy of noon of that day.
fn toy_of(day: NaiveDate, n: i64) -> Record {
    let mut toy = event(Toy::new("bear", n, Mood::Answers));
    toy.time = day.and_hms_opt(12, 0, 0).expect("noon").and_utc();
    record(&toy, n)
}

#[tokio::test]
async fn an_event_is_known_by_the_day_of_its_own_time() {
    let shop = ToyShop::open().await;
    let today = Utc::now().date_naive();
    for (n, day) in (0..).zip([today, today - ONE_DAY, today - MAX_AGE, today + Days::new(7)]) {
        let toy = toy_of(day, n);
        assert_eq!(shop.deliver(from_ref(&toy)).await.applied, 1, "{day}");
        assert_eq!(shop.deliver(&[toy]).await.duplicates, 1, "{day}");
        let partition = format!("SELECT count(*) FROM inbox_{}", day.format("%Y%m%d"));
        assert_eq!(shop.count(&partition).await, 1);
        let partition = format!("SELECT count(*) FROM kept_answers_{}", day.format("%Y%m%d"));
        assert_eq!(shop.count(&partition).await, 1);
    }
}

#[tokio::test]
async fn events_too_old_or_from_the_future_are_refused() {
    let shop = ToyShop::open().await;
    let today = Utc::now().date_naive();
    let (too_old, too_early) = (today - MAX_AGE - ONE_DAY, today + Days::new(8));
    let batch = [toy_of(too_old, 0), toy_of(today, 1), toy_of(too_early, 2)];
    assert_eq!(shop.deliver(&batch).await, Delivered { applied: 1, dead: 2, ..Delivered::default() });
    let dead = shop.dead_letters().await;
    assert!(dead.iter().all(|dead| dead.class == "out-of-time"));
    assert_eq!(dead.iter().map(|dead| dead.place.2).collect::<Vec<_>>(), [0, 2]);
    shop.deliver(&batch).await;
    assert_eq!(shop.dead_letters().await.len(), 2);
}

#[tokio::test]
async fn events_of_topics_that_are_kept_for_ever_are_never_too_old() {
    let shop = ToyShop::open().await;
    let mut coin = event(Coin { key: "kim".to_owned(), n: 1 });
    coin.time = "2016-02-29T00:00:00Z".parse().unwrap();
    assert_eq!(shop.deliver(&[record(&coin, 0)]).await.applied, 1);
}

#[tokio::test]
async fn a_partition_that_another_makes_meanwhile_is_seen() {
    let shop = ToyShop::open().await;
    let today = Utc::now().date_naive();
    let (name, tomorrow) = (today.format("%Y%m%d").to_string(), today + ONE_DAY);
    let mut sessions = Vec::new();
    for _ in 0..shop.pool().status().max_size {
        let session = shop.pool().get().await.unwrap();
        let missing = session.query_one("SELECT to_regclass('inbox_' || $1) IS NULL", &[&name]).await.unwrap();
        assert!(missing.get::<_, bool>(0), "which the session remembers");
        sessions.push(session);
    }
    let mut another = sessions.pop().expect("a few");
    drop(sessions);
    let making = another.transaction().await.unwrap();
    let make = format!(
        "SELECT pg_advisory_xact_lock(x'696e626f78'::bigint);
         CREATE TABLE inbox_{name} PARTITION OF inbox FOR VALUES FROM ('{today}') TO ('{tomorrow}');
         CREATE TABLE kept_answers_{name} PARTITION OF kept_answers FOR VALUES FROM ('{today}') TO ('{tomorrow}')"
    );
    making.batch_execute(&make).await.unwrap();
    let toy = [toy_of(today, 0)];
    let is_made = async {
        let waits = "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database
                     WHERE locktype = 'advisory' AND NOT granted AND datname = current_database()";
        eventually("it waits for the other", || async { (shop.count(waits).await == 1).then_some(()) }).await;
        making.commit().await.unwrap();
    };
    let (delivered, ()) = futures::join!(shop.try_to_deliver(&toy), is_made);
    assert_eq!(delivered.expect("it is there").applied, 1);
}

#[tokio::test]
async fn two_members_make_the_same_day_s_partition_at_once() {
    let database = toys::database().await;
    let toys = Toys::new();
    let member = || Group::new(database.pool.clone(), toys.subscriptions(Service::Order), ladder());
    let members: Vec<Group> = (0..4).map(|_| member()).collect();
    let today = Utc::now().date_naive();
    for back in 0..8 {
        let day = today - Days::new(back);
        let batches: Vec<[Record; 1]> = (0..4).map(|n| [toy_of(day, n)]).collect();
        let deliveries = members.iter().zip(&batches).map(|(member, batch)| member.deliver(batch));
        for delivered in futures::future::join_all(deliveries).await {
            assert_eq!(delivered.expect("nobody is in another's way").applied, 1);
        }
    }
    assert_eq!(toys::count(&database.pool, "SELECT count(*) FROM inbox").await, 32);
    assert!(toys::dead_letters(&database.pool).await.is_empty());
}

#[tokio::test]
async fn days_past_the_maximum_age_are_forgotten_and_no_others() {
    let shop = ToyShop::open().await;
    let today = Utc::now().date_naive();
    shop.deliver(&[toy_of(today, 0), toy_of(today - MAX_AGE, 1)]).await;
    let client = shop.pool().get().await.unwrap();
    for back in [47, 48, 400] {
        let day = today - Days::new(back);
        let (name, next) = (day.format("%Y%m%d"), day + ONE_DAY);
        let sql = format!(
            "CREATE TABLE inbox_{name} PARTITION OF inbox FOR VALUES FROM ('{day}') TO ('{next}');
             CREATE TABLE kept_answers_{name} PARTITION OF kept_answers FOR VALUES FROM ('{day}') TO ('{next}')"
        );
        client.batch_execute(&sql).await.unwrap();
    }
    drop(client);
    assert_eq!(shop.group.forget_old().await.expect("the database answers"), 6);
    assert_eq!(shop.group.forget_old().await.expect("the database answers"), 0);
    assert_eq!(shop.count("SELECT count(*) FROM inbox").await, 2, "what may still come is remembered");
    assert_eq!(shop.deliver(&[toy_of(today, 2)]).await.applied, 1);
}

#[tokio::test]
async fn whoever_only_reads_the_inbox_keeps_no_new_day_from_beginning_and_an_old_one_only_from_going() {
    let shop = ToyShop::open().await;
    let today = Utc::now().date_naive();
    shop.deliver(&[toy_of(today, 0)]).await;
    let client = shop.pool().get().await.unwrap();
    let (old, next) = (today - Days::new(47), today - Days::new(46));
    let name = old.format("%Y%m%d");
    let sql = format!("CREATE TABLE inbox_{name} PARTITION OF inbox FOR VALUES FROM ('{old}') TO ('{next}')");
    client.batch_execute(&sql).await.unwrap();
    drop(client);
    // A backup that runs past midnight, or a psql that somebody forgot.
    let mut reader = shop.pool().get().await.unwrap();
    let reading = reader.transaction().await.unwrap();
    reading.query("SELECT FROM inbox", &[]).await.unwrap();
    assert_eq!(shop.deliver(&[toy_of(today - ONE_DAY, 1)]).await.applied, 1);
    assert_eq!(shop.group.forget_old().await.expect("the database answers"), 0);
    let tomorrow = format!("SELECT count(*) FROM inbox_{}", (today + ONE_DAY).format("%Y%m%d"));
    assert_eq!(shop.count(&tomorrow).await, 0, "it is there before anybody needs it");
    reading.rollback().await.unwrap();
    drop(reader);
    assert_eq!(shop.group.forget_old().await.expect("the database answers"), 1);
}
