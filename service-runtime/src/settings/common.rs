//! What every process of the suite can be told (docs/contract.md §2, §5, §6).

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use common_events::Service;
use secrecy::SecretString;
use url::Url;

use super::{
    AuthSettings, DatabaseUrl, Durations, Env, KafkaSettings, Names, Ratio, Setting, SettingError, kafka::ReadableFile,
};

/// More connections than this per process starve the other services of one PostgreSQL.
const MAX_POOL_SIZE: usize = 500;
const MAX_WORKERS: usize = 256;
const MAX_ATTEMPTS: u32 = 100;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
/// Topics keep their events for weeks: what takes longer than this will not be done.
const WEEK: Duration = Duration::from_hours(7 * 24);
/// The tiers of the ladder are topics with fixed names (docs/contract.md §5).
const RETRY_TIERS: usize = 3;

/// Everything that is common to all processes.
#[derive(Debug, Clone)]
pub struct CommonSettings {
    /// `HTTP_ADDR`: where the process listens; the service's own port on 127.0.0.1 by default.
    pub http_addr: SocketAddr,
    /// `HTTP_WORKERS` (2): threads that answer HTTP.
    pub http_workers: usize,
    /// `DATABASE_URL` and the pool; `None` when not set (the relay has `DATABASE_URLS`).
    pub database: Option<DatabaseSettings>,
    /// `REDIS_URL`, with a password in it perhaps.
    pub redis_url: Option<SecretString>,
    /// How Kafka is reached.
    pub kafka: KafkaSettings,
    /// Where spans go.
    pub traces: TraceSettings,
    /// `LOG_FORMAT` (json).
    pub log_format: LogFormat,
    /// `RUST_LOG` (info): the filter of the log lines.
    pub log_filter: String,
    /// Who is believed to be who; `None` for the relay, which has no call that asks for it.
    pub auth: Option<AuthSettings>,
    /// How often and when a failed event is tried again.
    pub retry: RetrySettings,
    /// `FAULT_INJECTION` (false): named points at which tests make the process fail.
    pub fault_injection: bool,
    /// `FAULT_TASKS`: the background tasks that panic; none without `FAULT_INJECTION`.
    pub fault_tasks: BTreeSet<String>,
}

impl CommonSettings {
    /// Reads and checks them all.
    pub fn read(service: Service, env: &Env) -> Result<Self, SettingError> {
        let http_addr = env.or("HTTP_ADDR", SocketAddr::from(([127, 0, 0, 1], default_port(service))))?;
        let fault_injection = env.or("FAULT_INJECTION", false)?;
        if fault_injection && !http_addr.ip().is_loopback() {
            return Err(SettingError::wrong(
                "FAULT_INJECTION",
                "true",
                "true only where HTTP_ADDR is a loopback address",
            ));
        }
        let Names(fault_tasks) = env.or("FAULT_TASKS", Names::default())?;
        if !fault_injection && let Some(held) = env.text("FAULT_TASKS") {
            return Err(SettingError::wrong("FAULT_TASKS", held, "something only beside FAULT_INJECTION=true"));
        }
        let auth = match service {
            Service::OutboxRelay => None,
            Service::Order
            | Service::Payment
            | Service::Coupon
            | Service::Ranking
            | Service::Product
            | Service::DataPlatform
            | Service::SagaMonitor => Some(AuthSettings::read(env, http_addr)?),
        };
        Ok(Self {
            http_addr,
            http_workers: env.within("HTTP_WORKERS", 2, 1..=MAX_WORKERS)?,
            database: DatabaseSettings::read(env)?,
            redis_url: env.optional("REDIS_URL")?,
            kafka: KafkaSettings::read(env)?,
            traces: TraceSettings::read(env)?,
            log_format: env.or("LOG_FORMAT", LogFormat::Json)?,
            log_filter: env.or("RUST_LOG", LogFilter("info".to_owned()))?.0,
            auth,
            retry: RetrySettings::read(env)?,
            fault_injection,
            fault_tasks,
        })
    }
}

/// The default port of a service (docs/contract.md §1).
pub const fn default_port(service: Service) -> u16 {
    match service {
        Service::Order => 8081,
        Service::Payment => 8082,
        Service::Coupon => 8083,
        Service::Ranking => 8084,
        Service::Product => 8085,
        Service::DataPlatform => 8086,
        Service::SagaMonitor => 8090,
        Service::OutboxRelay => 8070,
    }
}

/// One database and the pool of connections to it.
#[derive(Debug, Clone)]
pub struct DatabaseSettings {
    /// `DATABASE_URL`.
    pub url: DatabaseUrl,
    /// `DATABASE_POOL_SIZE` (16): connections at most.
    pub pool_size: usize,
    /// `DATABASE_POOL_WAIT` (5s): how long a caller waits for a free connection.
    pub pool_wait: Duration,
    /// `DATABASE_STATEMENT_TIMEOUT` (30s): how long one statement may run; a third of it, how long it may wait
    /// for a lock.
    pub statement_timeout: Duration,
    /// `DATABASE_START_WAIT` (30s): how long a start waits for the database to be there.
    pub start_wait: Duration,
    /// `DATABASE_SSL_ROOT_CERT`: a PEM file with the authority to trust, beside the system's.
    pub ssl_root_cert: Option<String>,
}

impl DatabaseSettings {
    fn read(env: &Env) -> Result<Option<Self>, SettingError> {
        env.optional("DATABASE_URL")?.map(|url| Self::of(url, env)).transpose()
    }

    /// The same settings for another database; the relay serves several.
    pub fn of(url: DatabaseUrl, env: &Env) -> Result<Self, SettingError> {
        Ok(Self {
            url,
            pool_size: env.within("DATABASE_POOL_SIZE", 16, 1..=MAX_POOL_SIZE)?,
            pool_wait: env.between("DATABASE_POOL_WAIT", 5 * SECOND, 10 * MS..=HOUR)?,
            statement_timeout: env.between("DATABASE_STATEMENT_TIMEOUT", 30 * SECOND, 100 * MS..=HOUR)?,
            start_wait: env.between("DATABASE_START_WAIT", 30 * SECOND, Duration::ZERO..=HOUR)?,
            ssl_root_cert: env.optional("DATABASE_SSL_ROOT_CERT")?.map(|ReadableFile(file)| file),
        })
    }
}

/// Where spans go.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// `OTEL_TRACES_EXPORTER` (zipkin).
    pub exporter: TracesExporter,
    /// `ZIPKIN_ENDPOINT` (`http://127.0.0.1:19411/api/v2/spans`).
    pub zipkin_endpoint: Url,
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` (`http://127.0.0.1:4318`); `/v1/traces` is appended.
    pub otlp_endpoint: Url,
    /// `OTEL_TRACES_SAMPLER_ARG` (1): the share of traces begun here that is recorded.
    pub sampled: Ratio,
}

impl TraceSettings {
    fn read(env: &Env) -> Result<Self, SettingError> {
        let known = |text: &str| Url::parse(text).expect("a constant URL");
        Ok(Self {
            exporter: env.or("OTEL_TRACES_EXPORTER", TracesExporter::Zipkin)?,
            zipkin_endpoint: env.or("ZIPKIN_ENDPOINT", known("http://127.0.0.1:19411/api/v2/spans"))?,
            otlp_endpoint: env.or("OTEL_EXPORTER_OTLP_ENDPOINT", known("http://127.0.0.1:4318"))?,
            sampled: env.or("OTEL_TRACES_SAMPLER_ARG", Ratio::ALL)?,
        })
    }
}

/// Which protocol spans are sent in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracesExporter {
    /// Zipkin v2 JSON over HTTP.
    Zipkin,
    /// OTLP, protobuf over HTTP.
    Otlp,
    /// Nowhere.
    None,
}

impl Setting for TracesExporter {
    const MAY_HOLD: &'static str = "zipkin, otlp or none";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "zipkin" => Some(Self::Zipkin),
            "otlp" => Some(Self::Otlp),
            "none" => Some(Self::None),
            _ => None,
        }
    }
}

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

impl Setting for LogFormat {
    const MAY_HOLD: &'static str = "json or text";

    fn parse(text: &str) -> Option<Self> {
        match text {
            "json" => Some(Self::Json),
            "text" => Some(Self::Text),
            _ => None,
        }
    }
}

struct LogFilter(String);

impl Setting for LogFilter {
    const MAY_HOLD: &'static str = "a log filter such as info or info,messaging=debug";

    fn parse(text: &str) -> Option<Self> {
        tracing_subscriber::EnvFilter::try_new(text).ok()?;
        Some(Self(text.to_owned()))
    }
}

/// How often and when a failed event is tried again (docs/contract.md §5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrySettings {
    /// `RETRY_IMMEDIATE` (3): attempts in place.
    pub immediate: u32,
    /// `RETRY_DELAYS` (30s,1m,2m): one delay per retry topic.
    pub delays: [Duration; RETRY_TIERS],
    /// `PARKED_ATTEMPTS` (3).
    pub parked_attempts: u32,
    /// `PARKED_INTERVAL` (3m).
    pub parked_interval: Duration,
    /// `ORDER_TIMEOUT` (15m): after this an order that is not paid is cancelled.
    pub order_timeout: Duration,
    /// `STUCK_AFTER` (5m): a saga without progress for this long is reported.
    pub stuck_after: Duration,
}

/// The defaults (docs/contract.md §5, §6).
impl Default for RetrySettings {
    fn default() -> Self {
        Self {
            immediate: 3,
            delays: [30 * SECOND, 60 * SECOND, 120 * SECOND],
            parked_attempts: 3,
            parked_interval: 180 * SECOND,
            order_timeout: 900 * SECOND,
            stuck_after: 300 * SECOND,
        }
    }
}

impl RetrySettings {
    fn read(env: &Env) -> Result<Self, SettingError> {
        const TIERS: &str = "three durations from 1ms to 24h, one per retry topic, such as 30s,1m,2m";
        let usual = Self::default();
        let Durations(delays) = env.or("RETRY_DELAYS", Durations(usual.delays.to_vec()))?;
        let delays = delays
            .try_into()
            .ok()
            .filter(|delays: &[Duration; RETRY_TIERS]| delays.iter().all(|delay| (MS..=24 * HOUR).contains(delay)));
        let wrong = || SettingError::wrong("RETRY_DELAYS", env.text("RETRY_DELAYS").unwrap_or_default(), TIERS);
        Ok(Self {
            immediate: env.within("RETRY_IMMEDIATE", usual.immediate, 1..=MAX_ATTEMPTS)?,
            delays: delays.ok_or_else(wrong)?,
            parked_attempts: env.within("PARKED_ATTEMPTS", usual.parked_attempts, 0..=MAX_ATTEMPTS)?,
            parked_interval: env.between("PARKED_INTERVAL", usual.parked_interval, MS..=24 * HOUR)?,
            order_timeout: env.between("ORDER_TIMEOUT", usual.order_timeout, 100 * MS..=WEEK)?,
            stuck_after: env.between("STUCK_AFTER", usual.stuck_after, 100 * MS..=WEEK)?,
        })
    }

    /// How long the ladder lasts at most: every delay, and every parked attempt. Attempts in place
    /// are not counted, they take less than a second.
    pub fn ladder(&self) -> Duration {
        self.delays.iter().sum::<Duration>() + self.parked_interval * self.parked_attempts
    }
}
