//! Where the real parts are. A test that switches a part off brings up a second Kafka, PostgreSQL and Redis, so that
//! it disturbs nobody else.

use std::{
    env,
    path::PathBuf,
    process::{Output, Stdio},
};

use anyhow::{Context, bail, ensure};
use tokio::process::Command;
use uuid::Uuid;

/// Port offsets that are tried for a second set of parts, beyond this suite's own.
const OFFSETS: std::ops::RangeInclusive<i32> = 2..=9;
const OFFSET_STEP: i32 = 1_000;

/// Addresses of the real parts.
#[derive(Debug, Clone)]
pub struct Parts {
    /// Kafka's `host:port`.
    pub kafka: String,
    /// A superuser's URL, without the database.
    pub postgres: String,
    /// Zipkin's base URL.
    pub zipkin: String,
    /// Redis's URL.
    pub redis: String,
}

impl Parts {
    /// Where `TEST_KAFKA_BROKERS`, `TEST_POSTGRES_URL`, `TEST_ZIPKIN_URL` and `TEST_REDIS_URL` say, else at the local
    /// suite's ports.
    pub fn from_env() -> Self {
        let or = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
        let postgres = or("TEST_POSTGRES_URL", "postgres://postgres:postgres@127.0.0.1:15432/postgres");
        Self {
            kafka: or("TEST_KAFKA_BROKERS", "127.0.0.1:19092"),
            postgres: without_database(&postgres).to_owned(),
            zipkin: or("TEST_ZIPKIN_URL", "http://127.0.0.1:19411"),
            redis: or("TEST_REDIS_URL", "redis://127.0.0.1:16379"),
        }
    }

    /// A superuser's URL for this database.
    pub fn superuser_url(&self, database: &str) -> String {
        format!("{}/{database}", self.postgres)
    }

    /// A role's URL for its database, the password being the name.
    pub fn role_url(&self, role: &str) -> String {
        let host = self.postgres.rsplit_once('@').map_or(&*self.postgres, |(_, host)| host);
        format!("postgres://{role}:{role}@{host}/{role}")
    }
}

fn without_database(url: &str) -> &str {
    url.rsplit_once('/').map_or(url, |(before, _)| before)
}

/// Who brings parts up chooses ports that are free, and holds this until they are taken.
static BRINGING_UP: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A second set of real parts in a folder of its own, stopped and removed when this is dropped. Zipkin is everybody's:
/// it takes long to start, and nobody switches it off.
pub struct OwnParts {
    home: PathBuf,
    offset: i32,
    control: PathBuf,
    addresses: Parts,
}

impl OwnParts {
    /// Brings up Kafka, PostgreSQL and Redis on free ports.
    pub async fn up() -> anyhow::Result<Self> {
        Self::up_by(&["up-parts", "kafka", "postgres", "redis"]).await
    }

    /// Brings up a Kafka and nothing else.
    pub async fn only_kafka() -> anyhow::Result<Self> {
        Self::up_by(&["start", "kafka"]).await
    }

    async fn up_by(arguments: &[&str]) -> anyhow::Result<Self> {
        let control = env::var("SUITE_CONTROL")
            .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../deploy/local/suite"), PathBuf::from);
        let home = env::temp_dir().join(format!("commerce-parts-{}", Uuid::now_v7().simple()));
        std::fs::create_dir_all(&home).with_context(|| format!("making {}", home.display()))?;
        let mut own = Self { home, offset: 0, control, addresses: Parts::from_env() };
        let alone = BRINGING_UP.lock().await;
        own.offset = own.free_offset().await?;
        own.run(arguments).await?;
        drop(alone);
        own.addresses = own.read_addresses().await?;
        Ok(own)
    }

    /// Where they are.
    pub const fn addresses(&self) -> &Parts {
        &self.addresses
    }

    /// Stops one part.
    pub async fn stop(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["stop", name]).await.map(drop)
    }

    /// Starts one part; it keeps what it held.
    pub async fn start(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["start", name]).await.map(drop)
    }

    /// Stops and starts one part.
    pub async fn restart(&self, name: &str) -> anyhow::Result<()> {
        self.run(&["restart-part", name]).await.map(drop)
    }

    /// Where a part keeps what it holds.
    pub fn data_of(&self, name: &str) -> PathBuf {
        self.home.join("data").join(name)
    }

    async fn free_offset(&self) -> anyhow::Result<i32> {
        let own: i32 = env::var("SUITE_PORT_OFFSET").ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        for step in OFFSETS {
            let offset = own + step * OFFSET_STEP;
            if self.command(offset, &["check-ports"]).output().await?.status.success() {
                return Ok(offset);
            }
        }
        bail!("no free ports for a second set of parts")
    }

    async fn read_addresses(&self) -> anyhow::Result<Parts> {
        let said = String::from_utf8(self.run(&["env"]).await?.stdout).context("addresses")?;
        let value = |name: &str| {
            let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            line.map(str::to_owned).with_context(|| format!("`suite env` says no {name}"))
        };
        Ok(Parts {
            kafka: value("TEST_KAFKA_BROKERS")?,
            postgres: without_database(&value("TEST_POSTGRES_URL")?).to_owned(),
            zipkin: Parts::from_env().zipkin,
            redis: value("TEST_REDIS_URL")?,
        })
    }

    async fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let output = self.command(self.offset, arguments).output().await.context("deploy/local/suite")?;
        let said = || String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "deploy/local/suite {} failed: {}", arguments.join(" "), said());
        Ok(output)
    }

    fn command(&self, offset: i32, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.control);
        command
            .args(arguments)
            .env("SUITE_HOME", &self.home)
            .env("SUITE_SHORT_LIVED", "yes")
            .env("SUITE_PORT_OFFSET", offset.to_string())
            .stdin(Stdio::null());
        command
    }
}

impl Drop for OwnParts {
    fn drop(&mut self) {
        let downed = std::process::Command::new(&self.control)
            .arg("down")
            .env("SUITE_HOME", &self.home)
            .env("SUITE_PORT_OFFSET", self.offset.to_string())
            .stdin(Stdio::null())
            .output();
        match downed {
            Ok(output) if output.status.success() => {
                let _ = std::fs::remove_dir_all(&self.home);
            }
            outcome => eprintln!("the parts in {} were not stopped: {outcome:?}", self.home.display()),
        }
    }
}
