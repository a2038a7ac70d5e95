//! Kafka is away in mid-sale: admissions are kept elsewhere, and go to their topic in order once it is back.

use std::{cell::Cell, time::Duration};

use actix_web::test::{TestRequest, call_and_read_body_json, init_service};
use common_events::{CouponId, envelope, events::CouponIssueRequested};
use coupon_service::{
    admission::{Refused, Standing},
    domain::Mode,
};
use futures::future::join_all;
use messaging::kafka;
use rdkafka::{
    Message, Offset, TopicPartitionList,
    consumer::{Consumer, StreamConsumer},
};
use serde_json::Value;
use service_runtime::{
    http::{Routes, app},
    settings::KafkaSettings,
    telemetry,
};
use test_support::eventually;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::gate::{
    own_parts::OwnKafka,
    station::{Process, Station, admitted, shared_redis, user},
};

const QUANTITY: i64 = 60;
/// Of each who asks all the time.
const PACE: Duration = Duration::from_millis(10);

/// The users of the requests on the topic, in the order in which they lie there.
async fn on_the_topic(station: &Station, coupon_id: &CouponId, enough: usize) -> Vec<String> {
    let settings: &KafkaSettings = &station.runtime.settings.kafka;
    let reader: StreamConsumer =
        kafka::client(settings).set("group.id", "reads in no group").create().expect("a reader");
    let topic = format!("{}coupon-issue-requested", station.prefix());
    let mut partitions = TopicPartitionList::new();
    for partition in 0..3 {
        partitions.add_partition_offset(&topic, partition, Offset::Beginning).expect("an offset");
    }
    reader.assign(&partitions).expect("the topic");
    let mut users = Vec::new();
    while users.len() < enough {
        let message = tokio::time::timeout(test_support::PATIENCE, reader.recv()).await;
        let message = message.unwrap_or_else(|late| panic!("{late}: {} of {enough}", users.len())).expect("a record");
        let request = envelope::decode::<CouponIssueRequested>(message.payload().expect("a value")).expect("an event");
        assert_eq!(message.key(), Some(coupon_id.as_str().as_bytes()));
        users.push(request.data.user_id.to_string());
    }
    users
}

/// The users of the dead letters, in the order in which they were diverted.
async fn diverted(station: &Station) -> Vec<String> {
    let client = station.pool().get().await.expect("a connection");
    let rows = client
        .query(
            "SELECT convert_from(payload, 'UTF8')::json->'data'->>'userId' FROM producer_dead_letters ORDER BY id",
            &[],
        )
        .await
        .expect("the table");
    rows.iter().map(|row| row.get(0)).collect()
}

/// One after the other, so that their order is known.
async fn ask_in_turn(process: &Process, coupon_id: &CouponId, users: std::ops::Range<usize>) {
    for n in users {
        let asked = process.asks(coupon_id, &user(n)).await;
        assert!(asked.is_ok(), "user {n}: {asked:?}");
    }
}

fn names(users: std::ops::Range<usize>) -> Vec<String> {
    users.map(|n| user(n).to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_kafka_away_admissions_are_kept_in_the_table_and_go_on_in_order() {
    let kafka = OwnKafka::start();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[]).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, QUANTITY).await;
    ask_in_turn(&process, &coupon_id, 0..5).await;
    station.eventually_issued(5).await;

    kafka.stop();
    ask_in_turn(&process, &coupon_id, 5..30).await;
    assert_eq!(diverted(&station).await, names(5..30));
    assert!(matches!(process.claim(&coupon_id, &user(7)).await, Standing::Admitted { rank: Some(8) }));
    shows_the_dead_letters(&station, &process, "HELD", 25).await;

    kafka.start_again();
    // Also those who come now queue behind those who wait.
    ask_in_turn(&process, &coupon_id, 30..40).await;
    station.eventually_issued(40).await;
    assert_eq!(on_the_topic(&station, &coupon_id, 40).await, names(0..40));
    let waiting = "SELECT count(*) FROM producer_dead_letters WHERE state <> 'REPUBLISHED'";
    eventually("the backlog is worked off", || async { (station.number(waiting).await == 0).then_some(()) }).await;
    let kept = station.number("SELECT count(*) FROM producer_dead_letters").await;
    shows_the_dead_letters(&station, &process, "REPUBLISHED", usize::try_from(kept).expect("few")).await;
    process.stop().await;
}

/// Kafka is back, and there is no moment in which nobody asks.
#[tokio::test(flavor = "multi_thread")]
async fn while_they_keep_coming_admissions_go_straight_to_kafka_again() {
    let kafka = OwnKafka::start();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[]).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 100_000).await;
    let stopping = CancellationToken::new();
    let asking: Vec<_> = (0..4).map(|first| keep_asking(&process, &coupon_id, first, &stopping)).collect();
    kafka.stop();
    eventually("some are diverted", || async { (diverted(&station).await.len() > 100).then_some(()) }).await;
    kafka.start_again();

    let last_diverted = Cell::new((0, 0));
    eventually("nobody is diverted any more, and many are admitted", || async {
        let admitted = process.admission.gate().standing(&coupon_id).await.ok()??.holders;
        let kept = station.number("SELECT count(*) FROM producer_dead_letters").await;
        if kept > last_diverted.get().0 {
            last_diverted.set((kept, admitted));
        }
        (admitted > last_diverted.get().1 + 200).then_some(())
    })
    .await;
    stopping.cancel();
    let told_yes: i64 = join_all(asking).await.into_iter().map(|asked| asked.expect("everybody was told yes")).sum();
    station.eventually_issued(told_yes).await;
    process.stop().await;
}

/// One customer after the other, some milliseconds apart. Returns how many were told yes, which is all of them.
fn keep_asking(process: &Process, coupon_id: &CouponId, first: usize, stopping: &CancellationToken) -> JoinHandle<i64> {
    let (admission, coupon_id, stopping) = (process.admission.clone(), coupon_id.clone(), stopping.clone());
    tokio::spawn(async move {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for n in 0.. {
            if stopping.is_cancelled() {
                return n;
            }
            pace.tick().await;
            let customer = user(first + 4 * usize::try_from(n).expect("not that many"));
            let asked = admission.admit(&coupon_id, &customer, telemetry::root()).await;
            assert!(asked.is_ok(), "{customer}: {asked:?}");
        }
        unreachable!("there is always another one")
    })
}

async fn shows_the_dead_letters(station: &Station, process: &Process, state: &str, expected: usize) {
    let calls = coupon_service::http::routes(station.pool(), process.admission.clone());
    let routes = calls.and(Routes::new(messaging::direct::routes));
    let app = init_service(app(&station.runtime, &routes).expect("an app")).await;
    let request = |roles: &'static str| {
        TestRequest::get()
            .uri(&format!("/admin/producer-dead-letters?state={state}&limit=200"))
            .insert_header(("x-user-id", "kim"))
            .insert_header(("x-roles", roles))
            .to_request()
    };
    let page: Value = call_and_read_body_json(&app, request("operator")).await;
    let items = page["items"].as_array().unwrap_or_else(|| panic!("a page: {page}"));
    assert_eq!(items.len(), expected, "{page}");
    assert!(items.iter().all(|item| item["topic"] == "coupon-issue-requested" && item["state"] == state));
    let refused: Value = call_and_read_body_json(&app, request("customer")).await;
    assert_eq!(refused["status"], 403, "only operators");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rush_while_kafka_goes_away_loses_nobody_and_issues_exactly_as_many_as_there_are() {
    let kafka = OwnKafka::start();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[]).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 2_000).await;
    let users: Vec<_> = (0..2_600).map(user).collect();
    let (told, ()) = futures::join!(process.rush(&coupon_id, &users, 64), async {
        eventually("the sale has begun", || async {
            let standing = process.admission.gate().standing(&coupon_id).await.ok()??;
            (standing.holders > 100).then_some(())
        })
        .await;
        tokio::task::block_in_place(|| kafka.stop());
    });
    tokio::task::block_in_place(|| kafka.start_again());
    let winners = admitted(&told);
    println!("told yes: {}, diverted: {}", winners.len(), diverted(&station).await.len());
    assert!(!diverted(&station).await.is_empty(), "Kafka went away in time");
    for winner in winners {
        assert!(process.decided(&coupon_id, winner).await.is_ok(), "{winner} was told yes");
    }
    // Whose outcome wasn't known has his, too.
    eventually("2,000 are issued", || async {
        process.rush(&coupon_id, &users[2_500..], 8).await;
        (station.issued().await == 2_000).then_some(())
    })
    .await;
    station.holders().await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_a_second_cluster_they_are_kept_there_and_go_on_in_order() {
    let (kafka, second) = (OwnKafka::start(), OwnKafka::start());
    let brokers = second.brokers();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[("DEAD_LETTER_BROKERS", &brokers)]).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, QUANTITY).await;
    ask_in_turn(&process, &coupon_id, 0..3).await;
    station.eventually_issued(3).await;
    // A new broker may have been too slow for the first ones.
    let before = diverted(&station).await.len();

    kafka.stop();
    ask_in_turn(&process, &coupon_id, 3..20).await;
    // They are seen in the table, where they came from the second cluster.
    eventually("the table shows them", || async {
        (diverted(&station).await.get(before..) == Some(&names(3..20))).then_some(())
    })
    .await;
    kafka.start_again();
    station.eventually_issued(20).await;
    assert_eq!(on_the_topic(&station, &coupon_id, 20).await, names(0..20));

    // With both away the database keeps them.
    kafka.stop();
    second.stop();
    eventually("they are kept all the same", || async { process.asks(&coupon_id, &user(20)).await.ok() }).await;
    kafka.start_again();
    second.start_again();
    station.eventually_issued(21).await;
    process.stop().await;
}

/// Kafka may have it, and the dead letters don't: nothing is undone, and it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn with_an_unknown_outcome_the_admission_stays_pending_and_its_request_is_sent_again() {
    let kafka = OwnKafka::start();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[]).await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 1).await;
    station.execute("ALTER TABLE producer_dead_letters ADD CONSTRAINT full_up CHECK (false)").await;
    kafka.stop();
    assert_eq!(process.asks(&coupon_id, &user(1)).await, Err(Refused::Undecided));
    assert_eq!(process.asks(&coupon_id, &user(1)).await, Err(Refused::AskedBefore), "pending");
    assert_eq!(process.asks(&coupon_id, &user(2)).await, Err(Refused::SoldOut), "his slot is his");
    let standing = process.admission.gate().standing(&coupon_id).await.expect("Redis").expect("open");
    assert_eq!((standing.holders, standing.pending), (1, 1));

    station.execute("ALTER TABLE producer_dead_letters DROP CONSTRAINT full_up").await;
    kafka.start_again();
    assert_eq!(process.decided(&coupon_id, &user(1)).await, Ok(Some(1)));
    process.stop().await;
}
