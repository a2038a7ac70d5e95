//! `GET /users/me/coupons`: what the caller holds, newest first.

use actix_web::{get, web::Data};
use common_events::IssuedCouponId;
use service_runtime::{
    Customer, Pool, Problem,
    http::{Json, Page, Paging, Query},
};

use super::view::MyCouponView;
use crate::store;

/// The caller's coupons, newest first.
#[utoipa::path(
    tag = "coupons",
    security(("identity" = ["customer"])),
    params(Paging),
    responses((status = 200, body = Page<MyCouponView>)),
)]
#[get("/users/me/coupons")]
pub(super) async fn list_my_coupons(
    Customer(caller): Customer,
    Query(paging): Query<Paging>,
    pool: Data<Pool>,
) -> Result<Json<Page<MyCouponView>>, Problem> {
    let before: Option<IssuedCouponId> = paging.cursor.map(|cursor| cursor.position()).transpose()?;
    let client = pool.get().await?;
    let coupons = store::list_of_user(&client, &caller.user_id, before, paging.limit.and_one()).await?;
    let coupons = coupons.into_iter().map(MyCouponView::from).collect();
    Ok(Json(Page::of(coupons, paging.limit, MyCouponView::issued_coupon_id)))
}
