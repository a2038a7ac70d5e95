//! What every service answers: health, metrics, its documentation, and that there is nothing here.

use std::{collections::HashMap, sync::OnceLock};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Bytes, Data, ServiceConfig},
};
use common_events::Service;
use utoipa::openapi::{Info, OpenApi};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::Shared;
use crate::{Health, Problem};

/// The description of a service's routes, made by the first worker for all.
#[derive(Default)]
pub(super) struct Documented {
    description: OnceLock<Bytes>,
    /// Which methods a path has, as `Allow` says it.
    methods: OnceLock<HashMap<String, String>>,
}

impl Documented {
    pub(super) fn once(&self, service: Service, mut api: OpenApi) {
        self.methods.get_or_init(|| api.paths.paths.iter().map(|(path, item)| (path.clone(), methods(item))).collect());
        self.description.get_or_init(|| {
            api.info = Info::new(service.name(), env!("CARGO_PKG_VERSION"));
            api.to_json().expect("a description of routes is JSON").into()
        });
    }
}

fn methods(item: &utoipa::openapi::PathItem) -> String {
    let has = [
        ("GET", item.get.is_some()),
        ("POST", item.post.is_some()),
        ("PUT", item.put.is_some()),
        ("PATCH", item.patch.is_some()),
        ("DELETE", item.delete.is_some()),
    ];
    has.into_iter().filter(|(_, has)| *has).map(|(name, _)| name).collect::<Vec<_>>().join(", ")
}

pub(super) fn routes(config: &mut ServiceConfig, shared: &Shared) {
    config
        .app_data(Data::new(shared.health.clone()))
        .app_data(Data::from(std::sync::Arc::clone(&shared.documented)))
        .route("/health/live", web::get().to(live))
        .route("/health/ready", web::get().to(ready))
        .route("/metrics", web::get().to(metrics))
        .route("/openapi.json", web::get().to(description))
        .service(web::redirect("/docs", "/docs/"))
        .service(SwaggerUi::new("/docs/{_:.*}").config(Config::from("/openapi.json")));
}

async fn live() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({"status": "live"}))
}

async fn ready(health: Data<Health>) -> HttpResponse {
    let readiness = health.readiness().await;
    let status = if readiness.takes_requests() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    HttpResponse::build(status).json(readiness)
}

async fn metrics() -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(crate::metrics::render())
}

async fn description(documented: Data<Documented>) -> HttpResponse {
    let description = documented.description.get().cloned().unwrap_or_default();
    HttpResponse::Ok().content_type("application/json").body(description)
}

/// No route, or none of this method.
pub(super) async fn nothing_here(request: HttpRequest, documented: Data<Documented>) -> Result<HttpResponse, Problem> {
    let Some(pattern) = request.match_pattern() else {
        return Err(Problem::not_found("resource"));
    };
    let problem = Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method-not-allowed",
        format!("{} is not a method of this resource.", request.method()),
    );
    let allowed = documented.methods.get().and_then(|methods| methods.get(&pattern)).map_or("GET", String::as_str);
    Err(match allowed.parse() {
        Ok(allowed) => problem.with_header(header::ALLOW, allowed),
        Err(_) => problem,
    })
}
