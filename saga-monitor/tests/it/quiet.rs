//! What alarms nobody, though it looks as if it should, and alarms that don't close too early.

use chrono::TimeDelta;
use common_events::Service;
use messaging::{OwnTopic, Record, Rung, Tx};
use saga_monitor::{events::recorder::rebuild, store::sagas::mark_stuck};
use serde_json::json;

use crate::{
    story::Story,
    watch::{STUCK_AFTER, Watch, caught_up, text},
};

#[tokio::test(flavor = "multi_thread")]
async fn what_waited_in_an_outbox_is_no_older_than_when_it_reached_its_topic() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created().placed();
    // The relay was away for longer than a saga may stand still.
    let reached = story.last_at() + STUCK_AFTER * 3;
    let late: Vec<Record> =
        story.told.iter().map(|told| Record { timestamp: Some(reached), ..watch.record_of(told) }).collect();
    watch.hear(&late).await;
    assert_eq!(watch.round_at(reached + TimeDelta::minutes(1)).await.stuck, 0);
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["startedAt"], &saga["lastProgressAt"]), (&json!(story.told[0].at), &json!(reached)));
    assert_eq!(watch.round_at(reached + STUCK_AFTER * 2).await.stuck, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_behind_an_event_that_is_tried_again_moves_with_it() {
    let watch = Watch::begin().await;
    let (head, follower) = (Story::of(&["tea"]).created().placed(), Story::of(&["tea"]).created().placed());
    let records = watch.hear_all(&head).await;
    watch.hear_all(&follower).await;
    let hop_at = head.last_at() + STUCK_AFTER - TimeDelta::seconds(10);
    watch.hear(&[watch.hop(Service::Product, OwnTopic::Retry(Rung::First), &records[1], 3, hop_at)]).await;
    let head_id = head.id_of("order-line-placed");
    watch.others_say(head_id, "retrying", json!({"tier": "retry-1"})).await;
    watch.others_say(follower.id_of("order-line-placed"), "waiting", json!({"behind": head_id})).await;
    watch.round_at(follower.last_at() + STUCK_AFTER + TimeDelta::minutes(1)).await;
    assert_eq!(watch.count("alarms").await, 0);
    assert_eq!(watch.saga(follower.order).await["stuck"], false);
    watch.round_at(hop_at + STUCK_AFTER * 2).await;
    assert_eq!(watch.alarms("stuck").await, [("RETRYING".to_owned(), 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_answers_nothing_is_called_not_undone() {
    let watch = Watch::begin().await;
    let story = Story::of_a_compensated_order().without("payment-refunded");
    watch.hear_all(&story).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["cause"], &saga["mismatches"]), (&json!("UNKNOWN"), &json!([])));
    assert_eq!(watch.alarms("mismatched").await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_in_which_nobody_owes_anything_has_an_alarm_too() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    // No service tells of an order without lines; somebody else may.
    let story = Story::of(&[]).created();
    watch.hear_all(&story).await;
    let round = watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    assert_eq!((round.stuck, round.judged), (1, 1));
    assert_eq!(watch.alarms("stuck").await, [("EVENT_LOST".to_owned(), 1)]);
    assert_eq!(watch.saga(story.order).await["waitingFor"]["event"], "order-confirmed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_of_which_nothing_can_be_read_keeps_no_other_from_its_alarm() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let (spoilt, lost) = (Story::of(&["tea"]).created(), Story::of(&["cup"]).created());
    watch.hear_all(&spoilt).await;
    watch.hear_all(&lost).await;
    let client = watch.database.pool.get().await.expect("a connection");
    let key = spoilt.order.to_string();
    client.execute("UPDATE sagas SET facts = 'gone' WHERE key = $1", &[&key]).await.expect("one row");
    watch.round_at(lost.last_at() + STUCK_AFTER * 2).await;
    let mut alarms = watch.alarms("stuck").await;
    alarms.sort();
    assert_eq!(alarms, [("EVENT_LOST".to_owned(), 1), ("UNKNOWN".to_owned(), 1)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_round_marks_so_many_and_the_longest_still_first() {
    let watch = Watch::begin().await;
    let mut stories = Vec::new();
    for minutes in 0..3 {
        let mut story = Story::of(&["tea"]);
        story.next_at -= TimeDelta::minutes(minutes);
        stories.push(story.created());
    }
    for story in &stories {
        watch.hear_all(story).await;
    }
    let mut client = watch.database.pool.get().await.expect("a connection");
    for (marked, newest_is) in [(2, false), (1, true), (0, true)] {
        let tx = Tx::begin(&mut client).await.expect("a transaction");
        assert_eq!(mark_stuck(&tx, chrono::Utc::now(), 2).await.expect("PostgreSQL answers"), marked);
        tx.commit().await.expect("it commits");
        assert_eq!(watch.saga(stories[0].order).await["stuck"], newest_is);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_not_over_because_a_round_had_no_time_for_its_saga() {
    let watch = Watch::begin().await;
    let dead = Story::of(&["tea"]).with_coupon().created().placed().deducted();
    watch.hear_all(&dead).await;
    watch.others_say(dead.id_of("order-created"), "dead", json!({})).await;
    let mut cluster = caught_up();
    cluster.members.insert(Service::Product, 0);
    let now = dead.last_at() + STUCK_AFTER * 2;
    watch.round_over(&cluster, now).await;
    assert_eq!(watch.alarms("stuck").await, [("DEAD".to_owned(), 1)]);
    // More than a round judges, all of them stuck for longer.
    let mut older = Vec::new();
    for _ in 0..510 {
        let mut story = Story::of(&["cup"]);
        story.next_at -= TimeDelta::hours(1);
        older.extend(story.created().placed().told.iter().map(|told| watch.record_of(told)));
    }
    watch.hear(&older).await;
    rebuild(&watch.database.pool).await.expect("it is rebuilt");
    for _ in 0..3 {
        watch.round_over(&cluster, now).await;
    }
    let found = watch.get("/api/alarms").await;
    let mut causes: Vec<String> =
        found["items"].as_array().expect("items").iter().map(|one| text(&one["cause"])).collect();
    causes.sort();
    assert_eq!(causes, ["CONSUMER_DEAD", "DEAD"], "one each, and none that closed");
}
