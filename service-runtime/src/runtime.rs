//! The `main` of every binary: from reading settings to the last span.

use std::{future::Future, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::Context;
use common_events::Service;
use futures::{
    FutureExt,
    future::{BoxFuture, LocalBoxFuture},
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::{
    auth::Auth,
    database::{self, Migrations, Pool},
    health::Health,
    http::{self, Routes},
    idempotency,
    settings::{CommonSettings, DatabaseSettings, Env, SettingError},
    tasks::Tasks,
    telemetry::{self, Batcher},
};

/// After a signal, or a failure, the process is gone by then, whatever hangs.
const HARD_STOP: Duration = Duration::from_secs(20);
/// How long the last spans may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);
/// How long tasks that are left may take to notice that the runtime goes.
const TASKS_TIMEOUT: Duration = Duration::from_secs(1);
const MAX_TOKIO_WORKERS: usize = 256;

/// A wrong setting; other failures exit with 1.
const EXIT_SETTINGS: u8 = 2;

/// What a process gets from [`main`]. Cheap enough to clone; all clones are one process.
#[derive(Clone)]
pub struct Runtime {
    /// Who this is.
    pub service: Service,
    /// The environment, for the service's own settings.
    pub env: Env,
    /// The settings that all processes have.
    pub settings: CommonSettings,
    /// Whether the process can do its work.
    pub health: Health,
    /// What it does beside answering, until `shutdown`.
    pub tasks: Tasks,
    /// Cancelled on SIGTERM and SIGINT, when a background task ended by itself, and when `run` has ended.
    pub shutdown: CancellationToken,
}

/// Runs a process: settings, logs, metrics, spans, signals, then `run`, then everything down again.
///
/// Exits with 0 when `run` ended well, with 1 when it or a background task failed (logged once, with its
/// causes), and with 2 for a wrong setting (one line on standard error), also when `run` returns a
/// [`SettingError`]. Within [`HARD_STOP`] of a signal, or of a failure, the process is gone.
pub fn main<'r, F, Fut>(service: Service, run: F) -> ExitCode
where
    F: FnOnce(Runtime) -> Fut + 'r,
    Fut: Future<Output = anyhow::Result<()>> + 'r,
{
    run_process(service, Box::new(|runtime| run(runtime).boxed_local()))
}

/// What a process does between its start and its end. Boxed, as is much in this file, so that it is compiled once,
/// here, and not again in every program.
type Run<'r> = Box<dyn FnOnce(Runtime) -> LocalBoxFuture<'r, anyhow::Result<()>> + 'r>;

fn run_process(service: Service, run: Run<'_>) -> ExitCode {
    let env = Env::process();
    let read = CommonSettings::read(service, &env)
        .and_then(|settings| Ok((settings, env.within("TOKIO_WORKERS", 2, 1..=MAX_TOKIO_WORKERS)?)));
    let (settings, workers) = match read {
        Ok(read) => read,
        Err(error) => return refuse(&error),
    };
    telemetry::start_logs(service, &settings);
    log_panics();
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build();
    let tokio = match tokio.context("starting tokio") {
        Ok(tokio) => tokio,
        Err(error) => return fail(&error),
    };
    let runtime = Runtime::new(service, env, settings);
    if let Err(error) = stop_hard_later(runtime.shutdown.clone()) {
        return fail(&error);
    }
    let outcome = tokio.block_on(live(runtime, run));
    tokio.shutdown_timeout(TASKS_TIMEOUT);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<SettingError>() {
            Some(wrong) => refuse(wrong),
            None => fail(&error),
        },
    }
}

async fn live(runtime: Runtime, run: Run<'_>) -> anyhow::Result<()> {
    crate::metrics::start()?;
    let (tasks, shutdown) = (runtime.tasks.clone(), runtime.shutdown.clone());
    crate::metrics::keep_up(&tasks);
    // Nobody tells these to stop: they are needed until the end.
    let until_the_end = tasks.group();
    let traces = &runtime.settings.traces;
    telemetry::start(Batcher::start(traces, runtime.service, &until_the_end)?, traces.sampled);
    listen_for_signals(&until_the_end, shutdown.clone())?;
    let outcome = run(runtime).await;
    shutdown.cancel();
    let stopped = tasks.stop().await;
    telemetry::flush(FLUSH_TIMEOUT).await;
    // Where a task failed, what came of the rest only follows from it.
    stopped?;
    outcome
}

/// The first signal stops the process in order, the second one at once.
fn listen_for_signals(tasks: &Tasks, shutdown: CancellationToken) -> anyhow::Result<()> {
    let (mut terminate, mut interrupt) = signals()?;
    let listening = async move {
        let mut next = async || tokio::select! { _ = terminate.recv() => "SIGTERM", _ = interrupt.recv() => "SIGINT" };
        if let Some(name) = shutdown.run_until_cancelled(next()).await {
            tracing::info!(signal = name, "stopping");
            shutdown.cancel();
        } else {
            next().await;
        }
        next().await;
        std::process::exit(1)
    };
    tasks.run("signals", listening.boxed());
    Ok(())
}

/// SIGTERM and SIGINT, for the runtime that this is called in.
fn signals() -> anyhow::Result<(Signal, Signal)> {
    let terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    Ok((terminate, interrupt))
}

/// However the process comes to stop, it is gone within [`HARD_STOP`]. This has a thread and a runtime of its own
/// from the start: what hangs may be the runtime of everything else, and it may be what listens for signals there.
fn stop_hard_later(shutdown: CancellationToken) -> anyhow::Result<()> {
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let (mut terminate, mut interrupt) = {
        let _here = tokio.enter();
        signals()?
    };
    let leave = move || {
        tokio.block_on(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = shutdown.cancelled() => {}
            }
        });
        std::thread::sleep(HARD_STOP);
        eprintln!("not stopped after {} s, leaving", HARD_STOP.as_secs());
        std::process::exit(1);
    };
    let thread = std::thread::Builder::new().name("hard-stop".to_owned());
    #[expect(clippy::disallowed_methods, reason = "it ends the process, or the process ends it")]
    thread.spawn(leave).context("a thread for the hard stop")?;
    Ok(())
}

fn refuse(error: &SettingError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(EXIT_SETTINGS)
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!(error = format!("{error:#}"), "ended by a failure");
    ExitCode::FAILURE
}

/// A panic is a log line like any other, not a text between them.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string);
        let text = panic.payload_as_str().unwrap_or("no text");
        tracing::error!(at, panic = text, "panicked");
    }));
}

impl Runtime {
    /// Without signals, logs or spans: what [`main`] builds, and what tests use.
    pub fn new(service: Service, env: Env, settings: CommonSettings) -> Self {
        let shutdown = CancellationToken::new();
        let health = Health::new(shutdown.clone());
        let tasks = Tasks::with_faulty(health.clone(), settings.fault_tasks.clone());
        Self { service, env, settings, health, tasks, shutdown }
    }

    /// The service's database: waits for it to be there (`DATABASE_START_WAIT`), applies what isn't
    /// migrated yet, and has health ask it from now on.
    pub async fn database(&self, migrations: &[Migrations]) -> anyhow::Result<Pool> {
        let settings = self.settings.database.as_ref();
        let settings = settings.ok_or_else(|| {
            SettingError::missing("DATABASE_URL", <crate::settings::DatabaseUrl as crate::settings::Setting>::MAY_HOLD)
        })?;
        self.database_at("database", settings, migrations).await
    }

    /// The same for a database other than `DATABASE_URL`'s, under a name of its own in health.
    pub fn database_at<'a>(
        &'a self,
        name: &'static str,
        settings: &'a DatabaseSettings,
        migrations: &'a [Migrations],
    ) -> BoxFuture<'a, anyhow::Result<Pool>> {
        self.open_database(name, settings, migrations).boxed()
    }

    async fn open_database(
        &self,
        name: &'static str,
        settings: &DatabaseSettings,
        migrations: &[Migrations],
    ) -> anyhow::Result<Pool> {
        let pool = database::connect(self.service, settings, settings.pool_size)?;
        tokio::select! {
            there = database::wait_for(&pool, settings.start_wait) => there?,
            () = self.shutdown.cancelled() => anyhow::bail!("stopped while waiting for the database"),
        }
        database::migrate(&pool, migrations).await?;
        // One connection that health has for itself: a pool that is all in use isn't a database away.
        let probed = database::connect(self.service, settings, 1)?;
        self.health.probe(name, move || {
            let probed = probed.clone();
            async move { database::answers(&probed).await }
        });
        if migrations.iter().any(|one| one.table == idempotency::MIGRATIONS.table) {
            idempotency::keep_clean(&self.tasks, pool.clone());
        }
        Ok(pool)
    }

    /// Answers HTTP until [`Runtime::shutdown`], then ends once the requests under way are answered,
    /// or [`http::DRAIN_TIMEOUT`] later. What consumes or produces events is stopped after this.
    pub fn serve(&self, routes: Routes) -> LocalBoxFuture<'_, anyhow::Result<()>> {
        http::serve(self, routes, |_: SocketAddr| ()).boxed_local()
    }

    /// Who is believed to be who, for what isn't an extractor's to ask.
    pub fn auth(&self) -> anyhow::Result<Auth> {
        Auth::new(self.settings.auth.as_ref())
    }
}
