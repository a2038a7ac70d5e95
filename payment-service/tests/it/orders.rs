//! Orders are paid and refunded: once, twice, late, before their cause, in one batch.

use common_events::{CancelReason, PaymentRefusal, Service, Topic, Won};
use serde_json::json;

use crate::cashier::{Cashier, Moved, ok, order, user, won};

#[test]
fn what_is_heard_is_what_the_catalogue_says() {
    let mut heard: Vec<Topic> = payment_service::events::subscriptions().topics().collect();
    heard.sort();
    let mut catalogue: Vec<Topic> = Topic::read_by(Service::Payment).collect();
    catalogue.sort();
    assert_eq!(heard, catalogue);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_paid_and_its_event_carries_what_readers_need() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1_000).await;
    let event = cashier.reserved(order(), "kim", 300);
    assert_eq!(cashier.seam.deliver(&event).await.applied, 1);

    let completed = &cashier.seam.told::<common_events::events::PaymentCompleted>().await[0];
    assert_eq!(completed.trace.trace_id, event.trace.trace_id);
    assert_eq!((&completed.data.lines, completed.data.total), (&event.data.lines, won(300)));
    assert_eq!((completed.data.order_id, &completed.data.user_id), (event.data.order_id, &user("kim")));
    let (_, deducted, _) = cashier.points_told().await;
    assert_eq!((deducted[0].amount, deducted[0].balance, deducted[0].at), (won(300), won(700), completed.data.paid_at));
    assert_eq!(cashier.balance("kim").await, 700);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_delivered_twice_or_three_times_in_a_batch_takes_points_once() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1_000).await;
    let event = cashier.reserved(order(), "kim", 300);
    cashier.seam.deliver(&event).await;
    assert_eq!(cashier.seam.deliver(&event).await.duplicates, 1);
    let again = cashier.seam.deliver_batch(&[event.clone(), event.clone(), event.clone()]).await;
    assert_eq!((again.applied, again.duplicates), (0, 3));
    assert_eq!(cashier.balance("kim").await, 700);
    assert_eq!(cashier.completed().await.len(), 1);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_asked_for_again_by_another_event_is_not_paid_again() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1_000).await;
    let id = order();
    let both = [cashier.reserved(id, "kim", 300), cashier.reserved(id, "kim", 300)];
    assert_eq!(cashier.seam.deliver_batch(&both).await.applied, 2);
    cashier.reserve(id, "kim", 300).await;
    assert_eq!(cashier.moved(id).await, Moved { deducted: 300, refunded: 0 });
    assert_eq!(cashier.completed().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_batch_pays_the_orders_of_one_user_one_after_the_other_while_the_points_last() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    cashier.charge("lee", 10).await;
    let ids = [order(), order(), order(), order(), order()];
    let batch = [
        cashier.reserved(ids[0], "kim", 60),
        cashier.reserved(ids[1], "kim", 60),
        cashier.reserved(ids[2], "lee", 10),
        cashier.reserved(ids[3], "kim", 40),
        cashier.reserved(ids[4], "nobody", 1),
    ];
    assert_eq!(cashier.seam.deliver_batch(&batch).await.applied, 5);
    let paid: Vec<_> = cashier.completed().await.iter().map(|completed| completed.order_id).collect();
    assert_eq!(paid, [ids[0], ids[2], ids[3]]);
    let failed = cashier.failed().await;
    assert_eq!(failed, [(ids[1], PaymentRefusal::InsufficientPoints), (ids[4], PaymentRefusal::InsufficientPoints)]);
    assert_eq!((cashier.balance("kim").await, cashier.balance("lee").await), (0, 0));
    let (_, deducted, _) = cashier.points_told().await;
    assert!(deducted[0].at < deducted[2].at, "each entry is later than the user's entry before");
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_to_pay_is_paid_without_a_ledger_entry_and_refunded_without_one() {
    let cashier = Cashier::open().await;
    let id = order();
    cashier.reserve(id, "newcomer", 0).await;
    assert_eq!(cashier.completed().await[0].total, Won::ZERO);
    cashier.cancel(id, "newcomer").await;
    assert_eq!(cashier.refunds().await[0].total, Won::ZERO);
    let (charged, deducted, refunded) = cashier.points_told().await;
    assert_eq!((charged.len(), deducted.len(), refunded.len()), (0, 0, 0));
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_order_is_refunded_with_all_its_readers_need() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 500).await;
    let event = cashier.reserved(order(), "kim", 500);
    cashier.seam.deliver(&event).await;
    let cancelled = cashier.cancelled(event.data.order_id, "kim", CancelReason::Timeout);
    cashier.seam.deliver(&cancelled).await;

    let refund = &cashier.refunds().await[0];
    let (_, _, refunded) = cashier.points_told().await;
    assert_eq!((&refund.lines, refund.total), (&event.data.lines, won(500)));
    assert_eq!((refund.reason, refund.paid_at), (CancelReason::Timeout, cashier.completed().await[0].paid_at));
    assert_eq!((refund.refunded_at, refunded[0].reason), (refunded[0].at, CancelReason::Timeout));
    assert_eq!((refunded[0].amount, refunded[0].balance), (won(500), won(500)));
    let payment = ok(cashier.get(&format!("/payments/{}", refund.order_id), "kim").await).await;
    assert_eq!((&payment["status"], &payment["reason"]), (&json!("REFUNDED"), &json!("TIMEOUT")));
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_cancelled_for_an_unknown_reason_is_refunded_and_everybody_reads_the_reason() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 500).await;
    let id = order();
    cashier.reserve(id, "kim", 500).await;
    let unknown: CancelReason = "RECALLED_2027".parse().expect("a reason");
    cashier.seam.deliver(&cashier.cancelled(id, "kim", unknown)).await;
    let (_, _, refunded) = cashier.points_told().await;
    assert_eq!((cashier.refunds().await[0].reason, refunded[0].reason), (unknown, unknown));
    let payment = ok(cashier.get(&format!("/payments/{id}"), "kim").await).await;
    let history = ok(cashier.get("/points/history", "kim").await).await;
    assert_eq!(
        (&payment["reason"], &history["items"][0]["reason"]),
        (&json!("RECALLED_2027"), &json!("RECALLED_2027"))
    );
    assert_eq!(cashier.moved(id).await, Moved { deducted: 500, refunded: 500 });
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_happens_once_however_often_and_by_how_many_events_it_is_asked_for() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 500).await;
    let id = order();
    cashier.reserve(id, "kim", 400).await;
    let cancelled = cashier.cancelled(id, "kim", CancelReason::Customer);
    cashier.seam.deliver(&cancelled).await;
    assert_eq!(cashier.seam.deliver(&cancelled).await.duplicates, 1);
    cashier.cancel(id, "kim").await;
    cashier.seam.deliver_batch(&[cashier.cancelled(id, "kim", CancelReason::Operator), cancelled]).await;
    assert_eq!(cashier.moved(id).await, Moved { deducted: 400, refunded: 400 });
    assert_eq!((cashier.refunds().await.len(), cashier.balance("kim").await), (1, 500));
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_paid_goes_back_to_who_paid_whoever_the_cancel_names() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 500).await;
    let id = order();
    cashier.reserve(id, "kim", 500).await;
    cashier.cancel(id, "mallory").await;
    assert_eq!((cashier.balance("kim").await, cashier.balance("mallory").await), (500, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_that_overtakes_its_order_leaves_a_tombstone_and_the_order_takes_nothing() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 500).await;
    let id = order();
    cashier.cancel(id, "kim").await;
    assert_eq!(cashier.get(&format!("/payments/{id}"), "kim").await.status(), 404, "there is no payment yet");
    cashier.reserve(id, "kim", 500).await;
    assert_eq!(cashier.failed().await, [(id, PaymentRefusal::OrderCancelled)]);
    assert_eq!((cashier.balance("kim").await, cashier.completed().await.len()), (500, 0));
    cashier.cancel(id, "kim").await;
    assert_eq!(cashier.refunds().await.len(), 0);
    let payment = ok(cashier.get(&format!("/payments/{id}"), "kim").await).await;
    assert_eq!((&payment["status"], &payment["reason"]), (&json!("FAILED"), &json!("ORDER_CANCELLED")));
    assert_eq!(payment["amount"], 500);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_payment_has_nothing_to_give_back_and_is_not_tried_again() {
    let cashier = Cashier::open().await;
    let id = order();
    cashier.reserve(id, "kim", 500).await;
    assert_eq!(cashier.failed().await, [(id, PaymentRefusal::InsufficientPoints)]);
    cashier.charge("kim", 500).await;
    cashier.reserve(id, "kim", 500).await;
    cashier.cancel(id, "kim").await;
    assert_eq!((cashier.balance("kim").await, cashier.completed().await.len()), (500, 0));
    assert_eq!((cashier.refunds().await.len(), cashier.failed().await.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_cancels_refunds_the_paid_and_remembers_the_unknown() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    let (paid, free, unknown) = (order(), order(), order());
    cashier.seam.deliver_batch(&[cashier.reserved(paid, "kim", 100), cashier.reserved(free, "kim", 0)]).await;
    let cancels = [unknown, paid, free].map(|id| cashier.cancelled(id, "kim", CancelReason::Customer));
    cashier.seam.deliver_batch(&cancels).await;
    let refunded: Vec<_> = cashier.refunds().await.iter().map(|refund| refund.order_id).collect();
    assert_eq!(refunded, [paid, free]);
    cashier.reserve(unknown, "kim", 100).await;
    assert_eq!(cashier.failed().await, [(unknown, PaymentRefusal::OrderCancelled)]);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_no_event_is_set_aside_and_does_not_hold_up_the_others() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    let mut rubbish = cashier.seam.record(&cashier.reserved(order(), "kim", 50));
    rubbish.value = Some(b"rubbish".to_vec());
    let good = cashier.seam.record(&cashier.reserved(order(), "kim", 50));
    let delivered = cashier.seam.deliver_records(&[rubbish, good]).await;
    assert_eq!((delivered.dead, delivered.applied), (1, 1));
    assert_eq!(cashier.balance("kim").await, 50);
}
