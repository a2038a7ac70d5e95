//! What buttons do: the services are asked as the operator who pressed them, and what they say is shown.

use reqwest::Method;
use serde_json::{Value, json};
use uuid::Uuid;
use wiremock::{
    Mock, ResponseTemplate,
    matchers::{body_partial_json, header, method, path},
};

use super::Shown;
use crate::{
    story::Story,
    watch::{STUCK_AFTER, Watch},
};

impl Watch {
    /// A call that a service has to get, as olga and so.
    async fn others_take(&self, at: &str, body: Value, answer: ResponseTemplate) {
        let asked = Mock::given(method("POST")).and(path(at)).and(header("x-user-id", "olga"));
        asked.and(body_partial_json(body)).respond_with(answer).expect(1).mount(&self.others).await;
    }
}

fn replay(id: Uuid) -> Value {
    json!({
        "id": id, "state": "RUNNING", "to": "group", "selection": {"ids": [id]}, "ratePerSecond": 5, "reason": "mended",
        "askedBy": "olga", "askedAt": "2026-11-21T06:00:00Z", "total": 4, "waiting": 1, "skipped": 0, "onTheWay": 1,
        "applied": 2, "deadAgain": 0,
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_goes_to_the_service_as_who_asked_and_leads_to_its_progress() {
    let watch = Watch::begin().await;
    let (letter, id) = (Uuid::now_v7(), Uuid::now_v7());
    let body = json!({"ids": [letter], "to": "group", "dryRun": false, "ratePerSecond": 5, "reason": "mended"});
    let answer = ResponseTemplate::new(202).set_body_json(replay(id));
    watch.others_take("/admin/dead-letters/replay", body, answer).await;
    let form =
        [("letter", &*letter.to_string()), ("to", "group"), ("rate", "5"), ("reason", "mended"), ("act", "replay")];
    let sent = watch.send("/dead-letters/product-service/replay", &form).await;
    let progress = format!("/replays/product-service/{id}");
    assert_eq!((sent.status, sent.header("location")), (303, &*progress));

    watch.others_answer(&format!("/admin/replays/{id}"), ResponseTemplate::new(200).set_body_json(replay(id))).await;
    let shown = watch.page(&progress).await;
    shown.shows("<progress max=\"100\" value=\"50\"");
    shown.shows("hx-trigger=\"every 1s\"");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_of_a_filter_says_what_would_come_of_it() {
    let watch = Watch::begin().await;
    let body = json!({"filter": {"state": "DEAD", "errorClass": "panic"}, "dryRun": true});
    let foretold = json!({
        "dryRun": true, "total": 2, "lookedAt": 2, "verdicts": {"will-apply": 1, "will-fail": 1},
        "items": [
            {"id": Uuid::now_v7(), "topic": "order-created", "key": "k", "verdict": "will-apply",
             "answers": [{"type": "coupon-used"}], "changes": {"coupons": 1}},
            {"id": Uuid::now_v7(), "topic": "order-created", "verdict": "will-fail", "detail": "it <panics>"},
        ],
    });
    let answer = ResponseTemplate::new(200).set_body_json(foretold);
    watch.others_take("/admin/dead-letters/replay", body, answer).await;
    let form = [("state", "DEAD"), ("errorClass", "panic"), ("reason", "to see"), ("act", "dry-run")];
    let shown = watch.send("/dead-letters/coupon-service/replay", &form).await;
    assert_eq!(shown.status, 200);
    for text in ["nothing was changed", "will apply", "coupon-used", "it &#60;panics&#62;", "Replay them now"] {
        shown.shows(text);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_discard_says_how_many_and_a_refusal_why_with_its_status() {
    let watch = Watch::begin().await;
    let letter = Uuid::now_v7().to_string();
    let body = json!({"ids": [letter], "purgePayload": true, "reason": "no use"});
    let closed = json!({"discarded": 1, "discardedBefore": 0, "purged": 1});
    watch.others_take("/admin/dead-letters/discard", body, ResponseTemplate::new(200).set_body_json(closed)).await;
    let form = [("letter", &*letter), ("reason", "no use"), ("purge", "yes")];
    watch.send("/dead-letters/product-service/discard", &form).await.shows("1 discarded");

    let problem = json!({"code": "invalid-field", "detail": "Say why: it stands in the audit log."});
    let refused = ResponseTemplate::new(422).set_body_json(problem);
    watch.others_take("/admin/dead-letters/discard", json!({"reason": ""}), refused).await;
    let shown = watch.send("/dead-letters/product-service/discard", &[("letter", &*letter), ("reason", "")]).await;
    assert_eq!(shown.status, 422);
    shown.shows("Nothing was done: Say why");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_acknowledged_by_who_pressed_the_button() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let alarm = watch.get("/api/alarms").await["items"][0]["id"].as_str().expect("an id").to_owned();
    let sent = watch.send(&format!("/alarms/{alarm}/ack"), &[]).await;
    assert_eq!((sent.status, sent.header("location")), (303, "/"));
    watch.page("/").await.shows("olga looks after it");
}

#[tokio::test(flavor = "multi_thread")]
async fn sagas_that_are_stuck_for_one_reason_are_one_card_and_looked_after_by_one_click() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let (one, other) = (Story::of(&["tea"]).created().placed(), Story::of(&["tea"]).created().placed());
    for story in [&one, &other] {
        watch.hear_all(story).await;
        watch.others_say(story.id_of("order-line-placed"), "dead", json!({"deadLetterId": Uuid::now_v7()})).await;
    }
    watch.round_at(other.last_at() + STUCK_AFTER * 2).await;
    assert_eq!(watch.alarms("stuck").await.len(), 2);
    let overview = watch.page("/").await;
    assert_eq!(overview.html.matches("<article").count(), 1, "{}", overview.html);
    overview.shows("2 sagas");
    let field = |name: &str| {
        let rest = overview.html.split(name).nth(1).expect(name);
        rest.split(['"', '/']).next().expect("a value").to_owned()
    };
    let (first, more) = (field("action=\"/alarms/"), field("name=\"more\" value=\""));
    assert_eq!(watch.send(&format!("/alarms/{first}/ack"), &[("more", &more)]).await.status, 303);
    assert_eq!(watch.alarms("stuck").await, [], "both are looked after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resume_that_is_refused_says_why_and_keeps_what_was_written() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    let resume = format!("/sagas/{}/resume", story.order);
    let shown = watch.send(&resume, &[("reason", "")]).await;
    assert_eq!(shown.status, 422);
    shown.shows("Not resumed: Say why: it stands in the audit log.");
    // Kafka is nowhere in these tests: where the event lies can't be decided.
    let shown = watch.send(&resume, &[("reason", "it stands \"still\"")]).await;
    assert_eq!((shown.status, shown.header("retry-after")), (503, "2"));
    shown.shows("Not resumed: Kafka doesn&#39;t answer just now.");
    shown.shows("value=\"it stands &#34;still&#34;\"");
    let nobody = Shown::of(watch.ask(Method::POST, &format!("/sagas/{}/resume", Uuid::now_v7()))).await;
    assert_eq!(nobody.status, 403, "not from a page of ours");
}
