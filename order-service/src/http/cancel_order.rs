//! `POST /orders/{id}/cancel`, before or after it is confirmed.

use actix_web::{
    HttpResponse, post,
    web::{Data, Path},
};
use common_events::{OrderId, events::MAX_NOTE_CHARS};
use messaging::Tx;
use serde::Deserialize;
use service_runtime::{Caller, Pool, Problem, http::OptionalJson};
use utoipa::ToSchema;

use super::view::OrderView;
use crate::{orders, waiting::Waiting};

/// Why, in the words of who cancels.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CancelOrder {
    /// Free text, kept as the order's `note`.
    #[schema(max_length = 200, pattern = r"^[^\u0000]*$")]
    reason: Option<String>,
}

/// Cancels an order. What was done for it is undone. An order that is cancelled already stays as
/// it was.
#[utoipa::path(
    tag = "orders",
    security(("identity" = [])),
    params(("order_id" = inline(OrderId), Path)),
    request_body = Option<CancelOrder>,
    responses((status = 202, body = OrderView)),
)]
#[post("/orders/{order_id}/cancel")]
pub(super) async fn cancel_order(
    caller: Caller,
    order_id: Path<OrderId>,
    OptionalJson(request): OptionalJson<CancelOrder>,
    pool: Data<Pool>,
    waiting: Data<Waiting>,
) -> Result<HttpResponse, Problem> {
    let note = request.unwrap_or_default().note()?;
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let cancelled = orders::cancel_order(&tx, &caller, *order_id, note, &waiting).await.map_err(Problem::from);
    let order = tx.end(cancelled).await?.ok_or_else(|| Problem::not_found("order"))?;
    Ok(HttpResponse::Accepted().json(OrderView::from(order)))
}

impl CancelOrder {
    /// Text that says nothing is no note. A NUL is no text: PostgreSQL can't keep it.
    fn note(self) -> Result<Option<String>, Problem> {
        let Some(note) = self.reason.filter(|note| !note.trim().is_empty()) else { return Ok(None) };
        if note.chars().count() > MAX_NOTE_CHARS {
            return Err(Problem::invalid_field("reason", format!("At most {MAX_NOTE_CHARS} characters.")));
        }
        if note.contains('\0') {
            return Err(Problem::invalid_field("reason", "A text without NUL characters."));
        }
        Ok(Some(note))
    }
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<CancelOrder>("/properties/reason/maxLength", MAX_NOTE_CHARS);
    }
}
