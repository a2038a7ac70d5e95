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
/// run, so that two runs can be compared, and half with new ones.
const HISTORIES: u64 = 2_000;
/// Histories that run side by side, each on databases of its own.
const LANES: u64 = 4;
/// Whoever is at it at the same time races as he likes: so often a seed is told again.
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
            println!("{}", told.unwrap_or_else(|error| panic!("the law was broken: {error:#}")));
        }
        return;
    }
    let asked = setting("CHOREOGRAPHY_HISTORIES");
    let histories = asked.unwrap_or(HISTORIES);
    let seeds = Seeds { fixed: histories / 2, first_new: chrono::Utc::now().timestamp_micros().unsigned_abs() };
    let run = Run { seeds, histories, next: AtomicU64::new(0), began: Instant::now() };
    let run = Arc::new(run);
    let lanes = (0..LANES.min(histories)).map(|_| tokio::spawn(lane(Arc::clone(&run))));
    let mut all = Outcome::default();
    for lane in futures::future::join_all(lanes).await {
        all += lane.expect("a lane ends with its histories");
    }
    let seconds = run.began.elapsed().as_secs_f64();
    println!("{histories} histories in {seconds:.1} s, new seeds from {}:\n{all}", seeds.first_new);
    if asked.is_none() {
        let missing = all.missing();
        assert!(missing.is_empty(), "histories in which too little happens: {missing:?}");
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

/// What all lanes work on.
struct Run {
    seeds: Seeds,
    histories: u64,
    next: AtomicU64,
    began: Instant,
}

async fn lane(this: Arc<Run>) -> Outcome {
    let shop = Shop::open().await;
    let mut all = Outcome::default();
    loop {
        let nth = this.next.fetch_add(1, Ordering::Relaxed);
        if nth >= this.histories {
            return all;
        }
        let seed = this.seeds.nth(nth);
        match run(&shop, seed, None).await {
            Ok(outcome) => all += outcome,
            Err(error) => {
                // One is enough.
                this.next.store(this.histories, Ordering::Relaxed);
                let after = this.began.elapsed().as_secs_f64();
                println!("CHOREOGRAPHY_SEED={seed} broke the law after {after:.1} s: {error:#}");
                panic!("{error:#}\n{}", shortest(seed).await);
            }
        }
    }
}

/// How little of the history breaks the law, and how to see it again.
async fn shortest(seed: u64) -> String {
    if setting("CHOREOGRAPHY_SHORTEST") == Some(0) {
        return String::new();
    }
    // What a history left that broke the law in the middle would break it again.
    let mut shop = Shop::open().await;
    let mut failed = 0;
    for _ in 0..TIMES {
        if run(&shop, seed, None).await.is_err() {
            failed += 1;
            shop = Shop::open().await;
        }
    }
    let times = if failed == TIMES { 1 } else { TIMES };
    let mut fewest = None;
    for steps in (0..=MAX_STEPS).take_while(|_| failed > 0) {
        for _ in 0..times {
            if let Err(error) = run(&shop, seed, Some(steps)).await {
                fewest = fewest.or(Some((steps, error)));
            }
        }
        if fewest.is_some() {
            break;
        }
    }
    let (steps, why) = match fewest {
        Some((steps, error)) => {
            (format!(" CHOREOGRAPHY_STEPS={steps}"), format!("; these steps are enough: {error:#}"))
        }
        None => (String::new(), String::new()),
    };
    format!(
        "told again it fails {failed} times of {TIMES}{why}\n\
         CHOREOGRAPHY_SEED={seed}{steps} tests/run some 'binary_id(choreography::it) & test(histories)'"
    )
}
