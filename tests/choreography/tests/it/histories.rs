//! Seeded histories of the whole choreography: whatever is delivered twice, late, at the same time or
//! half, the law holds in the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use choreography::{Outcome, Shop, run};

/// How many histories a run tells (`CHOREOGRAPHY_HISTORIES` changes it).
const HISTORIES: u64 = 1_000;
/// Histories that run side by side, each on databases of its own.
const LANES: u64 = 4;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// `CHOREOGRAPHY_SEED` replays one seed; without it, seeds begin anew with the clock.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_law_holds_at_the_end_of_every_history() {
    let one = setting("CHOREOGRAPHY_SEED");
    let histories = if one.is_some() { 1 } else { setting("CHOREOGRAPHY_HISTORIES").unwrap_or(HISTORIES) };
    let first = one.unwrap_or_else(|| chrono::Utc::now().timestamp_micros().unsigned_abs());
    let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let lanes = (0..LANES.min(histories)).map(|_| tokio::spawn(lane(first, histories, Arc::clone(&next))));
    let mut all = Outcome::default();
    for lane in futures::future::join_all(lanes).await {
        let outcome = lane.expect("a lane ends with its histories");
        all += outcome;
    }
    println!("{histories} histories from seed {first}: {all:?}, {:.1} s", began.elapsed().as_secs_f64());
    if one.is_none() && histories >= 100 {
        let least = [all.confirmed, all.cancelled, all.coupons_used, all.coupons_reused, all.mishaps];
        assert!(least.iter().all(|happened| *happened > 0), "histories in which too little happens");
    }
}

async fn lane(first: u64, histories: u64, next: Arc<AtomicU64>) -> Outcome {
    let shop = Shop::open().await;
    let mut all = Outcome::default();
    loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        if nth >= histories {
            return all;
        }
        let seed = first.wrapping_add(nth);
        let outcome = run(&shop, seed).await.unwrap_or_else(|error| {
            panic!("the law was broken; CHOREOGRAPHY_SEED={seed} replays it: {error:#}");
        });
        all += outcome;
    }
}
