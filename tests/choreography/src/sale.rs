//! What the gate would do: a coupon is put up, and whoever is admitted asks for his. Sometimes the gate
//! lets in more than there are coupons, or somebody twice: it may have lost what it knew.

use anyhow::Context;
use chrono::{TimeDelta, Utc};
use common_events::{Event, EventData, EventId, UserId, envelope, events::CouponIssueRequested};
use coupon_service::domain::{Coupon, CouponName, DiscountKind, Mode, Proposal, ProposedDiscount, ProposedReward};
use rand::{RngExt, rngs::StdRng};
use service_runtime::telemetry;
use uuid::Uuid;

/// A coupon by chance: of either mode, one to three of it, good or expired.
pub(crate) fn coupon(chance: &mut StdRng, id: &str) -> anyhow::Result<Coupon> {
    let mode = if chance.random_bool(0.5) { Mode::Set } else { Mode::Ranked };
    let rewards = match mode {
        Mode::Set => Vec::new(),
        Mode::Ranked => vec![ProposedReward { from_rank: 1, to_rank: 1, discount: discount(chance) }],
    };
    let put_up = Utc::now() - TimeDelta::days(2);
    let valid_until = chance.random_bool(0.15).then(|| put_up + TimeDelta::days(1));
    let proposal = Proposal {
        coupon_id: id.parse()?,
        name: CouponName::try_from(id.to_owned())?,
        mode,
        quantity: chance.random_range(1..=3_i64).try_into()?,
        discount: discount(chance),
        rewards,
        opens_at: None,
        closes_at: None,
        valid_until,
    };
    proposal.accept(put_up).context("a coupon")
}

/// From next to nothing to more than any order costs.
fn discount(chance: &mut StdRng) -> ProposedDiscount {
    if chance.random_bool(0.5) {
        return ProposedDiscount { kind: DiscountKind::Amount, value: chance.random_range(1..=1_500), max: None };
    }
    let max = chance.random_bool(0.5).then(|| chance.random_range(1..=300));
    ProposedDiscount { kind: DiscountKind::Percent, value: chance.random_range(1..=100), max }
}

/// The records of whom the gate admitted, in the order in which they lie on the topic.
pub(crate) fn admissions(chance: &mut StdRng, coupon: &Coupon, users: &[UserId]) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut records = Vec::new();
    let mut rank = 0;
    for user in users {
        if chance.random_bool(0.2) {
            continue;
        }
        let times = if chance.random_bool(0.15) { 2 } else { 1 };
        for _ in 0..times {
            rank += 1;
            let record = admission(coupon, user, rank)?;
            if chance.random_bool(0.15) {
                records.push(record.clone());
            }
            records.push(record);
        }
    }
    Ok(records)
}

fn admission(coupon: &Coupon, user: &UserId, rank: i64) -> anyhow::Result<Vec<u8>> {
    let data = CouponIssueRequested {
        coupon_id: coupon.coupon_id.clone(),
        user_id: user.clone(),
        rank: match coupon.mode {
            Mode::Set => None,
            Mode::Ranked => Some(rank),
        },
        epoch: coupon.epoch,
        admitted_at: Utc::now(),
    };
    let id = EventId::new(Uuid::now_v7());
    let subject = data.key().into_owned();
    Ok(envelope::encode(&Event { id, time: Utc::now(), subject, trace: telemetry::root(), data })?)
}
