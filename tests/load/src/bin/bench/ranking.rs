//! How many readers a ranking bears.

use std::time::Duration;

use actix_web::{App, HttpResponse, HttpServer, web};
use anyhow::Context;
use common_events::Service;
use system::{Suite, suite::Instance};

use crate::{
    http::gets_per_second,
    saga, settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;
const EACH: Duration = Duration::from_secs(4);
const CONNECTIONS: usize = 32;
/// As many as the services have (`HTTP_WORKERS`).
const WORKERS: usize = 2;
const RANKING: &str = "/rankings/products?window=day&by=quantity&limit=10";

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let suite = Suite::start(settings()).await?;
    saga::warm(&suite).await?;
    let address = suite.url(Service::Ranking, Instance::First).replace("http://", "");
    let empty = HttpServer::new(|| App::new().route("/", web::get().to(HttpResponse::Ok)))
        .workers(WORKERS)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .context("an empty server")?;
    let bare_address = empty.addrs()[0].to_string();
    let empty = empty.run();
    let stop = empty.handle();
    let serving = tokio::spawn(empty);

    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..PAIRS {
        ours.push(gets_per_second(&address, RANKING, CONNECTIONS, EACH).await?);
        bare.push(gets_per_second(&bare_address, "/", CONNECTIONS, EACH).await?);
    }
    stop.stop(false).await;
    serving.await.context("the empty server")??;
    let what = "ranking reads against an empty handler".to_owned();
    Ok(vec![Row { what, unit: "answers/s", ours, bare: Some(bare), goal: Goal::AtLeast(0.5) }])
}
