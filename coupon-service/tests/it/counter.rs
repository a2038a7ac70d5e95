//! A coupon counter on a database of its own, and everything that can be told to coupon-service.

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use common_events::{
    CancelReason, ClaimRefusal, CouponId, CouponRefusal, EventData, IssuedCouponId, OrderId, UserId, Won,
    envelope::Event,
    events::{
        CouponIssueRejected, CouponIssueRequested, CouponIssued, CouponRestored, CouponUseFailed, CouponUsed, Discount,
        OrderCancelled, OrderCreated,
    },
};
use coupon_service::{
    domain::{CouponName, DiscountKind, Mode, Proposal, ProposedDiscount, ProposedReward, Settled},
    events::{self, Defences},
    store,
};
use messaging::{Delivered, Tx};
use test_support::{Database, Seam, eventually};
use tokio::sync::mpsc;
use uuid::Uuid;

pub(crate) const KIM: &str = "kim";
pub(crate) const LEE: &str = "lee";
/// How many hints a test may leave unread.
const MAX_HINTS: usize = 1_000;

/// Handlers behind the seam, and what they hand to the gate.
pub(crate) struct Counter {
    pub(crate) seam: Seam,
    pub(crate) database: Database,
    settled: mpsc::Receiver<Vec<Settled>>,
}

impl Counter {
    pub(crate) async fn open() -> Self {
        Self::behind(Defences::ALL).await
    }

    pub(crate) async fn behind(defences: Defences) -> Self {
        let database = Database::new(&[messaging::MIGRATIONS, store::MIGRATIONS]).await;
        let (sender, settled) = mpsc::channel(MAX_HINTS);
        let seam = Seam::new(&database, events::subscriptions_behind(defences, sender));
        Self { seam, database, settled }
    }

    /// Puts up a coupon.
    pub(crate) async fn put_up(&self, proposal: Proposal) -> CouponId {
        let mut client = self.database.pool.get().await.expect("a connection");
        let tx = Tx::begin(&mut client).await.expect("a transaction");
        // A coupon may be past its time by now; when it was put up it wasn't.
        let coupon = proposal.accept(tx.now() - TimeDelta::days(1)).expect("a coupon");
        assert!(store::insert_coupon(&tx, &coupon).await.expect("PostgreSQL answers"));
        tx.commit().await.expect("it commits");
        coupon.coupon_id
    }

    /// Puts up so many of a coupon that takes 1,000 won off.
    pub(crate) async fn put_up_set(&self, quantity: i64) -> CouponId {
        self.put_up(Proposal { quantity: quantity.try_into().expect("a quantity"), ..set() }).await
    }

    pub(crate) async fn put_up_ranked(&self, quantity: i64) -> CouponId {
        self.put_up(Proposal { quantity: quantity.try_into().expect("a quantity"), ..ranked() }).await
    }

    pub(crate) fn requested(&self, coupon: &CouponId, user: &str, rank: Option<i64>) -> Event<CouponIssueRequested> {
        self.seam.event(admission(coupon, user, rank))
    }

    /// The user asks, and gets one.
    pub(crate) async fn issue(&self, coupon: &CouponId, user: &str) -> IssuedCouponId {
        self.hear(admission(coupon, user, None)).await;
        let issued = self.seam.told::<CouponIssued>().await;
        let last = issued.last().expect("it was issued");
        assert_eq!(last.data.user_id.as_str(), user);
        last.data.issued_coupon_id
    }

    /// Hears an event and expects to apply it.
    pub(crate) async fn hear<T: EventData>(&self, data: T) {
        let delivered = self.seam.deliver(&self.seam.event(data)).await;
        assert_eq!(delivered, applied(1));
    }

    /// Who was told to hold a coupon, and under which rank, in order.
    pub(crate) async fn told_issued(&self) -> Vec<(String, Option<i64>)> {
        let issued = self.seam.told::<CouponIssued>().await;
        issued.into_iter().map(|event| (event.data.user_id.to_string(), event.data.rank)).collect()
    }

    /// Who was turned away, and why, in order.
    pub(crate) async fn told_rejected(&self) -> Vec<(String, ClaimRefusal)> {
        let rejected = self.seam.told::<CouponIssueRejected>().await;
        rejected.into_iter().map(|event| (event.data.user_id.to_string(), event.data.reason)).collect()
    }

    /// How often the order's wish was granted, refused and undone, by what was told.
    pub(crate) async fn told_of(&self, order: OrderId) -> (usize, Vec<CouponRefusal>, usize) {
        let used = self.seam.told::<CouponUsed>().await;
        let failed = self.seam.told::<CouponUseFailed>().await;
        let restored = self.seam.told::<CouponRestored>().await;
        (
            used.iter().filter(|event| event.data.order_id == order).count(),
            failed.iter().filter(|event| event.data.order_id == order).map(|event| event.data.reason).collect(),
            restored.iter().filter(|event| event.data.order_id == order).count(),
        )
    }

    /// What was handed to the gate so far.
    pub(crate) fn settled(&mut self) -> Vec<Settled> {
        std::iter::from_fn(|| self.settled.try_recv().ok()).flatten().collect()
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        let client = self.database.pool.get().await.expect("a connection");
        client.query_one(sql, &[]).await.expect("PostgreSQL answers").get(0)
    }

    /// Rows of issued coupons, which is what counts; the count beside it says the same.
    pub(crate) async fn issued(&self) -> i64 {
        let rows = self.count("SELECT count(*) FROM issued_coupons").await;
        assert_eq!(self.count("SELECT sum(issued)::bigint FROM coupons").await, rows);
        rows
    }

    pub(crate) async fn execute(&self, sql: &str) {
        let client = self.database.pool.get().await.expect("a connection");
        client.batch_execute(sql).await.expect("PostgreSQL answers");
    }

    /// Runs both while the rows that `lock` names are locked by somebody else, and lets go once both
    /// wait: then they really are there at the same time.
    pub(crate) fn at_the_same_time<A: Future, B: Future>(
        &self,
        lock: &str,
        one: A,
        other: B,
    ) -> impl Future<Output = (A::Output, B::Output)> {
        let (one, other) = (Box::pin(one), Box::pin(other));
        async move {
            let mut blocker = self.database.pool.get().await.expect("a connection");
            let blocking = blocker.transaction().await.expect("a transaction");
            blocking.batch_execute(lock).await.expect("it can be locked");
            let let_go = async {
                self.see_both_wait().await;
                blocking.rollback().await.expect("the lock is given back");
            };
            let (one, other, ()) = futures::join!(one, other, let_go);
            (one, other)
        }
    }

    async fn see_both_wait(&self) {
        let watcher = self.database.pool.get().await.expect("a connection");
        eventually("both wait", async || {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                           WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let row = watcher.query_one(waiting, &[]).await.expect("PostgreSQL answers");
            (row.get::<_, i64>(0) == 2).then_some(())
        })
        .await;
    }
}

pub(crate) fn applied(applied: usize) -> Delivered {
    Delivered { applied, ..Delivered::default() }
}

pub(crate) const fn off(value: i64) -> ProposedDiscount {
    ProposedDiscount { kind: DiscountKind::Amount, value, max: None }
}

pub(crate) const fn percent(value: i64, max: Option<i64>) -> ProposedDiscount {
    ProposedDiscount { kind: DiscountKind::Percent, value, max }
}

/// A hundred of a coupon that takes 1,000 won off.
pub(crate) fn set() -> Proposal {
    Proposal {
        coupon_id: new_coupon_id(),
        name: CouponName::try_from("Autumn".to_owned()).expect("a name"),
        mode: Mode::Set,
        quantity: 100.try_into().expect("a quantity"),
        discount: off(1_000),
        rewards: vec![],
        opens_at: None,
        closes_at: None,
        valid_until: None,
    }
}

/// The same by rank: 1,000,000 won off for the first, 500,000 for the second, 100,000 for the third.
pub(crate) fn ranked() -> Proposal {
    let reward = |rank, value| ProposedReward { from_rank: rank, to_rank: rank, discount: off(value) };
    let rewards = vec![reward(1, 1_000_000), reward(2, 500_000), reward(3, 100_000)];
    Proposal { mode: Mode::Ranked, rewards, ..set() }
}

pub(crate) fn new_coupon_id() -> CouponId {
    Uuid::now_v7().to_string().try_into().expect("a coupon id")
}

pub(crate) fn new_order() -> OrderId {
    OrderId::new(Uuid::now_v7())
}

pub(crate) fn unknown_coupon() -> IssuedCouponId {
    IssuedCouponId::new(Uuid::now_v7())
}

pub(crate) fn user(name: &str) -> UserId {
    name.parse().expect("a user id")
}

pub(crate) fn won(amount: i64) -> Won {
    amount.try_into().expect("an amount")
}

pub(crate) fn worth(discount: &Discount) -> i64 {
    match discount {
        Discount::Amount { value } => value.get(),
        Discount::Percent { .. } => panic!("no amount: {discount:?}"),
    }
}

pub(crate) fn now() -> DateTime<Utc> {
    Utc::now().trunc_subsecs(3)
}

/// Admitted just now, in the first epoch.
pub(crate) fn admission(coupon: &CouponId, name: &str, rank: Option<i64>) -> CouponIssueRequested {
    CouponIssueRequested { coupon_id: coupon.clone(), user_id: user(name), rank, epoch: 1, admitted_at: now() }
}

/// Of 10,000 won, placed just now.
pub(crate) fn order_created(order_id: OrderId, name: &str, coupon: Option<IssuedCouponId>) -> OrderCreated {
    OrderCreated {
        order_id,
        order_version: 1,
        user_id: user(name),
        issued_coupon_id: coupon,
        lines: vec![],
        subtotal: won(10_000),
        created_at: now(),
    }
}

pub(crate) fn order_cancelled(order_id: OrderId, name: &str, coupon: Option<IssuedCouponId>) -> OrderCancelled {
    OrderCancelled {
        order_id,
        order_version: 2,
        user_id: user(name),
        lines: vec![],
        issued_coupon_id: coupon,
        reason: CancelReason::Customer,
        note: None,
        cancelled_at: now(),
    }
}
