//! `/dead-letters/{service}/{id}`: one dead letter with everything that is known of it, and what can be done about it.

use actix_web::{
    HttpResponse,
    web::{Path, Query},
};
use askama::Template;
use common_events::Service;
use serde::Deserialize;
use service_runtime::{Problem, http::Id};

use super::{
    Frame, MENU, Visitor,
    away::{ask_one, away_says, known},
    ok,
    show::{self, indented, saga_path},
    told::Letter,
};
use crate::{
    services::{Question, Trouble},
    store::log,
};

#[derive(Template)]
#[template(path = "one_letter.html")]
struct OneLetter {
    frame: Frame,
    service: Service,
    letter: Letter,
    payload: Option<String>,
    saga: Option<String>,
    done: bool,
}

/// A service that doesn't answer, in place of what it would have said.
#[derive(Template)]
#[template(path = "away.html")]
pub(super) struct AwayPage {
    pub(super) frame: Frame,
    pub(super) title: &'static str,
    pub(super) says: String,
}

#[derive(Deserialize)]
pub(super) struct Came {
    done: Option<String>,
}

pub(super) async fn one(
    visitor: Visitor,
    path: Path<(String, Id)>,
    came: Query<Came>,
) -> Result<HttpResponse, Problem> {
    let (name, letter_id) = path.into_inner();
    let desk = &visitor.desk;
    let service = known(&desk.services, &name)?;
    let question = Question::get(format!("/admin/dead-letters/{letter_id}"));
    let letter = match ask_one::<Letter>(&desk.services, service, &question).await {
        Ok(letter) => letter,
        Err(trouble) => return not_told(&visitor, service, &trouble, "Dead letter"),
    };
    let payload = letter.payload.as_deref().map(indented);
    let saga = saga_of(&visitor, &letter).await?;
    let frame = Frame::of(&visitor, "dead-letters");
    ok(&OneLetter { frame, service, letter, payload, saga, done: came.done.is_some() })
}

/// What is shown where a service said nothing.
pub(super) fn not_told(
    visitor: &Visitor,
    service: Service,
    trouble: &Trouble,
    title: &'static str,
) -> Result<HttpResponse, Problem> {
    if trouble.is_not_found() {
        return Err(Problem::not_found("thing at that service"));
    }
    let says = away_says(service, trouble);
    ok(&AwayPage { frame: Frame::of(visitor, "dead-letters"), title, says })
}

/// The saga that its event belongs to, where the log knows it.
async fn saga_of(visitor: &Visitor, letter: &Letter) -> Result<Option<String>, Problem> {
    let Some(event) = letter.event_id else { return Ok(None) };
    let client = visitor.desk.pool.get().await?;
    let lying = log::list_lying(&client, &[common_events::EventId::new(event)]).await?;
    Ok(lying.into_iter().next().and_then(|lying| lying.saga).map(|saga| saga_path(&saga)))
}
