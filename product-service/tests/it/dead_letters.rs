//! Lines that died, and what their operators are told would come of a replay.

use actix_web::test::TestRequest;
use common_events::Service;
use messaging::admin::Office;
use serde_json::{Value, json};
use service_runtime::{CommonSettings, Env, Runtime};
use test_support::ask;

use crate::shop::{Shop, new_order};

impl Shop {
    async fn operate(&self, method: actix_web::http::Method, uri: &str, body: &Value) -> Value {
        let env = Env::of([("AUTH_MODE", "header"), ("FAULT_INJECTION", "true")]);
        let settings = CommonSettings::read(Service::Product, &env).expect("settings");
        let office = Office::of(self.seam.group().clone(), &settings);
        let runtime = Runtime::new(Service::Product, env, settings);
        let request = TestRequest::with_uri(uri).method(method).set_payload(body.to_string());
        let request = request.insert_header(("X-User-Id", "olga")).insert_header(("X-Roles", "operator"));
        ask(&runtime, office.routes(), request).await.body
    }
}

#[actix_web::test]
async fn a_dry_run_says_that_a_line_s_order_is_cancelled_already() {
    use actix_web::http::Method;
    let shop = Shop::selling(&[("tea", 10)]).await;
    let (gone, open) = (new_order(), new_order());
    shop.operate(Method::PUT, "/admin/faults", &json!({"kind": "unprocessable", "reason": "a test"})).await;
    shop.seam.deliver(&shop.line(gone, "tea", 3)).await;
    shop.seam.deliver(&shop.line(open, "tea", 2)).await;
    shop.operate(Method::DELETE, "/admin/faults", &Value::Null).await;
    shop.seam.deliver(&shop.cancelled(gone, &[("tea", 3)])).await;

    let asked = json!({"filter": {"topic": "order-line-placed"}, "dryRun": true, "reason": "what if"});
    let foretold = shop.operate(Method::POST, "/admin/dead-letters/replay", &asked).await;
    let endings: Vec<Value> = foretold["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| json!([item["verdict"], item["answers"]]))
        .collect();
    assert_eq!(
        endings,
        [
            json!(["order-already-cancelled", [{"type": "stock-deduct-failed", "reason": "ORDER_CANCELLED"}]]),
            json!(["will-apply", [{"type": "stock-deducted"}]]),
        ]
    );
    assert_eq!((shop.stock("tea").await, shop.held("tea").await), (10, 0), "nothing was changed");
}
