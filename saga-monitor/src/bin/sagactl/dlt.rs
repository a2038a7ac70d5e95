//! `sagactl dlt`: the dead letters of all services, each of which owns its own (docs/contract.md §5).

mod act;
mod look;

use std::fmt;

use clap::{Args, Subcommand, ValueEnum};
use common_events::Service;
use serde_json::{Map, Value, json};
use service_runtime::settings::Env;

use crate::{
    client::{self, Answer, Trouble},
    output::Output,
};

const DEAD_LETTERS: &str = "/admin/dead-letters";

#[derive(Subcommand)]
pub(crate) enum Command {
    /// List dead letters, the latest first.
    List(look::List),
    /// Count them by error class and topic.
    Groups(look::Groups),
    /// Show one, with its payload, its headers, and where to look for its trace.
    Show(look::Show),
    /// Handle them again, or say what that would do (--dry-run).
    Replay(act::Replay),
    /// Close them for good.
    Discard(act::Discard),
    /// How far replays are, the latest first.
    Replays(look::Replays),
}

/// Whose dead letters.
#[derive(Args)]
struct Whose {
    /// Only of this service; can be said several times.
    #[arg(long = "service", value_name = "SERVICE")]
    services: Vec<Service>,
}

/// Which dead letters: all that is said must be so.
#[derive(Args)]
#[group(skip)]
struct Filter {
    /// Where they stand.
    #[arg(long, value_enum, ignore_case = true)]
    state: Option<State>,
    /// Why they are there, such as unprocessable or platform-unavailable.
    #[arg(long, value_name = "CLASS")]
    error_class: Option<String>,
    /// The topic they lay on.
    #[arg(long)]
    topic: Option<String>,
    /// Their key.
    #[arg(long)]
    key: Option<String>,
    /// Their trace.
    #[arg(long, value_name = "TRACE")]
    trace_id: Option<String>,
    /// Their event.
    #[arg(long, value_name = "EVENT")]
    event_id: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum State {
    Dead,
    Parked,
    Replayed,
    Discarded,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Dead => "DEAD",
            Self::Parked => "PARKED",
            Self::Replayed => "REPLAYED",
            Self::Discarded => "DISCARDED",
        }
    }
}

impl Filter {
    /// What is said, under the names of the services' API.
    fn said(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            ("state", self.state.map(|state| state.name().to_owned())),
            ("errorClass", self.error_class.clone()),
            ("topic", self.topic.clone()),
            ("key", self.key.clone()),
            ("traceId", self.trace_id.clone()),
            ("eventId", self.event_id.clone()),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
    }

    fn as_json(&self) -> Value {
        Value::Object(self.said().map(|(name, value)| (name.to_owned(), value.into())).collect::<Map<_, _>>())
    }
}

/// Who didn't answer, or not well; said after what the others said.
#[derive(Debug)]
struct Incomplete(Vec<(Service, Trouble)>);

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not all of it")?;
        self.0.iter().try_for_each(|(service, trouble)| write!(f, "\n  {service}: {trouble}"))
    }
}

impl std::error::Error for Incomplete {}

/// What the services answered, and who didn't answer well.
struct Answers {
    good: Vec<(Service, Value)>,
    bad: Vec<(Service, Trouble)>,
}

impl Answers {
    fn of(answers: Vec<(Service, Answer)>) -> Self {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for (service, answer) in answers {
            match answer {
                Ok(value) => good.push((service, value)),
                Err(trouble) => bad.push((service, trouble)),
            }
        }
        Self { good, bad }
    }

    /// The items of all lists, each with whose it is.
    fn items(&self) -> impl Iterator<Item = (Service, &Value)> {
        self.good.iter().flat_map(|(service, list)| items(list).map(|item| (*service, item)))
    }

    /// One JSON value of all of it: by service, and who failed why.
    fn as_json(&self) -> Value {
        let good = self.good.iter().map(|(service, value)| (service.to_string(), value.clone()));
        let bad = self.bad.iter().map(|(service, trouble)| (service.to_string(), trouble.to_string().into()));
        json!({ "services": good.collect::<Map<_, _>>(), "failed": bad.collect::<Map<_, _>>() })
    }

    /// Not all of it is there when one of them failed.
    fn complete(self) -> anyhow::Result<()> {
        if self.bad.is_empty() { Ok(()) } else { Err(Incomplete(self.bad).into()) }
    }
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.get("items").and_then(Value::as_array).into_iter().flatten()
}

pub(crate) async fn run(command: &Command, env: &Env, output: Output) -> anyhow::Result<()> {
    match command {
        Command::List(list) => list.run(&client::read(env, &list.whose.services)?, output).await,
        Command::Groups(groups) => groups.run(&client::read(env, &groups.whose.services)?, output).await,
        Command::Show(show) => show.run(&client::read(env, &show.whose.services)?, output).await,
        Command::Replay(replay) => replay.run(&client::read(env, &replay.whose.services)?, output).await,
        Command::Replays(replays) => replays.run(&client::read(env, &replays.whose.services)?, output).await,
        Command::Discard(discard) => discard.run(&client::read(env, &discard.whose.services)?, output).await,
    }
}
