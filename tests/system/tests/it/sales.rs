//! First-come sales: exactly as many as there are, one each, whatever dies in the middle.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use common_events::{CancelReason, IssuedCouponId, Service, TraceId};
use load::{
    Live,
    sale::{self, Held, Kind, Pace, Persistence, Rush, Sale, SaleTally},
};
use system::{
    Suite, eventually,
    shop::{ClaimStatus, Coupon, CouponMode, Customer, Discount, HeldCoupon, NewCoupon, OrderStatus, WhetherUsed},
};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_mins(1);
const CONNECTIONS: u32 = 64;
pub(crate) const USUAL: Discount = Discount::Amount { value: 5_000 };
/// Kills at each point.
const ROUNDS: i64 = 3;

/// A sale that goes on while a test does harm.
pub(crate) struct Selling {
    sale: Sale,
    rush: Rush,
    live: Live<SaleTally>,
    running: JoinHandle<anyhow::Result<Held>>,
}

impl Selling {
    /// Opens a sale of so many coupons. Whoever gets no decision asks again, for as long as patience lasts.
    pub(crate) async fn begin(suite: &Suite, mode: CouponMode, quantity: i64, rush: Rush) -> anyhow::Result<Self> {
        let coupon = suite.shop.admin().create_coupon(&NewCoupon::of(mode, quantity, USUAL)).await?;
        let sale = Sale::of(&suite.shop, coupon.coupon_id, quantity);
        let rush = Rush { persistence: Persistence::AsksAgainFor(PATIENCE * 3), ..rush };
        let live = Live::default();
        let running = tokio::spawn({
            let (shop, sale, rush, live) = (suite.shop.clone(), sale.clone(), rush.clone(), live.clone());
            async move { sale::hold(&shop, &sale, &rush, &live).await }
        });
        Ok(Self { sale, rush, live, running })
    }

    /// Waits until so many users are admitted.
    pub(crate) async fn until_admitted(&self, wanted: i64) -> anyhow::Result<()> {
        let wanted = u64::try_from(wanted)?;
        self.until("users are admitted", wanted, |tally| tally.answers.of(Kind::Admitted)).await
    }

    /// Waits until so many more requests are sent: time, told by an open loop.
    pub(crate) async fn until_more_asked(&self, more: u64) -> anyhow::Result<()> {
        let wanted = self.live.look(|tally| tally.asked) + more;
        self.until("requests are sent", wanted, |tally| tally.asked).await
    }

    async fn until(&self, what: &str, wanted: u64, count: fn(&SaleTally) -> u64) -> anyhow::Result<()> {
        eventually(what, PATIENCE, async || {
            let now = self.live.look(count);
            ensure!(now >= wanted, "{now} of {wanted}");
            Ok(())
        })
        .await
    }

    /// Lets everybody ask, then holds the outcome against the verdict.
    pub(crate) async fn end(self, suite: &Suite) -> anyhow::Result<SaleTally> {
        let tally = self.running.await.context("the sale")??.tally;
        let verdict = sale::judge(&suite.shop, &self.sale, &self.rush, &tally).await?;
        println!(
            "{:?}; {} of {} issued, {} rejected after a 202",
            tally.answers, verdict.issued, verdict.quantity, verdict.rejected
        );
        ensure!(verdict.is_right(), "{:?}, answers {:?}", verdict.wrong, tally.answers);
        Ok(tally)
    }
}

pub(crate) async fn six_hundred_users_who_ask_nine_hundred_times_get_exactly_the_hundred_coupons(
    suite: &Suite,
) -> anyhow::Result<()> {
    let rush = Rush { repeats: 300, ..Rush::of(600, CONNECTIONS) };
    let selling = Selling::begin(suite, CouponMode::Set, 100, rush).await?;
    let coupon = selling.sale.coupon.clone();
    let tally = selling.end(suite).await?;

    let of = |kind| tally.answers.of(kind);
    ensure!(of(Kind::Admitted) == 100, "{:?}", tally.answers);
    ensure!(of(Kind::HasItAlready) + of(Kind::SoldOut) == 800, "{:?}", tally.answers);
    let database = suite.database(Service::Coupon).await?;
    let sql = "SELECT count(*), count(DISTINCT user_id) FROM issued_coupons WHERE coupon_id = $1";
    let row = database.query_one(sql, &[&coupon.as_str()]).await?;
    ensure!((row.get::<_, i64>(0), row.get::<_, i64>(1)) == (100, 100), "{row:?}");
    let Coupon { admitted, issued, remaining, .. } = suite.shop.coupon(&coupon).await?;
    ensure!((admitted, issued, remaining) == (Some(100), 100, 0), "{admitted:?} {issued} {remaining}");
    Ok(())
}

pub(crate) async fn ranks_are_given_without_gap_and_each_gets_the_reward_of_his_rank(
    suite: &Suite,
) -> anyhow::Result<()> {
    let prizes = BTreeMap::from([(1, 1_000_000), (2, 500_000), (3, 100_000)]);
    let mut new = NewCoupon::of(CouponMode::Ranked, 100, USUAL);
    for (rank, value) in &prizes {
        new = new.reward(*rank, *rank, Discount::Amount { value: *value });
    }
    let coupon = suite.shop.admin().create_coupon(&new).await?;
    let sale = Sale::of(&suite.shop, coupon.coupon_id, 100);
    let rush = Rush { repeats: 300, ..Rush::of(600, CONNECTIONS) };
    let Held { tally, .. } = sale::hold(&suite.shop, &sale, &rush, &Live::default()).await?;
    let verdict = sale::judge(&suite.shop, &sale, &rush, &tally).await?;
    ensure!(verdict.is_right(), "{:?}", verdict.wrong);

    let mut ranks: Vec<i64> = tally.admissions.iter().filter_map(|admission| admission.rank).collect();
    ranks.sort_unstable();
    ensure!(ranks == (1..=100).collect::<Vec<_>>(), "the answers said {ranks:?}");
    for admission in &tally.admissions {
        let rank = admission.rank.context("a rank")?;
        let winner = suite.shop.customer(sale.user(admission.user).as_str());
        let [held] = &winner.coupons().await?[..] else { anyhow::bail!("{} holds several or none", winner.id()) };
        let prize = prizes.get(&rank).map_or(USUAL, |value| Discount::Amount { value: *value });
        ensure!((held.rank, held.discount) == (Some(rank), prize), "rank {rank} got {held:?}");
    }
    Ok(())
}

/// The coupon that this customer asks for and gets, and the trace of that.
pub(crate) async fn gets_a_coupon(
    suite: &Suite,
    customer: &Customer,
    discount: Discount,
) -> anyhow::Result<(IssuedCouponId, TraceId)> {
    let new = NewCoupon::of(CouponMode::Set, 10, discount);
    let coupon = suite.shop.admin().create_coupon(&new).await?.coupon_id;
    let admitted = customer.ask_for(&coupon).await?;
    let issued = eventually("the coupon is issued", PATIENCE, async || {
        let claim = customer.claim(&coupon).await?;
        ensure!(claim.status == ClaimStatus::Issued, "{claim:?}");
        claim.issued_coupon_id.context("an id")
    })
    .await?;
    Ok((issued, admitted.trace_id))
}

async fn until_the_coupon_is(customer: &Customer, id: IssuedCouponId, status: WhetherUsed) -> anyhow::Result<()> {
    eventually(&format!("the coupon is {status:?}"), PATIENCE, async || {
        let held = customer.coupons().await?;
        let found = held.iter().find(|held| held.issued_coupon_id == id).context("it isn't there")?;
        ensure!(found.status == status, "{found:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn an_order_paid_with_a_coupon_and_cancelled_gives_the_coupon_back(
    suite: &Suite,
) -> anyhow::Result<()> {
    let shop = &suite.shop;
    let tea = shop.admin().create_product("Tea", 12_000, 10).await?;
    let kim = shop.new_customer("kim");
    kim.charge(100_000).await?;
    let (coupon, _) = gets_a_coupon(suite, &kim, Discount::Percent { value: 50, max: Some(10_000) }).await?;

    let first = kim.place_order_with(coupon, &[(&tea.product_id, 2)]).await?;
    let first = kim.wait_for(first.order_id).await?;
    ensure!(first.status == OrderStatus::Confirmed, "{first:?}");
    ensure!((first.subtotal, first.discount, first.total) == (24_000, 10_000, 14_000), "{first:?}");
    ensure!(kim.balance().await? == 86_000);
    until_the_coupon_is(&kim, coupon, WhetherUsed::Used).await?;

    let again = kim.place_order_with(coupon, &[(&tea.product_id, 1)]).await?;
    let again = kim.wait_for(again.order_id).await?;
    ensure!((again.status, again.reason) == (OrderStatus::Cancelled, Some(CancelReason::CouponUsed)), "{again:?}");

    kim.cancel(first.order_id).await?;
    until_the_coupon_is(&kim, coupon, WhetherUsed::Issued).await?;
    eventually("the points are back", PATIENCE, async || {
        let balance = kim.balance().await?;
        ensure!(balance == 100_000, "{balance}");
        Ok(())
    })
    .await?;
    let cheap = shop.admin().create_product("Sweet", 1_000, 10).await?;
    let last = kim.place_order_with(coupon, &[(&cheap.product_id, 1)]).await?;
    let last = kim.wait_for(last.order_id).await?;
    ensure!((last.status, last.total) == (OrderStatus::Confirmed, 500), "{last:?}");
    Ok(())
}

pub(crate) async fn somebody_elses_coupon_is_refused_and_the_stock_goes_back(suite: &Suite) -> anyhow::Result<()> {
    let tea = suite.shop.admin().create_product("Tea", 12_000, 10).await?;
    let (kim, lee) = (suite.shop.new_customer("kim"), suite.shop.new_customer("lee"));
    lee.charge(100_000).await?;
    let (coupon, _) = gets_a_coupon(suite, &kim, USUAL).await?;

    let order = lee.place_order_with(coupon, &[(&tea.product_id, 1)]).await?;
    let order = lee.wait_for(order.order_id).await?;

    ensure!((order.status, order.reason) == (OrderStatus::Cancelled, Some(CancelReason::CouponNotOwned)), "{order:?}");
    ensure!(lee.balance().await? == 100_000);
    let [HeldCoupon { status, .. }] = kim.coupons().await?[..] else { anyhow::bail!("kim holds one") };
    ensure!(status == WhetherUsed::Issued);
    eventually("the stock is back", PATIENCE, async || {
        let stock = suite.shop.product(&tea.product_id).await?.stock;
        ensure!(stock == 10, "{stock}");
        Ok(())
    })
    .await
}

/// At full load there are always requests between the gate and Kafka: their users are in, and weren't answered.
/// When they ask again they are told that they are admitted already, and the reconciler publishes for them.
pub(crate) async fn killed_between_gate_and_kafka_at_full_load_nobody_is_lost_and_nobody_served_twice(
    suite: &Suite,
) -> anyhow::Result<()> {
    let mut unanswered = 0;
    for round in 1..=ROUNDS {
        let selling = Selling::begin(suite, CouponMode::Ranked, 3_000, Rush::of(12_000, CONNECTIONS)).await?;
        selling.until_admitted(round * 600).await?;
        suite.kill(Service::Coupon)?;
        suite.run(Service::Coupon).await?;
        unanswered += selling.end(suite).await?.answers.of(Kind::HasItAlready);
    }
    ensure!(unanswered > 0, "nobody was in and unanswered when the service was killed");
    Ok(())
}

/// Killed while the issuer is behind: what is on the topic and not in the database is issued by the next
/// process, and what is in the database and not committed to Kafka is turned away by the inbox.
pub(crate) async fn killed_between_kafka_and_database_at_full_load_nobody_is_lost_and_nobody_served_twice(
    suite: &Suite,
) -> anyhow::Result<()> {
    for round in 1..=ROUNDS {
        let selling = Selling::begin(suite, CouponMode::Set, 3_000, Rush::of(12_000, CONNECTIONS)).await?;
        let coupon = selling.sale.coupon.clone();
        let database = suite.database(Service::Coupon).await?;
        eventually("some coupons are issued, and more are on the topic", PATIENCE, async || {
            let on_topic = selling.live.look(|tally| tally.answers.of(Kind::Admitted));
            let sql = "SELECT issued FROM coupons WHERE coupon_id = $1";
            let issued: i64 = database.query_one(sql, &[&coupon.as_str()]).await?.get(0);
            ensure!(issued >= round * 200 && u64::try_from(issued)? < on_topic, "{issued} of {on_topic}");
            Ok(())
        })
        .await?;
        suite.kill(Service::Coupon)?;
        suite.run(Service::Coupon).await?;
        selling.end(suite).await?;
    }
    Ok(())
}

/// So many users a second, for sales that have to last.
pub(crate) const fn at(per_second: f64, users: u32) -> Rush {
    Rush { pace: Pace::Open(per_second), ..Rush::of(users, CONNECTIONS) }
}
