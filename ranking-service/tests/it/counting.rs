//! Payments count once, where they were paid; refunds count back there.

use common_events::{
    Service, Topic,
    events::{PaymentRefunded, v1},
};
use messaging::Delivered;
use ranking_service::events;

use crate::board::{Board, text};

const SATURDAY: &str = "2026-11-21T06:59:59.999Z";
const AT_SATURDAY: &str = "at=2026-11-21T06:10:00Z";

fn sold(product: &str, quantity: i64, amount: i64) -> (String, i64, i64) {
    (product.to_owned(), quantity, amount)
}

#[test]
fn ranking_service_hears_what_the_catalogue_says_it_reads() {
    let mut heard: Vec<Topic> = events::subscriptions().topics().collect();
    let mut read: Vec<Topic> = Topic::read_by(Service::Ranking).collect();
    heard.sort();
    read.sort();
    assert_eq!(heard, read);
}

#[actix_web::test]
async fn a_payment_counts_once_in_its_hour_its_day_and_its_week() {
    let board = Board::new().await;
    let paid = board.paid(SATURDAY, &[("tea", 3, 100), ("cup", 1, 5_000)]);
    assert_eq!(board.seam.deliver(&paid).await.applied, 1);
    assert_eq!(board.seam.deliver(&paid).await, Delivered { duplicates: 1, ..Delivered::default() });

    for window in ["hour", "day", "week"] {
        let ranking = board.ranking(&format!("?window={window}&{AT_SATURDAY}")).await;
        assert_eq!(ranking, [sold("tea", 3, 300), sold("cup", 1, 5_000)], "{window}");
    }
    let by_amount = board.ranking(&format!("?by=amount&{AT_SATURDAY}")).await;
    assert_eq!(by_amount, [sold("cup", 1, 5_000), sold("tea", 3, 300)]);
    assert_eq!(board.ranking("?window=hour&at=2026-11-21T07:00:00Z").await, []);
    assert_eq!(board.ranking("?window=day&at=2026-11-22T00:00:00Z").await, []);
    assert_eq!(board.ranking("?window=week&at=2026-11-22T23:59:59Z").await.len(), 2);
    assert_eq!(board.ranking("?window=week&at=2026-11-23T00:00:00Z").await, []);
}

#[actix_web::test]
async fn a_batch_of_payments_counts_as_each_of_them() {
    let board = Board::new().await;
    let payments: Vec<_> = (0..40).map(|_| board.paid(SATURDAY, &[("tea", 2, 100), ("cup", 1, 10)])).collect();
    assert_eq!(board.seam.deliver_batch(&payments).await.applied, 40);
    let ranking = board.ranking(&format!("?{AT_SATURDAY}")).await;
    assert_eq!(ranking, [sold("tea", 80, 8_000), sold("cup", 40, 400)]);
}

#[actix_web::test]
async fn a_refund_counts_back_once_where_its_payment_counted() {
    let board = Board::new().await;
    let (kept, returned) =
        (board.paid(SATURDAY, &[("tea", 3, 100)]), board.paid(SATURDAY, &[("tea", 1, 90), ("cup", 1, 5)]));
    let refunded = board.refunded(&returned.data);
    board.seam.deliver_batch(&[kept, returned]).await;
    board.seam.deliver(&refunded).await;
    assert_eq!(board.seam.deliver(&refunded).await.duplicates, 1);
    assert_eq!(board.ranking(&format!("?{AT_SATURDAY}")).await, [sold("tea", 3, 300)]);
    // Not where it was refunded.
    assert_eq!(board.ranking("?window=week&at=2026-12-31T06:00:00Z").await, []);
}

#[actix_web::test]
async fn a_refund_in_its_first_version_counts_back_as_one_of_the_second_does() {
    let board = Board::new().await;
    let paid = board.paid(SATURDAY, &[("tea", 3, 100)]);
    board.seam.deliver(&paid).await;
    let PaymentRefunded { order_id, user_id, lines, discount, total, paid_at, refunded_at, .. } =
        board.refunded(&paid.data).data;
    let reason = v1::Reason::Customer.into();
    let first = v1::PaymentRefunded { order_id, user_id, lines, discount, total, paid_at, refunded_at, reason };
    assert_eq!(board.seam.deliver(&board.seam.event(first)).await.applied, 1);
    assert_eq!(board.ranking(&format!("?{AT_SATURDAY}")).await, []);
}

#[actix_web::test]
async fn a_refund_for_a_reason_that_is_not_known_counts_back_like_any_other() {
    let board = Board::new().await;
    let paid = board.paid(SATURDAY, &[("tea", 3, 100)]);
    board.seam.deliver(&paid).await;
    let reason = "RECALLED_2027".parse().expect("a reason");
    let refunded = PaymentRefunded { reason, ..board.refunded(&paid.data).data };
    assert_eq!(board.seam.deliver(&board.seam.event(refunded)).await.applied, 1);
    assert_eq!(board.ranking(&format!("?{AT_SATURDAY}")).await, []);
}

#[actix_web::test]
async fn a_refund_that_is_heard_before_its_payment_comes_to_the_same() {
    let board = Board::new().await;
    let paid = board.paid(SATURDAY, &[("tea", 3, 100)]);
    board.seam.deliver(&board.refunded(&paid.data)).await;
    assert_eq!(board.ranking(&format!("?{AT_SATURDAY}")).await, []);
    board.seam.deliver(&paid).await;
    assert_eq!(board.ranking(&format!("?{AT_SATURDAY}")).await, []);
    assert!(board.table().await.values().all(|sums| *sums == (0, 0)));
}

#[actix_web::test]
async fn what_is_free_ranks_by_its_pieces() {
    let board = Board::new().await;
    board.seam.deliver(&board.paid(SATURDAY, &[("gift", 2, 0)])).await;
    assert_eq!(board.ranking(&format!("?by=amount&{AT_SATURDAY}")).await, [sold("gift", 2, 0)]);
}

#[actix_web::test]
async fn equal_products_rank_by_their_ids() {
    let board = Board::new().await;
    board.seam.deliver(&board.paid(SATURDAY, &[("b", 1, 10), ("a", 1, 10), ("Z", 1, 10), ("c", 2, 5)])).await;
    let ids = |ranking: Vec<(String, i64, i64)>| ranking.into_iter().map(|item| item.0).collect::<Vec<_>>();
    assert_eq!(ids(board.ranking(&format!("?{AT_SATURDAY}")).await), ["c", "Z", "a", "b"]);
    assert_eq!(ids(board.ranking(&format!("?by=amount&{AT_SATURDAY}")).await), ["Z", "a", "b", "c"]);
    assert_eq!(ids(board.ranking(&format!("?by=amount&limit=2&{AT_SATURDAY}")).await), ["Z", "a"]);
}

#[actix_web::test]
async fn a_product_is_called_as_the_latest_catalogue_says() {
    let board = Board::new().await;
    let name = async || {
        let answer = board.get(&format!("?{AT_SATURDAY}")).await;
        text(&answer.body["items"][0], "name")
    };
    board.seam.deliver(&board.paid(SATURDAY, &[("tea", 1, 100)])).await;
    assert_eq!(name().await, "tea", "as the line said");
    let (second, third) = (board.called("tea", "Green tea", 2), board.called("tea", "Sencha", 3));
    board.seam.deliver_batch(&[third.clone(), second.clone()]).await;
    assert_eq!(name().await, "Sencha");
    board.seam.deliver(&second).await;
    board.seam.deliver(&third).await;
    board.seam.deliver(&board.paid(SATURDAY, &[("tea", 1, 100)])).await;
    assert_eq!(name().await, "Sencha");
}

#[actix_web::test]
async fn a_payment_at_no_possible_time_is_set_aside_and_the_next_one_counts() {
    let board = Board::new().await;
    let mut wrong = board.paid(SATURDAY, &[("tea", 1, 100)]);
    wrong.data.paid_at = chrono::DateTime::<chrono::Utc>::MIN_UTC;
    let delivered = board.seam.deliver_batch(&[wrong, board.paid(SATURDAY, &[("tea", 2, 100)])]).await;
    assert_eq!((delivered.dead, delivered.applied), (1, 1));
    assert_eq!(board.ranking(&format!("?{AT_SATURDAY}")).await, [sold("tea", 2, 200)]);
}
