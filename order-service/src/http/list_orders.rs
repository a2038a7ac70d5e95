//! `GET /orders`: the caller's own orders, newest first.

use actix_web::{get, web::Data};
use common_events::OrderId;
use serde::Deserialize;
use service_runtime::{
    Caller, Pool, Problem,
    http::{Cursor, Json, Limit, Page, Query},
};
use utoipa::IntoParams;

use super::view::OrderView;
use crate::{domain::Status, store};

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only orders that are this far.
    #[param(inline)]
    status: Option<Status>,
    /// 1 to 200, default 50.
    #[serde(default)]
    #[param(inline)]
    limit: Limit,
    /// The `nextCursor` of the page before.
    #[param(inline)]
    cursor: Option<Cursor>,
}

/// The caller's orders, newest first.
#[utoipa::path(
    tag = "orders",
    security(("identity" = [])),
    params(Wanted),
    responses((status = 200, body = Page<OrderView>)),
)]
#[get("/orders")]
pub(super) async fn list_orders(
    caller: Caller,
    Query(wanted): Query<Wanted>,
    pool: Data<Pool>,
) -> Result<Json<Page<OrderView>>, Problem> {
    let before: Option<OrderId> = wanted.cursor.map(|cursor| cursor.position()).transpose()?;
    let client = pool.get().await?;
    let orders = store::list_orders(&client, &caller.user_id, wanted.status, before, wanted.limit.and_one()).await?;
    let orders = orders.into_iter().map(OrderView::from).collect();
    Ok(Json(Page::of(orders, wanted.limit, OrderView::order_id)))
}
