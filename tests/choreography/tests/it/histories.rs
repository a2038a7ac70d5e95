//! Seeded histories of the whole choreography: whatever fails, is delivered twice, late, at the same time or half, whoever
//! dies and whatever operators do about it, the law holds.

use std::{
    panic,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use choreography::{MAX_STEPS, Outcome, Shop, run};

/// How many histories a run tells (`CHOREOGRAPHY_HISTORIES` changes it): half of them with seeds that are the same in every
/// run, so that what was found once is looked for for ever, and half with new ones.
const HISTORIES: u64 = 2_000;
/// Histories that run side by side, each on databases of its own.
const LANES: u64 = 4;
/// Two deliveries at the same time race as they like: a seed is tried so often before it is said to be in order.
const TIMES: usize = 3;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Handlers that are made to panic say nothing.
fn hush() {
    let told = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        let is_asked_for = panic.payload_as_str().is_some_and(|said| said.starts_with("injected-fault"));
        if !is_asked_for {
            told(panic);
        }
    }));
}

/// `CHOREOGRAPHY_SEED` replays one seed, `CHOREOGRAPHY_STEPS` the beginning of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_law_holds_in_every_history() {
    hush();
    if let Some(seed) = setting("CHOREOGRAPHY_SEED") {
        let steps = setting("CHOREOGRAPHY_STEPS").map(|steps| usize::try_from(steps).expect("a few"));
        for _ in 0..TIMES {
            let told = run(&Shop::open().await, seed, steps).await;
            println!("{:?}", told.unwrap_or_else(|error| panic!("the law was broken: {error:#}")));
        }
        return;
    }
    let histories = setting("CHOREOGRAPHY_HISTORIES").unwrap_or(HISTORIES);
    let seeds = Seeds { fixed: histories / 2, first_new: chrono::Utc::now().timestamp_micros().unsigned_abs() };
    let (began, next) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let lanes = (0..LANES.min(histories)).map(|_| tokio::spawn(lane(seeds, histories, Arc::clone(&next))));
    let mut all = Outcome::default();
    for lane in futures::future::join_all(lanes).await {
        all += lane.expect("a lane ends with its histories");
    }
    println!("{histories} histories in {:.1} s, new seeds from {}:", began.elapsed().as_secs_f64(), seeds.first_new);
    for (name, count) in all.counts() {
        println!("  {count:8} {}", name.replace('_', " "));
    }
    if histories >= 100 {
        let never: Vec<&str> = all.counts().filter(|(_, count)| *count == 0).map(|(name, _)| name).collect();
        assert!(never.is_empty(), "histories in which too little happens: {never:?}");
    }
}

/// Which seeds a run tells.
#[derive(Debug, Clone, Copy)]
struct Seeds {
    /// 1, 2, 3, …
    fixed: u64,
    first_new: u64,
}

impl Seeds {
    const fn nth(self, nth: u64) -> u64 {
        if nth < self.fixed { nth + 1 } else { self.first_new.wrapping_add(nth) }
    }
}

async fn lane(seeds: Seeds, histories: u64, next: Arc<AtomicU64>) -> Outcome {
    let shop = Shop::open().await;
    let mut all = Outcome::default();
    loop {
        let nth = next.fetch_add(1, Ordering::Relaxed);
        if nth >= histories {
            return all;
        }
        let seed = seeds.nth(nth);
        match run(&shop, seed, None).await {
            Ok(outcome) => all += outcome,
            Err(error) => {
                let steps = shortest(seed).await;
                panic!("the law was broken by CHOREOGRAPHY_SEED={seed}: {error:#}\n{steps}");
            }
        }
    }
}

/// How little of the history breaks the law.
async fn shortest(seed: u64) -> String {
    let shop = Shop::open().await;
    for steps in 1..=MAX_STEPS {
        if let Err(error) = run(&shop, seed, Some(steps)).await {
            return format!("CHOREOGRAPHY_STEPS={steps} of it are enough: {error:#}");
        }
    }
    format!("told again, it breaks nothing: two raced; CHOREOGRAPHY_SEED tells it {TIMES} times")
}
