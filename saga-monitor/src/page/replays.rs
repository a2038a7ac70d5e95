//! `/replays`: the replays of all services, and one of them as it goes on.

use actix_web::{HttpResponse, web::Path};
use askama::Template;
use common_events::Service;
use service_runtime::{Problem, http::Id};

use super::{
    Frame, MENU, Visitor,
    away::{Away, ask_all, ask_one, known},
    ok,
    one_letter::not_told,
    show::{self, indented},
    told::{Items, Replay},
};
use crate::services::Question;

/// Of each service, so many of the latest.
const OF_EACH: u16 = 20;

#[derive(Template)]
#[template(path = "replays.html")]
struct All {
    frame: Frame,
    replays: Vec<(Service, Replay)>,
    away: Vec<Away>,
}

pub(super) async fn all(visitor: Visitor) -> Result<HttpResponse, Problem> {
    let readers = visitor.desk.services.clone().that_read();
    let said = ask_all::<Items<Replay>>(&readers, &Question::get("/admin/replays").with("limit", OF_EACH)).await;
    let replays =
        said.answers.into_iter().flat_map(|(service, page)| page.items.into_iter().map(move |one| (service, one)));
    let mut replays: Vec<(Service, Replay)> = replays.collect();
    replays.sort_by_key(|(_, replay)| std::cmp::Reverse(replay.asked_at));
    ok(&All { frame: Frame::of(&visitor, "dead-letters"), replays, away: said.away })
}

#[derive(Template)]
#[template(path = "one_replay.html")]
struct OneReplay {
    frame: Frame,
    service: Service,
    replay: Replay,
    selection: String,
}

pub(super) async fn one(visitor: Visitor, path: Path<(String, Id)>) -> Result<HttpResponse, Problem> {
    let (name, replay) = path.into_inner();
    let service = known(&visitor.desk.services, &name)?;
    let question = Question::get(format!("/admin/replays/{replay}"));
    match ask_one::<Replay>(&visitor.desk.services, service, &question).await {
        Ok(replay) => {
            let selection = indented(&replay.selection.to_string());
            ok(&OneReplay { frame: Frame::of(&visitor, "dead-letters"), service, replay, selection })
        }
        Err(trouble) => not_told(&visitor, service, &trouble, "Replay"),
    }
}
