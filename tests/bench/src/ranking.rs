//! How many readers a ranking bears.

use std::time::Duration;

use common_events::Service;
use load::sale::Empty;
use system::{Suite, suite::Instance};

use crate::{
    http::gets_per_second,
    saga, settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;
const EACH: Duration = Duration::from_secs(4);
const CONNECTIONS: usize = 32;
const OK: u16 = 200;
const RANKING: &str = "/rankings/products?window=day&by=quantity&limit=10";

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    saga::warm(&suite).await?;
    let address = suite.url(Service::Ranking, Instance::First).replace("http://", "");
    let empty = Empty::start(OK)?;

    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..PAIRS {
        ours.push(gets_per_second(&address, RANKING, CONNECTIONS, EACH).await?);
        bare.push(gets_per_second(empty.address(), "/", CONNECTIONS, EACH).await?);
    }
    empty.stop().await?;
    let what = "ranking reads against an empty handler".to_owned();
    Ok(vec![Row { what, unit: "answers/s", ours, bare: Some(bare), goal: Goal::AtLeast(0.5) }])
}
