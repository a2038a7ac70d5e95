//! Looking at dead letters. Changes nothing.

use anyhow::bail;
use clap::Args;
use common_events::Service;
use futures::future::join_all;
use serde_json::Value;

use super::{Answers, DEAD_LETTERS, Filter, Whose, act, items};
use crate::{
    client::{Question, Services},
    output::{Output, field, printable, short, table},
};

/// What a page of the services' lists holds at most.
const PAGE: usize = 200;
/// How much of a message a table shows, in characters.
const MESSAGE_CHARS: usize = 60;

#[derive(Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(super) whose: Whose,
    #[command(flatten)]
    filter: Filter,
    /// So many of each service, at most.
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Args)]
pub(crate) struct Groups {
    #[command(flatten)]
    pub(super) whose: Whose,
}

#[derive(Args)]
pub(crate) struct Replays {
    #[command(flatten)]
    pub(super) whose: Whose,
}

#[derive(Args)]
pub(crate) struct Show {
    #[command(flatten)]
    pub(super) whose: Whose,
    /// The dead letter's id.
    id: String,
}

impl List {
    pub(super) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let asked = services.names().map(async |service| (service, self.list_of(services, service).await));
        let answers = Answers::of(join_all(asked).await);
        match output {
            Output::Json => println!("{}", answers.as_json()),
            Output::Tables => {
                let header =
                    ["service", "id", "state", "topic", "key", "error class", "attempts", "last failed", "error"];
                println!("{}", table(&header, answers.items().map(|(service, item)| row(service, item))));
                for (service, list) in &answers.good {
                    if list.get("nextCursor").is_some() {
                        println!("{service} has more: --limit");
                    }
                }
            }
        }
        answers.complete()
    }

    /// Page after page, until there are enough.
    async fn list_of(&self, services: &Services, service: Service) -> crate::client::Answer {
        let mut all: Vec<Value> = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let wanted = (self.limit - all.len()).min(PAGE);
            let mut question = Question::get(DEAD_LETTERS).with("limit", wanted);
            for (name, value) in self.filter.said() {
                question = question.with(name, value);
            }
            if let Some(cursor) = &cursor {
                question = question.with("cursor", cursor);
            }
            let page = services.ask(service, &question).await?;
            all.extend(items(&page).cloned());
            cursor = page.get("nextCursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || all.len() >= self.limit {
                let mut list = serde_json::json!({ "items": all });
                if let Some(cursor) = cursor {
                    list["nextCursor"] = cursor.into();
                }
                return Ok(list);
            }
        }
    }
}

fn row(service: Service, item: &Value) -> [String; 9] {
    [
        service.to_string(),
        field(item, "id"),
        field(item, "state"),
        field(item, "topic"),
        field(item, "key"),
        field(item, "errorClass"),
        field(item, "attempts"),
        field(item, "lastFailedAt"),
        short(&field(item, "errorMessage"), MESSAGE_CHARS),
    ]
}

impl Groups {
    pub(super) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let answers = Answers::of(services.ask_all(&Question::get(format!("{DEAD_LETTERS}/groups"))).await);
        match output {
            Output::Json => println!("{}", answers.as_json()),
            Output::Tables => {
                let rows = answers.items().map(|(service, group)| {
                    let [class, topic, count, first, last] =
                        ["errorClass", "topic", "count", "firstFailedAt", "lastFailedAt"]
                            .map(|name| field(group, name));
                    [service.to_string(), class, topic, count, first, last]
                });
                let header = ["service", "error class", "topic", "count", "first failed", "last failed"];
                println!("{}", table(&header, rows));
            }
        }
        answers.complete()
    }
}

impl Replays {
    pub(super) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let answers = Answers::of(services.ask_all(&Question::get("/admin/replays")).await);
        match output {
            Output::Json => println!("{}", answers.as_json()),
            Output::Tables => act::show_replays(answers.items()),
        }
        answers.complete()
    }
}

impl Show {
    pub(super) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let question = Question::get(format!("{DEAD_LETTERS}/{}", self.id));
        let Answers { good, mut bad } = Answers::of(services.ask_all(&question).await);
        // Who has it has answered; that others don't, or are away, is no matter then.
        if let Some((service, letter)) = good.first() {
            match output {
                Output::Json => println!("{letter}"),
                Output::Tables => show(*service, letter),
            }
            return Ok(());
        }
        bad.retain(|(_, trouble)| !trouble.is_not_found());
        Answers { good, bad }.complete()?;
        bail!("no service has a dead letter {}", self.id)
    }
}

/// Every field on a line of its own; what is no text as JSON.
fn show(service: Service, letter: &Value) {
    println!("{:<18} {service}", "service");
    for (name, value) in letter.as_object().into_iter().flatten() {
        match value {
            Value::Null => {}
            Value::String(text) if name == "payload" => println!("{name}\n{}", printable(&pretty(text))),
            Value::String(text) => println!("{name:<18} {}", printable(text)),
            Value::Array(_) | Value::Object(_) => println!("{name}\n{}", printable(&format!("{value:#}"))),
            Value::Bool(_) | Value::Number(_) => println!("{name:<18} {value}"),
        }
    }
}

/// A payload that is JSON, with line breaks; any other as it is.
fn pretty(payload: &str) -> String {
    serde_json::from_str::<Value>(payload).map_or_else(|_| payload.to_owned(), |json| format!("{json:#}"))
}
