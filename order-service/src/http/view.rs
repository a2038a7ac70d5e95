//! An order as the outside sees it.

use chrono::{DateTime, Utc};
use common_events::{CancelReason, IssuedCouponId, OrderId, ProductId, Quantity, TraceId, UserId, Won};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::{Line, Order, Status};

/// An order.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Order)]
pub(super) struct OrderView {
    order_id: OrderId,
    user_id: UserId,
    status: Status,
    lines: Vec<LineView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_coupon_id: Option<IssuedCouponId>,
    /// Won: the sum of the lines.
    subtotal: Won,
    /// Won: what the coupon takes off, as far as that is known.
    discount: Won,
    /// Won: what is paid.
    total: Won,
    /// Why it was cancelled.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    /// What the person said who cancelled it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
    trace_id: TraceId,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// One line of it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = OrderLine)]
pub(super) struct LineView {
    product_id: ProductId,
    name: String,
    quantity: Quantity,
    /// Won per piece, when the order was placed.
    unit_price: Won,
}

impl From<Order> for OrderView {
    fn from(order: Order) -> Self {
        let total = order.total();
        Self {
            order_id: order.id,
            user_id: order.user_id,
            status: order.status,
            lines: order.lines.into_iter().map(LineView::from).collect(),
            issued_coupon_id: order.coupon.map(|coupon| coupon.id),
            subtotal: order.subtotal,
            discount: order.discount,
            total,
            reason: order.reason,
            note: order.note,
            trace_id: order.trace.trace_id,
            created_at: order.created_at,
            updated_at: order.updated_at,
        }
    }
}

impl OrderView {
    pub(super) const fn order_id(&self) -> OrderId {
        self.order_id
    }
}

impl From<Line> for LineView {
    fn from(line: Line) -> Self {
        let placed = line.placed;
        Self {
            product_id: placed.product_id,
            name: placed.name,
            quantity: placed.quantity,
            unit_price: placed.unit_price,
        }
    }
}
