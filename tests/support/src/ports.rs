//! Ports for programs that tests start.

use std::net::{TcpListener, UdpSocket};

use uuid::Uuid;

/// Ports that no outgoing connection is given, and no part of a suite, so that a program that is started again finds its own free.
const PORTS: std::ops::Range<u16> = 12_500..15_000;

/// A port of 127.0.0.1 that was free a moment ago, for TCP and for UDP. Which one is left to chance, as many tests ask
/// at the same time.
///
/// # Panics
/// When all are taken.
pub fn free_port() -> u16 {
    let length = PORTS.end - PORTS.start;
    let chance = u16::try_from(Uuid::now_v7().as_u128() % u128::from(length)).expect("less than a u16");
    (0..length)
        .map(|step| PORTS.start + (chance + step) % length)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok() && UdpSocket::bind(("127.0.0.1", *port)).is_ok())
        .expect("a free port")
}
