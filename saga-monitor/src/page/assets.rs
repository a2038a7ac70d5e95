//! What pages are made of beside HTML: style, scripts, icon. Built into the program.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::{Path, Query},
};
use rust_embed::{Embed, EmbeddedFile};
use serde::Deserialize;
use service_runtime::Problem;

use super::guard::protect;

#[derive(Embed)]
#[folder = "assets/"]
struct Assets;

const FOREVER: &str = "public, max-age=31536000, immutable";
/// A browser keeps it, and asks whether it is still the same.
const ASK_AGAIN: &str = "no-cache";

/// Of which state of the asset somebody speaks: see [`url`].
#[derive(Deserialize)]
pub(super) struct Version {
    v: Option<String>,
}

/// Where a page finds one. What is in it is part of the address, so that a browser never asks twice for the same.
pub(super) fn url(name: &str) -> String {
    Assets::get(name).map_or_else(|| format!("/assets/{name}"), |file| format!("/assets/{name}?v={}", version(&file)))
}

/// One of them. Nobody has to be known for it: the sign-in form is made of the same.
pub(super) async fn asset(
    request: HttpRequest,
    name: Path<String>,
    asked: Query<Version>,
) -> Result<HttpResponse, Problem> {
    let file = Assets::get(&name).ok_or_else(|| Problem::not_found("asset"))?;
    // While a new release goes out, a page of the one may ask an instance of the other.
    let is_forever = asked.v.as_ref() == Some(&version(&file));
    Ok(answer(&request, &name, file, if is_forever { FOREVER } else { ASK_AGAIN }))
}

/// Where browsers look for it unasked.
pub(super) async fn icon(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let file = Assets::get("icon.svg").ok_or_else(|| Problem::not_found("asset"))?;
    Ok(answer(&request, "icon.svg", file, ASK_AGAIN))
}

fn answer(request: &HttpRequest, name: &str, file: EmbeddedFile, keep: &'static str) -> HttpResponse {
    let tag = format!("\"{}\"", version(&file));
    let is_known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::ETAG, tag)).insert_header((header::CACHE_CONTROL, keep));
    let mut response =
        if is_known { answer.finish() } else { answer.content_type(media_type(name)).body(file.data.into_owned()) };
    protect(response.headers_mut());
    response
}

fn version(file: &EmbeddedFile) -> String {
    hex(&file.metadata.sha256_hash()[..16])
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn media_type(name: &str) -> HeaderValue {
    HeaderValue::from_static(match name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/plain; charset=utf-8",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_vendored_has_its_licence_beside_it() {
        let names: Vec<String> = Assets::iter().map(|name| name.to_string()).collect();
        for vendored in names.iter().filter(|name| name.ends_with(".min.js")) {
            let licence = format!("{}-LICENSE.txt", vendored.split('-').next().expect("a name"));
            assert!(names.contains(&licence), "{vendored} needs {licence}");
        }
    }
}
