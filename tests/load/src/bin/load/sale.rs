//! `load sale`: many users, few coupons.

use std::{path::PathBuf, time::Duration};

use anyhow::Context;
use clap::{Args, ValueEnum};
use load::{
    Live,
    sale::{self, Ceiling, Kind, Pace, Persistence, Report, Rush, SaleTally},
};
use system::{
    Shop, Urls,
    shop::{CouponMode, Discount, NewCoupon},
};

use crate::Outcome;

/// Won off, of the coupons that are sold here.
const DISCOUNT: i64 = 1_000;
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(crate) struct Sale {
    /// Different users; each asks once.
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1..=5_000_000))]
    users: u32,
    /// Requests beyond that, by users who ask again; a tenth of the users, unless it is said.
    #[arg(long, value_parser = clap::value_parser!(u32).range(0..=5_000_000))]
    repeats: Option<u32>,
    /// Requests under way at once.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// How many coupons there are.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(i64).range(1..=1_000_000_000))]
    quantity: i64,
    /// How the gate counts: users only, or with a rank for each.
    #[arg(long, value_enum, default_value_t = Mode::Set)]
    mode: Mode,
    /// Requests a second, in an open loop: latencies count from the planned time. Without it the loop is closed:
    /// each connection asks again as soon as it was answered.
    #[arg(long, value_parser = crate::positive)]
    rate: Option<f64>,
    /// Who gets 503 or no answer asks again, for so long at most.
    #[arg(long, value_parser = crate::duration)]
    persistent: Option<Duration>,
    /// Where coupon-service listens.
    #[arg(long, env = "COUPON_SERVICE_URL", default_value = "http://127.0.0.1:8083")]
    url: String,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Where they go as a page, with plots.
    #[arg(long)]
    html: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Mode {
    Set,
    Ranked,
}

impl Mode {
    const fn of_the_coupon(self) -> CouponMode {
        match self {
            Self::Set => CouponMode::Set,
            Self::Ranked => CouponMode::Ranked,
        }
    }
}

pub(crate) async fn hold(arguments: &Sale) -> anyhow::Result<Outcome> {
    let rush = Rush {
        users: arguments.users,
        repeats: arguments.repeats.unwrap_or(arguments.users / 10),
        connections: arguments.connections,
        pace: arguments.rate.map_or(Pace::Closed, Pace::Open),
        persistence: arguments.persistent.map_or(Persistence::AsksOnce, Persistence::AsksAgainFor),
    };
    let shop = Shop::at(Urls { coupon: arguments.url.clone(), ..Urls::from_env() });
    let ceiling = Ceiling::measure(rush.connections).await.context("measuring this tool")?;
    let mode = arguments.mode.of_the_coupon();
    let new = NewCoupon::of(mode, arguments.quantity, Discount::Amount { value: DISCOUNT });
    let coupon = shop.admin().create_coupon(&new).await.context("making the coupon")?;
    let sale = sale::Sale::of(&shop, coupon.coupon_id, arguments.quantity);
    announce(arguments, &sale, &rush);

    let before = service_cpu(&shop).await;
    let live = Live::default();
    let progress = tokio::spawn(show_progress(live.clone()));
    let held = sale::hold(&shop, &sale, &rush, &live).await;
    progress.abort();
    let held = held.context("the sale")?;
    let spent = before.zip(service_cpu(&shop).await).map(|(before, after)| after - before);
    println!("\nasking everybody for his claim …");
    let verdict = sale::judge(&shop, &sale, &rush, &held.tally).await.context("the verdict")?;
    let is_right = verdict.is_right();
    let report = Report::of((&sale, mode.name(), &rush), &held, spent, ceiling, verdict);
    println!("{report}");
    if let Some(file) = &arguments.json {
        crate::write_json(file, &report)?;
    }
    if let Some(file) = &arguments.html {
        crate::write(file, &report.to_html().context("the page")?)?;
        println!("the page with the plots is {}", file.display());
    }
    Ok(if is_right { Outcome::Right } else { Outcome::Wrong })
}

fn announce(arguments: &Sale, sale: &sale::Sale, rush: &Rush) {
    println!(
        "{} coupons ({:?} mode, {}), {} users and {} repeats over {} connections",
        sale.quantity, arguments.mode, sale.coupon, rush.users, rush.repeats, rush.connections
    );
    match rush.pace {
        Pace::Closed => println!("closed loop: each connection asks again as soon as it was answered"),
        Pace::Open(rate) => println!("open loop: {rate} requests a second, latencies count from the planned time"),
    }
}

/// As far as the service tells.
async fn service_cpu(shop: &Shop) -> Option<f64> {
    shop.figure(&shop.urls().coupon, "process_cpu_seconds_total").await.ok()
}

async fn show_progress(live: Live<SaleTally>) {
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.tick().await;
    let mut before = 0;
    for second in 1_u64.. {
        tick.tick().await;
        let (asked, answers) = live.look(|tally| (tally.asked, tally.answers));
        let count = answers.count();
        let of = |kind| answers.of(kind);
        let others = count - of(Kind::Admitted) - of(Kind::HasItAlready) - of(Kind::SoldOut);
        println!(
            "{second:>4} s  asked {asked:>8}  202 {:>7}  409 {:>6}  410 {:>8}  other {others:>5}  silent {:>4}  answers/s {:>7}",
            of(Kind::Admitted),
            of(Kind::HasItAlready),
            of(Kind::SoldOut),
            of(Kind::Silence),
            count - before,
        );
        before = count;
    }
}
