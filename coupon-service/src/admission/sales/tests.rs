//! What a process answers without asking, and for how long.

use super::*;

/// A sale of one coupon, which kim holds, as it was known `ago`.
fn sold_out(ago: Duration) -> (Sales, CouponId) {
    let began = Instant::now().checked_sub(ago).expect("the machine runs longer than that");
    let sales = Sales { began, ..Sales::default() };
    let coupon_id: CouponId = "spring".parse().expect("an id");
    let standing = Standing {
        epoch: 1,
        quantity: 1,
        closes_at: None,
        released: 0,
        last_rank: 0,
        holders: 1,
        freed_ranks: 0,
        unsettled: 0,
        pending: 0,
    };
    let keys = RandomState::new();
    let holders = HashSet::from([keys.hash_one("kim")]);
    let crowd = Crowd { standing, holders, keys, believed_at: 0.into() };
    sales.find_or_insert(&coupon_id).expect("room").set(Some(Arc::new(crowd)));
    (sales, coupon_id)
}

fn told(sales: &Sales, coupon_id: &CouponId, user: &str) -> Option<Refused> {
    sales.refuse(coupon_id, &user.parse().expect("an id"))
}

#[test]
fn a_holder_is_told_so_and_anybody_else_that_it_is_sold_out() {
    let (sales, coupon_id) = sold_out(Duration::ZERO);
    assert_eq!(told(&sales, &coupon_id, "kim"), Some(Refused::AskedBefore));
    assert_eq!(told(&sales, &coupon_id, "lee"), Some(Refused::SoldOut));
}

#[test]
fn what_redis_has_not_confirmed_for_a_while_is_not_believed_any_more() {
    let (sales, coupon_id) = sold_out(BELIEVED * 2);
    assert_eq!(told(&sales, &coupon_id, "kim"), None);
    assert_eq!(told(&sales, &coupon_id, "lee"), None);
}

#[test]
fn a_crowd_whose_reading_is_given_up_is_read_again() {
    let sale = Arc::<Sale>::default();
    assert!(!sale.is_being_read.swap(true, Ordering::AcqRel));
    // As when the task that reads panics, before it begins or half way.
    drop(BeingRead(Arc::clone(&sale)));
    assert!(!sale.is_being_read.swap(true, Ordering::AcqRel));
}
