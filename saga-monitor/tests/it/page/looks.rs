//! What is shown: of whom, of what is away, of what means harm.

use chrono::TimeDelta;
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;
use wiremock::ResponseTemplate;

use super::{Shown, pages, with_query};
use crate::{
    story::Story,
    watch::{STUCK_AFTER, Watch},
};

/// What somebody would like a browser to run.
const HOSTILE: &str = "</pre><script>alert(1)</script><img src=x onerror=alert(2)>\"'><svg onload=alert(3)>";

fn is_harmless(html: &str) {
    for harm in ["<script>alert", "<img src=x", "<svg onload"] {
        assert!(!html.contains(harm), "{harm} in {html}");
    }
}

fn letter(id: Uuid) -> serde_json::Value {
    json!({
        "id": id, "state": "DEAD", "topic": "order-line-placed", "partition": 0, "offset": 7, "key": HOSTILE,
        "eventId": Uuid::now_v7(), "eventType": HOSTILE, "errorClass": HOSTILE, "errorMessage": HOSTILE, "attempts": 7,
        "firstFailedAt": "2026-11-21T06:00:00Z", "lastFailedAt": "2026-11-21T06:05:00Z", "payloadBytes": 90,
        "payload": HOSTILE, "payloadEncoding": "text",
        "headers": [{"name": HOSTILE, "value": HOSTILE, "encoding": "text"}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_opens_and_carries_what_protects_it_also_while_all_services_are_away() {
    let watch = Watch::begin().await;
    let story = Story::of_a_compensated_order();
    watch.hear_all(&story).await;
    let id = story.order.to_string().parse().expect("a UUID");
    for path in pages(id).into_iter().filter(|path| !path.starts_with("/find") && !path.contains("-service/")) {
        let shown = watch.page(&path).await;
        let policy = shown.header("content-security-policy");
        assert!(policy.contains("script-src 'self'") && !policy.contains("unsafe"), "{path}: {policy}");
        assert!(policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{path}: {policy}");
        assert_eq!(shown.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(shown.header("cache-control"), "no-store", "{path}");
        for inline in [" style=", "<style", "onclick=", "javascript:", "<script>", "http-equiv"] {
            assert!(!shown.html.contains(inline), "{path} has {inline}");
        }
        for (_, rest) in shown.html.match_indices("src=\"").map(|(at, found)| (at, &shown.html[at + found.len()..])) {
            assert!(rest.starts_with("/assets/"), "{path} loads {}", &rest[..40.min(rest.len())]);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn assets_are_kept_for_good_by_an_address_that_changes_with_them() {
    let watch = Watch::begin().await;
    let page = watch.page("/").await;
    let named: Vec<&str> = page.html.split('"').filter(|part| part.starts_with("/assets/")).collect();
    assert_eq!(named.len(), 5, "{named:?}");
    for address in named {
        let (path, version) = address.split_once("?v=").expect(address);
        let (now, tag) = (watch.page(address).await, format!("\"{version}\""));
        assert_eq!(now.header("cache-control"), "public, max-age=31536000, immutable", "{address}");
        assert_eq!(now.header("etag"), tag, "{address}");
        // A page of the release before or after, or somebody who looks by hand.
        for other in [path.to_owned(), format!("{path}?v=0123")] {
            let other = watch.page(&other).await;
            assert_eq!((other.header("cache-control"), other.header("etag")), ("no-cache", &*tag), "{address}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_away_is_named_where_it_would_have_said_something() {
    let watch = Watch::begin().await;
    watch.others_answer("/admin/dead-letters", ResponseTemplate::new(503)).await;
    for path in ["/", "/dead-letters", "/audit", "/replays"] {
        watch.page(path).await.shows("payment-service");
    }
    let id = Uuid::now_v7();
    watch.others_answer(&format!("/admin/dead-letters/{id}"), ResponseTemplate::new(500)).await;
    watch.page(&format!("/dead-letters/payment-service/{id}")).await.shows("payment-service refuses to say it (500)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_hangs_holds_nobody_up_for_long() {
    let watch = Watch::begin().await;
    let late =
        ResponseTemplate::new(200).set_body_json(json!({"items": []})).set_delay(std::time::Duration::from_secs(9));
    watch.others_answer("/admin/dead-letters/groups", late).await;
    let began = std::time::Instant::now();
    watch.page("/").await.shows("payment-service does not answer (nothing within 1 s).");
    assert!(began.elapsed() < std::time::Duration::from_secs(4), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_letters_is_text() {
    let watch = Watch::begin().await;
    let id = Uuid::now_v7();
    watch
        .others_answer(&format!("/admin/dead-letters/{id}"), ResponseTemplate::new(200).set_body_json(letter(id)))
        .await;
    let list = json!({"items": [letter(id)]});
    watch.others_answer("/admin/dead-letters", ResponseTemplate::new(200).set_body_json(list)).await;
    let group = json!({"items": [{
        "errorClass": HOSTILE, "topic": HOSTILE, "count": 1,
        "firstFailedAt": "2026-11-21T06:00:00Z", "lastFailedAt": "2026-11-21T06:05:00Z",
    }]});
    watch.others_answer("/admin/dead-letters/groups", ResponseTemplate::new(200).set_body_json(group)).await;
    let entry = json!({"items": [{
        "id": id, "at": "2026-11-21T06:00:00Z", "who": HOSTILE, "action": HOSTILE, "subject": {HOSTILE: HOSTILE},
        "reason": HOSTILE, "result": HOSTILE, "detail": {"x": HOSTILE}, "traceId": HOSTILE,
    }]});
    watch.others_answer("/admin/audit", ResponseTemplate::new(200).set_body_json(entry)).await;
    for path in ["/dead-letters".to_owned(), format!("/dead-letters/product-service/{id}"), "/audit".to_owned()] {
        let shown = watch.page(&path).await;
        shown.shows("&#60;script&#62;alert(1)");
        is_harmless(&shown.html);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_text_in_events_and_questions_is_text() {
    let watch = Watch::begin().await;
    let mut story = Story::of(&["tea"]).created();
    story.told[0].value = serde_json::to_vec(&json!({"specversion": HOSTILE})).expect("JSON");
    let record = watch.record("order-created", HOSTILE, &story.told[0].value, story.told[0].at);
    watch.hear(&[record]).await;
    let found = watch.get("/api/sagas").await;
    let key = found["items"][0]["key"].as_str().expect("a key").to_owned();
    let path = watch.page("/sagas").await.html;
    is_harmless(&path);
    let link = path.split("href=\"").find_map(|rest| rest.strip_prefix("/sagas/")?.split_once('"')).expect("a link").0;
    let saga = watch.page(&format!("/sagas/{link}")).await;
    is_harmless(&saga.html);
    assert!(saga.html.contains("specversion"), "{key}: {}", saga.html);
    for field in ["key", "traceId", "from", "type"] {
        let asked = watch.ask(Method::GET, &with_query("/events", &[(field, HOSTILE)]));
        is_harmless(&Shown::of(asked).await.html);
    }
    is_harmless(&Shown::of(watch.ask(Method::GET, &with_query("/where", &[("event", HOSTILE)]))).await.html);
    is_harmless(&Shown::of(watch.ask(Method::GET, &with_query("/sagas", &[("olderThan", HOSTILE)]))).await.html);
    is_harmless(&Shown::of(watch.ask(Method::GET, &format!("/sagas/{link}x"))).await.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_question_is_answered_by_a_page_that_says_so() {
    let watch = Watch::begin().await;
    let (far, nothing) = ([("from", "-200000-01-01T00:00:00Z")], [("key", "\0")]);
    for (path, status, says) in [
        (with_query("/events", &far), 200, "A time looks like"),
        (with_query("/events", &nothing), 200, "Nothing happened"),
        (with_query("/find", &[("q", "\0")]), 303, ""),
        ("/sagas?cursor=AAAA".to_owned(), 400, "That can&#39;t be done"),
        ("/sagas?state=HAPPY".to_owned(), 400, "That can&#39;t be done"),
        ("/sagas?limit=0".to_owned(), 400, "That can&#39;t be done"),
        ("/sagas/%00".to_owned(), 404, "There is nothing here"),
        ("/dead-letters?service=nobody".to_owned(), 404, "There is nothing here"),
        ("/dead-letters/nobody/x".to_owned(), 404, "There is nothing here"),
        ("/consumers?group=nobody".to_owned(), 404, "There is nothing here"),
    ] {
        let shown = Shown::of(watch.ask(Method::GET, &path)).await;
        assert_eq!(shown.status, status, "{path}: {}", shown.html);
        assert!(shown.html.contains(says) && !shown.header("content-security-policy").is_empty(), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_that_asks_for_what_is_not_there_gets_a_page_and_a_program_gets_json() {
    const ACCEPTED: &str = "text/html,application/xhtml+xml,*/*;q=0.8";
    let watch = Watch::begin().await;
    let of_browser =
        async |method: &Method, path: &str| Shown::of(watch.ask(method.clone(), path).header("Accept", ACCEPTED)).await;
    for (method, path, status) in [
        (Method::GET, "/nothing", 404),
        (Method::GET, "/sagas/1/2/3", 404),
        (Method::GET, "/assets/nothing.css", 404),
        (Method::POST, "/favicon.ico", 405),
        (Method::GET, "/apiary", 404),
    ] {
        let allowed = if status == 405 { "GET, HEAD" } else { "" };
        let shown = of_browser(&method, path).await;
        assert_eq!((shown.status, shown.header("content-type")), (status, "text/html; charset=utf-8"), "{path}");
        assert!(shown.html.contains("<h1>") && !shown.header("content-security-policy").is_empty(), "{path}");
        assert!(!shown.header("x-trace-id").is_empty(), "{path}");
        assert_eq!(shown.header("allow"), allowed, "{path}");
        let told = Shown::of(watch.ask(method, path)).await;
        assert_eq!((told.status, told.header("content-type")), (status, "application/problem+json"), "{path}");
        assert_eq!(told.header("allow"), allowed, "{path}");
    }
    // Opened again where a button was pressed.
    for path in ["/sign-out", "/alarms/0190163d-8694-739b-aea5-966c26f8ad91/ack"] {
        let shown = of_browser(&Method::GET, path).await;
        assert_eq!((shown.status, shown.header("content-type")), (405, "text/html; charset=utf-8"), "{path}");
        assert_eq!(shown.header("allow"), "POST", "{path}");
    }
    for path in ["/api/nothing", "/api", "/admin/nothing", "/api/sagas/nothing"] {
        let told = of_browser(&Method::GET, path).await;
        assert_eq!((told.status, told.header("content-type")), (404, "application/problem+json"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_said_while_kafka_is_away_can_be_asked_for_later() {
    let watch = Watch::begin().await;
    let told = Shown::of(watch.ask(Method::GET, "/api/consumers")).await;
    assert_eq!((told.status, told.header("retry-after")), (503, "2"), "{}", told.html);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_saga_says_why_where_its_event_lies_and_what_helps() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let story = Story::of(&["tea"]).created().placed();
    watch.hear_all(&story).await;
    watch.others_say(story.id_of("order-line-placed"), "applied", json!({})).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let overview = watch.page("/").await;
    overview.shows("product-service has handled order-line-placed, but its stock-deducted is on no topic");
    overview.shows(&format!("href=\"/sagas/{}\"", story.order));
    let saga = watch.page(&format!("/sagas/{}", story.order)).await;
    saga.shows("Stuck: the answer got lost");
    saga.shows("Waits for <code>stock-deducted</code> from <strong>product-service</strong>");
    saga.shows("product-service has <code>order-line-placed</code>");
    saga.shows("<button class=\"primary\">Resume</button>");
    saga.shows("<g class=\"step stuck\"><title>deduct stock: stuck");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_event_leads_to_its_letter_and_not_to_a_resume() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let story = Story::of(&["tea"]).created().placed();
    watch.hear_all(&story).await;
    let dead = Uuid::now_v7();
    watch.others_say(story.id_of("order-line-placed"), "dead", json!({"deadLetterId": dead})).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let saga = watch.page(&format!("/sagas/{}", story.order)).await;
    saga.shows(&format!("href=\"/dead-letters/product-service/{dead}\">Open the dead letter"));
    saga.shows("Now it would be refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_are_found_by_what_one_has_and_go_on_page_by_page() {
    let watch = Watch::begin().await;
    let mut last = None;
    for minutes in 0..5 {
        let mut story = Story::of(&["tea"]);
        story.next_at += TimeDelta::minutes(minutes);
        let story = story.created();
        watch.hear_all(&story).await;
        last = Some(story);
    }
    let story = last.expect("five");
    let first = watch.page("/sagas?limit=3").await.html;
    assert_eq!(first.matches("<tr").count(), 4, "three and the head");
    let next = first.split("rel=\"next\"").next().and_then(|before| before.rsplit("href=\"").next()).expect("a link");
    let next = next.split('"').next().expect("a path").replace("&#38;", "&");
    assert_eq!(watch.page(&next).await.html.matches("<tr").count(), 3, "two and the head");
    let sends_to = async |what: String| {
        let found = Shown::of(watch.ask(Method::GET, &with_query("/find", &[("q", &what)]))).await;
        found.header("location").to_owned()
    };
    assert_eq!(sends_to(story.order.to_string()).await, format!("/sagas/{}", story.order));
    assert_eq!(sends_to(story.trace.trace_id.to_string()).await, format!("/sagas/{}", story.trace.trace_id));
    let event = story.id_of("order-created");
    assert_eq!(sends_to(event.to_string()).await, format!("/where?event={event}"));
    assert_eq!(sends_to("kim".to_owned()).await, "/events?key=kim");
    let capitals = |id: &dyn std::fmt::Display| id.to_string().to_uppercase();
    assert_eq!(sends_to(capitals(&story.order)).await, format!("/sagas/{}", story.order));
    assert_eq!(sends_to(capitals(&story.trace.trace_id)).await, format!("/sagas/{}", story.trace.trace_id));
    assert_eq!(sends_to(capitals(&event)).await, format!("/where?event={event}"));
    watch.page(&format!("/sagas/{}", capitals(&story.order))).await.shows(&story.order.to_string());
}
