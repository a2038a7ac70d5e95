//! Who is admitted when many ask at once, and what a process that was killed leaves behind.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use chrono::{TimeDelta, Utc};
use common_events::{EventId, events::CouponIssueRequested};
use coupon_service::{
    admission::{Refused, Standing},
    domain::Mode,
    gate::{Claim, Request, Verdict},
};
use service_runtime::telemetry;
use test_support::eventually;
use uuid::Uuid;

use crate::gate::station::{Station, admitted, coupon, refused, user};

#[tokio::test(flavor = "multi_thread")]
async fn six_hundred_users_and_three_hundred_repeats_get_exactly_the_hundred_coupons() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, 100).await;
    let users: Vec<_> = (0..600).chain(0..300).map(user).collect();

    let told = process.rush(&coupon_id, &users, 64).await;

    let winners = admitted(&told);
    assert_eq!(winners.len(), 100);
    assert_eq!(refused(&told, Refused::SoldOut) + refused(&told, Refused::AskedBefore), 800);
    station.eventually_issued(100).await;
    let winners: std::collections::BTreeSet<String> = winners.into_iter().map(ToString::to_string).collect();
    assert_eq!(station.holders().await, winners, "who was told yes holds one, and nobody else");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_is_told_how_far_his_claim_is() {
    let station = Station::open().await;
    let issuerless = station.admits().await;
    let coupon_id = station.put_up(&issuerless, Mode::Ranked, 1).await;
    assert_eq!(issuerless.claim(&coupon_id, &user(1)).await, Standing::Never);
    assert_eq!(issuerless.asks(&coupon_id, &user(1)).await.map(|admitted| admitted.rank), Ok(Some(1)));
    assert_eq!(issuerless.claim(&coupon_id, &user(1)).await, Standing::Admitted { rank: Some(1) });
    assert_eq!(issuerless.asks(&coupon_id, &user(1)).await, Err(Refused::AskedBefore));
    assert_eq!(issuerless.asks(&coupon_id, &user(2)).await, Err(Refused::SoldOut));
    issuerless.stop().await;

    let process = station.runs().await;
    assert_eq!(process.decided(&coupon_id, &user(1)).await, Ok(Some(1)));
    assert_eq!(process.asks(&coupon_id, &user(1)).await, Err(Refused::AskedBefore), "also who holds it");
    let nothing = "nothing".parse().expect("an id");
    assert_eq!(process.asks(&nothing, &user(1)).await, Err(Refused::UnknownCoupon));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sale_opens_and_closes_by_the_clock_of_redis() {
    let station = Station::open().await;
    let process = station.runs().await;
    let soon = Utc::now() + TimeDelta::milliseconds(1_500);
    let later = soon + TimeDelta::milliseconds(1_500);
    let coupon_id = station
        .put_up_as(&process, Mode::Set, 1_000, |mut coupon| {
            (coupon.opens_at, coupon.closes_at) = (Some(soon), Some(later));
            coupon
        })
        .await;
    assert_eq!(process.asks(&coupon_id, &user(0)).await, Err(Refused::NotOpenYet));
    let next = AtomicUsize::new(1);
    let ask = || async { process.asks(&coupon_id, &user(next.fetch_add(1, Ordering::Relaxed))).await };
    eventually("it opens", || async { ask().await.ok() }).await;
    eventually("it closes", || async { (ask().await == Err(Refused::Closed)).then_some(()) }).await;
    let admitted = process.admission.gate().standing(&coupon_id).await.expect("Redis").expect("open").holders;
    station.eventually_issued(admitted).await;
    process.stop().await;
}

/// Killed between gate and Kafka: the token is there, and nobody published.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_let_in_by_a_process_that_died_right_there_gets_his_coupon() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 3).await;
    let request = Request {
        coupon_id: coupon_id.clone(),
        user_id: user(1),
        request_id: EventId::new(Uuid::now_v7()),
        trace: telemetry::root(),
    };
    let Ok(Verdict::Admitted(token)) = station.gate().admit(request).await else { panic!("not admitted") };

    assert_eq!(process.asks(&coupon_id, &user(1)).await, Err(Refused::AskedBefore), "his admission is pending");
    assert_eq!(process.decided(&coupon_id, &user(1)).await, Ok(Some(1)));
    assert_eq!(station.number("SELECT count(*) FROM inbox").await, 1, "sent by the reconciler");
    let trace = station.database.pool.get().await.expect("a connection");
    let request: uuid::Uuid =
        trace.query_one("SELECT request_id FROM issued_coupons", &[]).await.expect("a row").get(0);
    assert_eq!(request, token.request_id.uuid(), "the same request, not another");
    process.stop().await;
}

/// Killed between Kafka's ack and the confirmation: the request is sent again, and known by its id.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_is_known_by_its_id() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, 3).await;
    let request = Request {
        coupon_id: coupon_id.clone(),
        user_id: user(1),
        request_id: EventId::new(Uuid::now_v7()),
        trace: telemetry::root(),
    };
    let gate = station.gate();
    let Ok(Verdict::Admitted(token)) = gate.admit(request).await else { panic!("not admitted") };
    let publisher = station.publisher().await;
    publisher.publish::<CouponIssueRequested>(&token.request(), None).await.expect("acknowledged");
    publisher.publish::<CouponIssueRequested>(&token.request(), None).await.expect("acknowledged");

    assert_eq!(process.decided(&coupon_id, &user(1)).await, Ok(None));
    eventually("nothing is pending", || async {
        let standing = gate.standing(&coupon_id).await.ok()??;
        (standing.unsettled == 0 && standing.pending == 0).then_some(())
    })
    .await;
    assert_eq!(station.number("SELECT count(*) FROM kept_answers WHERE topic = 'coupon-issued'").await, 1);
    assert_eq!(gate.claim(&coupon_id, &user(1)).await.expect("Redis"), Claim::Settled);
    process.stop().await;
}

/// Killed between the tables and the gate: the coupon is there, and the gate doesn't know it.
#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_whose_gate_was_never_opened_opens_by_itself() {
    let station = Station::open().await;
    let coupon = coupon(Mode::Set, 2);
    station.insert(&coupon).await;
    let process = station.runs().await;
    assert_eq!(process.asks(&coupon.coupon_id, &user(1)).await, Err(Refused::Rebuilding));
    process.is_open_again(&coupon.coupon_id).await;
    assert!(process.asks(&coupon.coupon_id, &user(1)).await.is_ok());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_admit_to_one_sale() {
    let station = Station::open().await;
    let (first, second) = (station.runs().await, station.runs().await);
    let coupon_id = station.put_up(&first, Mode::Ranked, 200).await;
    let users: Vec<_> = (0..500).map(user).collect();
    let (some, others) = futures::join!(first.rush(&coupon_id, &users, 32), second.rush(&coupon_id, &users, 32));
    assert_eq!(admitted(&some).len() + admitted(&others).len(), 200);
    station.eventually_issued(200).await;
    station.holders().await;
    let ranks = "SELECT count(DISTINCT rank) FROM issued_coupons WHERE rank BETWEEN 1 AND 200";
    assert_eq!(station.number(ranks).await, 200);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_hangs_is_one_that_does_not_answer() {
    let station = Station::on_redis("redis://127.0.0.1:1").await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Set, 1).await;
    let asked = tokio::time::timeout(Duration::from_secs(5), process.asks(&coupon_id, &user(1))).await;
    assert_eq!(asked.expect("an answer in time"), Err(Refused::Undecided));
    process.stop().await;
}
