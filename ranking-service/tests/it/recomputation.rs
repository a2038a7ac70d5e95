//! The law: the ranking equals a recomputation from the topics, whatever came when, twice, or refunded first.

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike, TimeDelta, Timelike, Utc};
use common_events::{
    envelope,
    events::{PaymentCompleted, PaymentRefunded},
};
use messaging::Record;
use proptest::{
    prelude::*,
    sample::Index,
    test_runner::{Config, TestRunner},
};

use crate::board::{Board, Table, line, payment, refund, time};

const HISTORIES: u32 = 32;
/// Weeks, days and hours change in between.
const FROM: &str = "2026-12-26T22:00:00Z";
const SPAN_S: i64 = 9 * 24 * 60 * 60;

#[derive(Debug, Clone)]
struct Sale {
    paid_after_s: i64,
    lines: BTreeMap<u8, (i64, i64)>,
    refunded: bool,
}

/// Sales, and the order in which their events arrive, each at least once, at two consumers.
#[derive(Debug, Clone)]
struct History {
    sales: Vec<Sale>,
    again: Vec<Index>,
    swaps: Vec<(Index, Index)>,
    batch: usize,
}

fn histories() -> impl Strategy<Value = History> {
    let lines = prop::collection::btree_map(0_u8..4, (1_i64..6, 0_i64..1_000), 1..4);
    let sale = (0..SPAN_S, lines, any::<bool>()).prop_map(|(paid_after_s, lines, refunded)| Sale {
        paid_after_s,
        lines,
        refunded,
    });
    let again = prop::collection::vec(any::<Index>(), 0..10);
    let swaps = prop::collection::vec((any::<Index>(), any::<Index>()), 60);
    (prop::collection::vec(sale, 1..12), again, swaps, 1_usize..6).prop_map(|(sales, again, swaps, batch)| History {
        sales,
        again,
        swaps,
        batch,
    })
}

/// The ranking of these payments and refunds, from nothing but them. Written with the calendar, and not
/// with the service's arithmetic.
fn recomputed(paid: &[PaymentCompleted], refunded: &[PaymentRefunded]) -> Table {
    let mut table = Table::new();
    let counted = paid.iter().map(|payment| (1, payment.paid_at, &payment.lines));
    let counted_back = refunded.iter().map(|refund| (-1, refund.paid_at, &refund.lines));
    for (sign, paid_at, lines) in counted.chain(counted_back) {
        for (window, from) in windows(paid_at) {
            for line in lines {
                let sums = table.entry((window.to_owned(), from, line.product_id.to_string())).or_default();
                sums.0 += sign * i64::from(line.quantity.get());
                sums.1 += sign * line.amount.get();
            }
        }
    }
    table
}

fn windows(at: DateTime<Utc>) -> [(&'static str, DateTime<Utc>); 3] {
    let midnight = |date: chrono::NaiveDate| date.and_hms_opt(0, 0, 0).expect("a time of the day").and_utc();
    let monday = at.date_naive().week(chrono::Weekday::Mon).first_day();
    let hour = at.date_naive().and_hms_opt(at.hour(), 0, 0).expect("a time of the day").and_utc();
    assert_eq!(monday.weekday(), chrono::Weekday::Mon);
    [("hour", hour), ("day", midnight(at.date_naive())), ("week", midnight(monday))]
}

fn events_of(
    board: &Board,
    sales: &[Sale],
) -> (Vec<envelope::Event<PaymentCompleted>>, Vec<envelope::Event<PaymentRefunded>>) {
    let ids = ["p0", "p1", "p2", "p3"];
    let pay = |sale: &Sale| {
        let lines = sale.lines.iter().map(|(id, (quantity, price))| line((ids[usize::from(*id)], *quantity, *price)));
        payment(time(FROM) + TimeDelta::seconds(sale.paid_after_s), lines.collect())
    };
    let payments: Vec<_> = sales.iter().map(pay).collect();
    let refunds = sales.iter().zip(&payments).filter(|(sale, _)| sale.refunded).map(|(_, payment)| refund(payment));
    let refunds = refunds.map(|refund| board.seam.event(refund)).collect();
    (payments.into_iter().map(|payment| board.seam.event(payment)).collect(), refunds)
}

async fn live_through(board: &Board, history: &History) {
    let (paid, refunded) = events_of(board, &history.sales);
    let mut records: Vec<Record> = paid.iter().map(|event| board.seam.record(event)).collect();
    records.extend(refunded.iter().map(|event| board.seam.record(event)));
    for again in &history.again {
        records.push(again.get(&records).clone());
    }
    let number = records.len();
    for (one, other) in &history.swaps {
        records.swap(one.index(number), other.index(number));
    }
    let (one, other) = records.split_at(records.len() / 2);
    let deliver = async |records: &[Record]| {
        for batch in records.chunks(history.batch) {
            assert_eq!(board.seam.deliver_records(batch).await.dead, 0);
        }
    };
    tokio::join!(deliver(one), deliver(other));

    let data = |event: envelope::Event<PaymentCompleted>| event.data;
    let paid: Vec<_> = paid.into_iter().map(data).collect();
    let refunded: Vec<_> = refunded.into_iter().map(|event| event.data).collect();
    assert_eq!(board.table().await, recomputed(&paid, &refunded));
}

#[test]
fn the_table_equals_a_recomputation_after_any_history() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let board = runtime.block_on(Board::new());
    let config = Config { cases: HISTORIES, max_shrink_iters: 200, failure_persistence: None, ..Config::default() };
    let lived = TestRunner::new(config).run(&histories(), |history| {
        runtime.block_on(async {
            let client = board.pool.get().await.expect("a connection");
            client.batch_execute("TRUNCATE sales").await.expect("an empty table");
            drop(client);
            live_through(&board, &history).await;
        });
        Ok(())
    });
    lived.unwrap_or_else(|failure| panic!("{failure}"));
    let _inside = runtime.enter();
    drop(board);
}
