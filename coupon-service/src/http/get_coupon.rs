//! `GET /coupons/{id}`: what anyone may know of a coupon.

use actix_web::{
    get,
    web::{Data, Path},
};
use chrono::Utc;
use common_events::CouponId;
use service_runtime::{Pool, Problem, chain, http::Json};

use super::view::CouponView;
use crate::{admission::Admission, store};

/// A coupon, and where its sale stands.
#[utoipa::path(
    tag = "coupons",
    params(("coupon_id" = inline(CouponId), Path)),
    responses((status = 200, body = CouponView)),
)]
#[get("/coupons/{coupon_id}")]
pub(super) async fn get_coupon(
    coupon_id: Path<CouponId>,
    pool: Data<Pool>,
    admission: Data<Admission>,
) -> Result<Json<CouponView>, Problem> {
    let coupon = {
        let client = pool.get().await?;
        store::find_coupon(&client, &coupon_id).await?.ok_or_else(|| Problem::not_found("coupon"))?
    };
    let gate = admission.gate().standing(&coupon_id).await.unwrap_or_else(|unanswered| {
        tracing::warn!(error = chain(&unanswered), "the gate gave no answer");
        None
    });
    // A gate of another epoch is about to be opened anew.
    let gate = gate.filter(|gate| gate.epoch == coupon.epoch);
    Ok(Json(CouponView::of(coupon, gate, Utc::now())))
}
