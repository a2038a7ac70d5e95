//! What the monitor costs with many sagas in its log: `cargo bench -p saga-monitor`. Prints how fast records are
//! written down, and how long a list, one saga and a round of the detection take, against their goals.
//!
//! `SAGAS` says how many (100,000).

#[path = "../tests/it/story.rs"]
#[expect(dead_code, reason = "not every story is told here")]
mod story;
#[path = "../tests/it/watch.rs"]
#[expect(dead_code, reason = "not everything is looked at here")]
mod watch;

use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use messaging::Record;

use story::Story;
use watch::Watch;

const SAGAS: usize = 100_000;
/// Sagas that are handed over together, as a consumer that catches up does.
const TOGETHER: usize = 100;
/// One saga in so many is stuck.
const ONE_STUCK_IN: usize = 1_000;
const REPEATS: usize = 30;

#[tokio::main]
async fn main() {
    let sagas = std::env::var("SAGAS").ok().and_then(|text| text.parse().ok()).unwrap_or(SAGAS);
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let (records, took) = fill(&watch, sagas).await;
    let rate = f64::from(u32::try_from(records).unwrap_or(u32::MAX)) / took.as_secs_f64();
    println!("{sagas} sagas, {records} records, written down in {:.1} s: {rate:.0} records/s", took.as_secs_f64());
    analyze(&watch).await;

    let now = Utc::now();
    let first = Instant::now();
    let round = watch.round_at(now).await;
    println!("the first round found {} stuck sagas in {:.0} ms", round.stuck, ms(first.elapsed()));
    let one = text_of_first(&watch, "/api/sagas?state=COMPENSATED&limit=1").await;
    let deep = deep_page(&watch).await;
    let lists = [
        ("list: newest", "/api/sagas?limit=50".to_owned()),
        ("list: COMPENSATED orders", "/api/sagas?state=COMPENSATED&type=order&limit=50".to_owned()),
        ("list: stuck", "/api/sagas?stuck=true&limit=50".to_owned()),
        ("list: mismatched", "/api/sagas?mismatched=true&limit=50".to_owned()),
        ("list: older than 30 m", "/api/sagas?olderThan=30m&limit=50".to_owned()),
        ("list: the 20th page of 200", deep),
    ];
    for (name, path) in &lists {
        look(&watch, name, path, 100.0).await;
    }
    look(&watch, "detail", &format!("/api/sagas/{one}"), 50.0).await;
    look(&watch, "events of a key", &format!("/api/events?key={one}"), 100.0).await;
    let mut rounds = Vec::new();
    for _ in 0..REPEATS {
        let began = Instant::now();
        watch.round_at(now).await;
        rounds.push(began.elapsed());
    }
    show("detection: a round", &mut rounds, 1_000.0);
}

/// Tells so many sagas: most are done, some are undone, a few are stuck.
async fn fill(watch: &Watch, sagas: usize) -> (usize, Duration) {
    let (mut records, mut took) = (0, Duration::ZERO);
    for begin in (0..sagas).step_by(TOGETHER) {
        let mut together: Vec<Record> = Vec::new();
        for n in begin..sagas.min(begin + TOGETHER) {
            let mut start = Story::of(&[]).next_at;
            start -= TimeDelta::milliseconds(i64::try_from(n).unwrap_or_default() * 30);
            let told = story_of(n, start).told;
            together.extend(told.iter().map(|told| watch.record_of(told)));
        }
        records += together.len();
        let began = Instant::now();
        watch.hear(&together).await;
        took += began.elapsed();
    }
    (records, took)
}

fn story_of(n: usize, start: chrono::DateTime<Utc>) -> Story {
    let begun = Story { next_at: start, ..Story::of(&["tea", "cup"]) };
    if n.is_multiple_of(ONE_STUCK_IN) {
        return begun.created().placed().deducted();
    }
    let held = begun.with_coupon().created().placed().deducted().coupon_used().reserved().paid(story::TOTAL);
    if n.is_multiple_of(7) { held.cancelled(3).restored().coupon_restored().refunded() } else { held.confirmed() }
}

/// As autovacuum does by itself after a while.
async fn analyze(watch: &Watch) {
    let client = watch.database.pool.get().await.expect("a connection");
    // One by one: several statements at once are one transaction, in which VACUUM can't run.
    for statement in ["SET statement_timeout = 0", "VACUUM ANALYZE"] {
        client.batch_execute(statement).await.expect("PostgreSQL answers");
    }
}

async fn text_of_first(watch: &Watch, path: &str) -> String {
    watch::text(&watch.get(path).await["items"][0]["key"])
}

async fn deep_page(watch: &Watch) -> String {
    let mut path = "/api/sagas?limit=200".to_owned();
    for _ in 0..19 {
        let Some(cursor) = watch.get(&path).await["nextCursor"].as_str().map(str::to_owned) else { break };
        path = format!("/api/sagas?limit=200&cursor={cursor}");
    }
    path
}

async fn look(watch: &Watch, name: &str, path: &str, goal_ms: f64) {
    let mut looks = Vec::new();
    for _ in 0..REPEATS {
        let began = Instant::now();
        watch.get(path).await;
        looks.push(began.elapsed());
    }
    show(name, &mut looks, goal_ms);
}

fn show(name: &str, took: &mut [Duration], goal_ms: f64) {
    took.sort();
    let (median, worst) = (ms(took[took.len() / 2]), ms(took[took.len() - 1]));
    let verdict = if worst <= goal_ms { "holds" } else { "MISSED" };
    println!("{name:<28} median {median:>7.1} ms   worst {worst:>7.1} ms   goal {goal_ms:>6.0} ms   {verdict}");
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}
