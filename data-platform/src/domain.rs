//! What the platform is told of a paid order: a contract of its own, so that a field that is added to the
//! event tomorrow doesn't leave the house by itself.

use chrono::{DateTime, SecondsFormat, Utc};
use common_events::{
    OrderId, ProductId, Quantity, TraceId, UserId, Won,
    events::{OrderLine, PaymentCompleted},
};
use serde::{Serialize, Serializer};

/// An order that was paid. The same payment always reads the same, byte for byte: the platform takes a
/// repeated call for the same one only if its body is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaidOrder<'e> {
    /// The order.
    pub order_id: OrderId,
    /// Who bought.
    pub user_id: &'e UserId,
    /// What was bought.
    pub lines: Vec<PaidLine<'e>>,
    /// What a coupon took off, in won.
    pub discount: Won,
    /// What was paid, in won: the lines' amounts less the discount.
    pub total: Won,
    /// When it was paid, to the millisecond.
    #[serde(serialize_with = "milliseconds")]
    pub paid_at: DateTime<Utc>,
    /// The trace of the order, from its request on.
    pub trace_id: TraceId,
}

/// One product of a paid order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PaidLine<'e> {
    /// The product.
    pub product_id: &'e ProductId,
    /// What it was called when it was ordered.
    pub name: &'e str,
    /// Pieces.
    pub quantity: Quantity,
    /// Won per piece when it was ordered.
    pub unit_price: Won,
    /// `quantity × unitPrice`, before any discount.
    pub amount: Won,
}

impl<'e> PaidOrder<'e> {
    /// What is told of this payment.
    pub fn of(payment: &'e PaymentCompleted, trace_id: TraceId) -> Self {
        // Named one by one: a field that is added to the event is left out until somebody decides about it.
        let PaymentCompleted { order_id, user_id, lines, discount, total, paid_at } = payment;
        Self {
            order_id: *order_id,
            user_id,
            lines: lines.iter().map(PaidLine::of).collect(),
            discount: *discount,
            total: *total,
            paid_at: *paid_at,
            trace_id,
        }
    }
}

impl<'e> PaidLine<'e> {
    fn of(line: &'e OrderLine) -> Self {
        let OrderLine { product_id, name, quantity, unit_price, amount } = line;
        Self { product_id, name, quantity: *quantity, unit_price: *unit_price, amount: *amount }
    }
}

fn milliseconds<S: Serializer>(time: &DateTime<Utc>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&time.to_rfc3339_opts(SecondsFormat::Millis, true))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_paid_order_reads_as_the_platform_was_told_it_would() {
        let payment: PaymentCompleted = serde_json::from_value(serde_json::json!({
            "orderId": "0190d3a8-5a4e-7000-8000-000000000001", "userId": "kim",
            "lines": [{"productId": "mug", "name": "Mug", "quantity": 2, "unitPrice": 12_000, "amount": 24_000}],
            "discount": 4_000, "total": 20_000, "paidAt": "2026-11-21T06:00:00.123456Z", "addedLater": true,
        }))
        .expect("a payment");
        let trace_id = "4bf92f3577b34da6a3ce929d0e0e4736".parse().expect("a trace");
        assert_eq!(
            serde_json::to_string(&PaidOrder::of(&payment, trace_id)).expect("JSON"),
            concat!(
                r#"{"orderId":"0190d3a8-5a4e-7000-8000-000000000001","userId":"kim","#,
                r#""lines":[{"productId":"mug","name":"Mug","quantity":2,"unitPrice":12000,"amount":24000}],"#,
                r#""discount":4000,"total":20000,"paidAt":"2026-11-21T06:00:00.123Z","#,
                r#""traceId":"4bf92f3577b34da6a3ce929d0e0e4736"}"#,
            )
        );
    }
}
