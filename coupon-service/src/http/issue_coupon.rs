//! `POST /coupons/{id}/issue`: first come, first served.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    http::StatusCode,
    post,
    web::{Data, Path},
};
use common_events::{CouponId, TraceId, UserId};
use serde::Serialize;
use service_runtime::{Customer, Problem, http::RequestTrace};
use utoipa::ToSchema;

use crate::admission::{Admission, Refused};

/// When it is worth asking again: a rebuild takes some seconds, an outage that is noticed less.
const AFTER_REBUILDING: Duration = Duration::from_secs(3);
const AFTER_UNDECIDED: Duration = Duration::from_secs(1);

/// An admission. It becomes a coupon in a moment, or is turned away, which `claims/me` tells.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Admitted)]
struct AdmittedView<'a> {
    #[schema(value_type = CouponId)]
    coupon_id: &'a CouponId,
    #[schema(value_type = UserId)]
    user_id: &'a UserId,
    status: AdmittedStatus,
    /// Of a ranked coupon, 1-based.
    #[serde(skip_serializing_if = "Option::is_none")]
    rank: Option<i64>,
    trace_id: TraceId,
}

#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum AdmittedStatus {
    Admitted,
}

/// Claims a coupon for the caller.
#[utoipa::path(
    tag = "coupons",
    security(("identity" = ["customer"])),
    params(("coupon_id" = inline(CouponId), Path)),
    responses(
        (status = 202, description = "Admitted: the request is kept, whatever happens now", body = AdmittedView),
        (status = 403, description = "`not-open-yet`: the sale hasn't begun; `closed`: it is over"),
        (status = 409, description = "`already-claimed`: the caller has it already, or is admitted"),
        (status = 410, description = "`sold-out`: all are taken"),
        (status = 503, description = "`gate-rebuilding`: it can't be decided now; `admission-undecided`: the outcome \
            isn't known"),
    ),
)]
#[post("/coupons/{coupon_id}/issue")]
pub(super) async fn issue_coupon(
    Customer(caller): Customer,
    coupon_id: Path<CouponId>,
    trace: RequestTrace,
    admission: Data<Admission>,
) -> Result<HttpResponse, Problem> {
    let admitted = admission.admit(&coupon_id, &caller.user_id, trace.0).await?;
    let view = AdmittedView {
        coupon_id: &coupon_id,
        user_id: &caller.user_id,
        status: AdmittedStatus::Admitted,
        rank: admitted.rank,
        trace_id: trace.0.trace_id,
    };
    Ok(HttpResponse::Accepted().json(view))
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::AskedBefore => Self::conflict("already-claimed", "You have this coupon, or are admitted already."),
            Refused::SoldOut => Self::new(StatusCode::GONE, "sold-out", "All of these coupons are taken."),
            Refused::NotOpenYet => Self::new(StatusCode::FORBIDDEN, "not-open-yet", "This sale hasn't begun."),
            Refused::Closed => Self::new(StatusCode::FORBIDDEN, "closed", "This sale is over."),
            Refused::UnknownCoupon => Self::not_found("coupon"),
            Refused::Rebuilding => rebuilding(),
            Refused::Undecided => {
                let detail = "Whether you are admitted can't be told now; ask again, or look at your claim.";
                Self::unavailable("admission-undecided", detail, AFTER_UNDECIDED)
            }
        }
    }
}

pub(super) fn rebuilding() -> Problem {
    let detail = "Who was admitted to this sale isn't known just now.";
    Problem::unavailable("gate-rebuilding", detail, AFTER_REBUILDING)
}
