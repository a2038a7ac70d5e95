//! Admissions become coupons or are turned away: once, twice, late, after the end of their epoch.

use chrono::TimeDelta;
use common_events::{
    ClaimRefusal, Service, Topic,
    events::{CouponIssueRequested, CouponIssued},
};
use coupon_service::{
    domain::{Outcome, Proposal},
    events,
};
use messaging::{Delivered, Tx};
use tokio::sync::mpsc;

use crate::counter::{Counter, KIM, LEE, admission, applied, new_coupon_id, now, set, worth};

#[test]
fn the_group_hears_what_the_catalogue_says() {
    let (settled, _) = mpsc::channel(1);
    let mut heard: Vec<Topic> = events::subscriptions(settled).topics().collect();
    heard.sort_unstable();
    assert_eq!(heard, Topic::read_by(Service::Coupon).collect::<Vec<_>>());
}

#[tokio::test]
async fn whom_the_gate_admitted_gets_the_coupon_and_is_told_what_it_takes_off() {
    let mut counter = Counter::open().await;
    let coupon = counter.put_up(Proposal { valid_until: Some(now() + TimeDelta::days(30)), ..set() }).await;
    let request = counter.requested(&coupon, KIM, None);
    assert_eq!(counter.seam.deliver(&request).await, applied(1));

    let told = counter.seam.told::<CouponIssued>().await;
    let [issued] = &told[..] else { panic!("issued once, not {told:?}") };
    assert_eq!((issued.subject.as_str(), issued.trace.trace_id), (coupon.as_str(), request.trace.trace_id));
    assert_eq!((issued.data.request_id, issued.data.rank), (Some(request.id), None));
    assert_eq!((issued.data.user_id.as_str(), worth(&issued.data.discount)), (KIM, 1_000));
    assert!(issued.data.valid_until.is_some());
    assert_eq!((counter.issued().await, counter.told_rejected().await), (1, vec![]));
    let settled = counter.settled();
    assert_eq!((settled.len(), settled[0].request_id, settled[0].outcome), (1, request.id, Outcome::Issued));
}

#[tokio::test]
async fn the_same_request_delivered_twice_issues_once() {
    let mut counter = Counter::open().await;
    let coupon = counter.put_up_set(2).await;
    let request = counter.requested(&coupon, KIM, None);
    assert_eq!(counter.seam.deliver(&request).await, applied(1));
    assert_eq!(counter.seam.deliver(&request).await, Delivered { duplicates: 1, ..Delivered::default() });
    let in_one_batch = counter.requested(&coupon, LEE, None);
    let delivered = counter.seam.deliver_batch(&[in_one_batch.clone(), in_one_batch]).await;
    assert_eq!((delivered.applied, delivered.duplicates), (1, 1));
    assert_eq!((counter.issued().await, counter.told_issued().await.len()), (2, 2));
    assert_eq!(counter.settled().len(), 2);
}

/// After Redis came back with old data, the gate admits a user again whom it had forgotten.
#[tokio::test]
async fn who_holds_the_coupon_is_told_so_again_and_the_rank_of_his_second_admission_is_free() {
    let mut counter = Counter::open().await;
    let coupon = counter.put_up_ranked(10).await;
    counter.hear(admission(&coupon, KIM, Some(1))).await;
    let again = counter.requested(&coupon, KIM, Some(2));
    assert_eq!(counter.seam.deliver(&again).await, applied(1));

    let told = counter.seam.told::<CouponIssued>().await;
    let [first, second] = &told[..] else { panic!("each request is answered: {told:?}") };
    assert_eq!(first.data.issued_coupon_id, second.data.issued_coupon_id);
    assert_eq!((second.data.request_id, second.data.rank), (Some(again.id), Some(1)));
    assert_eq!((counter.issued().await, counter.told_rejected().await), (1, vec![]));
    let settled = counter.settled();
    assert_eq!((settled[1].rank, settled[1].outcome), (Some(2), Outcome::AlreadyHeld { rank: Some(1) }));
    assert_eq!(counter.count("SELECT count(*) FROM unused_admissions WHERE outcome = 'ALREADY_HELD'").await, 1);

    counter.hear(admission(&coupon, LEE, Some(2))).await;
    assert_eq!(counter.told_issued().await.last(), Some(&(LEE.to_owned(), Some(2))));
}

#[tokio::test]
async fn the_first_so_many_of_a_batch_get_one_and_the_rest_is_turned_away_in_order() {
    let mut counter = Counter::open().await;
    let coupon = counter.put_up_set(3).await;
    let requests: Vec<_> = (0..5).map(|n| counter.requested(&coupon, &format!("user-{n}"), None)).collect();
    assert_eq!(counter.seam.deliver_batch(&requests).await, applied(5));
    let winners: Vec<String> = counter.told_issued().await.into_iter().map(|(user, _)| user).collect();
    assert_eq!(winners, ["user-0", "user-1", "user-2"]);
    let rejected = counter.told_rejected().await;
    assert_eq!(rejected, [("user-3".to_owned(), ClaimRefusal::SoldOut), ("user-4".to_owned(), ClaimRefusal::SoldOut)]);
    assert_eq!(counter.issued().await, 3);
    let unreleased = "SELECT count(*) FROM unused_admissions WHERE released_at IS NULL AND reason = 'SOLD_OUT'";
    assert_eq!(counter.count(unreleased).await, 2);
    let outcomes: Vec<Outcome> = counter.settled().into_iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes[3..], [Outcome::Rejected(ClaimRefusal::SoldOut); 2]);
}

#[tokio::test]
async fn the_first_three_ranks_get_their_rewards_and_the_others_the_discount() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_ranked(5).await;
    // Admitted in the order of their ranks, asked for in another.
    let requests: Vec<_> =
        [4, 2, 1, 5, 3].map(|rank| counter.requested(&coupon, &format!("user-{rank}"), Some(rank))).into();
    counter.seam.deliver_batch(&requests).await;
    let mut won: Vec<(String, i64)> = counter
        .seam
        .told::<CouponIssued>()
        .await
        .iter()
        .map(|issued| (issued.data.user_id.to_string(), worth(&issued.data.discount)))
        .collect();
    won.sort();
    let expected =
        [("user-1", 1_000_000), ("user-2", 500_000), ("user-3", 100_000), ("user-4", 1_000), ("user-5", 1_000)];
    assert_eq!(won, expected.map(|(user, value)| (user.to_owned(), value)));
}

#[tokio::test]
async fn a_rank_that_somebody_holds_is_not_given_twice_and_is_not_free() {
    let mut counter = Counter::open().await;
    let coupon = counter.put_up_ranked(5).await;
    let requests = [(KIM, 1), (LEE, 1), ("max", 6)].map(|(user, rank)| counter.requested(&coupon, user, Some(rank)));
    counter.seam.deliver_batch(&requests).await;
    assert_eq!(counter.told_issued().await, [(KIM.to_owned(), Some(1))]);
    let turned_away = [(LEE.to_owned(), ClaimRefusal::SoldOut), ("max".to_owned(), ClaimRefusal::SoldOut)];
    assert_eq!(counter.told_rejected().await, turned_away);
    let outcomes: Vec<Outcome> = counter.settled().into_iter().map(|one| one.outcome).collect();
    assert_eq!(outcomes, [Outcome::Issued, Outcome::RankTaken, Outcome::RankTaken]);
}

#[tokio::test]
async fn a_request_that_waited_is_judged_by_when_it_was_admitted() {
    let counter = Counter::open().await;
    let (opened, closed) = (now() - TimeDelta::hours(2), now() - TimeDelta::hours(1));
    let proposal = Proposal { opens_at: Some(opened), closes_at: Some(closed), ..set() };
    let coupon = counter.put_up(proposal).await;
    let moment = TimeDelta::milliseconds(1);
    for (name, admitted_at) in
        [("early", opened - moment), ("first", opened), ("last", closed - moment), ("late", closed)]
    {
        counter.hear(CouponIssueRequested { admitted_at, ..admission(&coupon, name, None) }).await;
    }
    let winners: Vec<String> = counter.told_issued().await.into_iter().map(|(user, _)| user).collect();
    assert_eq!(winners, ["first", "last"]);
    let rejected = counter.told_rejected().await;
    assert_eq!(rejected, [("early".to_owned(), ClaimRefusal::NotOpen), ("late".to_owned(), ClaimRefusal::NotOpen)]);
}

#[tokio::test]
async fn what_was_admitted_before_the_gate_was_rebuilt_is_turned_away_and_may_ask_again() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(2).await;
    counter.hear(admission(&coupon, KIM, None)).await;
    let held = {
        let mut client = counter.database.pool.get().await.expect("a connection");
        let tx = Tx::begin(&mut client).await.expect("a transaction");
        let epoch = coupon_service::store::update_epoch(&tx, &coupon).await.expect("PostgreSQL answers");
        assert_eq!(epoch, Some(2));
        let holders = coupon_service::store::list_holders(&tx, &coupon).await.expect("PostgreSQL answers");
        tx.commit().await.expect("it commits");
        holders
    };
    assert_eq!(held, [(KIM.parse().expect("a user id"), None)]);

    counter.hear(admission(&coupon, LEE, None)).await;
    assert_eq!(counter.told_rejected().await, [(LEE.to_owned(), ClaimRefusal::EpochEnded)]);
    counter.hear(admission(&coupon, KIM, None)).await;
    assert_eq!(counter.told_rejected().await.len(), 1, "who holds one is done, in whatever epoch he asks");
    counter.hear(CouponIssueRequested { epoch: 2, ..admission(&coupon, LEE, None) }).await;
    assert_eq!(counter.issued().await, 2);
}

#[tokio::test]
async fn a_request_for_a_coupon_that_never_was_is_set_aside_and_the_next_is_served() {
    let counter = Counter::open().await;
    let coupon = counter.put_up_set(1).await;
    let requests = [counter.requested(&new_coupon_id(), KIM, None), counter.requested(&coupon, LEE, None)];
    let delivered = counter.seam.deliver_batch(&requests).await;
    assert_eq!((delivered.dead, delivered.applied), (1, 1));
    assert_eq!(counter.told_issued().await, [(LEE.to_owned(), None)]);
}

#[tokio::test]
async fn one_batch_may_be_about_several_coupons() {
    let counter = Counter::open().await;
    let (one, other) = (counter.put_up_set(2).await, counter.put_up_ranked(3).await);
    let mut requests = Vec::new();
    for n in 0..5 {
        requests.push(counter.requested(&one, &format!("user-{n}"), None));
        requests.push(counter.requested(&other, &format!("user-{n}"), Some(n + 1)));
    }
    assert_eq!(counter.seam.deliver_batch(&requests).await, applied(10));
    let issued = counter.seam.told::<CouponIssued>().await;
    let of = |coupon| issued.iter().filter(|event| event.data.coupon_id == coupon).count();
    assert_eq!((of(one), of(other)), (2, 3));
    assert_eq!(counter.issued().await, 5);
}
