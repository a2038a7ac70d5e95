//! Replays: what is sent, to whom, how often, and what is refused.

use chrono::{Days, Utc};
use common_events::Service;
use messaging::{
    Delivered, Record, Subscriptions, X_HOP, X_ORIGIN_OFFSET, X_ORIGIN_PARTITION, X_ORIGIN_TOPIC, X_RESUME,
    delivery::Group,
};
use serde_json::{Value, json};
use test_support::eventually;
use uuid::Uuid;

use super::{Desk, LADDER, OWN, answering};
use crate::toys::{Coin, Label, Mood, Toy, event};

const ORIGIN: &str = "order-created";

#[actix_web::test]
async fn what_was_mended_is_replayed_and_applied_once() {
    let desk = Desk::open().await;
    let (events, letters) = desk.bury_toys((0..7).map(answering)).await;
    let asked = desk.replay(json!({"ids": letters, "reason": "the handler is mended"})).await;
    assert_eq!((asked.status, &asked.body["state"], &asked.body["to"]), (202, &json!("RUNNING"), &json!("group")));
    let ended = desk.finish(&asked, OWN).await;
    for (name, expected) in
        [("total", 7), ("waiting", 0), ("onTheWay", 0), ("applied", 7), ("deadAgain", 0), ("skipped", 0)]
    {
        assert_eq!(ended[name], expected, "{name} in {ended}");
    }
    assert_eq!((&ended["state"], &ended["askedBy"]), (&json!("DONE"), &json!("olga")));
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 7);
    assert_eq!(desk.count("SELECT count(*) FROM outbox WHERE topic = 'order-reserved'").await, 7, "and answered");
    for (id, letter) in events.iter().zip(&letters) {
        let one = desk.get(&format!("/admin/dead-letters/{letter}")).await.body;
        assert_eq!((&one["state"], &one["replayId"]), (&json!("REPLAYED"), &ended["id"]));
        assert!(one["closedAt"].is_string());
        assert_eq!(desk.get(&format!("/admin/inbox/{id}")).await.body["state"], "applied");
    }
}

#[actix_web::test]
async fn a_second_replay_changes_nothing() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..4).map(answering)).await;
    let body = json!({"ids": letters, "reason": "mended"});
    let asked = desk.replay(body.clone()).await;
    desk.finish(&asked, OWN).await;
    let before = desk.count("SELECT count(*) FROM outbox").await;
    for to in ["group", "origin"] {
        let again = desk.replay(json!({"ids": letters, "to": to, "reason": "nobody told me"})).await;
        let ended = desk.finish(&again, OWN).await;
        assert_eq!((&ended["skipped"], &ended["applied"], &ended["state"]), (&json!(4), &json!(0), &json!("DONE")));
    }
    assert_eq!(desk.count("SELECT count(*) FROM outbox").await, before, "nothing was sent");
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 4);
    assert_eq!(desk.count("SELECT count(*) FROM replay_items WHERE because = 'already-applied'").await, 8);
}

#[actix_web::test]
async fn two_replays_of_the_same_at_once_send_each_once() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..40).map(answering)).await;
    let body = json!({"ids": letters, "ratePerSecond": 10_000, "reason": "mended"});
    let (one, other) = (desk.replay(body.clone()).await, desk.replay(body).await);
    // Two instances, too.
    let second = desk.runner();
    let (one, other) = (desk.finish(&one, OWN).await, desk.finish(&other, OWN).await);
    second.stop().await.expect("in order");
    let sum = |name: &str| one[name].as_i64().unwrap() + other[name].as_i64().unwrap();
    assert_eq!((sum("applied"), sum("skipped")), (40, 40));
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 40);
}

#[actix_web::test]
async fn key_payload_and_headers_go_to_the_group_byte_for_byte() {
    let desk = Desk::open().await;
    let toy = event(answering(1));
    let mut lying = desk.record(&toy);
    lying.headers =
        vec![("odd".to_owned(), vec![0xff, 0, b'x']), ("odd".to_owned(), vec![]), ("x".to_owned(), vec![7])];
    desk.bury(std::slice::from_ref(&lying)).await;
    let asked = desk.replay(json!({"filter": {"key": "bear-1"}, "reason": "mended"})).await;
    let runner = desk.runner();
    let client = desk.pool().get().await.expect("a connection");
    let row = eventually("it is sent", || async {
        let sql = "SELECT key, payload, header_names, header_values FROM outbox WHERE topic = $1";
        client.query_opt(sql, &[&OWN]).await.expect("the outbox")
    })
    .await;
    runner.stop().await.expect("in order");
    drop(client);
    assert_eq!((row.get(0), row.get(1)), (lying.key.clone(), lying.value.clone()));
    let (names, values): (Vec<String>, Vec<Vec<u8>>) = (row.get(2), row.get(3));
    let headers: Vec<(String, Vec<u8>)> = names.into_iter().zip(values).collect();
    assert_eq!(headers[..3], lying.headers);
    let header = |name: &str| headers.iter().find(|(header, _)| header == name).map(|(_, value)| &**value);
    assert_eq!(header(X_ORIGIN_TOPIC), Some(ORIGIN.as_bytes()));
    assert!(header(X_HOP).is_some());
    desk.finish(&asked, OWN).await;
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 1);
}

#[actix_web::test]
async fn to_the_origin_the_record_goes_as_it_was_and_is_unread_until_it_comes() {
    let desk = Desk::open().await;
    let toy = event(answering(1));
    let mut lying = desk.record(&toy);
    lying.headers = vec![("odd".to_owned(), vec![0xff, 0])];
    let [letter] = &*desk.bury(std::slice::from_ref(&lying)).await else { panic!("one") };
    let asked = desk.replay(json!({"ids": [letter], "to": "origin", "reason": "all want it"})).await;
    let runner = desk.runner();
    let client = desk.pool().get().await.expect("a connection");
    let row = eventually("it is sent", || async {
        let sql = "SELECT key, payload, header_names, header_values FROM outbox WHERE topic = $1";
        client.query_opt(sql, &[&ORIGIN]).await.expect("the outbox")
    })
    .await;
    runner.stop().await.expect("in order");
    drop(client);
    assert_eq!((row.get(0), row.get(1)), (lying.key.clone(), lying.value.clone()));
    assert_eq!((row.get(2), row.get(3)), (vec!["odd".to_owned()], vec![vec![0xff_u8, 0]]), "no header more");
    assert_eq!(desk.get(&format!("/admin/inbox/{}", toy.id)).await.body["state"], "unread");
    let ended = desk.finish(&asked, ORIGIN).await;
    assert_eq!(ended["applied"], 1);
    assert_eq!(desk.deliver(&[lying]).await.duplicates, 1);
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 1);
}

#[actix_web::test]
async fn what_fails_again_is_dead_again_and_can_be_replayed_again() {
    let desk = Desk::open().await;
    let (events, letters) = desk.bury_toys([Toy::new("bear", 1, Mood::AnswersAndIsNonsense)]).await;
    for round in 1..=2 {
        let asked = desk.replay(json!({"ids": letters, "reason": "let us see"})).await;
        let ended = desk.finish(&asked, OWN).await;
        assert_eq!((&ended["deadAgain"], &ended["applied"], &ended["state"]), (&json!(1), &json!(0), &json!("DONE")));
        let one = desk.get(&format!("/admin/dead-letters/{}", letters[0])).await.body;
        assert_eq!((&one["state"], &one["closedAt"]), (&json!("DEAD"), &Value::Null), "round {round}");
        assert_eq!(desk.get(&format!("/admin/inbox/{}", events[0])).await.body["state"], "dead");
    }
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters").await, 1, "one event, one dead letter");
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 0);
}

#[actix_web::test]
async fn a_replayed_record_that_comes_twice_is_handled_once() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    let asked = desk.replay(json!({"ids": letters, "reason": "mended"})).await;
    let runner = desk.runner();
    let client = desk.pool().get().await.expect("a connection");
    eventually("it is sent, twice", || async {
        let sql = "INSERT INTO outbox (topic, key, payload, header_names, header_values)
                   SELECT topic, key, payload, header_names, header_values FROM outbox WHERE topic = $1";
        (client.execute(sql, &[&OWN]).await.expect("the outbox") == 1).then_some(())
    })
    .await;
    runner.stop().await.expect("in order");
    assert_eq!(desk.carry(OWN).await, Delivered { applied: 1, duplicates: 1, ..Delivered::default() });
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["applied"], &ended["onTheWay"]), (&json!(1), &json!(0)));
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 1);
}

#[actix_web::test]
async fn a_replay_halts_when_its_first_records_fail_again() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..40).map(|n| Toy::new("bear", n, Mood::AnswersAndIsNonsense))).await;
    let asked = desk.replay(json!({"ids": letters, "ratePerSecond": 10_000, "reason": "too early"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["state"], &ended["deadAgain"]), (&json!("HALTED"), &json!(10)));
    assert_eq!((&ended["waiting"], &ended["onTheWay"]), (&json!(30), &json!(0)));
    assert!(ended["note"].as_str().unwrap().contains("died again"), "{ended}");
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters WHERE state = 'DEAD'").await, 40, "all can be replayed");
    let audit = desk.get("/admin/audit?action=replay-halted").await;
    assert_eq!((&audit.items()[0]["who"], &audit.items()[0]["result"]), (&json!("order-service"), &json!("DONE")));
}

#[actix_web::test]
async fn a_few_that_fail_among_many_do_not_halt_it() {
    let desk = Desk::open().await;
    let mood = |n| if n % 10 == 0 { Mood::AnswersAndIsNonsense } else { Mood::Answers };
    let (_, letters) = desk.bury_toys((0..60).map(|n| Toy::new(&format!("bear-{n}"), n, mood(n)))).await;
    let asked = desk.replay(json!({"ids": letters, "ratePerSecond": 10_000, "reason": "mended, mostly"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["state"], &ended["applied"], &ended["deadAgain"]), (&json!("DONE"), &json!(54), &json!(6)));
}

#[actix_web::test]
async fn an_operator_can_halt_a_replay_and_what_is_left_stays_dead() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..20).map(answering)).await;
    let asked = desk.replay(json!({"ids": letters, "ratePerSecond": 1, "reason": "slowly"})).await;
    let uri = format!("/admin/replays/{}/halt", asked.id());
    assert_eq!(desk.post(&uri, json!({})).await.refusal(), (422, "invalid-field", "reason"));
    let halted = desk.post(&uri, json!({"reason": "wrong ones"})).await;
    assert_eq!(
        (halted.status, &halted.body["state"], &halted.body["note"]),
        (200, &json!("HALTED"), &json!("wrong ones"))
    );
    assert_eq!(desk.post(&uri, json!({"reason": "again"})).await.refusal().0, 409);
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["state"], &ended["waiting"]), (&json!("HALTED"), &json!(20)));
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters WHERE state = 'DEAD'").await, 20);
    let nobody = format!("/admin/replays/{}/halt", Uuid::now_v7());
    assert_eq!(desk.post(&nobody, json!({"reason": "who"})).await.status, 404);
}

#[actix_web::test]
async fn a_rate_is_kept() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..30).map(answering)).await;
    let begun = std::time::Instant::now();
    let asked = desk.replay(json!({"ids": letters, "ratePerSecond": 20, "reason": "gently"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!(ended["applied"], 30);
    assert!(begun.elapsed().as_secs_f64() >= 1.2, "30 at 20 per second in {:?}", begun.elapsed());
    let sql = "SELECT max(count) FROM (
                   SELECT count(*) OVER (ORDER BY sent_at RANGE BETWEEN '400 ms' PRECEDING AND CURRENT ROW) AS count
                   FROM replay_items) AS windows";
    let most = desk.count(sql).await;
    assert!(most <= 12, "{most} within 400 ms: 8 on average, the first probe of 7 at once");
}

#[actix_web::test]
async fn events_of_topics_that_are_kept_for_ever_or_compacted_can_be_replayed_to_the_group_only() {
    let desk = Desk::open().await;
    let coin = desk.record(&event(Coin { key: "kim".to_owned(), n: 1 }));
    let label = desk.record(&event(Label { key: "tea".to_owned(), n: 1 }));
    let mut letters = desk.bury(std::slice::from_ref(&coin)).await;
    letters.extend(desk.bury(std::slice::from_ref(&label)).await);
    for letter in &letters {
        let refused = desk.replay(json!({"ids": [letter], "to": "origin", "reason": "why not"})).await;
        assert_eq!(refused.refusal(), (409, "topic-not-remembered", ""));
    }
    let asked = desk.replay(json!({"ids": letters, "reason": "mended"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!(ended["applied"], 2, "{ended}");
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 2);
    assert_eq!(desk.count("SELECT count(*) FROM inbox_standing").await, 0, "and nothing of them stays behind");
    let again = desk.replay(json!({"ids": letters, "reason": "again"})).await;
    assert_eq!(desk.finish(&again, OWN).await["skipped"], 2);
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 2);
}

#[actix_web::test]
async fn an_event_older_than_the_inboxes_remember_does_not_go_to_its_origin() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    let client = desk.pool().get().await.expect("a connection");
    // Tomorrow is too late as well: it would come to inboxes that have forgotten it by then.
    for days in [46, 45] {
        let day = Utc::now().date_naive() - Days::new(days);
        client.execute("UPDATE dead_letters SET day = $1", &[&day]).await.expect("time passes");
        let refused = desk.replay(json!({"ids": letters, "to": "origin", "reason": "why not"})).await;
        assert_eq!(refused.refusal(), (409, "too-old", ""), "{days} days");
    }
}

#[actix_web::test]
async fn rubbish_can_be_replayed_to_the_group_and_is_dead_again() {
    let desk = Desk::open().await;
    let rubbish = Record { value: Some(vec![0xff, 0, 1]), key: None, ..desk.record(&event(answering(1))) };
    desk.deliver(std::slice::from_ref(&rubbish)).await;
    let letter = desk.letter_at(&rubbish).await;
    let refused = desk.replay(json!({"ids": [letter], "to": "origin", "reason": "why not"})).await;
    assert_eq!(refused.refusal(), (409, "unreadable", ""));
    let asked = desk.replay(json!({"ids": [letter], "reason": "a new version reads it"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["deadAgain"], &ended["state"]), (&json!(1), &json!("DONE")));
    let one = desk.get(&format!("/admin/dead-letters/{letter}")).await.body;
    assert_eq!((&one["state"], &one["payload"]), (&json!("DEAD"), &json!("/wAB")));
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters").await, 1);
}

/// Before the release that reads them.
async fn bury_unread(desk: &Desk, record: &Record) -> String {
    let before = Group::new(desk.pool().clone(), Subscriptions::of(Service::Order), LADDER);
    let delivered = before.deliver(std::slice::from_ref(record)).await.expect("the database answers");
    assert_eq!(delivered, Delivered { dead: 1, ..Delivered::default() });
    desk.letter_at(record).await
}

#[actix_web::test]
async fn what_could_not_be_read_before_is_applied_when_it_can_be_now() {
    let desk = Desk::open().await;
    let toy = desk.record(&event(answering(1)));
    let coin = desk.record(&event(Coin { key: "kim".to_owned(), n: 1 }));
    let label = desk.record(&event(Label { key: "tea".to_owned(), n: 1 }));
    let published_again = desk.record(&event(answering(2)));
    let mut letters = Vec::new();
    for record in [&toy, &coin, &label, &published_again] {
        letters.push(bury_unread(&desk, record).await);
    }
    desk.deliver(&[Record { offset: 99, ..published_again }]).await;
    let asked = desk.replay(json!({"ids": letters, "reason": "this release reads it"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["applied"], &ended["state"]), (&json!(4), &json!("DONE")), "{ended}");
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 4, "each once");
    for letter in &letters {
        let one = desk.get(&format!("/admin/dead-letters/{letter}")).await.body;
        assert!(one["state"] == "REPLAYED" && one["closedAt"].is_string(), "{one}");
    }
}

#[actix_web::test]
async fn what_can_be_read_now_and_fails_is_dead_again_in_the_same_letter() {
    let desk = Desk::open().await;
    let letter = bury_unread(&desk, &desk.record(&event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense)))).await;
    let asked = desk.replay(json!({"ids": [letter], "reason": "this release reads it"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["deadAgain"], &ended["applied"]), (&json!(1), &json!(0)), "{ended}");
    assert_eq!(desk.state_of_letter(&letter).await, "DEAD");
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters").await, 1, "one event, one dead letter");
}

#[actix_web::test]
async fn one_that_climbs_again_at_its_origin_and_is_applied_from_the_parked_is_a_success() {
    let desk = Desk::open().await;
    let (events, letters) = desk.bury_toys([Toy::new("bear", 1, Mood::BreaksUntilFree)]).await;
    let asked = desk.replay(json!({"ids": letters, "to": "origin", "reason": "all want it"})).await;
    let runner = desk.runner();
    eventually("it is sent", || async {
        (desk.count("SELECT count(*) FROM outbox WHERE topic = 'order-created'").await == 1).then_some(())
    })
    .await;
    runner.stop().await.expect("in order");
    for topic in [ORIGIN, "order-service.retry-1", "order-service.retry-2", "order-service.retry-3"] {
        desk.carry(topic).await;
    }
    assert_eq!(desk.state_of_letter(&letters[0]).await, "PARKED");
    let client = desk.pool().get().await.expect("a connection");
    client.batch_execute("UPDATE dead_letters SET due_at = now()").await.expect("time passes");
    drop(client);
    desk.toys.let_go();
    assert_eq!(desk.group.try_parked().await.expect("the database answers").applied, 1);
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["applied"], &ended["deadAgain"]), (&json!(1), &json!(0)), "{ended}");
    let one = desk.get(&format!("/admin/dead-letters/{}", letters[0])).await.body;
    assert!(one["state"] == "REPLAYED" && one["closedAt"].is_string(), "the fact stays: {one}");
    assert_eq!(desk.get(&format!("/admin/inbox/{}", events[0])).await.body["state"], "applied");
}

#[actix_web::test]
async fn what_comes_or_goes_while_a_replay_is_asked_for_does_not_keep_it_from_ending() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..3).map(answering)).await;
    let client = desk.pool().get().await.expect("a connection");
    client.batch_execute("BEGIN; LOCK TABLE replay_items IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let asking = desk.replay(json!({"filter": {"state": "DEAD"}, "reason": "mended"}));
    let going = async {
        let waits = "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("they are counted", || async { (desk.count(waits).await == 1).then_some(()) }).await;
        let gone = "UPDATE dead_letters SET state = 'DISCARDED', closed_at = now() WHERE id::text = $1";
        client.execute(gone, &[&letters[0]]).await.expect("one goes");
        client.batch_execute("COMMIT").await.expect("the lock is free");
    };
    let (asked, ()) = tokio::join!(asking, going);
    assert_eq!(asked.body["total"], 2, "{}", asked.body);
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["applied"], &ended["waiting"]), (&json!(2), &json!(0)), "{ended}");
}

#[actix_web::test]
async fn one_that_no_topic_takes_is_not_sent_as_it_would_stop_the_relay() {
    let desk = Desk::open().await;
    let mut toy = answering(1);
    toy.ballast = "x".repeat(1_048_000);
    let (_, letters) = desk.bury_toys([toy]).await;
    let foretold = desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await;
    assert_eq!(foretold.body["verdicts"], json!({"too-large": 1}));
    let asked = desk.replay(json!({"ids": letters, "reason": "why not"})).await;
    let ended = desk.finish(&asked, OWN).await;
    assert_eq!((&ended["skipped"], &ended["state"]), (&json!(1), &json!("DONE")));
    assert_eq!(desk.state_of_letter(&letters[0]).await, "DEAD");
    assert_eq!(desk.count("SELECT count(*) FROM replay_items WHERE because = 'too-large'").await, 1);
}

#[actix_web::test]
async fn a_request_that_cannot_be_is_refused_and_named() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    let id = &letters[0];
    let unknown = Uuid::now_v7();
    for (body, refusal) in [
        (json!({"reason": "r"}), (422, "invalid-field", "ids")),
        (json!({"ids": [], "reason": "r"}), (422, "invalid-field", "ids")),
        (json!({"ids": [id]}), (422, "invalid-field", "reason")),
        (json!({"ids": [id], "reason": " "}), (422, "invalid-field", "reason")),
        (json!({"ids": [id], "reason": "x".repeat(501)}), (422, "invalid-field", "reason")),
        (json!({"ids": [id], "reason": 7}), (422, "invalid-field", "reason")),
        (json!({"ids": ["42"], "reason": "r"}), (422, "invalid-field", "ids[0]")),
        (json!({"ids": [id], "filter": {"key": "x"}, "reason": "r"}), (422, "invalid-field", "filter")),
        (json!({"filter": {}, "reason": "r"}), (422, "invalid-field", "filter")),
        (json!({"filter": {"colour": "red"}, "reason": "r"}), (422, "invalid-field", "filter.colour")),
        (json!({"filter": {"state": "DISCARDED"}, "reason": "r"}), (422, "invalid-field", "filter.state")),
        (json!({"filter": {"key": "a\0b"}, "reason": "r"}), (422, "invalid-field", "filter.key")),
        (json!({"ids": [id], "to": "nowhere", "reason": "r"}), (422, "invalid-field", "to")),
        (json!({"ids": [id], "ratePerSecond": 0, "reason": "r"}), (422, "invalid-field", "ratePerSecond")),
        (json!({"ids": [id], "ratePerSecond": 10_001, "reason": "r"}), (422, "invalid-field", "ratePerSecond")),
        (json!({"ids": [id], "ratePerSecond": 1e99, "reason": "r"}), (422, "invalid-field", "ratePerSecond")),
        (json!({"ids": [id], "dryRun": "yes", "reason": "r"}), (422, "invalid-field", "dryRun")),
        (json!({"ids": [id], "reason": "r", "colour": "red"}), (422, "invalid-field", "colour")),
        (json!({"ids": [id, unknown], "reason": "r"}), (404, "unknown-dead-letter", "ids")),
        (json!({"ids": [id, unknown], "dryRun": true, "reason": "r"}), (404, "unknown-dead-letter", "ids")),
        (json!({"filter": {"key": "ghost"}, "reason": "r"}), (404, "nothing-matches", "filter")),
        (json!({"filter": {"key": "ghost"}, "dryRun": true, "reason": "r"}), (404, "nothing-matches", "filter")),
        (json!([]), (422, "invalid-field", "body")),
    ] {
        assert_eq!(desk.replay(body.clone()).await.refusal(), refusal, "{body}");
    }
    assert_eq!(desk.count("SELECT count(*) FROM replays").await, 0);
    assert_eq!(desk.state_of_letter(id).await, "DEAD");
}

#[actix_web::test]
async fn purged_or_discarded_ones_are_refused_and_nothing_of_the_selection_is_sent() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..3).map(answering)).await;
    desk.discard(json!({"ids": [letters[0]], "reason": "r"})).await;
    let refused = desk.replay(json!({"ids": letters, "reason": "r"})).await;
    assert_eq!(refused.refusal(), (409, "discarded", ""));
    desk.discard(json!({"ids": [letters[1]], "purgePayload": true, "reason": "r"})).await;
    assert_eq!(desk.replay(json!({"ids": [letters[1]], "reason": "r"})).await.refusal().0, 409);
    assert_eq!(desk.count("SELECT count(*) FROM replays").await, 0);
    let by_filter = desk.replay(json!({"filter": {"topic": ORIGIN}, "reason": "r"})).await;
    assert_eq!(by_filter.body["total"], 1, "a filter means those that are dead");
}

/// What is on a group's own topic and isn't from one that we know: put there by a stranger, or from before a topic was
/// renamed.
fn strangers(desk: &Desk) -> Vec<Record> {
    let said = |topic: &str| {
        let headers = [(X_ORIGIN_TOPIC, topic), (X_ORIGIN_PARTITION, "2"), (X_ORIGIN_OFFSET, "77")];
        headers.map(|(name, value)| (name.to_owned(), value.as_bytes().to_vec())).to_vec()
    };
    let junk = |own: &str, headers: Vec<(String, Vec<u8>)>| Record {
        topic: format!("order-service.{own}"),
        value: Some(b"junk".to_vec()),
        headers,
        ..desk.record(&event(answering(1)))
    };
    let own = ["retry-1", "retry-2", "retry-3", "replay", "dlt"];
    let bare = own.iter().map(|own| junk(own, Vec::new()));
    let renamed = own.iter().map(|own| junk(own, said(&format!("order-was-{own}"))));
    let of_another_group = own.iter().map(|own| junk(own, said(&format!("gone-service.{own}"))));
    bare.chain(renamed).chain(of_another_group).collect()
}

#[actix_web::test]
async fn one_record_is_one_letter_however_often_it_is_replayed_also_of_a_topic_that_nobody_knows() {
    let desk = Desk::open().await;
    let strangers = strangers(&desk);
    let dead = strangers.len();
    let letters = i64::try_from(dead).expect("few");
    let delivered = desk.deliver(&strangers).await;
    assert_eq!(delivered, Delivered { dead, ..Delivered::default() });
    let count = || desk.count("SELECT count(*) FROM dead_letters");
    let places = async || {
        let client = desk.pool().get().await.expect("a connection");
        let sql = "SELECT origin_topic, origin_partition, origin_offset FROM dead_letters ORDER BY 1, 2, 3";
        let rows = client.query(sql, &[]).await.expect("the table");
        let read = |row: &tokio_postgres::Row| (row.get(0), row.get(1), row.get(2));
        rows.iter().map(read).collect::<Vec<(String, i32, i64)>>()
    };
    let lay = places().await;
    assert_eq!(lay.len(), dead, "each is one");
    let notices = desk.carry("order-service.dlt").await;
    assert_eq!((notices.dead, count().await), (0, letters), "its own notices are no news to the group: {notices:?}");
    let client = desk.pool().get().await.expect("a connection");
    let ids = client.query("SELECT id FROM dead_letters", &[]).await.expect("the table");
    drop(client);
    for id in ids.iter().map(|row| row.get::<_, Uuid>(0)) {
        for round in 1..=2 {
            let asked = desk.replay(json!({"ids": [id], "reason": "let us see"})).await;
            let ended = desk.finish(&asked, OWN).await;
            assert_eq!(ended["deadAgain"], 1, "round {round}: {ended}");
        }
    }
    let notices = desk.carry("order-service.dlt").await;
    assert_eq!((notices.dead, places().await), (0, lay), "{notices:?}");
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters WHERE state = 'DEAD'").await, letters);
}

#[actix_web::test]
async fn an_event_that_was_put_on_the_replay_topic_by_hand_stays_that_event_at_each_hop() {
    let desk = Desk::open().await;
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    let by_hand = Record {
        topic: OWN.to_owned(),
        headers: [(X_RESUME, "1"), (X_ORIGIN_TOPIC, ORIGIN)]
            .map(|(name, value)| (name.to_owned(), value.into()))
            .to_vec(),
        ..desk.record(&toy)
    };
    assert_eq!(desk.deliver(&[by_hand]).await, Delivered { dead: 1, ..Delivered::default() });
    assert_eq!(desk.carry("order-service.dlt").await, Delivered { duplicates: 1, ..Delivered::default() });
    for round in 1..=2 {
        let asked = desk.replay(json!({"filter": {"errorClass": "unprocessable"}, "reason": "let us see"})).await;
        assert_eq!(desk.finish(&asked, OWN).await["deadAgain"], 1, "round {round}");
        assert_eq!(desk.carry("order-service.dlt").await, Delivered { duplicates: 1, ..Delivered::default() });
    }
    let letters = desk.get("/admin/dead-letters").await;
    let [letter] = letters.items() else { panic!("one: {}", letters.body) };
    assert_eq!((&letter["eventId"], &letter["state"]), (&json!(toy.id), &json!("DEAD")));
}

#[actix_web::test]
async fn a_record_that_somebody_holds_keeps_its_own_replay_waiting_and_no_other() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..2).map(answering)).await;
    // A forgotten psql.
    let mut client = desk.pool().get().await.expect("a connection");
    let holding = client.transaction().await.expect("a transaction");
    let held = "SELECT FROM dead_letters WHERE id::text = $1 FOR UPDATE";
    holding.query(held, &[&letters[0]]).await.expect("held");
    let waits = desk.replay(json!({"ids": [letters[0]], "reason": "mended"})).await;
    let other = desk.replay(json!({"ids": [letters[1]], "reason": "mended"})).await;
    let ended = desk.finish(&other, OWN).await;
    assert_eq!((&ended["applied"], &ended["state"]), (&json!(1), &json!("DONE")), "{ended}");
    let path = format!("/admin/replays/{}", waits.body["id"].as_str().expect("an id"));
    assert_eq!(desk.get(&path).await.body["waiting"], 1);
    holding.rollback().await.expect("it is free");
    let ended = desk.finish(&waits, OWN).await;
    assert_eq!((&ended["applied"], &ended["state"]), (&json!(1), &json!("DONE")), "{ended}");
}
