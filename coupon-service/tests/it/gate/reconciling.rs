//! What the reconciler finds and mends.

use chrono::TimeDelta;
use common_events::{ClaimRefusal, CouponId};
use coupon_service::{
    admission::Refused,
    domain::{Mode, Outcome, Settled},
    gate::Claim,
    store,
};
use messaging::Tx;
use test_support::eventually;

use crate::gate::{
    own_parts::OwnKafka,
    ranks::{settled, token_of},
    station::{Process, Station, shared_redis, user},
};

async fn ask_redis(command: &redis::Cmd) {
    let client = redis::Client::open(shared_redis()).expect("an URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let () = command.query_async(&mut connection).await.expect("Redis");
}

fn key(station: &Station, coupon_id: &CouponId, what: &str) -> String {
    format!("{}gate:{{{coupon_id}}}:{what}", station.prefix())
}

/// Waits until the slot of the coupon is free again.
async fn nobody_holds(process: &Process, coupon_id: &CouponId) {
    eventually("the coupon's slot is free", || async {
        let standing = process.admission.gate().standing(coupon_id).await.ok()??;
        (standing.holders == 0).then_some(())
    })
    .await;
}

/// As the issuer writes it down, which then dies before it tells the gate.
async fn insert_unused(station: &Station, unused: Settled) {
    let mut client = station.pool().get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    store::insert_unused(&tx, &[unused]).await.expect("the table takes it");
    tx.commit().await.expect("committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_the_gate_was_not_told_of_frees_its_slot_all_the_same() {
    let station = Station::open().await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 1).await;
    process.asks(&coupon_id, &user(1)).await.expect("admitted");
    let token = token_of(&process, &coupon_id, 1).await;
    insert_unused(&station, settled(&token, Outcome::Rejected(ClaimRefusal::NotOpen))).await;

    let rank =
        eventually("the rank is given again", || async { process.asks(&coupon_id, &user(2)).await.ok() }).await.rank;
    assert_eq!(rank, Some(1));
    let unreleased = "SELECT count(*) FROM unused_admissions WHERE released_at IS NULL";
    eventually("it is noted", || async { (station.number(unreleased).await == 0).then_some(()) }).await;
    process.stop().await;
}

/// Whether the issuer ever got a request is Kafka's to say; what needs no Kafka is mended without it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_nobody_can_be_asked_about_keeps_no_other_coupon_from_being_mended() {
    let kafka = OwnKafka::start();
    let station = Station::on(&shared_redis(), &kafka.brokers(), &[]).await;
    let process = station.admits().await;
    let [first, second] = [station.put_up(&process, Mode::Set, 1).await, station.put_up(&process, Mode::Set, 1).await];
    assert!(first < second, "looked after in this order");
    for coupon_id in [&first, &second] {
        process.asks(coupon_id, &user(1)).await.expect("admitted");
    }
    kafka.stop();
    // An hour old, and never decided.
    let old = token_of(&process, &first, 1).await;
    let admitted_at = (old.admitted_at - TimeDelta::hours(1)).timestamp_micros();
    let text = format!("{}||{}|{admitted_at}|{}", old.request_id, old.epoch, old.trace);
    ask_redis(redis::cmd("HSET").arg(key(&station, &first, "tokens")).arg("user-1").arg(text)).await;
    let token = token_of(&process, &second, 1).await;
    insert_unused(&station, settled(&token, Outcome::Rejected(ClaimRefusal::NotOpen))).await;

    nobody_holds(&process, &second).await;
    // Its topics are deleted at the end, which would wait for it.
    kafka.start_again();
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_that_cannot_be_looked_after_keeps_no_other_from_being_mended() {
    let station = Station::open().await;
    let process = station.admits().await;
    let [first, second] = [station.put_up(&process, Mode::Set, 1).await, station.put_up(&process, Mode::Set, 1).await];
    assert!(first < second, "looked after in this order");
    process.asks(&second, &user(1)).await.expect("admitted");
    ask_redis(redis::cmd("SET").arg(key(&station, &first, "pending")).arg("no set")).await;
    process.admission.gate().standing(&first).await.expect_err("nobody can tell how it stands");
    let token = token_of(&process, &second, 1).await;
    insert_unused(&station, settled(&token, Outcome::Rejected(ClaimRefusal::NotOpen))).await;

    nobody_holds(&process, &second).await;
    process.stop().await;
}

/// A slot in Redis that nobody holds: found when everything is settled, whoever made it.
#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nobody_holds_is_found() {
    let station = Station::open().await;
    let process = station.runs().await;
    let coupon_id = station.put_up(&process, Mode::Set, 2).await;
    process.asks(&coupon_id, &user(1)).await.expect("admitted");
    station.eventually_issued(1).await;
    let holders = key(&station, &coupon_id, "holders");
    ask_redis(redis::cmd("SADD").arg(&holders).arg("nobody")).await;

    eventually("a slot is there again", || async { process.asks(&coupon_id, &user(2)).await.ok() }).await;
    station.eventually_issued(2).await;
    process.stop().await;
}

/// Neither Kafka nor the dead letters: certainly never sent, and undone.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_certainly_never_sent_is_undone() {
    let station = Station::open().await;
    // A backlog of before that doesn't get smaller, so that Kafka isn't even asked, and a table that takes nothing.
    station
        .execute(
            "INSERT INTO producer_dead_letters (event_id, topic, key, payload, traceparent, error)
                 VALUES (gen_random_uuid(), 'coupon-issue-requested', '', '', '', 'before');
             ALTER TABLE producer_dead_letters ADD CONSTRAINT full_up CHECK (error = 'before') NOT VALID;
             CREATE FUNCTION stays() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER stays BEFORE UPDATE ON producer_dead_letters FOR EACH ROW EXECUTE FUNCTION stays();",
        )
        .await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 1).await;
    assert_eq!(process.asks(&coupon_id, &user(1)).await, Err(Refused::Undecided));
    let gate = process.admission.gate();
    assert_eq!(gate.claim(&coupon_id, &user(1)).await.expect("Redis"), Claim::None, "he isn't in");
    let standing = gate.standing(&coupon_id).await.expect("Redis").expect("open");
    assert_eq!((standing.holders, standing.freed_ranks, standing.pending), (0, 1, 0));
    process.stop().await;
}
