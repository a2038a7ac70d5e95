//! `sagactl dlt` (docs/contract.md §5).

use serde_json::{Value, json};
use wiremock::{
    Mock, MockServer, Request, ResponseTemplate,
    matchers::{body_partial_json, header, method, path, query_param},
};

use super::{NOBODY, at, err, out, sagactl, sagactl_as};

const LETTER: &str = "0190d3a8-5a4e-7000-8000-000000000001";

fn letter() -> Value {
    json!({
        "id": LETTER, "state": "DEAD", "topic": "payment-completed", "partition": 0, "offset": 7, "key": "order-1",
        "errorClass": "platform-unavailable", "errorMessage": "the platform can't take it now", "attempts": 9,
        "firstFailedAt": "2026-11-21T06:00:00Z", "lastFailedAt": "2026-11-21T06:12:00Z",
    })
}

fn problem(status: u16, code: &str) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(json!({ "status": status, "code": code, "detail": "so it is" }))
}

/// A service without dead letters.
async fn empty() -> MockServer {
    let service = MockServer::start().await;
    Mock::given(method("GET")).respond_with(problem(404, "not-found")).with_priority(9).mount(&service).await;
    Mock::given(method("POST")).respond_with(problem(404, "nothing-matches")).with_priority(9).mount(&service).await;
    for list in ["/admin/dead-letters", "/admin/dead-letters/groups", "/admin/replays"] {
        let nothing = ResponseTemplate::new(200).set_body_json(json!({ "items": [] }));
        Mock::given(method("GET")).and(path(list)).respond_with(nothing).with_priority(8).mount(&service).await;
    }
    service
}

/// A service with one dead letter.
async fn with_a_letter() -> MockServer {
    let service = empty().await;
    let answers = [
        ("/admin/dead-letters".to_owned(), json!({ "items": [letter()] })),
        (format!("/admin/dead-letters/{LETTER}"), letter()),
    ];
    for (at, answer) in answers {
        let answer = ResponseTemplate::new(200).set_body_json(answer);
        Mock::given(method("GET")).and(path(at)).respond_with(answer).mount(&service).await;
    }
    service
}

async fn posted(service: &MockServer) -> Vec<Value> {
    let requests: Vec<Request> = service.received_requests().await.expect("they are recorded");
    let posts = requests.iter().filter(|request| request.method.as_str() == "POST");
    posts.map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

#[tokio::test]
async fn a_service_that_is_away_is_named_and_the_others_are_shown() {
    let service = with_a_letter().await;
    let urls = at(&[("data-platform", &service.uri()), ("order-service", NOBODY)]);
    let table = sagactl(&urls, &["dlt", "list"]).await;
    assert_eq!(table.status.code(), Some(1));
    assert!(out(&table).contains(LETTER) && out(&table).contains("platform-unavailable"), "{}", out(&table));
    assert!(err(&table).contains("order-service: is away"), "{}", err(&table));

    let listed = sagactl(&urls, &["dlt", "list", "--json"]).await;
    let json: Value = serde_json::from_slice(&listed.stdout).expect("JSON, and nothing else");
    assert_eq!(json["services"]["data-platform"]["items"][0]["id"], LETTER);
    assert!(json["failed"]["order-service"].as_str().is_some_and(|why| why.contains("away")), "{json}");

    let only = sagactl(&urls, &["dlt", "list", "--service", "data-platform"]).await;
    assert_eq!(only.status.code(), Some(0));
}

#[tokio::test]
async fn a_list_asks_for_what_was_said_page_after_page_as_the_operator() {
    let service = MockServer::start().await;
    let asked = || {
        let asked = Mock::given(method("GET")).and(path("/admin/dead-letters"));
        asked.and(header("x-user-id", "olga")).and(header("x-roles", "operator")).and(query_param("state", "DEAD"))
    };
    let first = ResponseTemplate::new(200).set_body_json(json!({ "items": [letter()], "nextCursor": "two" }));
    let second = ResponseTemplate::new(200).set_body_json(json!({ "items": [letter()] }));
    asked().and(query_param("cursor", "two")).respond_with(second).with_priority(1).mount(&service).await;
    asked().and(query_param("errorClass", "panic")).respond_with(first).mount(&service).await;
    let arguments = ["dlt", "list", "--state", "dead", "--error-class", "panic", "--json"];
    let listed = sagactl(&at(&[("data-platform", &service.uri())]), &arguments).await;
    let json: Value = serde_json::from_slice(&listed.stdout).expect("JSON");
    assert_eq!(json["services"]["data-platform"]["items"].as_array().map(Vec::len), Some(2), "{json}");
}

#[tokio::test]
async fn with_a_token_it_is_the_token_that_says_who_asks() {
    let service = MockServer::start().await;
    let nothing = ResponseTemplate::new(200).set_body_json(json!({ "items": [] }));
    let believed = Mock::given(method("GET")).and(header("authorization", "Bearer abc"));
    believed.respond_with(nothing).mount(&service).await;
    let urls = at(&[("data-platform", &service.uri())]);
    let groups = sagactl_as(&[("OPERATOR_TOKEN", "abc")], &urls, &["dlt", "groups"]).await;
    assert_eq!(groups.status.code(), Some(0), "{}", err(&groups));
}

#[tokio::test]
async fn one_is_shown_by_whoever_has_it() {
    let (service, other) = (with_a_letter().await, empty().await);
    let urls = at(&[("order-service", &other.uri()), ("data-platform", &service.uri()), ("payment-service", NOBODY)]);
    let shown = sagactl(&urls, &["dlt", "show", LETTER]).await;
    assert_eq!(shown.status.code(), Some(0), "{}", err(&shown));
    assert!(out(&shown).contains("data-platform") && out(&shown).contains("order-1"), "{}", out(&shown));

    let unknown = sagactl(&at(&[("order-service", &other.uri())]), &["dlt", "show", LETTER]).await;
    assert_eq!(unknown.status.code(), Some(1));
    assert!(err(&unknown).contains("no service has"), "{}", err(&unknown));
    // It may be where nobody answers.
    let urls = at(&[("order-service", &other.uri()), ("payment-service", NOBODY)]);
    let unsure = sagactl(&urls, &["dlt", "show", LETTER]).await;
    assert!(err(&unsure).contains("payment-service: is away"), "{}", err(&unsure));
}

#[tokio::test]
async fn a_replay_goes_to_who_has_them_and_is_waited_for() {
    let (service, other) = (with_a_letter().await, empty().await);
    let replay = |applied: u32, dead: u32, ended: Option<&str>| {
        let mut replay = json!({
            "id": "r1", "state": "DONE", "total": 1, "waiting": 0, "skipped": 0,
            "onTheWay": 1 - applied - dead, "applied": applied, "deadAgain": dead,
        });
        if let Some(ended) = ended {
            replay["endedAt"] = ended.into();
        }
        replay
    };
    let asked = json!({ "ids": [LETTER], "to": "group", "dryRun": false, "ratePerSecond": 5, "reason": "it is back" });
    let accepted = Mock::given(method("POST")).and(path("/admin/dead-letters/replay")).and(body_partial_json(asked));
    accepted.respond_with(ResponseTemplate::new(202).set_body_json(replay(0, 0, None))).mount(&service).await;
    let look = || Mock::given(method("GET")).and(path("/admin/replays/r1"));
    let applied = ResponseTemplate::new(200).set_body_json(replay(1, 0, Some("2026-11-21T07:00:00Z")));
    look().respond_with(applied).up_to_n_times(1).mount(&service).await;
    let dead = ResponseTemplate::new(200).set_body_json(replay(0, 1, Some("2026-11-21T07:00:00Z")));
    look().respond_with(dead).with_priority(6).mount(&service).await;

    let urls = at(&[("order-service", &other.uri()), ("data-platform", &service.uri())]);
    let arguments = ["dlt", "replay", LETTER, "--rate", "5", "--reason", "it is back", "--wait", "10"];
    let done = sagactl(&urls, &arguments).await;
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
    assert_eq!(posted(&other).await, Vec::<Value>::new(), "only who has it is asked");
    let again = sagactl(&urls, &arguments).await;
    assert_eq!(again.status.code(), Some(1), "dead again is no success");

    let mut unknown = arguments;
    unknown[2] = "0190d3a8-5a4e-7000-8000-000000000002";
    let before = posted(&service).await.len();
    let refused = sagactl(&urls, &[&unknown[..], &[LETTER][..]].concat()).await;
    assert_eq!((refused.status.code(), posted(&service).await.len()), (Some(1), before), "all of them or none");
}

#[tokio::test]
async fn a_filter_asks_everybody_and_who_has_none_is_no_failure() {
    let (service, other) = (with_a_letter().await, empty().await);
    let foretold = json!({
        "dryRun": true, "total": 1, "lookedAt": 1,
        "items": [{ "id": LETTER, "topic": "payment-completed", "verdict": "will-apply" }],
    });
    let asked = json!({ "filter": { "errorClass": "platform-unavailable" }, "dryRun": true });
    let dry = Mock::given(method("POST")).and(path("/admin/dead-letters/replay")).and(body_partial_json(asked));
    dry.respond_with(ResponseTemplate::new(200).set_body_json(foretold)).mount(&service).await;
    let urls = at(&[("order-service", &other.uri()), ("data-platform", &service.uri())]);
    let arguments = ["dlt", "replay", "--error-class", "platform-unavailable", "--dry-run", "--reason", "a look"];
    let foretold = sagactl(&urls, &arguments).await;
    assert_eq!(foretold.status.code(), Some(0), "{}", err(&foretold));
    assert!(out(&foretold).contains("will-apply"), "{}", out(&foretold));

    let nothing = sagactl(&at(&[("order-service", &other.uri())]), &arguments).await;
    assert_eq!(nothing.status.code(), Some(1));
    assert!(err(&nothing).contains("no dead letter is like that"), "{}", err(&nothing));
}

#[tokio::test]
async fn a_discard_says_why() {
    let service = with_a_letter().await;
    let asked = json!({ "ids": [LETTER], "reason": "by hand", "purgePayload": true });
    let discard = Mock::given(method("POST")).and(path("/admin/dead-letters/discard")).and(body_partial_json(asked));
    let done = json!({ "discarded": 1, "discardedBefore": 0, "purged": 1 });
    discard.respond_with(ResponseTemplate::new(200).set_body_json(done)).mount(&service).await;
    let urls = at(&[("data-platform", &service.uri())]);
    let done = sagactl(&urls, &["dlt", "discard", LETTER, "--reason", "by hand", "--purge-payload"]).await;
    assert_eq!(done.status.code(), Some(0), "{}", err(&done));
}

#[tokio::test]
async fn what_makes_no_sense_is_a_question_of_usage() {
    for wrong in [
        &["dlt", "replay", "--reason", "everything"][..],
        &["dlt", "replay", LETTER],
        &["dlt", "replay", LETTER, "--topic", "payment-completed", "--reason", "both"],
        &["dlt", "replay", LETTER, "--reason", "x", "--rate", "0"],
        &["dlt", "discard", "--purge-payload", "--reason", "x"],
        &["dlt", "list", "--service", "nobody"],
        &["dlt", "list", "--state", "lost"],
    ] {
        let refused = sagactl(NOBODY, wrong).await;
        assert_eq!(refused.status.code(), Some(2), "{wrong:?}: {}", err(&refused));
    }
    let unreadable = sagactl("order-service", &["dlt", "list"]).await;
    assert_eq!(unreadable.status.code(), Some(1));
    assert!(err(&unreadable).contains("SERVICE_URLS holds"), "{}", err(&unreadable));
}
