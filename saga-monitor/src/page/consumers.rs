//! `/consumers`: how groups do: lag and rates over the last hour, and topic by topic now.

use actix_web::{HttpResponse, web::Query};
use askama::Template;
use chrono::{DateTime, Utc};
use common_events::Service;
use serde::Deserialize;
use service_runtime::Problem;

use super::{
    Frame, MENU, Visitor, ok,
    overview::approximately,
    plot::Line,
    show::{self, Rate},
};
use crate::{
    consumers::{Doing, Moment},
    http::{
        Desk,
        consumers::{ConsumerView, Consumers, ServiceView, look_at},
    },
    services::readers,
};

#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Wanted {
    group: String,
}

#[derive(Template)]
#[template(path = "consumers.html")]
struct All {
    frame: Frame,
    wanted: Wanted,
    names: Vec<Service>,
    at: Option<DateTime<Utc>>,
    groups: Vec<Group>,
    trouble: Option<String>,
}

/// A group, with its topics.
struct Group {
    process: ServiceView,
    lag: i64,
    lags: Line,
    handled: Line,
    topics: Vec<OfTopic>,
}

/// A topic, all partitions together.
struct OfTopic {
    name: String,
    lag: i64,
    doing: Doing,
    partitions: Vec<ConsumerView>,
}

impl Group {
    fn handled_now(&self) -> Rate {
        Rate(self.topics.iter().map(|topic| topic.doing.handle_rate).sum())
    }

    fn errors(&self) -> u64 {
        self.topics.iter().map(|topic| topic.doing.errors).sum()
    }

    fn retries(&self) -> u64 {
        self.topics.iter().map(|topic| topic.doing.retries).sum()
    }

    /// Of the process, which counts them once for all topics.
    fn duplicates(&self) -> u64 {
        self.topics.first().map_or(0, |topic| topic.doing.duplicates)
    }

    fn memory(&self) -> String {
        self.process.memory_bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000))
    }

    fn cpu(&self) -> String {
        self.process.cpu_cores.map_or_else(|| "–".to_owned(), |cores| format!("{:.0} %", cores * 100.0))
    }

    fn class(&self) -> &'static str {
        if !self.process.up || self.process.members == 0 { "bad" } else { "good" }
    }
}

impl OfTopic {
    /// Milliseconds of half, and of nearly all.
    fn latency(&self) -> String {
        let ms = |value: f64| if value < 10.0 { format!("{value:.1}") } else { format!("{value:.0}") };
        let latency = self.doing.latency.as_ref();
        latency.map_or_else(|| "–".to_owned(), |latency| format!("{} / {} ms", ms(latency.p50_ms), ms(latency.p99_ms)))
    }
}

/// What the observer saw last.
pub(super) enum Seen {
    Looked(Consumers),
    /// The monitor has only just begun.
    NotYet,
    /// Kafka doesn't answer.
    Away(String),
}

/// What the observer saw last; a page doesn't wait for a look of its own.
pub(super) async fn seen(desk: &Desk, only: Option<Service>) -> Result<Seen, Problem> {
    if desk.observed.ends().is_none() {
        return Ok(Seen::NotYet);
    }
    match look_at(desk, only).await {
        Ok(looked) => Ok(Seen::Looked(looked)),
        Err(problem) if problem.body().status == 503 => Ok(Seen::Away(problem.body().detail.to_string())),
        Err(problem) => Err(problem),
    }
}

pub(super) async fn all(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let wanted = wanted.into_inner();
    let only = match &*wanted.group {
        "" => None,
        name => Some(name.parse::<Service>().map_err(|_| Problem::not_found("group"))?),
    };
    let (at, groups, trouble) = match seen(&visitor.desk, only).await? {
        Seen::Looked(looked) => (Some(looked.at), groups(looked, &visitor.desk.observed.history()), None),
        Seen::NotYet => (None, Vec::new(), None),
        Seen::Away(says) => (None, Vec::new(), Some(says)),
    };
    let names = readers().collect();
    ok(&All { frame: Frame::of(&visitor, "consumers"), wanted, names, at, groups, trouble })
}

fn groups(looked: Consumers, history: &[Moment]) -> Vec<Group> {
    let Consumers { items, services, .. } = looked;
    let mut groups = Vec::new();
    for process in services {
        let Ok(service) = process.service.parse::<Service>() else { continue };
        let topics = topics(items.iter().filter(|item| item.group == process.service));
        if topics.is_empty() {
            continue;
        }
        let beats = || history.iter().map(|moment| moment.groups.get(&service));
        let lags = beats().map(|beat| beat.and_then(|beat| beat.lag).map(approximately));
        groups.push(Group {
            lag: topics.iter().map(|topic| topic.lag).sum(),
            lags: Line::of("Lag", lags),
            handled: Line::of("Events handled per second", beats().map(|beat| beat.map(|beat| beat.handled))),
            process,
            topics,
        });
    }
    groups
}

fn topics<'i>(items: impl Iterator<Item = &'i ConsumerView>) -> Vec<OfTopic> {
    let mut topics: Vec<OfTopic> = Vec::new();
    for item in items {
        match topics.last_mut().filter(|topic| topic.name == item.topic) {
            Some(topic) => {
                topic.lag += item.lag;
                topic.partitions.push(item.clone());
            }
            None => topics.push(OfTopic {
                name: item.topic.clone(),
                lag: item.lag,
                doing: item.doing,
                partitions: vec![item.clone()],
            }),
        }
    }
    topics
}
