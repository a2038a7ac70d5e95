//! Redis is flushed, or comes back without its data, or with old data, in mid-sale: the gate closes, is
//! rebuilt, and opens under a new epoch; exactly as many as there are get one.

use std::time::Duration;

use common_events::{ClaimRefusal, EventId};
use coupon_service::{
    admission::{Refused, Standing},
    domain::Mode,
    gate::{Request, Token, Verdict},
};
use service_runtime::{health::Readiness, telemetry};
use test_support::eventually;
use uuid::Uuid;

use crate::gate::{
    own_parts::OwnRedis,
    station::{Process, Station, admitted, coupon, user},
};

const QUANTITY: i64 = 60;

/// The sale goes on until all are issued; then everything is as if nothing had happened.
async fn ends_well(station: &Station, process: &Process, coupon_id: &common_events::CouponId, mode: Mode) {
    process.is_open_again(coupon_id).await;
    let mut n = 1_000;
    eventually("all are issued", || {
        n += 20;
        let users: Vec<_> = (n - 20..n).map(user).collect();
        async move {
            process.rush(coupon_id, &users, 8).await;
            (station.issued().await == QUANTITY).then_some(())
        }
    })
    .await;
    station.holders().await;
    if mode == Mode::Ranked {
        let ranks = format!("SELECT count(DISTINCT rank) FROM issued_coupons WHERE rank BETWEEN 1 AND {QUANTITY}");
        assert_eq!(station.number(&ranks).await, QUANTITY);
    }
    assert_eq!(station.number("SELECT issued FROM coupons").await, QUANTITY);
    eventually("the gate is sold out", || async {
        let standing = process.admission.gate().standing(coupon_id).await.ok()??;
        (standing.is_sold_out() && standing.unsettled == 0).then_some(())
    })
    .await;
}

async fn everybody_who_was_told_yes_has_his_answer(
    process: &Process,
    coupon_id: &common_events::CouponId,
    winners: &[&common_events::UserId],
) {
    for winner in winners {
        assert!(process.decided(coupon_id, winner).await.is_ok(), "{winner} was told yes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_forgot_its_scripts_is_no_error_to_a_customer() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Set, 10).await;
    for n in 0..5 {
        assert_eq!(redis.ask(&["SCRIPT", "FLUSH"]).await, "OK");
        assert!(process.asks(&coupon_id, &user(n)).await.is_ok());
    }
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_cluster_each_script_finds_all_its_keys_on_one_node() {
    let redis = OwnRedis::start_as_cluster().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, QUANTITY).await;
    let users: Vec<_> = (0..30).map(user).collect();
    assert_eq!(admitted(&process.rush(&coupon_id, &users, 8).await).len(), 30);
    // The rebuild works on more keys than an admission.
    redis.ask(&["FLUSHALL"]).await;
    ends_well(&station, &process, &coupon_id, Mode::Ranked).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_in_mid_sale() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, QUANTITY).await;
    let users: Vec<_> = (0..40).map(user).collect();
    let told = process.rush(&coupon_id, &users, 16).await;
    assert_eq!(redis.ask(&["FLUSHALL"]).await, "OK");

    assert_eq!(process.asks(&coupon_id, &user(0)).await, Err(Refused::Rebuilding), "never \"nobody yet\"");
    assert_eq!(process.asks(&coupon_id, &user(500)).await, Err(Refused::Rebuilding));
    process.is_open_again(&coupon_id).await;
    assert_eq!(process.asks(&coupon_id, &user(0)).await, Err(Refused::AskedBefore), "he is known again");
    everybody_who_was_told_yes_has_his_answer(&process, &coupon_id, &admitted(&told)).await;
    assert_eq!(station.number("SELECT epoch FROM coupons").await, 2);
    ends_well(&station, &process, &coupon_id, Mode::Ranked).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_without_its_data_in_mid_sale() {
    let mut redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, QUANTITY).await;
    let users: Vec<_> = (0..40).map(user).collect();
    let told = process.rush(&coupon_id, &users, 16).await;
    redis.kill();
    let away = process.asks(&coupon_id, &user(700)).await;
    assert!(matches!(away, Err(Refused::Undecided)), "{away:?}");
    redis.start_again().await;
    everybody_who_was_told_yes_has_his_answer(&process, &coupon_id, &admitted(&told)).await;
    ends_well(&station, &process, &coupon_id, Mode::Set).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn restarted_with_old_data_in_mid_sale() {
    let mut redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, QUANTITY).await;
    let users: Vec<_> = (0..40).map(user).collect();
    let (before, after) = users.split_at(10);
    let mut told = process.rush(&coupon_id, before, 4).await;
    redis.save().await;
    told.extend(process.rush(&coupon_id, after, 16).await);
    redis.kill();
    redis.start_again().await;

    // It woke up with ten holders, and would give ranks 11 to 40 again.
    let asked = eventually("an answer", || async {
        let answer = process.asks(&coupon_id, &user(800)).await;
        (answer != Err(Refused::Undecided)).then_some(answer)
    })
    .await;
    assert_eq!(asked, Err(Refused::Rebuilding));
    everybody_who_was_told_yes_has_his_answer(&process, &coupon_id, &admitted(&told)).await;
    ends_well(&station, &process, &coupon_id, Mode::Ranked).await;
    process.stop().await;
}

/// The same run of Redis with less than it should hold: somebody meddled.
#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_misses_a_holder_is_rebuilt() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, QUANTITY).await;
    let users: Vec<_> = (0..20).map(user).collect();
    process.rush(&coupon_id, &users, 8).await;
    station.eventually_issued(20).await;
    let holders = format!("{}gate:{{{coupon_id}}}:holders", station.prefix());
    assert_eq!(redis.ask(&["SREM", &holders, "user-3"]).await, "1");
    eventually("a new epoch", || async { (station.number("SELECT epoch FROM coupons").await == 2).then_some(()) })
        .await;
    process.is_open_again(&coupon_id).await;
    assert_eq!(process.asks(&coupon_id, &user(3)).await, Err(Refused::AskedBefore));
    ends_well(&station, &process, &coupon_id, Mode::Set).await;
    process.stop().await;
}

/// Frozen between the gate and Kafka for longer than a rebuild takes.
#[tokio::test(flavor = "multi_thread")]
async fn who_was_let_in_before_a_rebuild_and_arrives_after_it_is_turned_away_visibly() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, QUANTITY).await;
    let request = Request {
        coupon_id: coupon_id.clone(),
        user_id: user(1),
        request_id: EventId::new(Uuid::now_v7()),
        trace: telemetry::root(),
    };
    let Ok(Verdict::Admitted(late)) = station.gate().admit(request).await else { panic!("not admitted") };
    redis.ask(&["FLUSHALL"]).await;
    assert_eq!(process.asks(&coupon_id, &user(2)).await, Err(Refused::Rebuilding));
    process.is_open_again(&coupon_id).await;
    let publisher = station.publisher().await;
    publisher.publish(&Token::request(&late), None).await.expect("acknowledged");
    let standing = eventually("it is decided", || async {
        let standing = process.claim(&coupon_id, &user(1)).await;
        (standing != Standing::Never).then_some(standing)
    })
    .await;
    assert_eq!(standing, Standing::Rejected(ClaimRefusal::EpochEnded));
    // He may ask again, and nobody's rank is missing.
    assert_eq!(process.asks(&coupon_id, &user(1)).await.map(|admitted| admitted.rank), Ok(Some(1)));
    assert_eq!(process.decided(&coupon_id, &user(1)).await, Ok(Some(1)));
    ends_well(&station, &process, &coupon_id, Mode::Ranked).await;
    publisher.stop().await.expect("it stops in order");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_that_cannot_be_read_keeps_no_other_gate_shut() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, QUANTITY).await;
    // As a later release may have written it; it comes first.
    let later = coupon(Mode::Set, 10);
    station.insert(&later).await;
    let write = r#"UPDATE coupons SET coupon_id = '0-later', discount = '{"kind": "gift"}' WHERE coupon_id = "#;
    station.execute(&format!("{write}'{}'", later.coupon_id)).await;
    redis.ask(&["FLUSHALL"]).await;
    process.is_open_again(&coupon_id).await;
    eventually("it is told of", || is(&station, stands_still())).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gate_that_cannot_be_rebuilt_is_told_of_until_it_is() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, QUANTITY).await;
    station
        .execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''no epoch''; END';
             CREATE TRIGGER refuse BEFORE UPDATE ON coupons FOR EACH ROW EXECUTE FUNCTION refuse()",
        )
        .await;
    redis.ask(&["FLUSHALL"]).await;
    eventually("it is told of", || is(&station, stands_still())).await;
    for _ in 0..10 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(station.runtime.health.readiness().await, stands_still(), "also while it is tried again");
    }
    station.execute("DROP TRIGGER refuse ON coupons").await;
    process.is_open_again(&coupon_id).await;
    eventually("all is well", || is(&station, Readiness::Ready)).await;
    process.stop().await;
}

async fn is(station: &Station, expected: Readiness) -> Option<()> {
    (station.runtime.health.readiness().await == expected).then_some(())
}

fn stands_still() -> Readiness {
    Readiness::Degraded { lost: vec!["reconciler"] }
}
