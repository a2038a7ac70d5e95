//! The platform's calls, and those of whoever wants to see what it got.

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{self, Bytes, Data, Json, JsonConfig, PayloadConfig, Query, ServiceConfig},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json, value::RawValue};
use service_runtime::http::only;

use crate::{
    ledger::{Arrival, Counts, Incoming, Ledger, Wanted, text_of},
    mood::{Answer, Mood, Now, Told},
};

/// The largest body that is read, in bytes.
const MAX_BODY_BYTES: usize = 256 * 1024;
/// What is late answers after this.
const LATE: Duration = Duration::from_mins(1);
/// How many arrivals a list shows by default, and at most.
const LISTED: usize = 20;
const MAX_LISTED: usize = 1_000;

const CALLS: &str = "\
platform-receiver stands in for the outside platform that data-platform sends completed payments to.

  POST /payments    Idempotency-Key, and a paid order as JSON: 201 taken, 200 had it already,
                    422 the key came with another body before
  GET  /            how it stands, and what arrived last
  GET  /received    what arrived: ?idempotencyKey= &orderId= &userId= &limit= (20, at most 1000)
  GET  /mode        how it answers
  PUT  /mode        {\"answer\": \"takes\" | \"unavailable\" (503) | \"refuses\" (422) | \"late\" (takes it, answers after 60 s),
                     \"seconds\"?: for so long, \"userId\"?: only for his orders}
";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Asked {
    idempotency_key: Option<String>,
    order_id: Option<String>,
    user_id: Option<String>,
    limit: Option<usize>,
}

#[derive(Serialize)]
struct Listed {
    items: Vec<Arrival>,
}

#[derive(Serialize)]
struct Shown {
    mode: Now,
    counts: Counts,
    latest: Vec<Arrival>,
}

pub(crate) fn routes(config: &mut ServiceConfig, ledger: Data<Ledger>, mood: Data<Mood>) {
    config
        .app_data(ledger)
        .app_data(mood)
        .app_data(PayloadConfig::new(MAX_BODY_BYTES))
        // `curl -d` says nothing of JSON.
        .app_data(JsonConfig::default().content_type_required(false))
        .route("/payments", web::post().to(take_payment))
        .route("/", web::get().to(show))
        .route("/received", web::get().to(list))
        .route("/mode", web::get().to(show_mode))
        .route("/mode", web::put().to(set_mode))
        .route("/docs", web::get().to(async || HttpResponse::Ok().content_type("text/plain").body(CALLS)))
        .route("/health/live", web::get().to(async || HttpResponse::Ok().json(json!({ "status": "live" }))))
        .route("/health/ready", web::get().to(async || HttpResponse::Ok().json(json!({ "status": "ready" }))));
}

async fn take_payment(request: HttpRequest, body: Bytes, ledger: Data<Ledger>, mood: Data<Mood>) -> HttpResponse {
    let call = match incoming(&request, &body) {
        Ok(call) => call,
        Err(why) => return HttpResponse::BadRequest().json(json!({ "error": why })),
    };
    match mood.answer_for(call.user_id.as_deref()) {
        Answer::Takes => answer(ledger.take(call)),
        Answer::Unavailable => turn_away(&ledger, call, StatusCode::SERVICE_UNAVAILABLE),
        Answer::Refuses => turn_away(&ledger, call, StatusCode::UNPROCESSABLE_ENTITY),
        Answer::Late => {
            let status = ledger.take(call);
            tokio::time::sleep(LATE).await;
            answer(status)
        }
    }
}

fn turn_away(ledger: &Ledger, call: Incoming, status: StatusCode) -> HttpResponse {
    ledger.turn_away(call, status.as_u16());
    HttpResponse::build(status).json(json!({ "error": "it was told to answer so (PUT /mode)" }))
}

fn answer(status: u16) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let said = if status.is_success() { "taken" } else { "the key came with another body before" };
    HttpResponse::build(status).json(json!({ "said": said }))
}

fn incoming(request: &HttpRequest, body: &[u8]) -> Result<Incoming, &'static str> {
    let header = |name: &str| only(request.headers(), name).map(str::to_owned);
    let key = header("idempotency-key").filter(|key| !key.is_empty()).ok_or("no Idempotency-Key")?;
    let value: Value = serde_json::from_slice(body).map_err(|_| "the body is no JSON")?;
    let text = str::from_utf8(body).map_err(|_| "the body is no UTF-8")?;
    let body = RawValue::from_string(text.to_owned()).map_err(|_| "the body is no JSON")?;
    Ok(Incoming {
        idempotency_key: key,
        traceparent: header("traceparent"),
        body,
        order_id: text_of(&value, "orderId"),
        user_id: text_of(&value, "userId"),
    })
}

async fn show(ledger: Data<Ledger>, mood: Data<Mood>) -> HttpResponse {
    let latest = ledger.list(&Wanted::default(), LISTED);
    HttpResponse::Ok().json(Shown { mode: mood.now(), counts: ledger.counts(), latest })
}

async fn list(asked: Query<Asked>, ledger: Data<Ledger>) -> HttpResponse {
    let Asked { idempotency_key, order_id, user_id, limit } = asked.into_inner();
    let wanted = Wanted { idempotency_key, order_id, user_id };
    let items = ledger.list(&wanted, limit.unwrap_or(LISTED).min(MAX_LISTED));
    HttpResponse::Ok().json(Listed { items })
}

async fn show_mode(mood: Data<Mood>) -> HttpResponse {
    HttpResponse::Ok().json(mood.now())
}

async fn set_mode(told: Json<Told>, mood: Data<Mood>) -> HttpResponse {
    if told.is_too_long() {
        return HttpResponse::UnprocessableEntity().json(json!({ "error": "at most a day" }));
    }
    println!("told to be {:?}", *told);
    mood.be(told.into_inner());
    HttpResponse::Ok().json(mood.now())
}
