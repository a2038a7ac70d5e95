//! The process, and what is done to it.

use std::{ops::Deref, process::ExitStatus, time::Duration};

use test_support::{Program, eventually};

use crate::broker::Broker;

/// How long a lease lasts here; also how long a take-over from a dead leader takes at least.
pub(crate) const LEASE: Duration = Duration::from_secs(2);

/// A running relay. Dropping it kills it.
pub(crate) struct Relay(Program);

impl Deref for Relay {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl Relay {
    /// For these databases, sending to this corner of the broker.
    pub(crate) fn start(broker: &Broker, databases: &[&str]) -> Self {
        Self::start_with(broker, databases, &[])
    }

    pub(crate) fn start_with(broker: &Broker, databases: &[&str], settings: &[(&str, &str)]) -> Self {
        let (databases, lease) = (databases.join(","), format!("{}ms", LEASE.as_millis()));
        let own = [
            ("DATABASE_URLS", &*databases),
            ("KAFKA_BROKERS", &broker.settings.brokers),
            ("TOPIC_PREFIX", &broker.settings.topic_prefix),
            ("RELAY_LEASE", &lease),
        ];
        Self(Program::start(env!("CARGO_BIN_EXE_outbox-relay"), &[&own[..], settings].concat()))
    }

    /// What `GET /metrics` says.
    pub(crate) async fn metrics(&self) -> String {
        let (_, metrics) = self.get("/metrics").await.expect("it listens");
        metrics
    }

    /// Waits until it leads, for the `times`th time.
    pub(crate) async fn leads(&self, times: usize) {
        eventually(&format!("the relay leads; it said {:#?}", self.said()), || async {
            (self.has_said("leading") >= times).then_some(())
        })
        .await;
    }

    pub(crate) fn has_never_led(&self) -> bool {
        self.has_said("leading") == 0
    }

    /// SIGKILL.
    pub(crate) async fn kill(mut self) {
        self.0.kill().await;
    }

    /// SIGTERM, and waits until it is gone.
    pub(crate) async fn terminate(mut self) -> ExitStatus {
        self.0.terminate().await
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
