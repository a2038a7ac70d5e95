use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rstest::rstest;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};

use super::{
    own::{Log, Metrics},
    *,
};
use crate::health::Readiness;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

fn tasks() -> Tasks {
    Tasks::new(Health::new(CancellationToken::new()))
}

/// When rounds began, and what they are told to come to.
#[derive(Clone)]
struct Diary {
    began: Instant,
    rounds: Arc<Mutex<Vec<Duration>>>,
}

impl Diary {
    fn new() -> Self {
        Self { began: Instant::now(), rounds: Arc::default() }
    }

    /// Notes a round; returns how many there were before.
    fn note(&self) -> usize {
        let mut rounds = self.rounds.lock().unwrap_or_else(PoisonError::into_inner);
        rounds.push(self.began.elapsed());
        rounds.len() - 1
    }

    fn rounds(&self) -> Vec<Duration> {
        self.rounds.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Rounds that come to this, one after the other, and then to [`Next::Never`].
    fn keep(&self, tasks: &Tasks, rounds: Rounds, outcomes: Vec<fn() -> anyhow::Result<Next>>) {
        tasks.repeat(rounds, (self.clone(), outcomes), |(diary, outcomes)| {
            async { outcomes.get(diary.note()).map_or(Ok(Next::Never), |outcome| outcome()) }.boxed()
        });
    }
}

fn fails() -> anyhow::Result<Next> {
    Err(anyhow::anyhow!("the cause").context("what failed"))
}

fn panics() -> anyhow::Result<Next> {
    panic!("a bug")
}

#[tokio::test(start_paused = true)]
async fn a_round_that_panics_is_counted_told_and_begun_again() {
    let (log, metrics, tasks, diary) = (Log::listen(), Metrics::listen(), tasks(), Diary::new());
    diary.keep(&tasks, Rounds::every("sweep", SECOND), vec![panics, panics, || Ok(Next::Later)]);
    assert!(metrics.has(r#"task_failures_total{task="sweep",how="panic"} 0"#));
    assert_eq!(tasks.health().readiness().await, Readiness::Ready, "it counts as working until a round fails");
    sleep(SECOND / 4).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Degraded { lost: vec!["sweep"] });
    assert!(metrics.has(r#"task_last_good_round_timestamp_seconds{task="sweep"} 0"#), "none was good so far");
    sleep(4 * SECOND).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready);
    assert!(metrics.has(r#"task_failures_total{task="sweep",how="panic"} 2"#));
    assert!(!metrics.has(r#"task_last_good_round_timestamp_seconds{task="sweep"} 0"#));
    let lines = log.lines();
    assert_eq!(lines[0], " WARN stands still task=sweep error=it panicked");
    assert!(lines.len() == 2 && lines[1].starts_with(" INFO goes on task=sweep"), "{lines:?}");
    tasks.stop().await.expect("that ended nothing");
}

#[tokio::test(start_paused = true)]
async fn a_round_that_fails_is_tried_again_ever_later_and_told_until_one_is_good() {
    let (metrics, tasks, diary) = (Metrics::listen(), tasks(), Diary::new());
    diary.keep(&tasks, Rounds::every("sweep", HOUR), vec![fails, fails, fails, || Ok(Next::Later)]);
    sleep(SECOND / 4).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Degraded { lost: vec!["sweep"] });
    sleep(10 * SECOND).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready);
    assert!(metrics.has(r#"task_failures_total{task="sweep",how="error"} 3"#));
    let rounds = diary.rounds();
    for (pair, full) in rounds.windows(2).zip([SECOND, 2 * SECOND, 4 * SECOND]) {
        let pause = pair[1].saturating_sub(pair[0]);
        assert!((full / 2..=full + SECOND / 100).contains(&pause), "{pause:?} of {full:?}");
    }
    assert_eq!(rounds.len(), 4, "and the next one comes in an hour");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_is_nobody_s_trouble_is_not_told() {
    let (tasks, diary) = (tasks(), Diary::new());
    diary.keep(&tasks, Rounds::every("spans", SECOND).unknown_to_health(), vec![fails, fails, fails]);
    sleep(SECOND / 4).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready);
}

#[tokio::test(start_paused = true)]
async fn rounds_come_when_the_one_before_says() {
    let (tasks, diary) = (tasks(), Diary::new());
    let outcomes: Vec<fn() -> _> =
        vec![|| Ok(Next::Now), || Ok(Next::Later), || Ok(Next::In(3 * SECOND)), || Ok(Next::Later)];
    diary.keep(&tasks, Rounds::every("sweep", SECOND), outcomes);
    sleep(HOUR).await;
    assert_eq!(diary.rounds(), [0, 0, 1, 4, 5].map(|seconds| seconds * SECOND));
    assert_eq!(tasks.health().readiness().await, Readiness::Ready, "that they are over is no failure");
    tasks.stop().await.expect("nor does the process end with them");
}

#[tokio::test(start_paused = true)]
async fn the_time_that_a_round_takes_is_no_part_of_the_pause_after_it() {
    let (tasks, diary) = (tasks(), Diary::new());
    tasks.repeat(Rounds::every("sweep", 3 * SECOND), diary.clone(), |diary| {
        async {
            // The third takes longer than its time.
            sleep(if diary.note() == 2 { 5 * SECOND } else { SECOND }).await;
            Ok(Next::Later)
        }
        .boxed()
    });
    sleep(15 * SECOND).await;
    let seconds: Vec<u64> = diary.rounds().iter().map(Duration::as_secs).collect();
    assert_eq!(seconds, [0, 3, 6, 11, 14]);
}

#[tokio::test(start_paused = true)]
async fn a_wake_up_brings_the_next_round_before_its_time_also_one_during_a_round() {
    let (tasks, diary, wake) = (tasks(), Diary::new(), Arc::<Notify>::default());
    let rounds = Rounds::every("sweep", HOUR).woken_by(Arc::clone(&wake));
    tasks.repeat(rounds, diary.clone(), |diary| {
        async {
            diary.note();
            sleep(SECOND).await;
            Ok(Next::Later)
        }
        .boxed()
    });
    sleep(SECOND / 2).await;
    wake.notify_one();
    sleep(9 * SECOND + SECOND / 2).await;
    wake.notify_one();
    sleep(2 * SECOND).await;
    assert_eq!(diary.rounds(), [0, 1, 10].map(|seconds| seconds * SECOND));
}

#[tokio::test(start_paused = true)]
async fn however_often_they_are_woken_rounds_keep_their_distance() {
    let (tasks, diary, wake) = (tasks(), Diary::new(), Arc::<Notify>::default());
    let rounds = Rounds::every("sweep", HOUR).woken_by(Arc::clone(&wake)).at_least_apart(SECOND);
    diary.keep(&tasks, rounds, vec![|| Ok(Next::Later); 10]);
    for _ in 0..35 {
        sleep(SECOND / 10).await;
        wake.notify_one();
    }
    assert_eq!(diary.rounds(), [0, 1, 2, 3].map(|seconds| seconds * SECOND));
}

#[rstest]
#[case::short(SECOND / 2, true)]
#[case::long(HOUR, false)]
#[tokio::test(start_paused = true)]
async fn told_to_stop_a_round_may_end_if_that_takes_but_a_moment(#[case] takes: Duration, #[case] ends: bool) {
    let (tasks, ended) = (tasks(), Arc::<Mutex<bool>>::default());
    tasks.repeat(Rounds::every("sweep", SECOND), Arc::clone(&ended), move |ended| {
        async move {
            sleep(takes).await;
            *ended.lock().unwrap_or_else(PoisonError::into_inner) = true;
            Ok(Next::Later)
        }
        .boxed()
    });
    sleep(SECOND / 10).await;
    let told = Instant::now();
    tasks.stop().await.expect("in order");
    assert!(told.elapsed() <= SECOND + SECOND / 10, "{:?}", told.elapsed());
    assert_eq!(*ended.lock().unwrap_or_else(PoisonError::into_inner), ends);
}

#[tokio::test(start_paused = true)]
async fn told_to_stop_one_that_waits_for_something_to_do_is_gone_at_once() {
    let tasks = tasks();
    tasks.repeat_on_demand(
        Rounds::on_demand("queue"),
        (),
        |()| std::future::pending().boxed(),
        |()| async { Ok(Next::Now) }.boxed(),
    );
    tasks.repeat(Rounds::every("sweep", HOUR), (), |()| async { Ok(Next::Later) }.boxed());
    tasks.repeat(Rounds::every("failing", HOUR).backing_off(HOUR, HOUR), (), |()| async { fails() }.boxed());
    sleep(SECOND).await;
    let told = Instant::now();
    tasks.stop().await.expect("in order");
    assert!(told.elapsed() < SECOND / 10, "{:?}", told.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_round_that_seems_to_hang_is_told_until_it_ends() {
    let (log, metrics, tasks) = (Log::listen(), Metrics::listen(), tasks());
    tasks.repeat(Rounds::every("sweep", SECOND), (), |()| {
        async {
            sleep(HOUR / 4).await;
            Ok(Next::In(HOUR))
        }
        .boxed()
    });
    sleep(HOUR / 8).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready, "it may take its time");
    sleep(HOUR / 16).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Degraded { lost: vec!["sweep"] });
    sleep(HOUR / 8).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready);
    assert!(metrics.has(r#"task_failures_total{task="sweep",how="hang"} 1"#));
    assert_eq!(log.lines(), [" WARN a round takes long: it looks as if it hung task=sweep"]);
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_something_to_do_does_not_hang_but_his_round_may() {
    let (metrics, tasks, (ask, asked)) = (Metrics::listen(), tasks(), tokio::sync::mpsc::channel::<()>(1));
    tasks.repeat_on_demand(
        Rounds::on_demand("queue"),
        asked,
        |asked| async { asked.recv().await.context("nobody is left") }.boxed(),
        |_| std::future::pending().boxed(),
    );
    assert!(!metrics.has(r#"task_last_good_round_timestamp_seconds{task="queue"} 0"#), "to be idle is no fault");
    sleep(HOUR).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready);
    assert!(metrics.has(r#"task_failures_total{task="queue",how="hang"} 0"#));
    ask.send(()).await.expect("it waits");
    sleep(HOUR).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Degraded { lost: vec!["queue"] });
    assert!(metrics.has(r#"task_failures_total{task="queue",how="hang"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn a_round_that_failed_is_no_news_once_nobody_asks_any_more() {
    let (tasks, (ask, asked)) = (tasks(), tokio::sync::mpsc::channel::<()>(1));
    tasks.repeat_on_demand(
        Rounds::on_demand("queue"),
        asked,
        |asked| async { asked.recv().await.context("nobody is left") }.boxed(),
        |_| async { fails() }.boxed(),
    );
    ask.send(()).await.expect("it waits");
    sleep(SECOND).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Degraded { lost: vec!["queue"] });
    sleep(HOUR).await;
    assert_eq!(tasks.health().readiness().await, Readiness::Ready);
}

#[rstest]
#[case::that_ends(async { Ok(()) }.boxed(), "ended by itself")]
#[case::that_fails(async { fails().map(drop) }.boxed(), "failed: what failed: the cause")]
#[case::that_panics(async { panics().map(drop) }.boxed(), "panicked")]
#[tokio::test]
async fn a_loop(#[case] that: BoxFuture<'static, anyhow::Result<()>>, #[case] how: &str) {
    let (log, tasks) = (Log::listen(), tasks());
    let (group, other) = (tasks.group(), tasks.group());
    group.run("poll", that);
    timeout(SECOND, tasks.stopping().cancelled()).await.expect("the process stops");
    assert_eq!(tasks.health().readiness().await, Readiness::Stopping);
    let said = format!("the background task poll {how}");
    assert_eq!(group.stop().await.expect_err("it failed").to_string(), said);
    assert_eq!(tasks.stop().await.expect_err("and so has the process").to_string(), said);
    other.stop().await.expect("but not its neighbours");
    let line = format!("ERROR a background task ended by itself: the process stops task=\"poll\" how=\"{how}\"");
    assert_eq!(log.lines(), [line]);
}

#[tokio::test]
async fn a_loop_that_is_told_to_end_is_no_failure() {
    let tasks = tasks();
    let (group, left) = (tasks.group(), tasks.group());
    for tasks in [&group, &left] {
        let stopping = tasks.stopping().clone();
        tasks.run("poll", stopping.cancelled_owned().map(Ok).boxed());
    }
    group.stop().await.expect("in order");
    assert!(!tasks.stopping().is_cancelled(), "a group is stopped for itself");
    tasks.stop().await.expect("in order");
    assert!(!left.stopping().is_cancelled(), "and outlives the process's own tasks");
    left.run("late", async { Ok(()) }.boxed());
    left.stop().await.expect("what ends while the process stops is no failure");
}

#[tokio::test]
async fn a_job_that_panics_is_counted_and_ends_nothing() {
    let (metrics, tasks) = (Metrics::listen(), tasks());
    let jobs = [tasks.once("lease", async {}.boxed()), tasks.once("lease", async { drop(panics()) }.boxed())];
    let endless = tasks.once("lease", std::future::pending().boxed());
    let ended = async {
        while !jobs.iter().all(AbortHandle::is_finished) {
            tokio::task::yield_now().await;
        }
    };
    timeout(SECOND, ended).await.expect("whoever needs it sees it end");
    assert!(metrics.has(r#"task_failures_total{task="lease",how="panic"} 1"#));
    assert!(!tasks.stopping().is_cancelled() && !endless.is_finished());
    tasks.stop().await.expect("in order");
}

#[test]
fn a_thread_that_panics_is_seen_to_have_ended() {
    let tasks = tasks();
    let thread = tasks.thread("poll", || drop(panics())).expect("a thread");
    thread.join().expect_err("it panicked");
    tasks.thread("poll", || ()).expect("a thread").join().expect("it ends well");
}

#[tokio::test(start_paused = true)]
async fn tasks_can_be_made_to_panic_by_their_names() {
    let faulty = BTreeSet::from(["sweep".to_owned(), "poll".to_owned()]);
    let tasks = Tasks::with_faulty(Health::new(CancellationToken::new()), faulty);
    let (sweep, drain) = (Diary::new(), Diary::new());
    sweep.keep(&tasks, Rounds::every("sweep", SECOND), vec![|| Ok(Next::Later)]);
    drain.keep(&tasks, Rounds::every("drain", SECOND), vec![|| Ok(Next::Later)]);
    sleep(HOUR).await;
    assert_eq!((sweep.rounds().len(), drain.rounds().len()), (0, 2));
    assert_eq!(tasks.health().readiness().await, Readiness::Degraded { lost: vec!["sweep"] });
    tasks.group().thread("poll", || ()).expect("a thread").join().expect_err("it panics");
    tasks.group().run("poll", std::future::pending().boxed());
    tasks.stopping().cancelled().await;
}

#[tokio::test]
async fn a_panic_of_a_call_that_blocks_is_its_caller_s() {
    assert_eq!(blocking(|| 7).await, 7);
    let panicked = AssertUnwindSafe(blocking(|| drop(panics()))).catch_unwind().await;
    assert_eq!(panicked.expect_err("it panics").downcast_ref::<&str>(), Some(&"a bug"));
}
