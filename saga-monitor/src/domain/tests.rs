//! Histories as they happen, and as they are heard: in any order, and more than once.

use std::collections::BTreeSet;

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{EventId, Service, Topic, TraceId};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

/// A step as a test names it: the event, its line, and what it says.
type Told = (StepKey, Says);

fn once(event: Topic) -> Told {
    (StepKey::once(event), Says::default())
}

fn line(event: Topic, product: &str) -> Told {
    (StepKey::of_line(event, product), Says::default())
}

fn amount(event: Topic, amount: i64) -> Told {
    (StepKey::once(event), Says { amount: Some(amount), ..Says::default() })
}

fn version(event: Topic, version: i32) -> Told {
    (StepKey::once(event), Says { version: Some(version), ..Says::default() })
}

fn created(lines: &[&str], coupon: bool) -> Told {
    let asked = Asked { lines: lines.iter().map(|line| (*line).to_owned()).collect(), coupon };
    (StepKey::once(Topic::OrderCreated), Says { version: Some(1), asked: Some(asked), amount: None })
}

/// The `n`th event of a history, a second after the one before.
fn fact(n: usize, says: Says) -> Fact {
    let n = i64::try_from(n).expect("a short history");
    Fact {
        at: DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(n),
        id: EventId::new(Uuid::from_u128(1_000 + u128::from(n.unsigned_abs()))),
        place: Place { partition: 0, offset: n },
        late: None,
        trace: TraceId::new([7; 16]),
        says,
    }
}

fn heard(flow: Flow, history: &[Told]) -> Saga {
    let mut saga = Saga::new(flow);
    for (n, (step, says)) in history.iter().enumerate() {
        saga.take(step.clone(), fact(n, says.clone()));
    }
    saga
}

fn standing(flow: Flow, history: &[Told]) -> Standing {
    heard(flow, history).standing().expect("something is known")
}

/// Where an order stands, and what it waits for from whom.
fn order(history: &[Told]) -> (State, Vec<(Topic, Service)>) {
    let standing = standing(Flow::Order, history);
    (standing.state, standing.owed.iter().map(|owed| (owed.event, owed.from)).collect())
}

fn doubts(history: &[Told]) -> Vec<String> {
    standing(Flow::Order, history).doubts.iter().map(ToString::to_string).collect()
}

/// Two lines and a coupon, up to the confirmation.
fn confirmed() -> Vec<Told> {
    use Topic as T;
    vec![
        created(&["tea", "cup"], true),
        line(T::OrderLinePlaced, "tea"),
        line(T::OrderLinePlaced, "cup"),
        line(T::StockDeducted, "tea"),
        once(T::CouponUsed),
        line(T::StockDeducted, "cup"),
        (StepKey::once(T::OrderReserved), Says { amount: Some(900), version: Some(2), asked: None }),
        amount(T::PointDeducted, 900),
        amount(T::PaymentCompleted, 900),
        (StepKey::once(T::OrderConfirmed), Says { amount: Some(900), version: Some(3), asked: None }),
    ]
}

/// Confirmed, then cancelled, and everything undone.
fn compensated() -> Vec<Told> {
    use Topic as T;
    let mut history = confirmed();
    history.extend([
        version(T::OrderCancelled, 4),
        line(T::StockRestored, "tea"),
        once(T::CouponRestored),
        amount(T::PointRefunded, 900),
        amount(T::PaymentRefunded, 900),
        line(T::StockRestored, "cup"),
    ]);
    history
}

#[test]
fn an_order_waits_for_each_answer_in_turn_until_it_is_confirmed() {
    let history = confirmed();
    let waits_for: Vec<_> = (1..=history.len()).map(|known| order(&history[..known]).1).collect();
    let first: Vec<_> = waits_for.iter().map(|owed| owed.first().copied()).collect();
    let (order_service, product, coupon) = (Service::Order, Service::Product, Service::Coupon);
    assert_eq!(
        first,
        [
            Some((Topic::OrderLinePlaced, order_service)),
            Some((Topic::OrderLinePlaced, order_service)),
            Some((Topic::StockDeducted, product)),
            Some((Topic::StockDeducted, product)),
            Some((Topic::StockDeducted, product)),
            Some((Topic::OrderReserved, order_service)),
            Some((Topic::PaymentCompleted, Service::Payment)),
            Some((Topic::PaymentCompleted, Service::Payment)),
            Some((Topic::OrderConfirmed, order_service)),
            None,
        ]
    );
    assert!(waits_for[3].contains(&(Topic::CouponUsed, coupon)), "the coupon is waited for beside the stock");
    assert_eq!(order(&history).0, State::Completed);
}

#[test]
fn an_order_without_a_coupon_waits_for_none() {
    let mut history = vec![created(&["tea"], false), line(Topic::OrderLinePlaced, "tea")];
    assert_eq!(order(&history).1, [(Topic::StockDeducted, Service::Product)]);
    history.push(line(Topic::StockDeducted, "tea"));
    assert_eq!(order(&history).1, [(Topic::OrderReserved, Service::Order)]);
}

#[test]
fn a_cancelled_order_is_compensated_when_each_step_is_undone_or_answered() {
    let history = compensated();
    for known in confirmed().len() + 1..history.len() {
        assert_eq!(order(&history[..known]).0, State::Compensating, "{known} events");
    }
    assert_eq!(order(&history), (State::Compensated, vec![]));
    assert_eq!(doubts(&history), [""; 0]);
}

#[test]
fn a_cancelled_order_waits_for_the_answers_to_what_was_asked() {
    let history = [created(&["tea"], true), line(Topic::OrderLinePlaced, "tea"), version(Topic::OrderCancelled, 2)];
    let (state, owed) = order(&history);
    assert_eq!(state, State::Compensating);
    assert_eq!(owed, [(Topic::StockDeducted, Service::Product), (Topic::CouponUsed, Service::Coupon)]);
    let answered = [&history[..], &[line(Topic::StockDeductFailed, "tea"), once(Topic::CouponUseFailed)]].concat();
    assert_eq!(order(&answered), (State::Compensated, vec![]));
}

#[test]
fn an_order_without_a_coupon_is_compensated_without_one() {
    let mut history = vec![created(&["tea"], false), line(Topic::OrderLinePlaced, "tea")];
    history.extend([line(Topic::StockDeducted, "tea"), version(Topic::OrderCancelled, 2)]);
    assert_eq!(order(&history), (State::Compensating, vec![(Topic::StockRestored, Service::Product)]));
    history.push(line(Topic::StockRestored, "tea"));
    assert_eq!(order(&history), (State::Compensated, vec![]));
}

#[test]
fn a_refusal_waits_for_the_cancel() {
    let history =
        [created(&["tea"], false), line(Topic::OrderLinePlaced, "tea"), line(Topic::StockDeductFailed, "tea")];
    assert_eq!(order(&history), (State::InProgress, vec![(Topic::OrderCancelled, Service::Order)]));
}

#[test]
fn a_saga_without_its_first_event_waits_for_that() {
    let standing = standing(Flow::Order, &[line(Topic::StockDeducted, "tea")]);
    assert_eq!(standing.state, State::InProgress);
    assert_eq!((standing.owed[0].event, standing.owed[0].causes.len()), (Topic::OrderCreated, 0));
}

#[test]
fn a_request_is_issued_or_rejected() {
    let requested = once(Topic::CouponIssueRequested);
    let flow = Flow::CouponIssue;
    assert_eq!(standing(flow, std::slice::from_ref(&requested)).owed[0].event, Topic::CouponIssued);
    assert_eq!(standing(flow, &[requested.clone(), once(Topic::CouponIssued)]).state, State::Completed);
    assert_eq!(standing(flow, &[requested, once(Topic::CouponIssueRejected)]).state, State::Failed);
}

#[test]
fn what_is_owed_names_the_events_that_its_debtor_has_to_be_asked_about_again() {
    let history = confirmed();
    let reserved_is_owed = standing(Flow::Order, &history[..6]);
    let causes: BTreeSet<Topic> = reserved_is_owed.owed[0].causes.iter().map(|cause| cause.event).collect();
    assert_eq!(causes, BTreeSet::from([Topic::StockDeducted, Topic::CouponUsed]));
    assert_eq!(reserved_is_owed.owed[0].causes.len(), 3, "one per line, and the coupon's");
    let undo_is_owed = standing(Flow::Order, &compensated()[..11]);
    for owed in undo_is_owed.owed {
        let causes: Vec<Topic> = owed.causes.iter().map(|cause| cause.event).collect();
        assert_eq!(causes, [Topic::OrderCancelled], "{}", owed.event);
    }
}

#[test]
fn each_mismatch_is_found_and_a_cancel_after_the_confirmation_is_none() {
    assert_eq!(doubts(&compensated()), [""; 0]);
    let mut never_done = compensated();
    never_done.retain(|(step, _)| *step != StepKey::of_line(Topic::StockDeducted, "tea"));
    assert_eq!(doubts(&never_done), ["undone-never-done: stock-restored of tea"]);
    let mut cancelled_before = compensated();
    cancelled_before[10] = version(Topic::OrderCancelled, 2);
    assert_eq!(doubts(&cancelled_before), ["confirmed-after-cancel"]);
    let mut paid_less = confirmed();
    paid_less[8] = amount(Topic::PaymentCompleted, 899);
    assert_eq!(doubts(&paid_less), ["amounts-differ: order-reserved and payment-completed"]);
    let mut paid_twice = confirmed();
    paid_twice.push(amount(Topic::PaymentCompleted, 900));
    assert_eq!(doubts(&paid_twice), ["done-twice: payment-completed"]);
}

#[test]
fn what_cannot_be_read_is_a_saga_that_failed() {
    let mut saga = Saga::new(Flow::Order);
    assert_eq!(saga.standing(), None);
    saga.take_strange(DateTime::UNIX_EPOCH);
    saga.mark(Mark::Unreadable);
    let standing = saga.standing().expect("something is known");
    assert_eq!((standing.state, standing.owed.len()), (State::Failed, 0));
    assert_eq!(standing.marks, BTreeSet::from([Mark::Unreadable]));
}

#[test]
fn an_event_of_another_trace_is_marked() {
    let mut saga = heard(Flow::Order, &confirmed()[..2]);
    let stray = Fact { trace: TraceId::new([9; 16]), ..fact(50, Says::default()) };
    saga.take(StepKey::of_line(Topic::StockDeducted, "tea"), stray);
    let standing = saga.standing().expect("something is known");
    assert_eq!(standing.trace, TraceId::new([7; 16]), "of the request that began it");
    assert_eq!(standing.marks, BTreeSet::from([Mark::OtherTrace]));
}

/// Positions of a history of `length` events in any order, some of them several times, each at least once.
fn any_order(length: usize) -> impl Strategy<Value = Vec<usize>> {
    let more = proptest::collection::vec(0..length, 0..length);
    more.prop_map(move |more| (0..length).chain(more).collect::<Vec<usize>>()).prop_shuffle()
}

proptest! {
    /// Whatever came first, and however often: the saga is the same, and is kept the same.
    #[test]
    fn order_and_repetition_change_nothing(
        known in 1..=16_usize,
        heard_as in any_order(17),
        twice in proptest::bool::ANY,
    ) {
        let mut history = compensated();
        history.truncate(known);
        if twice {
            history.push(amount(Topic::PaymentCompleted, 1));
        }
        let expected = heard(Flow::Order, &history);
        let mut saga = Saga::new(Flow::Order);
        for (again, n) in heard_as.into_iter().enumerate() {
            let Some((step, says)) = history.get(n) else { continue };
            // Told again, it lies further back on its topic.
            let told = fact(n, says.clone());
            let further = Place { offset: told.place.offset + i64::try_from(again).unwrap_or(0), ..told.place };
            saga.take(step.clone(), Fact { place: further, ..told.clone() });
            saga.take(step.clone(), told);
        }
        prop_assert_eq!(saga.standing(), expected.standing());
        prop_assert_eq!(&saga, &expected);
        prop_assert_eq!(&Saga::from_json(Flow::Order, &saga.to_json()).expect("it was kept"), &expected);
    }

    /// Nothing that can be heard of an order breaks the rules that hold for every standing.
    #[test]
    fn every_standing_makes_sense(heard_as in proptest::collection::vec(0..16_usize, 1..30)) {
        let history = compensated();
        let mut saga = Saga::new(Flow::Order);
        for n in heard_as {
            saga.take(history[n].0.clone(), fact(n, history[n].1.clone()));
        }
        let standing = saga.standing().expect("something is known");
        prop_assert_eq!(standing.state.is_open(), !standing.owed.is_empty());
        prop_assert!(standing.started_at <= standing.last_progress_at);
        for owed in &standing.owed {
            prop_assert_eq!(owed.event.spec().writer, owed.from);
            for cause in &owed.causes {
                prop_assert!(cause.event.spec().readers.contains(&owed.from));
            }
        }
    }
}

#[test]
fn what_a_newer_release_has_kept_of_a_saga_is_kept_as_it_is() {
    let mut saga = heard(Flow::Order, &compensated());
    saga.mark(Mark::OtherTrace);
    let mut kept: serde_json::Value = serde_json::from_str(&saga.to_json()).expect("JSON");
    let fact = kept["f"][0][2].clone();
    let newer = [
        serde_json::json!(["order-shipped", null, fact]),
        serde_json::json!(["order-confirmed", null, {"says": "otherwise"}]),
        serde_json::json!({"written": "otherwise"}),
    ];
    kept["f"].as_array_mut().expect("facts").extend(newer.clone());
    kept["m"].as_array_mut().expect("marks").push("odder".into());
    let read = Saga::from_json(Flow::Order, &kept.to_string()).expect("the newer is left as it is");
    assert_eq!((read.standing(), read.marks()), (saga.standing(), saga.marks()));
    let mut more = read.clone();
    more.take(StepKey::once(Topic::OrderCreated), self::fact(99, Says::default()));
    for saga in [read, more] {
        let written: serde_json::Value = serde_json::from_str(&saga.to_json()).expect("JSON");
        let has = |fact: &serde_json::Value| written["f"].as_array().is_some_and(|facts| facts.contains(fact));
        assert!(newer.iter().all(has), "{written}");
        assert_eq!(written["m"], serde_json::json!(["odder", "other-trace"]));
    }
    Saga::from_json(Flow::Order, "[]").expect_err("no saga was ever kept so");
}
