//! Orders that don't get on.

use chrono::TimeDelta;
use common_events::{CancelReason, Service, events::OrderCancelled};
use order_service::{
    domain::{Payment, Status},
    timeout,
};
use test_support::{eventually, runtime};

use crate::shop::{Shop, payment_completed, stock_deducted};

#[tokio::test(flavor = "multi_thread")]
async fn an_open_order_is_cancelled_when_its_time_is_up_and_no_other_is() {
    let shop = Shop::open().await;
    let (confirmed, cancelled) = (shop.place_confirmed().await, shop.place_cancelled(None).await);
    let (pending, awaiting) = (shop.place(&["cup"]).await, shop.place(&["cup"]).await);
    shop.hear(stock_deducted(awaiting, "cup")).await;
    let sweep =
        async |at_most| timeout::sweep(&shop.database.pool, &shop.waiting, at_most).await.expect("PostgreSQL answers");

    assert_eq!(sweep(TimeDelta::minutes(15)).await, 0, "nobody is that old");
    assert_eq!(sweep(TimeDelta::zero()).await, 2);
    assert_eq!(sweep(TimeDelta::zero()).await, 0, "they ended once");
    for (order, told) in [(pending, (0, 0, 1)), (awaiting, (1, 0, 1))] {
        let found = shop.order(order).await;
        assert_eq!((found.status, found.reason), (Status::Cancelled, Some(CancelReason::Timeout)));
        assert_eq!(shop.told_of(order).await, told);
    }
    assert_eq!(shop.order(confirmed).await.status, Status::Confirmed);
    assert_eq!(shop.order(cancelled).await.reason, Some(CancelReason::Customer));
}

/// The process that placed it may have had another time than the one that sweeps.
#[tokio::test(flavor = "multi_thread")]
async fn how_long_an_order_is_open_is_told_by_the_databases_clock() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    let client = shop.database.pool.get().await.expect("a connection");
    let placed = "UPDATE orders SET created_at = now() + interval '1 hour', updated_at = now() + interval '1 hour'";
    client.execute(placed, &[]).await.expect("placed by a clock that is fast");
    let sweep = || timeout::sweep(&shop.database.pool, &shop.waiting, TimeDelta::minutes(15));
    assert_eq!(sweep().await.expect("PostgreSQL answers"), 0);
    client.execute("UPDATE orders SET open_since = now() - interval '15 minutes'", &[]).await.expect("aged");
    assert_eq!(sweep().await.expect("PostgreSQL answers"), 1);
    let found = shop.order(order).await;
    assert_eq!((found.status, found.updated_at), (Status::Cancelled, found.created_at), "and its time isn't put back");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_timeout_is_told_in_the_trace_of_the_order() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    timeout::sweep(&shop.database.pool, &shop.waiting, TimeDelta::zero()).await.expect("PostgreSQL answers");
    let cancelled = &shop.seam.told::<OrderCancelled>().await[0];
    let placed = shop.order(order).await.trace;
    assert_eq!(cancelled.trace.trace_id, placed.trace_id);
    assert_ne!(cancelled.trace.span_id, placed.span_id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_after_the_timeout_is_noted_and_confirms_nothing() {
    let shop = Shop::open().await;
    let order = shop.place(&["cup"]).await;
    shop.hear(stock_deducted(order, "cup")).await;
    timeout::sweep(&shop.database.pool, &shop.waiting, TimeDelta::zero()).await.expect("PostgreSQL answers");
    shop.hear(payment_completed(order)).await;
    let found = shop.order(order).await;
    assert_eq!((found.status, found.payment), (Status::Cancelled, Some(Payment::Completed)));
    assert_eq!(shop.told_of(order).await, (1, 0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_instances_sweep_side_by_side_and_each_order_ends_once() {
    let shop = Shop::open().await;
    for _ in 0..10 {
        shop.place(&["cup"]).await;
    }
    let sweep = || timeout::sweep(&shop.database.pool, &shop.waiting, TimeDelta::zero());
    let swept = futures::join!(sweep(), sweep(), sweep());
    let [one, two, three] = [swept.0, swept.1, swept.2].map(|swept| swept.expect("PostgreSQL answers"));
    let left = sweep().await.expect("PostgreSQL answers");
    assert_eq!(one + two + three + left, 10);
    assert_eq!(shop.seam.told::<OrderCancelled>().await.len(), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_somebody_works_on_does_not_hold_up_the_sweep() {
    let shop = Shop::open().await;
    let (busy, idle) = (shop.place(&["cup"]).await, shop.place(&["cup"]).await);
    let mut client = shop.database.pool.get().await.expect("a connection");
    let work = client.transaction().await.expect("a transaction");
    work.execute("SELECT FROM orders WHERE order_id = $1 FOR UPDATE", &[&busy.uuid()]).await.expect("locked");
    let swept = timeout::sweep(&shop.database.pool, &shop.waiting, TimeDelta::zero()).await;
    assert_eq!(swept.expect("PostgreSQL answers"), 1);
    assert_eq!(shop.order(idle).await.status, Status::Cancelled);
    assert_eq!(shop.order(busy).await.status, Status::Pending);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_goes_on_until_it_is_stopped() {
    let shop = Shop::open().await;
    let tasks = runtime(Service::Order).tasks;
    let (pool, waiting) = (shop.database.pool.clone(), shop.waiting.clone());
    timeout::sweep_on(&tasks, pool, waiting, TimeDelta::milliseconds(200));
    for _ in 0..2 {
        let order = shop.place(&["cup"]).await;
        eventually("the order times out", async || (shop.order(order).await.status == Status::Cancelled).then_some(()))
            .await;
    }
    tasks.stop().await.expect("it ends well");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_that_cannot_be_read_keeps_no_other_from_timing_out() {
    let shop = Shop::open().await;
    let (unreadable, others) = (shop.place(&["cup"]).await, [shop.place(&["cup"]).await, shop.place(&["cup"]).await]);
    let client = shop.database.pool.get().await.expect("a connection");
    let age = "UPDATE orders SET open_since = now() - interval '1 hour'";
    client.execute(age, &[]).await.expect("aged");
    let damage =
        "UPDATE orders SET lines = '[{\"odd\": 1}]', open_since = open_since - interval '1 hour' WHERE order_id = $1";
    client.execute(damage, &[&unreadable.uuid()]).await.expect("damaged");
    let sweep = || timeout::sweep(&shop.database.pool, &shop.waiting, TimeDelta::minutes(15));
    assert_eq!(sweep().await.expect("it isn't in the way"), 2);
    for other in others {
        assert_eq!(shop.order(other).await.status, Status::Cancelled);
    }
    // It is looked at again when another timeout is over, not all the time.
    let state = "SELECT status, open_since > now() - interval '1 minute' FROM orders WHERE order_id = $1";
    let row = client.query_one(state, &[&unreadable.uuid()]).await.expect("it is there");
    assert_eq!((row.get::<_, &str>(0), row.get::<_, bool>(1)), ("PENDING", true));
}
