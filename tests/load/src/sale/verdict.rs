//! Who holds a coupon in the end, over the HTTP API only: what every customer can see for himself.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use futures::{FutureExt, future::try_join_all};
use serde::Serialize;
use system::{
    Shop,
    shop::{Claim, ClaimStatus},
};

use super::{Rush, Sale, SaleTally};
use crate::{
    client::{Connection, address_of},
    own_thread,
};

/// How long an admission may stay open once nothing more is asked for.
const CLAIM_PATIENCE: Duration = Duration::from_mins(1);
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Of one kind of complaint, so many are told.
const TOLD: usize = 5;

/// What was found. Right when nothing is wrong.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SaleVerdict {
    /// Coupons there were.
    pub quantity: i64,
    /// Coupons issued, by coupon-service's own account.
    pub issued: i64,
    /// Users of the run that hold one.
    pub holders: usize,
    /// Users of the run that were admitted and then rejected.
    pub rejected: usize,
    /// What is wrong, a sentence each.
    pub wrong: Vec<String>,
}

impl SaleVerdict {
    /// Whether exactly as many were issued as there are, one each, and nobody is in the dark.
    pub fn is_right(&self) -> bool {
        self.wrong.is_empty()
    }
}

/// Asks every user for his claim. The sale must have sold to nobody else.
pub async fn judge(shop: &Shop, sale: &Sale, rush: &Rush, tally: &SaleTally) -> anyhow::Result<SaleVerdict> {
    let (whom, connections, users) = (sale.clone(), rush.connections, rush.users);
    let asking = own_thread::run(move || ask_everybody(whom, users, connections).boxed_local());
    let (claims, _) = asking.await.context("asking for the claims")?;
    let coupon = shop.coupon(&sale.coupon).await.context("asking for the coupon")?;
    let mut verdict = SaleVerdict {
        quantity: sale.quantity,
        issued: coupon.issued,
        holders: count(&claims, ClaimStatus::Issued),
        rejected: count(&claims, ClaimStatus::Rejected),
        wrong: Vec::new(),
    };
    verdict.wrong =
        [exactly_as_many(&verdict, rush), everybody_knows(sale, tally, &claims), ranks_without_gap(&verdict, &claims)]
            .concat();
    Ok(verdict)
}

fn count(claims: &[Claim], status: ClaimStatus) -> usize {
    claims.iter().filter(|claim| claim.status == status).count()
}

fn exactly_as_many(verdict: &SaleVerdict, rush: &Rush) -> Vec<String> {
    let SaleVerdict { quantity, issued, holders, .. } = verdict;
    let due = (*quantity).min(rush.users.into());
    let mut wrong = Vec::new();
    if *issued != due {
        wrong.push(format!("{issued} of {quantity} coupons are issued to {} users, not {due}", rush.users));
    }
    if usize::try_from(*issued).ok() != Some(*holders) {
        wrong.push(format!("{issued} coupons are issued, and {holders} users hold one"));
    }
    wrong
}

/// Nobody waits for ever, and nobody who was told 202 ends with nothing.
fn everybody_knows(sale: &Sale, tally: &SaleTally, claims: &[Claim]) -> Vec<String> {
    let open = (0..).zip(claims).filter(|(_, claim)| claim.status == ClaimStatus::Admitted);
    let open = open.map(|(user, _)| format!("{} is admitted and nothing more", sale.user(user)));
    let lost = tally
        .admissions
        .iter()
        .filter(|admission| claims.get(admission.user as usize).is_none_or(|claim| claim.status == ClaimStatus::None));
    let lost = lost.map(|admission| format!("{} was admitted, and nobody knows of it", sale.user(admission.user)));
    [first_few(open), first_few(lost)].concat()
}

/// Where there are ranks, they are 1, 2, 3 … as many as coupons.
fn ranks_without_gap(verdict: &SaleVerdict, claims: &[Claim]) -> Vec<String> {
    let issued = claims.iter().filter(|claim| claim.status == ClaimStatus::Issued);
    let mut holders: BTreeMap<i64, usize> = BTreeMap::new();
    issued.filter_map(|claim| claim.rank).for_each(|rank| *holders.entry(rank).or_default() += 1);
    if holders.is_empty() {
        return Vec::new();
    }
    let twice = holders.iter().filter(|(_, holders)| **holders > 1);
    let twice = twice.map(|(rank, holders)| format!("{holders} users hold rank {rank}"));
    let missing = (1..=verdict.issued).filter(|rank| !holders.contains_key(rank));
    [first_few(twice), first_few(missing.map(|rank| format!("nobody holds rank {rank}")))].concat()
}

fn first_few(complaints: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = complaints.collect();
    if all.len() > TOLD {
        let more = all.len() - TOLD;
        all.truncate(TOLD);
        all.push(format!("… and {more} more like this"));
    }
    all
}

/// The claims of all users, by number.
async fn ask_everybody(sale: Sale, users: u32, connections: u32) -> anyhow::Result<Vec<Claim>> {
    let (next, claims) = (AtomicU32::new(0), Mutex::new(vec![Claim::default(); users as usize]));
    let (next, claims) = (Arc::new(next), Arc::new(claims));
    let askers = (0..connections).map(|_| ask_some(&sale, users, &next, &claims));
    try_join_all(askers).await?;
    let claims = std::mem::take(&mut *claims.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(claims)
}

async fn ask_some(sale: &Sale, users: u32, next: &AtomicU32, claims: &Mutex<Vec<Claim>>) -> anyhow::Result<()> {
    let address = address_of(&sale.url);
    let mut connection = Connection::to(address);
    loop {
        let user = next.fetch_add(1, Ordering::Relaxed);
        if user >= users {
            return Ok(());
        }
        let claim = settled_claim(&mut connection, sale, address, user).await?;
        if let Some(place) = claims.lock().unwrap_or_else(PoisonError::into_inner).get_mut(user as usize) {
            *place = claim;
        }
    }
}

/// The claim, once it isn't ADMITTED any more; ADMITTED when that takes too long.
async fn settled_claim(connection: &mut Connection, sale: &Sale, address: &str, user: u32) -> anyhow::Result<Claim> {
    let (coupon, name) = (&sale.coupon, sale.user(user));
    let request = format!("GET /coupons/{coupon}/claims/me HTTP/1.1\r\nhost: {address}\r\nx-user-id: {name}\r\n\r\n");
    let until = Instant::now() + CLAIM_PATIENCE;
    loop {
        let claim = claim_once(connection, &request).await;
        match claim {
            Ok(claim) if claim.status != ClaimStatus::Admitted => return Ok(claim),
            // 503 while the gate is being rebuilt; silence while a test has killed the service.
            Ok(_) | Err(_) if Instant::now() < until => tokio::time::sleep(ASK_AGAIN_AFTER).await,
            settled => return settled.with_context(|| format!("the claim of {name}")),
        }
    }
}

async fn claim_once(connection: &mut Connection, request: &str) -> anyhow::Result<Claim> {
    let answer = connection.ask(request.as_bytes()).await?;
    ensure!(answer.status == 200, "{} {}", answer.status, String::from_utf8_lossy(answer.body));
    serde_json::from_slice(answer.body).context("a claim")
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Admission, SaleTally},
        *,
    };

    fn issued(rank: Option<i64>) -> Claim {
        Claim { status: ClaimStatus::Issued, rank, ..Claim::default() }
    }

    fn verdict(issued: i64, holders: usize) -> SaleVerdict {
        SaleVerdict { quantity: 2, issued, holders, ..SaleVerdict::default() }
    }

    fn sale() -> Sale {
        Sale { url: String::new(), coupon: "c".parse().unwrap(), quantity: 2, run: "r".to_owned() }
    }

    #[test]
    fn one_too_many_one_too_few_and_two_for_one_are_found() {
        let rush = Rush::of(10, 1);
        assert_eq!(exactly_as_many(&verdict(2, 2), &rush), Vec::<String>::new());
        assert_eq!(exactly_as_many(&verdict(1, 1), &Rush::of(1, 1)), Vec::<String>::new());
        assert!(!exactly_as_many(&verdict(3, 3), &rush).is_empty());
        assert!(!exactly_as_many(&verdict(1, 1), &rush).is_empty());
        assert!(!exactly_as_many(&verdict(2, 1), &rush).is_empty());
    }

    #[test]
    fn a_rank_that_is_missing_or_given_twice_is_found() {
        assert!(ranks_without_gap(&verdict(2, 2), &[issued(Some(2)), issued(Some(1))]).is_empty());
        assert!(ranks_without_gap(&verdict(2, 2), &[issued(None), issued(None)]).is_empty());
        assert_eq!(ranks_without_gap(&verdict(2, 2), &[issued(Some(1)), issued(Some(1))]).len(), 2);
        assert_eq!(ranks_without_gap(&verdict(2, 2), &[issued(Some(1)), issued(Some(3))]).len(), 1);
    }

    #[test]
    fn who_is_left_in_the_dark_is_found() {
        let tally = SaleTally { admissions: vec![Admission { user: 0, rank: None }], ..SaleTally::default() };
        let claim = |status| Claim { status, ..Claim::default() };
        for fine in [ClaimStatus::Issued, ClaimStatus::Rejected] {
            assert!(everybody_knows(&sale(), &tally, &[claim(fine)]).is_empty());
        }
        assert_eq!(everybody_knows(&sale(), &tally, &[claim(ClaimStatus::None)]).len(), 1);
        assert_eq!(everybody_knows(&sale(), &tally, &[claim(ClaimStatus::Admitted)]).len(), 1);
    }

    #[test]
    fn of_many_complaints_the_first_few_are_told() {
        assert_eq!(first_few((0..100).map(|n| n.to_string())).len(), TOLD + 1);
    }
}
