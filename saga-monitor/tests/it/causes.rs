//! Each kind of stall raises one alarm with the right cause; a resume helps where it can, and is refused where
//! it can't.

use chrono::TimeDelta;
use common_events::{EventId, Service};
use messaging::{OwnTopic, Rung};
use saga_monitor::resume;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::ResponseTemplate;

use crate::{
    story::Story,
    watch::{STUCK_AFTER, Watch, caught_up, text},
};

/// An order whose lines wait for product-service.
fn waiting_for_stock() -> Story {
    Story::of(&["tea"]).created().placed()
}

async fn round(watch: &Watch, story: &Story) {
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_event_lies_is_the_cause() {
    for (state, more, cause) in [
        ("retrying", json!({"tier": "retry-2", "dueAt": "2026-11-21T06:00:00Z"}), "RETRYING"),
        ("parked", json!({}), "PARKED"),
        ("dead", json!({}), "DEAD"),
        ("discarded", json!({}), "DISCARDED"),
        ("unread", json!({}), "UNREAD"),
        ("applied", json!({}), "ANSWER_LOST"),
    ] {
        let watch = Watch::begin().await;
        watch.relay_works().await;
        let story = waiting_for_stock();
        watch.hear_all(&story).await;
        watch.others_say(story.id_of("order-line-placed"), state, more).await;
        round(&watch, &story).await;
        assert_eq!(watch.alarms("stuck").await, [(cause.to_owned(), 1)]);
        assert_eq!(watch.saga(story.order).await["cause"], cause);
        let alarm = &watch.get("/api/alarms").await["items"][0];
        assert_eq!(alarm["detail"]["sagas"], json!([story.order]));
        assert_eq!(alarm["detail"]["waitingFor"]["from"], "product-service");
        assert_eq!(alarm["detail"]["because"]["eventId"], json!(story.id_of("order-line-placed")));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_consumer_is_one_cause_of_all_that_wait_for_it() {
    let watch = Watch::begin().await;
    let mut cluster = caught_up();
    cluster.members.insert(Service::Product, 0);
    let mut last = waiting_for_stock();
    for _ in 0..12 {
        last = waiting_for_stock();
        watch.hear_all(&last).await;
    }
    watch.round_over(&cluster, last.last_at() + STUCK_AFTER * 2).await;
    assert_eq!(watch.alarms("stuck").await, [("CONSUMER_DEAD".to_owned(), 12)]);
    watch.round_over(&cluster, last.last_at() + STUCK_AFTER * 3).await;
    assert_eq!(watch.alarms("stuck").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_a_living_group_has_before_it_is_unread() {
    let watch = Watch::begin().await;
    let mut cluster = caught_up();
    cluster.committed.insert(Service::Product, [(("order-line-placed".to_owned(), 0), 0)].into());
    let story = waiting_for_stock();
    watch.hear_all(&story).await;
    watch.round_over(&cluster, story.last_at() + STUCK_AFTER * 2).await;
    assert_eq!(watch.alarms("stuck").await, [("UNREAD".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_behind_another_is_one_cause_with_it() {
    let watch = Watch::begin().await;
    let (head, follower) = (waiting_for_stock(), waiting_for_stock());
    watch.hear_all(&head).await;
    watch.hear_all(&follower).await;
    let head_id = head.id_of("order-line-placed");
    watch.others_say(head_id, "retrying", json!({"tier": "retry-3"})).await;
    watch.others_say(follower.id_of("order-line-placed"), "waiting", json!({"behind": head_id})).await;
    round(&watch, &follower).await;
    assert_eq!(watch.alarms("stuck").await, [("RETRYING".to_owned(), 2)]);
    assert_eq!(watch.saga(follower.order).await["cause"], "WAITING_BEHIND");
    assert_eq!(watch.saga(head.order).await["cause"], "RETRYING");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_was_never_on_its_topic_is_lost() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    round(&watch, &story).await;
    assert_eq!(watch.alarms("stuck").await, [("EVENT_LOST".to_owned(), 1)]);
    let without_its_first = Story::of(&["cup"]).created().placed().without("order-created");
    watch.hear_all(&without_its_first).await;
    round(&watch, &without_its_first).await;
    assert_eq!(watch.alarms("stuck").await.len(), 2, "each is a cause of its own");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_relay_nothing_is_called_lost() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    watch.others_answer("/health/ready", ResponseTemplate::new(503)).await;
    round(&watch, &story).await;
    assert_eq!(watch.alarms("stuck").await, [("RELAY_DEAD".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_service_that_does_not_answer_its_topics_tell_what_they_can() {
    let watch = Watch::begin().await;
    let (unknown, retried) = (waiting_for_stock(), waiting_for_stock());
    watch.hear_all(&unknown).await;
    let records = watch.hear_all(&retried).await;
    watch.hear(&[watch.hop(Service::Product, OwnTopic::Retry(Rung::First), &records[1], 3, retried.next_at)]).await;
    watch.round_at(retried.next_at + STUCK_AFTER * 2).await;
    let mut causes: Vec<String> = watch.alarms("stuck").await.into_iter().map(|(cause, _)| cause).collect();
    causes.sort();
    assert!(causes.contains(&"UNKNOWN".to_owned()), "{causes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_alarm_until_they_are_gone() {
    let watch = Watch::begin().await;
    let told = json!({"items": [{"errorClass": "panic", "topic": "order-created", "count": 3}]});
    let answer = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    watch.others_answer("/admin/dead-letters/groups", answer(told)).await;
    let now = chrono::Utc::now();
    watch.round_at(now).await;
    watch.round_at(now).await;
    let groups = saga_monitor::services::readers().count();
    assert_eq!(watch.alarms("dead-letter").await, vec![("DEAD_LETTERS".to_owned(), 3); groups], "one per group, here");
    watch.others.reset().await;
    watch.round_at(now).await;
    assert_eq!(watch.alarms("dead-letter").await.len(), groups, "who doesn't answer hasn't said that they are gone");
    watch.others_answer("/admin/dead-letters/groups", answer(json!({"items": []}))).await;
    watch.round_at(now).await;
    assert_eq!(watch.alarms("dead-letter").await, []);
}

// --- resuming -----------------------------------------------------------------------------------

/// What is asked again: the event, and of whom.
async fn plan(watch: &Watch, story: &Story) -> Result<Vec<(EventId, Service)>, &'static str> {
    let saga = {
        let client = watch.database.pool.get().await.expect("a connection");
        let row = client.query_one("SELECT facts FROM sagas WHERE key = $1", &[&story.order.to_string()]).await;
        let facts: String = row.expect("the saga").get(0);
        saga_monitor::domain::Saga::from_json(saga_monitor::flows::Flow::Order, &facts).expect("it was kept")
    };
    let owed = saga.standing().expect("something is known").owed;
    let planned = resume::plan(&watch.services, &caught_up(), &owed).await;
    let questions = planned.map_err(|refusal| refusal.code())?;
    Ok(questions.into_iter().map(|(group, cause)| (cause.id, group)).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_is_asked_for_again_at_whoever_owes_it() {
    let watch = Watch::begin().await;
    let story = waiting_for_stock();
    watch.hear_all(&story).await;
    let line = story.id_of("order-line-placed");
    watch.others_say(line, "applied", json!({})).await;
    assert_eq!(plan(&watch, &story).await, Ok(vec![(line, Service::Product)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_event_is_asked_for_by_its_causes() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea", "cup"]).created().placed().deducted();
    watch.hear_all(&story).await;
    for told in &story.told {
        watch.others_say(told.id, "applied", json!({})).await;
    }
    let planned = plan(&watch, &story).await.expect("it can be asked for");
    let expected: Vec<(EventId, Service)> =
        story.told.iter().filter(|told| told.topic == "stock-deducted").map(|told| (told.id, Service::Order)).collect();
    assert_eq!(planned.len(), 2);
    assert!(expected.iter().all(|question| planned.contains(question)), "{planned:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_is_owed_is_asked_for_by_the_cancel() {
    let watch = Watch::begin().await;
    let story = Story::of_a_compensated_order().without("payment-refunded").without("coupon-restored");
    watch.hear_all(&story).await;
    let cancelled = story.id_of("order-cancelled");
    watch.others_say(cancelled, "applied", json!({})).await;
    assert_eq!(plan(&watch, &story).await, Ok(vec![(cancelled, Service::Coupon), (cancelled, Service::Payment)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_is_refused_where_it_cannot_help() {
    for (state, code) in [
        ("unread", "event-unread"),
        ("waiting", "event-waiting"),
        ("retrying", "event-in-ladder"),
        ("parked", "event-in-ladder"),
        ("dead", "event-dead"),
        ("discarded", "event-discarded"),
    ] {
        let watch = Watch::begin().await;
        let story = waiting_for_stock();
        watch.hear_all(&story).await;
        watch.others_say(story.id_of("order-line-placed"), state, json!({})).await;
        assert_eq!(plan(&watch, &story).await, Err(code));
    }
    let watch = Watch::begin().await;
    let (done, lost) = (Story::of_a_confirmed_order(), Story::of(&["tea"]).created());
    watch.hear_all(&done).await;
    watch.hear_all(&lost).await;
    assert_eq!(plan(&watch, &done).await, Err("nothing-owed"));
    assert_eq!(plan(&watch, &lost).await, Err("event-lost"));
    let silent = waiting_for_stock();
    watch.hear_all(&silent).await;
    assert_eq!(plan(&watch, &silent).await, Err("group-unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_goes_to_the_groups_replay_topic_byte_for_byte() {
    use messaging::{Record, Tx, resume::ask_for_answers};
    let watch = Watch::begin().await;
    let story = waiting_for_stock();
    let records: Vec<Record> = watch.hear_all(&story).await;
    let mut client = watch.database.pool.get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    ask_for_answers(&tx, Service::Product, &records[1]).await.expect("PostgreSQL answers");
    tx.commit().await.expect("it commits");
    let row = client
        .query_one("SELECT topic, key, payload, header_names, header_values FROM outbox", &[])
        .await
        .expect("one row");
    let (topic, key, payload): (String, Vec<u8>, Vec<u8>) = (row.get(0), row.get(1), row.get(2));
    assert_eq!(
        (&*topic, Some(&key), Some(&payload)),
        ("product-service.replay", records[1].key.as_ref(), records[1].value.as_ref())
    );
    let (names, values): (Vec<String>, Vec<Vec<u8>>) = (row.get(3), row.get(4));
    let header =
        |name: &str| names.iter().position(|is| is == name).map(|at| String::from_utf8_lossy(&values[at]).into_owned());
    assert_eq!(header("x-resume").as_deref(), Some("true"));
    assert_eq!(header("x-origin-topic").as_deref(), Some("order-line-placed"));
    assert!(header("traceparent").expect("a trace").contains(&story.trace.trace_id.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_an_event_lies_is_told_per_group() {
    let watch = Watch::begin().await;
    let story = waiting_for_stock();
    watch.hear_all(&story).await;
    let line = story.id_of("order-line-placed");
    watch.others_say(line, "parked", json!({})).await;
    let found = watch.get(&format!("/api/where/{line}")).await;
    assert_eq!((&found["state"], &found["topic"]), (&json!("found"), &json!("order-line-placed")));
    let groups = found["groups"].as_array().expect("groups");
    let states: Vec<String> = groups.iter().map(|group| text(&group["state"])).collect();
    assert_eq!(states, ["parked", "applied"], "product-service, and the monitor itself");
    let nobody = watch.get(&format!("/api/where/{}", Uuid::now_v7())).await;
    assert_eq!((&nobody["state"], &nobody["groups"]), (&json!("nowhere"), &json!([])));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_step_says_so() {
    let watch = Watch::begin().await;
    let story = waiting_for_stock();
    let records = watch.hear_all(&story).await;
    let at = story.last_at() + TimeDelta::seconds(5);
    watch.hear(&[watch.hop(Service::Product, OwnTopic::Retry(Rung::Third), &records[1], 6, at)]).await;
    assert_eq!(watch.saga(story.order).await["steps"][2]["status"], "RETRYING");
    watch.others_say(story.id_of("order-line-placed"), "parked", json!({})).await;
    assert_eq!(watch.saga(story.order).await["steps"][2]["status"], "PARKED");
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_alarm_also_while_no_saga_can_be_judged() {
    let watch = Watch::begin().await;
    let told = json!({"items": [{"errorClass": "panic", "topic": "order-created", "count": 3}]});
    watch.others_answer("/admin/dead-letters/groups", ResponseTemplate::new(200).set_body_json(told)).await;
    let client = watch.database.pool.get().await.expect("a connection");
    client.batch_execute("ALTER TABLE sagas RENAME COLUMN stuck TO was_stuck").await.expect("it fails from now on");
    watch.try_round_at(chrono::Utc::now()).await.expect_err("and it is told");
    assert_eq!(watch.alarms("dead-letter").await.len(), saga_monitor::services::readers().count());
}
