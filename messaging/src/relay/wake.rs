//! Hints: a service tells the relay, after a commit, that its database has rows. One datagram; a lost
//! one costs a poll interval, nothing else. Not NOTIFY: that takes a database-wide lock at commit.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::OnceLock,
};

use anyhow::Context;
use service_runtime::settings::Env;
use tokio::sync::watch;

/// Where the relay listens for hints, and services send them; absent: the relay just polls.
const WAKE_ADDRESS: &str = "OUTBOX_WAKE_ADDR";
/// A database's name has at most 63 bytes.
const MAX_HINT_BYTES: usize = 64;

static RELAY: OnceLock<(UdpSocket, String)> = OnceLock::new();

/// From now on, commits of this process tell the relay that `database` has rows, if it listens anywhere.
///
/// # Errors
/// When the address is wrong, or there is no socket to send from.
pub fn send_hints(env: &Env, database: &str) -> anyhow::Result<()> {
    let Some(relay) = env.optional::<SocketAddr>(WAKE_ADDRESS)? else { return Ok(()) };
    let any: SocketAddr = if relay.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).context("a socket for hints to the relay")?;
    socket.connect(relay).with_context(|| format!("hints to {relay}"))?;
    socket.set_nonblocking(true).context("hints that never wait")?;
    let _ = RELAY.set((socket, database.to_owned()));
    Ok(())
}

/// Tells the relay that rows were committed. Never waits, never fails.
pub(crate) fn hint() {
    if let Some((relay, database)) = RELAY.get() {
        let _ = relay.send(database.as_bytes());
    }
}

/// Listens for hints, if an address is set. Each changes the number watched for its database.
///
/// # Errors
/// When the address is wrong.
pub async fn listen(
    env: &Env,
    databases: &[&'static str],
) -> anyhow::Result<HashMap<&'static str, watch::Receiver<u64>>> {
    let channels: HashMap<&'static str, (watch::Sender<u64>, watch::Receiver<u64>)> =
        databases.iter().map(|name| (*name, watch::channel(0))).collect();
    let receivers = channels.iter().map(|(name, (_, wakes))| (*name, wakes.clone())).collect();
    let senders: HashMap<&'static str, watch::Sender<u64>> =
        channels.into_iter().map(|(name, (woken, _))| (name, woken)).collect();
    let address = env.optional::<SocketAddr>(WAKE_ADDRESS)?;
    let socket = match address {
        // A stand-by on the same machine finds it taken, and polls.
        Some(address) => tokio::net::UdpSocket::bind(address)
            .await
            .inspect_err(|error| tracing::warn!(%address, %error, "no hints are heard: polling"))
            .ok(),
        None => None,
    };
    tokio::spawn(async move {
        let Some(socket) = socket else {
            // Keeps the channels open, silently.
            std::future::pending::<()>().await;
            drop(senders);
            return;
        };
        let mut datagram = [0_u8; MAX_HINT_BYTES];
        loop {
            let Ok(length) = socket.recv(&mut datagram).await else { continue };
            let woken = std::str::from_utf8(&datagram[..length]).ok().and_then(|name| senders.get(name));
            if let Some(woken) = woken {
                woken.send_modify(|count| *count = count.wrapping_add(1));
            }
        }
    });
    Ok(receivers)
}
