//! What the reconciler finds and mends.

use common_events::Reason;
use coupon_service::{
    admission::Refused,
    domain::{Mode, Outcome, Settled},
    gate::Claim,
    store,
};
use messaging::Tx;
use test_support::eventually;

use crate::station::{Station, user};

/// The issuer committed a rejection, and died before it told the gate.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejection_the_gate_was_not_told_of_frees_its_slot_all_the_same() {
    let station = Station::open().await;
    let process = station.admits().await;
    let coupon_id = station.put_up(&process, Mode::Ranked, 1).await;
    process.asks(&coupon_id, &user(1)).await.expect("admitted");
    let Ok(Claim::Admitted(token)) = process.admission.gate().claim(&coupon_id, &user(1)).await else {
        panic!("no token")
    };
    let rejected = Settled {
        request_id: token.request_id,
        coupon_id: coupon_id.clone(),
        user_id: user(1),
        rank: token.rank,
        epoch: token.epoch,
        outcome: Outcome::Rejected(Reason::NotOpen),
    };
    let mut client = station.pool().get().await.expect("a connection");
    let tx = Tx::begin(&mut client).await.expect("a transaction");
    store::insert_unused(&tx, &[rejected]).await.expect("the table takes it");
    tx.commit().await.expect("committed");
    drop(client);

    let rank =
        eventually("the rank is given again", || async { process.asks(&coupon_id, &user(2)).await.ok() }).await.rank;
    assert_eq!(rank, Some(1));
    let unreleased = "SELECT count(*) FROM unused_admissions WHERE released_at IS NULL";
    eventually("it is noted", || async { (station.number(unreleased).await == 0).then_some(()) }).await;
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
    let client = redis::Client::open(crate::station::shared_redis()).expect("an URL");
    let mut connection = client.get_multiplexed_async_connection().await.expect("Redis");
    let holders = format!("{}gate:{{{coupon_id}}}:holders", station.prefix());
    let () = redis::cmd("SADD").arg(&holders).arg("nobody").query_async(&mut connection).await.expect("Redis");

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
