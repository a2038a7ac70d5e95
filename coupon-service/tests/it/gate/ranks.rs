//! Ranks: 1 to n without gap or repeat, and those that came back are given again.

use std::collections::BTreeSet;

use common_events::{ClaimRefusal, Won, events::Discount};
use coupon_service::{
    admission::Refused,
    domain::{Mode, Outcome, Reward, Settled},
    gate::{Claim, Token},
};
use test_support::eventually;

use crate::gate::station::{Process, Station, user};

fn won(won: i64) -> Won {
    Won::try_from(won).expect("an amount")
}

fn prize(rank: i64, value: i64) -> Reward {
    Reward { from_rank: rank, to_rank: rank, discount: Discount::Amount { value: won(value) } }
}

#[tokio::test(flavor = "multi_thread")]
async fn ranks_have_no_gap_and_no_repeat_and_the_prizes_go_to_the_first_three() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station
        .put_up_as(&process, Mode::Ranked, 1_000, |mut coupon| {
            coupon.rewards = vec![prize(1, 1_000_000), prize(2, 500_000), prize(3, 100_000)];
            coupon
        })
        .await;
    let users: Vec<_> = (0..1_200).map(user).collect();

    let told = process.rush(&coupon_id, &users, 64).await;

    let given: Vec<i64> = told.iter().filter_map(|(_, answer)| answer.ok()?.rank).collect();
    assert_eq!(given.len(), 1_000);
    assert_eq!(given.iter().copied().collect::<BTreeSet<_>>(), (1..=1_000).collect());
    station.eventually_issued(1_000).await;
    let client = station.pool().get().await.expect("a connection");
    let rows = client
        .query("SELECT user_id, rank, (discount->>'value')::bigint FROM issued_coupons ORDER BY rank LIMIT 4", &[])
        .await
        .expect("the table");
    let prizes: Vec<(String, i64, i64)> = rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let of_rank = |rank: i64| {
        let first = told.iter().find(|(_, answer)| answer.is_ok_and(|admitted| admitted.rank == Some(rank)));
        first.expect("somebody was told this rank").0.to_string()
    };
    let expected = [1_000_000, 500_000, 100_000, 1_000].into_iter().zip(1..);
    assert_eq!(prizes, expected.map(|(value, rank)| (of_rank(rank), rank, value)).collect::<Vec<_>>());
    process.stop().await;
}

pub(crate) fn settled(token: &Token, outcome: Outcome) -> Settled {
    Settled {
        request_id: token.request_id,
        coupon_id: token.coupon_id.clone(),
        user_id: token.user_id.clone(),
        rank: token.rank,
        epoch: token.epoch,
        outcome,
    }
}

pub(crate) async fn token_of(process: &Process, coupon_id: &common_events::CouponId, n: usize) -> Token {
    match process.admission.gate().claim(coupon_id, &user(n)).await {
        Ok(Claim::Admitted(token)) => token,
        other => panic!("no token of user {n}: {other:?}"),
    }
}

async fn rank_of(process: &Process, coupon_id: &common_events::CouponId, n: usize) -> Result<Option<i64>, Refused> {
    process.asks(coupon_id, &user(n)).await.map(|admitted| admitted.rank)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lowest_rank_that_came_back_is_given_next() {
    let station = Station::open().await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 4).await;
    for n in 1..=4 {
        assert_eq!(rank_of(&process, &coupon_id, n).await, Ok(i64::try_from(n).ok()));
    }
    let gate = process.admission.gate();
    let second = token_of(&process, &coupon_id, 2).await;
    let third = token_of(&process, &coupon_id, 3).await;
    let rejections = [&third, &second].map(|token| settled(token, Outcome::Rejected(ClaimRefusal::SoldOut)));
    assert_eq!(gate.settle(&coupon_id, &rejections).await.expect("Redis"), 2);
    assert_eq!(gate.settle(&coupon_id, &rejections).await.expect("Redis"), 0, "a second time frees nothing");

    // A process that knew the sale to be sold out notices it.
    let rank = eventually("a slot is there", || async { rank_of(&process, &coupon_id, 5).await.ok() }).await;
    assert_eq!(rank, Some(2));
    assert_eq!(rank_of(&process, &coupon_id, 2).await, Ok(Some(3)), "who was turned away may ask again");
    assert_eq!(rank_of(&process, &coupon_id, 6).await, Err(Refused::SoldOut));
    // The old rejection doesn't take the new admission back.
    assert_eq!(gate.settle(&coupon_id, &rejections).await.expect("Redis"), 0);
    assert_eq!(token_of(&process, &coupon_id, 2).await.rank, Some(3));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_holds_the_coupon_by_another_request_keeps_his_place_and_gives_the_other_rank_back() {
    let station = Station::open().await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 3).await;
    for n in 1..=3 {
        rank_of(&process, &coupon_id, n).await.expect("admitted");
    }
    let gate = process.admission.gate();
    let held = settled(&token_of(&process, &coupon_id, 3).await, Outcome::AlreadyHeld { rank: Some(7) });
    let same = settled(&token_of(&process, &coupon_id, 2).await, Outcome::AlreadyHeld { rank: Some(2) });
    let burnt = settled(&token_of(&process, &coupon_id, 1).await, Outcome::RankTaken);
    assert_eq!(gate.settle(&coupon_id, &[held, same, burnt]).await.expect("Redis"), 2);

    assert_eq!(rank_of(&process, &coupon_id, 3).await, Err(Refused::AskedBefore));
    assert_eq!(rank_of(&process, &coupon_id, 2).await, Err(Refused::AskedBefore));
    assert_eq!(rank_of(&process, &coupon_id, 1).await, Ok(Some(3)), "his old rank is somebody else's");
    assert_eq!(rank_of(&process, &coupon_id, 4).await, Err(Refused::SoldOut));
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_rejections_exactly_as_many_as_there_are_get_one_and_every_rank_is_used() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 50).await;
    // Those who hold the coupon by an earlier sale of the same: their admissions come to nothing.
    station
        .execute(&format!(
            "INSERT INTO issued_coupons (issued_coupon_id, coupon_id, user_id, rank, request_id, discount, issued_at)
             SELECT gen_random_uuid(), '{coupon_id}', 'user-' || n, n, gen_random_uuid(),
                    '{{\"kind\":\"amount\",\"value\":1}}', now()
             FROM generate_series(1, 10) AS n;
             UPDATE coupons SET issued = 10"
        ))
        .await;
    let mut asked = 0;
    eventually("all 50 are issued", || {
        asked += 20;
        let users: Vec<_> = (asked - 20..asked).map(user).collect();
        let (process, coupon_id, station) = (&process, &coupon_id, &station);
        async move {
            process.rush(coupon_id, &users, 8).await;
            (station.issued().await == 50).then_some(())
        }
    })
    .await;
    station.holders().await;
    let ranks = "SELECT count(DISTINCT rank) FROM issued_coupons WHERE rank BETWEEN 1 AND 50";
    assert_eq!(station.number(ranks).await, 50);
    process.stop().await;
}
