//! Why the gate is one script: the same decision as two commands admits too many.

use std::sync::Arc;

use common_events::EventId;
use coupon_service::domain::Mode;
use redis::AsyncCommands;
use service_runtime::telemetry;
use uuid::Uuid;

use crate::station::{Station, admitted, shared_redis, user};

const QUANTITY: i64 = 100;
const USERS: usize = 600;
const CONNECTIONS: usize = 64;

/// `SCARD`, and when there is room `SADD`: between the two everybody sees the same room.
async fn ask_with_two_commands(connection: &mut impl AsyncCommands, key: &str, user: &str) -> bool {
    let taken: i64 = connection.scard(key).await.expect("Redis");
    if taken >= QUANTITY {
        return false;
    }
    let added: i64 = connection.sadd(key, user).await.expect("Redis");
    added == 1
}

#[tokio::test(flavor = "multi_thread")]
async fn two_commands_admit_too_many_and_one_script_does_not() {
    let station = Station::open().await;
    let key = format!("{}two-commands", station.prefix());
    let next = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let client = redis::Client::open(shared_redis()).expect("an URL");
    let asking = (0..CONNECTIONS).map(|_| {
        let (client, key, next) = (client.clone(), key.clone(), Arc::clone(&next));
        tokio::spawn(async move {
            let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
            let mut admitted = 0;
            loop {
                let n = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                if n >= USERS {
                    return admitted;
                }
                admitted += i64::from(ask_with_two_commands(&mut connection, &key, user(n).as_str()).await);
            }
        })
    });
    let by_two_commands: i64 =
        futures::future::join_all(asking).await.into_iter().map(|admitted| admitted.expect("a connection")).sum();
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let () = connection.del(&key).await.expect("Redis");

    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Set, QUANTITY).await;
    let users: Vec<_> = (0..USERS).map(user).collect();
    let by_script = admitted(&process.rush(&coupon_id, &users, CONNECTIONS).await).len();

    println!("{USERS} users, {CONNECTIONS} connections: SCARD + SADD admits {by_two_commands}, the script {by_script}");
    assert!(by_two_commands > QUANTITY, "{by_two_commands}: the race this test is about didn't happen");
    assert_eq!(by_script, 100);
    process.stop().await;
}

/// The first line is broken: everybody whom two commands let in asks the issuer. Still as many as there are
/// get one, and the others see that they don't.
#[tokio::test(flavor = "multi_thread")]
async fn behind_a_gate_that_lets_too_many_in_exactly_as_many_as_there_are_get_one() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, QUANTITY).await;
    let publisher = station.publisher().await;
    let tokens: Vec<_> = (0..130)
        .map(|n| coupon_service::gate::Token {
            request_id: EventId::new(Uuid::now_v7()),
            coupon_id: coupon_id.clone(),
            user_id: user(n),
            rank: None,
            epoch: 1,
            admitted_at: chrono::Utc::now(),
            trace: telemetry::root(),
        })
        .collect();
    let requests: Vec<_> = tokens.iter().map(coupon_service::gate::Token::request).collect();
    let kept = futures::future::join_all(requests.iter().map(|request| publisher.publish(request, None))).await;
    assert!(kept.iter().all(Result::is_ok));

    station.eventually_issued(QUANTITY).await;
    let mut rejected = 0;
    for n in 0..130 {
        rejected += i64::from(process.decided(&coupon_id, &user(n)).await.is_err());
    }
    assert_eq!(rejected, 30, "each of the others sees REJECTED");
    publisher.stop().await;
    process.stop().await;
}
