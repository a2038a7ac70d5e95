//! What became of each step, as the picture shows it.

use common_events::{EventId, Topic};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{Asked, Fact, Place, Says, StepKey},
    flows::Flow,
};

/// An order of one line without a coupon, of which these events are known.
fn saga(events: &[Topic]) -> Saga {
    let mut saga = Saga::new(Flow::Order);
    for (index, event) in events.iter().enumerate() {
        let step = Flow::Order.declaration().step(*event).expect("a step of an order");
        let key = match step.each {
            crate::flows::Each::Saga => StepKey::once(*event),
            crate::flows::Each::Line => StepKey::of_line(*event, "tea"),
        };
        let asked = (*event == Topic::OrderCreated).then(|| Asked { lines: ["tea".to_owned()].into(), coupon: false });
        let seconds = i64::try_from(index).expect("few");
        let fact = Fact {
            at: DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds),
            late: None,
            id: EventId::new(Uuid::from_u128(index as u128)),
            place: Place { partition: 0, offset: seconds },
            trace: None,
            says: Says { asked, ..Says::default() },
        };
        saga.take(key, fact);
    }
    saga
}

/// `owed_for`: how the event stands that an answer is owed for.
fn fates(events: &[Topic], is_stuck: bool, owed_for: Option<(Topic, GroupState)>) -> Vec<(&'static str, Fate)> {
    let saga = saga(events);
    let standing = saga.standing().expect("something is known");
    let owed_for = owed_for.into_iter().map(|(answer, state)| (answer.name(), state)).collect();
    let picture = Picture::of(&Shown { saga: &saga, standing: &standing, is_stuck, owed_for: &owed_for });
    picture.boxes.iter().map(|drawn| (drawn.name, drawn.fate)).collect()
}

const BEGUN: [Topic; 2] = [Topic::OrderCreated, Topic::OrderLinePlaced];

#[test]
fn what_is_owed_waits_and_what_comes_after_is_not_yet() {
    let fates = fates(&BEGUN, false, None);
    assert_eq!(fates[..2], [("place order", Fate::Done), ("ask for stock", Fate::Done)]);
    assert!(fates.contains(&("deduct stock", Fate::Waiting)), "{fates:?}");
    assert!(fates.contains(&("confirm order", Fate::NotYet)), "{fates:?}");
    let drawn_only_if_wanted = ["use coupon", "cancel order", "restore stock"];
    assert!(!fates.iter().any(|(name, _)| drawn_only_if_wanted.contains(name)), "{fates:?}");
}

#[test]
fn what_is_owed_shows_whether_it_is_tried_again_or_stuck() {
    let for_stock = |state| Some((Topic::StockDeducted, state));
    assert!(fates(&BEGUN, false, for_stock(GroupState::Retrying)).contains(&("deduct stock", Fate::Failing)));
    assert!(fates(&BEGUN, true, for_stock(GroupState::Retrying)).contains(&("deduct stock", Fate::Stuck)));
    assert!(fates(&BEGUN, false, for_stock(GroupState::Dead)).contains(&("deduct stock", Fate::Stuck)));
    assert!(fates(&BEGUN, false, for_stock(GroupState::Applied)).contains(&("deduct stock", Fate::Waiting)));
}

#[test]
fn what_died_elsewhere_does_not_show_where_something_else_is_owed() {
    let of_another = Some((Topic::PaymentCompleted, GroupState::Dead));
    assert!(fates(&BEGUN, false, of_another).contains(&("deduct stock", Fate::Waiting)));
}

#[test]
fn after_a_cancel_what_was_done_is_undone_and_the_rest_never_comes() {
    let told = [Topic::OrderCreated, Topic::OrderLinePlaced, Topic::StockDeducted, Topic::OrderCancelled];
    let compensating = fates(&told, false, None);
    assert!(compensating.contains(&("deduct stock", Fate::Done)), "{compensating:?}");
    assert!(compensating.contains(&("restore stock", Fate::Waiting)), "{compensating:?}");
    let told = [told.as_slice(), &[Topic::StockRestored]].concat();
    let compensated = fates(&told, false, None);
    assert!(compensated.contains(&("deduct stock", Fate::Undone)), "{compensated:?}");
    assert!(compensated.contains(&("restore stock", Fate::Done)), "{compensated:?}");
    assert!(compensated.contains(&("complete payment", Fate::Never)), "{compensated:?}");
}

#[test]
fn a_refusal_stands_where_the_answer_was_hoped_for() {
    let told = [Topic::OrderCreated, Topic::OrderLinePlaced, Topic::StockDeductFailed, Topic::OrderCancelled];
    assert!(fates(&told, false, None).contains(&("deduct stock", Fate::Refused)));
}

#[test]
fn a_picture_has_no_inline_style_and_says_what_it_draws() {
    let saga = saga(&BEGUN);
    let standing = saga.standing().expect("something is known");
    let drawn =
        Picture::of(&Shown { saga: &saga, standing: &standing, is_stuck: true, owed_for: &<_>::default() }).to_string();
    assert!(drawn.contains("deduct stock: stuck, "), "said to who can't see it: {drawn}");
    assert!(drawn.contains("<title>deduct stock: stuck</title>") && !drawn.contains("style="), "{drawn}");
}
