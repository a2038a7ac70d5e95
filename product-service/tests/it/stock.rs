//! Stock is deducted and restored once, whatever comes when.

use common_events::{CancelReason, Service, StockRefusal, Topic, events::StockDeducted};
use messaging::{Delivered, Tx};
use product_service::{events, store};

use crate::shop::{Shop, Told, id, new_order};

/// Enough rounds for two deliveries to meet in the middle.
const ROUNDS: usize = 40;

fn applied(events: usize) -> Delivered {
    Delivered { applied: events, ..Delivered::default() }
}

#[test]
fn product_service_hears_what_the_catalogue_says_it_reads() {
    let mut heard: Vec<Topic> = events::subscriptions().topics().collect();
    let mut read: Vec<Topic> = Topic::read_by(Service::Product).collect();
    heard.sort();
    read.sort();
    assert_eq!(heard, read);
}

#[tokio::test]
async fn a_line_takes_its_pieces_off_the_shelf_once() {
    let shop = Shop::selling(&[("tea", 5)]).await;
    let line = shop.line(new_order(), "tea", 3);
    assert_eq!(shop.seam.deliver(&line).await, applied(1));
    assert_eq!(shop.seam.deliver(&line).await, Delivered { duplicates: 1, ..Delivered::default() });

    assert_eq!(shop.answers().await, [(line.data.order_id, "tea".to_owned(), Told::Deducted)]);
    assert_eq!((shop.stock("tea").await, shop.held("tea").await), (2, 3));
    let told = shop.seam.told::<StockDeducted>().await;
    assert_eq!(told[0].trace.trace_id, line.trace.trace_id);
}

#[tokio::test]
async fn the_same_line_under_another_event_id_takes_nothing_more() {
    let shop = Shop::selling(&[("tea", 5)]).await;
    let order = new_order();
    shop.seam.deliver_batch(&[shop.line(order, "tea", 3), shop.line(order, "tea", 3)]).await;
    shop.seam.deliver(&shop.line(order, "tea", 3)).await;
    assert_eq!((shop.stock("tea").await, shop.answers().await.len()), (2, 1));
    assert_eq!(shop.dead_letters().await, 0);
}

#[tokio::test]
async fn a_line_that_asks_for_too_much_is_refused_and_takes_nothing() {
    let shop = Shop::selling(&[("tea", 2)]).await;
    let line = shop.line(new_order(), "tea", 3);
    shop.seam.deliver(&line).await;
    shop.seam.deliver(&line).await;
    let refused = (line.data.order_id, "tea".to_owned(), Told::Refused(StockRefusal::OutOfStock));
    assert_eq!(shop.answers().await, [refused]);
    assert_eq!(shop.stock("tea").await, 2);
}

#[tokio::test]
async fn a_line_of_a_product_that_is_not_sold_is_refused() {
    let shop = Shop::open().await;
    let line = shop.line(new_order(), "ghost", 1);
    shop.seam.deliver(&line).await;
    let refused = (line.data.order_id, "ghost".to_owned(), Told::Refused(StockRefusal::UnknownProduct));
    assert_eq!(shop.answers().await, [refused]);
}

#[tokio::test]
async fn a_cancelled_order_gives_its_stock_back_once() {
    let shop = Shop::selling(&[("tea", 5), ("cup", 5)]).await;
    let order = new_order();
    shop.seam.deliver_batch(&[shop.line(order, "tea", 3), shop.line(order, "cup", 1)]).await;
    let cancelled = shop.cancelled(order, &[("tea", 3), ("cup", 1)]);
    assert_eq!(shop.seam.deliver(&cancelled).await, applied(1));
    assert_eq!(shop.seam.deliver(&cancelled).await.duplicates, 1);
    // A second cancellation with an id of its own changes nothing either.
    assert_eq!(shop.seam.deliver(&shop.cancelled(order, &[("tea", 3), ("cup", 1)])).await, applied(1));

    assert_eq!(shop.restored().await, [(order, "cup".to_owned(), 1), (order, "tea".to_owned(), 3)]);
    assert_eq!((shop.stock("tea").await, shop.stock("cup").await), (5, 5));
    assert_eq!((shop.held("tea").await, shop.held("cup").await), (0, 0));
}

#[tokio::test]
async fn whatever_an_order_was_cancelled_for_its_stock_is_for_sale_again() {
    let reasons =
        [CancelReason::Timeout, CancelReason::OutOfStock, CancelReason::InsufficientPoints, CancelReason::Operator];
    let shop = Shop::selling(&[("tea", 5)]).await;
    for reason in reasons {
        let order = new_order();
        shop.seam.deliver(&shop.line(order, "tea", 3)).await;
        assert_eq!(shop.stock("tea").await, 2);
        shop.seam.deliver(&shop.cancelled_because(reason, order, &[("tea", 3)])).await;
        assert_eq!(shop.stock("tea").await, 5, "{reason:?}");
    }
}

/// What keeps it from happening twice is the line in the database, and not what a handler remembers.
#[tokio::test]
async fn lines_that_are_restored_again_add_nothing_to_the_stock() {
    let shop = Shop::selling(&[("tea", 5), ("cup", 5)]).await;
    let (one, other) = (new_order(), new_order());
    shop.seam.deliver_batch(&[shop.line(one, "tea", 3), shop.line(other, "tea", 1), shop.line(one, "cup", 2)]).await;
    let lines = [(one, id("tea")), (other, id("tea")), (one, id("cup"))];
    for _ in 0..2 {
        let mut client = shop.pool.get().await.expect("a connection");
        let tx = Tx::begin(&mut client).await.expect("a transaction");
        store::update_restored(&tx, &lines).await.expect("restored");
        tx.commit().await.expect("committed");
        assert_eq!((shop.stock("tea").await, shop.stock("cup").await), (5, 5));
        assert_eq!((shop.held("tea").await, shop.held("cup").await), (0, 0));
    }
}

#[tokio::test]
async fn a_refused_line_gives_nothing_back() {
    let shop = Shop::selling(&[("tea", 5), ("cup", 0)]).await;
    let order = new_order();
    shop.seam.deliver_batch(&[shop.line(order, "tea", 3), shop.line(order, "cup", 1)]).await;
    shop.seam.deliver(&shop.cancelled(order, &[("tea", 3), ("cup", 1)])).await;
    assert_eq!(shop.restored().await, [(order, "tea".to_owned(), 3)]);
    assert_eq!((shop.stock("tea").await, shop.stock("cup").await), (5, 0));
}

#[tokio::test]
async fn a_line_that_comes_after_its_cancellation_gets_nothing() {
    let shop = Shop::selling(&[("tea", 5)]).await;
    let order = new_order();
    let cancelled = shop.cancelled(order, &[("tea", 3)]);
    shop.seam.deliver(&cancelled).await;
    shop.seam.deliver(&shop.line(order, "tea", 3)).await;
    shop.seam.deliver(&cancelled).await;

    assert_eq!(shop.answers().await, [(order, "tea".to_owned(), Told::Refused(StockRefusal::OrderCancelled))]);
    assert_eq!(shop.restored().await, []);
    assert_eq!(shop.stock("tea").await, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_and_its_cancellation_at_the_same_time_hold_nothing_for_ever() {
    let shop = Shop::selling(&[("tea", 5)]).await;
    for round in 0..ROUNDS {
        let order = new_order();
        let (line, cancelled) = (shop.line(order, "tea", 3), shop.cancelled(order, &[("tea", 3)]));
        let (one, other) = tokio::join!(shop.seam.deliver(&line), shop.seam.deliver(&cancelled));
        assert_eq!((one, other), (applied(1), applied(1)), "round {round}");
        assert_eq!((shop.stock("tea").await, shop.held("tea").await), (5, 0), "round {round}");
    }
    assert_eq!(shop.answers().await.len(), ROUNDS, "every line is answered");
    let held = shop.answers().await.iter().filter(|(_, _, told)| *told == Told::Deducted).count();
    assert_eq!(shop.restored().await.len(), held, "what was held went back");
}

/// The order's row is there already, so nothing but its lock keeps the two apart.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_line_and_the_cancellation_at_the_same_time_hold_nothing_for_ever() {
    let shop = Shop::selling(&[("tea", 5), ("cup", 5)]).await;
    for round in 0..ROUNDS {
        let order = new_order();
        shop.seam.deliver(&shop.line(order, "tea", 3)).await;
        let (line, cancelled) = (shop.line(order, "cup", 2), shop.cancelled(order, &[("tea", 3), ("cup", 2)]));
        tokio::join!(shop.seam.deliver(&line), shop.seam.deliver(&cancelled));
        for product in ["tea", "cup"] {
            assert_eq!((shop.stock(product).await, shop.held(product).await), (5, 0), "round {round}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_cancellations_at_the_same_time_give_back_once() {
    let shop = Shop::selling(&[("tea", 5)]).await;
    for round in 0..ROUNDS {
        let order = new_order();
        shop.seam.deliver(&shop.line(order, "tea", 3)).await;
        let (one, other) = (shop.cancelled(order, &[("tea", 3)]), shop.cancelled(order, &[("tea", 3)]));
        tokio::join!(shop.seam.deliver(&one), shop.seam.deliver(&other));
        assert_eq!(shop.stock("tea").await, 5, "round {round}");
    }
    assert_eq!(shop.restored().await.len(), ROUNDS);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_lines_of_one_order_at_the_same_time_are_both_answered() {
    let shop = Shop::selling(&[("tea", 100), ("cup", 100)]).await;
    for _ in 0..ROUNDS {
        let order = new_order();
        let (tea, cup) = (shop.line(order, "tea", 1), shop.line(order, "cup", 2));
        tokio::join!(shop.seam.deliver(&tea), shop.seam.deliver(&cup));
    }
    assert_eq!(shop.answers().await.len(), 2 * ROUNDS);
    assert_eq!((shop.stock("tea").await, shop.stock("cup").await), (60, 20));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_line_delivered_to_two_consumers_at_once_is_taken_once() {
    let shop = Shop::selling(&[("tea", 1_000)]).await;
    for _ in 0..ROUNDS {
        let line = shop.line(new_order(), "tea", 1);
        let (one, other) = tokio::join!(shop.seam.deliver(&line), shop.seam.deliver(&line));
        assert_eq!((one.applied + other.applied, one.duplicates + other.duplicates), (1, 1));
    }
    assert_eq!(shop.stock("tea").await, 960);
}

#[tokio::test]
async fn forty_orders_for_twenty_five_pieces_are_served_in_their_order() {
    let shop = Shop::selling(&[("tea", 25)]).await;
    let lines: Vec<_> = (0..40).map(|_| shop.line(new_order(), "tea", 1)).collect();
    assert_eq!(shop.seam.deliver_batch(&lines).await, applied(40));

    let answers = shop.answers().await;
    let deducted: Vec<_> = answers.iter().filter(|answer| answer.2 == Told::Deducted).map(|answer| answer.0).collect();
    let first: Vec<_> = lines[..25].iter().map(|line| line.data.order_id).collect();
    assert_eq!(deducted, first);
    assert_eq!(answers.len(), 40);
    assert_eq!((shop.stock("tea").await, shop.held("tea").await), (0, 25));
}

/// Each order has both products; the batches name them in opposite order, and the orders, too.
#[tokio::test(flavor = "multi_thread")]
async fn batches_that_meet_on_the_same_orders_and_products_let_no_deadlock_escape() {
    let shop = Shop::selling(&[("tea", 25), ("cup", 25)]).await;
    let orders: Vec<_> = (0..40).map(|_| new_order()).collect();
    let one: Vec<_> =
        orders.iter().enumerate().map(|(i, o)| shop.line(*o, if i % 2 == 0 { "tea" } else { "cup" }, 1)).collect();
    let other: Vec<_> = orders
        .iter()
        .enumerate()
        .rev()
        .map(|(i, o)| shop.line(*o, if i % 2 == 0 { "cup" } else { "tea" }, 1))
        .collect();
    let cancelled: Vec<_> = orders.iter().rev().map(|o| shop.cancelled(*o, &[("tea", 1), ("cup", 1)])).collect();

    let (first, second) = tokio::join!(shop.seam.deliver_batch(&one), shop.seam.deliver_batch(&other));
    assert_eq!((first, second), (applied(40), applied(40)));
    for product in ["tea", "cup"] {
        assert_eq!((shop.stock(product).await, shop.held(product).await), (0, 25));
    }
    let late: Vec<_> = (0..20).map(|_| shop.line(new_order(), "cup", 1)).collect();
    let (cancels, lines) = tokio::join!(shop.seam.deliver_batch(&cancelled), shop.seam.deliver_batch(&late));
    assert_eq!((cancels, lines), (applied(40), applied(20)));
    for product in ["tea", "cup"] {
        assert_eq!(shop.stock(product).await + shop.held(product).await, 25);
    }
    assert_eq!(shop.dead_letters().await, 0);
}

#[tokio::test]
async fn what_is_no_line_is_set_aside_and_the_next_line_is_served() {
    let shop = Shop::selling(&[("tea", 5)]).await;
    let line = shop.line(new_order(), "tea", 1);
    let mut rubbish = shop.seam.record(&line);
    rubbish.value = Some(b"rubbish".to_vec());
    let delivered = shop.seam.deliver_records(&[rubbish, shop.seam.record(&line)]).await;
    assert_eq!((delivered.dead, delivered.applied), (1, 1));
    assert_eq!((shop.dead_letters().await, shop.stock("tea").await), (1, 4));
}
