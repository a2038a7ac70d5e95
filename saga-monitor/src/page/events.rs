//! `/events`: what happened between two moments.

use actix_web::{HttpResponse, web::Query};
use askama::Template;
use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use common_events::{Topic, TraceId, time::is_writable};
use serde::Deserialize;
use service_runtime::{
    Problem,
    http::{Cursor, Limit, Page},
};

use super::{
    Frame, MENU, Visitor, cursor_text, ok,
    show::{self, indented, query, saga_path},
};
use crate::{
    http::view::StepView,
    store::log::{self, LogFilter, LogPosition},
};

/// The default: what just happened.
const USUALLY: TimeDelta = TimeDelta::minutes(15);

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Wanted {
    from: String,
    to: String,
    trace_id: String,
    key: String,
    #[serde(rename = "type")]
    event_type: String,
    limit: Limit,
    #[serde(deserialize_with = "super::said")]
    cursor: Option<Cursor>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct Between {
    frame: Frame,
    wanted: Wanted,
    types: Vec<&'static str>,
    events: Vec<StepView>,
    trouble: Option<&'static str>,
    next: Option<String>,
}

impl Between {
    fn payload(step: &StepView) -> Option<String> {
        step.payload.as_ref().map(|payload| indented(payload.get()))
    }

    fn saga_path(step: &StepView) -> Option<String> {
        let saga = step.saga_id.as_deref()?;
        Some(saga_path(saga))
    }
}

pub(super) async fn list(visitor: Visitor, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let mut wanted = wanted.into_inner();
    let asks_for_one = [&wanted.trace_id, &wanted.key].iter().any(|field| !field.is_empty());
    if wanted.from.is_empty() && wanted.to.is_empty() && !asks_for_one && wanted.cursor.is_none() {
        wanted.from = (Utc::now() - USUALLY).format(FORM_TIME).to_string();
    }
    let (filter, trouble) = match filter(&wanted) {
        Ok(filter) => (Some(filter), None),
        Err(trouble) => (None, Some(trouble)),
    };
    let mut page = Page { items: Vec::new(), next_cursor: None };
    if let Some(mut filter) = filter {
        filter.behind = wanted.cursor.as_ref().map(Cursor::position).transpose()?;
        let client = visitor.desk.pool.get().await?;
        let found = log::list_events(&client, &filter, wanted.limit.and_one()).await?;
        page = Page::of(found, wanted.limit, |last| LogPosition(last.occurred_at, last.id));
    }
    let next = page.next_cursor.as_ref().map(cursor_text).map(|cursor| {
        let limit = u16::from(wanted.limit).to_string();
        let fields = [
            ("from", &*wanted.from),
            ("to", &*wanted.to),
            ("traceId", &*wanted.trace_id),
            ("key", &*wanted.key),
            ("type", &*wanted.event_type),
            ("limit", &limit),
            ("cursor", &cursor),
        ];
        format!("/events{}", query(fields))
    });
    let types = Topic::ALL.iter().map(|topic| topic.name()).collect();
    let events = page.items.into_iter().map(StepView::from).collect();
    ok(&Between { frame: Frame::of(&visitor, "events"), wanted, types, events, trouble, next })
}

/// As a `datetime-local` field holds it; times of the page are UTC.
const FORM_TIME: &str = "%Y-%m-%dT%H:%M:%S";

/// A moment of a form, with or without seconds, or as the API writes it.
fn moment(text: &str) -> Result<Option<DateTime<Utc>>, &'static str> {
    if text.is_empty() {
        return Ok(None);
    }
    let forms = ["%Y-%m-%dT%H:%M", FORM_TIME, "%Y-%m-%dT%H:%M:%S%.f"];
    let local = forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let moment = local.map(|time| time.and_utc()).or_else(|| text.parse().ok());
    moment.filter(is_writable).map(Some).ok_or("A time looks like 2026-11-21T06:00:00, in UTC.")
}

fn filter(wanted: &Wanted) -> Result<LogFilter, &'static str> {
    let (from, to) = (moment(&wanted.from)?, moment(&wanted.to)?);
    if from.zip(to).is_some_and(|(from, to)| from > to) {
        return Err("The end is before the beginning.");
    }
    let trace = match &*wanted.trace_id {
        "" => None,
        text => Some(text.parse::<TraceId>().map_err(|_| "A trace id is 32 hexadecimal digits.")?),
    };
    let text = |text: &str| (!text.is_empty() && !text.contains('\0')).then(|| text.to_owned());
    Ok(LogFilter { from, to, trace, key: text(&wanted.key), event_type: text(&wanted.event_type), behind: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_forms_and_as_the_api_write_them() {
        let expected = "2026-11-21T06:00:00Z".parse().expect("a time");
        for text in ["2026-11-21T06:00", "2026-11-21T06:00:00", "2026-11-21T06:00:00.000", "2026-11-21T06:00:00Z"] {
            assert_eq!(moment(text), Ok(Some(expected)), "{text}");
        }
        assert_eq!(moment(""), Ok(None));
        for no_time in ["yesterday", "-200000-01-01T00:00:00Z"] {
            assert!(moment(no_time).is_err(), "{no_time}");
        }
    }
}
