//! `outbox-relay`: moves the outbox rows of the databases in `DATABASE_URLS` to Kafka.
//!
//! Several may run; per database one is active and the others stand by.

use std::{collections::BTreeSet, process::ExitCode, time::Duration};

use anyhow::Context;
use common_events::Service;
use messaging::relay::{self, LeaseTimes, Source};
use service_runtime::{
    Runtime, database,
    http::Routes,
    settings::{DatabaseSettings, DatabaseUrl, Setting},
};

/// Claiming, leasing, renewing and health at once; the fifth is for a hand-over.
const CONNECTIONS_PER_DATABASE: usize = 5;
/// A shorter lease is lost to any hiccup of the database; after a longer one a dead relay is missed for too long.
const SHORTEST_LEASE: Duration = Duration::from_secs(1);
const LONGEST_LEASE: Duration = Duration::from_mins(1);

fn main() -> ExitCode {
    service_runtime::main(Service::OutboxRelay, |runtime| async move {
        let sources = sources(&runtime)?;
        let times = lease_times(&runtime)?;
        let names: Vec<&str> = sources.iter().map(|source| source.name).collect();
        let wakes = relay::listen(&runtime.env, &names, &runtime.tasks).await?;
        for source in sources {
            let wakes = wakes[source.name].clone();
            relay::start(&runtime, source, times, wakes);
        }
        runtime.serve(Routes::none()).await
    })
}

/// `DATABASE_URLS`: each with its own relay.
struct DatabaseUrls(Vec<DatabaseUrl>);

impl Setting for DatabaseUrls {
    const MAY_HOLD: &'static str = "PostgreSQL URLs of databases with different names, separated by commas";
    const SECRET: bool = true;

    fn parse(text: &str) -> Option<Self> {
        let urls: Vec<DatabaseUrl> =
            text.split(',').map(|url| DatabaseUrl::parse(url.trim())).collect::<Option<_>>()?;
        // A database's name is also its fenced producer's, and the one hints come by.
        let names: BTreeSet<_> = urls.iter().map(|url| url.config().get_dbname().map(ToOwned::to_owned)).collect();
        (names.len() == urls.len()).then_some(Self(urls))
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
    let length = runtime.env.between("RELAY_LEASE", usual.length, SHORTEST_LEASE..=LONGEST_LEASE)?;
    Ok(LeaseTimes { length, renew: usual.renew.min(length / 5) })
}
