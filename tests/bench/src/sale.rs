//! A first-come sale of the real service: against the bare gate, and sold out against an empty handler.

use anyhow::{Context, ensure};
use common_events::Service;
use load::{
    Live,
    sale::{self, Empty, Held, Rush, Sale, SaleTally},
};
use system::{
    Suite,
    shop::{CouponMode, Discount, NewCoupon},
    suite::Instance,
};

use crate::{
    gate::BareGate,
    settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;
const COLD_STARTS: usize = 3;
/// The mark to beat does a quarter in its first sale of what it does later.
const COLD_SHARE: f64 = 0.5;
const USERS: u32 = 50_000;
const REPEATS: u32 = 5_000;
const QUANTITY: u32 = 10_000;
const CONNECTIONS: u32 = 64;
/// Of these everybody is admitted.
const DURABLE: u32 = 20_000;
/// Who come when all is gone.
const TOO_LATE: u32 = 100_000;
const GONE: u16 = 410;
/// Enough to have run every path.
const WARM_UP: u32 = 5_000;
/// `USER_HZ`, which Linux has fixed for programs.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    let mut gate = BareGate::like_one_of(&suite, CouponMode::Set, QUANTITY.into()).await?;
    let mut figures = Figures::default();
    for _ in 0..COLD_STARTS {
        suite.terminate(Service::Coupon, Instance::First).await?;
        suite.run(Service::Coupon).await?;
        let tally = whole_sale(&suite).await?.tally;
        println!("  cold: {:.0} answers/s, {}", tally.per_second(), tally.latencies());
        figures.cold.push(tally.per_second());
    }
    for _ in 0..PAIRS {
        figures.note_warm(&suite).await?;
        figures.bare.push(gate.answers_per_second(USERS + REPEATS, USERS, CONNECTIONS).await?);
        figures.note_durable(&suite).await?;
        figures.bare_again.push(gate.answers_per_second(USERS + REPEATS, USERS, CONNECTIONS).await?);
    }
    gate.close().await?;
    figures.judge(&suite).await?;
    sold_out(&suite, &mut figures).await?;
    Ok(figures.rows())
}

#[derive(Default)]
struct Figures {
    cold: Samples,
    warm: Samples,
    bare: Samples,
    p99: Samples,
    cpu: Samples,
    durable: Samples,
    bare_again: Samples,
    sold_out: Samples,
    empty: Samples,
    last: Option<(Sale, Rush, SaleTally)>,
}

impl Figures {
    async fn note_warm(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let before = cpu_seconds(suite.pid(Service::Coupon)?)?;
        let Outcome { sale, rush, tally } = whole_sale(suite).await?;
        let cpu = cpu_seconds(suite.pid(Service::Coupon)?)? - before;
        println!(
            "  warm: {:.0} answers/s, {}, {cpu:.2} CPU seconds of the service, {:.1} µs of the tool per request",
            tally.per_second(),
            tally.latencies(),
            tally.cpu_per_request().as_secs_f64() * 1_000_000.0
        );
        self.warm.push(tally.per_second());
        self.p99.push(tally.latencies().p99);
        self.cpu.push(cpu);
        self.last = Some((sale, rush, tally));
        Ok(())
    }

    async fn note_durable(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let tally = hold(suite, DURABLE, Rush::of(DURABLE, CONNECTIONS)).await?.tally;
        ensure!(tally.admissions.len() == DURABLE as usize, "{:?}", tally.answers);
        println!("  everybody admitted: {:.0} durable 202/s, {}", tally.admitted_per_second(), tally.latencies());
        self.durable.push(tally.admitted_per_second());
        Ok(())
    }

    /// A fast sale that is wrong is no sale: everybody of the last one is asked what he holds.
    async fn judge(&mut self, suite: &Suite) -> anyhow::Result<()> {
        let (sale, rush, tally) = self.last.take().context("a sale")?;
        let verdict = sale::judge(&suite.shop, &sale, &rush, &tally).await?;
        ensure!(verdict.is_right(), "{:?}", verdict.wrong);
        println!("  {} of {} issued, one each, every 202 accounted for", verdict.issued, verdict.quantity);
        Ok(())
    }

    fn rows(self) -> Vec<Row> {
        let row = |what: &str, unit, ours, bare, goal| Row { what: what.to_owned(), unit, ours, bare, goal };
        let warm = Samples(self.warm.0.clone());
        vec![
            row("sale: answers, against bare EVALSHA", "answers/s", self.warm, Some(self.bare), Goal::AtLeast(0.15)),
            row("sale: p99 of the answers", "ms", self.p99, None, Goal::AtMost(30.0)),
            row("sale: CPU of coupon-service for the run", "s", self.cpu, None, Goal::AtMost(2.2)),
            row("sale: cold, against warm", "answers/s", self.cold, Some(warm), Goal::AtLeast(COLD_SHARE)),
            row(
                "sale: durable 202, against bare EVALSHA",
                "202/s",
                self.durable,
                Some(self.bare_again),
                Goal::AtLeast(0.1),
            ),
            row("sold out, against an empty handler", "answers/s", self.sold_out, Some(self.empty), Goal::AtLeast(0.8)),
        ]
    }
}

/// What a sale was, and what came of it.
pub(crate) struct Outcome {
    sale: Sale,
    rush: Rush,
    tally: SaleTally,
}

/// Everybody asks, a tenth of them twice, for a coupon that every fifth can get.
pub(crate) async fn whole_sale(suite: &Suite) -> anyhow::Result<Outcome> {
    hold(suite, QUANTITY, Rush { repeats: REPEATS, ..Rush::of(USERS, CONNECTIONS) }).await
}

async fn hold(suite: &Suite, quantity: u32, rush: Rush) -> anyhow::Result<Outcome> {
    let sale = open(suite, quantity.into()).await?;
    let Held { tally, issuing } = sale::hold(&suite.shop, &sale, &rush, &Live::default()).await?;
    ensure!(issuing.drained_after.is_some(), "coupons are missing; {:?}", tally.answers);
    let issued = suite.shop.coupon(&sale.coupon).await?.issued;
    ensure!(issued == i64::from(quantity), "{issued} of {quantity} are issued; {:?}", tally.answers);
    Ok(Outcome { sale, rush, tally })
}

async fn open(suite: &Suite, quantity: i64) -> anyhow::Result<Sale> {
    let new = NewCoupon::of(CouponMode::Set, quantity, Discount::Amount { value: 1_000 });
    let coupon = suite.shop.admin().create_coupon(&new).await?;
    Ok(Sale::of(&suite.shop, coupon.coupon_id, quantity))
}

/// The same client asks a sold-out coupon and an empty handler in turns.
async fn sold_out(suite: &Suite, figures: &mut Figures) -> anyhow::Result<()> {
    let sale = open(suite, 1).await?;
    sale::hold(&suite.shop, &sale, &Rush::of(WARM_UP, CONNECTIONS), &Live::default()).await?;
    let empty = Empty::start(GONE)?;
    let nothing = Sale { url: format!("http://{}", empty.address()), ..sale.clone() };
    for pair in 0..PAIRS {
        let late = Sale { run: format!("late-{pair}"), ..sale.clone() };
        figures.sold_out.push(ask_too_late(&late).await?);
        figures.empty.push(ask_too_late(&nothing).await?);
    }
    empty.stop().await
}

async fn ask_too_late(sale: &Sale) -> anyhow::Result<f64> {
    let tally = sale::ask_all(sale, &Rush::of(TOO_LATE, CONNECTIONS), &Live::default()).await?;
    ensure!(tally.answers.of(sale::Kind::SoldOut) == u64::from(TOO_LATE), "{:?}", tally.answers);
    println!("  {}: {:.0} answers/s, {}", sale.url, tally.per_second(), tally.latencies());
    Ok(tally.per_second())
}

/// User and system time of a process so far.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the process's figures")?;
    // The name in brackets may hold anything; utime and stime are the 14th and 15th field of all.
    let (_, fields) = stat.rsplit_once(") ").context("fields")?;
    let ticks: Vec<f64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
    ensure!(ticks.len() == 2, "{stat}");
    Ok(ticks.iter().sum::<f64>() / TICKS_PER_SECOND)
}
