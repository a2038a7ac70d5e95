//! `sagactl topics`: the topics of the cluster at `KAFKA_BROKERS`, held against the catalogue.

use anyhow::bail;
use clap::Subcommand;
use messaging::topics::{self, Change, Cluster, Names};
use serde_json::json;
use service_runtime::settings::{Env, KafkaSettings};

use crate::output::{Output, table};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Show what differs from the catalogue. Changes nothing.
    Plan,
    /// Show what differs, and change it.
    Apply {
        /// Don't just show: change it.
        #[arg(long)]
        yes: bool,
    },
}

pub(crate) async fn run(command: &Command, env: &Env, output: Output) -> anyhow::Result<()> {
    let kafka = KafkaSettings::read(env)?;
    let cluster = Cluster::connect(&kafka)?;
    let wanted = topics::wanted(&Names::with_prefix(kafka.topic_prefix.clone()));
    let changes = cluster.plan(&wanted).await?;
    show(&changes, output);
    match command {
        Command::Plan => Ok(()),
        Command::Apply { yes: true } => cluster.apply(&changes).await,
        Command::Apply { yes: false } if changes.is_empty() => Ok(()),
        Command::Apply { yes: false } => bail!("nothing was changed: say --yes to change it"),
    }
}

fn show(changes: &[Change], output: Output) {
    match output {
        Output::Json => println!("{}", json!({ "changes": changes })),
        Output::Tables if changes.is_empty() => println!("the cluster is as the catalogue says"),
        Output::Tables => println!("{}", table(&["change", "topic", "details"], changes.iter().map(row))),
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
