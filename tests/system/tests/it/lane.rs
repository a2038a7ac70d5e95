//! A lane of tests: one after the other, on a thread and a runtime of its own, with what they share.

use std::{
    cell::Cell,
    collections::BTreeMap,
    env,
    fs::OpenOptions,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc::{Receiver, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use anyhow::Context;
use libtest_mimic::{Failed, Trial};
use tokio::{runtime::Runtime, sync::Semaphore};

/// Whoever waits has begun to by then.
const NOBODY_ELSE_AFTER: Duration = Duration::from_millis(50);

/// Where tests are run whose type is `T`.
pub(crate) struct Lane<T> {
    turns: Sender<Turn<T>>,
    /// How many trials it has.
    trials: Cell<usize>,
    thread: JoinHandle<()>,
}

/// So many suites are under load at once, at most; two cores carry no more. Fair: who has waited longest is next.
const AT_ONCE: u32 = 2;
static MACHINE: Semaphore = Semaphore::const_new(AT_ONCE as usize);

/// What a test needs of the machine.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Needs {
    /// Its share.
    Some,
    /// All of it, as it measures time: the other lanes wait meanwhile.
    All,
}

struct Turn<T> {
    /// Its place among those of the lane.
    number: usize,
    name: &'static str,
    test: T,
    needs: Needs,
    outcome: Sender<anyhow::Result<()>>,
}

impl<T: Copy + Send + 'static> Lane<T> {
    /// A lane in which `run` runs each test; what it leaves in the `S` is there for the next, and goes with the lane.
    pub(crate) fn open<S: 'static>(run: fn(&Runtime, &mut Option<S>, T) -> anyhow::Result<()>) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("a runtime")?;
        let (turns, waiting): (_, Receiver<Turn<T>>) = channel();
        let thread = std::thread::spawn(move || {
            let mut shared = None;
            for Turn { name, test, needs, outcome, .. } in in_order(&waiting) {
                let room = match needs {
                    Needs::Some => 1,
                    Needs::All => AT_ONCE,
                };
                let _room = runtime.block_on(MACHINE.acquire_many(room)).expect("it is never closed");
                let began = Instant::now();
                let result = catch_unwind(AssertUnwindSafe(|| run(&runtime, &mut shared, test)));
                write_down(name, began.elapsed());
                // Nobody waits any more when the whole run was given up.
                let _ = outcome.send(result.unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked"))));
            }
        });
        Ok(Self { turns, trials: Cell::new(0), thread })
    }

    /// A test that waits for its turn.
    pub(crate) fn trial(&self, name: &'static str, test: T, needs: Needs) -> Trial {
        let (turns, number) = (self.turns.clone(), self.trials.get());
        self.trials.set(number + 1);
        Trial::test(name, move || {
            let (outcome, ended) = channel();
            let ended = match turns.send(Turn { number, name, test, needs, outcome }) {
                Ok(()) => ended.recv().unwrap_or_else(|_| Err(anyhow::anyhow!("its lane ended"))),
                Err(_) => Err(anyhow::anyhow!("its lane has ended")),
            };
            ended.map_err(|error| Failed::from(format!("{error:#}")))
        })
    }

    /// Takes no more tests, and gives up what they shared.
    pub(crate) fn close(self) {
        drop(self.turns);
        let _ = self.thread.join();
    }
}

/// The turns of a lane. All trials begin to wait at about the same time; the first of them is taken then.
fn in_order<T>(waiting: &Receiver<Turn<T>>) -> impl Iterator<Item = Turn<T>> {
    let mut known = BTreeMap::new();
    std::iter::from_fn(move || {
        if known.is_empty() {
            let first = waiting.recv().ok()?;
            known.insert(first.number, first);
        }
        while let Ok(next) = waiting.recv_timeout(NOBODY_ELSE_AFTER) {
            known.insert(next.number, next);
        }
        known.pop_first().map(|(_, turn)| turn)
    })
}

/// For the list of the slowest at the end of `make test`.
fn write_down(name: &str, took: Duration) {
    let Ok(file) = env::var("TEST_TIMES") else { return };
    let line = format!("{:.3}\tsystem::it {name}\n", took.as_secs_f64());
    let written =
        OpenOptions::new().create(true).append(true).open(&file).and_then(|mut file| file.write_all(line.as_bytes()));
    if let Err(error) = written {
        eprintln!("{file}: {error}");
    }
}
