//! How far behind a group is can be read from its metrics.

use common_events::{Service, Topic, envelope};
use futures::FutureExt;
use messaging::{Subscriptions, delivery::Group, progress::Progress};
use metrics_exporter_prometheus::PrometheusBuilder;
use test_support::{Foreign, eventually};
use tokio::sync::watch;

use crate::{
    broker::{Broker, Member},
    toys::{self, Coin, Toys, event},
};

const EVENTS: i64 = 50;

/// The sum over the partitions of the one topic that no other test here consumes.
fn lag(metrics: &str) -> Option<f64> {
    let lines = metrics.lines().filter(|line| line.starts_with("consumer_lag_records{topic=\"point-charged\""));
    lines.map(|line| line.rsplit_once(' ')?.1.parse().ok()).reduce(|sum: Option<f64>, next| Some(sum? + next?))?
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lag_is_told_while_there_is_one_and_when_it_is_gone() {
    // The one place in this program that installs a recorder.
    let recorder = PrometheusBuilder::new().install_recorder().expect("the first recorder");
    let (broker, database) = (Broker::with(&super::topics("point-charged")).await, toys::database().await);
    let free = watch::Sender::new(false);
    let waiting = free.subscribe();
    let subscriptions = Subscriptions::of(Service::Order).hear::<Coin, _>(move |_, _| {
        let mut waiting = waiting.clone();
        async move {
            waiting.wait_for(|free| *free).await.expect("the test is still there");
            Ok(())
        }
        .boxed()
    });
    let coins: Vec<envelope::Event<Coin>> = (0..EVENTS).map(|n| event(Coin { key: n.to_string(), n })).collect();
    broker.send_all(&coins).await;
    let group = Group::new(database.pool.clone(), subscriptions, toys::ladder());
    let member = Member::start(&broker, group, Toys::new());

    #[expect(clippy::cast_precision_loss, reason = "fifty")]
    let all = EVENTS as f64;
    eventually("the lag is told", || async { (lag(&recorder.render()) == Some(all)).then_some(()) }).await;
    free.send_replace(true);
    eventually("the lag is gone", || async { (lag(&recorder.render()) == Some(0.0)).then_some(()) }).await;

    let (topic, foreign) = (broker.names.topic("point-charged"), Foreign::at(&broker.settings.brokers));
    foreign.begin(&topic, 0, b"nobody gets it yet");
    eventually("what is behind an open transaction waits", || async {
        (lag(&recorder.render()) == Some(1.0)).then_some(())
    })
    .await;
    foreign.abort();
    eventually("and is gone with it", || async { (lag(&recorder.render()) == Some(0.0)).then_some(()) }).await;

    // What waits in the outbox is told of here: a relay that is dead tells nothing.
    let client = database.pool.get().await.expect("a connection");
    let sql =
        "INSERT INTO outbox (topic, key, payload) VALUES ('order-reserved', 'a', ''), ('order-reserved', 'b', '')";
    client.execute(sql, &[]).await.expect("two rows");
    let told = r#"outbox_rows_waiting{topic="order-reserved"} 2"#;
    eventually("the outbox is told of", || async { recorder.render().contains(told).then_some(()) }).await;
    assert!(recorder.render().contains(r#"outbox_oldest_seconds{topic="order-reserved"}"#));
    member.stop().await;

    // While nobody reads, records come and go by their age.
    let progress = Progress::of(&broker.settings, Service::Order, Topic::PointCharged).expect("settings of a client");
    broker.send_all(&coins).await;
    let ends = progress.ends().await.expect("the broker answers");
    assert_eq!(progress.behind(&ends).await.expect("the broker answers"), EVENTS);
    broker.delete_records("point-charged", &ends).await;
    assert_eq!(progress.behind(&ends).await.expect("the broker answers"), 0, "nobody will ever read them");
}
