//! Coupons in use: whether an order may use the coupon it names, and what that takes off.
//!
//! An order's wish is decided once. What came later than the order's end is refused, and what was used
//! by an order that ends can be used again.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common_events::{
    CouponId, CouponRefusal, IssuedCouponId, OrderId, UserId, Won,
    events::{CouponRestored, CouponUseFailed, CouponUsed, Discount, OrderCreated},
};

/// What a discount takes off a subtotal: rounded down to the won, never more than there is.
pub fn discount_on(subtotal: Won, discount: &Discount) -> Won {
    match discount {
        Discount::Amount { value } => subtotal.min(*value),
        Discount::Percent { value, max } => {
            let part = value.of(subtotal);
            max.map_or(part, |max| part.min(max))
        }
    }
}

/// A coupon in somebody's hands, as far as an order is concerned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CouponInWallet {
    /// Which coupon it is one of.
    pub coupon_id: CouponId,
    /// Who holds it.
    pub user_id: UserId,
    /// What it takes off.
    pub discount: Discount,
    /// An order that is placed later can't use it.
    pub valid_until: Option<DateTime<Utc>>,
    /// The order that uses it.
    pub order_id: Option<OrderId>,
}

/// What became of an order's wish to use a coupon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The coupon is held for the order, and takes off so much.
    Used {
        /// Won.
        discount: Won,
    },
    /// It can't be used.
    Refused(CouponRefusal),
    /// It was held for the order, and can be used again.
    Restored {
        /// Won that it took off.
        discount: Won,
    },
}

/// What is known here of one order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CouponOrder {
    /// Whether the order ended: then nothing is held for it, and nothing will be.
    pub cancelled: bool,
    /// Its wish, once it was heard.
    pub wish: Option<(IssuedCouponId, Use)>,
}

/// How an order's wish is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The coupon is held.
    Used(CouponUsed),
    /// It can't be used.
    Refused(CouponUseFailed),
}

/// The orders and issued coupons that a batch of events is about.
#[derive(Debug)]
pub struct Wallet {
    orders: BTreeMap<OrderId, CouponOrder>,
    /// A coupon that isn't here doesn't exist.
    coupons: BTreeMap<IssuedCouponId, CouponInWallet>,
    changes: Changes,
}

/// What a batch changed, and so what is to be saved.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Orders as they are now.
    pub orders: BTreeMap<OrderId, CouponOrder>,
    /// Coupons, and which order uses them now.
    pub coupons: BTreeMap<IssuedCouponId, Option<OrderId>>,
}

impl Wallet {
    /// What was loaded, all of it locked.
    pub fn new(orders: BTreeMap<OrderId, CouponOrder>, coupons: BTreeMap<IssuedCouponId, CouponInWallet>) -> Self {
        Self { orders, coupons, changes: Changes::default() }
    }

    /// What was changed so far.
    pub const fn changes(&self) -> &Changes {
        &self.changes
    }

    /// Holds the coupon that the order wants to use, or refuses. `None` when its wish was decided before,
    /// or it has none.
    pub fn use_coupon(&mut self, created: &OrderCreated) -> Option<Answer> {
        let issued_coupon_id = created.issued_coupon_id?;
        let order_id = created.order_id;
        let order = self.orders.entry(order_id).or_default();
        if order.wish.is_some() {
            return None;
        }
        let coupon = self.coupons.get_mut(&issued_coupon_id);
        let (used, answer) = match usable(order, coupon, created) {
            Ok(coupon) => {
                let discount = discount_on(created.subtotal, &coupon.discount);
                coupon.order_id = Some(order_id);
                self.changes.coupons.insert(issued_coupon_id, Some(order_id));
                let (coupon_id, user_id) = (coupon.coupon_id.clone(), coupon.user_id.clone());
                let answer = CouponUsed { order_id, issued_coupon_id, coupon_id, user_id, discount };
                (Use::Used { discount }, Answer::Used(answer))
            }
            Err(reason) => {
                (Use::Refused(reason), Answer::Refused(CouponUseFailed { order_id, issued_coupon_id, reason }))
            }
        };
        order.wish = Some((issued_coupon_id, used));
        self.changes.orders.insert(order_id, *order);
        Some(answer)
    }

    /// Ends an order: the coupon that it uses can be used again, and a wish that comes later is refused.
    /// `None` when nothing is held for it, or it had ended before.
    pub fn restore_coupon(&mut self, order_id: OrderId) -> Option<CouponRestored> {
        let order = self.orders.entry(order_id).or_default();
        if std::mem::replace(&mut order.cancelled, true) {
            return None;
        }
        let mut restored = None;
        if let Some((issued_coupon_id, Use::Used { discount })) = order.wish {
            order.wish = Some((issued_coupon_id, Use::Restored { discount }));
            if let Some(coupon) = self.coupons.get_mut(&issued_coupon_id) {
                coupon.order_id = None;
            }
            self.changes.coupons.insert(issued_coupon_id, None);
            restored = Some(CouponRestored { order_id, issued_coupon_id });
        }
        self.changes.orders.insert(order_id, *order);
        restored
    }
}

/// Somebody else's coupon is refused as that, whatever else is wrong with it: of its state he learns nothing.
fn usable<'c>(
    order: &CouponOrder,
    coupon: Option<&'c mut CouponInWallet>,
    created: &OrderCreated,
) -> Result<&'c mut CouponInWallet, CouponRefusal> {
    if order.cancelled {
        return Err(CouponRefusal::OrderCancelled);
    }
    let coupon = coupon.ok_or(CouponRefusal::NotFound)?;
    if coupon.user_id != created.user_id {
        return Err(CouponRefusal::NotOwned);
    }
    if coupon.order_id.is_some() {
        return Err(CouponRefusal::Used);
    }
    if coupon.valid_until.is_some_and(|until| until < created.created_at) {
        return Err(CouponRefusal::Expired);
    }
    Ok(coupon)
}
