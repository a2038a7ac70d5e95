//! One order's payment. Any order of events is taken; what comes too late changes nothing.

use chrono::{DateTime, Utc};
use common_events::{
    PaymentRefusal, UserId, Won,
    events::{OrderCancelled, OrderLine, OrderReserved, PaymentCompleted, PaymentFailed, PaymentRefunded},
    ids::EntryId,
};

use super::account::{Accounts, Entry};

/// How the payment of an order stands, while the order's row is locked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payment {
    /// The first that is heard of the order.
    Pending,
    /// The order was cancelled before its payment was asked for: a tombstone.
    Cancelled,
    /// It is paid.
    Completed(Receipt),
    /// Nothing was taken.
    Failed,
    /// What was paid went back.
    Refunded,
}

/// What was paid, as a refund tells it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Who paid, and gets it back.
    pub user_id: UserId,
    /// What was bought.
    pub lines: Vec<OrderLine>,
    /// What a coupon took off.
    pub discount: Won,
    /// What was paid.
    pub total: Won,
    /// When.
    pub paid_at: DateTime<Utc>,
}

/// What was decided on an order that is to be paid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is paid.
    Completed {
        /// What is told.
        payment: PaymentCompleted,
        /// What was taken; `None` when there was nothing to pay.
        deducted: Option<Entry>,
    },
    /// Nothing was taken.
    Failed(PaymentFailed),
}

/// What went back for a cancelled order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// What is told.
    pub payment: PaymentRefunded,
    /// What was given back; `None` when nothing had been paid.
    pub refunded: Option<Entry>,
}

impl Payment {
    /// Who is to get back what he paid, should the order be cancelled now.
    pub const fn payer(&self) -> Option<&UserId> {
        match self {
            Self::Completed(receipt) => Some(&receipt.user_id),
            Self::Pending | Self::Cancelled | Self::Failed | Self::Refunded => None,
        }
    }

    /// Pays the order from its user's account, or says why not. `None` when that was decided before.
    pub fn pay(&mut self, order: &OrderReserved, accounts: &mut Accounts, entry_id: EntryId) -> Option<Decision> {
        let stamp = accounts.stamp(entry_id);
        let outcome = match self {
            Self::Pending => accounts.of(&order.user_id).deduct(order.order_id, order.total, stamp),
            Self::Cancelled => Err(PaymentRefusal::OrderCancelled),
            Self::Completed(_) | Self::Failed | Self::Refunded => return None,
        };
        Some(match outcome {
            Ok(deducted) => {
                let payment = PaymentCompleted {
                    order_id: order.order_id,
                    user_id: order.user_id.clone(),
                    lines: order.lines.clone(),
                    discount: order.discount,
                    total: order.total,
                    paid_at: deducted.as_ref().map_or(stamp.clock, |entry| entry.at),
                };
                *self = Self::Completed(Receipt::of(payment.clone()));
                Decision::Completed { payment, deducted }
            }
            Err(reason) => {
                *self = Self::Failed;
                let (order_id, user_id) = (order.order_id, order.user_id.clone());
                Decision::Failed(PaymentFailed { order_id, user_id, total: order.total, reason })
            }
        })
    }

    /// Gives back what was paid for the order, whatever it was cancelled for: a reason that isn't known here is
    /// passed on like any other. `None` when nothing was paid: an order that is not heard of yet will find its
    /// tombstone.
    pub fn refund(&mut self, order: &OrderCancelled, accounts: &mut Accounts, entry_id: EntryId) -> Option<Refund> {
        match std::mem::replace(self, Self::Refunded) {
            Self::Completed(Receipt { user_id, lines, discount, total, paid_at }) => {
                let stamp = accounts.stamp(entry_id);
                let refunded = accounts.of(&user_id).refund(order.order_id, total, order.reason, stamp);
                let payment = PaymentRefunded {
                    order_id: order.order_id,
                    user_id,
                    lines,
                    discount,
                    total,
                    paid_at,
                    refunded_at: refunded.as_ref().map_or(stamp.clock, |entry| entry.at),
                    reason: order.reason,
                };
                Some(Refund { payment, refunded })
            }
            Self::Pending => {
                *self = Self::Cancelled;
                None
            }
            unpaid @ (Self::Cancelled | Self::Failed | Self::Refunded) => {
                *self = unpaid;
                None
            }
        }
    }
}

impl Receipt {
    fn of(payment: PaymentCompleted) -> Self {
        let PaymentCompleted { order_id: _, user_id, lines, discount, total, paid_at } = payment;
        Self { user_id, lines, discount, total, paid_at }
    }
}
