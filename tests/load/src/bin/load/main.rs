//! `load`: load against the running suite, with a verdict.
//!
//! Exit code 0: all is right, nothing is lost; 1: it isn't, or it couldn't be done; 2: usage.

#![expect(clippy::disallowed_methods, reason = "who measures waits for what it starts")]

mod orders;
mod sale;

use std::{path::Path, process::ExitCode, time::Duration};

use anyhow::Context;
use clap::{Parser, Subcommand};
use serde::Serialize;
use service_runtime::settings::Setting;

/// Load against the commerce suite, which has to trust the header X-User-Id (`AUTH_MODE=header`).
#[derive(Parser)]
#[command(name = "load", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Orders at a fixed rate, from POST /orders to CONFIRMED or CANCELLED.
    Orders(orders::Orders),
    /// A first-come coupon sale, from POST /coupons/{id}/issue to ISSUED.
    Sale(sale::Sale),
}

/// What the verdict says.
enum Outcome {
    Right,
    Wrong,
}

/// One thread is enough for this, and leaves the cores to the suite.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match &Arguments::parse().command {
        Command::Orders(orders) => orders::send(orders).await,
        Command::Sale(sale) => sale::hold(sale).await,
    };
    match outcome {
        Ok(Outcome::Right) => ExitCode::SUCCESS,
        Ok(Outcome::Wrong) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn positive(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "a number".to_owned())?;
    if rate > 0.0 && rate <= 100_000.0 { Ok(rate) } else { Err("above 0, at most 100000".to_owned()) }
}

fn duration(text: &str) -> Result<Duration, String> {
    <Duration as Setting>::parse(text).ok_or_else(|| Duration::MAY_HOLD.to_owned())
}

fn write_json(file: &Path, figures: &impl Serialize) -> anyhow::Result<()> {
    write(file, &serde_json::to_string_pretty(figures).context("figures")?)
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}
