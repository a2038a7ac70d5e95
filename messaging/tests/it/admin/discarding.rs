//! Discards: closed for good, known for ever.

use common_events::EventId;
use messaging::Delivered;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Desk, OWN, answering};
use crate::toys::{Mood, Toy, event};

#[actix_web::test]
async fn what_is_discarded_is_never_handled_and_stays_known() {
    let desk = Desk::open().await;
    let toy = event(answering(1));
    let lying = desk.record(&toy);
    let letters = desk.bury(std::slice::from_ref(&lying)).await;
    let answer = desk.discard(json!({"ids": letters, "reason": "a test order"})).await;
    let expected = json!({"discarded": 1, "discardedBefore": 0, "purged": 0});
    assert_eq!((answer.status, &answer.body), (200, &expected));
    let one = desk.get(&format!("/admin/dead-letters/{}", letters[0])).await.body;
    assert_eq!(one["state"], "DISCARDED");
    assert!(one["closedAt"].is_string() && one["payload"].is_string());
    assert_eq!(desk.get(&format!("/admin/inbox/{}", toy.id)).await.body["state"], "discarded");
    assert_eq!(desk.deliver(&[lying]).await, Delivered { duplicates: 1, ..Delivered::default() });
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 0);
    let again = desk.discard(json!({"ids": letters, "reason": "to be sure"})).await;
    assert_eq!(again.body, json!({"discarded": 0, "discardedBefore": 1, "purged": 0}));
}

#[actix_web::test]
async fn a_payload_is_taken_away_and_the_fact_stays() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..3).map(answering)).await;
    desk.discard(json!({"ids": [letters[0]], "reason": "r"})).await;
    let purged = desk.discard(json!({"ids": letters, "purgePayload": true, "reason": "personal data"})).await;
    assert_eq!(purged.body, json!({"discarded": 2, "discardedBefore": 1, "purged": 3}));
    for letter in &letters {
        let one = desk.get(&format!("/admin/dead-letters/{letter}")).await.body;
        assert_eq!((&one["payload"], &one["payloadBytes"]), (&Value::Null, &Value::Null));
        assert!(one["purgedAt"].is_string());
    }
    assert_eq!(desk.count("SELECT count(*) FROM dead_letters WHERE payload IS NOT NULL").await, 0);
}

#[actix_web::test]
async fn a_filter_discards_those_that_are_dead() {
    let desk = Desk::open().await;
    desk.bury_toys((0..30).map(answering)).await;
    let answer = desk.discard(json!({"filter": {"errorClass": "unprocessable"}, "reason": "all tests"})).await;
    assert_eq!(answer.body["discarded"], 30);
    let none_left = desk.discard(json!({"filter": {"errorClass": "unprocessable"}, "reason": "all tests"})).await;
    assert_eq!(none_left.refusal(), (404, "nothing-matches", "filter"));
}

#[actix_web::test]
async fn what_is_on_its_way_or_applied_is_not_discarded() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..2).map(answering)).await;
    let asked = desk.replay(json!({"ids": [letters[0]], "reason": "mended"})).await;
    let runner = desk.runner();
    test_support::eventually("it is sent", || async {
        (desk.state_of_letter(&letters[0]).await == "REPLAYED").then_some(())
    })
    .await;
    runner.stop().await.expect("in order");
    let refused = desk.discard(json!({"ids": letters, "reason": "no"})).await;
    assert_eq!(refused.refusal(), (409, "under-way", "ids"));
    desk.finish(&asked, OWN).await;
    let refused = desk.discard(json!({"ids": letters, "reason": "no"})).await;
    assert_eq!(refused.refusal(), (409, "already-applied", "ids"));
    assert_eq!(desk.state_of_letter(&letters[1]).await, "DEAD", "none of them");
}

#[actix_web::test]
async fn who_owes_an_answer_gives_it_once_with_the_discard() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..3).map(|n| Toy::new("bear", n, Mood::AnswersAndIsNonsense))).await;
    for _ in 0..2 {
        desk.discard(json!({"ids": letters, "reason": "they never made sense"})).await;
    }
    assert_eq!(desk.count("SELECT count(*) FROM outbox WHERE topic = 'order-reserved'").await, 3);
}

#[actix_web::test]
async fn a_parked_head_that_is_discarded_lets_its_followers_go() {
    let desk = Desk::open().await;
    let (head, follower) = (event(Toy::new("fox", 1, Mood::AnswersAndBreaks)), event(Toy::fine("fox", 2)));
    desk.deliver(&[desk.record(&head), desk.record(&follower)]).await;
    for rung in ["order-service.retry-1", "order-service.retry-2", "order-service.retry-3"] {
        desk.carry(rung).await;
    }
    let parked = desk.get("/admin/dead-letters?state=PARKED").await;
    let parked = parked.items()[0]["id"].as_str().expect("a parked one").to_owned();
    assert_eq!(state(&desk, follower.id).await, "waiting");
    assert_eq!(desk.discard(json!({"ids": [parked], "reason": "never"})).await.body["discarded"], 1);
    assert_eq!(state(&desk, head.id).await, "discarded");
    assert_eq!(desk.count("SELECT count(*) FROM waiting_keys WHERE head_id IS NULL").await, 1, "they may be drained");
}

async fn state(desk: &Desk, id: EventId) -> String {
    desk.get(&format!("/admin/inbox/{id}")).await.body["state"].as_str().expect("a state").to_owned()
}

#[actix_web::test]
async fn a_discard_that_cannot_be_is_refused_and_named() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    let id = &letters[0];
    for (body, refusal) in [
        (json!({"ids": [id]}), (422, "invalid-field", "reason")),
        (json!({"reason": "r"}), (422, "invalid-field", "ids")),
        (json!({"ids": [Uuid::now_v7()], "reason": "r"}), (404, "unknown-dead-letter", "ids")),
        (json!({"filter": {"topic": "ghost"}, "reason": "r"}), (404, "nothing-matches", "filter")),
        (json!({"ids": [id], "reason": "r", "to": "group"}), (422, "invalid-field", "to")),
    ] {
        assert_eq!(desk.discard(body.clone()).await.refusal(), refusal, "{body}");
    }
    assert_eq!(desk.state_of_letter(id).await, "DEAD");
}
