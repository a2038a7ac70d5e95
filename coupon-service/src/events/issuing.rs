//! The issuer: admissions become coupons here, or are turned away.
//!
//! The coupons of a batch are locked first, so that nobody else issues them, or ends their epoch,
//! meanwhile. Then the counter judges by what the tables say (the second line of defence), and
//! PostgreSQL takes or refuses (the third). What it refuses is looked at again and explained; only what
//! it took is told as issued.

use std::collections::BTreeSet;

use common_events::{
    ClaimRefusal, IssuedCouponId,
    events::{CouponIssueRejected, CouponIssueRequested, CouponIssued},
};
use futures::{FutureExt, future::BoxFuture};
use messaging::{Event, Failure, Handled, Tx, Unprocessable};
use service_runtime::museum::{self, Bug};
use tokio::sync::mpsc;
use tokio_postgres::Error;

use crate::{
    domain::{Counter, IssuedCoupon, Outcome, Request, Settled, Verdict},
    store::{self, Asker},
};

/// Which coupons PostgreSQL took of those it was asked for.
pub(super) type Taken<'t> = BoxFuture<'t, Result<BTreeSet<IssuedCouponId>, Error>>;

/// The lines of defence behind the gate.
#[derive(Clone, Copy)]
pub struct Defences {
    /// The second: what a request comes to by what the tables said when the batch began. `None`: there is no such coupon.
    pub judge: fn(&mut Counter, Request<'_>) -> Option<Verdict>,
    /// The third: issues what it may, in one statement, and says which.
    pub issue: for<'t> fn(&'t Tx<'t>, &'t [IssuedCoupon]) -> Taken<'t>,
}

impl Defences {
    /// Both stand.
    pub const ALL: Self = Self { judge: Counter::judge, issue: |tx, asked| store::insert_issued(tx, asked).boxed() };
}

type Asked<'e> = &'e Event<CouponIssueRequested>;

/// Admissions ask for their coupons. Each gets its answer, also one whose user holds the coupon already:
/// that one is told what he holds.
pub(super) async fn on_coupon_issue_requested(
    tx: &Tx<'_>,
    events: &[Asked<'_>],
    defences: Defences,
    settled: mpsc::Sender<Vec<Settled>>,
) -> Handled {
    let mut counter = open_counter(tx, events).await?;
    let mut verdicts = Vec::with_capacity(events.len());
    for event in events {
        verdicts.push(judge(&mut counter, event, IssuedCouponId::new(tx.new_id()), defences.judge)?);
    }
    let issued = issue(tx, &verdicts, defences).await?;
    explain_refused(tx, &counter, events, &mut verdicts, &issued).await?;
    answer_all(tx, events.iter().copied().zip(verdicts), settled).await
}

/// An operator gave these requests up: who asked is turned away, and his slot is free, unless he holds the
/// coupon by another request.
pub(super) async fn on_request_discarded(
    tx: &Tx<'_>,
    events: &[Asked<'_>],
    settled: mpsc::Sender<Vec<Settled>>,
) -> Handled {
    let counter = open_counter(tx, events).await?;
    // Of a coupon that never was nobody has a slot.
    let verdicts = events.iter().filter_map(|event| Some((*event, counter.discard(&event.data)?)));
    answer_all(tx, verdicts, settled).await
}

/// Tells what requests came to, keeps what nobody holds, and hands it to the gate.
async fn answer_all(
    tx: &Tx<'_>,
    verdicts: impl Iterator<Item = (Asked<'_>, Verdict)>,
    settled: mpsc::Sender<Vec<Settled>>,
) -> Handled {
    let outcomes: Vec<Settled> =
        verdicts.map(|(event, verdict)| answer(tx, event, verdict)).collect::<Result<_, Failure>>()?;
    store::insert_unused(tx, &outcomes).await?;
    tx.after_commit(move || {
        // Full, or nobody there: the gate's reconciler finds the same in the tables.
        let _ = settled.try_send(outcomes);
    });
    Ok(())
}

/// Locks the coupons of these events, and then looks who holds what of them.
async fn open_counter(tx: &Tx<'_>, events: &[Asked<'_>]) -> Result<Counter, Error> {
    let coupons = store::lock_coupons(tx, events.iter().map(|event| &event.data.coupon_id)).await?;
    let held = store::list_held(tx, &askers(events.iter().copied())).await?;
    Ok(Counter::new(coupons, held, tx.now()))
}

fn askers<'e>(events: impl Iterator<Item = Asked<'e>>) -> Vec<Asker<'e>> {
    events.map(|event| (&event.data.coupon_id, &event.data.user_id, event.data.rank)).collect()
}

/// Only this service admits, and coupons are never taken down: an unknown one makes no sense.
fn judge(
    counter: &mut Counter,
    event: Asked<'_>,
    issued_coupon_id: IssuedCouponId,
    second_line: fn(&mut Counter, Request<'_>) -> Option<Verdict>,
) -> Result<Verdict, Unprocessable> {
    let request = Request { request_id: event.id, admission: &event.data, issued_coupon_id };
    second_line(counter, request)
        .ok_or_else(|| Unprocessable::new(format!("a request for coupon {}, which never was", event.data.coupon_id)))
}

async fn issue(tx: &Tx<'_>, verdicts: &[Verdict], defences: Defences) -> Result<BTreeSet<IssuedCouponId>, Error> {
    let asked: Vec<IssuedCoupon> = verdicts
        .iter()
        .filter_map(|verdict| match verdict {
            Verdict::Issued(coupon) => Some(coupon.clone()),
            Verdict::Held(_) | Verdict::Rejected(_) | Verdict::RankTaken => None,
        })
        .collect();
    (defences.issue)(tx, &asked).await
}

/// What PostgreSQL didn't take, though the counter would have given it, comes to what is found there
/// now. While both see the same that is nothing, and nothing is asked.
async fn explain_refused(
    tx: &Tx<'_>,
    counter: &Counter,
    events: &[Asked<'_>],
    verdicts: &mut [Verdict],
    issued: &BTreeSet<IssuedCouponId>,
) -> Result<(), Error> {
    let was_refused = |verdict: &Verdict| match verdict {
        // In the hands of this very batch's winner, or of nobody.
        Verdict::Issued(coupon) | Verdict::Held(coupon) => !issued.contains(&coupon.issued_coupon_id),
        Verdict::Rejected(_) | Verdict::RankTaken => false,
    };
    let wanted = verdicts.iter().filter(|verdict| matches!(verdict, Verdict::Issued(_))).count();
    if issued.len() == wanted {
        return Ok(());
    }
    let refused = || events.iter().zip(verdicts.iter()).filter(|(_, verdict)| was_refused(verdict));
    let held = store::list_held(tx, &askers(refused().map(|(event, _)| *event))).await?;
    for (event, verdict) in events.iter().zip(verdicts) {
        if was_refused(verdict) {
            *verdict = counter.explain(&event.data, &held);
        }
    }
    Ok(())
}

/// Tells what a request came to.
fn answer(tx: &Tx<'_>, event: Asked<'_>, verdict: Verdict) -> Result<Settled, Failure> {
    let outcome = match &verdict {
        Verdict::Issued(_) => Outcome::Issued,
        Verdict::Held(held) if held.request_id == event.id => Outcome::Issued,
        Verdict::Held(held) => Outcome::AlreadyHeld { rank: held.rank },
        Verdict::Rejected(reason) => Outcome::Rejected(*reason),
        Verdict::RankTaken => Outcome::RankTaken,
    };
    match verdict {
        Verdict::Issued(coupon) | Verdict::Held(coupon) => tx.publish(event.causes(told(event, coupon)))?,
        Verdict::Rejected(_) if museum::is_back(Bug::RejectionUntold) => event.id,
        Verdict::Rejected(reason) => tx.publish(event.causes(rejected(event, reason)))?,
        Verdict::RankTaken => tx.publish(event.causes(rejected(event, ClaimRefusal::SoldOut)))?,
    };
    let CouponIssueRequested { coupon_id, user_id, rank, epoch, admitted_at: _ } = event.data.clone();
    Ok(Settled { request_id: event.id, coupon_id, user_id, rank, epoch, outcome })
}

fn told(event: Asked<'_>, coupon: IssuedCoupon) -> CouponIssued {
    CouponIssued {
        coupon_id: coupon.coupon_id,
        user_id: coupon.user_id,
        issued_coupon_id: coupon.issued_coupon_id,
        request_id: Some(event.id),
        rank: coupon.rank,
        discount: coupon.discount,
        valid_until: coupon.valid_until,
        issued_at: coupon.issued_at,
    }
}

fn rejected(event: Asked<'_>, reason: ClaimRefusal) -> CouponIssueRejected {
    let CouponIssueRequested { coupon_id, user_id, .. } = event.data.clone();
    CouponIssueRejected { coupon_id, user_id, request_id: Some(event.id), reason }
}
