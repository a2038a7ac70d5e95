//! The connection to Redis, and in which run of it this is.
//!
//! A connection ends with the run of Redis that accepted it. Its id is read before anything else is sent, so
//! whatever a script is told about the run is true when it runs. Without reconnecting by itself, as the
//! library's manager would: what runs on the new connection would be told the old id.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, RedisError, ServerErrorKind, Value, aio::MultiplexedConnection,
};
use service_runtime::museum::{self, Bug};
use tracing::{info, warn};

use super::{Unanswered, lua::Script};

/// How long connecting may take, and an answer. A gate that takes longer is one that doesn't answer.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// After a failed attempt nobody connects for so long.
const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// Commands that the connection takes before it makes their senders wait.
const QUEUED: usize = 256;

#[derive(Clone)]
pub(super) struct Link {
    client: Client,
    live: Arc<Mutex<State>>,
    connecting: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Default)]
struct State {
    live: Option<Live>,
    failed: Option<Instant>,
    made: u64,
}

/// One connection.
#[derive(Clone)]
pub(super) struct Live {
    link: Link,
    connection: MultiplexedConnection,
    run_id: Arc<str>,
    number: u64,
}

impl Link {
    pub(super) fn to(url: &str) -> Result<Self, RedisError> {
        Ok(Self { client: Client::open(url)?, live: Arc::default(), connecting: Arc::default() })
    }

    /// The connection, made if there is none.
    pub(super) async fn live(&self) -> Result<Live, Unanswered> {
        if let Some(live) = &self.state().live {
            return Ok(live.clone());
        }
        let _one_at_a_time = self.connecting.lock().await;
        {
            let state = self.state();
            if let Some(live) = &state.live {
                return Ok(live.clone());
            }
            if state.failed.is_some_and(|at| at.elapsed() < AFTER_FAILURE) {
                return Err(RedisError::from((ErrorKind::Io, "it didn't a moment ago")).into());
            }
        }
        match self.connect().await {
            Ok((connection, run_id)) => {
                let mut state = self.state();
                if state.failed.take().is_some() {
                    info!("Redis answers again");
                }
                state.made += 1;
                let live = Live { link: self.clone(), connection, run_id, number: state.made };
                state.live = Some(live.clone());
                Ok(live)
            }
            Err(error) => {
                let mut state = self.state();
                if state.failed.replace(Instant::now()).is_none() {
                    warn!(error = service_runtime::chain(&error), "Redis doesn't answer: nobody is admitted");
                }
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<(MultiplexedConnection, Arc<str>), Unanswered> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT))
            .set_pipeline_buffer_size(QUEUED);
        let mut connection = self.client.get_multiplexed_async_connection_with_config(&config).await?;
        let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
        let field = |name: &str| info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let run_id = field("run_id").ok_or_else(|| Unanswered::Nonsense("no run id".to_owned()))?;
        if let Some(policy) = field("maxmemory_policy").filter(|policy| *policy != "noeviction") {
            warn!(policy, "Redis may evict the gate's keys: set maxmemory-policy to noeviction");
        }
        Ok((connection, run_id.into()))
    }

    /// Runs the script on the connection there is.
    pub(super) async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, Unanswered> {
        self.live().await?.run(script, call).await
    }

    pub(super) async fn ping(&self) -> bool {
        match self.live().await {
            Ok(live) => live.send(&redis::cmd("PING")).await.is_ok(),
            Err(_) => false,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Live {
    /// The run of Redis that this connection belongs to.
    pub(super) fn run_id(&self) -> &str {
        if museum::is_back(Bug::StaleRedisBelieved) { "any" } else { &self.run_id }
    }

    /// Runs the script. A Redis that doesn't know it learns it: nothing of it was done before.
    pub(super) async fn run(&self, script: &Script, call: &Cmd) -> Result<Value, Unanswered> {
        match self.send(call).await {
            Err(Unanswered::Redis(error)) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                self.send(redis::cmd("SCRIPT").arg("LOAD").arg(script.source)).await?;
                self.send(call).await
            }
            answered => answered,
        }
    }

    pub(super) async fn send(&self, command: &Cmd) -> Result<Value, Unanswered> {
        match self.connection.clone().send_packed_command(command).await.and_then(Value::extract_error) {
            Ok(value) => Ok(value),
            Err(error) => {
                self.give_up_after(&error);
                Err(error.into())
            }
        }
    }

    /// The next one connects anew unless the server just refused this one command. One that only reads was
    /// demoted: its successor is elsewhere.
    fn give_up_after(&self, error: &RedisError) {
        let is_refusal = matches!(error.kind(), ErrorKind::Server(kind) if kind != ServerErrorKind::ReadOnly)
            || error.kind() == ErrorKind::Extension;
        let mut state = self.link.state();
        if !is_refusal && state.live.as_ref().is_some_and(|live| live.number == self.number) {
            state.live = None;
        }
    }
}
