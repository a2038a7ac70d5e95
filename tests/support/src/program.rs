//! A program of the suite, as a process of one test's own.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use crate::{PATIENCE, eventually, free_port, kafka_brokers};

/// A running program. Dropping it kills it.
pub struct Program {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// The program at this path: on a port of its own, believing its gateway, at the tests' Kafka, without spans; and
    /// with these variables.
    ///
    /// # Panics
    /// When there is no such program.
    pub fn start(path: &str, variables: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut child = Command::new(path)
            .env_clear()
            // A bug that `make museum` put back is in every program.
            .envs(std::env::var_os("MUSEUM").map(|bug| ("MUSEUM", bug)))
            .env("HTTP_ADDR", format!("127.0.0.1:{port}"))
            .env("AUTH_MODE", "header")
            .env("KAFKA_BROKERS", kafka_brokers())
            .env("OTEL_TRACES_EXPORTER", "none")
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        let said = Arc::<Mutex<Vec<String>>>::default();
        listen(child.stdout.take().expect("piped"), &said);
        listen(child.stderr.take().expect("piped"), &said);
        Self { child, port, said }
    }

    /// What it answers: the status and the body. `None` while nobody listens.
    pub async fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// What `GET /health/ready` answers. `None` while nobody listens.
    ///
    /// # Panics
    /// When it isn't JSON.
    pub async fn readiness(&self) -> Option<(u16, Value)> {
        let (status, body) = self.get("/health/ready").await?;
        Some((status, serde_json::from_str(&body).expect("JSON")))
    }

    /// Waits until it is so ready.
    ///
    /// # Panics
    /// When it isn't in time.
    pub async fn is(&self, status: u16, readiness: &Value) {
        eventually(&format!("{status} {readiness}"), || async {
            self.readiness().await.filter(|now| *now == (status, readiness.clone()))
        })
        .await;
    }

    /// The lines it has written.
    pub fn said(&self) -> Vec<String> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of them have this in them.
    pub fn has_said(&self, what: &str) -> usize {
        self.said().iter().filter(|line| line.contains(what)).count()
    }

    /// Its pid.
    ///
    /// # Panics
    /// When it has ended.
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// `STOP`, `CONT` or `TERM`.
    ///
    /// # Panics
    /// When it can't be sent.
    pub async fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.pid().to_string()]).status().await;
        assert!(sent.expect("kill runs").success(), "SIG{name}");
    }

    /// SIGKILL.
    ///
    /// # Panics
    /// When it isn't ours.
    pub async fn kill(&mut self) {
        self.child.kill().await.expect("SIGKILL");
    }

    /// Waits until it is gone.
    ///
    /// # Panics
    /// When it doesn't end in time.
    pub async fn end(&mut self) -> ExitStatus {
        timeout(PATIENCE, self.child.wait()).await.expect("it ends").expect("its status")
    }

    /// SIGTERM, and waits until it is gone.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM").await;
        self.end().await
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
