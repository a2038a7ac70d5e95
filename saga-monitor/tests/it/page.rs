//! The operators' page over HTTP: who gets in, what every answer carries, what is shown, and how fast. What only a
//! browser can tell is in `tests/system`.

mod access;
mod acts;
mod looks;
mod speed;

use reqwest::{
    Method, RequestBuilder, Response, Url,
    header::{HeaderMap, HeaderValue},
};
use uuid::Uuid;

use crate::watch::Watch;

/// What a browser says of a form of this origin.
const OWN_PAGE: (&str, &str) = ("Sec-Fetch-Site", "same-origin");

/// Every page, for any id.
fn pages(id: Uuid) -> Vec<String> {
    let fixed = [
        "/",
        "/?range=24h",
        "/alarms",
        "/sagas",
        "/dead-letters",
        "/replays",
        "/audit",
        "/consumers",
        "/events",
        "/where",
        "/find?q=x",
    ];
    let of_one = [
        format!("/sagas/{id}"),
        format!("/where?event={id}"),
        format!("/dead-letters/product-service/{id}"),
        format!("/replays/product-service/{id}"),
    ];
    fixed.map(str::to_owned).into_iter().chain(of_one).collect()
}

/// Everything that changes something.
fn acts(id: Uuid) -> Vec<String> {
    vec![
        format!("/sagas/{id}/resume"),
        format!("/alarms/{id}/ack"),
        "/dead-letters/product-service/replay".to_owned(),
        "/dead-letters/product-service/discard".to_owned(),
        format!("/replays/product-service/{id}/halt"),
    ]
}

/// A path with these parameters.
fn with_query(path: &str, fields: &[(&str, &str)]) -> String {
    format!("{path}?{}", encoded(fields))
}

fn encoded(fields: &[(&str, &str)]) -> String {
    let url = Url::parse_with_params("http://here/", fields).expect("a constant URL");
    url.query().unwrap_or_default().to_owned()
}

/// A form, as a browser sends it.
trait Form {
    fn form(self, fields: &[(&str, &str)]) -> Self;
}

impl Form for RequestBuilder {
    fn form(self, fields: &[(&str, &str)]) -> Self {
        self.header("Content-Type", "application/x-www-form-urlencoded").body(encoded(fields))
    }
}

struct Shown {
    status: u16,
    headers: HeaderMap<HeaderValue>,
    html: String,
}

impl Shown {
    async fn of(request: RequestBuilder) -> Self {
        let answer: Response = request.send().await.expect("the server answers");
        let (status, headers) = (answer.status().as_u16(), answer.headers().clone());
        Self { status, headers, html: answer.text().await.expect("a body") }
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn shows(&self, text: &str) {
        assert!(self.html.contains(text), "{text} is not in {}", self.html);
    }
}

impl Watch {
    /// A page as an operator sees it.
    async fn page(&self, path: &str) -> Shown {
        let shown = Shown::of(self.ask(Method::GET, path)).await;
        assert_eq!(shown.status, 200, "{path}: {}", shown.html);
        shown
    }

    /// A form of a page, as an operator sends it.
    async fn send(&self, path: &str, form: &[(&str, &str)]) -> Shown {
        Shown::of(self.ask(Method::POST, path).header(OWN_PAGE.0, OWN_PAGE.1).form(form)).await
    }
}
