//! Whether an answer fits what its order asked. One that doesn't is somebody else's, or nobody's: it changes nothing.

use common_events::{IssuedCouponId, OrderId, ProductId, Quantity, UserId, Won};

use super::{Coupon, Hold, Line, Order, Status};

/// What payment-service says of the payment: whose points, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paying<'e> {
    /// The payer.
    pub user_id: &'e UserId,
    /// What was paid, or should have been.
    pub total: Won,
}

/// An answer to something this order never asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// No line asks for this product.
    #[error("order {0} has no line for product {1}")]
    NoSuchLine(OrderId, ProductId),
    /// The order wants no coupon, or another one.
    #[error("order {0} doesn't use coupon {1}")]
    NoSuchCoupon(OrderId, IssuedCouponId),
    /// Its line asks for another number of pieces.
    #[error("order {0} asks for {2} of product {1}, not {3}")]
    OtherQuantity(OrderId, ProductId, i32, i32),
    /// It is somebody else's order.
    #[error("order {0} is not {1}'s")]
    OtherUser(OrderId, UserId),
    /// Another amount is to be paid.
    #[error("order {0} costs {1}, not {2}")]
    OtherTotal(OrderId, Won, Won),
    /// What is to be paid isn't known yet: it may fit later.
    #[error("what order {0} costs isn't known before its coupon's answer")]
    NotPricedYet(OrderId),
}

impl Order {
    pub(super) fn line(&mut self, product: &ProductId, quantity: Quantity) -> Result<&mut Line, Misfit> {
        let order = self.id;
        let line = self.lines.iter_mut().find(|line| line.placed.product_id == *product);
        let line = line.ok_or_else(|| Misfit::NoSuchLine(order, product.clone()))?;
        let asked = line.placed.quantity;
        if asked == quantity {
            Ok(line)
        } else {
            Err(Misfit::OtherQuantity(order, product.clone(), asked.get(), quantity.get()))
        }
    }

    pub(super) fn check_user(&self, user_id: &UserId) -> Result<(), Misfit> {
        if *user_id == self.user_id { Ok(()) } else { Err(Misfit::OtherUser(self.id, user_id.clone())) }
    }

    /// Only what was told in `OrderReserved` is paid for, so an honest payment fits; one of another amount must neither
    /// confirm the order nor end it.
    pub(super) fn check_payment(&self, Paying { user_id, total }: Paying<'_>) -> Result<(), Misfit> {
        self.check_user(user_id)?;
        let is_priced = self.coupon.is_none_or(|coupon| coupon.hold != Hold::Asked);
        if self.status == Status::Pending && !is_priced {
            return Err(Misfit::NotPricedYet(self.id));
        }
        let cost = self.total();
        if total == cost { Ok(()) } else { Err(Misfit::OtherTotal(self.id, cost, total)) }
    }

    pub(super) fn coupon(&mut self, coupon: IssuedCouponId) -> Result<&mut Coupon, Misfit> {
        let order = self.id;
        self.coupon.as_mut().filter(|wanted| wanted.id == coupon).ok_or(Misfit::NoSuchCoupon(order, coupon))
    }
}
