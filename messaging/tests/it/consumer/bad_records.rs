//! Records that can't be handled don't hold up those behind them.

use common_events::Service;
use test_support::eventually;

use super::TOPICS;
use crate::{
    broker::{Broker, Member, raw},
    relay::process::Relay,
    toys::{self, Mood, Toy, event},
};

const DEPTH: usize = 990_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_poisoned_record_does_not_block_its_partition() {
    // One partition, so that everything stands behind everything.
    let (broker, database) = (Broker::with_partitions(&TOPICS, Some(1)).await, toys::database().await);
    let pool = &database.pool;
    let _relay = Relay::start(&broker, &[&database.url]);
    let member = Member::join(&broker, pool, Service::Order);
    broker.send(&event(Toy::fine("bear", 1))).await;
    let headers: [(&str, &[u8]); 2] = [("x-resume", b"\xff"), ("", b"")];
    broker.send_bytes("order-created", Some(b"\0\xff"), b"\xffrubbish", &headers).await;
    broker.send(&event(Toy::fine("bear", 2))).await;
    raw::send_with_header(&broker, "order-created", b"more rubbish", b"\xff\xfe no utf-8").await;
    // Nearly as large as a topic takes, and as deep.
    broker.send_bytes("order-created", Some(b"deep"), &vec![b'['; DEPTH], &[]).await;
    broker.send(&event(Toy::new("duck", 3, Mood::Panics))).await;
    broker.send(&event(Toy::new("goose", 4, Mood::AnswersAndBreaks))).await;
    let (_, last) = broker.send(&event(Toy::fine("bear", 5))).await;

    eventually("the last one is handled", || async { (toys::journal(pool).await.len() == 3).then_some(()) }).await;
    member.stop().await;
    assert_eq!(broker.committed(Service::Order, "order-created"), [(0, last + 1)].into());
    let dead = toys::dead_letters(pool).await;
    let classes: Vec<(i64, &str)> = dead.iter().map(|dead| (dead.place.2, &*dead.class)).collect();
    assert_eq!(classes, [(1, "undecodable"), (3, "undecodable"), (4, "undecodable")]);
    let retrying = "SELECT count(*) FROM inbox WHERE state = 'retrying' AND tier = 'retry-1'";
    assert_eq!(toys::count(pool, retrying).await, 2, "the one that panics and the one that breaks");
    assert_eq!(dead[0].key.as_deref(), Some(&b"\0\xff"[..]));
    assert_eq!(dead[0].payload.as_deref(), Some(&b"\xffrubbish"[..]));
    assert_eq!(dead[0].headers[0], ("x-resume".to_owned(), b"\xff".to_vec()));
    assert_eq!(dead[1].payload.as_deref(), Some(&b"more rubbish"[..]));
    assert_eq!(dead[0].place.0, "order-created", "by the catalogue's name, whatever the prefix");
    let notices = broker.read("order-service.dlt", |read| read.len() == 3).await;
    assert!(notices.iter().any(|notice| notice.value.len() == DEPTH), "with all that the ladder adds to it");
}
