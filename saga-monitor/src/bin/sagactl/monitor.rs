//! What saga-monitor knows (docs/contract.md §7): sagas, where an event is, lag, alarms, events.

use anyhow::Context;
use chrono::{DateTime, SecondsFormat, Utc};
use clap::{Args, Subcommand};
use common_events::{EventId, Service, TraceId};
use saga_monitor::{
    alarm::{AlarmKind, AlarmState},
    domain::State,
    flows::Flow,
};
use serde_json::{Value, json};
use service_runtime::http::{Id, Limit};

use crate::{
    client::{Question, Services},
    output::{Output, field, short, table},
};

/// How much of a long text a table shows.
const SHOWN_CHARS: usize = 100;

/// How long a list is.
#[derive(Args)]
struct Paged {
    /// At most so many: 1 to 200.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=i64::from(Limit::MAX)))]
    limit: Option<u16>,
    /// The `nextCursor` of the page before.
    #[arg(long)]
    cursor: Option<String>,
}

impl Paged {
    fn on(&self, question: Question) -> Question {
        let question = with(question, "limit", self.limit);
        with(question, "cursor", self.cursor.as_ref())
    }
}

#[derive(Args)]
pub(crate) struct Sagas {
    /// `IN_PROGRESS`, `COMPLETED`, `COMPENSATING`, `COMPENSATED` or `FAILED`.
    #[arg(long)]
    state: Option<State>,
    /// order or coupon-issue.
    #[arg(long = "type")]
    flow: Option<Flow>,
    /// Only those that don't move.
    #[arg(long)]
    stuck: bool,
    /// Only those in which something doesn't match.
    #[arg(long)]
    mismatched: bool,
    /// Only those that haven't moved for so long, such as 10m.
    #[arg(long, value_name = "AGE")]
    older_than: Option<String>,
    #[command(flatten)]
    paged: Paged,
}

#[derive(Subcommand)]
pub(crate) enum Saga {
    /// Show one, step by step.
    Show {
        /// An order's id, the id of a request's event, or a trace.
        key: String,
    },
    /// Ask whoever owes an answer for it again.
    Resume {
        /// An order's id, the id of a request's event, or a trace.
        key: String,
        /// Why; it is written into the audit log.
        #[arg(long)]
        reason: String,
    },
}

#[derive(Args)]
pub(crate) struct Where {
    /// The event's id.
    event: EventId,
}

#[derive(Args)]
pub(crate) struct Lag {
    /// Only of this group.
    #[arg(long)]
    group: Option<Service>,
}

#[derive(Args)]
pub(crate) struct Alarms {
    /// OPEN, ACKNOWLEDGED or CLOSED.
    #[arg(long)]
    state: Option<AlarmState>,
    /// stuck, mismatched, dead-letter, lag or outbox.
    #[arg(long)]
    kind: Option<AlarmKind>,
    /// Take this one on instead.
    #[arg(long, value_name = "ALARM", conflicts_with_all = ["state", "kind"])]
    ack: Option<Id>,
    #[command(flatten)]
    paged: Paged,
}

#[derive(Args)]
pub(crate) struct Events {
    /// Not before this, such as 2026-11-21T06:00:00Z.
    #[arg(long)]
    from: Option<DateTime<Utc>>,
    /// Before this.
    #[arg(long)]
    to: Option<DateTime<Utc>>,
    /// Only of this trace.
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<TraceId>,
    /// Only with this key.
    #[arg(long)]
    key: Option<String>,
    /// Only of this type.
    #[arg(long = "type")]
    event_type: Option<String>,
    #[command(flatten)]
    paged: Paged,
}

impl Sagas {
    pub(crate) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let question = with(Question::get("/api/sagas"), "state", self.state);
        let question = with(question, "type", self.flow);
        let question = with(question, "stuck", self.stuck.then_some(true));
        let question = with(question, "mismatched", self.mismatched.then_some(true));
        let question = with(question, "olderThan", self.older_than.as_ref());
        let page = ask(services, &self.paged.on(question)).await?;
        show_page(output, &page, &["type", "key", "state", "waits for", "trouble", "last progress"], |saga| {
            [
                field(saga, "type"),
                field(saga, "key"),
                field(saga, "state"),
                waiting_for(saga),
                trouble(saga),
                field(saga, "lastProgressAt"),
            ]
        });
        Ok(())
    }
}

impl Saga {
    pub(crate) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        match self {
            Self::Show { key } => {
                let saga = ask(services, &Question::get(format!("/api/sagas/{key}"))).await?;
                match output {
                    Output::Json => println!("{saga}"),
                    Output::Tables => show_saga(&saga),
                }
            }
            Self::Resume { key, reason } => {
                let question = Question::post(format!("/api/sagas/{key}/resume"), json!({"reason": reason}));
                let resumed = ask(services, &question).await?;
                match output {
                    Output::Json => println!("{resumed}"),
                    Output::Tables => {
                        show_table(&resumed["asked"], &["group", "is asked again about", "event", "owes"], |asked| {
                            [
                                field(asked, "group"),
                                field(asked, "eventType"),
                                field(asked, "eventId"),
                                field(asked, "owes"),
                            ]
                        });
                    }
                }
            }
        }
        Ok(())
    }
}

impl Where {
    pub(crate) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let found = ask(services, &Question::get(format!("/api/where/{}", self.event))).await?;
        match output {
            Output::Json => println!("{found}"),
            Output::Tables if found["state"] == "nowhere" => {
                println!("nowhere: on no topic, and unknown to every group");
            }
            Output::Tables => {
                if found["topic"].is_string() {
                    println!("{} {}/{}", field(&found, "topic"), field(&found, "partition"), field(&found, "offset"));
                }
                show_table(&found["groups"], &["group", "is", "tier", "due", "behind"], |group| {
                    ["group", "state", "tier", "dueAt", "behind"].map(|name| field(group, name))
                });
            }
        }
        Ok(())
    }
}

impl Lag {
    pub(crate) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let consumers = ask(services, &with(Question::get("/api/consumers"), "group", self.group)).await?;
        if output == Output::Json {
            println!("{consumers}");
            return Ok(());
        }
        let header = ["group", "topic", "partition", "committed", "end", "lag", "handled/s", "p50 ms", "p99 ms"];
        show_table(&consumers["items"], &header, |item| {
            [
                field(item, "group"),
                field(item, "topic"),
                field(item, "partition"),
                field(item, "committedOffset"),
                field(item, "endOffset"),
                field(item, "lag"),
                number(&item["handleRate"]),
                number(&item["latency"]["p50Ms"]),
                number(&item["latency"]["p99Ms"]),
            ]
        });
        show_table(&consumers["services"], &["service", "up", "members", "memory MB", "cores"], |service| {
            let megabytes = service["memoryBytes"].as_f64().map_or(Value::Null, |bytes| json!(bytes / 1e6));
            [
                field(service, "service"),
                field(service, "up"),
                field(service, "members"),
                number(&megabytes),
                number(&service["cpuCores"]),
            ]
        });
        Ok(())
    }
}

impl Alarms {
    pub(crate) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        if let Some(id) = &self.ack {
            let alarm = ask(services, &Question::post(format!("/api/alarms/{id}/ack"), json!({}))).await?;
            match output {
                Output::Json => println!("{alarm}"),
                Output::Tables => {
                    println!("{} is looked after by {}", field(&alarm, "id"), field(&alarm, "acknowledgedBy"));
                }
            }
            return Ok(());
        }
        let question = with(Question::get("/api/alarms"), "state", self.state);
        let question = with(question, "kind", self.kind);
        let page = ask(services, &self.paged.on(question)).await?;
        show_page(output, &page, &["id", "kind", "state", "cause", "count", "since", "what"], |alarm| {
            [
                field(alarm, "id"),
                field(alarm, "kind"),
                field(alarm, "state"),
                field(alarm, "cause"),
                field(alarm, "count"),
                field(alarm, "openedAt"),
                short(&field(alarm, "title"), SHOWN_CHARS),
            ]
        });
        Ok(())
    }
}

impl Events {
    pub(crate) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
        let question = with(Question::get("/api/events"), "from", self.from.map(time));
        let question = with(question, "to", self.to.map(time));
        let question = with(question, "traceId", self.trace_id);
        let question = with(question, "key", self.key.as_ref());
        let question = with(question, "type", self.event_type.as_ref());
        let page = ask(services, &self.paged.on(question)).await?;
        show_page(output, &page, &STEPS, step);
        Ok(())
    }
}

const STEPS: [&str; 7] = ["at", "service", "step", "status", "event", "id", "place"];

fn step(step: &Value) -> [String; 7] {
    let place = format!("{}/{}/{}", field(step, "topic"), field(step, "partition"), field(step, "offset"));
    let [at, service, name, status, event, id] =
        ["at", "service", "step", "status", "eventType", "eventId"].map(|name| field(step, name));
    [at, service, name, status, event, id, place]
}

fn show_saga(saga: &Value) {
    println!("{} {}: {}", field(saga, "type"), field(saga, "key"), field(saga, "state"));
    println!("waits for {}; {}; trace {}", waiting_for(saga), trouble(saga), field(saga, "zipkinUrl"));
    for mismatch in saga["mismatches"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        println!("doesn't match: {mismatch}");
    }
    show_table(&saga["steps"], &STEPS, step);
}

fn waiting_for(saga: &Value) -> String {
    match &saga["waitingFor"] {
        Value::Null => "-".to_owned(),
        owed => format!("{} of {}", field(owed, "event"), field(owed, "from")),
    }
}

fn trouble(saga: &Value) -> String {
    let stuck = (saga["stuck"] == true).then(|| format!("stuck ({})", field(saga, "cause")));
    let mismatched = (saga["mismatched"] == true).then(|| "mismatched".to_owned());
    let said: Vec<String> = stuck.into_iter().chain(mismatched).collect();
    if said.is_empty() { "-".to_owned() } else { said.join(", ") }
}

fn number(value: &Value) -> String {
    value.as_f64().map_or_else(|| "-".to_owned(), |number| format!("{number:.1}"))
}

fn with(question: Question, name: &'static str, value: Option<impl std::fmt::Display>) -> Question {
    match value {
        Some(value) => question.with(name, value),
        None => question,
    }
}

async fn ask(services: &Services, question: &Question) -> anyhow::Result<Value> {
    services.ask(Service::SagaMonitor, question).await.context("saga-monitor")
}

fn show_page<const N: usize>(output: Output, page: &Value, header: &[&str; N], row: impl Fn(&Value) -> [String; N]) {
    match output {
        Output::Json => println!("{page}"),
        Output::Tables => {
            show_table(&page["items"], header, row);
            if let Some(cursor) = page["nextCursor"].as_str() {
                println!("there is more: --cursor {cursor}");
            }
        }
    }
}

fn show_table<const N: usize>(items: &Value, header: &[&str; N], row: impl Fn(&Value) -> [String; N]) {
    println!("{}", table(header, items.as_array().into_iter().flatten().map(row)));
}
