//! The load tool itself: it tells what happened, and a sale that went wrong from one that went right.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod gate;

use std::time::Duration;

use gate::{Fault, Gate};
use load::{
    Live,
    sale::{self, Ceiling, Held, Kind, Pace, Persistence, Report, Rush, SaleVerdict},
};

fn six_hundred() -> Rush {
    Rush { repeats: 300, ..Rush::of(600, 16) }
}

async fn hold(gate: &Gate, rush: &Rush) -> (Held, SaleVerdict) {
    let held = sale::hold(&gate.shop, &gate.sale, rush, &Live::default()).await.expect("the sale is held");
    let verdict = sale::judge(&gate.shop, &gate.sale, rush, &held.tally).await.expect("everybody answers");
    (held, verdict)
}

async fn complaints_about(fault: Fault) -> String {
    let (_, verdict) = hold(&Gate::open(100, fault), &six_hundred()).await;
    verdict.wrong.join("; ")
}

#[tokio::test]
async fn a_sale_that_went_right_is_right_and_every_answer_is_counted() {
    let gate = Gate::open(100, Fault::None);
    let (Held { tally, issuing }, verdict) = hold(&gate, &six_hundred()).await;
    assert!(verdict.is_right(), "{:?}", verdict.wrong);
    assert_eq!((verdict.issued, verdict.holders, verdict.rejected), (100, 100, 0));
    assert_eq!(tally.answers.of(Kind::Admitted), 100);
    assert_eq!((tally.asked, tally.answers.count(), tally.latency.len()), (900, 900, 900));
    assert_eq!(tally.admitted_latency.len(), 100);
    let mut ranks: Vec<_> = tally.admissions.iter().filter_map(|admission| admission.rank).collect();
    ranks.sort_unstable();
    assert_eq!(ranks, (1..=100).collect::<Vec<_>>());
    assert!(issuing.drained_after.is_some());
    assert_eq!(gate.shop.books().admissions.len(), 100);
}

#[tokio::test]
async fn one_coupon_too_many_is_told() {
    assert!(complaints_about(Fault::OneTooMany).await.contains("101 of 100 coupons are issued"));
}

#[tokio::test]
async fn an_admission_that_is_forgotten_is_told() {
    assert!(complaints_about(Fault::ForgetsTheThird).await.contains("was admitted, and nobody knows of it"));
}

#[tokio::test]
async fn a_shared_rank_is_told() {
    let complaints = complaints_about(Fault::SharesARank).await;
    assert!(complaints.contains("2 users hold rank 1") && complaints.contains("nobody holds rank 100"), "{complaints}");
}

#[tokio::test]
async fn who_gets_no_decision_asks_again_if_he_is_told_to() {
    let once = Rush::of(60, 16);
    let (held, _) = hold(&Gate::open(10, Fault::OftenUndecided), &once).await;
    assert_eq!(held.tally.answers.of(Kind::Undecided), 30);
    assert_eq!(held.tally.asked_again, 0);

    let again = Rush { persistence: Persistence::AsksAgainFor(Duration::from_mins(1)), ..once };
    let (held, verdict) = hold(&Gate::open(10, Fault::OftenUndecided), &again).await;
    assert!(verdict.is_right(), "{:?}", verdict.wrong);
    assert_eq!((held.tally.asked, held.tally.answers.of(Kind::Undecided)), (60, held.tally.asked_again));
    assert!(held.tally.asked_again > 0);
}

#[tokio::test]
async fn an_open_loop_keeps_to_its_plan_whatever_the_answers_are() {
    let gate = Gate::open(10, Fault::None);
    let rush = Rush { pace: Pace::Open(400.0), ..Rush::of(200, 8) };
    let (held, _) = hold(&gate, &rush).await;
    let planned = Duration::from_millis(199 * 1_000 / 400);
    assert!(held.tally.lasted >= planned, "{:?}", held.tally.lasted);
}

#[tokio::test]
async fn where_nobody_listens_every_request_is_silence() {
    let mut gate = Gate::open(1, Fault::None);
    gate.sale.url = "http://127.0.0.1:1".to_owned();
    let tally = sale::ask_all(&gate.sale, &Rush::of(20, 4), &Live::default()).await.unwrap();
    assert_eq!((tally.answers.of(Kind::Silence), tally.answers.count()), (20, 0));
}

#[tokio::test]
async fn the_report_is_one_page_without_anything_from_elsewhere() {
    let gate = Gate::open(100, Fault::OneTooMany);
    let rush = six_hundred();
    let (held, mut verdict) = hold(&gate, &rush).await;
    verdict.wrong.push("<script>alert(1)</script>".to_owned());
    let ceiling = Ceiling { per_second: 1.0, cpu_per_request: Duration::from_micros(1) };
    let report = Report::of((&gate.sale, "ranked", &rush), &held, Some(1.5), ceiling, verdict);

    let page = report.to_html().unwrap();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert_eq!(page.matches("<svg").count(), 3);
    for elsewhere in ["http://", "https://", "src=", "@import", "url(", "<script"] {
        assert!(!page.contains(elsewhere), "{elsewhere}");
    }
    assert!(!page.contains("NaN") && !page.contains("inf\""));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["answers"]["202 admitted"], 101);
    assert_eq!(json["verdict"]["issued"], 101);
    assert!(report.to_string().contains("WRONG"));
}
