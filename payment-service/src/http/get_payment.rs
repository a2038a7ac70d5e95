//! `GET /payments/{orderId}`: how the payment of an order stands.

use actix_web::{
    get,
    web::{Data, Path},
};
use chrono::{DateTime, Utc};
use common_events::{CancelReason, OrderId, TraceId, UserId, Won};
use serde::Serialize;
use service_runtime::{Caller, Pool, Problem, http::Json};
use utoipa::ToSchema;

use crate::store::{self, PaymentStatus, PaymentView};

/// A payment.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Payment)]
struct PaymentAnswer {
    order_id: OrderId,
    user_id: UserId,
    /// What was paid, or should have been; in won.
    amount: Won,
    /// What a coupon took off the lines' sum.
    #[serde(skip_serializing_if = "Option::is_none")]
    discount: Option<Won>,
    status: PaymentStatus,
    /// Why it failed (as a payment is refused), or why what was paid went back (as an order is cancelled).
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<CancelReason>,
    #[schema(value_type = TraceId)]
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    paid_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refunded_at: Option<DateTime<Utc>>,
}

/// The payment of an order.
#[utoipa::path(
    tag = "payments",
    security(("identity" = [])),
    params(("orderId" = inline(OrderId), Path)),
    responses((status = 200, body = PaymentAnswer)),
)]
#[get("/payments/{orderId}")]
pub(super) async fn get_payment(
    caller: Caller,
    order_id: Path<OrderId>,
    pool: Data<Pool>,
) -> Result<Json<PaymentAnswer>, Problem> {
    let order_id = order_id.into_inner();
    let client = pool.get().await?;
    let payment = store::find_payment(&client, order_id).await?.filter(|payment| caller.may_see(&payment.user_id));
    let payment = payment.ok_or_else(|| Problem::not_found("payment"))?;
    let PaymentView { user_id, status, total, discount, reason, trace_id, paid_at, refunded_at } = payment;
    Ok(Json(PaymentAnswer {
        order_id,
        user_id,
        amount: total,
        discount,
        status,
        reason: reason.map(CancelReason::from),
        trace_id,
        paid_at,
        refunded_at,
    }))
}

#[cfg(test)]
mod tests {
    use common_events::PaymentRefusal;
    use utoipa::PartialSchema;

    use super::*;

    #[test]
    fn the_document_lists_the_reasons_for_which_a_payment_fails_or_goes_back() {
        let payment = serde_json::to_value(PaymentAnswer::schema()).expect("JSON");
        assert!(payment["properties"]["reason"].to_string().contains("/CancelReason\""), "{payment}");
        let is_listed =
            |refusal: &PaymentRefusal| CancelReason::KNOWN.iter().any(|one| one.as_str() == refusal.as_str());
        assert!(PaymentRefusal::KNOWN.iter().all(is_listed));
    }
}
