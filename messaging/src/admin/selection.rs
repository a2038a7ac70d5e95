//! Which dead letters a call is about, as operators say it and as the database understands it.

use std::{collections::BTreeSet, fmt::Write as _};

use actix_web::http::StatusCode;
use common_events::{EventId, Topic, TraceId, ids::in_lower_case};
use serde::{Deserialize, Serialize};
use service_runtime::{Problem, http::Id};
use tokio_postgres::types::ToSql;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{dead_letters::State, tx::Tx};

/// The longest text that is looked for, in characters: keys and classes are shorter.
const MAX_TEXT_CHARS: usize = 1_000;
/// So many ids fit into a body (docs/contract.md §3: 64 KiB).
pub(super) const MAX_IDS: usize = 1_000;

/// A text that the database can look for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(min_length = 1, max_length = 1_000, pattern = r"^[^\u0000]*$")]
pub(super) struct Text(String);

/// A text that nothing can have.
#[derive(Debug, thiserror::Error)]
#[error("a text of 1 to {MAX_TEXT_CHARS} characters without NUL is expected")]
pub(super) struct InvalidText;

impl TryFrom<String> for Text {
    type Error = InvalidText;

    fn try_from(text: String) -> Result<Self, InvalidText> {
        let fits = (1..=MAX_TEXT_CHARS).contains(&text.chars().count()) && !text.contains('\0');
        if fits { Ok(Self(text)) } else { Err(InvalidText) }
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

/// What dead letters have in common; all of what is said must be so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schema(as = DeadLetterFilter)]
pub(super) struct Filter {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) state: Option<State>,
    /// Such as `unprocessable`, `undecodable`, `panic`, or what a handler calls it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) error_class: Option<Text>,
    /// Where it lay first, without prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) topic: Option<Text>,
    /// The record's key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) key: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<TraceId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) event_id: Option<EventId>,
}

type Param = Box<dyn ToSql + Sync + Send>;

/// A condition on `dead_letters`, and its parameters.
#[derive(Default)]
pub(super) struct Condition {
    sql: String,
    params: Vec<Param>,
}

impl Condition {
    /// Adds `sql`, in which `{}` stands for the parameter.
    pub(super) fn and(&mut self, sql: &str, param: impl ToSql + Sync + Send + 'static) {
        let joint = if self.sql.is_empty() { "" } else { " AND " };
        let place = self.param(param);
        let _ = write!(self.sql, "{joint}{}", sql.replace("{}", &place));
    }

    /// One more parameter; returns how the statement calls it.
    pub(super) fn param(&mut self, param: impl ToSql + Sync + Send + 'static) -> String {
        self.params.push(Box::new(param));
        format!("${}", self.params.len())
    }

    /// What stands behind WHERE.
    pub(super) fn sql(&self) -> &str {
        if self.sql.is_empty() { "true" } else { &self.sql }
    }

    pub(super) fn params(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.params.iter().map(|param| &**param as &(dyn ToSql + Sync)).collect()
    }
}

impl Filter {
    /// Only what is said stands in the statement, so that each finds its index.
    pub(super) fn condition(&self) -> Condition {
        let mut condition = Condition::default();
        if let Some(state) = self.state {
            condition.and("state = {}", state.name());
        }
        for (sql, text) in [("error_class = {}", &self.error_class), ("origin_topic = {}", &self.topic)] {
            if let Some(Text(text)) = text {
                condition.and(sql, text.clone());
            }
        }
        if let Some(Text(key)) = &self.key {
            match in_lower_case(key) {
                None => condition.and("key_text = {}", key.clone()),
                Some(ours) => condition.and("key_text = ANY({})", vec![key.clone(), ours]),
            }
        }
        if let Some(trace_id) = self.trace_id {
            condition.and("trace_id = {}", trace_id.to_string());
        }
        if let Some(event_id) = self.event_id {
            condition.and("event_id = {}", event_id.uuid());
        }
        condition
    }
}

/// What an operator wants done, as it stands in his request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selection {
    /// These.
    Ids(Vec<Uuid>),
    /// All that are like this now.
    Filter(Filter),
}

impl Selection {
    /// Either, never both, never everything by accident.
    pub(super) fn of(ids: Option<&[Id]>, filter: Option<&Filter>) -> Result<Self, Problem> {
        match (ids, filter) {
            (Some(_), Some(_)) => Err(Problem::invalid_field("filter", "Either ids or a filter, not both.")),
            (None, None) => Err(Problem::invalid_field("ids", "Say which: ids or a filter.")),
            (Some(ids), None) if (1..=MAX_IDS).contains(&ids.len()) => {
                Ok(Self::Ids(ids.iter().map(|Id(id)| *id).collect::<BTreeSet<_>>().into_iter().collect()))
            }
            (Some(_), None) => Err(Problem::invalid_field("ids", format!("1 to {MAX_IDS} ids are expected."))),
            (None, Some(filter)) if *filter == Filter::default() => {
                Err(Problem::invalid_field("filter", "A filter that says nothing would be everything."))
            }
            (None, Some(filter)) => Self::of_filter(filter),
        }
    }

    /// Without a state, those that are dead are meant.
    fn of_filter(filter: &Filter) -> Result<Self, Problem> {
        let state = filter.state.unwrap_or(State::Dead);
        if !State::OPEN.contains(&state) {
            return Err(Problem::invalid_field(
                "filter.state",
                "Those are closed; only DEAD and PARKED ones are open.",
            ));
        }
        Ok(Self::Filter(Filter { state: Some(state), ..filter.clone() }))
    }

    pub(super) fn condition(&self) -> Condition {
        match self {
            Self::Ids(ids) => {
                let mut condition = Condition::default();
                condition.and("id = ANY({})", ids.clone());
                condition
            }
            Self::Filter(filter) => filter.condition(),
        }
    }

    /// 404 when an id is nobody's.
    pub(super) async fn check_ids(&self, tx: &Tx<'_>) -> Result<(), Problem> {
        let Self::Ids(ids) = self else { return Ok(()) };
        let sql = "SELECT asked.id FROM unnest($1::uuid[]) AS asked (id)
                   WHERE NOT EXISTS (SELECT FROM dead_letters letter WHERE letter.id = asked.id) LIMIT 1";
        match tx.query_opt(sql, &[ids]).await? {
            None => Ok(()),
            Some(row) => {
                let id: Uuid = row.get(0);
                Err(Problem::new(
                    StatusCode::NOT_FOUND,
                    "unknown-dead-letter",
                    format!("There is no dead letter {id}."),
                )
                .of_field("ids"))
            }
        }
    }
}

/// 404: the filter fits none.
pub(super) fn nothing_matches() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "nothing-matches", "No dead letter is like that.").of_field("filter")
}

/// The topics whose events the inbox remembers once they are applied.
pub(super) fn remembered_topics() -> Vec<&'static str> {
    use common_events::catalogue::Retention;
    let remembered = |topic: &&Topic| match topic.spec().retention {
        Retention::Days(_) => true,
        Retention::ForEver | Retention::Compacted => false,
    };
    Topic::ALL.iter().filter(remembered).map(|topic| topic.name()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIL: Id = Id(Uuid::nil());

    fn refused(ids: Option<&[Id]>, filter: Option<&Filter>) -> (u16, Option<String>) {
        let problem = Selection::of(ids, filter).expect_err("refused");
        (problem.body().status, problem.body().field.clone())
    }

    #[test]
    fn a_selection_is_ids_or_a_filter_that_says_something() {
        let some = Filter { error_class: Some(Text("panic".to_owned())), ..Filter::default() };
        assert_eq!(refused(None, None), (422, Some("ids".to_owned())));
        assert_eq!(refused(Some(&[]), None), (422, Some("ids".to_owned())));
        assert_eq!(refused(Some(&[NIL; MAX_IDS + 1]), None), (422, Some("ids".to_owned())));
        assert_eq!(refused(Some(&[NIL]), Some(&some)), (422, Some("filter".to_owned())));
        assert_eq!(refused(None, Some(&Filter::default())), (422, Some("filter".to_owned())));
        let closed = Filter { state: Some(State::Discarded), ..Filter::default() };
        assert_eq!(refused(None, Some(&closed)), (422, Some("filter.state".to_owned())));
        let selection = Selection::of(None, Some(&some)).expect("fine");
        assert_eq!(selection.condition().sql(), "state = $1 AND error_class = $2");
        let twice = Selection::of(Some(&[NIL, NIL]), None).expect("fine");
        assert_eq!(twice, Selection::Ids(vec![Uuid::nil()]));
    }

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        test_support::assert_limit::<Text>("/maxLength", MAX_TEXT_CHARS);
    }
}
