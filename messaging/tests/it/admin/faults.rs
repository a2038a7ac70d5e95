//! The fault switch.

use std::slice::from_ref;

use actix_web::http::Method;
use messaging::{Delivered, Record};
use serde_json::{Value, json};
use service_runtime::{CommonSettings, Env};

use super::{Desk, answering};
use crate::toys::{Toy, event};

const FAULTS: &str = "/admin/faults";

#[actix_web::test]
async fn a_key_fails_and_the_others_flow_until_it_is_switched_off() {
    let desk = Desk::open().await;
    let fault = json!({"kind": "transient", "key": "bear", "forSeconds": 60, "reason": "the demo"});
    let set = desk.call(Method::PUT, FAULTS, &fault).await;
    assert_eq!((set.status, &set.body["fault"]["key"]), (200, &json!("bear")));
    let records: Vec<Record> =
        [("bear", 1), ("fox", 2), ("bear", 3)].map(|(key, n)| desk.record(&event(Toy::fine(key, n)))).to_vec();
    let delivered = desk.deliver(&records).await;
    assert_eq!(delivered, Delivered { applied: 1, retrying: 1, waiting: 1, ..Delivered::default() });
    assert_eq!(desk.get(FAULTS).await.body["fault"]["kind"], "transient");
    desk.mend_everything().await;
    assert_eq!(desk.get(FAULTS).await.body, json!({"allowed": true}));
    assert_eq!(desk.carry("order-service.retry-1").await.applied, 1);
}

#[actix_web::test]
async fn a_share_of_the_events_fails_and_it_is_the_same_ones_each_time() {
    let desk = Desk::open().await;
    let fault = json!({"kind": "unprocessable", "share": 0.5, "topic": "order-created", "reason": "the demo"});
    desk.call(Method::PUT, FAULTS, &fault).await;
    let toys: Vec<Record> = (0..60).map(|n| desk.record(&event(answering(n)))).collect();
    let delivered = desk.deliver(&toys).await;
    assert!((12..=48).contains(&delivered.dead), "{delivered:?}");
    assert_eq!(delivered.applied + delivered.dead, 60);
    let replay = desk.replay(json!({"filter": {"state": "DEAD"}, "dryRun": true, "reason": "still?"})).await;
    assert_eq!(replay.body["verdicts"], json!({"will-fail": delivered.dead}));
}

#[actix_web::test]
async fn a_process_seems_dead_on_either_side_of_a_commit() {
    let desk = Desk::open().await;
    let toys: Vec<Record> = (0..2).map(|n| desk.record(&event(answering(n)))).collect();
    // What was written by the second one stays, its answer, too; of the first nothing, until it comes again.
    for (toy, side, stays, applied) in [(&toys[0], "before-commit", 0, 1), (&toys[1], "after-commit", 2, 0)] {
        let fault = json!({"kind": "death", "step": "handle", "side": side, "times": 1, "reason": "a test"});
        let set = desk.call(Method::PUT, FAULTS, &fault).await.body["fault"].clone();
        assert_eq!((&set["step"], &set["side"], &set["timesLeft"]), (&json!("handle"), &json!(side), &json!(1)));
        let stalled = desk.group.deliver(from_ref(toy)).await.expect_err("it seems dead");
        assert!(stalled.death().is_some(), "{stalled:?}");
        let applied_by_then = desk.count("SELECT count(*) FROM inbox WHERE state = 'applied'").await;
        assert_eq!((applied_by_then, desk.count("SELECT count(*) FROM outbox").await), (stays, stays));
        assert_eq!(desk.get(FAULTS).await.body, json!({"allowed": true}), "it was to die once");
        assert_eq!(desk.deliver(from_ref(toy)).await.applied, applied);
    }
}

#[actix_web::test]
async fn it_is_refused_where_fault_injection_is_off_and_the_refusal_is_written_down() {
    let desk = Desk::open_with("false").await;
    let refused = desk.call(Method::PUT, FAULTS, &json!({"kind": "transient", "reason": "the demo"})).await;
    assert_eq!(refused.refusal(), (403, "fault-injection-off", ""));
    assert_eq!(desk.get(FAULTS).await.body, json!({"allowed": false}));
    assert_eq!(desk.deliver(&[desk.record(&event(answering(1)))]).await.applied, 1);
    assert_eq!(desk.get("/admin/audit?action=fault-set&result=REFUSED").await.items().len(), 1);
}

#[actix_web::test]
async fn a_fault_that_cannot_be_is_refused_and_named() {
    let desk = Desk::open().await;
    for (body, field) in [
        (json!({"reason": "r"}), "kind"),
        (json!({"kind": "nasty", "reason": "r"}), "kind"),
        (json!({"kind": "transient"}), "reason"),
        (json!({"kind": "transient", "share": 1.5, "reason": "r"}), "share"),
        (json!({"kind": "transient", "share": -0.1, "reason": "r"}), "share"),
        (json!({"kind": "transient", "forSeconds": 0, "reason": "r"}), "forSeconds"),
        (json!({"kind": "transient", "forSeconds": 3_601, "reason": "r"}), "forSeconds"),
        (json!({"kind": "transient", "colour": "red", "reason": "r"}), "colour"),
        (json!({"kind": "transient", "times": 0, "reason": "r"}), "times"),
        (json!({"kind": "transient", "times": 1_001, "reason": "r"}), "times"),
        (json!({"kind": "death", "reason": "r"}), "step"),
        (json!({"kind": "death", "step": "sleep", "reason": "r"}), "step"),
        (json!({"kind": "transient", "side": "after-commit", "reason": "r"}), "side"),
        (json!({"kind": "death", "step": "drain", "key": "bear", "reason": "r"}), "key"),
        (json!({"kind": "death", "step": "replay", "topic": "order-created", "reason": "r"}), "topic"),
        (json!({"kind": "death", "step": "replay", "share": 0.5, "reason": "r"}), "share"),
    ] {
        assert_eq!(desk.call(Method::PUT, FAULTS, &body).await.refusal(), (422, "invalid-field", field), "{body}");
    }
    assert_eq!(desk.call(Method::PUT, FAULTS, &Value::Null).await.status, 400);
}

#[test]
fn a_process_that_can_be_reached_from_outside_takes_no_faults() {
    let env = Env::of([("FAULT_INJECTION", "true"), ("HTTP_ADDR", "0.0.0.0:8081"), ("AUTH_MODE", "header")]);
    let refused = CommonSettings::read(common_events::Service::Order, &env).expect_err("refused");
    assert!(refused.to_string().contains("FAULT_INJECTION"), "{refused}");
}
