//! `payment-service`: points, payments, refunds. `payment-service rebuild-balances` holds the ledger
//! against the points topics instead of serving.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use common_events::Service;
use messaging::{Consumer, admin};
use payment_service::{events, http, rebuild, store};
use service_runtime::{Runtime, idempotency};

/// Points, payments, refunds. Without a command: serves.
#[derive(Parser)]
#[command(name = "payment-service", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Adds up the points topics from their beginning and holds the balances against the ledger, and
    /// the ledger against the accounts. Reads only. Exits with 0 when all agree, with 1 when not.
    /// Can run beside the service.
    RebuildBalances {
        /// Makes accounts that differ what the ledger says; refused unless the topics say the same.
        #[arg(long)]
        apply: bool,
    },
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        None => service_runtime::main(Service::Payment, serve),
        Some(Command::RebuildBalances { apply }) => {
            let accounts = if apply { rebuild::Accounts::Repair } else { rebuild::Accounts::Leave };
            service_runtime::main(Service::Payment, async move |runtime| rebuild_balances(runtime, accounts).await)
        }
    }
}

async fn serve(runtime: Runtime) -> anyhow::Result<()> {
    let pool = runtime.database(&[messaging::MIGRATIONS, idempotency::MIGRATIONS, store::MIGRATIONS]).await?;
    let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions())?;
    let served = runtime.serve(admin::beside(&runtime, &consumer, http::routes(pool))).await;
    consumer.stop().await?;
    served
}

async fn rebuild_balances(runtime: Runtime, accounts: rebuild::Accounts) -> anyhow::Result<()> {
    let pool = runtime.database(&[]).await?;
    let report = rebuild::balances(&pool, &runtime.settings.kafka, accounts).await?;
    println!("{report}");
    anyhow::ensure!(report.all_agree(), "topics, ledger and accounts don't agree");
    Ok(())
}
