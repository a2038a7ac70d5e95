//! Looking: lists, one, groups, where an event stands; and who may.

use actix_web::http::Method;
use common_events::envelope;
use messaging::{Delivered, Record};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Desk, OWN, answering};
use crate::toys::{Coin, Mood, Toy, event};

fn ids(items: &[Value]) -> Vec<&str> {
    items.iter().map(|item| item["id"].as_str().expect("an id")).collect()
}

#[actix_web::test]
async fn dead_letters_are_listed_latest_first_page_by_page() {
    let desk = Desk::open().await;
    let (events, letters) = desk.bury_toys((0..5).map(answering)).await;
    let first = desk.get("/admin/dead-letters?limit=3").await;
    assert_eq!(ids(first.items()), [&letters[4], &letters[3], &letters[2]]);
    let cursor = first.body["nextCursor"].as_str().expect("there is more");
    let second = desk.get(&format!("/admin/dead-letters?limit=3&cursor={cursor}")).await;
    assert_eq!(ids(second.items()), [&letters[1], &letters[0]]);
    assert!(second.body.get("nextCursor").is_none());
    let one = &second.items()[1];
    assert_eq!(one["state"], "DEAD");
    assert_eq!((&one["topic"], &one["partition"], &one["offset"]), (&json!("order-created"), &json!(0), &json!(0)));
    assert_eq!((&one["key"], &one["keyEncoding"]), (&json!("bear-0"), &json!("text")));
    assert_eq!(one["eventId"], json!(events[0].uuid()));
    assert_eq!((&one["errorClass"], &one["attempts"]), (&json!("unprocessable"), &json!(1)));
}

#[actix_web::test]
async fn each_filter_finds_its_own_and_all_together_too() {
    let desk = Desk::open().await;
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    let lying = desk.record(&toy);
    let rubbish = Record { value: Some(b"rubbish".to_vec()), ..desk.record(&event(Toy::fine("fox", 2))) };
    let coin = desk.record(&event(Coin { key: "false".to_owned(), n: 3 }));
    for record in [&lying, &rubbish, &coin] {
        desk.deliver(std::slice::from_ref(record)).await;
    }
    let (toy_id, rubbish_id, coin_id) =
        (desk.letter_at(&lying).await, desk.letter_at(&rubbish).await, desk.letter_at(&coin).await);
    let trace = toy.trace.trace_id;
    for (query, expected) in [
        ("state=DEAD&topic=order-created".to_owned(), vec![&rubbish_id, &toy_id]),
        ("state=PARKED".to_owned(), vec![]),
        ("errorClass=undecodable".to_owned(), vec![&rubbish_id]),
        ("topic=point-charged".to_owned(), vec![&coin_id]),
        ("key=fox".to_owned(), vec![&rubbish_id]),
        ("key=ghost".to_owned(), vec![]),
        (format!("traceId={trace}"), vec![&toy_id]),
        (format!("eventId={}", toy.id), vec![&toy_id]),
        (format!("state=DEAD&errorClass=unprocessable&topic=order-created&key=bear&traceId={trace}"), vec![&toy_id]),
    ] {
        assert_eq!(ids(desk.get(&format!("/admin/dead-letters?{query}")).await.items()), expected, "{query}");
    }
}

#[actix_web::test]
async fn a_filter_that_cannot_be_is_refused_and_named() {
    let desk = Desk::open().await;
    for (query, field) in [
        ("state=dead", "state"),
        ("state=", "state"),
        ("traceId=42", "traceId"),
        ("eventId=42", "eventId"),
        ("key=a%00b", "key"),
        ("topic=", "topic"),
        ("limit=0", "limit"),
        ("cursor=nonsense", "cursor"),
        ("colour=red", "colour"),
    ] {
        assert_eq!(
            desk.get(&format!("/admin/dead-letters?{query}")).await.refusal(),
            (400, if field == "cursor" { "invalid-cursor" } else { "invalid-query" }, field),
            "{query}"
        );
    }
}

#[actix_web::test]
async fn one_shows_payload_and_headers_byte_for_byte_and_the_way_to_its_trace() {
    let desk = Desk::open().await;
    let toy = event(Toy::new("bear", 1, Mood::AnswersAndIsNonsense));
    let mut lying = desk.record(&toy);
    lying.headers = vec![("a".to_owned(), b"text".to_vec()), ("b".to_owned(), vec![0xff, 0]), ("a".to_owned(), vec![])];
    desk.deliver(std::slice::from_ref(&lying)).await;
    let one = desk.get(&format!("/admin/dead-letters/{}", desk.letter_at(&lying).await)).await.body;
    assert_eq!(one["payload"].as_str().map(str::as_bytes), lying.value.as_deref());
    assert_eq!((&one["payloadEncoding"], &one["payloadBytes"]), (&json!("text"), &json!(lying.value.unwrap().len())));
    let header = |name, value, encoding| json!({"name": name, "value": value, "encoding": encoding});
    let headers = [header("a", "text", "text"), header("b", "/wA=", "base64"), header("a", "", "text")];
    assert_eq!(one["headers"], json!(headers));
    let trace = toy.trace.trace_id.to_string();
    assert_eq!(one["traceId"], json!(trace));
    assert_eq!(one["traceUrl"], json!(format!("http://127.0.0.1:19411/zipkin/traces/{trace}")));
    assert_eq!(one["errorMessage"], "a toy that makes no sense");
}

#[actix_web::test]
async fn any_bytes_can_be_shown() {
    let desk = Desk::open().await;
    for (value, key) in [
        (Some(vec![0xff, 0xfe, 0]), Some(vec![0x80])),
        (Some(b"\0\x01\x1b[2J\"</script>".to_vec()), Some(b"nul\0".to_vec())),
        (Some("녹차".repeat(100_000).into_bytes()), None),
        (Some(Vec::new()), Some(Vec::new())),
        (None, Some(vec![b'k'; 70_000])),
    ] {
        let lying = Record { value, key, ..desk.record(&event(answering(1))) };
        assert_eq!(desk.deliver(std::slice::from_ref(&lying)).await, Delivered { dead: 1, ..Delivered::default() });
        let one = desk.get(&format!("/admin/dead-letters/{}", desk.letter_at(&lying).await)).await.body;
        let shown = |name: &str, encoding: &str| -> Option<Vec<u8>> {
            use base64::{Engine, prelude::BASE64_STANDARD};
            let text = one[name].as_str()?;
            Some(if one[encoding] == "text" { text.into() } else { BASE64_STANDARD.decode(text).expect("base64") })
        };
        assert_eq!(shown("payload", "payloadEncoding"), lying.value);
        assert_eq!(shown("key", "keyEncoding"), lying.key);
    }
    assert_eq!(desk.get("/admin/dead-letters").await.items().len(), 5);
}

#[actix_web::test]
async fn a_dead_letter_that_is_not_there_answers_404_as_does_a_malformed_id() {
    let desk = Desk::open().await;
    for id in [&*Uuid::now_v7().to_string(), "42", "%00", "replay"] {
        assert_eq!(desk.get(&format!("/admin/dead-letters/{id}")).await.status, 404, "{id}");
    }
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    let id: Uuid = letters[0].parse().expect("an id");
    assert_eq!(desk.get(&format!("/admin/dead-letters/{id}")).await.status, 200);
    for spelling in [id.simple().to_string(), id.urn().to_string(), format!("%7B{id}%7D")] {
        for path in ["dead-letters", "replays", "inbox"] {
            assert_eq!(desk.get(&format!("/admin/{path}/{spelling}")).await.status, 404, "{path} {spelling}");
        }
        assert_eq!(desk.get(&format!("/admin/dead-letters?eventId={spelling}")).await.status, 400, "{spelling}");
        for selection in [json!({"ids": [spelling]}), json!({"filter": {"eventId": spelling}})] {
            let mut asked = selection.clone();
            asked["reason"] = json!("another spelling");
            assert_eq!(desk.replay(asked.clone()).await.status, 422, "{selection}");
            assert_eq!(desk.discard(asked).await.status, 422, "{selection}");
        }
    }
    assert_eq!(desk.get("/admin/replays/42").await.status, 404);
    assert_eq!(desk.get("/admin/inbox/42").await.status, 404);
}

#[actix_web::test]
async fn an_id_is_asked_for_in_either_case_and_answered_in_lower_case() {
    let desk = Desk::open().await;
    let order = Uuid::now_v7().to_string();
    // A user may have a UUID in capitals for his own id.
    let user = Uuid::now_v7().to_string().to_uppercase();
    let (events, letters) = desk.bury_toys([&order, &user].map(|key| Toy::new(key, 1, Mood::Answers))).await;
    let (event, letter) = (events[0].to_string(), &letters[0]);
    let list = "/admin/dead-letters";
    for (query, found) in [
        (format!("{list}?key={}", order.to_uppercase()), letter),
        (format!("{list}?key={user}"), &letters[1]),
        (format!("{list}?eventId={}", event.to_uppercase()), letter),
    ] {
        assert_eq!(ids(desk.get(&query).await.items()), [found], "{query}");
    }
    let one = desk.get(&format!("{list}/{}", letter.to_uppercase())).await.body;
    assert_eq!((&one["id"], &one["eventId"], &one["key"]), (&json!(letter), &json!(event), &json!(order)));
    let trace = one["traceId"].as_str().expect("a trace").to_uppercase();
    assert_eq!(ids(desk.get(&format!("{list}?traceId={trace}")).await.items()), [letter]);
    let place = desk.get(&format!("/admin/inbox/{}", event.to_uppercase())).await.body;
    assert_eq!((&place["eventId"], &place["deadLetterId"]), (&json!(event), &json!(letter)));
    for selection in [json!({"ids": [letter.to_uppercase()]}), json!({"filter": {"key": order.to_uppercase()}})] {
        let mut asked = selection;
        asked["reason"] = json!("either case");
        asked["dryRun"] = json!(true);
        let foretold = desk.replay(asked).await;
        assert_eq!((foretold.status, &foretold.body["total"]), (200, &json!(1)), "{}", foretold.body);
    }
}

#[actix_web::test]
async fn groups_count_by_cause_and_topic_those_that_are_open() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..3).map(answering)).await;
    desk.deliver(&[desk.record(&event(Coin { key: "false".to_owned(), n: 3 }))]).await;
    assert_eq!(desk.discard(json!({"ids": [letters[0]], "reason": "a test"})).await.status, 200);
    let groups = desk.get("/admin/dead-letters/groups").await;
    let counts: Vec<_> =
        groups.items().iter().map(|group| json!([group["errorClass"], group["topic"], group["count"]])).collect();
    assert_eq!(counts, [json!(["unprocessable", "order-created", 2]), json!(["unprocessable", "point-charged", 1])]);
    let discarded = desk.get("/admin/dead-letters/groups?state=DISCARDED").await;
    assert_eq!(discarded.items()[0]["count"], 1);
    assert_eq!(desk.get("/admin/dead-letters/groups?state=PARKED").await.items(), &[] as &[Value]);
}

#[actix_web::test]
async fn where_an_event_stands_can_be_asked_at_each_of_its_places() {
    let desk = Desk::open().await;
    let place = async |id| {
        let answer = desk.get(&format!("/admin/inbox/{id}")).await;
        assert_eq!((answer.status, &answer.body["group"]), (200, &json!("order-service")));
        answer.body
    };
    let fresh = event(answering(1));
    assert_eq!(place(fresh.id).await["state"], "unread");
    desk.deliver(&[desk.record(&fresh)]).await;
    assert_eq!(place(fresh.id).await["state"], "applied");

    let head = event(Toy::new("fox", 1, Mood::AnswersAndBreaks));
    let follower = event(Toy::fine("fox", 2));
    let delivered = desk.deliver(&[desk.record(&head), desk.record(&follower)]).await;
    assert_eq!((delivered.retrying, delivered.waiting), (1, 1));
    let retrying = place(head.id).await;
    assert_eq!((&retrying["state"], &retrying["tier"]), (&json!("retrying"), &json!("retry-1")));
    assert!(retrying["dueAt"].is_string());
    let waiting = place(follower.id).await;
    assert_eq!((&waiting["state"], &waiting["behind"]), (&json!("waiting"), &json!(head.id.uuid())));

    let (events, letters) = desk.bury_toys([answering(2), answering(3)]).await;
    let dead = place(events[0]).await;
    assert_eq!((&dead["state"], &dead["deadLetterId"]), (&json!("dead"), &json!(letters[0])));
    desk.discard(json!({"ids": [letters[1]], "reason": "a test"})).await;
    assert_eq!(place(events[1]).await["state"], "discarded");

    let replay = desk.replay(json!({"ids": [letters[0]], "reason": "a test"})).await;
    let runner = desk.runner();
    test_support::eventually("it is sent", || async {
        (desk.count("SELECT count(*) FROM outbox WHERE topic = 'order-service.replay'").await == 1).then_some(())
    })
    .await;
    runner.stop().await.expect("in order");
    let sent = place(events[0]).await;
    assert_eq!((&sent["state"], &sent["tier"]), (&json!("retrying"), &json!("replay")));
    desk.finish(&replay, OWN).await;
    assert_eq!(place(events[0]).await["state"], "applied");
}

#[actix_web::test]
async fn what_could_not_be_read_is_dead_where_its_id_is_asked_for() {
    let desk = Desk::open().await;
    let toy = event(answering(1));
    let text =
        String::from_utf8(envelope::encode(&toy).unwrap()).unwrap().replace("order-created:1", "order-created:2");
    let lying = Record { value: Some(text.into_bytes()), ..desk.record(&toy) };
    desk.deliver(&[lying]).await;
    assert_eq!(desk.get(&format!("/admin/inbox/{}", toy.id)).await.body["state"], "dead");
}

#[actix_web::test]
async fn only_operators_get_in() {
    let desk = Desk::open().await;
    let id = Uuid::now_v7();
    for (method, uri) in [
        (Method::GET, "/admin/dead-letters".to_owned()),
        (Method::GET, format!("/admin/dead-letters/{id}")),
        (Method::GET, "/admin/dead-letters/groups".to_owned()),
        (Method::POST, "/admin/dead-letters/replay".to_owned()),
        (Method::POST, "/admin/dead-letters/discard".to_owned()),
        (Method::GET, "/admin/replays".to_owned()),
        (Method::GET, format!("/admin/replays/{id}")),
        (Method::POST, format!("/admin/replays/{id}/halt")),
        (Method::GET, format!("/admin/inbox/{id}")),
        (Method::GET, "/admin/audit".to_owned()),
        (Method::GET, "/admin/faults".to_owned()),
        (Method::PUT, "/admin/faults".to_owned()),
        (Method::DELETE, "/admin/faults".to_owned()),
    ] {
        assert_eq!(desk.call_as(&[], method.clone(), &uri, "{}").await.status, 401, "{method} {uri}");
        let customer = [("X-User-Id", "kim")];
        assert_eq!(desk.call_as(&customer, method.clone(), &uri, "{}").await.status, 403, "{method} {uri}");
    }
    let admin = [("X-User-Id", "lee"), ("X-Roles", "admin")];
    assert_eq!(desk.call_as(&admin, Method::GET, "/admin/dead-letters", "").await.status, 200, "an admin is one, too");
}

#[actix_web::test]
async fn the_calls_are_documented() {
    let desk = Desk::open().await;
    let api = desk.get("/openapi.json").await.body;
    for (path, method) in [
        ("/admin/dead-letters", "get"),
        ("/admin/dead-letters/{id}", "get"),
        ("/admin/dead-letters/groups", "get"),
        ("/admin/dead-letters/replay", "post"),
        ("/admin/dead-letters/discard", "post"),
        ("/admin/replays", "get"),
        ("/admin/replays/{id}", "get"),
        ("/admin/replays/{id}/halt", "post"),
        ("/admin/inbox/{eventId}", "get"),
        ("/admin/audit", "get"),
        ("/admin/faults", "put"),
    ] {
        let description = api["paths"][path][method]["summary"].as_str();
        assert!(description.is_some_and(|text| !text.is_empty()), "{method} {path}");
    }
}
