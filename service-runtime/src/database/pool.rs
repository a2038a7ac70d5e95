//! The pool of connections, and waiting for the database to be there.

use std::time::Duration;

use anyhow::Context;
use common_events::Service;
use deadpool_postgres::{Manager, ManagerConfig, Pool, RecyclingMethod, Runtime};
use openssl::ssl::{SslConnector, SslMethod};
use postgres_openssl::MakeTlsConnector;
use tokio::time::{Instant, sleep};
use tokio_postgres::{NoTls, config::SslMode};

use crate::{settings::DatabaseSettings, tasks::Backoff};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// A peer that vanished without a word is noticed after this.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(15);
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(15);
/// Every statement here finds its rows by an index, and is planned once per connection instead of at each
/// call. Without sequential scans, a plan made while a table was empty stays right when it has grown.
const PLANS: &str = "-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off";
/// Of a process that was frozen or lost its machine in the middle of a transaction, the locks are free after
/// this, in milliseconds and seconds: before others give up waiting for them (`statement_timeout`).
const ABANDONED: &str = "-c idle_in_transaction_session_timeout=15000 \
    -c tcp_keepalives_idle=10 -c tcp_keepalives_interval=5 -c tcp_keepalives_count=2";
/// A statement waits for a lock for this part of its time at most: then it is known that it was a lock, and not the load.
const LOCK_WAIT_PART: u32 = 3;
/// Trying a database that isn't there at the start: the first pause, and the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Makes the pool; nothing is connected yet. TLS with a verified certificate when the URL says
/// `sslmode=require`, none otherwise.
pub fn connect(service: Service, settings: &DatabaseSettings, size: usize) -> anyhow::Result<Pool> {
    let mut config = settings.url.config();
    let (statement, lock) = (settings.statement_timeout, settings.statement_timeout / LOCK_WAIT_PART);
    let (statement, lock) = (statement.as_millis(), lock.as_millis());
    let session = format!("{PLANS} {ABANDONED} -c statement_timeout={statement} -c lock_timeout={lock}");
    let options = config.get_options().map_or(session.clone(), |own| format!("{session} {own}"));
    config
        .application_name(service.name())
        .options(options)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives(true)
        .keepalives_idle(KEEPALIVE_IDLE)
        .tcp_user_timeout(TCP_USER_TIMEOUT);

    let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let manager = if config.get_ssl_mode() == SslMode::Require {
        Manager::from_config(config, tls(settings.ssl_root_cert.as_deref())?, recycling)
    } else {
        Manager::from_config(config, NoTls, recycling)
    };
    Pool::builder(manager)
        .max_size(size)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(settings.pool_wait))
        .create_timeout(Some(CONNECT_TIMEOUT))
        .recycle_timeout(Some(CONNECT_TIMEOUT))
        .build()
        .context("the pool has a runtime for its timeouts")
}

fn tls(root_cert: Option<&str>) -> anyhow::Result<MakeTlsConnector> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).context("setting up TLS")?;
    if let Some(file) = root_cert {
        builder.set_ca_file(file).with_context(|| format!("reading DATABASE_SSL_ROOT_CERT {file}"))?;
    }
    Ok(MakeTlsConnector::new(builder.build()))
}

/// Waits until the database answers, for as long as `at_most`; then fails with what it said last.
/// Only what can get better by waiting is waited for, so a wrong password fails at once.
pub async fn wait_for(pool: &Pool, at_most: Duration) -> anyhow::Result<()> {
    let until = Instant::now() + at_most;
    let mut backoff = Backoff::new("start-with-database", FIRST_PAUSE, LONGEST_PAUSE);
    loop {
        let Err(error) = pool.get().await else {
            backoff.worked();
            return Ok(());
        };
        if !super::is_pool_unavailable(&error) || Instant::now() >= until {
            return Err(error).context("connecting to the database");
        }
        sleep(backoff.failed(&crate::chain(&error))).await;
    }
}

/// Whether the database answers a question now.
pub async fn answers(pool: &Pool) -> bool {
    match pool.get().await {
        Ok(client) => client.simple_query("SELECT 1").await.is_ok(),
        Err(_) => false,
    }
}
