//! What a round of the detection says: who is stuck, who isn't, and what doesn't match.

use chrono::TimeDelta;
use common_events::Service;
use messaging::{OwnTopic, Rung};
use serde_json::{Value, json};

use crate::{
    story::{Story, TOTAL},
    watch::{STUCK_AFTER, Watch},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_stands_still_is_stuck_and_names_what_it_waits_for() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea", "cup"]).created().placed().deducted();
    watch.hear_all(&story).await;
    let just_before = story.last_at() + STUCK_AFTER + TimeDelta::seconds(1);
    watch.round_at(just_before).await;
    assert_eq!(watch.saga(story.order).await["stuck"], false, "within the grace");
    let round = watch.round_at(just_before + TimeDelta::seconds(2)).await;
    assert_eq!((round.stuck, round.judged), (1, 1));
    let saga = watch.saga(story.order).await;
    assert_eq!(saga["stuck"], true);
    assert_eq!(saga["waitingFor"], json!({"event": "order-reserved", "from": "order-service"}));
    assert_eq!(watch.get("/api/sagas?stuck=true").await["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_saga_that_moves_closes_its_alarm() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea", "cup"]).created().placed().deducted();
    watch.hear_all(&story).await;
    let later = story.last_at() + STUCK_AFTER * 2;
    watch.round_at(later).await;
    assert_eq!(watch.alarms("stuck").await.len(), 1);
    watch.round_at(later).await;
    assert_eq!(watch.alarms("stuck").await.len(), 1, "one per cause, not one per round");
    let goes_on = Story { told: Vec::new(), next_at: later, ..story.clone() }.reserved();
    watch.hear_all(&goes_on).await;
    assert_eq!(watch.saga(story.order).await["stuck"], false, "at once");
    watch.round_at(later + TimeDelta::seconds(1)).await;
    assert_eq!(watch.alarms("stuck").await, []);
    assert_eq!(watch.get("/api/alarms?state=CLOSED").await["items"].as_array().map(Vec::len), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn five_hundred_healthy_sagas_of_which_some_are_retried_twice_alarm_nobody() {
    let watch = Watch::begin().await;
    let (mut last, mut heard) = (None, Vec::new());
    for n in 0..500 {
        let story = match n % 4 {
            0 => Story::of_a_confirmed_order(),
            1 => Story::of_a_compensated_order(),
            2 => Story::of_a_request().issued(),
            _ => Story::of(&["tea"]).created().placed(),
        };
        let records: Vec<_> = story.told.iter().map(|told| watch.record_of(told)).collect();
        if n % 4 == 3 {
            // Two hops, each just before it would be stuck, then it goes on.
            let first = story.last_at() + STUCK_AFTER - TimeDelta::seconds(10);
            let second = first + STUCK_AFTER - TimeDelta::seconds(10);
            let hop = |rung, attempt, at| watch.hop(Service::Product, OwnTopic::Retry(rung), &records[1], attempt, at);
            heard.extend([hop(Rung::First, 3, first), hop(Rung::Second, 4, second)]);
            last = Some((first, second));
        }
        heard.extend(records);
    }
    watch.hear(&heard).await;
    let (first, second) = last.expect("some were retried");
    for now in [first, first + STUCK_AFTER / 2, second, second + STUCK_AFTER / 2] {
        let round = watch.round_at(now).await;
        assert_eq!((round.stuck, round.mismatched), (0, 0));
    }
    assert_eq!(watch.count("alarms").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_monitors_own_absence_alarms_nobody() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea", "cup"]).created().placed();
    watch.hear_all(&story).await;
    // It was away for an hour; what happened meanwhile isn't read yet, so nothing later than this is known.
    let round = watch.round_at(story.last_at() + TimeDelta::seconds(3)).await;
    assert_eq!(round.stuck, 0);
    let rest = Story { told: Vec::new(), ..story.clone() }.deducted().reserved().paid(TOTAL).confirmed();
    watch.hear_all(&rest).await;
    watch.round_at(story.last_at() + TimeDelta::hours(1)).await;
    assert_eq!(watch.count("alarms").await, 0);
}

/// What doesn't match in an order of which this was told, when everything is known.
async fn mismatches(story: &Story) -> Vec<Value> {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    watch.hear_all(story).await;
    for told in &story.told {
        watch.others_say(told.id, "applied", json!({})).await;
    }
    watch.round_at(story.last_at() + TimeDelta::milliseconds(1_900)).await;
    assert_eq!(watch.saga(story.order).await["mismatches"], json!([]), "more may be on its way");
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let saga = watch.saga(story.order).await;
    let found = saga["mismatches"].as_array().expect("mismatches").clone();
    assert_eq!(saga["mismatched"], !found.is_empty());
    assert_eq!(watch.alarms("mismatched").await.len(), usize::from(!found.is_empty()));
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_mismatch_is_found() {
    let held = || Story::of(&["tea", "cup"]).created().placed().deducted().reserved().paid(TOTAL);
    let cases = [
        (
            Story::of_a_compensated_order().without("stock-restored"),
            vec![
                "not-undone: cancelled without stock-restored of cup",
                "not-undone: cancelled without stock-restored of tea",
            ],
        ),
        (
            Story::of_a_compensated_order().without("payment-refunded"),
            vec!["not-undone: cancelled without payment-refunded"],
        ),
        (
            Story::of_a_compensated_order().without("point-refunded"),
            vec!["not-undone: cancelled without point-refunded"],
        ),
        (
            Story::of_a_compensated_order().without("coupon-used").without("coupon-restored").coupon_restored(),
            vec!["undone-never-done: coupon-restored"],
        ),
        (held().cancelled(2).confirmed().restored().refunded(), vec!["confirmed-after-cancel"]),
        (
            Story::of(&["tea", "cup"]).created().placed().deducted().reserved().paid(TOTAL - 1).confirmed(),
            vec!["amounts-differ: order-reserved and payment-completed"],
        ),
        (held().paid(TOTAL).confirmed(), vec!["done-twice: point-deducted", "done-twice: payment-completed"]),
    ];
    for (story, expected) in cases {
        let mut found: Vec<String> = mismatches(&story).await.iter().map(crate::watch::text).collect();
        found.sort();
        let mut expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
        expected.sort();
        // A coupon that was never used is also still asked for.
        found.retain(|one| !one.contains("coupon-used"));
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_after_the_confirmation_is_no_mismatch() {
    assert_eq!(mismatches(&Story::of_a_compensated_order()).await, [""; 0]);
    assert_eq!(mismatches(&Story::of_a_confirmed_order()).await, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undo_that_is_on_its_way_is_no_mismatch() {
    let watch = Watch::begin().await;
    let story = Story::of_a_compensated_order().without("payment-refunded");
    watch.hear_all(&story).await;
    watch.others_say(story.id_of("order-cancelled"), "retrying", json!({"tier": "retry-2"})).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let saga = watch.saga(story.order).await;
    assert_eq!(
        (&saga["stuck"], &saga["mismatched"], &saga["cause"]),
        (&json!(true), &json!(false), &json!("RETRYING"))
    );
}
