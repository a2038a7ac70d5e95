//! `platform-receiver`: stands in for the outside platform in the local suite. It takes paid orders, shows
//! what arrived, and can be told to be down, to refuse, or to answer too late.
//!
//! It is nobody's database: what arrived is kept in memory, the latest of it, and is gone when it ends. It
//! trusts everybody, so it listens on loopback only, as long as `AUTH_TRUST_GATEWAY` doesn't say that somebody
//! else decides who gets here.

mod http;
mod ledger;
mod mood;

use std::{net::SocketAddr, process::ExitCode};

use actix_web::{App, HttpServer, web::Data};
use service_runtime::{SettingError, settings::Env};

/// A wrong setting, as for every program of the suite.
const EXIT_SETTINGS: u8 = 2;
const WORKERS: usize = 1;
/// How long requests under way may take once it stops, in seconds.
const DRAIN_S: u64 = 1;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let address = match address(&Env::process()) {
        Ok(address) => address,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(EXIT_SETTINGS);
        }
    };
    match serve(address).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("listening on HTTP_ADDR {address}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn address(env: &Env) -> Result<SocketAddr, SettingError> {
    let address = env.or("HTTP_ADDR", SocketAddr::from(([127, 0, 0, 1], 8096)))?;
    if address.ip().is_loopback() || env.or("AUTH_TRUST_GATEWAY", false)? {
        return Ok(address);
    }
    let may_hold = "a loopback address, or AUTH_TRUST_GATEWAY=true beside it";
    Err(SettingError::wrong("HTTP_ADDR", &address.to_string(), may_hold))
}

/// Until SIGTERM or SIGINT.
async fn serve(address: SocketAddr) -> std::io::Result<()> {
    let (ledger, mood) = (Data::<ledger::Ledger>::default(), Data::<mood::Mood>::default());
    let server =
        HttpServer::new(move || App::new().configure(|config| http::routes(config, ledger.clone(), mood.clone())))
            .workers(WORKERS)
            .shutdown_timeout(DRAIN_S)
            .bind(address)?;
    println!("listening on {address}");
    server.run().await
}
