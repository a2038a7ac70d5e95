//! Rivals that are handled at the same time, on connections of their own.

use std::sync::Arc;

use common_events::{CancelReason, OrderId, PaymentRefusal};
use futures::future::join_all;
use messaging::Tx;
use payment_service::store;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::Value;
use test_support::eventually;
use tokio::join;

use crate::cashier::{Cashier, Moved, ok, order, user};

/// Enough that either of two rivals comes first many times.
const ROUNDS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn an_order_and_its_cancel_at_the_same_time_leave_no_points_taken() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    let mut paid_first = 0;
    for round in 0..ROUNDS {
        let id = order();
        let (reserved, cancelled) =
            (cashier.reserved(id, "kim", 100), cashier.cancelled(id, "kim", CancelReason::Timeout));
        // The cancel has less to do and would nearly always win: it starts later by a few questions.
        let cancelling = async {
            for _ in 0..round % 6 {
                cashier.balance("lee").await;
            }
            cashier.seam.deliver(&cancelled).await
        };
        join!(cashier.seam.deliver(&reserved), cancelling);
        let moved = cashier.moved(id).await;
        assert_eq!(moved.deducted, moved.refunded);
        paid_first += usize::from(moved.deducted > 0);
    }
    let (completed, failed) = (cashier.completed().await.len(), cashier.failed().await.len());
    assert_eq!((completed, completed + failed), (paid_first, ROUNDS));
    assert_eq!((cashier.refunds().await.len(), cashier.balance("kim").await), (paid_first, 100));
    assert!(cashier.failed().await.iter().all(|(_, reason)| *reason == PaymentRefusal::OrderCancelled));
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_orders_at_the_same_time_with_points_for_one_exactly_one_is_paid() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    for round in 0..ROUNDS {
        let (one, other) = (order(), order());
        let (first, second) = (cashier.reserved(one, "kim", 100), cashier.reserved(other, "kim", 100));
        join!(cashier.seam.deliver(&first), cashier.seam.deliver(&second));
        let taken = [cashier.moved(one).await, cashier.moved(other).await].map(|moved| moved.deducted);
        assert_eq!(taken.iter().sum::<i64>(), 100, "round {round}: {taken:?}");
        assert_eq!(cashier.balance("kim").await, 0);
        let paid = if taken[0] > 0 { one } else { other };
        cashier.cancel(paid, "kim").await;
    }
    assert_eq!((cashier.completed().await.len(), cashier.failed().await.len()), (ROUNDS, ROUNDS));
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_on_two_connections_at_the_same_time_is_applied_once() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100_000).await;
    for _ in 0..ROUNDS / 2 {
        let id = order();
        let reserved = cashier.reserved(id, "kim", 10);
        let (one, other) = join!(cashier.seam.deliver(&reserved), cashier.seam.deliver(&reserved));
        assert_eq!((one.applied + other.applied, one.duplicates + other.duplicates), (1, 1));
        let cancelled = cashier.cancelled(id, "kim", CancelReason::Customer);
        join!(cashier.seam.deliver(&cancelled), cashier.seam.deliver(&cancelled));
        assert_eq!(cashier.moved(id).await, Moved { deducted: 10, refunded: 10 });
    }
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_asked_for_while_a_deduction_is_in_flight_waits_for_it_and_never_changes() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;

    // A deduction that has the lock and its clock, and isn't committed yet.
    let mut client = cashier.pool.get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    let mut accounts = store::lock_accounts(&tx, [&user("kim")]).await.expect("held");
    let stamp = accounts.stamp(common_events::ids::EntryId::new(uuid::Uuid::now_v7()));
    let entry = accounts.of(&user("kim")).deduct(order(), crate::cashier::won(30), stamp);
    let entry = entry.expect("enough points").expect("an entry");
    let at = entry.at;

    let asking = tokio::spawn({
        let cashier = Arc::clone(&cashier);
        async move { ok(cashier.balance_at("kim", at).await).await }
    });
    wait_until_somebody_waits(&cashier).await;
    let trace_id = service_runtime::telemetry::root().trace_id;
    store::insert_entries(&tx, &[store::Posting { entry, trace_id }]).await.expect("appended");
    tx.commit().await.expect("committed");

    let answer = asking.await.expect("an answer");
    assert_eq!(answer["balance"], 70, "it was told with the deduction");
    assert_eq!(ok(cashier.balance_at("kim", at).await).await, answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_up_to_the_last_entry_is_told_while_the_account_is_held() {
    let cashier = Cashier::open().await;
    let first = ok(cashier.try_charge("kim", 100).await).await["at"].as_str().expect("a time").parse().expect("a time");
    let last = ok(cashier.try_charge("kim", 20).await).await["at"].as_str().expect("a time").parse().expect("a time");
    let mut client = cashier.pool.get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    store::lock_accounts(&tx, [&user("kim")]).await.expect("held");
    for (at, balance) in [(first, 100), (last, 120)] {
        assert_eq!(ok(cashier.balance_at("kim", at).await).await["balance"], balance);
    }
}

/// Or else who asks again and again would keep his payment waiting for ever.
#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_his_balance_does_not_pass_a_payment_that_waits() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 100).await;
    let mut client = cashier.pool.get().await.expect("a connection");
    let reading = client.transaction().await.expect("a transaction");
    let share = "SELECT FROM points_accounts WHERE user_id = 'kim' FOR SHARE";
    reading.execute(share, &[]).await.expect("held, and could be by others, too");

    let paying = cashier.reserve(order(), "kim", 30);
    let asking = async {
        wait_until_so_many_wait(&cashier, 1).await;
        cashier.balance("kim").await
    };
    let let_go = async {
        wait_until_so_many_wait(&cashier, 2).await;
        reading.rollback().await.expect("let go");
    };
    let (_, balance, ()) = join!(paying, asking, let_go);
    assert_eq!(balance, 70, "the payment came first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_balance_asked_for_while_the_very_first_charge_is_in_flight_never_changes_either() {
    let cashier = Cashier::open().await;
    let mut client = cashier.pool.get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    let mut accounts = store::lock_or_insert_account(&tx, &user("new")).await.expect("held");
    let stamp = accounts.stamp(common_events::ids::EntryId::new(uuid::Uuid::now_v7()));
    let entry = accounts.of(&user("new")).charge(crate::cashier::won(30), stamp).expect("open");
    let at = entry.at;
    let asking = tokio::spawn({
        let cashier = Arc::clone(&cashier);
        async move { ok(cashier.balance_at("new", at).await).await }
    });
    wait_until_somebody_waits(&cashier).await;
    let trace_id = service_runtime::telemetry::root().trace_id;
    store::insert_entries(&tx, &[store::Posting { entry, trace_id }]).await.expect("appended");
    tx.commit().await.expect("committed");
    assert_eq!(asking.await.expect("an answer")["balance"], 30);
}

async fn wait_until_somebody_waits(cashier: &Cashier) {
    wait_until_so_many_wait(cashier, 1).await;
}

async fn wait_until_so_many_wait(cashier: &Cashier, so_many: i64) {
    let client = cashier.pool.get().await.expect("a connection");
    eventually("somebody waits for the lock", async || {
        let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
                       HAVING count(*) = $1";
        client.query_opt(waiting, &[&so_many]).await.expect("rows")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_about_a_moment_stays_true_while_orders_go_on() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1_000_000).await;
    let asking = async {
        let mut answers: Vec<Value> = Vec::new();
        for _ in 0..ROUNDS {
            answers.push(ok(cashier.get("/points", "kim").await).await);
        }
        answers
    };
    let paying = async {
        for _ in 0..ROUNDS {
            cashier.reserve(order(), "kim", 7).await;
        }
    };
    let ((), answers) = join!(paying, asking);
    for answer in answers {
        let at = answer["at"].as_str().expect("a time").parse().expect("RFC 3339");
        assert_eq!(ok(cashier.balance_at("kim", at).await).await, answer);
    }
}

/// What one customer of the chaos does with one order.
async fn shop(cashier: &Cashier, seed: u64, ids: &[OrderId]) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..12 {
        let who = |random: &mut StdRng| format!("user-{}", random.random_range(0..3));
        let pick = |random: &mut StdRng| random.random_range(0..ids.len());
        match random.random_range(0..10) {
            0..2 => {
                let (who, amount) = (who(&mut random), random.random_range(1..300));
                cashier.charge(&who, amount).await;
            }
            2..7 => {
                let mut batch = Vec::new();
                for _ in 0..random.random_range(1..5) {
                    let at = pick(&mut random);
                    batch.push(cashier.reserved(ids[at], &format!("user-{}", at % 3), 50));
                }
                cashier.seam.deliver_batch(&batch).await;
            }
            _ => {
                let mut batch = Vec::new();
                for _ in 0..random.random_range(1..4) {
                    let at = pick(&mut random);
                    batch.push(cashier.cancelled(ids[at], &format!("user-{}", at % 3), CancelReason::Customer));
                }
                cashier.seam.deliver_batch(&batch).await;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_chaos_of_charges_orders_and_cancels_at_once_the_ledger_is_the_balances() {
    let cashier = Cashier::open().await;
    let ids: Vec<OrderId> = (0..30).map(|_| order()).collect();
    join_all((0..6).map(|seed| shop(&cashier, seed, &ids))).await;

    cashier.assert_lawful().await;
    let refunded = cashier.refunds().await;
    for id in &ids {
        let Moved { deducted, refunded: back } = cashier.moved(*id).await;
        assert!(back <= deducted && deducted <= 50);
        assert_eq!(back == 50, refunded.iter().any(|refund| refund.order_id == *id));
    }
    let client = cashier.pool.get().await.expect("a connection");
    let dead: i64 = client.query_one("SELECT count(*) FROM dead_letters", &[]).await.expect("a count").get(0);
    assert_eq!(dead, 0, "rivals wait for each other, none gives up");
}
