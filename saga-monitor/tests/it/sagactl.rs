//! `sagactl` as a program, against services that answer as the contract says.

mod dlt;
mod monitor;

use std::process::Output;

use tokio::process::Command;

const NOBODY: &str = "http://127.0.0.1:1";

fn at(services: &[(&str, &str)]) -> String {
    services.iter().map(|(name, url)| format!("{name}={url}")).collect::<Vec<_>>().join(",")
}

async fn sagactl(urls: &str, arguments: &[&str]) -> Output {
    sagactl_as(&[("LOCAL_OPERATOR", "olga")], urls, arguments).await
}

async fn sagactl_as(who: &[(&str, &str)], urls: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sagactl"));
    command.env_clear().envs(who.iter().copied()).env("SERVICE_URLS", urls).args(arguments);
    command.output().await.expect("the program was built")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
