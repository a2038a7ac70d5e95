//! Requests that an operator gives up: whoever asked is told, and his slot is free.

use std::sync::Arc;

use common_events::{
    ClaimRefusal, Event, Service,
    events::{CouponIssueRejected, CouponIssueRequested, CouponIssued},
};
use coupon_service::domain::{Outcome, Proposal};
use messaging::admin::Office;
use serde_json::json;
use test_support::{Served, runtime};
use uuid::Uuid;

use crate::counter::{Counter, KIM, LEE, new_coupon_id, set};

/// Dead, as the coupon isn't there, which it is only afterwards: the shortest way to a dead request.
async fn dead_request(counter: &Counter) -> Event<CouponIssueRequested> {
    let coupon_id = new_coupon_id();
    let request = counter.requested(&coupon_id, KIM, None);
    assert_eq!(counter.seam.deliver(&request).await.dead, 1);
    counter.put_up(Proposal { coupon_id, ..set() }).await;
    request
}

/// The operators' calls. Connections that were made to answer them live as long as this.
fn open_office(counter: &Counter) -> Served {
    let runtime = runtime(Service::Coupon);
    let office = Office::of(Arc::clone(counter.seam.group()), &runtime.settings);
    Served::new(&runtime, office.routes())
}

/// An operator discards every dead letter.
async fn discard(counter: &Counter, office: &Served) {
    let client = counter.database.pool.get().await.expect("a connection");
    let rows = client.query("SELECT id FROM dead_letters", &[]).await.expect("the table");
    let ids: Vec<Uuid> = rows.iter().map(|row| row.get(0)).collect();
    let answer = reqwest::Client::new()
        .post(format!("{}/admin/dead-letters/discard", office.url))
        .header("X-User-Id", "olga")
        .header("X-Roles", "operator")
        .json(&json!({"ids": ids, "reason": "the sale is over"}))
        .send()
        .await
        .expect("the server answers");
    assert_eq!(answer.status(), 200, "{:?}", answer.text().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_discarded_ends_as_rejected_and_its_slot_is_free() {
    let mut counter = Counter::open().await;
    let office = open_office(&counter);
    let request = dead_request(&counter).await;
    discard(&counter, &office).await;
    let told = counter.seam.told::<CouponIssueRejected>().await;
    let [rejected] = &told[..] else { panic!("rejected once, not {told:?}") };
    assert_eq!((rejected.data.reason, rejected.data.request_id), (ClaimRefusal::Discarded, Some(request.id)));
    assert_eq!(rejected.trace.trace_id, request.trace.trace_id);
    assert_eq!(counter.count("SELECT count(*) FROM unused_admissions WHERE released_at IS NULL").await, 1);
    let settled = counter.settled();
    assert_eq!((settled[0].request_id, settled[0].outcome), (request.id, Outcome::Rejected(ClaimRefusal::Discarded)));

    discard(&counter, &office).await;
    assert_eq!(counter.told_rejected().await.len(), 1, "once");
    counter.issue(&request.data.coupon_id, LEE).await;
    assert_eq!(counter.issued().await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_coupon_by_another_request_keeps_it() {
    let mut counter = Counter::open().await;
    let office = open_office(&counter);
    let request = dead_request(&counter).await;
    let issued = counter.issue(&request.data.coupon_id, KIM).await;
    discard(&counter, &office).await;
    assert_eq!((counter.issued().await, counter.told_rejected().await), (1, vec![]));
    let told = counter.seam.told::<CouponIssued>().await;
    assert_eq!((told[1].data.issued_coupon_id, told[1].data.request_id), (issued, Some(request.id)));
    assert_eq!(counter.settled()[1].outcome, Outcome::AlreadyHeld { rank: None });
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_coupon_that_never_was_nobody_is_owed_an_answer() {
    let counter = Counter::open().await;
    let office = open_office(&counter);
    let request = counter.requested(&new_coupon_id(), KIM, None);
    assert_eq!(counter.seam.deliver(&request).await.dead, 1);
    discard(&counter, &office).await;
    assert_eq!((counter.told_rejected().await, counter.told_issued().await), (vec![], vec![]));
}
