//! Payments as they are heard: each is handed over once, however often it comes and however the platform is.

use std::{slice::from_ref, time::Instant};

use common_events::{OrderId, Service, Topic, envelope::Event, events::PaymentCompleted};
use data_platform::events;
use messaging::{Delivered, Record};
use test_support::{Database, Seam, eventually};
use wiremock::{Request, ResponseTemplate};

use crate::outside::{CONCURRENCY, Outside, TIMEOUT, header, order_of, payment, platform_at};

/// data-platform with a database, and the platform outside.
pub(crate) struct Desk {
    pub(crate) seam: Seam,
    database: Database,
    outside: Outside,
}

impl Desk {
    pub(crate) async fn open(outside: Outside) -> Self {
        let database = Database::new(&[messaging::MIGRATIONS]).await;
        let seam = Seam::new(&database, events::subscriptions(outside.platform()));
        Self { seam, database, outside }
    }

    fn paid(&self) -> Event<PaymentCompleted> {
        self.seam.event(payment())
    }

    /// What waits to be sent to a retry topic, as it will lie there.
    async fn hops(&self) -> Vec<Record> {
        let client = self.database.pool.get().await.expect("a connection");
        let sql = "SELECT topic, key, payload, header_names, header_values FROM outbox ORDER BY id";
        let rows = client.query(sql, &[]).await;
        rows.expect("the outbox").iter().enumerate().map(|(offset, row)| hop(row, offset)).collect()
    }

    async fn dead_letters(&self) -> Vec<(String, String, i32)> {
        let client = self.database.pool.get().await.expect("a connection");
        let rows = client.query("SELECT error_class, error_message, attempts FROM dead_letters", &[]).await;
        rows.expect("dead letters").iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

fn hop(row: &tokio_postgres::Row, offset: usize) -> Record {
    let (names, values): (Vec<String>, Vec<Vec<u8>>) = (row.get(3), row.get(4));
    Record {
        topic: row.get(0),
        partition: 0,
        offset: i64::try_from(offset).expect("few"),
        timestamp: None,
        key: row.get(1),
        value: row.get(2),
        headers: names.into_iter().zip(values).collect(),
    }
}

fn down() -> ResponseTemplate {
    ResponseTemplate::new(503)
}

#[test]
fn data_platform_hears_what_the_catalogue_says_it_reads() {
    let heard: Vec<Topic> = events::subscriptions(platform_at("http://127.0.0.1:1/")).topics().collect();
    assert_eq!(heard, Topic::read_by(Service::DataPlatform).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_payment_that_comes_twice_is_handed_over_once() {
    let desk = Desk::open(Outside::that_takes().await).await;
    let paid = desk.paid();
    assert_eq!(desk.seam.deliver(&paid).await, Delivered { applied: 1, ..Delivered::default() });
    assert_eq!(desk.seam.deliver(&paid).await, Delivered { duplicates: 1, ..Delivered::default() });
    let both = [desk.seam.record(&paid), desk.seam.record(&paid)];
    assert_eq!(desk.seam.deliver_records(&both).await, Delivered { duplicates: 2, ..Delivered::default() });

    let [call] = &*desk.outside.calls().await else { panic!("one call") };
    assert_eq!(header(call, "idempotency-key"), paid.id.to_string());
    assert_eq!(order_of(call), paid.data.order_id);
}

#[tokio::test]
async fn while_the_platform_is_down_a_payment_climbs_and_is_taken_once_when_it_is_back() {
    let desk = Desk::open(Outside::that_answers(down()).await).await;
    let paid = desk.paid();
    assert_eq!(desk.seam.deliver(&paid).await, Delivered { retrying: 1, ..Delivered::default() });
    let in_place = desk.outside.calls().await.len();
    assert!(in_place > 1, "it is tried in place first");

    desk.outside.answers(ResponseTemplate::new(201));
    let [hop] = &*desk.hops().await else { panic!("one hop") };
    assert_eq!(hop.topic, "data-platform.retry-1");
    assert_eq!(desk.seam.deliver_records(from_ref(hop)).await.applied, 1);
    assert_eq!(desk.seam.deliver_records(from_ref(hop)).await.applied, 0);

    let calls = desk.outside.calls().await;
    assert_eq!(calls.len(), in_place + 1);
    for call in &calls {
        assert_eq!(header(call, "idempotency-key"), paid.id.to_string());
        assert_eq!(call.body, calls[0].body, "byte for byte");
    }
}

#[tokio::test]
async fn a_payment_that_the_platform_refuses_is_a_dead_letter_at_once_and_the_others_go_on() {
    let desk = Desk::open(Outside::that_takes().await).await;
    let payments: Vec<_> = (0..20).map(|_| desk.paid()).collect();
    let refused = payments[7].data.order_id;
    desk.outside.answers(move |call: &Request| {
        let status = if order_of(call) == refused { 422 } else { 201 };
        ResponseTemplate::new(status).set_body_string("no such product")
    });
    let delivered = desk.seam.deliver_batch(&payments).await;
    assert_eq!(delivered, Delivered { applied: 19, dead: 1, ..Delivered::default() });
    let [(class, message, attempts)] = &*desk.dead_letters().await else { panic!("one dead letter") };
    assert_eq!((&**class, *attempts), ("unprocessable", 1));
    assert!(message.contains("422") && message.contains("no such product"), "{message}");
    assert_eq!(desk.outside.calls().await.len(), 20, "each was called for once");
}

#[tokio::test]
async fn a_platform_that_answers_too_late_is_tried_again_with_the_same_key() {
    let late = ResponseTemplate::new(201).set_delay(TIMEOUT * 3);
    let desk = Desk::open(Outside::that_answers(late).await).await;
    let paid = desk.paid();
    assert_eq!(desk.seam.deliver(&paid).await, Delivered { retrying: 1, ..Delivered::default() });
    let keys: Vec<String> = desk.outside.calls().await.iter().map(|call| header(call, "idempotency-key")).collect();
    assert!(keys.len() > 1 && keys.iter().all(|key| *key == paid.id.to_string()), "{keys:?}");
}

#[tokio::test]
async fn a_platform_that_is_not_there_holds_up_no_partition() {
    let database = Database::new(&[messaging::MIGRATIONS]).await;
    let seam = Seam::new(&database, events::subscriptions(platform_at("http://127.0.0.1:1/payments")));
    let payments: Vec<_> = (0..5).map(|_| seam.event(payment())).collect();
    let delivered = seam.deliver_batch(&payments).await;
    assert_eq!(delivered, Delivered { retrying: 5, ..Delivered::default() });
}

#[tokio::test]
async fn who_dies_between_the_call_and_the_commit_calls_again_with_the_same_key() {
    let taken_but_not_told = ResponseTemplate::new(201).set_delay(TIMEOUT / 2);
    let desk = Desk::open(Outside::that_answers(taken_but_not_told).await).await;
    let paid = desk.paid();
    let record = [desk.seam.record(&paid)];
    {
        let dying = desk.seam.deliver_records(&record);
        let has_arrived = eventually("the call has arrived", async || desk.outside.calls().await.pop());
        tokio::select! {
            _ = dying => panic!("the answer takes its time"),
            _ = has_arrived => {}
        }
    }
    desk.outside.answers(ResponseTemplate::new(200));
    assert_eq!(desk.seam.deliver_records(&record).await.applied, 1);
    let keys: Vec<String> = desk.outside.calls().await.iter().map(|call| header(call, "idempotency-key")).collect();
    assert_eq!(keys, [paid.id.to_string(), paid.id.to_string()]);
}

#[tokio::test]
async fn what_is_told_of_one_order_keeps_its_order_and_others_don_t_wait() {
    let desk = Desk::open(Outside::that_takes().await).await;
    let (first, other) = (desk.paid(), desk.paid());
    let second = desk.seam.event(first.data.clone());
    let order = first.data.order_id;
    desk.outside
        .answers(move |call: &Request| if order_of(call) == order { down() } else { ResponseTemplate::new(201) });
    let delivered = desk.seam.deliver_batch(&[first.clone(), second.clone(), other.clone()]).await;
    assert_eq!(delivered, Delivered { applied: 1, retrying: 1, waiting: 1, ..Delivered::default() });
    let keys: Vec<String> = desk.outside.calls().await.iter().map(|call| header(call, "idempotency-key")).collect();
    assert!(keys.contains(&other.id.to_string()));
    assert!(!keys.contains(&second.id.to_string()), "nobody overtakes the first");
}

#[tokio::test]
async fn many_payments_are_under_way_together_but_not_too_many() {
    let took = TIMEOUT / 4;
    let desk = Desk::open(Outside::that_answers(ResponseTemplate::new(201).set_delay(took)).await).await;
    let payments: Vec<_> = (0..6 * CONCURRENCY).map(|_| desk.paid()).collect();
    let started = Instant::now();
    assert_eq!(desk.seam.deliver_batch(&payments).await.applied, payments.len());
    let elapsed = started.elapsed();
    assert!(elapsed >= took * 6, "more than {CONCURRENCY} at the same time: {elapsed:?}");
    assert!(elapsed < took * 6 * 4, "one after the other: {elapsed:?}");

    let mut told: Vec<OrderId> = desk.outside.orders().await;
    let mut paid: Vec<OrderId> = payments.iter().map(|payment| payment.data.order_id).collect();
    told.sort();
    paid.sort();
    assert_eq!(told, paid);
}
