//! The process, and what is done to it.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use serde_json::Value;
use test_support::{PATIENCE, eventually, free_port};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
};

use crate::broker::Broker;

/// How long a lease lasts here; also how long a take-over from a dead leader takes at least.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// A running relay. Dropping it kills it.
pub(crate) struct Relay {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Relay {
    /// For these databases, sending to this corner of the broker.
    pub(crate) fn start(broker: &Broker, databases: &[&str]) -> Self {
        Self::start_with(broker, databases, &[])
    }

    pub(crate) fn start_with(broker: &Broker, databases: &[&str], settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut child = Command::new(env!("CARGO_BIN_EXE_outbox-relay"))
            .env_clear()
            .env("DATABASE_URLS", databases.join(","))
            .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
            .env("KAFKA_BROKERS", &broker.settings.brokers)
            .env("TOPIC_PREFIX", &broker.settings.topic_prefix)
            .env("RELAY_LEASE", format!("{}ms", LEASE.as_millis()))
            .env("OTEL_TRACES_EXPORTER", "none")
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("outbox-relay starts");
        let said = Arc::<Mutex<Vec<String>>>::default();
        listen(child.stdout.take().expect("piped"), &said);
        listen(child.stderr.take().expect("piped"), &said);
        Self { child, port, said }
    }

    /// What `GET` of this path answers: the status and the body. `None` while nobody listens.
    pub(crate) async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Some((status.expect("a status"), body.to_owned()))
    }

    /// What `GET /health/ready` answers.
    pub(crate) async fn readiness(&self) -> Option<(u16, Value)> {
        let (status, body) = self.get("/health/ready").await?;
        Some((status, serde_json::from_str(&body).expect("JSON")))
    }

    /// What `GET /metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("it listens");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        answer
    }

    /// Waits until it answers so.
    pub(crate) async fn is(&self, status: u16, readiness: &Value) {
        eventually(&format!("{status} {readiness}"), || async {
            self.readiness().await.filter(|now| *now == (status, readiness.clone()))
        })
        .await;
    }

    /// How many lines it has written with this in them.
    pub(crate) fn has_said(&self, what: &str) -> usize {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().filter(|line| line.contains(what)).count()
    }

    /// Waits until it leads, for the `times`th time.
    pub(crate) async fn leads(&self, times: usize) {
        eventually(&format!("the relay leads; it said {:#?}", self.said), || async {
            (self.has_said("leading") >= times).then_some(())
        })
        .await;
    }

    pub(crate) fn has_never_led(&self) -> bool {
        self.has_said("leading") == 0
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// `STOP`, `CONT` or `TERM`.
    pub(crate) async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().await;
        assert!(sent.expect("kill runs").success(), "SIG{name}");
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("SIGKILL");
    }

    /// Waits until it is gone.
    pub(crate) async fn end(mut self) -> ExitStatus {
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        ended.expect("it ends").expect("its status")
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn terminate(self) -> ExitStatus {
        self.signal("TERM").await;
        self.end().await
    }

    /// The most memory it has had resident so far, in MiB.
    pub(crate) fn peak_memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("it runs");
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("Linux tells the peak");
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().expect("kB");
        kib / 1024
    }

    /// The processor time it has used so far.
    pub(crate) fn processor_time(&self) -> Duration {
        /// Linux's `USER_HZ`, on every architecture this runs on.
        const TICK: Duration = Duration::from_millis(10);
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pid())).expect("it runs");
        // The second field may hold anything in its brackets; user and system time are 12 and 13 further.
        let (_, fields) = stat.rsplit_once(')').expect("brackets");
        let ticks: u32 =
            fields.split_whitespace().skip(11).take(2).map(|field| field.parse::<u32>().expect("ticks")).sum();
        TICK * ticks
    }
}

fn listen(output: impl AsyncRead + Unpin + Send + 'static, said: &Arc<Mutex<Vec<String>>>) {
    let said = Arc::clone(said);
    tokio::spawn(async move {
        let mut lines = BufReader::new(output).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            said.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    });
}
