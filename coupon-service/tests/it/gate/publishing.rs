//! The publisher of admissions by itself, without a gate before it.

use common_events::{CouponId, Event, EventId, events::CouponIssueRequested};
use coupon_service::gate::Token;
use messaging::direct::Kept;
use service_runtime::telemetry;
use uuid::Uuid;

use crate::gate::{
    own_parts::OwnKafka,
    station::{Station, shared_redis, user},
};

const AT_ONCE: usize = 300;

fn request(coupon_id: &CouponId, n: usize) -> Event<CouponIssueRequested> {
    let token = Token {
        request_id: EventId::new(Uuid::now_v7()),
        coupon_id: coupon_id.clone(),
        user_id: user(n),
        rank: None,
        epoch: 1,
        admitted_at: chrono::Utc::now(),
        trace: telemetry::root(),
    };
    token.request()
}

async fn diverted(station: &Station) -> Vec<Uuid> {
    let client = station.pool().get().await.expect("a connection");
    let rows = client.query("SELECT event_id FROM producer_dead_letters ORDER BY id", &[]).await.expect("the table");
    rows.iter().map(|row| row.get(0)).collect()
}

/// Some of them in the producer's queue, some in flight, some not sent at all.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_kafka_went_is_kept_in_the_order_in_which_it_was_published() {
    let kafka = OwnKafka::start();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[]).await;
    let publisher = station.publisher().await;
    let coupon_id: CouponId = "spring".parse().expect("an id");
    let first = request(&coupon_id, 0);
    assert_eq!(publisher.publish(&first, None).await, Ok(Kept::OnTopic));
    kafka.stop();

    let requests: Vec<_> = (1..=AT_ONCE).map(|n| request(&coupon_id, n)).collect();
    let kept = futures::future::join_all(requests.iter().map(|request| publisher.publish(request, None))).await;

    assert!(kept.iter().all(|kept| *kept == Ok(Kept::AsDeadLetter)), "{kept:?}");
    let in_order: Vec<Uuid> = requests.iter().map(|request| request.id.uuid()).collect();
    assert_eq!(diverted(&station).await, in_order);

    // Published again, as its publisher didn't learn of the first time: it is there once.
    assert_eq!(publisher.publish(&requests[7], None).await, Ok(Kept::AsDeadLetter));
    assert_eq!(diverted(&station).await, in_order);
    assert!(!publisher.has_no_backlog().await.expect("the database answers"));
    publisher.stop().await.expect("it stops in order");

    // A process that starts now queues behind them, though Kafka is there again.
    kafka.start_again();
    let publisher = station.publisher().await;
    let last = request(&coupon_id, AT_ONCE + 1);
    assert_eq!(publisher.publish(&last, None).await, Ok(Kept::AsDeadLetter));
    assert_eq!(diverted(&station).await.last(), Some(&last.id.uuid()));
    publisher.stop().await.expect("it stops in order");
}
