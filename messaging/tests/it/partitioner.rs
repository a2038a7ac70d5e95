//! Keys lie where Java's clients would put them.

use crate::broker::Broker;

/// A partition count that a wrong hash would hardly hit each time.
const PARTITIONS: i32 = 97;

/// murmur2 of some keys, as Apache Kafka's own `UtilsTest` has them.
const KNOWN: [(&str, i32); 6] = [
    ("21", -973_932_308),
    ("foobar", -790_332_482),
    ("a-little-bit-long-string", -985_981_536),
    ("a-little-bit-longer-string", -1_486_304_829),
    ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
    ("abc", 479_470_107),
];

#[tokio::test]
async fn a_key_lies_on_the_partition_that_a_java_client_would_choose() {
    let broker = Broker::with_partitions(&["order-created"], Some(PARTITIONS)).await;
    for (key, hash) in KNOWN {
        let (partition, _) = broker.send_bytes("order-created", Some(key.as_bytes()), b"{}", &[]).await;
        assert_eq!(partition, (hash & i32::MAX) % PARTITIONS, "{key}");
    }
}
