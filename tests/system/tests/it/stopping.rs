//! How programs start when they can't, and stop when they are told to.

use std::{
    process::{Command, Output},
    time::Duration,
};

use anyhow::{Context, ensure};
use common_events::Service;
use system::{
    Settings, Suite,
    suite::{Instance, PROGRAMS, SERVICES},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::Instant,
};

const STOPPED_WITHIN: Duration = Duration::from_secs(5);
/// Variables that every program reads, and something that they can't be.
const WRONG: [(&str, &str); 4] =
    [("ORDER_TIMEOUT", "soon"), ("HTTP_ADDR", "nowhere"), ("TOPIC_PREFIX", "a b"), ("RETRY_DELAYS", "1s")];

pub(crate) async fn each_program_stops_within_five_seconds_while_idle_clients_hang_on(
    suite: &Suite,
) -> anyhow::Result<()> {
    for program in PROGRAMS {
        let address = suite.url(program, Instance::First).replace("http://", "");
        let mut used = TcpStream::connect(&address).await?;
        used.write_all(b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n").await?;
        let mut answer = [0; 12];
        used.read_exact(&mut answer).await?;
        ensure!(&answer == b"HTTP/1.1 200", "{}", String::from_utf8_lossy(&answer));
        let silent = TcpStream::connect(&address).await?;

        let asked = Instant::now();
        let status = suite.terminate(program, Instance::First).await?;
        let took = asked.elapsed();

        ensure!(status.success(), "{program}: {status}");
        ensure!(took <= STOPPED_WITHIN, "{program} took {took:?}");
        println!("{program} stopped after {took:?}");
        drop((used, silent));
    }
    suite.start_all().await
}

pub(crate) async fn a_wrong_setting_stops_the_start_with_one_line_that_names_it() -> anyhow::Result<()> {
    for program in PROGRAMS {
        for (name, value) in WRONG {
            refuses(program, name, value)?;
        }
    }
    for service in SERVICES {
        refuses(service, "AUTH_MODE", "trust-me")?;
        refuses(service, "DATABASE_URL", "mysql://me:secret@nowhere/x")?;
        refuses(service, "DATABASE_URL", "")?;
    }
    refuses(Service::OutboxRelay, "DATABASE_URLS", "mysql://me:secret@nowhere/x")
}

fn refuses(program: Service, name: &str, value: &str) -> anyhow::Result<()> {
    let Output { status, stderr, .. } = Command::new(Settings::default().bin_dir.join(program.name()))
        .env_clear()
        .envs([("AUTH_MODE", "header"), ("DATA_PLATFORM_URL", "http://127.0.0.1:1/"), (name, value)])
        .output()
        .with_context(|| format!("starting {program}"))?;
    let said = String::from_utf8(stderr).context("text")?;
    ensure!(status.code() == Some(2), "{program} with {name}={value} ended with {status}: {said}");
    ensure!(said.lines().count() == 1 && said.starts_with(name), "{program} with {name}={value} said: {said}");
    ensure!(!said.contains("secret"), "{program} told a password: {said}");
    Ok(())
}
