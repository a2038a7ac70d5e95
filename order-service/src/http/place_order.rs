//! `POST /orders`: the beginning of every order's saga.

use actix_web::{HttpResponse, http::StatusCode, post, web::Data};
use common_events::{IssuedCouponId, OrderId, ProductId, Quantity, TraceId, TraceParent, UserId};
use messaging::Tx;
use serde::{Deserialize, Serialize};
use service_runtime::{
    Customer, Pool, Problem,
    http::{Json, Object, RequestTrace},
    idempotency::{self, Attempt, IdempotencyKey, StoredAnswer},
};
use utoipa::ToSchema;

use crate::{
    domain::{AskedLine, Basket, Placing, Refusal, Status},
    orders,
};

/// What keys are scoped to, beside the caller.
const CALL: &str = "POST /orders";

/// What to order.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlaceOrder {
    /// 1 to 100, each product once.
    #[schema(value_type = Vec<PlaceOrderLine>, min_items = 1, max_items = 100)]
    lines: Vec<Object<PlaceOrderLine>>,
    /// A coupon of the caller's to use.
    issued_coupon_id: Option<IssuedCouponId>,
}

/// So many pieces of a product.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct PlaceOrderLine {
    product_id: ProductId,
    quantity: Quantity,
}

/// The order is taken; how it ends is to be asked for.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct OrderTaken {
    order_id: OrderId,
    trace_id: TraceId,
    status: Status,
}

/// Takes an order.
#[utoipa::path(
    tag = "orders",
    security(("identity" = ["customer"])),
    params((
        "Idempotency-Key" = inline(IdempotencyKey), Header,
        description = "Sent again with the same key, the order is placed once",
    )),
    request_body = PlaceOrder,
    responses(
        (status = 202, body = OrderTaken, headers(("Location" = String, description = "The order"))),
        (status = 422, description = "`unknown-product`: a product isn't in the catalogue (yet)"),
    ),
)]
#[post("/orders")]
pub(super) async fn place_order(
    Customer(caller): Customer,
    key: IdempotencyKey,
    Json(request): Json<PlaceOrder>,
    RequestTrace(trace): RequestTrace,
    pool: Data<Pool>,
) -> Result<HttpResponse, Problem> {
    let basket = Basket::new(request.asked_lines())?;
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let answer = place_once(&tx, caller.user_id, &key, &request, basket, trace).await;
    Ok(tx.end(answer).await?.into())
}

async fn place_once(
    tx: &Tx<'_>,
    user_id: UserId,
    key: &IdempotencyKey,
    request: &PlaceOrder,
    basket: Basket,
    trace: TraceParent,
) -> Result<StoredAnswer, Problem> {
    let pending = match idempotency::begin(tx.transaction(), &user_id, CALL, key, request).await? {
        Attempt::First(pending) => pending,
        Attempt::Repeat(answer) => return Ok(answer),
    };
    let order_id = OrderId::new(tx.new_id());
    let placing = Placing { order_id, user_id, issued_coupon_id: request.issued_coupon_id, trace };
    let order = orders::place_order(tx, placing, basket).await?;
    let location = format!("/orders/{}", order.id);
    let taken = OrderTaken { order_id: order.id, trace_id: trace.trace_id, status: order.status };
    Ok(pending.remember(tx.transaction(), StatusCode::ACCEPTED, Some(location), &taken).await?)
}

impl PlaceOrder {
    fn asked_lines(&self) -> Vec<AskedLine> {
        let asked = |Object(line): &Object<PlaceOrderLine>| AskedLine {
            product_id: line.product_id.clone(),
            quantity: line.quantity,
        };
        self.lines.iter().map(asked).collect()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = format!("{refusal}.");
        match refusal {
            Refusal::LineCount(_) => Self::invalid_field("lines", detail),
            Refusal::ProductTwice { line, .. } => Self::invalid_field(format!("lines[{line}].productId"), detail),
            Refusal::UnknownProduct { line, .. } => {
                Self::unprocessable("unknown-product", detail).of_field(format!("lines[{line}].productId"))
            }
            Refusal::TotalTooLarge { line } => Self::invalid_field(format!("lines[{line}].quantity"), detail),
        }
    }
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;
    use crate::domain::MAX_LINES;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<PlaceOrder>("/properties/lines/maxItems", MAX_LINES);
    }
}
