//! `outbox-relay`: moves the outbox rows of the databases in `DATABASE_URLS` to Kafka.
//!
//! Several may run; per database one is active and the others stand by.

use std::process::ExitCode;

use anyhow::Context;
use common_events::Service;
use futures::future::try_join_all;
use messaging::relay::{self, LeaseTimes, Source};
use service_runtime::{
    Runtime, database,
    settings::{DatabaseSettings, DatabaseUrl, Setting},
};

/// Claiming, leasing and renewing at once; the fourth is for a hand-over.
const CONNECTIONS_PER_DATABASE: usize = 4;

fn main() -> ExitCode {
    service_runtime::main(Service::OutboxRelay, |runtime| async move {
        let sources = sources(&runtime)?;
        let times = lease_times(&runtime)?;
        let names: Vec<&str> = sources.iter().map(|source| source.name).collect();
        let wakes = relay::listen(&runtime.env, &names).await?;
        let relays = try_join_all(sources.into_iter().map(|source| {
            let wakes = wakes[source.name].clone();
            relay::run(&runtime, source, times, wakes)
        }));
        let (served, relayed) = tokio::join!(runtime.serve(|_| ()), relays);
        relayed?;
        served
    })
}

/// `DATABASE_URLS`: each with its own relay.
struct DatabaseUrls(Vec<DatabaseUrl>);

impl Setting for DatabaseUrls {
    const MAY_HOLD: &'static str = "PostgreSQL URLs, separated by commas";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        text.split(',').map(|url| DatabaseUrl::parse(url.trim())).collect::<Option<Vec<_>>>().map(Self)
    }
}

fn sources(runtime: &Runtime) -> anyhow::Result<Vec<Source>> {
    let DatabaseUrls(urls) = runtime.env.required("DATABASE_URLS")?;
    urls.into_iter()
        .map(|url| {
            let name = url.config().get_dbname().expect("checked when it was read").to_owned();
            let settings = DatabaseSettings::of(url, &runtime.env)?;
            let pool = database::connect(Service::OutboxRelay, &settings, CONNECTIONS_PER_DATABASE)
                .with_context(|| format!("a pool for {name}"))?;
            Ok(Source { name: name.leak(), pool })
        })
        .collect()
}

fn lease_times(runtime: &Runtime) -> anyhow::Result<LeaseTimes> {
    let usual = LeaseTimes::default();
    let length = runtime.env.or("RELAY_LEASE", usual.length)?;
    Ok(LeaseTimes { length, renew: usual.renew.min(length / 5) })
}
