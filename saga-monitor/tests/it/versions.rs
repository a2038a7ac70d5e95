//! Events of every version, and facts that another release of the monitor has kept: nothing is lost, nothing stops.

use std::collections::BTreeSet;

use chrono::TimeDelta;
use common_events::Service;
use messaging::{OwnTopic, Rung};
use saga_monitor::{events::recorder, store::positions::list_positions};
use serde_json::{Value, json};

use crate::{
    bad_input::changed,
    story::{Story, TOTAL},
    watch::{STUCK_AFTER, Watch},
};

fn paid() -> Story {
    Story::of(&["tea"]).created().placed().deducted().reserved().paid(TOTAL).confirmed()
}

/// What is shown of a saga, but for what tells it from others.
fn shown(saga: &Value) -> Value {
    let steps: Vec<Value> = saga["steps"].as_array().expect("steps").iter().map(|step| step["step"].clone()).collect();
    json!([saga["state"], saga["owed"], saga["mismatches"], saga["marks"], steps])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_either_version_is_compensated_and_shown_the_same() {
    let watch = Watch::begin().await;
    let mut sagas = Vec::new();
    for cancelled in [paid().cancelled_in_version_1(4), paid().cancelled(4)] {
        watch.hear_all(&cancelled).await;
        assert_eq!(watch.saga(cancelled.order).await["state"], "COMPENSATING");
        let heard = cancelled.told.len();
        let undone = cancelled.restored().refunded();
        for told in &undone.told[heard..] {
            watch.hear(&[watch.record_of(told)]).await;
        }
        sagas.push(watch.saga(undone.order).await);
    }
    assert_eq!((&sagas[0]["state"], &sagas[0]["marks"]), (&json!("COMPENSATED"), &Value::Null), "{}", sagas[0]);
    assert_eq!(shown(&sagas[0]), shown(&sagas[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_for_a_reason_that_is_not_known_is_compensated_like_any_other_in_either_version() {
    let watch = Watch::begin().await;
    for story in [paid().cancelled_in_version_1(4), paid().cancelled(4)] {
        let story = story.restored().refunded();
        for told in &story.told {
            let told = changed(told, |value| {
                if let Some(reason) = value["data"].get_mut("reason") {
                    *reason = json!("RECALLED_2027");
                }
            });
            watch.hear(&[watch.record_of(&told)]).await;
        }
        let saga = watch.saga(story.order).await;
        assert_eq!((&saga["state"], &saga["marks"]), (&json!("COMPENSATED"), &Value::Null), "{saga}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_of_either_version_on_the_ladder_and_dead_is_shown_where_it_lies() {
    let watch = Watch::begin().await;
    for story in [paid().cancelled_in_version_1(4), paid().cancelled(4)] {
        let records = watch.hear_all(&story).await;
        let cancel = records.last().expect("a cancel");
        let hop = watch.hop(Service::Product, OwnTopic::Retry(Rung::First), cancel, 3, story.next_at);
        watch.hear(&[hop]).await;
        watch.hear(&[watch.hop(Service::Product, OwnTopic::Dlt, cancel, 6, story.next_at)]).await;
        let saga = watch.saga(story.order).await;
        let steps = saga["steps"].as_array().expect("steps").iter();
        let of_cancel = steps.filter(|step| step["step"] == "cancel order").map(|step| step["status"].clone());
        let statuses: BTreeSet<String> = of_cancel.map(|status| status.to_string()).collect();
        assert_eq!(statuses, ["\"DEAD\"", "\"RETRYING\"", "\"SUCCESS\""].map(str::to_owned).into());
        assert_eq!(saga["state"], "COMPENSATING");
    }
}

/// It is kept under its order and marked; what comes after it is heard, and the watermark moves.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_known_yet_holds_nothing_up_and_is_kept_for_a_later_release() {
    let watch = Watch::begin().await;
    let story = paid().cancelled(4);
    let (cancel, before) = story.told.split_last().expect("a cancel");
    for told in before {
        watch.hear(&[watch.record_of(told)]).await;
    }
    let later = changed(cancel, |value| value["dataschema"] = json!("urn:commerce:order-cancelled:3"));
    let after = paid().cancelled(4);
    watch.hear(&[watch.record_of(&later)]).await;
    watch.hear_all(&after).await;
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["state"], &saga["marks"]), (&json!("COMPLETED"), &json!(["unknown-version"])), "{saga}");
    assert_eq!(watch.saga(after.order).await["state"], "COMPENSATING");
    let client = watch.database.pool.get().await.expect("a connection");
    let read = list_positions(&client).await.expect("PostgreSQL answers");
    let position = read[&("order-cancelled".to_owned(), 0)];
    assert_eq!((position.next_offset, position.last_at), (2, after.last_at()));

    let kept: Vec<u8> = client
        .query_one("SELECT payload FROM saga_state_log WHERE topic = 'order-cancelled' AND \"offset\" = 0", &[])
        .await
        .expect("it is in the log")
        .get(0);
    assert_eq!(kept, later.value, "byte for byte, for the release that reads it");
}

/// As a release has left it that didn't know the version yet: the event in the log, and its saga marked.
async fn left_unread(watch: &Watch, story: &Story) {
    let cancel = story.told.last().expect("a cancel");
    let client = watch.database.pool.get().await.expect("a connection");
    let saga = format!("order:{}", story.order);
    client
        .execute(
            r#"INSERT INTO saga_state_log (topic, "partition", "offset", key, saga, step, status, event_id, event_type,
                                           service, marks, occurred_at, written_at, recorded_at, payload)
               VALUES ('order-cancelled', 0, 0, $1, $2, 'cancel order', 'FAILED', $3, 'order-cancelled', 'order-service',
                       '{unknown-version}', $4, $4, $4, $5)"#,
            &[&cancel.key.as_bytes(), &saga, &cancel.id.uuid(), &cancel.at, &cancel.value],
        )
        .await
        .expect("it goes into the log");
    let mark = "UPDATE sagas SET marks = '{unknown-version}', facts = jsonb_set(jsonb_set(facts::jsonb, '{m}',
             '[\"unknown-version\"]'), '{s}', jsonb_build_array($2::text, $2::text))::text WHERE saga = $1";
    assert_eq!(client.execute(mark, &[&saga, &cancel.at.to_rfc3339()]).await.expect("the saga"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_release_could_not_read_is_said_to_be_there_and_read_by_a_rebuild() {
    let watch = Watch::begin().await;
    let story = paid().cancelled(4);
    for told in &story.told[..story.told.len() - 1] {
        watch.hear(&[watch.record_of(told)]).await;
    }
    let pool = &watch.database.pool;
    assert_eq!(recorder::count_readable(pool).await.expect("PostgreSQL answers"), 0);
    left_unread(&watch, &story).await;
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["state"], &saga["marks"]), (&json!("COMPLETED"), &json!(["unknown-version"])), "{saga}");
    assert_eq!(recorder::count_readable(pool).await.expect("PostgreSQL answers"), 1);

    recorder::rebuild(pool).await.expect("the log is there");
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["state"], &saga["marks"]), (&json!("COMPENSATING"), &Value::Null), "{saga}");
    assert_eq!(recorder::count_readable(pool).await.expect("PostgreSQL answers"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_called_lost_that_may_be_in_a_newer_version() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    // Keyed by its order, and by its product.
    let stories = [
        Story::of(&["tea"]).created().placed().deduct_failed().cancelled(2),
        Story::of(&["tea"]).created().placed().deduct_failed(),
    ];
    for story in &stories {
        let (last, before) = story.told.split_last().expect("something was told");
        for told in before {
            watch.hear(&[watch.record_of(told)]).await;
        }
        let newer = changed(last, |value| value["dataschema"] = json!(format!("urn:commerce:{}:3", last.topic)));
        watch.hear(&[watch.record_of(&newer)]).await;
    }
    watch.round_at(stories[1].last_at() + STUCK_AFTER * 2).await;
    assert_eq!(watch.alarms("stuck").await, [("NEWER_VERSION".to_owned(), 2)], "one cause of both");
    for story in stories {
        let saga = watch.saga(story.order).await;
        assert_eq!((&saga["cause"], &saga["mismatched"]), (&json!("NEWER_VERSION"), &json!(false)), "{saga}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_contradicts_what_is_in_a_newer_version() {
    let watch = Watch::begin().await;
    let story = paid().cancelled(4).restored().refunded();
    for told in &story.told {
        let newer = changed(told, |value| value["dataschema"] = json!("urn:commerce:payment-completed:2"));
        let told = if told.topic == "payment-completed" { &newer } else { told };
        watch.hear(&[watch.record_of(told)]).await;
    }
    let round = watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    assert_eq!(round.mismatched, 0, "{}", watch.saga(story.order).await);
}

/// An older release of the monitor is back, and finds what a newer one has kept.
#[tokio::test(flavor = "multi_thread")]
async fn facts_of_a_later_release_stay_and_hold_nothing_up() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    let client = watch.database.pool.get().await.expect("a connection");
    let fact = r#"["order-modified",null,{"at":"2027-01-01T00:00:00Z","colour":"red"}]"#;
    let sql = r#"UPDATE sagas SET facts = replace(facts, '{"f":[', '{"f":[' || $1 || ',')"#;
    assert_eq!(client.execute(sql, &[&fact]).await.expect("facts"), 1);

    let told = story.told.len();
    let story = story.placed().deducted().reserved();
    for told in &story.told[told..] {
        watch.hear(&[watch.record_of(told)]).await;
    }
    let saga = watch.saga(story.order).await;
    assert_eq!((&saga["state"], &saga["waitingFor"]["event"]), (&json!("IN_PROGRESS"), &json!("payment-completed")));
    let round = watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    assert_eq!((round.stuck, round.judged), (1, 1), "it is judged like any other");
    let facts: String = client.query_one("SELECT facts FROM sagas", &[]).await.expect("the saga").get(0);
    assert!(facts.contains(fact), "{facts}");

    drop(client);
    recorder::rebuild(&watch.database.pool).await.expect("the log is there");
    assert_eq!(watch.saga(story.order).await["state"], "IN_PROGRESS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_of_a_kind_that_a_later_release_knows_keeps_no_alarm_open() {
    let watch = Watch::begin().await;
    let (story, theirs) = (Story::of(&["tea"]).created(), Story::of(&["tea"]).created());
    watch.hear_all(&story).await;
    watch.hear_all(&theirs).await;
    let later = story.last_at() + STUCK_AFTER * 2;
    watch.round_at(later).await;
    assert_eq!(watch.alarms("stuck").await.len(), 1);
    let client = watch.database.pool.get().await.expect("a connection");
    client.batch_execute("ALTER TABLE sagas DROP CONSTRAINT sagas_type_check").await.expect("as it does it");
    let sql = "UPDATE sagas SET type = 'delivery', cause = NULL, cause_class = NULL, judged_at = NULL WHERE key = $1";
    assert_eq!(client.execute(sql, &[&theirs.order.to_string()]).await.expect("the saga"), 1);
    let goes_on = Story { told: Vec::new(), next_at: later, ..story }.placed();
    watch.hear_all(&goes_on).await;
    watch.round_at(later + TimeDelta::seconds(1)).await;
    assert_eq!(watch.alarms("stuck").await, [], "what isn't known here is nothing to wait for");
}
