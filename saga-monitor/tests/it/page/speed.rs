//! Pages of ten thousand rows are as fast as pages of ten.

use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;
use wiremock::ResponseTemplate;

use crate::{story::Story, watch::Watch};

const ROWS: i32 = 10_000;
/// From the question to the last byte.
const AT_MOST: Duration = Duration::from_millis(300);

/// So many sagas like that one, over the last hours, and as many rows of the log.
async fn multiply(watch: &Watch, story: &Story) {
    let client = watch.database.pool.get().await.expect("a connection");
    let sagas = "INSERT INTO sagas (saga, type, key, trace_id, state, started_at, fact_at, waiting_event, waiting_from,
                                    doubts, marks, facts, stuck)
         SELECT saga || n, type, key || n, trace_id,
                (ARRAY['IN_PROGRESS', 'COMPLETED', 'COMPENSATING', 'COMPENSATED', 'FAILED'])[n % 5 + 1],
                now() - n * interval '2 seconds', fact_at, waiting_event, waiting_from, doubts, marks, facts, n % 7 = 0
         FROM sagas, generate_series(1, $1::int) AS n WHERE key = $2";
    client.execute(sagas, &[&ROWS, &story.order.to_string()]).await.expect("sagas");
    let log = r#"INSERT INTO saga_state_log (topic, "partition", "offset", key, trace_id, saga, step, status, event_id,
                     event_type, service, marks, occurred_at, written_at, recorded_at, payload)
         SELECT topic, "partition", 1000000 + n, key, trace_id, saga || n, step, status, gen_random_uuid(), event_type,
                service, marks, now() - n * interval '80 milliseconds', written_at, recorded_at, payload
         FROM saga_state_log, generate_series(1, $1::int) AS n WHERE topic = 'order-created'"#;
    client.execute(log, &[&ROWS]).await.expect("a log");
    client.batch_execute("ANALYZE").await.expect("statistics");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_ten_thousand_rows_open_within_three_hundred_milliseconds() {
    let watch = Watch::begin().await;
    let story = Story::of(&["tea"]).created();
    watch.hear_all(&story).await;
    multiply(&watch, &story).await;
    let letter = |_| {
        json!({
            "id": Uuid::now_v7(), "state": "DEAD", "topic": "order-created", "partition": 0, "offset": 7, "key": "tea",
            "errorClass": "panic", "errorMessage": "x".repeat(1_000), "attempts": 7,
            "firstFailedAt": "2026-11-21T06:00:00Z", "lastFailedAt": "2026-11-21T06:05:00Z",
        })
    };
    let letters = json!({"items": (0..50).map(letter).collect::<Vec<_>>(), "nextCursor": "WzFd"});
    watch.others_answer("/admin/dead-letters", ResponseTemplate::new(200).set_body_json(letters)).await;
    let pages = [
        "/".to_owned(),
        "/?range=24h".to_owned(),
        "/sagas?limit=200".to_owned(),
        "/sagas?state=COMPLETED&limit=200".to_owned(),
        "/sagas?stuck=true&olderThan=1m&limit=200".to_owned(),
        "/events?limit=200".to_owned(),
        "/events?type=order-created&limit=200".to_owned(),
        "/dead-letters?service=coupon-service".to_owned(),
        format!("/sagas/{}", story.order),
    ];
    for page in pages {
        // The first look prepares statements; the second is what somebody sees all day.
        watch.page(&page).await;
        let began = Instant::now();
        watch.page(&page).await;
        let took = began.elapsed();
        assert!(took <= AT_MOST, "{page} took {took:?}");
    }
}
