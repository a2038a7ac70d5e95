//! What pages are made of beside HTML: style, scripts, icon. Built into the program.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{self, HeaderValue},
    web::Path,
};
use rust_embed::{Embed, EmbeddedFile};
use service_runtime::Problem;

use super::guard::protect;

#[derive(Embed)]
#[folder = "assets/"]
struct Assets;

/// One of them. Nobody has to be known for it: the sign-in form is made of the same.
pub(super) async fn asset(request: HttpRequest, name: Path<String>) -> Result<HttpResponse, Problem> {
    let file = Assets::get(&name).ok_or_else(|| Problem::not_found("asset"))?;
    Ok(answer(&request, &name, file))
}

/// Where browsers look for it unasked.
pub(super) async fn icon(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let file = Assets::get("icon.svg").ok_or_else(|| Problem::not_found("asset"))?;
    Ok(answer(&request, "icon.svg", file))
}

/// A browser keeps it, and asks whether it is still the same.
fn answer(request: &HttpRequest, name: &str, file: EmbeddedFile) -> HttpResponse {
    let tag = format!("\"{}\"", hex(&file.metadata.sha256_hash()[..16]));
    let is_known = request.headers().get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let mut answer = if is_known { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    answer.insert_header((header::ETAG, tag)).insert_header((header::CACHE_CONTROL, "no-cache"));
    let mut response =
        if is_known { answer.finish() } else { answer.content_type(media_type(name)).body(file.data.into_owned()) };
    protect(response.headers_mut());
    response
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
