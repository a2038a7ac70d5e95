//! Parts of a test's own, to be flushed, stopped and started again. Stopped by their pid when they are dropped.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use test_support::{eventually, free_port};
use uuid::Uuid;

fn new_folder(what: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("coupon-test-{what}-{}", Uuid::now_v7().simple()));
    std::fs::create_dir_all(&folder).expect("a folder for the test's part");
    folder
}

/// A Redis that keeps nothing unless it is told to.
pub(crate) struct OwnRedis {
    port: u16,
    folder: PathBuf,
    running: Option<Child>,
    arguments: &'static [&'static str],
}

impl OwnRedis {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// One node of a cluster which has all slots, so that it refuses what would need several nodes.
    pub(crate) async fn start_as_cluster() -> Self {
        let redis = Self::start_with(&["--cluster-enabled", "yes"]).await;
        redis.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await;
        eventually("the cluster is well", || async {
            redis.ask(&["CLUSTER", "INFO"]).await.contains("cluster_state:ok").then_some(())
        })
        .await;
        redis
    }

    async fn start_with(arguments: &'static [&'static str]) -> Self {
        let mut redis = Self { port: free_port(), folder: new_folder("redis"), running: None, arguments };
        redis.run().await;
        redis
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    async fn run(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--dir"])
            .arg(&self.folder)
            .args(["--save", "", "--appendonly", "no", "--maxmemory-policy", "noeviction"])
            .args(self.arguments)
            .stdout(Stdio::null());
        self.running = Some(command.spawn().expect("redis-server is installed"));
        eventually("the test's Redis answers", || async { (self.ask(&["PING"]).await == "PONG").then_some(()) }).await;
    }

    pub(crate) async fn ask(&self, words: &[&str]) -> String {
        let mut asking = tokio::process::Command::new("redis-cli");
        asking.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).args(words);
        let answered = asking.output().await.expect("redis-cli is installed");
        String::from_utf8_lossy(&answered.stdout).trim().to_owned()
    }

    /// Writes down what it holds: what it will wake up with.
    pub(crate) async fn save(&self) {
        assert_eq!(self.ask(&["SAVE"]).await, "OK");
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut running) = self.running.take() {
            running.kill().expect("it is ours");
            running.wait().expect("it is gone");
        }
    }

    pub(crate) async fn start_again(&mut self) {
        self.run().await;
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        self.kill();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A Kafka broker in a folder of its own, as `deploy/local` runs one.
pub(crate) struct OwnKafka {
    home: PathBuf,
    port: u16,
    controller_port: u16,
}

impl OwnKafka {
    pub(crate) fn start() -> Self {
        let kafka = Self { home: new_folder("kafka"), port: free_port(), controller_port: free_port() };
        kafka.run("start");
        kafka
    }

    pub(crate) fn brokers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub(crate) fn stop(&self) {
        self.run("stop");
    }

    /// With everything that it held.
    pub(crate) fn start_again(&self) {
        self.run("start");
    }

    fn run(&self, what: &str) {
        let suite = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/local/suite");
        let suite = std::env::var("SUITE_CONTROL").unwrap_or_else(|_| suite.to_owned());
        let done = Command::new(suite)
            .args([what, "kafka"])
            .env("SUITE_HOME", &self.home)
            .env("SUITE_SHORT_LIVED", "yes")
            .env("SUITE_KAFKA_PORT", self.port.to_string())
            .env("SUITE_KAFKA_CONTROLLER_PORT", self.controller_port.to_string())
            .stdin(Stdio::null())
            .output()
            .expect("deploy/local/suite");
        assert!(done.status.success(), "{what} kafka: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Drop for OwnKafka {
    fn drop(&mut self) {
        // A second panic would hide the first.
        let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| self.stop()));
        let _ = std::fs::remove_dir_all(&self.home);
    }
}
