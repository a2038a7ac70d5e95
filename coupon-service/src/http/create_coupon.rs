//! `POST /coupons`: an admin puts a coupon up for claiming.

use actix_web::{
    Responder,
    http::{StatusCode, header},
    post,
    web::Data,
};
use chrono::{DateTime, Utc};
use common_events::CouponId;
use messaging::Tx;
use serde::Deserialize;
use service_runtime::{
    Admin, Pool, Problem,
    http::{Json, Object},
};
use utoipa::ToSchema;
use uuid::Uuid;

use super::view::{CouponView, ModeView};
use crate::{
    admission::Admission,
    domain::{
        CouponName, DiscountKind, InvalidDiscount, Proposal, ProposedDiscount, ProposedReward, Quantity, Refusal,
    },
    store,
};

/// A coupon that is put up for claiming.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewCoupon {
    /// A UUID is made when none is given.
    coupon_id: Option<CouponId>,
    /// What customers call it.
    name: CouponName,
    mode: ModeView,
    /// How many there are.
    quantity: Quantity,
    /// What it takes off, for ranks without a reward of their own.
    #[schema(value_type = NewDiscount)]
    discount: Object<NewDiscount>,
    /// Of a ranked coupon; no rank has two.
    #[serde(default)]
    #[schema(value_type = Vec<NewReward>, max_items = 100)]
    rewards: Vec<Object<NewReward>>,
    /// From when on it can be claimed; default at once.
    opens_at: Option<DateTime<Utc>>,
    /// From when on it can't be claimed any more.
    closes_at: Option<DateTime<Utc>>,
    /// An order that is placed later can't use it.
    valid_until: Option<DateTime<Utc>>,
}

/// What it takes off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewDiscount {
    kind: NewDiscountKind,
    /// Won, or percent from 1 to 100.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    value: i64,
    /// At most so many won; of percent only.
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64)]
    max: Option<i64>,
}

/// What a discount takes.
#[derive(Debug, Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = DiscountKind)]
enum NewDiscountKind {
    /// So many won.
    Amount,
    /// So many percent, rounded down to the won.
    Percent,
}

/// What some ranks get.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewReward {
    /// The first of these ranks, 1-based.
    #[schema(minimum = 1, maximum = 1_000_000)]
    from_rank: i64,
    /// The last of them.
    #[schema(minimum = 1, maximum = 1_000_000)]
    to_rank: i64,
    #[schema(value_type = NewDiscount)]
    discount: Object<NewDiscount>,
}

/// Puts a coupon up for claiming.
#[utoipa::path(
    tag = "coupons",
    security(("identity" = ["admin"])),
    request_body = NewCoupon,
    responses(
        (status = 201, body = CouponView, headers(("Location" = String, description = "The coupon"))),
        (status = 409, description = "`coupon-exists`: there is a coupon of this id"),
    ),
)]
#[post("/coupons")]
pub(super) async fn create_coupon(
    _: Admin,
    pool: Data<Pool>,
    admission: Data<Admission>,
    Json(new): Json<NewCoupon>,
) -> Result<impl Responder, Problem> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let coupon = new.proposal(|| new_coupon_id(tx.new_id())).accept(tx.now())?;
    if !store::insert_coupon(&tx, &coupon).await? {
        return Err(Problem::conflict("coupon-exists", "There is a coupon of this id already."));
    }
    tx.commit().await?;
    // The connection is given back before anybody waits for Redis.
    drop(client);
    admission.open(&coupon).await;
    let view = CouponView::of_new(coupon);
    let location = format!("/coupons/{}", view.coupon_id());
    let answer = Json(view).customize();
    Ok(answer.with_status(StatusCode::CREATED).insert_header((header::LOCATION, location)))
}

impl NewCoupon {
    fn proposal(self, new_coupon_id: impl FnOnce() -> CouponId) -> Proposal {
        Proposal {
            coupon_id: self.coupon_id.unwrap_or_else(new_coupon_id),
            name: self.name,
            mode: self.mode.into(),
            quantity: self.quantity,
            discount: self.discount.0.proposed(),
            rewards: self.rewards.into_iter().map(|Object(reward)| reward.proposed()).collect(),
            opens_at: self.opens_at,
            closes_at: self.closes_at,
            valid_until: self.valid_until,
        }
    }
}

fn new_coupon_id(id: Uuid) -> CouponId {
    id.to_string().try_into().expect("hex digits and hyphens")
}

impl NewReward {
    fn proposed(self) -> ProposedReward {
        let discount = self.discount.0.proposed();
        ProposedReward { from_rank: self.from_rank, to_rank: self.to_rank, discount }
    }
}

impl NewDiscount {
    const fn proposed(self) -> ProposedDiscount {
        let kind = match self.kind {
            NewDiscountKind::Amount => DiscountKind::Amount,
            NewDiscountKind::Percent => DiscountKind::Percent,
        };
        ProposedDiscount { kind, value: self.value, max: self.max }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let field = match refusal {
            Refusal::Discount(why) => format!("discount.{}", field_of(why)),
            Refusal::RewardDiscount { reward, why } => format!("rewards[{reward}].discount.{}", field_of(why)),
            Refusal::RewardsWithoutRanks | Refusal::TooManyRewards => "rewards".to_owned(),
            Refusal::FromRank { reward, .. } | Refusal::RankTwice { reward, .. } => {
                format!("rewards[{reward}].fromRank")
            }
            Refusal::ToRank { reward, .. } => format!("rewards[{reward}].toRank"),
            Refusal::OpensAt => "opensAt".to_owned(),
            Refusal::ClosesAt => "closesAt".to_owned(),
            Refusal::ValidUntil => "validUntil".to_owned(),
        };
        Self::invalid_field(field, format!("{refusal}."))
    }
}

const fn field_of(why: InvalidDiscount) -> &'static str {
    match why {
        InvalidDiscount::Amount | InvalidDiscount::Percent(_) => "value",
        InvalidDiscount::Max | InvalidDiscount::MaxOfAmount => "max",
    }
}

#[cfg(test)]
mod tests {
    use test_support::{assert_bounds, assert_limit};

    use super::*;
    use crate::domain::{MAX_DISCOUNT, MAX_REWARDS};

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<NewCoupon>("/properties/rewards/maxItems", MAX_REWARDS);
        for field in ["value", "max"] {
            assert_limit::<NewDiscount>(&format!("/properties/{field}/maximum"), MAX_DISCOUNT);
        }
        for field in ["fromRank", "toRank"] {
            assert_limit::<NewReward>(&format!("/properties/{field}/maximum"), Quantity::MAX);
        }
        assert_bounds::<Quantity>();
        assert_limit::<CouponName>("/maxLength", CouponName::MAX_CHARS);
    }
}
