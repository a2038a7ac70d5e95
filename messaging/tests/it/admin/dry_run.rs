//! Dry runs: they say what would happen, and it does; and they change nothing.

use std::collections::BTreeMap;

use common_events::envelope;
use messaging::Record;
use serde_json::{Value, json};

use super::{Desk, LateToy, OWN, answering};
use crate::toys::{Coin, Mood, Toy, event};

fn verdicts(answer: &Value) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let items = answer["items"].as_array().expect("items");
    items.iter().map(|item| (text(&item["id"]), text(&item["verdict"]))).collect()
}

/// Rows of the journal and answers, by the key of what they come of.
type Effects = BTreeMap<String, (i64, i64)>;

/// What is there of them.
async fn effects(desk: &Desk) -> Effects {
    let client = desk.pool().get().await.expect("a connection");
    let sql = "
        SELECT key, sum(written)::bigint, sum(told)::bigint FROM (
            SELECT key, 1 AS written, 0 AS told FROM journal
            UNION ALL SELECT convert_from(key, 'UTF8'), 0, 1 FROM outbox WHERE topic = 'order-reserved'
        ) AS one GROUP BY key";
    let rows = client.query(sql, &[]).await.expect("PostgreSQL answers");
    rows.iter().map(|row| (row.get(0), (row.get(1), row.get(2)))).collect()
}

/// What was foretold of them.
fn foretold_effects(answer: &Value) -> Effects {
    let mut effects = Effects::new();
    for item in answer["items"].as_array().expect("items") {
        if item["verdict"] == "will-apply" {
            let answers = item["answers"].as_array().into_iter().flatten();
            let (written, told) = effects.entry(item["key"].as_str().expect("a key").to_owned()).or_default();
            *written += item["changes"]["journal"].as_i64().unwrap_or_default();
            *told += answers.filter(|answer| answer["type"] == "order-reserved").map(|_| 1).sum::<i64>();
        }
    }
    effects
}

/// What came of them between two looks.
fn between(before: &Effects, after: &Effects) -> Effects {
    let of = |key: &String| before.get(key).copied().unwrap_or_default();
    let came = after.iter().map(|(key, (written, told))| (key.clone(), (written - of(key).0, told - of(key).1)));
    came.filter(|(_, came)| *came != (0, 0)).collect()
}

/// Everything that a dry run could have changed.
async fn everything(desk: &Desk) -> Vec<i64> {
    let mut counts = Vec::new();
    for sql in [
        "SELECT count(*) FROM journal",
        "SELECT count(*) FROM outbox",
        "SELECT count(*) FROM kept_answers",
        "SELECT count(*) FROM inbox",
        "SELECT count(*) FROM replays",
        "SELECT coalesce(sum(hashtext(inbox::text)), 0)::bigint FROM inbox",
        "SELECT coalesce(sum(hashtext(dead_letters::text)), 0)::bigint FROM dead_letters",
        "SELECT last_value FROM outbox_id_seq",
    ] {
        counts.push(desk.count(sql).await);
    }
    counts
}

#[actix_web::test]
async fn a_dry_run_of_a_hundred_predicts_what_then_happens_a_hundred_times() {
    let desk = Desk::open().await;
    let moods = [
        Mood::Fine,
        Mood::Answers,
        Mood::AnswersAndIsNonsense,
        Mood::AnswersAndBreaks,
        Mood::Panics,
        Mood::SwallowsAnError,
        Mood::AnswersTooMuch,
        Mood::Answers,
    ];
    let toys = (0..).zip(moods.iter().cycle()).take(80).map(|(n, mood)| Toy::new(&format!("bear-{n}"), n, *mood));
    let (_, mut letters) = desk.bury_toys(toys).await;
    let late: Vec<Record> = (0..6).map(|n| desk.record(&event(LateToy { key: format!("late-{n}") }))).collect();
    letters.extend(desk.bury(&late).await);
    let coins: Vec<Record> = (0..4).map(|n| desk.record(&event(Coin { key: format!("kim-{n}"), n }))).collect();
    letters.extend(desk.bury(&coins).await);
    for n in 0..5 {
        let toy = event(answering(n));
        let text = String::from_utf8(envelope::encode(&toy).unwrap()).unwrap();
        let text = text.replace("order-created:1", "order-created:2").into_bytes();
        let value = if n % 2 == 0 { text } else { vec![0xff, 0] };
        let unreadable = Record { value: Some(value), ..desk.record(&toy) };
        desk.deliver(std::slice::from_ref(&unreadable)).await;
        letters.push(desk.letter_at(&unreadable).await);
    }
    let (_, applied) = desk.bury_toys((200..205).map(answering)).await;
    let replay = desk.replay(json!({"ids": applied, "reason": "before"})).await;
    desk.finish(&replay, OWN).await;
    letters.extend(applied);
    assert_eq!(letters.len(), 100);

    let before = everything(&desk).await;
    let foretold = desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await;
    assert_eq!((foretold.status, &foretold.body["total"], &foretold.body["lookedAt"]), (200, &json!(100), &json!(100)));
    let expected = json!({
        "will-apply": 34, "will-fail": 50, "order-already-cancelled": 6, "cannot-be-decoded": 2, "newer-version": 3,
        "already-applied": 5,
    });
    assert_eq!(foretold.body["verdicts"], expected);
    assert_eq!(everything(&desk).await, before, "nothing was changed");
    let verdicts = verdicts(&foretold.body);
    let effects_before = effects(&desk).await;

    // In an order in which it doesn't halt, as most of it fails.
    let mut right = 0;
    for group in [true, false] {
        let ids: Vec<_> = letters.iter().filter(|id| is_good(&verdicts[*id]) == group).collect();
        for ids in ids.chunks(3) {
            let replay = desk.replay(json!({"ids": ids, "ratePerSecond": 10_000, "reason": "for real"})).await;
            let ended = desk.finish(&replay, OWN).await;
            if ended["state"] == "HALTED" {
                let left: Vec<String> = left_of(&desk, &replay.id()).await;
                for id in left {
                    let replay = desk.replay(json!({"ids": [id], "reason": "the rest"})).await;
                    desk.finish(&replay, OWN).await;
                }
            }
        }
    }
    for (id, verdict) in &verdicts {
        let one = desk.get(&format!("/admin/dead-letters/{id}")).await.body;
        let outcome = (one["state"].as_str().expect("a state"), one["closedAt"].is_string());
        let expected = if is_good(verdict) { ("REPLAYED", true) } else { ("DEAD", false) };
        assert_eq!(outcome, expected, "{verdict}: {one}");
        right += 1;
    }
    assert_eq!(right, 100);
    let came = between(&effects_before, &effects(&desk).await);
    assert_eq!(came, foretold_effects(&foretold.body), "answers and rows, too, event by event");
    assert_eq!(came.values().map(|(_, told)| told).sum::<i64>(), 20, "of those toys that answer");
    assert_eq!(desk.count("SELECT count(*) FROM journal").await, 30 + 4 + 5, "toys, coins, and those before");
}

fn is_good(verdict: &str) -> bool {
    ["will-apply", "changes-nothing", "order-already-cancelled", "already-applied"].contains(&verdict)
}

async fn left_of(desk: &Desk, replay: &str) -> Vec<String> {
    let client = desk.pool().get().await.expect("a connection");
    let sql = "SELECT dead_letter_id::text FROM replay_items WHERE replay_id = $1::text::uuid AND state = 'WAITING'";
    client.query(sql, &[&replay]).await.expect("items").iter().map(|row| row.get(0)).collect()
}

#[actix_web::test]
async fn it_shows_what_would_be_published_and_written() {
    let desk = Desk::open().await;
    let (events, letters) = desk.bury_toys([answering(1)]).await;
    let foretold = desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await.body;
    assert_eq!(
        foretold["items"],
        json!([{
            "id": letters[0], "eventId": events[0].uuid(), "topic": "order-created",
            "key": "bear-1", "keyEncoding": "text",
            "verdict": "will-apply", "answers": [{"type": "order-reserved"}], "changes": {"journal": 1},
        }])
    );
}

#[actix_web::test]
async fn a_fault_that_is_switched_on_is_foretold() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    desk.break_everything().await;
    let foretold = desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await.body;
    assert_eq!(foretold["items"][0]["verdict"], "will-fail");
    assert!(foretold["items"][0]["detail"].as_str().unwrap().contains("injected-fault"), "{foretold}");
}

#[actix_web::test]
async fn what_cannot_go_to_the_origin_is_said_record_by_record() {
    let desk = Desk::open().await;
    let (_, mut letters) = desk.bury_toys([answering(1), answering(2), answering(3)]).await;
    letters.extend(desk.bury(&[desk.record(&event(Coin { key: "kim".to_owned(), n: 1 }))]).await);
    let rubbish = Record { value: Some(b"rubbish".to_vec()), ..desk.record(&event(answering(3))) };
    desk.deliver(std::slice::from_ref(&rubbish)).await;
    letters.push(desk.letter_at(&rubbish).await);
    desk.discard(json!({"ids": [letters[0]], "reason": "r"})).await;
    desk.discard(json!({"ids": [letters[1]], "purgePayload": true, "reason": "r"})).await;
    let asked = json!({"ids": letters, "to": "origin", "dryRun": true, "reason": "what if"});
    let verdicts = verdicts(&desk.replay(asked).await.body);
    let of = |place: usize| &*verdicts[&letters[place]];
    assert_eq!(of(0), "discarded");
    assert_eq!(of(1), "discarded");
    assert_eq!(of(2), "will-apply");
    assert_eq!(of(3), "cannot-go-to-origin");
    assert_eq!(of(4), "cannot-go-to-origin");
}

#[actix_web::test]
async fn a_lock_that_somebody_holds_is_not_waited_for_long() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1), answering(2)]).await;
    let mut client = desk.pool().get().await.expect("a connection");
    let holding = client.transaction().await.expect("a transaction");
    holding.batch_execute("LOCK TABLE journal IN EXCLUSIVE MODE").await.expect("a lock");
    let begun = std::time::Instant::now();
    let foretold = desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await.body;
    assert_eq!(foretold["verdicts"], json!({"busy": 2}));
    assert!(begun.elapsed().as_secs() < 10, "{:?}", begun.elapsed());
    holding.rollback().await.expect("free");
    let foretold = desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await.body;
    assert_eq!(foretold["verdicts"], json!({"will-apply": 2}));
}

#[actix_web::test]
async fn it_stands_in_the_audit_log() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    desk.replay(json!({"ids": letters, "dryRun": true, "reason": "what if"})).await;
    let audit = desk.get("/admin/audit?action=dry-run").await;
    assert_eq!(audit.items()[0]["reason"], "what if");
    assert_eq!(audit.items()[0]["detail"]["verdicts"], json!({"will-apply": 1}));
}
