//! Memory and start of each process.

use std::time::Duration;

use anyhow::Context;
use common_events::Service;
use system::{
    Suite,
    suite::{Instance, PROGRAMS},
};
use tokio::time::{Instant, sleep};

use crate::{
    saga, sale, settings,
    table::{Goal, Row, Samples},
};

const STARTS: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(2);
const START_LIMIT: Duration = Duration::from_secs(20);
const SETTLED_AFTER: Duration = Duration::from_secs(3);

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    sleep(SETTLED_AFTER).await;
    let idle = memory(&suite, "VmRSS")?;
    let seeded = saga::warm(&suite).await?;
    saga::sustained_by(&suite, &seeded).await?;
    sale::whole_sale(&suite).await?;
    let most = memory(&suite, "VmHWM")?;
    suite.until_quiet().await?;

    let mut rows = Vec::new();
    for ((program, idle), (_, most)) in idle.into_iter().zip(most) {
        let row = |what, unit, ours, goal| Row { what, unit, ours, bare: None, goal };
        rows.push(row(format!("{program}: memory idle"), "MB", idle.into(), Goal::AtMost(24.0)));
        rows.push(row(format!("{program}: most memory under load"), "MB", most.into(), Goal::AtMost(64.0)));
        let mut starts = Samples::default();
        for _ in 0..STARTS {
            starts.push(start(&suite, program).await?.as_secs_f64());
            suite.run(program).await?;
        }
        rows.push(row(format!("{program}: start, without the group join"), "s", starts, Goal::AtMost(0.5)));
    }
    Ok(rows)
}

/// From the start of the process until it answers HTTP, which it does once its database is there and
/// migrated; joining the group goes on beside that.
async fn start(suite: &Suite, program: Service) -> anyhow::Result<Duration> {
    suite.terminate(program, Instance::First).await?;
    let began = Instant::now();
    suite.spawn(program, Instance::First)?;
    let live = format!("{}/health/live", suite.url(program, Instance::First));
    loop {
        match reqwest::get(&live).await {
            Ok(answer) if answer.status().is_success() => return Ok(began.elapsed()),
            outcome if began.elapsed() > START_LIMIT => anyhow::bail!("{program} doesn't start: {outcome:?}"),
            _ => sleep(LOOK_EVERY).await,
        }
    }
}

/// A line of `/proc/PID/status`, in MB, of each program.
fn memory(suite: &Suite, line: &str) -> anyhow::Result<Vec<(Service, f64)>> {
    let of = |program| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", suite.pid(program)?))?;
        let kb = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':')?.split_whitespace().next());
        let kb: f64 = kb.with_context(|| format!("no {line}"))?.parse()?;
        Ok((program, kb / 1024.0))
    };
    PROGRAMS.into_iter().map(of).collect()
}
