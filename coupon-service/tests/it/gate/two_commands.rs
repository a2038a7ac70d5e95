//! Why the gate is one script: the same decision as two commands admits too many.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chrono::Utc;
use common_events::{CouponId, Event, EventId, UserId, events::CouponIssueRequested};
use coupon_service::{domain::Mode, gate::Token};
use redis::AsyncCommands;
use service_runtime::telemetry;
use uuid::Uuid;

use crate::gate::station::{Station, admitted, shared_redis, user};

const QUANTITY: u32 = 100;
const USERS: usize = 600;
const CONNECTIONS: usize = 64;

/// `SCARD`, and when there is room `SADD`: between the two everybody sees the same room.
async fn ask_with_two_commands(connection: &mut impl AsyncCommands, key: &str, user: &str) -> bool {
    let taken: u32 = connection.scard(key).await.expect("Redis");
    if taken >= QUANTITY {
        return false;
    }
    let added: i64 = connection.sadd(key, user).await.expect("Redis");
    added == 1
}

/// Everybody asks over many connections. Returns whom two commands let in.
async fn rush_to_two_commands(station: &Station) -> Vec<UserId> {
    let key = format!("{}two-commands", station.prefix());
    let next = Arc::new(AtomicUsize::new(0));
    let client = redis::Client::open(shared_redis()).expect("an URL");
    let asking = (0..CONNECTIONS).map(|_| {
        let (client, key, next) = (client.clone(), key.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
            let mut admitted = Vec::new();
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= USERS {
                    return admitted;
                }
                if ask_with_two_commands(&mut connection, &key, user(n).as_str()).await {
                    admitted.push(user(n));
                }
            }
        })
    });
    let admitted = futures::future::join_all(asking).await;
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let () = connection.del(&key).await.expect("Redis");
    let admitted: Vec<UserId> = admitted.into_iter().flat_map(|admitted| admitted.expect("a connection")).collect();
    println!("{USERS} users, {CONNECTIONS} connections: SCARD + SADD admits {}", admitted.len());
    assert!(admitted.len() > QUANTITY as usize, "{}: the race this test is about didn't happen", admitted.len());
    admitted
}

fn request(coupon_id: &CouponId, user_id: &UserId) -> Event<CouponIssueRequested> {
    let token = Token {
        request_id: EventId::new(Uuid::now_v7()),
        coupon_id: coupon_id.clone(),
        user_id: user_id.clone(),
        rank: None,
        epoch: 1,
        admitted_at: Utc::now(),
        trace: telemetry::root(),
    };
    token.request()
}

/// The first line is broken: whom two commands let in asks the issuer. Still as many as there are get one, and
/// the others see that they don't.
#[tokio::test(flavor = "multi_thread")]
async fn two_commands_admit_too_many_and_still_exactly_as_many_as_there_are_get_one() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, i64::from(QUANTITY)).await;
    let users = rush_to_two_commands(&station).await;
    let publisher = station.publisher().await;
    let requests: Vec<_> = users.iter().map(|user| request(&coupon_id, user)).collect();
    let kept = futures::future::join_all(requests.iter().map(|request| publisher.publish(request, None))).await;
    assert!(kept.iter().all(Result::is_ok));

    station.eventually_issued(i64::from(QUANTITY)).await;
    let mut rejected = 0;
    for user in &users {
        rejected += usize::from(process.decided(&coupon_id, user).await.is_err());
    }
    assert_eq!(rejected, users.len() - QUANTITY as usize, "each of the others sees REJECTED");
    assert_eq!(station.issued().await, i64::from(QUANTITY));
    publisher.stop().await.expect("it stops in order");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_two_commands_admit_too_many_one_script_does_not() {
    let station = Station::open().await;
    rush_to_two_commands(&station).await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Set, i64::from(QUANTITY)).await;
    let users: Vec<_> = (0..USERS).map(user).collect();
    assert_eq!(admitted(&process.rush(&coupon_id, &users, CONNECTIONS).await).len(), QUANTITY as usize);
    process.stop().await;
}
