//! `GET /coupons/{id}/claims/me`: what the caller's claim has come to.

use actix_web::{
    get,
    web::{Data, Path},
};
use common_events::{ClaimRefusal, CouponId, IssuedCouponId};
use serde::Serialize;
use service_runtime::{Customer, Problem, http::Json};
use utoipa::ToSchema;

use super::issue_coupon::rebuilding;
use crate::admission::{Admission, Standing, Untold};

/// What a claim has come to.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Claim)]
struct ClaimView {
    status: ClaimStatus,
    /// Of a ranked coupon, 1-based.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<i64>,
    /// What an order names to use it.
    #[serde(skip_serializing_if = "Option::is_none")]
    issued_coupon_id: Option<IssuedCouponId>,
    /// Why it was turned away.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<ClaimRefusal>,
}

/// How far it is.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ClaimStatus {
    /// Admitted, and not decided.
    Admitted,
    /// The caller holds the coupon.
    Issued,
    /// Turned away.
    Rejected,
    /// Never admitted.
    None,
}

/// What the caller's claim has come to.
#[utoipa::path(
    tag = "coupons",
    security(("identity" = ["customer"])),
    params(("coupon_id" = inline(CouponId), Path)),
    responses(
        (status = 200, body = ClaimView),
        (status = 503, description = "`gate-rebuilding`: it isn't known while the gate is rebuilt"),
    ),
)]
#[get("/coupons/{coupon_id}/claims/me")]
pub(super) async fn my_claim(
    Customer(caller): Customer,
    coupon_id: Path<CouponId>,
    admission: Data<Admission>,
) -> Result<Json<ClaimView>, Problem> {
    let standing = admission.standing(&coupon_id, &caller.user_id).await?;
    Ok(Json(standing.into()))
}

impl From<Standing> for ClaimView {
    fn from(standing: Standing) -> Self {
        let nothing = Self { status: ClaimStatus::None, rank: None, issued_coupon_id: None, reason: None };
        match standing {
            Standing::Issued { issued_coupon_id, rank } => {
                Self { status: ClaimStatus::Issued, rank, issued_coupon_id: Some(issued_coupon_id), ..nothing }
            }
            Standing::Admitted { rank } => Self { status: ClaimStatus::Admitted, rank, ..nothing },
            Standing::Rejected(reason) => Self { status: ClaimStatus::Rejected, reason: Some(reason), ..nothing },
            Standing::Never => nothing,
        }
    }
}

impl From<Untold> for Problem {
    fn from(untold: Untold) -> Self {
        match untold {
            Untold::UnknownCoupon => Self::not_found("coupon"),
            Untold::NotNow => rebuilding(),
            Untold::Database(error) => error.into(),
        }
    }
}
