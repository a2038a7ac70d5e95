//! Somebody else writes to our topics in transactions: their ends take offsets that nobody is given.

use std::time::Duration;

use common_events::{Service, Topic};
use messaging::{kafka, progress::Progress};
use rdkafka::{
    Message as _, Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer as _},
};
use test_support::{Foreign, PATIENCE, eventually};

use super::TOPICS;
use crate::{
    broker::{Broker, Member},
    toys,
};

const TOPIC: &str = "order-created";
const TIMEOUT: Duration = Duration::from_secs(10);

/// Where the partition ends for one who reads what is committed, and where it ends.
fn ends(broker: &Broker) -> (i64, i64) {
    let end = |level: &str| {
        let mut config = kafka::client(&broker.settings);
        let asking: BaseConsumer = config.set("isolation.level", level).create().expect("a client that only asks");
        asking.fetch_watermarks(&broker.names.topic(TOPIC), 0, TIMEOUT).expect("the broker answers").1
    };
    (end("read_committed"), end("read_uncommitted"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_counts_the_ends_of_transactions_that_nobody_is_given() {
    let broker = Broker::with_partitions(&TOPICS, Some(1)).await;
    let (topic, foreign) = (broker.names.topic(TOPIC), Foreign::at(&broker.settings.brokers));
    let reader: BaseConsumer = kafka::client(&broker.settings)
        .set("group.id", "reads in no group")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a reader");
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning).expect("an offset");
    reader.assign(&list).expect("the partition");
    let position = || {
        let given = reader.poll(Duration::from_millis(50)).map(|given| given.expect("a record").offset());
        (given, kafka::positions(&reader).expect("positions").get(&(topic.clone(), 0)).copied())
    };
    assert_eq!(position(), (None, None), "nothing was read");

    foreign.begin(&topic, 0, b"0");
    assert_eq!(ends(&broker), (0, 1), "an open transaction keeps from being read what is written");
    foreign.commit();
    let given = eventually("it is given", async || position().0).await;
    assert_eq!((given, ends(&broker)), (0, (2, 2)), "the commit took offset 1");
    eventually("the commit is passed", async || (position() == (None, Some(2))).then_some(())).await;

    foreign.begin(&topic, 0, b"2");
    foreign.abort();
    assert_eq!(ends(&broker), (4, 4));
    eventually("what was aborted is passed", async || (position() == (None, Some(4))).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_comes_to_the_end_whoever_writes_in_transactions_and_waits_for_open_ones() {
    let (broker, database) = (Broker::with_partitions(&TOPICS, Some(1)).await, toys::database().await);
    let (topic, foreign) = (broker.names.topic(TOPIC), Foreign::at(&broker.settings.brokers));
    let progress = Progress::of(&broker.settings, Service::Order, Topic::OrderCreated).expect("a client that asks");
    let behind = async || {
        let ends = progress.ends().await.expect("Kafka answers");
        progress.behind(&ends).await.expect("Kafka answers")
    };
    // Nothing but an aborted transaction: there is no record that anybody could say it has.
    foreign.begin(&topic, 0, b"never there");
    foreign.abort();
    let member = Member::join(&broker, &database.pool, Service::Order);
    member.has_joined().await;
    eventually("it passes what was aborted", async || (behind().await == 0).then_some(())).await;
    assert_eq!(broker.committed(Service::Order, TOPIC), [(0, 2)].into());

    foreign.begin(&topic, 0, b"no event");
    assert_eq!(behind().await, 1, "it is written, and may come yet");
    foreign.commit();
    eventually("it passes the commit", async || (behind().await == 0).then_some(())).await;
    assert_eq!(broker.committed(Service::Order, TOPIC), [(0, 4)].into());
    assert_eq!(
        toys::count(&database.pool, "SELECT count(*) FROM dead_letters").await,
        1,
        "what it wrote is hidden from nobody"
    );

    // Whoever comes next begins there, and finds nothing to do.
    member.stop().await;
    let next = Member::join(&broker, &database.pool, Service::Order);
    next.has_joined().await;
    tokio::time::timeout(PATIENCE, async { while behind().await != 0 {} }).await.expect("it is at the end");
    next.stop().await;
    assert_eq!(broker.committed(Service::Order, TOPIC), [(0, 4)].into());
}
