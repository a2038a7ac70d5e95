//! `GET /orders/{id}`, at once or when the order is confirmed or cancelled.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{HeaderMap, HeaderName, HeaderValue},
    web::{Data, Path},
};
use common_events::OrderId;
use service_runtime::{Caller, Pool, Problem};

use super::view::OrderView;
use crate::{domain::Order, store, waiting::Waiting};

/// The longest wait, in seconds (docs/contract.md §3); who asks for more waits this long.
const MAX_WAIT_SECONDS: u64 = 30;
const PREFER: HeaderName = HeaderName::from_static("prefer");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// One order.
#[utoipa::path(
    tag = "orders",
    security(("identity" = [])),
    params(
        ("order_id" = inline(OrderId), Path),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer when the order is CONFIRMED or CANCELLED, \
            or as it is after N seconds, at most 30"),
    ),
    responses((
        status = 200, body = OrderView,
        headers(("Preference-Applied" = String, description = "`wait=N`, when it was asked for")),
    )),
)]
#[get("/orders/{order_id}")]
pub(super) async fn get_order(
    caller: Caller,
    order_id: Path<OrderId>,
    request: HttpRequest,
    pool: Data<Pool>,
    waiting: Data<Waiting>,
) -> Result<HttpResponse, Problem> {
    let wait_seconds = wanted_wait(request.headers());
    // Before the first look, so that no ending falls between the look and the wait.
    let waiter = wait_seconds.and_then(|_| waiting.wait_for(*order_id));
    let mut order = find(&pool, &caller, *order_id).await?;
    let mut answer = HttpResponse::Ok();
    if let Some((waiter, seconds)) = waiter.zip(wait_seconds) {
        if order.status.is_open() {
            waiter.ended(Duration::from_secs(seconds)).await;
            order = find(&pool, &caller, *order_id).await?;
        }
        answer.insert_header((PREFERENCE_APPLIED, format!("wait={seconds}")));
    }
    Ok(answer.json(OrderView::from(order)))
}

/// The connection is given back before anybody waits.
async fn find(pool: &Pool, caller: &Caller, id: OrderId) -> Result<Order, Problem> {
    let client = pool.get().await?;
    let order = store::find_order(&client, id).await?;
    order.filter(|order| caller.may_see(&order.user_id)).ok_or_else(|| Problem::not_found("order"))
}

/// RFC 7240: preferences are a list, perhaps over several headers; the first `wait` counts, and what
/// isn't understood is ignored.
fn wanted_wait(headers: &HeaderMap) -> Option<u64> {
    headers
        .get_all(PREFER)
        .filter_map(|value: &HeaderValue| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| seconds.trim().trim_matches('"').parse().ok())
        .map(|seconds: u64| seconds.min(MAX_WAIT_SECONDS))
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn wait(prefer: &[&str]) -> Option<u64> {
        let request = prefer.iter().fold(TestRequest::get(), |request, value| request.append_header((PREFER, *value)));
        wanted_wait(request.to_http_request().headers())
    }

    #[test]
    fn the_wait_is_read_from_among_the_preferences() {
        assert_eq!(wait(&["wait=10"]), Some(10));
        assert_eq!(wait(&["respond-async, Wait = \"7\"; x=y"]), Some(7));
        assert_eq!(wait(&["handling=lenient", "wait=0", "wait=5"]), Some(0));
        assert_eq!(wait(&["wait=31"]), Some(30));
    }

    #[test]
    fn a_preference_that_is_not_understood_is_ignored() {
        for prefer in [&[][..], &["wait"], &["wait="], &["wait=-1"], &["wait=1.5"], &["waiting=1"], &["wait=9e9"]] {
            assert_eq!(wait(prefer), None, "{prefer:?}");
        }
    }
}
