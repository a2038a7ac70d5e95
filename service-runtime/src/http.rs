//! HTTP as every service speaks it (docs/contract.md §3): what all of them answer, how they stop, and the
//! extractors that turn bad input into problems.
//!
//! Routes belong to the services. They take [`Json`] and [`Query`] instead of actix's own, and
//! `web::Path` as it is: a path that doesn't parse answers 404.

mod around;
mod browsers;
mod document;
mod id;
mod json;
mod object;
mod page;
mod query;
mod routes;
mod standing;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{
    App, Error, HttpServer,
    body::BoxBody,
    dev::{ServiceFactory, ServiceRequest, ServiceResponse},
    http::header::HeaderMap,
    web,
};
use anyhow::Context;
pub use around::RequestTrace;
pub use browsers::ProblemPages;
pub use id::Id;
pub use json::{Json, OptionalJson};
pub use object::Object;
pub use page::{Cursor, InvalidLimit, Limit, Page, Paging};
pub use query::Query;
pub use routes::Routes;
use standing::Documented;
use tokio_util::sync::CancellationToken;
use url::Url;
use utoipa_actix_web::AppExt;

use crate::{Auth, Health, Problem, Runtime};

/// The largest body that is read, in bytes (docs/contract.md §3).
pub const MAX_BODY_BYTES: usize = 64 * 1024;
/// How long requests under way may take once the process stops.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
const DRAIN_LOOK_EVERY: Duration = Duration::from_millis(10);
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a client may take for the head of a request (docs/contract.md §3).
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// What all workers of a server have in common.
#[derive(Clone)]
pub(crate) struct Shared {
    service: common_events::Service,
    health: Health,
    auth: Auth,
    shutdown: CancellationToken,
    in_flight: Arc<AtomicUsize>,
    documented: Arc<Documented>,
}

impl Shared {
    fn of(runtime: &Runtime) -> anyhow::Result<Self> {
        Ok(Self {
            service: runtime.service,
            health: runtime.health.clone(),
            auth: runtime.auth()?,
            shutdown: runtime.shutdown.clone(),
            in_flight: Arc::default(),
            documented: Arc::default(),
        })
    }
}

/// The whole app of a service, for tests without a server: its routes and what all services answer.
pub fn app(
    runtime: &Runtime,
    routes: &Routes,
) -> anyhow::Result<
    App<
        impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>
        + use<>,
    >,
> {
    Ok(build(&Shared::of(runtime)?, routes))
}

/// What `/openapi.json` answers for these routes, for tests without a server.
pub fn document(runtime: &Runtime, routes: &Routes) -> anyhow::Result<web::Bytes> {
    let shared = Shared::of(runtime)?;
    drop(build(&shared, routes));
    Ok(shared.documented.description())
}

fn build(
    shared: &Shared,
    routes: &Routes,
) -> App<
    impl ServiceFactory<ServiceRequest, Config = (), Response = ServiceResponse<BoxBody>, Error = Error, InitError = ()>
    + use<>,
> {
    let (app, api) = App::new()
        .app_data(web::Data::new(shared.auth.clone()))
        .app_data(web::PathConfig::default().error_handler(|_, _| Problem::not_found("resource").into()))
        .app_data(
            web::QueryConfig::default()
                .error_handler(|error, _| Problem::bad_request("invalid-query", error.to_string()).into()),
        )
        .app_data(web::PayloadConfig::new(MAX_BODY_BYTES))
        .into_utoipa_app()
        .configure(|config| routes.mount(config))
        .split_for_parts();
    shared.documented.once(shared.service, &shared.auth, api);
    let around = shared.clone();
    app.configure(|config| standing::routes(config, shared))
        .default_service(web::to(standing::nothing_here))
        .wrap_fn(move |request, inner| around::around(request, inner, &around))
}

/// Answers on `HTTP_ADDR` until shutdown. `bound` learns the address, where its port was 0.
pub(crate) async fn serve(runtime: &Runtime, routes: Routes, bound: impl FnOnce(SocketAddr)) -> anyhow::Result<()> {
    let shared = Shared::of(runtime)?;
    let (in_flight, shutdown) = (Arc::clone(&shared.in_flight), runtime.shutdown.clone());
    let address = runtime.settings.http_addr;
    let server = HttpServer::new(move || build(&shared, &routes))
        .workers(runtime.settings.http_workers)
        .keep_alive(KEEP_ALIVE)
        .client_request_timeout(HEAD_TIMEOUT)
        .disable_signals()
        .bind(address)
        .with_context(|| format!("listening on HTTP_ADDR {address}"))?;
    let listening = server.addrs().first().copied().unwrap_or(address);
    let server = server.run();
    let handle = server.handle();
    #[expect(clippy::disallowed_methods, reason = "its end is waited for below")]
    let mut running = tokio::spawn(server);
    tracing::info!(address = %listening, "listening");
    bound(listening);

    tokio::select! {
        () = shutdown.cancelled() => {}
        ended = &mut running => return ended.context("the HTTP server")?.context("the HTTP server"),
    }
    handle.pause().await;
    let drained = tokio::time::timeout(DRAIN_TIMEOUT, async {
        while in_flight.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(DRAIN_LOOK_EVERY).await;
        }
    });
    if drained.await.is_err() {
        tracing::warn!(requests = in_flight.load(Ordering::Relaxed), "requests are cut off, they took too long");
    }
    // Not gracefully: that would wait for clients who keep their idle connections.
    handle.stop(false).await;
    Ok(())
}

/// The header's value if it is there exactly once: a second one, of whoever sent it, is not believed.
pub fn only<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name);
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value)
}

/// A client for calls to other systems: bounded in time, no proxies of the environment, and, for
/// plain http, without the megabytes of trusted certificates.
pub fn client(url: &Url, at_most: Duration) -> anyhow::Result<reqwest::Client> {
    client_builder(url, at_most).build().context("setting up an HTTP client")
}

/// The same, for who has more to say of his calls.
pub fn client_builder(url: &Url, at_most: Duration) -> reqwest::ClientBuilder {
    let builder = reqwest::Client::builder().timeout(at_most).connect_timeout(at_most).no_proxy();
    if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder }
}

#[cfg(test)]
mod tests;
