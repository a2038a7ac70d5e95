//! What the services answer, as the contract has it.

#![expect(missing_docs, reason = "the fields of docs/contract.md §3, under its names")]

use chrono::{DateTime, Utc};
use common_events::{
    CancelReason, ClaimRefusal, CouponId, IssuedCouponId, OrderId, ProductId, ReasonCode, TraceId, UserId,
};
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    pub order_id: OrderId,
    pub trace_id: TraceId,
    pub status: OrderStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OrderStatus {
    Pending,
    AwaitingPayment,
    Confirmed,
    Cancelled,
}

impl OrderStatus {
    /// Whether `Prefer: wait` answers now. A confirmed order may still be cancelled.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::AwaitingPayment => false,
            Self::Confirmed | Self::Cancelled => true,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub status: OrderStatus,
    pub lines: Vec<OrderLine>,
    pub subtotal: i64,
    pub discount: i64,
    pub total: i64,
    pub reason: Option<CancelReason>,
    pub trace_id: TraceId,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OrderLine {
    pub product_id: ProductId,
    pub name: String,
    pub quantity: i64,
    pub unit_price: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Product {
    pub product_id: ProductId,
    pub name: String,
    pub price: i64,
    pub stock: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum AccountState {
    Open,
    Closed,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Points {
    pub user_id: UserId,
    pub balance: i64,
    pub at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    #[serde(rename = "type")]
    pub kind: String,
    pub delta: i64,
    pub balance: i64,
    pub order_id: Option<OrderId>,
    pub reason: Option<CancelReason>,
    pub trace_id: TraceId,
    pub at: DateTime<Utc>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Payment {
    pub order_id: OrderId,
    pub user_id: UserId,
    pub amount: i64,
    pub status: PaymentStatus,
    pub reason: Option<ReasonCode>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum PaymentStatus {
    Completed,
    Failed,
    Refunded,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranking {
    pub window: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    pub items: Vec<Ranked>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranked {
    pub rank: i64,
    pub product_id: ProductId,
    pub name: String,
    pub quantity: i64,
    pub amount: i64,
}

/// What an admin makes a coupon of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NewCoupon {
    pub coupon_id: CouponId,
    pub name: String,
    pub mode: CouponMode,
    pub quantity: i64,
    pub discount: Discount,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rewards: Vec<Reward>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub opens_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closes_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<DateTime<Utc>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CouponMode {
    Set,
    Ranked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Discount {
    Amount {
        value: i64,
    },
    Percent {
        value: i64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        max: Option<i64>,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Reward {
    pub from_rank: i64,
    pub to_rank: i64,
    pub discount: Discount,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coupon {
    pub coupon_id: CouponId,
    pub mode: CouponMode,
    pub quantity: i64,
    pub admitted: Option<i64>,
    pub issued: i64,
    pub remaining: i64,
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Admitted {
    pub coupon_id: CouponId,
    pub user_id: UserId,
    pub rank: Option<i64>,
    pub trace_id: TraceId,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Claim {
    pub status: ClaimStatus,
    pub rank: Option<i64>,
    pub issued_coupon_id: Option<IssuedCouponId>,
    pub reason: Option<ClaimRefusal>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClaimStatus {
    #[default]
    None,
    Admitted,
    Issued,
    Rejected,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HeldCoupon {
    pub issued_coupon_id: IssuedCouponId,
    pub coupon_id: CouponId,
    pub discount: Discount,
    pub rank: Option<i64>,
    pub valid_until: Option<DateTime<Utc>>,
    pub status: WhetherUsed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum WhetherUsed {
    Issued,
    Used,
}
