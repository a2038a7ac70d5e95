//! `bench`: the rows of docs/speed.md, each against its bare limit in the same run: interleaved pairs, medians and
//! spread. `bench relay` runs one row.
//!
//! It brings programs, databases and topics of its own; the real parts have to be up.

#![expect(clippy::disallowed_methods, reason = "who measures waits for what it starts")]

mod consumer;
mod gate;
mod http;
mod issuing;
mod locks;
mod processes;
mod ranking;
mod relay;
mod saga;
mod sale;
mod table;
mod tracing;

use std::{path::PathBuf, process::ExitCode};

use anyhow::Context;
use clap::{Parser, ValueEnum};
use system::{Settings, suite::logs_of_this_process};
use table::Row;

/// The benchmarks of the commerce suite.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    /// What to measure; everything, when nothing is named.
    benches: Vec<Bench>,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Bench {
    /// Outbox rows to Kafka, against kafka-producer-perf-test.
    Relay,
    /// Events applied, against a bare PostgreSQL loop.
    Consumer,
    /// Orders to CONFIRMED: latency at 200/s, and how many a second.
    Saga,
    /// Memory and start of each process.
    Processes,
    /// Ranking reads, against an empty handler.
    Ranking,
    /// A first-come coupon sale, against the bare gate; sold out, against an empty handler.
    Sale,
    /// Coupons issued from the topic, against a bare loop.
    Issuing,
    /// The sale against one under a database lock and one under a Redis lock; ranks against a set.
    Locks,
    /// Orders a second with traces on, against off.
    Tracing,
}

#[tokio::main(worker_threads = 2)]
async fn main() -> ExitCode {
    let mut arguments = Arguments::parse();
    if arguments.benches.is_empty() {
        arguments.benches = Bench::value_variants().to_vec();
    }
    let outcome = run(&arguments).await;
    let _ = std::fs::remove_dir_all(logs_of_this_process());
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut rows: Vec<Row> = Vec::new();
    for bench in &arguments.benches {
        println!("measuring: {bench:?} …");
        let measured = match bench {
            Bench::Relay => relay::measure().await,
            Bench::Consumer => consumer::measure().await,
            Bench::Saga => saga::measure().await,
            Bench::Processes => processes::measure().await,
            Bench::Ranking => ranking::measure().await,
            Bench::Sale => sale::measure().await,
            Bench::Issuing => issuing::measure().await,
            Bench::Locks => locks::measure().await,
            Bench::Tracing => tracing::measure().await,
        };
        rows.extend(measured.with_context(|| format!("measuring {bench:?}"))?);
    }
    println!("{}", table::table(&rows));
    if let Some(file) = &arguments.json {
        let text = serde_json::to_string_pretty(&rows).context("figures")?;
        std::fs::write(file, text).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Beside this program lie the others, built alike. Traces are a row of their own: Zipkin itself runs on the
/// same cores, and would be most of what is measured.
fn settings() -> Settings {
    let me = std::env::current_exe().unwrap_or_default();
    let bin_dir = me.parent().map(PathBuf::from).unwrap_or_default();
    let variables = vec![("OTEL_TRACES_EXPORTER".to_owned(), "none".to_owned())];
    Settings { bin_dir, variables, ..Settings::default() }
}
