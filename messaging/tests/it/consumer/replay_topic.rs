//! What is sent to a group's own topic reaches that group, and no other.

use common_events::{EventData, Service, envelope};
use messaging::{X_ORIGIN_TOPIC, X_RESUME};
use test_support::eventually;

use crate::{
    broker::{Broker, Member},
    toys::{self, Mood, Toy, event},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_on_a_group_s_own_topic_reaches_that_group_only() {
    let topics = ["order-created", "order-service.replay", "payment-service.replay"];
    let broker = Broker::with(&topics).await;
    let (orders, payments) = (toys::database().await, toys::database().await);
    let members =
        [Member::join(&broker, &orders.pool, Service::Order), Member::join(&broker, &payments.pool, Service::Payment)];
    let answers = async |pool, count: i64| {
        eventually(&format!("{count} answers"), || async {
            (toys::count(pool, "SELECT count(*) FROM outbox").await == count).then_some(())
        })
        .await;
    };
    let toy = event(Toy::new("bear", 1, Mood::Answers));
    broker.send(&toy).await;
    answers(&orders.pool, 1).await;
    answers(&payments.pool, 1).await;

    let headers: [(&str, &[u8]); 2] = [(X_RESUME, b"1"), (X_ORIGIN_TOPIC, Toy::TOPIC.name().as_bytes())];
    let value = envelope::encode(&toy).unwrap();
    broker.send_bytes("order-service.replay", Some(b"bear"), &value, &headers).await;
    answers(&orders.pool, 2).await;

    let unknown = event(Toy::new("bear", 2, Mood::Answers));
    let value = envelope::encode(&unknown).unwrap();
    broker.send_bytes("order-service.replay", Some(b"bear"), &value, &headers).await;
    answers(&orders.pool, 3).await;
    assert_eq!(toys::journal(&orders.pool).await.len(), 2, "an unknown event is handled for the first time");

    // Whatever was sent before this has had its time with the other group.
    broker.send(&event(Toy::new("bear", 3, Mood::Answers))).await;
    answers(&payments.pool, 2).await;
    for member in members {
        member.stop().await;
    }
    assert_eq!(toys::journal_by_key(&payments.pool).await["bear"], [1, 3]);
}
