//! The operators' page: what `/api` and the services' `/admin` calls say, for people who would rather look than read
//! (docs/contract.md §7). Rendered here, by the same functions that answer the calls; a browser talks to the monitor
//! only, and the monitor to the services, as the operator who asks.
//!
//! | file | owns |
//! |---|---|
//! | `access`, `guard`, `sign_in` | who is looking, from where, and what every answer carries |
//! | `overview`, `alarms` | what is wrong first, then how much there is of what |
//! | `sagas`, `one_saga`, `picture` | lists; one saga as a picture of its flow |
//! | `dead_letters`, `one_letter`, `acts`, `replays`, `audit` | dead letters of all services, and what operators do about them |
//! | `consumers`, `events`, `whereabouts`, `find` | lag and rates; what happened when; where one event is |
//! | `plot`, `show`, `words` | drawings, small parts, and what words mean |
//!
//! Everything works without scripts; with them the page keeps itself current. Left out on purpose: pictures, fonts
//! and scripts of other hosts, and anything that the browser would have to evaluate.

mod access;
mod acts;
mod alarms;
mod assets;
mod audit;
mod away;
mod consumers;
mod counting;
mod dead_letters;
mod events;
mod find;
mod guard;
mod one_letter;
mod one_saga;
mod overview;
mod picture;
mod plot;
mod replays;
mod sagas;
mod show;
mod sign_in;
mod told;
mod whereabouts;
mod words;

use std::{future::ready, sync::Arc};

use actix_web::{
    HttpResponse, Resource,
    http::StatusCode,
    middleware::from_fn,
    web::{self, Data, ServiceConfig as Plain},
};
use askama::Template;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::Value;
use service_runtime::{
    Problem, Runtime,
    http::{Cursor, Routes},
};

pub use access::Access;
use access::Visitor;

use self::counting::Counted;
use crate::http::Desk;

/// What the pages stand on.
#[derive(Clone)]
struct Stand {
    desk: Desk,
    access: Access,
    counted: Counted,
}

/// The page's routes, to stand beside the API's.
///
/// # Errors
/// When `LOCAL_OPERATOR` can't be a user's id.
pub fn routes(runtime: &Runtime, desk: Desk) -> anyhow::Result<Routes> {
    let access = Access::read(runtime)?;
    let stand = Data::from(Arc::new(Stand { desk, access, counted: Counted::default() }));
    Ok(Routes::new(move |config| {
        config.app_data(stand.clone()).app_data(guard::BEYOND_PAGES);
        config.map(mount);
    }))
}

fn mount(config: &mut Plain) -> &mut Plain {
    use web::{get, post};
    const SEEN: &str = "GET, HEAD";
    const DONE: &str = "POST";
    const BOTH: &str = "GET, HEAD, POST";
    let at = |path: &str, allowed: &'static str| -> Resource {
        let other = move || ready(Err::<HttpResponse, _>(Problem::method_not_allowed(allowed)));
        web::resource(path.to_owned()).default_service(web::to(other))
    };
    let signing = at("/sign-in", BOTH).route(post().to(sign_in::sign_in)).route(get().to(sign_in::form));
    config
        .service(at("/assets/{file}", SEEN).route(get().to(assets::asset)))
        .service(at("/favicon.ico", SEEN).route(get().to(assets::icon)))
        .service(signing.wrap(from_fn(guard::open)))
        .service(at("/sign-out", DONE).route(post().to(sign_in::sign_out)).wrap(from_fn(guard::open)));
    let seen = [
        ("/", get().to(overview::overview)),
        ("/alarms", get().to(alarms::list)),
        ("/sagas", get().to(sagas::list)),
        ("/sagas/{key}", get().to(one_saga::one)),
        ("/dead-letters", get().to(dead_letters::all)),
        ("/replays", get().to(replays::all)),
        ("/replays/{service}/{id}", get().to(replays::one)),
        ("/audit", get().to(audit::all)),
        ("/consumers", get().to(consumers::all)),
        ("/events", get().to(events::list)),
        ("/where", get().to(whereabouts::one)),
        ("/find", get().to(find::find)),
        ("/dead-letters/{service}/{id}", get().to(one_letter::one)),
    ];
    let done = [
        ("/alarms/{id}/ack", post().to(alarms::acknowledge)),
        ("/dead-letters/{service}/replay", post().to(acts::replay)),
        ("/dead-letters/{service}/discard", post().to(acts::discard)),
        ("/replays/{service}/{id}/halt", post().to(acts::halt)),
    ];
    // Where the browser stands after a refusal: opened again, it shows the saga.
    let resume = at("/sagas/{key}/resume", BOTH).route(post().to(one_saga::resume)).route(get().to(one_saga::see_it));
    config.service(resume.wrap(from_fn(guard::operators)));
    // The first pattern that fits is taken, and the one of a dead letter fits the acts, too.
    let done = done.map(|(path, route)| (path, DONE, route)).into_iter();
    for (path, allowed, route) in done.chain(seen.map(|(path, route)| (path, SEEN, route))) {
        config.service(at(path, allowed).wrap(from_fn(guard::operators)).route(route));
    }
    config
}

/// What stands around every page.
struct Frame {
    /// Who looks; nobody on the sign-in form.
    who: Option<String>,
    /// Whether he can sign out.
    signed_in: bool,
    /// Which entry of the menu this is.
    here: &'static str,
}

impl Frame {
    fn of(visitor: &Visitor, here: &'static str) -> Self {
        Self { who: Some(visitor.name().to_owned()), signed_in: visitor.is_signed_in(), here }
    }

    /// For the menu: where one is.
    fn current(&self, entry: &str) -> &'static str {
        if self.here == entry { "page" } else { "false" }
    }
}

/// An entry of the menu.
const MENU: [(&str, &str, &str); 6] = [
    ("overview", "/", "Overview"),
    ("sagas", "/sagas", "Sagas"),
    ("dead-letters", "/dead-letters", "Dead letters"),
    ("consumers", "/consumers", "Consumers"),
    ("events", "/events", "Events"),
    ("audit", "/audit", "Audit"),
];

/// A page, as it goes to the browser.
fn html(status: StatusCode, page: &impl Template) -> Result<HttpResponse, Problem> {
    let body = page.render().map_err(Problem::internal)?;
    Ok(HttpResponse::build(status).content_type("text/html; charset=utf-8").body(body))
}

fn ok(page: &impl Template) -> Result<HttpResponse, Problem> {
    html(StatusCode::OK, page)
}

/// 303: done; the page that shows it is there.
fn see(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header(("Location", path)).finish()
}

/// What a form sends: an empty field is none.
fn said<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    // The same words as in the API's queries; only numbers and flags have to be read from their text.
    let value = serde_json::from_str(&text).ok().filter(|value: &Value| value.is_boolean() || value.is_number());
    let value = value.unwrap_or(Value::String(text));
    T::deserialize(value).map(Some).map_err(serde::de::Error::custom)
}

/// A cursor, to stand in a link.
fn cursor_text(cursor: &Cursor) -> String {
    serde_json::to_value(cursor).ok().and_then(|text| text.as_str().map(ToOwned::to_owned)).unwrap_or_default()
}
