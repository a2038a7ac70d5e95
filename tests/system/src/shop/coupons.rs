//! First-come coupons: an admin makes them, customers ask for them and hold them.

use common_events::{CouponId, IssuedCouponId, ProductId, UserId};
use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Accepted, Admin, Admitted, Claim, Coupon, CouponMode, Customer, Discount, HeldCoupon, NewCoupon, Reward, Shop,
    Trouble, call::Page,
};

impl NewCoupon {
    /// Open at once and for ever, the same discount for everybody, with an id of its own.
    ///
    /// # Panics
    /// Never: the id is made of letters and digits.
    pub fn of(mode: CouponMode, quantity: i64, discount: Discount) -> Self {
        Self {
            coupon_id: format!("c-{}", Uuid::now_v7().simple()).parse().expect("letters and digits"),
            name: "First come".to_owned(),
            mode,
            quantity,
            discount,
            rewards: Vec::new(),
            opens_at: None,
            closes_at: None,
            valid_until: None,
        }
    }

    /// With this discount for the ranks from … to.
    #[must_use]
    pub fn reward(mut self, from_rank: i64, to_rank: i64, discount: Discount) -> Self {
        self.rewards.push(Reward { from_rank, to_rank, discount });
        self
    }
}

impl CouponMode {
    /// As the contract has it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Ranked => "ranked",
        }
    }
}

impl Admin {
    /// A new coupon.
    pub async fn create_coupon(&self, new: &NewCoupon) -> Result<Coupon, Trouble> {
        // On the books first: an answer that gets lost must not hide how many there are.
        self.shop.locked_books().coupons.insert(new.coupon_id.clone(), new.quantity);
        let call = self.call(Method::POST, &self.shop.urls.coupon, "/coupons");
        call.body(&serde_json::to_value(new).unwrap_or_default()).answer().await
    }
}

impl Shop {
    /// A coupon, as anybody sees it.
    pub async fn coupon(&self, id: &CouponId) -> Result<Coupon, Trouble> {
        self.call(Method::GET, &self.urls.coupon, &format!("/coupons/{id}")).answer().await
    }

    /// Puts admissions on the books that were not asked for through this shop.
    pub fn note_admissions(&self, admissions: impl Iterator<Item = (CouponId, UserId)>) {
        self.locked_books().admissions.extend(admissions);
    }
}

impl Customer {
    /// Asks for a coupon, once.
    pub async fn ask_for(&self, coupon: &CouponId) -> Result<Admitted, Trouble> {
        let path = format!("/coupons/{coupon}/issue");
        let admitted: Admitted = self.call(Method::POST, &self.shop.urls.coupon, &path).answer().await?;
        self.shop.note_admissions([(coupon.clone(), self.user.clone())].into_iter());
        Ok(admitted)
    }

    /// What has become of that.
    pub async fn claim(&self, coupon: &CouponId) -> Result<Claim, Trouble> {
        let path = format!("/coupons/{coupon}/claims/me");
        self.call(Method::GET, &self.shop.urls.coupon, &path).answer().await
    }

    /// The coupons he holds.
    pub async fn coupons(&self) -> Result<Vec<HeldCoupon>, Trouble> {
        let page: Page<HeldCoupon> =
            self.call(Method::GET, &self.shop.urls.coupon, "/users/me/coupons").answer().await?;
        Ok(page.items)
    }

    /// Orders so many pieces of each product, and pays part of it with a coupon he holds. A
    /// product that hasn't reached order-service yet is waited for.
    pub async fn place_order_with(
        &self,
        coupon: IssuedCouponId,
        lines: &[(&ProductId, i64)],
    ) -> Result<Accepted, Trouble> {
        self.place(lines, Some(coupon)).await
    }

    /// What was set aside while Kafka was away; for operators.
    pub async fn producer_dead_letters(&self) -> Result<Vec<Value>, Trouble> {
        let path = "/admin/producer-dead-letters?limit=200";
        let page: Page<Value> = self.call(Method::GET, &self.shop.urls.coupon, path).answer().await?;
        Ok(page.items)
    }
}

/// The body of an order.
pub(super) fn order_of(lines: &[(&ProductId, i64)], coupon: Option<IssuedCouponId>) -> Value {
    let lines: Vec<_> =
        lines.iter().map(|(product, quantity)| json!({ "productId": product, "quantity": quantity })).collect();
    match coupon {
        Some(coupon) => json!({ "lines": lines, "issuedCouponId": coupon }),
        None => json!({ "lines": lines }),
    }
}
