//! Coupons in an order: used, refused, restored; once, twice, late, before their cause.

use chrono::TimeDelta;
use common_events::{
    CouponRefusal,
    events::{CouponRestored, CouponUseFailed, CouponUsed, OrderCreated},
};
use coupon_service::domain::Proposal;
use messaging::{Delivered, Record, X_ORIGIN_TOPIC, X_RESUME};
use rstest::rstest;

use crate::counter::{
    Counter, KIM, LEE, applied, new_order, now, off, order_cancelled, order_created, percent, set, unknown_coupon, won,
};

#[rstest]
#[case::an_amount(off(1_000), 10_000, 1_000)]
#[case::no_more_than_there_is_to_pay(off(1_000), 700, 700)]
#[case::percent(percent(10, None), 10_000, 1_000)]
#[case::percent_rounded_down(percent(10, None), 1_999, 199)]
#[case::percent_below_its_maximum(percent(10, Some(1_001)), 10_000, 1_000)]
#[case::percent_at_most_its_maximum(percent(10, Some(999)), 10_000, 999)]
#[case::all_of_it(percent(100, None), 9_999, 9_999)]
#[case::of_nothing(percent(50, None), 0, 0)]
#[tokio::test]
async fn an_order_is_told_what_its_coupon_takes_off(
    #[case] discount: coupon_service::domain::ProposedDiscount,
    #[case] subtotal: i64,
    #[case] taken: i64,
) {
    let counter = Counter::open().await;
    let coupon = counter.put_up(Proposal { discount, ..set() }).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    let wish = OrderCreated { subtotal: won(subtotal), ..order_created(order, KIM, Some(issued)) };
    counter.hear(wish).await;
    let used = &counter.seam.told::<CouponUsed>().await[0];
    assert_eq!((used.subject.clone(), used.data.order_id), (order.to_string(), order));
    assert_eq!((used.data.issued_coupon_id, &used.data.coupon_id), (issued, &coupon));
    assert_eq!((used.data.user_id.as_str(), used.data.discount), (KIM, won(taken)));
}

#[tokio::test]
async fn an_order_delivered_twice_uses_its_coupon_once() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    let wish = counter.seam.event(order_created(order, KIM, Some(issued)));
    assert_eq!(counter.seam.deliver(&wish).await, applied(1));
    assert_eq!(counter.seam.deliver(&wish).await, Delivered { duplicates: 1, ..Delivered::default() });
    // Under another id, as from a writer that lost its memory: the order's row knows.
    counter.hear(order_created(order, KIM, Some(issued))).await;
    assert_eq!(counter.told_of(order).await, (1, vec![], 0));
}

#[tokio::test]
async fn an_order_without_a_coupon_leaves_no_trace_here() {
    let counter = Counter::open().await;
    let order = new_order();
    counter.hear(order_created(order, KIM, None)).await;
    counter.hear(order_cancelled(order, KIM, None)).await;
    assert_eq!(counter.told_of(order).await, (0, vec![], 0));
    assert_eq!(counter.count("SELECT count(*) FROM coupon_orders").await, 0);
}

#[tokio::test]
async fn what_can_not_be_used_is_refused_with_its_reason() {
    let counter = Counter::open().await;
    let valid_until = Some(now() - TimeDelta::hours(1));
    let expired = counter.put_up(Proposal { valid_until, ..set() }).await;
    let good = counter.put_up_set(10).await;
    let (kims, old, used) =
        (counter.issue(&good, KIM).await, counter.issue(&expired, LEE).await, counter.issue(&good, LEE).await);
    counter.hear(order_created(new_order(), LEE, Some(used))).await;
    for (user, coupon, reason) in [
        (LEE, unknown_coupon(), CouponRefusal::NotFound),
        (LEE, kims, CouponRefusal::NotOwned),
        (LEE, used, CouponRefusal::Used),
        (LEE, old, CouponRefusal::Expired),
        (KIM, used, CouponRefusal::NotOwned),
    ] {
        let order = new_order();
        counter.hear(order_created(order, user, Some(coupon))).await;
        assert_eq!(counter.told_of(order).await, (0, vec![reason], 0));
        counter.hear(order_cancelled(order, user, Some(coupon))).await;
        assert_eq!(counter.told_of(order).await, (0, vec![reason], 0), "nothing was held, nothing is restored");
    }
    let failed = counter.seam.told::<CouponUseFailed>().await;
    assert_eq!(failed[1].data.issued_coupon_id, kims);
    assert_eq!(counter.count("SELECT count(*) FROM issued_coupons WHERE order_id IS NOT NULL").await, 1);
}

#[tokio::test]
async fn an_order_that_was_placed_in_time_may_use_a_coupon_that_is_over_by_now() {
    let counter = Counter::open().await;
    let until = now() - TimeDelta::hours(1);
    let coupon = counter.put_up(Proposal { valid_until: Some(until), ..set() }).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    counter.hear(OrderCreated { created_at: until, ..order_created(order, KIM, Some(issued)) }).await;
    assert_eq!(counter.told_of(order).await, (1, vec![], 0));
}

#[tokio::test]
async fn a_cancelled_order_gives_its_coupon_back_once_and_another_order_can_use_it() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    counter.hear(order_created(order, KIM, Some(issued))).await;
    let end = counter.seam.event(order_cancelled(order, KIM, Some(issued)));
    assert_eq!(counter.seam.deliver(&end).await, applied(1));
    assert_eq!(counter.seam.deliver(&end).await, Delivered { duplicates: 1, ..Delivered::default() });
    counter.hear(order_cancelled(order, KIM, Some(issued))).await;
    assert_eq!(counter.told_of(order).await, (1, vec![], 1));

    let next = new_order();
    counter.hear(order_created(next, KIM, Some(issued))).await;
    assert_eq!(counter.told_of(next).await, (1, vec![], 0));
    // The end of the first, once more and under another id: the second keeps the coupon.
    counter.hear(order_cancelled(order, KIM, Some(issued))).await;
    assert_eq!(counter.told_of(order).await, (1, vec![], 1));
    assert_eq!(counter.count("SELECT count(*) FROM issued_coupons WHERE order_id IS NOT NULL").await, 1);
}

#[tokio::test]
async fn an_order_that_ended_before_it_was_heard_of_gets_no_coupon() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    counter.hear(order_cancelled(order, KIM, Some(issued))).await;
    assert_eq!(counter.told_of(order).await, (0, vec![], 0));
    counter.hear(order_created(order, KIM, Some(issued))).await;
    assert_eq!(counter.told_of(order).await, (0, vec![CouponRefusal::OrderCancelled], 0));
    counter.hear(order_created(new_order(), KIM, Some(issued))).await;
    assert_eq!(counter.seam.told::<CouponUsed>().await.len(), 1);
}

#[tokio::test]
async fn in_one_batch_the_first_order_gets_the_coupon() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let orders = [new_order(), new_order(), new_order()];
    let wishes: Vec<_> =
        orders.iter().map(|order| counter.seam.event(order_created(*order, KIM, Some(issued)))).collect();
    assert_eq!(counter.seam.deliver_batch(&wishes).await, applied(3));
    assert_eq!(counter.told_of(orders[0]).await, (1, vec![], 0));
    assert_eq!(counter.told_of(orders[1]).await, (0, vec![CouponRefusal::Used], 0));
    let ends: Vec<_> =
        orders.iter().map(|order| counter.seam.event(order_cancelled(*order, KIM, Some(issued)))).collect();
    assert_eq!(counter.seam.deliver_batch(&ends).await, applied(3));
    assert_eq!(counter.told_of(orders[0]).await, (1, vec![], 1));
    assert_eq!(counter.told_of(orders[2]).await.2, 0);
}

#[tokio::test]
async fn what_was_answered_is_answered_again_when_it_is_asked_for_and_nothing_else_happens() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    let wish = counter.seam.record(&counter.seam.event(order_created(order, KIM, Some(issued))));
    let end = counter.seam.record(&counter.seam.event(order_cancelled(order, KIM, Some(issued))));
    for record in [wish, end] {
        assert_eq!(counter.seam.deliver_records(std::slice::from_ref(&record)).await, applied(1));
        let headers =
            vec![(X_RESUME.to_owned(), b"1".to_vec()), (X_ORIGIN_TOPIC.to_owned(), record.topic.clone().into())];
        let resume = Record { topic: "coupon-service.replay".to_owned(), headers, ..record };
        assert_eq!(counter.seam.deliver_records(&[resume]).await.resumed, 1);
    }
    let used = counter.seam.told::<CouponUsed>().await;
    let restored = counter.seam.told::<CouponRestored>().await;
    assert_eq!((used.len(), restored.len()), (2, 2));
    assert_eq!((&used[0], &restored[0]), (&used[1], &restored[1]), "to the last byte, with the same ids");
    assert_eq!(counter.count("SELECT count(*) FROM coupon_orders WHERE state = 'RESTORED'").await, 1);
}
