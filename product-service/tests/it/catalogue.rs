//! Products over HTTP: every rule of the contract, call by call, and what the catalogue tells.

use actix_web::{http::Method, test::TestRequest};
use common_events::{Service, events::ProductCatalog};
use product_service::http;
use serde_json::{Value, json};
use test_support::{Answer, ask, runtime};
use uuid::{Uuid, Version};

use crate::shop::{Shop, new_order};

/// A request that nothing was said of yet.
struct Call<'s> {
    shop: &'s Shop,
    request: TestRequest,
}

impl Shop {
    fn call(&self, method: Method, uri: &str) -> Call<'_> {
        Call { shop: self, request: TestRequest::with_uri(uri).method(method) }
    }

    async fn get(&self, uri: &str) -> Answer {
        self.call(Method::GET, uri).send().await
    }

    async fn create(&self, body: Value) -> Answer {
        self.call(Method::POST, "/products").admin().json(&body).send().await
    }

    async fn price(&self, product: &str, price: i64) -> Answer {
        let uri = format!("/products/{product}/price");
        self.call(Method::PUT, &uri).admin().json(&json!({"price": price})).send().await
    }

    async fn restock(&self, product: &str, quantity: i64) -> Answer {
        let uri = format!("/products/{product}/restock");
        self.call(Method::POST, &uri).admin().json(&json!({"quantity": quantity})).send().await
    }

    /// What the catalogue said: product, name, price, version.
    async fn catalogue(&self) -> Vec<(String, String, i64, i64)> {
        let told = self.seam.told::<ProductCatalog>().await;
        told.into_iter()
            .map(|told| told.data)
            .map(|said| (said.product_id.to_string(), said.name, said.price.get(), said.version))
            .collect()
    }
}

impl Call<'_> {
    fn header(mut self, name: &'static str, value: &'static str) -> Self {
        self.request = self.request.insert_header((name, value));
        self
    }

    fn admin(self) -> Self {
        self.header("X-User-Id", "lee").header("X-Roles", "admin")
    }

    fn body(mut self, body: impl Into<actix_web::web::Bytes>) -> Self {
        self.request = self.request.set_payload(body);
        self
    }

    fn json(self, body: &Value) -> Self {
        self.body(body.to_string())
    }

    async fn send(self) -> Answer {
        ask(&runtime(Service::Product), http::routes(self.shop.pool.clone()), self.request).await
    }
}

fn tea() -> Value {
    json!({"productId": "tea", "name": "Green tea", "price": 12_000, "stock": 25})
}

#[actix_web::test]
async fn a_product_that_is_put_up_for_sale_can_be_read_and_is_in_the_catalogue() {
    let shop = Shop::open().await;
    let created = shop.create(tea()).await;
    assert_eq!((created.status, &created.body), (201, &tea()));
    assert_eq!(created.header("location"), "/products/tea");
    let found = shop.get("/products/tea").await;
    assert_eq!((found.status, found.body), (200, tea()));
    assert_eq!(shop.catalogue().await, [("tea".to_owned(), "Green tea".to_owned(), 12_000, 1)]);
    let told = shop.seam.told::<ProductCatalog>().await;
    assert_eq!(created.header("x-trace-id"), told[0].trace.trace_id.to_string());
}

#[actix_web::test]
async fn a_product_without_an_id_gets_a_uuid_v7() {
    let shop = Shop::open().await;
    let created = shop.create(json!({"name": "Cup", "price": 0, "stock": 0})).await;
    let id: Uuid = created.body["productId"].as_str().expect("a text").parse().expect("a UUID");
    assert_eq!((created.status, id.get_version()), (201, Some(Version::SortRand)));
}

#[actix_web::test]
async fn an_id_that_is_taken_answers_409_and_changes_nothing() {
    let shop = Shop::open().await;
    shop.create(tea()).await;
    let again = shop.create(json!({"productId": "tea", "name": "Black tea", "price": 1, "stock": 1})).await;
    assert_eq!((again.status, again.body["code"].as_str()), (409, Some("product-exists")));
    assert_eq!(shop.get("/products/tea").await.body, tea());
    assert_eq!(shop.catalogue().await.len(), 1);
}

#[actix_web::test]
async fn the_same_product_created_eight_times_at_once_is_created_once() {
    let shop = Shop::open().await;
    let answers = futures::future::join_all((0..8).map(|_| shop.create(tea()))).await;
    let mut statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 409, 409, 409, 409, 409, 409, 409]);
    assert_eq!(shop.catalogue().await.len(), 1);
}

#[actix_web::test]
async fn another_price_is_told_with_the_next_version_and_the_same_price_is_not() {
    let shop = Shop::open().await;
    shop.create(tea()).await;
    let answer = shop.price("tea", 9_000).await;
    let expected = json!({"productId": "tea", "name": "Green tea", "price": 9_000, "stock": 25});
    assert_eq!((answer.status, answer.body), (200, expected.clone()));
    assert_eq!(shop.price("tea", 9_000).await.body, expected);
    assert_eq!(shop.price("tea", 0).await.status, 200);
    let versions: Vec<(i64, i64)> = shop.catalogue().await.iter().map(|said| (said.2, said.3)).collect();
    assert_eq!(versions, [(12_000, 1), (9_000, 2), (0, 3)]);
}

#[actix_web::test]
async fn prices_that_change_at_once_get_a_version_each() {
    let shop = Shop::open().await;
    shop.create(tea()).await;
    futures::future::join_all((1..=8).map(|price| shop.price("tea", price))).await;
    let catalogue = shop.catalogue().await;
    let mut versions: Vec<i64> = catalogue.iter().map(|said| said.3).collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=9).collect::<Vec<_>>());
    let last = catalogue.iter().max_by_key(|said| said.3).expect("a version");
    assert_eq!(shop.get("/products/tea").await.body["price"], last.2);
}

#[actix_web::test]
async fn a_restock_adds_pieces_and_tells_nobody() {
    let shop = Shop::open().await;
    shop.create(tea()).await;
    let answer = shop.restock("tea", 5).await;
    assert_eq!((answer.status, answer.body["stock"].as_i64()), (200, Some(30)));
    assert_eq!(shop.get("/products/tea").await.body["stock"], 30);
    assert_eq!(shop.catalogue().await.len(), 1);
}

#[actix_web::test]
async fn a_restock_that_is_sent_twice_with_one_key_counts_once() {
    let shop = Shop::open().await;
    shop.create(tea()).await;
    shop.create(json!({"productId": "cup", "name": "Cup", "price": 100, "stock": 1})).await;
    let restock = async |uri: &'static str, quantity: i64, key: &'static str| {
        let call = shop.call(Method::POST, uri).admin().header("Idempotency-Key", key);
        call.json(&json!({"quantity": quantity})).send().await
    };
    let first = restock("/products/tea/restock", 5, "delivery-1").await;
    assert_eq!((first.status, first.body["stock"].as_i64()), (200, Some(30)));
    shop.restock("tea", 1).await;
    let again = restock("/products/tea/restock", 5, "delivery-1").await;
    assert_eq!((again.status, &again.body), (200, &first.body));
    assert_eq!(shop.stock("tea").await, 31);
    assert_eq!(restock("/products/tea/restock", 5, "delivery-2").await.body["stock"], 36);

    for (uri, quantity) in [("/products/tea/restock", 6), ("/products/cup/restock", 5)] {
        let refused = restock(uri, quantity, "delivery-1").await;
        assert_eq!((refused.status, refused.body["code"].as_str()), (422, Some("idempotency-key-reused")));
    }
    assert_eq!(restock("/products/tea/restock", 5, "two words").await.refusal(), (400, "Idempotency-Key"));
    assert_eq!(restock("/products/pot/restock", 5, "delivery-3").await.status, 404);
    shop.create(json!({"productId": "pot", "name": "Pot", "price": 100, "stock": 1})).await;
    assert_eq!(restock("/products/pot/restock", 5, "delivery-3").await.body["stock"], 6, "a refusal is forgotten");
    assert_eq!((shop.stock("tea").await, shop.stock("cup").await), (36, 1));
}

#[actix_web::test]
async fn a_restock_while_lines_are_deducted_loses_no_piece() {
    let shop = Shop::selling(&[("tea", 100)]).await;
    for _ in 0..20 {
        let line = shop.line(new_order(), "tea", 3);
        let (_, restocked) = tokio::join!(shop.seam.deliver(&line), shop.restock("tea", 2));
        assert_eq!(restocked.status, 200);
    }
    assert_eq!((shop.stock("tea").await, shop.held("tea").await), (100 - 60 + 40, 60));
}

#[actix_web::test]
async fn a_shelf_takes_a_billion_pieces_and_no_more() {
    let shop = Shop::open().await;
    shop.create(json!({"productId": "tea", "name": "Tea", "price": 1_000_000_000, "stock": 999_999_999})).await;
    let refused = shop.restock("tea", 2).await;
    assert_eq!((refused.refusal(), refused.body["code"].as_str()), ((422, "quantity"), Some("shelf-full")));
    assert_eq!(shop.restock("tea", 1).await.body["stock"], 1_000_000_000);
}

#[actix_web::test]
async fn products_are_listed_by_id_page_by_page() {
    let shop = Shop::selling(&[("b", 1), ("B", 2), ("a", 3), ("c", 4)]).await;
    let ids = |answer: &Answer| -> Vec<String> {
        let items = answer.body["items"].as_array().expect("items");
        items.iter().map(|item| item["productId"].as_str().expect("an id").to_owned()).collect()
    };
    let first = shop.get("/products?limit=3").await;
    assert_eq!(ids(&first), ["B", "a", "b"]);
    assert_eq!(first.body["items"][0], json!({"productId": "B", "name": "B", "price": 100, "stock": 2}));
    let cursor = first.body["nextCursor"].as_str().expect("there is more");
    let second = shop.get(&format!("/products?limit=3&cursor={cursor}")).await;
    assert_eq!((ids(&second), second.body.get("nextCursor")), (vec!["c".to_owned()], None));
    assert_eq!(ids(&shop.get("/products").await).len(), 4);
}

#[actix_web::test]
async fn a_list_that_cannot_be_is_refused() {
    let shop = Shop::open().await;
    for (query, field) in [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("cursor=nonsense", "cursor"),
        ("colour=red", "colour"),
    ] {
        assert_eq!(shop.get(&format!("/products?{query}")).await.refusal(), (400, field), "{query}");
    }
}

#[actix_web::test]
async fn only_an_admin_changes_products() {
    let shop = Shop::selling(&[("tea", 1)]).await;
    for (method, uri) in
        [(Method::POST, "/products"), (Method::PUT, "/products/tea/price"), (Method::POST, "/products/tea/restock")]
    {
        let nobody = shop.call(method.clone(), uri).json(&json!({"price": 1})).send().await;
        assert_eq!(nobody.refusal(), (401, ""), "{uri}");
        let customer = shop.call(method.clone(), uri).header("X-User-Id", "kim").json(&json!({})).send().await;
        assert_eq!(customer.refusal(), (403, ""), "{uri}");
        let operator = shop.call(method, uri).header("X-User-Id", "kim").header("X-Roles", "operator");
        assert_eq!(operator.json(&json!({})).send().await.refusal(), (403, ""), "{uri}");
    }
    assert_eq!(shop.catalogue().await, []);
}

#[actix_web::test]
async fn a_product_that_is_not_there_answers_404_as_does_a_malformed_id() {
    let shop = Shop::open().await;
    let long = "x".repeat(129);
    for id in ["ghost", "a%20b", "%EA%B9%80", "%00", &long] {
        assert_eq!(shop.get(&format!("/products/{id}")).await.refusal(), (404, ""), "{id}");
        assert_eq!(shop.price(id, 1).await.refusal(), (404, ""), "{id}");
        assert_eq!(shop.restock(id, 1).await.refusal(), (404, ""), "{id}");
    }
}

#[actix_web::test]
async fn a_body_that_is_not_json_or_too_long_is_refused_by_every_call() {
    let shop = Shop::selling(&[("tea", 1)]).await;
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(65 * 1024));
    for (method, uri) in
        [(Method::POST, "/products"), (Method::PUT, "/products/tea/price"), (Method::POST, "/products/tea/restock")]
    {
        for body in ["", "rubbish", "{"] {
            let answer = shop.call(method.clone(), uri).admin().body(body.to_owned()).send().await;
            assert_eq!(answer.refusal(), (400, "body"), "{uri} {body}");
        }
        let answer = shop.call(method, uri).admin().body(long.clone()).send().await;
        assert_eq!(answer.refusal(), (413, "body"), "{uri}");
    }
}

#[actix_web::test]
async fn a_product_that_cannot_be_is_refused_and_the_field_is_named() {
    let shop = Shop::open().await;
    let refused = |field: &'static str, wrong: Value| {
        let mut product = tea();
        product[field] = wrong;
        (field, product)
    };
    let mut no_name = tea();
    no_name.as_object_mut().expect("an object").remove("name");
    let cases = [
        refused("productId", json!("a b")),
        refused("productId", json!("")),
        refused("productId", json!("x".repeat(129))),
        refused("productId", json!(7)),
        refused("name", json!("")),
        refused("name", json!(" \u{3000}")),
        refused("name", json!("x".repeat(201))),
        refused("name", json!("a\nb")),
        refused("name", json!("a\u{0}b")),
        refused("name", json!(7)),
        ("name", no_name),
        refused("price", json!(-1)),
        refused("price", json!(1_000_000_001)),
        refused("price", json!(1.5)),
        refused("price", json!("1")),
        refused("price", json!(u64::MAX)),
        refused("price", json!(null)),
        refused("stock", json!(-1)),
        refused("stock", json!(1_000_000_001)),
        refused("stock", json!(1e300)),
        refused("version", json!(7)),
    ];
    for (field, product) in cases {
        assert_eq!(shop.create(product.clone()).await.refusal(), (422, field), "{product}");
    }
    assert_eq!(shop.catalogue().await, []);
}

#[actix_web::test]
async fn a_name_may_be_in_any_language() {
    let shop = Shop::open().await;
    let name = "녹차".repeat(100);
    let created = shop.create(json!({"productId": "tea", "name": name, "price": 1, "stock": 1})).await;
    assert_eq!((created.status, created.body["name"].as_str()), (201, Some(&*name)));
}

#[actix_web::test]
async fn a_price_or_a_restock_that_cannot_be_is_refused_and_changes_nothing() {
    let shop = Shop::selling(&[("tea", 1)]).await;
    let cases = [
        (Method::PUT, "/products/tea/price", "price", json!(-1)),
        (Method::PUT, "/products/tea/price", "price", json!(1_000_000_001)),
        (Method::PUT, "/products/tea/price", "price", json!("1")),
        (Method::PUT, "/products/tea/price", "stock", json!(1)),
        (Method::POST, "/products/tea/restock", "quantity", json!(0)),
        (Method::POST, "/products/tea/restock", "quantity", json!(-1)),
        (Method::POST, "/products/tea/restock", "quantity", json!(1_000_001)),
        (Method::POST, "/products/tea/restock", "quantity", json!(i128::MAX.to_string())),
        (Method::POST, "/products/tea/restock", "price", json!(1)),
    ];
    for (method, uri, field, wrong) in cases {
        let body = json!({ field: wrong });
        let answer = shop.call(method, uri).admin().json(&body).send().await;
        assert_eq!(answer.refusal(), (422, field), "{uri} {body}");
    }
    let unchanged = json!({"productId": "tea", "name": "tea", "price": 100, "stock": 1});
    assert_eq!(shop.get("/products/tea").await.body, unchanged);
    assert_eq!(shop.catalogue().await, []);
}
