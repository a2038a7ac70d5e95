//! What every service answers: health, metrics, its documentation, and that there is nothing here.

use std::{
    borrow::Cow,
    collections::{HashMap, HashSet},
    sync::OnceLock,
};

use actix_web::{
    HttpRequest, HttpResponse,
    dev::ServiceRequest,
    http::{Method, StatusCode},
    web::{self, Bytes, Data, ServiceConfig},
};
use common_events::Service;
use url::form_urlencoded;
use utoipa::openapi::{
    OpenApi, PathItem, RefOr,
    path::{Operation, ParameterIn},
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use super::{Shared, document};
use crate::{Auth, Health, Problem};

/// The description of a service's routes, made by the first worker for all.
#[derive(Default)]
pub(super) struct Documented {
    description: OnceLock<Bytes>,
    operations: OnceLock<HashMap<String, Operations>>,
}

/// The methods of a path, each with the query parameters it takes.
type Operations = Vec<(Method, HashSet<String>)>;

impl Documented {
    pub(super) fn once(&self, service: Service, auth: &Auth, api: OpenApi) {
        self.operations
            .get_or_init(|| api.paths.paths.iter().map(|(path, item)| (path.clone(), operations(item))).collect());
        self.description.get_or_init(|| document::whole(service, auth, api).to_string().into());
    }

    /// What `/openapi.json` answers.
    pub(super) fn description(&self) -> Bytes {
        self.description.get().cloned().unwrap_or_default()
    }

    /// The first query parameter that the call doesn't have. What isn't described takes what it likes.
    pub(super) fn unknown_parameter(&self, request: &ServiceRequest) -> Option<String> {
        if request.query_string().is_empty() {
            return None;
        }
        let operations = self.of(&request.match_pattern()?)?;
        let (_, known) = operations.iter().find(|(method, _)| method == request.method())?;
        let mut names = form_urlencoded::parse(request.query_string().as_bytes()).map(|(name, _)| name);
        names.find(|name| !known.contains(&**name)).map(Cow::into_owned)
    }

    /// As `Allow` says it.
    fn methods(&self, pattern: &str) -> String {
        let names = |method: &Method| if method == Method::GET { "GET, HEAD".to_owned() } else { method.to_string() };
        let known = self.of(pattern).map(|all| all.iter().map(|(method, _)| names(method)).collect::<Vec<_>>());
        known.map_or_else(|| names(&Method::GET), |all| all.join(", "))
    }

    fn of(&self, pattern: &str) -> Option<&Operations> {
        self.operations.get()?.get(pattern)
    }
}

fn operations(item: &PathItem) -> Operations {
    let described = [
        (Method::GET, &item.get),
        (Method::POST, &item.post),
        (Method::PUT, &item.put),
        (Method::PATCH, &item.patch),
        (Method::DELETE, &item.delete),
    ];
    let there = described.into_iter().filter_map(|(method, operation)| Some((method, operation.as_ref()?)));
    there.map(|(method, operation)| (method, query_parameters(operation))).collect()
}

fn query_parameters(operation: &Operation) -> HashSet<String> {
    let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
        RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
        RefOr::T(_) | RefOr::Ref(_) => None,
    });
    parameters.collect()
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
    HttpResponse::Ok().content_type("application/json").body(documented.description())
}

/// No route, or none of this method.
pub(super) async fn nothing_here(request: HttpRequest, documented: Data<Documented>) -> Result<HttpResponse, Problem> {
    let Some(pattern) = request.match_pattern() else {
        return Err(Problem::not_found("resource"));
    };
    Err(Problem::method_not_allowed(&documented.methods(&pattern)))
}
