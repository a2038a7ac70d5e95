//! The real programs as processes, with databases, topics, groups and ports of their own: so many suites run
//! side by side on one set of parts.

mod databases;
mod process;

use std::{
    collections::BTreeMap,
    env,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{ExitStatus, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use common_events::Service;
use futures::future::try_join_all;
use messaging::topics::{self, Cluster, Names};
use service_runtime::settings::{Env, KafkaSettings};
use tokio::process::Command;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::{
    Parts, Shop, Urls, eventually,
    outside::Outside,
    topics::{Groups, Position},
};
pub use databases::connect;
pub use process::Process;

/// The services that own a database, in the order in which they start. The relay comes after them.
pub const SERVICES: [Service; 7] = [
    Service::Product,
    Service::Order,
    Service::Payment,
    Service::Coupon,
    Service::Ranking,
    Service::DataPlatform,
    Service::SagaMonitor,
];
/// Everything that runs.
pub const PROGRAMS: [Service; 8] = [
    Service::Product,
    Service::Order,
    Service::Payment,
    Service::Coupon,
    Service::Ranking,
    Service::DataPlatform,
    Service::SagaMonitor,
    Service::OutboxRelay,
];
/// The platform outside: no part of the suite, and never killed with it.
const RECEIVER: &str = "platform-receiver";

/// Ports that no outgoing connection is given, and no part, so that a restarted program finds its own free.
const PORTS: std::ops::Range<u16> = 12_500..15_000;
const READY_PATIENCE: Duration = Duration::from_secs(40);
/// How long a suite may take to come to rest; a killed member's partitions are free after 10 s.
const QUIET_PATIENCE: Duration = Duration::from_mins(2);
const EXIT_PATIENCE: Duration = Duration::from_secs(25);

/// How a suite is run.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The real parts.
    pub parts: Parts,
    /// Where the programs are.
    pub bin_dir: PathBuf,
    /// `ORDER_TIMEOUT`.
    pub order_timeout: Duration,
    /// More variables, for every program.
    pub variables: Vec<(String, String)>,
    /// Where the logs of all suites of this process go.
    pub logs: PathBuf,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            parts: Parts::from_env(),
            bin_dir: bin_dir(),
            order_timeout: Duration::from_mins(2),
            variables: Vec::new(),
            logs: logs_of_this_process(),
        }
    }
}

/// The folder of the logs of all suites that this process runs. Who starts suites removes it in the end.
pub fn logs_of_this_process() -> PathBuf {
    env::temp_dir().join(format!("commerce-suites-{}", std::process::id()))
}

/// `TEST_BIN_DIR`, else where this test's cargo builds.
fn bin_dir() -> PathBuf {
    if let Ok(dir) = env::var("TEST_BIN_DIR") {
        return dir.into();
    }
    // target/debug/deps/it-… → target/debug
    let me = env::current_exe().unwrap_or_default();
    me.ancestors().nth(2).map_or_else(PathBuf::new, Path::to_path_buf)
}

/// Which of the processes of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instance {
    /// The one that is always there.
    First,
    /// Another one beside it.
    Second,
}

/// A running suite. Dropped, its processes are killed and its databases and topics deleted.
pub struct Suite {
    /// The way in.
    pub shop: Shop,
    /// The platform that data-platform calls.
    pub outside: Outside,
    settings: Settings,
    /// Before the names of databases, roles, topics and groups.
    name: String,
    ports: BTreeMap<(Service, Instance), u16>,
    wake_port: u16,
    processes: Mutex<BTreeMap<(Service, Instance), Process>>,
    /// Killed when this is dropped.
    _receiver: Process,
    logs: PathBuf,
}

impl Suite {
    /// Makes databases and topics, starts every program, and waits until all are ready.
    pub async fn start(settings: Settings) -> anyhow::Result<Self> {
        let id = Uuid::now_v7().simple().to_string();
        let name = format!("sys{}", &id[id.len() - 10..]);
        let mut free = free_ports();
        let mut next = || free.next().context("no free port");
        let mut ports = BTreeMap::new();
        for program in PROGRAMS {
            for instance in [Instance::First, Instance::Second] {
                ports.insert((program, instance), next()?);
            }
        }
        let url = |service| format!("http://127.0.0.1:{}", ports[&(service, Instance::First)]);
        let urls = Urls {
            order: url(Service::Order),
            product: url(Service::Product),
            payment: url(Service::Payment),
            ranking: url(Service::Ranking),
            coupon: url(Service::Coupon),
        };
        let logs = settings.logs.join(&name);
        std::fs::create_dir_all(&logs).with_context(|| format!("making {}", logs.display()))?;
        let wake_port = next()?;
        let (shop, outside_at) = (Shop::at(urls), format!("127.0.0.1:{}", next()?));
        let outside = Outside::at(format!("http://{outside_at}"));
        let receiver = spawn_receiver(&settings, outside_at, &logs)?;
        let suite = Self {
            shop,
            outside,
            settings,
            name,
            ports,
            wake_port,
            processes: Mutex::default(),
            _receiver: receiver,
            logs,
        };
        tokio::try_join!(suite.create_databases(), suite.apply_topics())?;
        suite.start_all().await?;
        Ok(suite)
    }

    /// The names of its topics and groups.
    pub fn names(&self) -> Names {
        Names::with_prefix(self.topic_prefix())
    }

    /// Where its parts are.
    pub const fn parts(&self) -> &Parts {
        &self.settings.parts
    }

    /// The base URL of an instance.
    pub fn url(&self, service: Service, instance: Instance) -> String {
        format!("http://127.0.0.1:{}", self.ports[&(service, instance)])
    }

    /// Where a program of it is.
    pub fn program(&self, service: Service) -> PathBuf {
        self.settings.bin_dir.join(service.name())
    }

    /// Where the processes' logs are.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// A superuser's connection to a service's database.
    pub async fn database(&self, service: Service) -> anyhow::Result<Client> {
        connect(&self.settings.parts.superuser_url(&self.database_name(service))).await
    }

    /// A service's own URL of its database.
    pub fn database_url(&self, service: Service) -> String {
        self.settings.parts.role_url(&self.database_name(service))
    }

    /// The consumer groups and topics.
    pub fn groups(&self) -> anyhow::Result<Groups> {
        Groups::at(&self.settings.parts.kafka, self.names())
    }

    // --- processes ------------------------------------------------------------------------------

    /// Starts whatever doesn't run, and waits until all are ready.
    pub async fn start_all(&self) -> anyhow::Result<()> {
        for service in SERVICES {
            self.spawn(service, Instance::First)?;
        }
        try_join_all(SERVICES.map(|service| self.until_ready(service, Instance::First))).await?;
        // The relay's tables are the services' to bring along.
        self.run(Service::OutboxRelay).await
    }

    /// Starts a program, if it doesn't run, and waits until it is ready.
    pub async fn run(&self, service: Service) -> anyhow::Result<()> {
        self.run_instance(service, Instance::First).await
    }

    /// Starts another process of the same service beside the first, and waits until it is ready.
    pub async fn run_second(&self, service: Service) -> anyhow::Result<()> {
        self.run_instance(service, Instance::Second).await
    }

    async fn run_instance(&self, service: Service, instance: Instance) -> anyhow::Result<()> {
        self.spawn(service, instance)?;
        self.until_ready(service, instance).await
    }

    /// `kill -9`.
    pub fn kill(&self, service: Service) -> anyhow::Result<()> {
        self.with(service, Instance::First, Process::kill)?;
        self.locked().remove(&(service, Instance::First));
        Ok(())
    }

    /// SIGSTOP: the process freezes, its connections stay.
    pub fn stop(&self, service: Service, instance: Instance) -> anyhow::Result<()> {
        self.with(service, instance, Process::freeze)
    }

    /// SIGCONT.
    pub fn cont(&self, service: Service, instance: Instance) -> anyhow::Result<()> {
        self.with(service, instance, Process::thaw)
    }

    /// SIGTERM; waits for the exit.
    pub async fn terminate(&self, service: Service, instance: Instance) -> anyhow::Result<ExitStatus> {
        self.with(service, instance, Process::ask_to_stop)?;
        let status = eventually(&format!("{service} stops"), EXIT_PATIENCE, async || {
            self.with(service, instance, |process| process.exited()?.context("it still runs"))
        })
        .await?;
        self.locked().remove(&(service, instance));
        Ok(status)
    }

    /// SIGTERM to all of them; waits until they are gone.
    pub async fn terminate_all(&self) -> anyhow::Result<()> {
        let running: Vec<_> = self.locked().keys().copied().collect();
        try_join_all(running.into_iter().map(|(service, instance)| self.terminate(service, instance))).await?;
        Ok(())
    }

    /// The pid of a running process.
    pub fn pid(&self, service: Service) -> anyhow::Result<u32> {
        self.with(service, Instance::First, |process| Ok(process.pid()))
    }

    /// Starts a program, if it doesn't run, and doesn't wait for it.
    pub fn spawn(&self, service: Service, instance: Instance) -> anyhow::Result<()> {
        let mut processes = self.locked();
        if processes.contains_key(&(service, instance)) {
            return Ok(());
        }
        let name = match instance {
            Instance::First => service.to_string(),
            Instance::Second => format!("{service}-2"),
        };
        let log = self.logs.join(format!("{name}.log"));
        let variables = self.variables(service, instance);
        let process = Process::spawn(&self.settings.bin_dir, service.name(), &variables, &log)?;
        processes.insert((service, instance), process);
        Ok(())
    }

    /// All that a process of this service is told; nothing of the test's own environment gets through.
    pub fn variables(&self, service: Service, instance: Instance) -> Vec<(String, String)> {
        let parts = &self.settings.parts;
        let database = match service {
            Service::OutboxRelay => ("DATABASE_URLS", SERVICES.map(|service| self.database_url(service)).join(",")),
            _ => ("DATABASE_URL", self.database_url(service)),
        };
        // A stand-by relay can't listen where the first one does, and is told of nothing there.
        let wake = match (service, instance) {
            (Service::OutboxRelay, Instance::Second) => String::new(),
            _ => format!("127.0.0.1:{}", self.wake_port),
        };
        let own = [
            ("HTTP_ADDR", format!("127.0.0.1:{}", self.ports[&(service, instance)])),
            ("KAFKA_BROKERS", parts.kafka.clone()),
            ("REDIS_URL", parts.redis.clone()),
            ("TOPIC_PREFIX", self.topic_prefix()),
            ("ZIPKIN_ENDPOINT", format!("{}/api/v2/spans", parts.zipkin)),
            ("OUTBOX_WAKE_ADDR", wake),
            ("SERVICE_URLS", self.service_urls()),
            ("ORDER_TIMEOUT", format!("{}ms", self.settings.order_timeout.as_millis())),
            ("DATA_PLATFORM_URL", format!("{}/payments", self.outside.url())),
            ("AUTH_MODE", "header".to_owned()),
            ("LOG_FORMAT", "text".to_owned()),
            database,
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        own.chain(self.settings.variables.iter().cloned()).collect()
    }

    /// Where each program is: whom the monitor asks.
    fn service_urls(&self) -> String {
        PROGRAMS.map(|service| format!("{service}={}", self.url(service, Instance::First))).join(",")
    }

    async fn until_ready(&self, service: Service, instance: Instance) -> anyhow::Result<()> {
        let url = self.url(service, instance);
        eventually(&format!("{service} is ready"), READY_PATIENCE, async || {
            let exited = self.with(service, instance, Process::exited)?;
            ensure!(exited.is_none(), "it exited; see {}", self.logs.display());
            match self.shop.readiness(&url).await? {
                (200, _) => Ok(()),
                (status, said) => bail!("{status} {said}"),
            }
        })
        .await
    }

    fn with<T>(
        &self,
        service: Service,
        instance: Instance,
        act: impl FnOnce(&mut Process) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut processes = self.locked();
        let process = processes.get_mut(&(service, instance)).with_context(|| format!("{service} doesn't run"))?;
        act(process)
    }

    fn locked(&self) -> MutexGuard<'_, BTreeMap<(Service, Instance), Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the operators' command line against this suite.
    pub async fn sagactl(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        let mut command = Command::new(self.settings.bin_dir.join("sagactl"));
        command.env_clear().env("SERVICE_URLS", self.service_urls()).args(arguments);
        command.output().await.context("starting sagactl")
    }

    // --- quiet ----------------------------------------------------------------------------------

    /// Waits until nothing is under way: no order is open, no admission waits for its coupon, no outbox row waits,
    /// no group has anything to read.
    pub async fn until_quiet(&self) -> anyhow::Result<()> {
        let groups = self.groups()?;
        let mut before: Option<Position> = None;
        eventually("the suite is quiet", QUIET_PATIENCE, async || {
            self.nothing_is_open().await?;
            let now = groups.nothing_to_read(&SERVICES).await?;
            // Twice the same, as an event may have passed behind a look.
            let last = before.replace(now.clone());
            ensure!(last == Some(now), "something was published a moment ago");
            Ok(())
        })
        .await
    }

    /// Whether each order is confirmed or cancelled.
    pub async fn every_order_has_ended(&self) -> anyhow::Result<()> {
        let orders = self.database(Service::Order).await?;
        let open: i64 = orders.query_one("SELECT count(*) FROM orders WHERE open_since IS NOT NULL", &[]).await?.get(0);
        ensure!(open == 0, "{open} orders are open");
        Ok(())
    }

    /// Whether the gates have admitted exactly those that coupons were issued to.
    pub async fn every_admission_has_ended(&self) -> anyhow::Result<()> {
        for id in self.shop.books().coupons.keys() {
            let coupon = match self.shop.coupon(id).await {
                Ok(coupon) => coupon,
                // It was put on the books, and couldn't be made.
                Err(trouble) if trouble.status() == Some(404) => continue,
                Err(trouble) => return Err(trouble.into()),
            };
            let (admitted, issued) = (coupon.admitted, coupon.issued);
            ensure!(admitted == Some(issued), "{admitted:?} are admitted to {id}, {issued} have it");
        }
        Ok(())
    }

    async fn nothing_is_open(&self) -> anyhow::Result<()> {
        self.every_order_has_ended().await?;
        self.every_admission_has_ended().await?;
        for service in SERVICES {
            self.nothing_waits_in_the_outbox_of(service).await?;
            self.nothing_climbs_in(service).await?;
        }
        Ok(())
    }

    /// Whether everything that a service published is acknowledged by Kafka.
    pub async fn nothing_waits_in_the_outbox_of(&self, service: Service) -> anyhow::Result<()> {
        let database = self.database(service).await?;
        let waiting: i64 = database.query_one("SELECT count(*) FROM outbox", &[]).await?.get(0);
        ensure!(waiting == 0, "{waiting} rows wait in the outbox of {service}");
        Ok(())
    }

    /// Whether no event waits to be tried again, or behind one that does.
    async fn nothing_climbs_in(&self, service: Service) -> anyhow::Result<()> {
        let database = self.database(service).await?;
        let sql = "SELECT count(*) FROM inbox WHERE state IN ('waiting', 'retrying', 'parked')";
        let climbing: i64 = database.query_one(sql, &[]).await?.get(0);
        ensure!(climbing == 0, "{climbing} events of {service} are on the ladder");
        Ok(())
    }

    // --- databases and topics -------------------------------------------------------------------

    fn database_name(&self, service: Service) -> String {
        format!("{}_{}", self.name, service.name().replace('-', "_"))
    }

    fn topic_prefix(&self) -> String {
        format!("{}.", self.name)
    }

    async fn create_databases(&self) -> anyhow::Result<()> {
        let server = connect(&self.settings.parts.superuser_url("postgres")).await?;
        for service in SERVICES {
            databases::create(&server, &self.database_name(service)).await?;
        }
        Ok(())
    }

    async fn apply_topics(&self) -> anyhow::Result<()> {
        let cluster = self.cluster()?;
        let changes = cluster.plan(&topics::wanted(&self.names())).await?;
        cluster.apply(&changes).await
    }

    fn cluster(&self) -> anyhow::Result<Cluster> {
        Cluster::connect(&kafka_settings(&self.settings.parts.kafka))
    }

    async fn remove_everything(&self) -> anyhow::Result<()> {
        let server = connect(&self.settings.parts.superuser_url("postgres")).await?;
        for service in SERVICES {
            databases::drop(&server, &self.database_name(service)).await?;
        }
        self.groups()?.delete(&SERVICES).await?;
        let names: Vec<String> = topics::wanted(&self.names()).into_iter().map(|wanted| wanted.name).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.cluster()?.delete(&names).await
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        self.locked().clear();
        let removed = std::thread::scope(|scope| {
            // A runtime of its own, as the test's may be ending.
            let removing = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on(self.remove_everything())
            });
            removing.join()
        });
        match removed {
            Ok(Ok(())) => {}
            Ok(Err(error)) => eprintln!("databases or topics of {} are left: {error:#}", self.name),
            Err(_) => eprintln!("databases or topics of {} are left", self.name),
        }
    }
}

pub(crate) fn kafka_settings(brokers: &str) -> KafkaSettings {
    KafkaSettings::read(&Env::of([("KAFKA_BROKERS", brokers)])).expect("an address is all it needs")
}

fn spawn_receiver(settings: &Settings, at: String, logs: &Path) -> anyhow::Result<Process> {
    let variables = [("HTTP_ADDR".to_owned(), at)];
    Process::spawn(&settings.bin_dir, RECEIVER, &variables, &logs.join(format!("{RECEIVER}.log")))
}

/// Free ports, beginning somewhere in [`PORTS`], so that suites that start together rarely meet.
fn free_ports() -> impl Iterator<Item = u16> {
    let length = PORTS.end - PORTS.start;
    let seed = Uuid::now_v7().as_u128() % u128::from(length);
    let first = u16::try_from(seed).expect("less than a u16");
    (0..length)
        .map(move |step| PORTS.start + (first + step) % length)
        .filter(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
}
