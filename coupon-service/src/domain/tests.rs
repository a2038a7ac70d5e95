//! What a coupon can be, who gets one, and what it takes off.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use common_events::{
    ClaimRefusal, CouponId, CouponRefusal, EventId, IssuedCouponId, OrderId, UserId, Won,
    events::{CouponIssueRequested, Discount, OrderCreated},
};
use proptest::{collection::vec, prelude::*};
use rstest::rstest;
use uuid::Uuid;

use super::*;

fn start() -> DateTime<Utc> {
    "2026-11-21T06:00:00Z".parse().expect("a time")
}

fn minutes(minutes: i64) -> DateTime<Utc> {
    start() + TimeDelta::minutes(minutes)
}

fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

fn user(n: u8) -> UserId {
    format!("user-{n}").parse().expect("a user id")
}

fn autumn() -> CouponId {
    "autumn".parse().expect("a coupon id")
}

fn percent(value: i64, max: Option<i64>) -> Discount {
    Discount::Percent { value: value.try_into().expect("a percentage"), max: max.map(won) }
}

const fn off(value: i64) -> ProposedDiscount {
    ProposedDiscount { kind: DiscountKind::Amount, value, max: None }
}

const fn reward(from_rank: i64, to_rank: i64) -> ProposedReward {
    ProposedReward { from_rank, to_rank, discount: off(500) }
}

/// Ten of it, 100 won each, the first with 500.
fn proposal() -> Proposal {
    Proposal {
        coupon_id: autumn(),
        name: CouponName::try_from("Autumn".to_owned()).expect("a name"),
        mode: Mode::Ranked,
        quantity: 10.try_into().expect("a quantity"),
        discount: off(100),
        rewards: vec![reward(1, 1)],
        opens_at: None,
        closes_at: None,
        valid_until: None,
    }
}

fn coupon(mode: Mode, quantity: i64) -> Coupon {
    let rewards = match mode {
        Mode::Set => vec![],
        Mode::Ranked => vec![reward(1, 1)],
    };
    let quantity = quantity.try_into().expect("a quantity");
    Proposal { mode, quantity, rewards, ..proposal() }.accept(start()).expect("a coupon")
}

mod proposing {
    use super::*;

    #[rstest]
    #[case("")]
    #[case("  ")]
    #[case("a\nb")]
    fn a_name_says_something(#[case] name: &str) {
        assert_eq!(CouponName::try_from(name.to_owned()), Err(Invalid::Name));
        assert_eq!(CouponName::try_from("김".repeat(201)), Err(Invalid::Name));
        assert!(CouponName::try_from("김".repeat(200)).is_ok());
    }

    #[test]
    fn there_are_1_to_1_000_000_of_a_coupon() {
        for wrong in [i64::MIN, -1, 0, 1_000_001, i64::MAX] {
            assert_eq!(Quantity::try_from(wrong), Err(Invalid::Quantity), "{wrong}");
        }
        assert!(Quantity::try_from(1).is_ok() && Quantity::try_from(1_000_000).is_ok());
    }

    #[rstest]
    #[case(DiscountKind::Amount, 0, None)]
    #[case(DiscountKind::Amount, -1, None)]
    #[case(DiscountKind::Amount, MAX_DISCOUNT + 1, None)]
    #[case(DiscountKind::Amount, 100, Some(100))]
    #[case(DiscountKind::Percent, 0, None)]
    #[case(DiscountKind::Percent, 101, None)]
    #[case(DiscountKind::Percent, 266, None)]
    #[case(DiscountKind::Percent, -1, None)]
    #[case(DiscountKind::Percent, 10, Some(0))]
    #[case(DiscountKind::Percent, 10, Some(-1))]
    #[case(DiscountKind::Percent, 10, Some(MAX_DISCOUNT + 1))]
    fn a_discount_takes_off_something_and_not_everything_there_is(
        #[case] kind: DiscountKind,
        #[case] value: i64,
        #[case] max: Option<i64>,
    ) {
        let discount = ProposedDiscount { kind, value, max };
        let why = Discount::try_from(discount).expect_err("no discount");
        assert_eq!(Proposal { discount, ..proposal() }.accept(start()), Err(Refusal::Discount(why)));
        let rewards = vec![reward(1, 1), ProposedReward { discount, ..reward(2, 2) }];
        let refused = Proposal { rewards, ..proposal() }.accept(start());
        assert_eq!(refused, Err(Refusal::RewardDiscount { reward: 1, why }));
    }

    #[rstest]
    #[case(vec![reward(0, 1)], Refusal::FromRank { reward: 0, quantity: 10 })]
    #[case(vec![reward(11, 11)], Refusal::FromRank { reward: 0, quantity: 10 })]
    #[case(vec![reward(1, 11)], Refusal::ToRank { reward: 0, from_rank: 1, quantity: 10 })]
    #[case(vec![reward(3, 2)], Refusal::ToRank { reward: 0, from_rank: 3, quantity: 10 })]
    #[case(vec![reward(1, 3), reward(3, 4)], Refusal::RankTwice { reward: 1, rank: 3 })]
    #[case(vec![reward(4, 9), reward(1, 4)], Refusal::RankTwice { reward: 1, rank: 4 })]
    #[case(vec![reward(2, 3), reward(1, 10)], Refusal::RankTwice { reward: 1, rank: 2 })]
    #[case(vec![reward(1, 1); MAX_REWARDS + 1], Refusal::TooManyRewards)]
    fn a_reward_has_ranks_of_its_own(#[case] rewards: Vec<ProposedReward>, #[case] refusal: Refusal) {
        assert_eq!(Proposal { rewards, ..proposal() }.accept(start()), Err(refusal));
    }

    #[test]
    fn only_a_ranked_coupon_has_rewards() {
        let refused = Proposal { mode: Mode::Set, ..proposal() }.accept(start());
        assert_eq!(refused, Err(Refusal::RewardsWithoutRanks));
        assert!(Proposal { mode: Mode::Set, rewards: vec![], ..proposal() }.accept(start()).is_ok());
    }

    #[test]
    fn a_coupon_opens_before_it_closes_and_both_make_sense_now() {
        let at = |opens_at, closes_at, valid_until| {
            Proposal { opens_at, closes_at, valid_until, ..proposal() }.accept(start()).map(|_| ())
        };
        let (past, now, soon, later) = (Some(minutes(-1)), Some(start()), Some(minutes(1)), Some(minutes(2)));
        for closes in [past, now] {
            assert_eq!(at(None, closes, None), Err(Refusal::ClosesAt));
            assert_eq!(at(None, None, closes), Err(Refusal::ValidUntil));
        }
        assert_eq!(at(later, soon, None), Err(Refusal::ClosesAt));
        assert_eq!(at(soon, soon, None), Err(Refusal::ClosesAt));
        assert_eq!(at(later, None, soon), Err(Refusal::ValidUntil));
        assert_eq!(at(past, soon, later), Ok(()));
        assert_eq!(at(soon, later, later), Ok(()));
    }

    #[test]
    fn each_rank_has_its_reward_and_the_others_the_discount() {
        let rewards = vec![reward(5, 6), reward(1, 1)];
        let coupon = Proposal { rewards, ..proposal() }.accept(start()).expect("a coupon");
        let discounts: Vec<Discount> = (1..=10).map(|rank| coupon.discount_of(Some(rank)).clone()).collect();
        let value = |discount: &Discount| match discount {
            Discount::Amount { value } => value.get(),
            Discount::Percent { .. } => 0,
        };
        let values: Vec<i64> = discounts.iter().map(value).collect();
        assert_eq!(values, [500, 100, 100, 100, 500, 500, 100, 100, 100, 100]);
        assert_eq!(value(coupon.discount_of(None)), 100);
    }
}

mod counting {
    use super::*;

    /// Who asks, under which rank (in ranked mode), admitted in which epoch and minute.
    type Asked = (u8, i64, i64, i64);

    fn admission(mode: Mode, (who, rank, epoch, minute): Asked) -> CouponIssueRequested {
        CouponIssueRequested {
            coupon_id: autumn(),
            user_id: user(who),
            rank: match mode {
                Mode::Set => None,
                Mode::Ranked => Some(rank),
            },
            epoch,
            admitted_at: minutes(minute),
        }
    }

    fn judge(counter: &mut Counter, nth: usize, admission: &CouponIssueRequested) -> Verdict {
        let id = Uuid::from_u128(u128::try_from(nth).expect("a small number"));
        let request = Request { request_id: EventId::new(id), admission, issued_coupon_id: IssuedCouponId::new(id) };
        counter.judge(request).expect("the coupon is known")
    }

    fn counter(coupon: Coupon, held: Vec<IssuedCoupon>) -> Counter {
        Counter::new(BTreeMap::from([(autumn(), coupon)]), held, start())
    }

    fn verdicts(mode: Mode, quantity: i64, asked: &[Asked]) -> Vec<Verdict> {
        let mut counter = counter(coupon(mode, quantity), vec![]);
        let judged = |(nth, asked): (usize, &Asked)| judge(&mut counter, nth, &admission(mode, *asked));
        asked.iter().enumerate().map(judged).collect()
    }

    fn issued(verdicts: &[Verdict]) -> Vec<&IssuedCoupon> {
        verdicts
            .iter()
            .filter_map(|verdict| match verdict {
                Verdict::Issued(coupon) => Some(coupon),
                Verdict::Held(_) | Verdict::Rejected(_) | Verdict::RankTaken => None,
            })
            .collect()
    }

    proptest! {
        #[test]
        fn never_too_many_one_per_user_and_each_rank_once(
            ranked in any::<bool>(), quantity in 1..6_i64, asked in vec((0..8_u8, 0..8_i64, 1..3_i64, -1..3_i64), 0..40)
        ) {
            let mode = if ranked { Mode::Ranked } else { Mode::Set };
            let verdicts = verdicts(mode, quantity, &asked);
            let issued = issued(&verdicts);
            prop_assert!(issued.len() <= usize::try_from(quantity).expect("small"));
            let users: BTreeSet<&UserId> = issued.iter().map(|coupon| &coupon.user_id).collect();
            prop_assert_eq!(users.len(), issued.len());
            if ranked {
                let ranks: BTreeSet<i64> = issued.iter().filter_map(|coupon| coupon.rank).collect();
                prop_assert_eq!(ranks.len(), issued.len());
                prop_assert!(ranks.iter().all(|rank| (1..=quantity).contains(rank)));
            }
            for ((who, ..), verdict) in asked.iter().zip(&verdicts) {
                if let Verdict::Held(held) = verdict {
                    prop_assert!(issued.contains(&held) && held.user_id == user(*who));
                }
            }
        }

        #[test]
        fn the_first_so_many_get_one_and_nobody_else(quantity in 1..6_i64, users in vec(0..8_u8, 0..40)) {
            let asked: Vec<Asked> = users.iter().map(|who| (*who, 0, 1, 0)).collect();
            let verdicts = verdicts(Mode::Set, quantity, &asked);
            let mut first: Vec<u8> = Vec::new();
            for who in users {
                if !first.contains(&who) {
                    first.push(who);
                }
            }
            first.truncate(usize::try_from(quantity).expect("small"));
            let winners: Vec<UserId> = issued(&verdicts).iter().map(|coupon| coupon.user_id.clone()).collect();
            prop_assert_eq!(winners, first.into_iter().map(user).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_time_of_admission_counts_and_not_now() {
        let open = |coupon: Coupon| Coupon { opens_at: Some(minutes(0)), closes_at: Some(minutes(2)), ..coupon };
        let mut counter = counter(open(coupon(Mode::Set, 10)), vec![]);
        for (who, minute, in_time) in [(0, -1, false), (1, 0, true), (2, 1, true), (3, 2, false)] {
            let verdict = judge(&mut counter, usize::from(who), &admission(Mode::Set, (who, 0, 1, minute)));
            let not_open = verdict == Verdict::Rejected(ClaimRefusal::NotOpen);
            assert_eq!(!not_open, in_time, "minute {minute}: {verdict:?}");
        }
    }

    #[test]
    fn an_admission_of_another_epoch_counts_for_nothing() {
        let mut counter = counter(Coupon { epoch: 2, ..coupon(Mode::Set, 10) }, vec![]);
        for (who, epoch) in [(0, 1), (1, 3)] {
            let verdict = judge(&mut counter, usize::from(who), &admission(Mode::Set, (who, 0, epoch, 0)));
            assert_eq!(verdict, Verdict::Rejected(ClaimRefusal::EpochEnded));
        }
        assert!(matches!(judge(&mut counter, 2, &admission(Mode::Set, (2, 0, 2, 0))), Verdict::Issued(_)));
    }

    #[test]
    fn who_holds_one_is_done_however_late_and_under_whatever_rank_he_asks_again() {
        let verdicts = verdicts(Mode::Ranked, 2, &[(0, 1, 1, 0), (0, 2, 1, 0), (0, 2, 9, -9), (1, 2, 1, 0)]);
        let [Verdict::Issued(first), Verdict::Held(second), Verdict::Held(third), Verdict::Issued(other)] =
            &verdicts[..]
        else {
            panic!("{verdicts:?}")
        };
        assert_eq!((first, first), (second, third));
        assert_eq!((first.rank, other.rank), (Some(1), Some(2)));
    }

    #[test]
    fn a_rank_that_is_somebody_elses_or_that_there_is_not_gets_nothing() {
        let verdicts = verdicts(Mode::Ranked, 2, &[(0, 1, 1, 0), (1, 1, 1, 0), (2, 3, 1, 0), (3, 0, 1, 0)]);
        assert_eq!(verdicts[1..], [Verdict::RankTaken, Verdict::RankTaken, Verdict::RankTaken]);
    }

    #[test]
    fn what_was_issued_before_is_not_issued_again() {
        let before = verdicts(Mode::Ranked, 2, &[(0, 1, 1, 0)]);
        let held: Vec<IssuedCoupon> = issued(&before).into_iter().cloned().collect();
        let mut counter = counter(Coupon { issued: 1, ..coupon(Mode::Ranked, 2) }, held);
        let mut judged = |nth: usize, asked| judge(&mut counter, nth, &admission(Mode::Ranked, asked));
        assert!(matches!(judged(10, (0, 2, 1, 0)), Verdict::Held(_)));
        assert_eq!(judged(11, (1, 1, 1, 0)), Verdict::RankTaken);
        assert!(matches!(judged(12, (2, 2, 1, 0)), Verdict::Issued(_)));
        assert_eq!(judged(13, (3, 2, 1, 0)), Verdict::RankTaken);
    }
}

mod using {
    use super::*;

    const ORDERS: u128 = 4;
    const COUPONS: u128 = 2;

    #[derive(Debug, Clone, Copy)]
    enum Heard {
        Created { order: u128, coupon: u128 },
        Cancelled { order: u128 },
    }

    fn order_id(order: u128) -> OrderId {
        OrderId::new(Uuid::from_u128(order))
    }

    fn coupon_id(coupon: u128) -> IssuedCouponId {
        IssuedCouponId::new(Uuid::from_u128(100 + coupon))
    }

    fn in_wallet() -> CouponInWallet {
        let discount = Discount::Amount { value: won(100) };
        CouponInWallet { coupon_id: autumn(), user_id: user(0), discount, valid_until: None, order_id: None }
    }

    fn created(order: u128, coupon: u128) -> OrderCreated {
        OrderCreated {
            order_id: order_id(order),
            order_version: 1,
            user_id: user(0),
            issued_coupon_id: Some(coupon_id(coupon)),
            lines: vec![],
            subtotal: won(250),
            created_at: start(),
        }
    }

    /// An order names one coupon, always the same.
    fn heard() -> impl Strategy<Value = Heard> {
        prop_oneof![
            3 => (0..ORDERS).prop_map(|order| Heard::Created { order, coupon: order % COUPONS }),
            2 => (0..ORDERS).prop_map(|order| Heard::Cancelled { order }),
        ]
    }

    proptest! {
        #[test]
        fn a_coupon_is_used_by_one_order_at_a_time_and_restored_once(facts in vec(heard(), 0..30)) {
            let coupons = (0..COUPONS).map(|coupon| (coupon_id(coupon), in_wallet())).collect();
            let mut wallet = Wallet::new(BTreeMap::new(), coupons);
            let mut users: BTreeMap<IssuedCouponId, OrderId> = BTreeMap::new();
            let (mut asked, mut ended) = (BTreeSet::new(), BTreeSet::new());
            for fact in facts {
                match fact {
                    Heard::Created { order, coupon } => {
                        let free = !users.contains_key(&coupon_id(coupon)) && !ended.contains(&order);
                        match wallet.use_coupon(&created(order, coupon)) {
                            None => prop_assert!(asked.contains(&order), "the first wish is answered"),
                            Some(Answer::Used(used)) => {
                                prop_assert!(free && asked.insert(order));
                                users.insert(used.issued_coupon_id, used.order_id);
                            }
                            Some(Answer::Refused(refused)) => {
                                prop_assert!(!free && asked.insert(order));
                                let expected =
                                    if ended.contains(&order) { CouponRefusal::OrderCancelled } else { CouponRefusal::Used };
                                prop_assert_eq!(refused.reason, expected);
                            }
                        }
                    }
                    Heard::Cancelled { order } => {
                        let held = users.iter().find(|(_, user)| **user == order_id(order)).map(|(coupon, _)| *coupon);
                        let restored = wallet.restore_coupon(order_id(order)).map(|restored| restored.issued_coupon_id);
                        prop_assert_eq!(restored, held);
                        if let Some(coupon) = held {
                            users.remove(&coupon);
                        }
                        ended.insert(order);
                    }
                }
            }
            for (coupon, order) in &wallet.changes().coupons {
                prop_assert_eq!(order.as_ref(), users.get(coupon));
            }
        }

        #[test]
        fn a_discount_is_never_above_the_subtotal_nor_its_maximum(
            subtotal in 0..=Won::MAX.get(), value in 1..=100_i64, max in proptest::option::of(1..=MAX_DISCOUNT)
        ) {
            let taken = discount_on(won(subtotal), &percent(value, max)).get();
            let exact = i128::from(subtotal) * i128::from(value) / 100;
            prop_assert_eq!(i128::from(taken), max.map_or(exact, |max| exact.min(i128::from(max))));
            prop_assert!(taken <= subtotal);
            prop_assert_eq!(discount_on(won(subtotal), &Discount::Amount { value: won(value) }).get(), subtotal.min(value));
        }
    }

    #[test]
    fn a_coupon_that_is_anothers_or_unknown_or_used_or_expired_is_refused_as_that() {
        let refused = |coupon: Option<CouponInWallet>| {
            let coupons = coupon.map(|coupon| (coupon_id(0), coupon)).into_iter().collect();
            match Wallet::new(BTreeMap::new(), coupons).use_coupon(&created(0, 0)) {
                Some(Answer::Refused(failed)) => Some(failed.reason),
                Some(Answer::Used(_)) | None => None,
            }
        };
        let used = CouponInWallet { order_id: Some(order_id(9)), ..in_wallet() };
        let expired = CouponInWallet { valid_until: Some(minutes(-1)), ..in_wallet() };
        let foreign = CouponInWallet { user_id: user(1), ..used.clone() };
        assert_eq!(refused(None), Some(CouponRefusal::NotFound));
        assert_eq!(refused(Some(foreign)), Some(CouponRefusal::NotOwned));
        assert_eq!(refused(Some(used)), Some(CouponRefusal::Used));
        assert_eq!(refused(Some(expired)), Some(CouponRefusal::Expired));
        let last_moment = CouponInWallet { valid_until: Some(start()), ..in_wallet() };
        assert_eq!(refused(Some(last_moment)), None);
    }

    #[test]
    fn an_order_without_a_coupon_is_not_answered() {
        let without = OrderCreated { issued_coupon_id: None, ..created(0, 0) };
        assert_eq!(Wallet::new(BTreeMap::new(), BTreeMap::new()).use_coupon(&without), None);
    }
}
