//! An order and what can happen to it. Pure: no I/O, no clock, no randomness.
//!
//! An order is a set of facts (which lines' stock is held, whether the coupon is, what payment said)
//! and a status that follows from them. Facts are taken in any order and any number of times; the
//! first answer to each question stands. A fact that comes too late is kept and changes nothing else.
//! An answer has to fit what the order asked ([`Misfit`]): whose it is, how many pieces, how much money.
//!
//! ```text
//! PENDING ── stock and coupon held ──▶ AWAITING_PAYMENT ── paid ──▶ CONFIRMED
//!    └───────────── refused, timed out ──────┴───▶ CANCELLED ◀── by hand ──┘
//! ```

mod answer;
mod basket;
mod words;

use chrono::{DateTime, Utc};
use common_events::{
    CancelReason, CouponRefusal, IssuedCouponId, OrderId, PaymentRefusal, ProductId, Quantity, ReasonCode,
    StockRefusal, TraceParent, UserId, Won,
    events::{OrderCancelled, OrderConfirmed, OrderCreated, OrderLine, OrderLinePlaced, OrderReserved},
};

pub use answer::{Misfit, Paying};
pub use basket::{AskedLine, Basket, MAX_LINES, Product, Refusal};
pub use words::{Hold, Payment, Status, UnknownWord};

/// The first version of every order.
const FIRST_VERSION: i32 = 1;

/// One line and whether its stock is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The line as it was placed.
    pub placed: OrderLine,
    /// What product-service answered.
    pub stock: Hold,
}

/// The coupon that an order wants to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Coupon {
    /// Which.
    pub id: IssuedCouponId,
    /// What coupon-service answered.
    pub hold: Hold,
}

/// One order.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Order {
    pub id: OrderId,
    pub user_id: UserId,
    pub status: Status,
    /// Grows with each transition.
    pub version: i32,
    pub lines: Vec<Line>,
    pub coupon: Option<Coupon>,
    /// What payment-service said last.
    pub payment: Option<Payment>,
    /// Sum of the lines.
    pub subtotal: Won,
    /// At most the subtotal.
    pub discount: Won,
    /// Why it was cancelled.
    pub reason: Option<CancelReason>,
    /// What the person said who cancelled it.
    pub note: Option<String>,
    /// The span of the request that placed it.
    pub trace: TraceParent,
    pub created_at: DateTime<Utc>,
    /// When the last transition was.
    pub updated_at: DateTime<Utc>,
}

/// What came of something: to be published, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// Stock and coupon are held.
    Reserved(OrderReserved),
    /// It is paid.
    Confirmed(OrderConfirmed),
    /// It ended.
    Cancelled(OrderCancelled),
}

/// Who cancels an order by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelledBy {
    /// The customer whose order it is.
    Owner,
    /// Somebody who may cancel anybody's.
    Operator,
}

/// An order as it is taken: the row, and what to tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// PENDING.
    pub order: Order,
    /// To everybody.
    pub created: OrderCreated,
    /// To product-service, one per line.
    pub lines: Vec<OrderLinePlaced>,
}

/// Who places an order, and in which trace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placing {
    /// The new order's id.
    pub order_id: OrderId,
    /// The customer.
    pub user_id: UserId,
    /// The coupon he wants to use.
    pub issued_coupon_id: Option<IssuedCouponId>,
    /// The span of his request.
    pub trace: TraceParent,
}

impl Order {
    /// Takes an order at today's prices. `products` are those of the basket that are known.
    pub fn place(
        placing: Placing,
        basket: Basket,
        products: &[Product],
        now: DateTime<Utc>,
    ) -> Result<Placed, Refusal> {
        let (lines, subtotal) = basket.priced(products)?;
        let Placing { order_id, user_id, issued_coupon_id, trace } = placing;
        let ask_for = |line: &OrderLine| OrderLinePlaced {
            order_id,
            order_version: FIRST_VERSION,
            user_id: user_id.clone(),
            product_id: line.product_id.clone(),
            quantity: line.quantity,
        };
        Ok(Placed {
            lines: lines.iter().map(ask_for).collect(),
            created: OrderCreated {
                order_id,
                order_version: FIRST_VERSION,
                user_id: user_id.clone(),
                issued_coupon_id,
                lines: lines.clone(),
                subtotal,
                created_at: now,
            },
            order: Self {
                id: order_id,
                user_id,
                status: Status::Pending,
                version: FIRST_VERSION,
                lines: lines.into_iter().map(|placed| Line { placed, stock: Hold::Asked }).collect(),
                coupon: issued_coupon_id.map(|id| Coupon { id, hold: Hold::Asked }),
                payment: None,
                subtotal,
                discount: Won::ZERO,
                reason: None,
                note: None,
                trace,
                created_at: now,
                updated_at: now,
            },
        })
    }

    /// What is to be paid.
    pub fn total(&self) -> Won {
        self.subtotal.saturating_sub(self.discount)
    }

    /// So many pieces are held for the line.
    pub fn hold_stock(
        &mut self,
        product: &ProductId,
        quantity: Quantity,
        now: DateTime<Utc>,
    ) -> Result<Vec<Happened>, Misfit> {
        self.line(product, quantity)?.stock.answer(Hold::Held);
        Ok(self.go_on(now))
    }

    /// The line doesn't get so many pieces: the order ends.
    pub fn refuse_stock(
        &mut self,
        product: &ProductId,
        quantity: Quantity,
        reason: StockRefusal,
        now: DateTime<Utc>,
    ) -> Result<Vec<Happened>, Misfit> {
        let is_news = self.line(product, quantity)?.stock.answer(Hold::Refused);
        Ok(if is_news { self.fail(reason, now) } else { Vec::new() })
    }

    /// This user's coupon is held and takes off so much. The discount of an order that has ended already
    /// stays as it was.
    pub fn hold_coupon(
        &mut self,
        coupon: IssuedCouponId,
        user_id: &UserId,
        discount: Won,
        now: DateTime<Utc>,
    ) -> Result<Vec<Happened>, Misfit> {
        self.check_user(user_id)?;
        let is_news = self.coupon(coupon)?.hold.answer(Hold::Held);
        if is_news && self.status == Status::Pending {
            self.discount = discount.min(self.subtotal);
        }
        Ok(self.go_on(now))
    }

    /// The coupon can't be used: the order ends.
    pub fn refuse_coupon(
        &mut self,
        coupon: IssuedCouponId,
        reason: CouponRefusal,
        now: DateTime<Utc>,
    ) -> Result<Vec<Happened>, Misfit> {
        let is_news = self.coupon(coupon)?.hold.answer(Hold::Refused);
        Ok(if is_news { self.fail(reason, now) } else { Vec::new() })
    }

    /// The order is paid.
    pub fn complete_payment(&mut self, paid: Paying<'_>, now: DateTime<Utc>) -> Result<Vec<Happened>, Misfit> {
        self.check_payment(paid)?;
        self.payment.get_or_insert(Payment::Completed);
        Ok(self.go_on(now))
    }

    /// The order could not be paid: it ends.
    pub fn fail_payment(
        &mut self,
        unpaid: Paying<'_>,
        reason: PaymentRefusal,
        now: DateTime<Utc>,
    ) -> Result<Vec<Happened>, Misfit> {
        self.check_payment(unpaid)?;
        if self.payment.is_some() {
            return Ok(Vec::new());
        }
        self.payment = Some(Payment::Failed);
        Ok(self.fail(reason, now))
    }

    /// What was paid went back. It may be heard of before the payment itself.
    pub fn refund_payment(&mut self, refunded: Paying<'_>) -> Result<(), Misfit> {
        self.check_payment(refunded)?;
        self.payment = Some(Payment::Refunded);
        Ok(())
    }

    /// Ends the order because it took too long, which is found out where the clock is. `None` when it
    /// isn't open.
    pub fn time_out(&mut self, now: DateTime<Utc>) -> Option<OrderCancelled> {
        if self.status.is_open() { self.cancel(CancelReason::Timeout, None, now) } else { None }
    }

    /// Ends the order, confirmed or not, because somebody wants it. `None` when it was cancelled
    /// already: then what was said first stands.
    pub fn cancel_by_hand(
        &mut self,
        who: CancelledBy,
        note: Option<String>,
        now: DateTime<Utc>,
    ) -> Option<OrderCancelled> {
        let reason = match who {
            CancelledBy::Owner => CancelReason::Customer,
            CancelledBy::Operator => CancelReason::Operator,
        };
        self.cancel(reason, note, now)
    }

    /// In the words of who refused it, known here or not: the customer, and whoever hears of the cancel, reads them.
    fn fail(&mut self, refused: impl Into<ReasonCode>, now: DateTime<Utc>) -> Vec<Happened> {
        self.cancel(CancelReason::from(refused.into()), None, now).map(Happened::Cancelled).into_iter().collect()
    }

    fn cancel(&mut self, reason: CancelReason, note: Option<String>, now: DateTime<Utc>) -> Option<OrderCancelled> {
        if self.status == Status::Cancelled {
            return None;
        }
        self.move_to(Status::Cancelled, now);
        self.reason = Some(reason);
        self.note = note;
        Some(OrderCancelled {
            order_id: self.id,
            order_version: self.version,
            user_id: self.user_id.clone(),
            lines: self.placed_lines(),
            issued_coupon_id: self.coupon.map(|coupon| coupon.id),
            reason,
            note: self.note.clone(),
            cancelled_at: self.updated_at,
        })
    }

    /// Takes every step forward that the facts allow.
    fn go_on(&mut self, now: DateTime<Utc>) -> Vec<Happened> {
        let mut happened = Vec::new();
        if self.status == Status::Pending && self.is_all_held() {
            self.move_to(Status::AwaitingPayment, now);
            happened.push(Happened::Reserved(self.reserved()));
        }
        if self.status == Status::AwaitingPayment && self.payment == Some(Payment::Completed) {
            self.move_to(Status::Confirmed, now);
            happened.push(Happened::Confirmed(OrderConfirmed {
                order_id: self.id,
                order_version: self.version,
                user_id: self.user_id.clone(),
                total: self.total(),
                confirmed_at: self.updated_at,
            }));
        }
        happened
    }

    fn is_all_held(&self) -> bool {
        self.lines.iter().all(|line| line.stock == Hold::Held)
            && self.coupon.is_none_or(|coupon| coupon.hold == Hold::Held)
    }

    fn reserved(&self) -> OrderReserved {
        OrderReserved {
            order_id: self.id,
            order_version: self.version,
            user_id: self.user_id.clone(),
            lines: self.placed_lines(),
            subtotal: self.subtotal,
            discount: self.discount,
            total: self.total(),
        }
    }

    fn move_to(&mut self, status: Status, now: DateTime<Utc>) {
        self.status = status;
        self.version += 1;
        // Processes have clocks of their own; the order's time doesn't go back.
        self.updated_at = self.updated_at.max(now);
    }

    fn placed_lines(&self) -> Vec<OrderLine> {
        self.lines.iter().map(|line| line.placed.clone()).collect()
    }
}
