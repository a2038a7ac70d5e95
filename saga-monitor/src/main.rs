//! `saga-monitor`: where each saga stands. `saga-monitor flows` prints the document of the flows, `saga-monitor
//! rebuild` makes the projection again from the log; both instead of serving.

use std::{process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context;
use chrono::TimeDelta;
use clap::{Parser, Subcommand};
use common_events::Service;
use futures::FutureExt;
use messaging::{Consumer, admin};
use saga_monitor::{
    cluster::Cluster,
    consumers::Observed,
    detection::Detection,
    events::{
        self,
        recorder::{self, Recorder},
    },
    flows,
    http::{self, Desk},
    page,
    services::{Identity, Services},
    store::{self, alarms::Notices},
    webhook::Webhook,
};
use service_runtime::{Pool, Runtime, settings::Url};

/// How long a service may take to answer the monitor.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// Where each saga stands. Without a command: serves.
#[derive(Parser)]
#[command(name = "saga-monitor", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Prints docs/flows.md, made from the flows as they are declared.
    Flows,
    /// Makes the projection again from the log, in one transaction. Can run beside the service.
    Rebuild,
}

fn main() -> ExitCode {
    match Arguments::parse().command {
        None => service_runtime::main(Service::SagaMonitor, serve),
        Some(Command::Rebuild) => service_runtime::main(Service::SagaMonitor, rebuild),
        Some(Command::Flows) => {
            print!("{}", flows::document());
            ExitCode::SUCCESS
        }
    }
}

async fn serve(runtime: Runtime) -> anyhow::Result<()> {
    let settings = &runtime.settings;
    let webhook: Option<Url> = runtime.env.optional("ALARM_WEBHOOK_URL")?;
    let stuck_after = TimeDelta::from_std(settings.retry.stuck_after).context("STUCK_AFTER")?;
    let identity = Identity::read(&runtime.env, Service::SagaMonitor.name())?;
    let services = Services::read(&runtime.env, identity, ASK_TIMEOUT)?;
    let pool = database(&runtime).await?;
    let log = pool.clone();
    runtime.tasks.once("readable-events", async move { recorder::tell_of_readable(&log).await }.boxed());
    let cluster = Cluster::new(&settings.kafka);
    let recorder = Arc::new(Recorder::start(&runtime.tasks, pool.clone()));
    let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions(recorder))?;

    let notices = if webhook.is_some() { Notices::Told } else { Notices::NotTold };
    let observed = Observed::default();
    let detection =
        Detection::new(pool.clone(), cluster.clone(), services.clone(), stuck_after, notices, observed.clone());
    detection.go_rounds(&runtime.tasks);
    if let Some(url) = webhook {
        Webhook::new(url, pool.clone())?.tell_all(&runtime.tasks);
    }
    observed.keep_up(&runtime.tasks, cluster.clone(), services.clone());
    let zipkin = settings.traces.zipkin_endpoint.clone();
    let desk = Desk { pool, cluster, services, observed, zipkin };
    let routes = http::routes(desk.clone()).and(page::routes(&runtime, desk)?);
    let served = runtime.serve(admin::beside(&runtime, &consumer, routes)).await;
    consumer.stop().await?;
    served
}

async fn rebuild(runtime: Runtime) -> anyhow::Result<()> {
    let rows = recorder::rebuild(&database(&runtime).await?).await?;
    println!("rebuilt from {rows} rows of the log");
    Ok(())
}

async fn database(runtime: &Runtime) -> anyhow::Result<Pool> {
    runtime.database(&[messaging::MIGRATIONS, store::MIGRATIONS]).await
}
