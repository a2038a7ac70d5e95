//! Alarms are told to the webhook, each once, in order; also those of while it was down.

use chrono::TimeDelta;
use saga_monitor::webhook::Webhook;
use serde_json::Value;
use service_runtime::settings::Url;
use wiremock::{
    Mock, MockServer, ResponseTemplate,
    matchers::{body_string_contains, method},
};

use crate::{
    story::Story,
    watch::{STUCK_AFTER, Watch},
};

async fn takes(server: &MockServer, status: u16) {
    server.reset().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(status)).mount(server).await;
}

async fn told(server: &MockServer) -> Vec<String> {
    let requests = server.received_requests().await.expect("they are kept");
    let text =
        |body: &[u8]| serde_json::from_slice::<Value>(body).expect("JSON")["text"].as_str().expect("text").to_owned();
    requests.iter().map(|request| text(&request.body)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_webhook_does_not_take_is_kept_and_told_when_it_is_back() {
    let watch = Watch::begin().await;
    watch.relay_works().await;
    let server = MockServer::start().await;
    let webhook =
        Webhook::new(Url::parse(&server.uri()).expect("a URL"), watch.database.pool.clone()).expect("a client");
    assert!(!webhook.tell_next().await.expect("nothing to tell"));
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    let later = story.last_at() + STUCK_AFTER * 2;
    watch.round_at(later).await;
    takes(&server, 500).await;
    webhook.tell_next().await.expect_err("it isn't taken");
    webhook.tell_next().await.expect_err("nor the second time");
    assert_eq!(watch.count("notices").await, 1);
    let goes_on = Story { told: Vec::new(), next_at: later, ..story }.placed();
    watch.hear_all(&goes_on).await;
    watch.round_at(later + TimeDelta::seconds(1)).await;
    takes(&server, 200).await;
    while webhook.tell_next().await.expect("it is back") {}
    let told = told(&server).await;
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("[stuck] order-line-placed of order-service is on no topic"), "{told:?}");
    assert!(told[1].starts_with("[stuck] over: "), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_that_the_webhook_refuses_goes_behind_the_others() {
    let watch = Watch::begin().await;
    let server = MockServer::start().await;
    let webhook =
        Webhook::new(Url::parse(&server.uri()).expect("a URL"), watch.database.pool.clone()).expect("a client");
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    watch.round_at(story.last_at() + STUCK_AFTER * 2).await;
    let client = watch.database.pool.get().await.expect("a connection");
    client.execute("DELETE FROM notices", &[]).await.expect("others");
    for text in ["too much", &*"x".repeat(100_000), "last"] {
        let sql = "INSERT INTO notices (alarm_id, text) SELECT id, $1 FROM alarms";
        assert_eq!(client.execute(sql, &[&text]).await.expect("a notice"), 1);
    }
    Mock::given(body_string_contains("too much")).respond_with(ResponseTemplate::new(400)).mount(&server).await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&server).await;
    webhook.tell_next().await.expect_err("refused");
    assert!(webhook.tell_next().await.expect("taken") && webhook.tell_next().await.expect("taken"));
    let told = told(&server).await;
    assert_eq!(
        (told[1].len(), &*told[2]),
        (3_000, "last"),
        "the others, in their order, and no longer than a chat takes"
    );
    webhook.tell_next().await.expect_err("and it is told again");
}
