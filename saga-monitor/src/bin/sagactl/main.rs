//! `sagactl`: the operators' command line. Tables for people, `--json` for programs; exit code 0 done,
//! 1 failed, 2 usage.
//!
//! It is a thin client: what it shows and does belongs to others. Each command is a file.

mod client;
mod dlt;
mod monitor;
mod output;
mod topics;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use service_runtime::settings::Env;

use crate::output::Output;

/// The operators' command line of the commerce suite.
#[derive(Parser)]
#[command(name = "sagactl", version)]
struct Arguments {
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Topics of the cluster at `KAFKA_BROKERS`, held against the catalogue.
    #[command(subcommand)]
    Topics(topics::Command),
    /// Dead letters of all services: at `SERVICE_URLS`, else at their usual ports on this machine. Asks with
    /// `OPERATOR_TOKEN`, else, where services trust headers, as `LOCAL_OPERATOR` or you.
    #[command(subcommand)]
    Dlt(Box<dlt::Command>),
    /// Sagas, the newest first: of saga-monitor at `SERVICE_URLS`, else at its usual port on this machine.
    Sagas(monitor::Sagas),
    /// One saga.
    #[command(subcommand)]
    Saga(monitor::Saga),
    /// Where an event is, for each group that reads it.
    Where(monitor::Where),
    /// How far groups are behind, and how they do.
    Lag(monitor::Lag),
    /// Alarms, the newest first; or take one on.
    Alarms(monitor::Alarms),
    /// What happened between two points in time.
    Events(monitor::Events),
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sagactl: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let env = Env::process();
    let output = if arguments.json { Output::Json } else { Output::Tables };
    match &arguments.command {
        Command::Dlt(command) => dlt::run(command, &env, output).await,
        Command::Sagas(sagas) => sagas.run(&client::monitor(&env)?, output).await,
        Command::Saga(saga) => saga.run(&client::monitor(&env)?, output).await,
        Command::Where(asked) => asked.run(&client::monitor(&env)?, output).await,
        Command::Lag(lag) => lag.run(&client::monitor(&env)?, output).await,
        Command::Alarms(alarms) => alarms.run(&client::monitor(&env)?, output).await,
        Command::Events(events) => events.run(&client::monitor(&env)?, output).await,
        Command::Topics(command) => topics::run(command, &env, output).await,
    }
}
