//! `sagactl`: the operators' command line. Tables for people, `--json` for programs; exit code 0 done,
//! 1 failed, 2 usage.
//!
//! So far it knows the topics. It is a thin client: what it shows and does belongs to others.

use std::process::ExitCode;

use anyhow::bail;
use clap::{Parser, Subcommand};
use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use messaging::topics::{self, Change, Cluster, Names};
use serde_json::json;
use service_runtime::settings::{Env, KafkaSettings};

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
    Topics(Topics),
}

#[derive(Subcommand)]
enum Topics {
    /// Show what differs from the catalogue. Changes nothing.
    Plan,
    /// Show what differs, and change it.
    Apply {
        /// Don't just show: change it.
        #[arg(long)]
        yes: bool,
    },
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
    let kafka = KafkaSettings::read(&Env::process())?;
    let cluster = Cluster::connect(&kafka)?;
    let wanted = topics::wanted(&Names::with_prefix(kafka.topic_prefix.clone()));
    let changes = cluster.plan(&wanted).await?;
    show(&changes, arguments.json);
    match &arguments.command {
        Command::Topics(Topics::Plan) => Ok(()),
        Command::Topics(Topics::Apply { yes: true }) => cluster.apply(&changes).await,
        Command::Topics(Topics::Apply { yes: false }) if changes.is_empty() => Ok(()),
        Command::Topics(Topics::Apply { yes: false }) => bail!("nothing was changed: say --yes to change it"),
    }
}

fn show(changes: &[Change], as_json: bool) {
    if as_json {
        println!("{}", json!({ "changes": changes }));
    } else if changes.is_empty() {
        println!("the cluster is as the catalogue says");
    } else {
        let mut table = Table::new();
        table.load_style(UTF8_FULL_CONDENSED).set_header(["change", "topic", "details"]);
        for change in changes {
            table.add_row(row(change));
        }
        println!("{table}");
    }
}

fn row(change: &Change) -> [String; 3] {
    match change {
        Change::Create(wanted) => {
            let config: Vec<String> = wanted.config.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let details = format!("{} partitions, {}", wanted.partitions, config.join(", "));
            ["create".to_owned(), wanted.name.clone(), details]
        }
        Change::Grow { topic, from, to } => {
            ["grow".to_owned(), topic.clone(), format!("{from} → {to} partitions; keys move to other partitions")]
        }
        Change::Configure { wanted, now, others: _ } => {
            let config: Vec<String> =
                now.iter().map(|(key, value)| format!("{key}: {value} → {}", wanted.config[key])).collect();
            ["configure".to_owned(), wanted.name.clone(), config.join(", ")]
        }
    }
}
