//! What operators do about dead letters: a dry run, a replay, a discard, a halt. The service that owns them decides,
//! and writes down who asked and why; what it says is shown where it was asked for.

use std::{collections::BTreeMap, time::Duration};

use actix_web::{
    HttpResponse,
    http::StatusCode,
    web::{Form, Path},
};
use askama::Template;
use common_events::Service;
use serde::Deserialize;
use serde_json::{Value, json};
use service_runtime::{Problem, http::Id};
use uuid::Uuid;

use super::{
    Frame, MENU, Visitor,
    away::{known, refusal},
    html, ok, see,
    show::{self, Badge, Count, Tone},
    told::Replay,
};
use crate::services::{Answer, Question};

/// A dry run handles up to a thousand records, within twenty seconds.
const DRY_RUN_AT_MOST: Duration = Duration::from_secs(30);
const ACT_AT_MOST: Duration = Duration::from_secs(15);

/// Which dead letters, and what is to become of them.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Asked {
    /// One; without it the filter counts.
    letter: Option<Uuid>,
    state: String,
    error_class: String,
    topic: String,
    key: String,
    trace_id: String,
    to: String,
    rate: String,
    reason: String,
    purge: String,
    act: String,
}

impl Asked {
    /// As the admin API wants it.
    fn selection(&self) -> Value {
        if let Some(letter) = self.letter {
            return json!({"ids": [letter]});
        }
        let fields = [
            ("state", &self.state),
            ("errorClass", &self.error_class),
            ("topic", &self.topic),
            ("key", &self.key),
            ("traceId", &self.trace_id),
        ];
        let said = fields.into_iter().filter(|(_, value)| !value.is_empty());
        let filter: serde_json::Map<String, Value> =
            said.map(|(name, value)| (name.to_owned(), Value::String(value.clone()))).collect();
        json!({"filter": filter})
    }

    fn replay(&self) -> Value {
        let mut body = self.selection();
        body["to"] = json!(if self.to == "origin" { "origin" } else { "group" });
        body["dryRun"] = json!(self.act == "dry-run");
        body["reason"] = json!(self.reason);
        if !self.rate.trim().is_empty() {
            // What is no number is the service's to refuse.
            body["ratePerSecond"] = self.rate.trim().parse::<i32>().map_or_else(|_| json!(0), |rate| json!(rate));
        }
        body
    }

    fn discard(&self) -> Value {
        let mut body = self.selection();
        body["reason"] = json!(self.reason);
        body["purgePayload"] = json!(!self.purge.is_empty());
        body
    }

    /// Where it was asked for.
    fn back(&self, service: Service) -> String {
        if let Some(letter) = self.letter {
            return format!("/dead-letters/{service}/{letter}");
        }
        let fields = [
            ("service", service.name()),
            ("state", &*self.state),
            ("errorClass", &*self.error_class),
            ("topic", &*self.topic),
            ("key", &*self.key),
            ("traceId", &*self.trace_id),
        ];
        format!("/dead-letters{}", show::query(fields))
    }
}

/// What a replay would do.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prophecy {
    total: i64,
    looked_at: i64,
    verdicts: BTreeMap<String, i64>,
    items: Vec<Foretold>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Foretold {
    id: Uuid,
    topic: String,
    key: Option<String>,
    verdict: String,
    detail: Option<String>,
    #[serde(default)]
    answers: Vec<ForetoldAnswer>,
    #[serde(default)]
    changes: BTreeMap<String, i64>,
}

impl Foretold {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    fn path(&self, service: &Service) -> String {
        format!("/dead-letters/{service}/{}", self.id)
    }
}

#[derive(Deserialize)]
struct ForetoldAnswer {
    #[serde(rename = "type")]
    kind: String,
    reason: Option<String>,
}

impl Prophecy {
    fn badge(verdict: &str) -> Badge {
        let tone = match verdict {
            "will-apply" => Tone::Good,
            "changes-nothing" | "came-too-late" | "already-applied" | "discarded" => Tone::Quiet,
            _ => Tone::Warn,
        };
        Badge::new(tone, verdict.replace('-', " "))
    }
}

/// The outcome of a dry run or a discard, or why nothing was done.
#[derive(Template)]
#[template(path = "act.html")]
struct Done {
    frame: Frame,
    service: Service,
    title: &'static str,
    back: String,
    trouble: Option<String>,
    prophecy: Option<Prophecy>,
    closed: Option<Value>,
    asked: Asked,
}

impl Done {
    fn refused(visitor: &Visitor, service: Service, title: &'static str, back: String, trouble: String) -> Self {
        let frame = Frame::of(visitor, "dead-letters");
        Self {
            frame,
            service,
            title,
            back,
            trouble: Some(trouble),
            prophecy: None,
            closed: None,
            asked: Asked::default(),
        }
    }

    fn closed(&self, field: &str) -> Count {
        Count(self.closed.as_ref().and_then(|closed| closed[field].as_i64()).unwrap_or_default())
    }
}

pub(super) async fn replay(
    visitor: Visitor,
    service: Path<String>,
    asked: Form<Asked>,
) -> Result<HttpResponse, Problem> {
    let asked = asked.into_inner();
    let service = known(&visitor.desk.services, &service)?;
    let is_dry_run = asked.act == "dry-run";
    let (title, at_most) = if is_dry_run { ("Dry run", DRY_RUN_AT_MOST) } else { ("Replay", ACT_AT_MOST) };
    let answer = post(&visitor, service, "/admin/dead-letters/replay", asked.replay(), at_most).await;
    let back = asked.back(service);
    match answer {
        Ok(answer) if is_dry_run => {
            let prophecy = serde_json::from_value(answer).map_err(Problem::internal)?;
            let frame = Frame::of(&visitor, "dead-letters");
            let prophecy = Some(prophecy);
            ok(&Done { frame, service, title, back, trouble: None, prophecy, closed: None, asked })
        }
        Ok(answer) => {
            let replay: Replay = serde_json::from_value(answer).map_err(Problem::internal)?;
            Ok(see(&format!("/replays/{service}/{}", replay.id)))
        }
        Err((status, trouble)) => html(status, &Done::refused(&visitor, service, title, back, trouble)),
    }
}

pub(super) async fn discard(
    visitor: Visitor,
    service: Path<String>,
    asked: Form<Asked>,
) -> Result<HttpResponse, Problem> {
    let asked = asked.into_inner();
    let service = known(&visitor.desk.services, &service)?;
    let back = asked.back(service);
    let title = "Discard";
    match post(&visitor, service, "/admin/dead-letters/discard", asked.discard(), ACT_AT_MOST).await {
        Ok(closed) => {
            let frame = Frame::of(&visitor, "dead-letters");
            ok(&Done { frame, service, title, back, trouble: None, prophecy: None, closed: Some(closed), asked })
        }
        Err((status, trouble)) => html(status, &Done::refused(&visitor, service, title, back, trouble)),
    }
}

#[derive(Deserialize)]
pub(super) struct Halt {
    reason: String,
}

pub(super) async fn halt(
    visitor: Visitor,
    path: Path<(String, Id)>,
    asked: Form<Halt>,
) -> Result<HttpResponse, Problem> {
    let (name, replay) = path.into_inner();
    let service = known(&visitor.desk.services, &name)?;
    let back = format!("/replays/{service}/{replay}");
    let body = json!({"reason": asked.into_inner().reason});
    match post(&visitor, service, &format!("/admin/replays/{replay}/halt"), body, ACT_AT_MOST).await {
        Ok(_) => Ok(see(&back)),
        Err((status, trouble)) => html(status, &Done::refused(&visitor, service, "Halt", back, trouble)),
    }
}

async fn post(
    visitor: &Visitor,
    service: Service,
    path: &str,
    body: Value,
    at_most: Duration,
) -> Result<Value, (StatusCode, String)> {
    let answer: Answer = visitor.desk.services.ask(service, &Question::post(path, body).within(at_most)).await;
    answer.map_err(|trouble| {
        let (status, says) = refusal(service, &trouble);
        (StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_GATEWAY), says)
    })
}
