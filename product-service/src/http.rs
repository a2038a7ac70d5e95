//! Products over HTTP: anyone reads them, admins put them up for sale, price them and restock them.
//! What the catalogue tells is published in the transaction of the change.

use actix_web::{
    HttpResponse, Responder, get,
    http::{StatusCode, header},
    post, put,
    web::{Data, Path},
};
use common_events::{ProductId, UserId, Won};
use messaging::{Cause, Tx};
use serde::{Deserialize, Serialize};
use service_runtime::{
    Admin, Pool, Problem,
    http::{Json, Page, Paging, Query, RequestTrace, Routes},
    idempotency::{self, Attempt, IdempotencyKey, OptionalIdempotencyKey, StoredAnswer},
};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    domain::{Pieces, Price, Product, ProductName, Stock},
    store,
};

/// What keys of a restock are scoped to, beside the caller.
const RESTOCK: &str = "POST /products/{productId}/restock";

/// A product that is put up for sale.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewProduct {
    /// A UUID is made when none is given.
    product_id: Option<ProductId>,
    /// What customers call it.
    name: ProductName,
    /// Won per piece.
    price: Price,
    /// Pieces for sale.
    stock: Stock,
}

/// What a product is to cost.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NewPrice {
    /// Won per piece. Orders that were placed keep the price they were placed at.
    price: Price,
}

/// What is put on the shelf.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Restock {
    /// Pieces.
    quantity: Pieces,
}

/// A product as anyone sees it.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Product)]
pub struct ProductAnswer {
    /// What it is ordered by.
    product_id: ProductId,
    /// What customers call it.
    name: String,
    /// Won per piece.
    price: Won,
    /// Pieces for sale: what is held for orders isn't among them.
    stock: i64,
}

impl From<Product> for ProductAnswer {
    fn from(Product { product_id, name, price, stock, version: _ }: Product) -> Self {
        Self { product_id, name, price, stock }
    }
}

/// The calls of product-service, on its database.
pub fn routes(pool: Pool) -> Routes {
    let pool = Data::new(pool);
    Routes::new(move |config| {
        config
            .app_data(pool.clone())
            .service(create_product)
            .service(change_price)
            .service(restock)
            .service(list_products)
            .service(find_product);
    })
}

/// Puts a product up for sale.
#[utoipa::path(
    tag = "products",
    security(("identity" = ["admin"])),
    request_body = NewProduct,
    responses(
        (status = 201, body = ProductAnswer, headers(("Location" = String, description = "The product"))),
        (status = 409, description = "`product-exists`: there is a product of this id"),
    ),
)]
#[post("/products")]
async fn create_product(
    _: Admin,
    trace: RequestTrace,
    pool: Data<Pool>,
    new: Json<NewProduct>,
) -> Result<impl Responder, Problem> {
    let NewProduct { product_id, name, price, stock } = new.0;
    let product = Product::new(product_id.unwrap_or_else(new_product_id), name, price, stock);
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    if !store::insert_product(&tx, &product).await? {
        return Err(Problem::conflict("product-exists", "There is a product of this id already."));
    }
    tx.publish(Cause::trace(trace.0).causes(product.in_catalogue())).map_err(Problem::internal)?;
    tx.commit().await?;
    let location = format!("/products/{}", product.product_id);
    let answer = Json(ProductAnswer::from(product)).customize();
    Ok(answer.with_status(StatusCode::CREATED).insert_header((header::LOCATION, location)))
}

fn new_product_id() -> ProductId {
    Uuid::now_v7().to_string().try_into().expect("hex digits and hyphens")
}

/// Changes a product's price; orders that were placed keep theirs.
#[utoipa::path(
    tag = "products",
    security(("identity" = ["admin"])),
    params(("productId" = inline(ProductId), Path)),
    request_body = NewPrice,
    responses((status = 200, body = ProductAnswer)),
)]
#[put("/products/{productId}/price")]
async fn change_price(
    _: Admin,
    trace: RequestTrace,
    pool: Data<Pool>,
    product_id: Path<ProductId>,
    new: Json<NewPrice>,
) -> Result<Json<ProductAnswer>, Problem> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let mut product = store::lock_product(&tx, &product_id).await?.ok_or_else(no_product)?;
    if let Some(catalogue) = product.change_price(new.0.price) {
        store::update_product(&tx, &product).await?;
        tx.publish(Cause::trace(trace.0).causes(catalogue)).map_err(Problem::internal)?;
    }
    tx.commit().await?;
    Ok(Json(product.into()))
}

/// Puts pieces of a product on the shelf. Sent twice it counts twice, unless both carry the same key.
#[utoipa::path(
    tag = "products",
    security(("identity" = ["admin"])),
    params(
        ("productId" = inline(ProductId), Path),
        ("Idempotency-Key" = inline(Option<IdempotencyKey>), Header,
         description = "Sent again with the same key, the pieces count once"),
    ),
    request_body = Restock,
    responses(
        (status = 200, body = ProductAnswer),
        (status = 422, description = "`shelf-full`: more than a shelf can take"),
    ),
)]
#[post("/products/{productId}/restock")]
async fn restock(
    Admin(caller): Admin,
    OptionalIdempotencyKey(key): OptionalIdempotencyKey,
    pool: Data<Pool>,
    product_id: Path<ProductId>,
    wanted: Json<Restock>,
) -> Result<HttpResponse, Problem> {
    let mut client = pool.get().await?;
    let tx = Tx::begin(&mut client).await?;
    let answer = match key {
        Some(key) => restock_once(&tx, &caller.user_id, &key, &product_id, wanted.0).await.map(HttpResponse::from),
        None => put_on_shelf(&tx, &product_id, wanted.0).await.map(|product| HttpResponse::Ok().json(product)),
    };
    tx.end(answer).await
}

async fn restock_once(
    tx: &Tx<'_>,
    user_id: &UserId,
    key: &IdempotencyKey,
    product_id: &ProductId,
    wanted: Restock,
) -> Result<StoredAnswer, Problem> {
    let pending = match idempotency::begin(tx.transaction(), user_id, RESTOCK, key, &(product_id, &wanted)).await? {
        Attempt::First(pending) => pending,
        Attempt::Repeat(answer) => return Ok(answer),
    };
    let product = put_on_shelf(tx, product_id, wanted).await?;
    Ok(pending.remember(tx.transaction(), StatusCode::OK, None, &product).await?)
}

async fn put_on_shelf(tx: &Tx<'_>, product_id: &ProductId, wanted: Restock) -> Result<ProductAnswer, Problem> {
    let mut product = store::lock_product(tx, product_id).await?.ok_or_else(no_product)?;
    product
        .restock(wanted.quantity)
        .map_err(|full| Problem::unprocessable("shelf-full", format!("{full}.")).of_field("quantity"))?;
    store::update_product(tx, &product).await?;
    Ok(product.into())
}

/// The products, by id.
#[utoipa::path(tag = "products", params(Paging), responses((status = 200, body = Page<ProductAnswer>)))]
#[get("/products")]
async fn list_products(pool: Data<Pool>, paging: Query<Paging>) -> Result<Json<Page<ProductAnswer>>, Problem> {
    let Paging { limit, cursor } = paging.0;
    let after: Option<ProductId> = cursor.map(|cursor| cursor.position()).transpose()?;
    let client = pool.get().await?;
    let products = store::list_products(&client, after.as_ref(), limit.and_one()).await?;
    let answers = products.into_iter().map(ProductAnswer::from).collect();
    Ok(Json(Page::of(answers, limit, |last: &ProductAnswer| last.product_id.clone())))
}

/// One product.
#[utoipa::path(
    tag = "products",
    params(("productId" = inline(ProductId), Path)),
    responses((status = 200, body = ProductAnswer)),
)]
#[get("/products/{productId}")]
async fn find_product(pool: Data<Pool>, product_id: Path<ProductId>) -> Result<Json<ProductAnswer>, Problem> {
    let client = pool.get().await?;
    let product = store::find_product(&client, &product_id).await?.ok_or_else(no_product)?;
    Ok(Json(product.into()))
}

fn no_product() -> Problem {
    Problem::not_found("product")
}
