//! Everybody asks.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::FutureExt;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::{Kind, Pace, Persistence, Rush, Sale, SaleTally};
use crate::{
    Live,
    client::{Connection, address_of},
    own_thread,
    pick::pick,
};

/// Before a user who got no decision asks again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);
const USUAL_REQUEST_BYTES: usize = 512;

/// Sends all requests from a thread of its own, and returns when each has been answered, or not.
pub async fn ask_all(sale: &Sale, rush: &Rush, live: &Live<SaleTally>) -> anyhow::Result<SaleTally> {
    rush.check()?;
    let (sale, rush, told) = (sale.clone(), rush.clone(), live.clone());
    let ((), cpu) = own_thread::run(move || Crowd::of(&sale, rush, told).ask().map(Ok).boxed_local()).await?;
    live.tell(|tally| tally.cpu = cpu);
    Ok(live.now())
}

/// All requests, and who sends them.
struct Crowd {
    address: String,
    rush: Rush,
    live: Live<SaleTally>,
    request: Request,
    /// The number of the user of each request, in the order in which they are sent.
    users: Vec<u32>,
    next: AtomicUsize,
    began: Instant,
}

impl Crowd {
    fn of(sale: &Sale, rush: Rush, live: Live<SaleTally>) -> Self {
        let users = in_some_order(&rush);
        let address = address_of(&sale.url).to_owned();
        let request = Request::of(sale, &address);
        Self { address, rush, live, request, users, next: AtomicUsize::new(0), began: Instant::now() }
    }

    async fn ask(self) {
        let crowd = Arc::new(Self { began: Instant::now(), ..self });
        crowd.live.tell(|tally| tally.began = Some(crowd.began));
        let mut connections = JoinSet::new();
        for _ in 0..crowd.rush.connections {
            connections.spawn(Arc::clone(&crowd).ask_over_one_connection());
        }
        connections.join_all().await;
        crowd.live.tell(|tally| tally.lasted = crowd.began.elapsed());
    }

    async fn ask_over_one_connection(self: Arc<Self>) {
        let mut connection = Connection::to(&self.address);
        let mut request = Vec::with_capacity(USUAL_REQUEST_BYTES);
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(user) = self.users.get(number).copied() else { return };
            let mut from = self.until_planned(number).await;
            if self.live.is_enough() {
                return;
            }
            self.request.write(user, &mut request);
            self.live.tell(|tally| tally.asked += 1);
            while self.ask_once(&mut connection, &request, user, from).await.decides_nothing() && self.asks_again() {
                tokio::time::sleep(AGAIN_AFTER).await;
                self.live.tell(|tally| tally.asked_again += 1);
                from = Instant::now();
            }
        }
    }

    /// When the request counts from.
    async fn until_planned(&self, number: usize) -> Instant {
        match self.rush.pace {
            Pace::Closed => Instant::now(),
            Pace::Open(per_second) => {
                #[expect(clippy::cast_precision_loss, reason = "a few million at most")]
                let planned = self.began + Duration::from_secs_f64(number as f64 / per_second.max(0.001));
                tokio::time::sleep_until(planned.into()).await;
                planned
            }
        }
    }

    async fn ask_once(&self, connection: &mut Connection, request: &[u8], user: u32, from: Instant) -> Kind {
        let (kind, rank) = match connection.ask(request).await {
            Ok(answer) => {
                let kind = Kind::of(answer.status);
                (kind, if kind == Kind::Admitted { rank_in(answer.body) } else { None })
            }
            Err(_) => (Kind::Silence, None),
        };
        let now = Instant::now();
        self.live.tell(|tally| tally.note(user, kind, rank, now - from, now - self.began));
        kind
    }

    fn asks_again(&self) -> bool {
        match self.rush.persistence {
            Persistence::AsksOnce => false,
            Persistence::AsksAgainFor(time) => self.began.elapsed() < time,
        }
    }
}

/// Each user once and the repeats among them, shuffled alike in every run.
fn in_some_order(rush: &Rush) -> Vec<u32> {
    let again = (0..rush.repeats).map(|number| u32::try_from(pick(number, 1) % rush.users as usize).unwrap_or(0));
    let mut users: Vec<u32> = (0..rush.users).chain(again).collect();
    for last in (1..users.len()).rev() {
        users.swap(last, pick(u32::try_from(last).unwrap_or(u32::MAX), 2) % (last + 1));
    }
    users
}

/// The bytes of a request but for the user's number.
struct Request {
    before: Vec<u8>,
    after: &'static [u8],
}

impl Request {
    fn of(sale: &Sale, address: &str) -> Self {
        let Sale { coupon, run, .. } = sale;
        let before = format!("POST /coupons/{coupon}/issue HTTP/1.1\r\nhost: {address}\r\nx-user-id: {run}-");
        Self { before: before.into_bytes(), after: b"\r\ncontent-length: 0\r\n\r\n" }
    }

    fn write(&self, user: u32, into: &mut Vec<u8>) {
        into.clear();
        into.extend_from_slice(&self.before);
        write!(into, "{user}").expect("a vector takes everything");
        into.extend_from_slice(self.after);
    }
}

fn rank_in(body: &[u8]) -> Option<i64> {
    #[derive(Deserialize)]
    struct Admitted {
        rank: Option<i64>,
    }
    serde_json::from_slice::<Admitted>(body).ok()?.rank
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_asks_and_the_repeats_are_spread_among_them() {
        let rush = Rush { repeats: 30, ..Rush::of(60, 8) };
        let users = in_some_order(&rush);
        assert_eq!(users.len(), 90);
        assert!((0..60).all(|user| users.contains(&user)));
        assert!(!users.is_sorted());
        assert_eq!(users, in_some_order(&rush));
    }
}
