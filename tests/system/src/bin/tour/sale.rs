//! A first-come sale: many users, few coupons, and what the winner does with his.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use common_events::{CouponId, IssuedCouponId};
use futures::{StreamExt, TryStreamExt, stream};
use system::{
    Shop, eventually,
    shop::{CouponMode, Customer, Discount, NewCoupon, OrderStatus, Product, WhetherUsed},
};

use crate::telling::{outcome, say, title, won};

const USERS: u32 = 600;
const QUANTITY: i64 = 100;
/// Who ask at once.
const AT_ONCE: usize = 64;
const FIRST_PRIZE: i64 = 20_000;
const USUAL: i64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(20);

/// What a user was answered.
enum Answer {
    Admitted(Customer, i64),
    SoldOut,
}

pub(crate) async fn show(shop: &Shop, teapot: &Product) -> anyhow::Result<()> {
    title("A hundred coupons, and six hundred who want one at the same time");
    let new = NewCoupon::of(CouponMode::Ranked, QUANTITY, Discount::Amount { value: USUAL });
    let new = new.reward(1, 1, Discount::Amount { value: FIRST_PRIZE });
    let coupon = shop.admin().create_coupon(&new).await.context("a coupon")?.coupon_id;
    let prizes = format!("201: {} won off for the first, {} for the others ({coupon})", won(FIRST_PRIZE), won(USUAL));
    say(&format!("POST /coupons (quantity {QUANTITY})"), &prizes);
    let winner = rush(shop, &coupon).await?;
    let issued = until_issued(shop, &winner, &coupon).await?;
    pay_with(&winner, issued, teapot).await
}

/// Everybody asks; returns who was first.
async fn rush(shop: &Shop, coupon: &CouponId) -> anyhow::Result<Customer> {
    let asked = Instant::now();
    let answers: Vec<Answer> = stream::iter(0..USERS)
        .map(|number| ask(shop.new_customer(&format!("fan-{number}")), coupon))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
        .context("the rush")?;
    let took = asked.elapsed();
    let mut admitted: Vec<(i64, Customer)> = Vec::new();
    for answer in answers {
        match answer {
            Answer::Admitted(customer, rank) => admitted.push((rank, customer)),
            Answer::SoldOut => {}
        }
    }
    let too_late = USERS as usize - admitted.len();
    let answered = format!("{} × 202, {too_late} × 410 within {} ms", admitted.len(), took.as_millis());
    say(&format!("POST /coupons/…/issue × {USERS}"), &answered);
    admitted.sort_by_key(|(rank, _)| *rank);
    let ranks: Vec<i64> = admitted.iter().map(|(rank, _)| *rank).collect();
    ensure!(ranks == (1..=QUANTITY).collect::<Vec<_>>(), "the ranks are {ranks:?}");
    say("their ranks", &format!("1 to {QUANTITY}, none missing, none twice"));
    let (_, winner) = admitted.swap_remove(0);
    Ok(winner)
}

async fn ask(customer: Customer, coupon: &CouponId) -> anyhow::Result<Answer> {
    match customer.ask_for(coupon).await {
        Ok(admitted) => Ok(Answer::Admitted(customer, admitted.rank.context("a rank")?)),
        Err(trouble) if trouble.status() == Some(410) => Ok(Answer::SoldOut),
        Err(trouble) => Err(trouble.into()),
    }
}

async fn until_issued(shop: &Shop, winner: &Customer, coupon: &CouponId) -> anyhow::Result<IssuedCouponId> {
    eventually("every coupon is issued", PATIENCE, async || {
        let issued = shop.coupon(coupon).await?.issued;
        ensure!(issued == QUANTITY, "{issued} are");
        Ok(())
    })
    .await?;
    say("GET /coupons/…", &format!("200: {QUANTITY} of {QUANTITY} issued, each to one user"));
    let claim = winner.claim(coupon).await?;
    say("GET /coupons/…/claims/me", &format!("200: {:?}, rank {}", claim.status, claim.rank.unwrap_or_default()));
    claim.issued_coupon_id.context("the winner's coupon")
}

async fn pay_with(winner: &Customer, coupon: IssuedCouponId, teapot: &Product) -> anyhow::Result<()> {
    winner.charge(teapot.price).await.context("points")?;
    let accepted = winner.place_order_with(coupon, &[(&teapot.product_id, 1)]).await.context("placing an order")?;
    let order = winner.wait_for(accepted.order_id).await.context("waiting for the order")?;
    ensure!(order.status == OrderStatus::Confirmed, "the order is {:?}, {:?}", order.status, order.reason);
    let paid = format!("{}: {} − {} won", outcome(&order), won(order.subtotal), won(order.discount));
    say("the first buys a teapot with it", &paid);
    winner.cancel(order.order_id).await.context("cancelling")?;
    eventually("the coupon is back", PATIENCE, async || {
        let held = winner.coupons().await?;
        let is_back = held.iter().any(|held| held.issued_coupon_id == coupon && held.status == WhetherUsed::Issued);
        ensure!(is_back, "it isn't");
        Ok(())
    })
    .await?;
    say("and takes it back", "the coupon can be used again");
    Ok(())
}
