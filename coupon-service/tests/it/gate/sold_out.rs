//! Once a sale is sold out a process answers by itself.

use common_events::ClaimRefusal;
use coupon_service::{
    admission::Refused,
    domain::{Mode, Outcome, Settled},
    gate::Claim,
};
use test_support::eventually;

use crate::gate::{
    own_parts::OwnRedis,
    station::{Station, user},
};

/// Scripts that Redis ran so far, but for the looks at how a gate stands.
async fn evaluations(redis: &OwnRedis) -> u64 {
    let statistics = redis.ask(&["INFO", "commandstats"]).await;
    let calls = |line: &str| line.strip_prefix("cmdstat_sismember:calls=")?.split(',').next()?.parse().ok();
    statistics.lines().find_map(calls).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sold_out_sale_is_answered_without_redis_and_a_holder_is_told_so() {
    let redis = OwnRedis::start().await;
    let station = Station::on_redis(&redis.url()).await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Set, 3).await;
    for n in 0..3 {
        process.asks(&coupon_id, &user(n)).await.expect("admitted");
    }
    assert_eq!(process.asks(&coupon_id, &user(9)).await, Err(Refused::SoldOut));
    eventually("Redis isn't asked any more", || async {
        let before = evaluations(&redis).await;
        for n in 0..50 {
            let expected = if n < 3 { Refused::AskedBefore } else { Refused::SoldOut };
            assert_eq!(process.asks(&coupon_id, &user(n)).await, Err(expected));
        }
        (evaluations(&redis).await == before).then_some(())
    })
    .await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_came_back_elsewhere_is_noticed() {
    let station = Station::open().await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Set, 2).await;
    for n in 0..2 {
        process.asks(&coupon_id, &user(n)).await.expect("admitted");
    }
    for n in 0..20 {
        assert!(process.asks(&coupon_id, &user(n)).await.is_err());
    }
    // Another process: this one isn't told.
    let elsewhere = station.gate();
    let Ok(Claim::Admitted(token)) = elsewhere.claim(&coupon_id, &user(0)).await else { panic!("no token") };
    let rejected = Settled {
        request_id: token.request_id,
        coupon_id: coupon_id.clone(),
        user_id: user(0),
        rank: None,
        epoch: token.epoch,
        outcome: Outcome::Rejected(ClaimRefusal::NotOpen),
    };
    assert_eq!(elsewhere.settle(&coupon_id, &[rejected]).await.expect("Redis"), 1);
    eventually("the slot is given again", || async { process.asks(&coupon_id, &user(7)).await.ok() }).await;
    assert_eq!(process.asks(&coupon_id, &user(8)).await, Err(Refused::SoldOut));
    process.stop().await;
}
