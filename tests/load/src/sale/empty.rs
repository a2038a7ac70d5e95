//! A server that does nothing: what HTTP itself costs here, with as many workers as a service has.

use actix_web::{App, HttpResponse, HttpServer, dev::ServerHandle, http::StatusCode, web};
use anyhow::Context;
use tokio::task::JoinHandle;

/// As many as the services have (`HTTP_WORKERS`).
const WORKERS: usize = 2;

/// A running empty server.
pub struct Empty {
    address: String,
    handle: ServerHandle,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Empty {
    /// Answers everything with this status, and no body.
    pub fn start(status: u16) -> anyhow::Result<Self> {
        let status = StatusCode::from_u16(status).context("a status")?;
        let empty = move || App::new().default_service(web::to(move || async move { HttpResponse::new(status) }));
        let server = HttpServer::new(empty).workers(WORKERS).disable_signals();
        let server = server.bind(("127.0.0.1", 0)).context("an empty server")?;
        let address = server.addrs().first().context("an address")?.to_string();
        let server = server.run();
        Ok(Self { address, handle: server.handle(), serving: tokio::spawn(server) })
    }

    /// Where it listens, as `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Stops it at once.
    pub async fn stop(self) -> anyhow::Result<()> {
        self.handle.stop(false).await;
        self.serving.await.context("the empty server")?.context("the empty server")
    }
}
