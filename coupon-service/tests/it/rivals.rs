//! Things that happen at the same time: each waits for a row that a third holds, so that neither comes
//! first by luck.

use common_events::{CouponRefusal, events::OrderCreated};

use crate::counter::{Counter, KIM, LEE, admission, new_order, order_cancelled, order_created};

const LOCK_COUPONS: &str = "SELECT FROM coupons FOR UPDATE";
const LOCK_ISSUED: &str = "SELECT FROM issued_coupons FOR UPDATE";
const LOCK_ORDERS: &str = "SELECT FROM coupon_orders FOR UPDATE";
/// Races that no lock can hold up: both create the order's row.
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn two_users_at_the_same_time_share_no_last_coupon() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let (kim, lee) = (counter.hear(admission(&coupon, KIM, None)), counter.hear(admission(&coupon, LEE, None)));
    counter.at_the_same_time(LOCK_COUPONS, kim, lee).await;
    assert_eq!(counter.issued().await, 1);
    assert_eq!((counter.told_issued().await.len(), counter.told_rejected().await.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_user_twice_at_the_same_time_gets_one_and_is_told_so_twice() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(2).await;
    let (one, other) = (counter.hear(admission(&coupon, KIM, None)), counter.hear(admission(&coupon, KIM, None)));
    counter.at_the_same_time(LOCK_COUPONS, one, other).await;
    assert_eq!((counter.issued().await, counter.told_issued().await.len()), (1, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn two_orders_at_the_same_time_use_one_coupon_once() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let (first, second) = (new_order(), new_order());
    let one = counter.hear(order_created(first, KIM, Some(issued)));
    let other = counter.hear(order_created(second, KIM, Some(issued)));
    counter.at_the_same_time(LOCK_ISSUED, one, other).await;
    let mut told = [counter.told_of(first).await, counter.told_of(second).await];
    told.sort_by_key(|(used, _, _)| *used);
    assert_eq!(told, [(0, vec![CouponRefusal::Used], 0), (1, vec![], 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_and_its_end_at_the_same_time_leave_the_coupon_free() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    for round in 0..ROUNDS {
        let order = new_order();
        let wish: OrderCreated = order_created(order, KIM, Some(issued));
        let end = order_cancelled(order, KIM, Some(issued));
        futures::join!(counter.hear(wish), counter.hear(end));
        let told = counter.told_of(order).await;
        let undone = [(1, vec![], 1), (0, vec![CouponRefusal::OrderCancelled], 0)];
        assert!(undone.contains(&told), "round {round}: {told:?}");
        assert_eq!(counter.count("SELECT count(*) FROM issued_coupons WHERE order_id IS NOT NULL").await, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_ends_twice_at_the_same_time_gives_its_coupon_back_once() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let issued = counter.issue(&coupon, KIM).await;
    let order = new_order();
    counter.hear(order_created(order, KIM, Some(issued))).await;
    let one = counter.hear(order_cancelled(order, KIM, Some(issued)));
    let other = counter.hear(order_cancelled(order, KIM, Some(issued)));
    counter.at_the_same_time(LOCK_ORDERS, one, other).await;
    assert_eq!(counter.told_of(order).await, (1, vec![], 1));
}
