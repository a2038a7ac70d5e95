//! Hints: a service tells the relay, after a commit, that its database has rows. One datagram; a lost
//! one costs a poll interval, nothing else. Not NOTIFY: that takes a database-wide lock at commit.

use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::OnceLock,
};

use anyhow::Context;
use futures::FutureExt;
use service_runtime::{
    Tasks,
    settings::Env,
    tasks::{Next, Rounds},
};
use tokio::{net, sync::watch};

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
    tasks: &Tasks,
) -> anyhow::Result<HashMap<&'static str, watch::Receiver<u64>>> {
    let woken: HashMap<&'static str, watch::Sender<u64>> =
        databases.iter().map(|name| (*name, watch::Sender::new(0))).collect();
    let wakes = woken.iter().map(|(name, woken)| (*name, woken.subscribe())).collect();
    if let Some(address) = env.optional::<SocketAddr>(WAKE_ADDRESS)? {
        match net::UdpSocket::bind(address).await {
            Ok(socket) => {
                let ear = Ear { socket, woken, datagram: [0; MAX_HINT_BYTES], length: 0 };
                tasks.repeat_on_demand(
                    Rounds::on_demand("hints"),
                    ear,
                    |ear| ear.hear().boxed(),
                    |ear| async { Ok(ear.wake()) }.boxed(),
                );
            }
            // A stand-by on the same machine finds it taken, and polls.
            Err(error) => tracing::warn!(%address, %error, "no hints are heard: polling"),
        }
    }
    Ok(wakes)
}

/// What hears hints.
struct Ear {
    socket: net::UdpSocket,
    woken: HashMap<&'static str, watch::Sender<u64>>,
    datagram: [u8; MAX_HINT_BYTES],
    length: usize,
}

impl Ear {
    async fn hear(&mut self) -> anyhow::Result<()> {
        self.length = self.socket.recv(&mut self.datagram).await.context("listening for hints")?;
        Ok(())
    }

    /// Wakes the relay of the database that the hint names.
    fn wake(&self) -> Next {
        let woken = std::str::from_utf8(&self.datagram[..self.length]).ok().and_then(|name| self.woken.get(name));
        if let Some(woken) = woken {
            woken.send_modify(|count| *count = count.wrapping_add(1));
        }
        Next::Now
    }
}
