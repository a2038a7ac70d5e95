//! Having dead letters handled again, or closing them. What is done, and what is refused, stands in the
//! services' audit logs, with the reason.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use clap::{Args, ValueEnum};
use common_events::Service;
use futures::future::join_all;
use serde_json::{Value, json};

use super::{Answers, DEAD_LETTERS, Filter, Whose};
use crate::{
    client::{Answer, Question, Services},
    output::{Output, field, short, table},
};

/// How often a replay that is waited for is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const MESSAGE_CHARS: usize = 60;

/// Which dead letters an action is about: these, or all that are like this; never all there are.
#[derive(Args)]
#[group(
    id = "which",
    required = true,
    multiple = true,
    args = ["ids", "state", "error_class", "topic", "key", "trace_id", "event_id"]
)]
struct Which {
    /// Their ids.
    #[arg(conflicts_with_all = ["state", "error_class", "topic", "key", "trace_id", "event_id"])]
    ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Args)]
pub(crate) struct Replay {
    #[command(flatten)]
    pub(super) whose: Whose,
    #[command(flatten)]
    which: Which,
    /// Who handles them again: only the group that failed, or everybody who reads their topic.
    #[arg(long, value_enum, default_value_t = To::Group)]
    to: To,
    /// Say for each what would come of it, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// So many records per second at most; default 100.
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Why: it stands in the audit log.
    #[arg(long)]
    reason: String,
    /// Wait for so many seconds until each is applied or dead again; done only if all are applied.
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run")]
    wait: Option<u64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum To {
    Group,
    Origin,
}

impl To {
    const fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Origin => "origin",
        }
    }
}

#[derive(Args)]
pub(crate) struct Discard {
    #[command(flatten)]
    pub(super) whose: Whose,
    #[command(flatten)]
    which: Which,
    /// Why: it stands in the audit log.
    #[arg(long)]
    reason: String,
    /// Forget what they said, too; that they were is kept.
    #[arg(long)]
    purge_payload: bool,
}

impl Replay {
    pub(super) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let mut asked = json!({ "to": self.to.name(), "dryRun": self.dry_run, "reason": self.reason });
        if let Some(rate) = self.rate {
            asked["ratePerSecond"] = rate.into();
        }
        let mut answers = self.which.act(services, "replay", &asked).await?;
        if let Some(seconds) = self.wait {
            await_ends(services, &mut answers.good, Instant::now() + Duration::from_secs(seconds)).await?;
        }
        match output {
            Output::Json => println!("{}", answers.as_json()),
            Output::Tables if self.dry_run => show_foretold(&answers),
            Output::Tables => show_replays(answers.good.iter().map(|(service, replay)| (*service, replay))),
        }
        let applied = answers.good.iter().all(|(_, replay)| is_applied(replay));
        answers.complete()?;
        ensure!(self.wait.is_none() || applied, "not all of them were applied: sagactl dlt list");
        Ok(())
    }
}

impl Discard {
    pub(super) async fn run(&self, services: &Services, output: Output) -> anyhow::Result<()> {
        let asked = json!({ "reason": self.reason, "purgePayload": self.purge_payload });
        let answers = self.which.act(services, "discard", &asked).await?;
        match output {
            Output::Json => println!("{}", answers.as_json()),
            Output::Tables => {
                let rows = answers.good.iter().map(|(service, done)| {
                    let [now, before, purged] =
                        ["discarded", "discardedBefore", "purged"].map(|name| field(done, name));
                    [service.to_string(), now, before, purged]
                });
                println!("{}", table(&["service", "discarded", "before", "payloads purged"], rows));
            }
        }
        answers.complete()
    }
}

impl Which {
    /// Asks for it where they are.
    async fn act(&self, services: &Services, action: &str, asked: &Value) -> anyhow::Result<Answers> {
        let path = format!("{DEAD_LETTERS}/{action}");
        let answers = if self.ids.is_empty() {
            let mut body = asked.clone();
            body["filter"] = self.filter.as_json();
            services.ask_all(&Question::post(path, body)).await
        } else {
            let asked_of = self.owners(services).await?.into_iter().map(async |(service, ids)| {
                let mut body = asked.clone();
                body["ids"] = ids.into();
                (service, services.ask(service, &Question::post(path.clone(), body)).await)
            });
            join_all(asked_of).await
        };
        let mut answers = Answers::of(answers);
        answers.bad.retain(|(_, trouble)| !trouble.says("nothing-matches"));
        ensure!(!answers.good.is_empty() || !answers.bad.is_empty(), "no dead letter is like that");
        Ok(answers)
    }

    /// Which service has which of the ids. Nothing is done when one of them is nobody's.
    async fn owners(&self, services: &Services) -> anyhow::Result<BTreeMap<Service, Vec<String>>> {
        let mut owners: BTreeMap<Service, Vec<String>> = BTreeMap::new();
        for id in &self.ids {
            let mut answers = Answers::of(services.ask_all(&Question::get(format!("{DEAD_LETTERS}/{id}"))).await);
            if let Some((service, _)) = answers.good.first() {
                owners.entry(*service).or_default().push(id.clone());
                continue;
            }
            answers.bad.retain(|(_, trouble)| !trouble.is_not_found());
            answers.complete()?;
            bail!("no service has a dead letter {id}; nothing was done");
        }
        Ok(owners)
    }
}

/// Follows each replay until nothing of it is on its way any more.
async fn await_ends(services: &Services, replays: &mut [(Service, Value)], until: Instant) -> anyhow::Result<()> {
    loop {
        let open = replays.iter_mut().filter(|(_, replay)| replay.get("endedAt").is_none());
        let looks = open.map(async |(service, replay)| {
            let question = Question::get(format!("/admin/replays/{}", field(replay, "id")));
            let answer: Answer = services.ask(*service, &question).await;
            // One that is away for a moment is asked again.
            if let Ok(now) = answer {
                *replay = now;
            }
        });
        if join_all(looks).await.is_empty() {
            return Ok(());
        }
        ensure!(Instant::now() < until, "the time is up, and the replay goes on: sagactl dlt replays");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_applied(replay: &Value) -> bool {
    let nothing = |name: &str| replay.get(name).and_then(Value::as_i64) == Some(0);
    nothing("deadAgain") && nothing("waiting") && nothing("onTheWay")
}

/// How far replays are.
pub(super) fn show_replays<'v>(replays: impl Iterator<Item = (Service, &'v Value)>) {
    const COUNTS: [&str; 6] = ["total", "waiting", "onTheWay", "applied", "deadAgain", "skipped"];
    let rows = replays.map(|(service, replay)| {
        let [total, waiting, on_the_way, applied, dead_again, skipped] = COUNTS.map(|name| field(replay, name));
        let (id, state) = (field(replay, "id"), field(replay, "state"));
        let note = short(&field(replay, "note"), MESSAGE_CHARS);
        [service.to_string(), id, state, total, waiting, on_the_way, applied, dead_again, skipped, note]
    });
    let header =
        ["service", "replay", "state", "total", "waiting", "on the way", "applied", "dead again", "skipped", "note"];
    println!("{}", table(&header, rows));
}

/// What a replay would do with each.
fn show_foretold(foretold: &Answers) {
    let rows = foretold.items().map(|(service, item)| {
        let why = short(&field(item, "detail"), MESSAGE_CHARS);
        [service.to_string(), field(item, "id"), field(item, "topic"), field(item, "key"), field(item, "verdict"), why]
    });
    println!("{}", table(&["service", "id", "topic", "key", "a replay", "why"], rows));
    for (service, answer) in &foretold.good {
        println!("{service}: {} dead letters, {} looked at", field(answer, "total"), field(answer, "lookedAt"));
    }
}
