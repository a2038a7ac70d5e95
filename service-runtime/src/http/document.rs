//! What `/openapi.json` says: what handlers say of themselves, and what holds for every call (docs/contract.md §2,
//! §3), which is said here and by no handler.
//!
//! A handler says who may call it with `security(("identity" = ["operator"]))`, or `("identity" = [])` for everybody
//! who is somebody; how one shows who one is depends on `AUTH_MODE`. Of its refusals it names those that are its
//! own, each as "`code`: when". They are problems without being called so.

mod nulls;
mod refusals;

use std::collections::BTreeMap;

use common_events::{Service, TraceId};
use serde_json::Value;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, Content, Header, Info, ObjectBuilder, OpenApi, PathItem, Ref, RefOr, Response, Schema,
        SecurityRequirement, Type,
        path::Operation,
        security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme},
    },
};

use crate::{Auth, Problem, auth::Proof, problem};

/// What stands, in a handler's `security`, for however one shows who one is.
const IDENTITY: &str = "identity";
const TOKEN: &str = "token";
const USER_ID: &str = "userId";
const ROLES: &str = "roles";
/// Who names no roles at a gateway is one.
const CUSTOMER: &str = "customer";

/// The whole document of a service, made of what its routes say.
pub(super) fn whole(service: Service, auth: &Auth, mut api: OpenApi) -> Value {
    api.info = Info::new(service.name(), env!("CARGO_PKG_VERSION"));
    let components = api.components.get_or_insert_with(Components::new);
    components.schemas.insert(Problem::name().into_owned(), Problem::schema());
    components.schemas.insert(TraceId::name().into_owned(), TraceId::schema());
    components.security_schemes.extend(schemes(auth.proof()).map(|(name, scheme)| (name.to_owned(), scheme.into())));
    let descriptions = descriptions(components);
    for operation in api.paths.paths.values_mut().flat_map(operations) {
        let roles = roles(operation);
        refusals::add(operation, roles.as_deref(), auth.proof());
        operation.security = roles.map(|roles| requirements(auth.proof(), &roles));
        for (status, response) in &mut operation.responses.responses {
            if let RefOr::T(response) = response {
                complete(status, response, auth.proof(), &descriptions);
            }
        }
    }
    let mut document = serde_json::to_value(&api).expect("a description of routes is JSON");
    nulls::leave_out(&mut document);
    document
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// The roles one of which the caller needs, none for anybody who is somebody; `None` when nobody is asked who he is.
fn roles(operation: &Operation) -> Option<Vec<String>> {
    let asked = serde_json::to_value(operation.security.as_ref()?.first()?).ok()?;
    serde_json::from_value(asked.get(IDENTITY)?.clone()).ok()
}

fn schemes(proof: Proof) -> impl Iterator<Item = (&'static str, SecurityScheme)> {
    let header = |name, says| SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::with_description(name, says)));
    let schemes = match proof {
        Proof::Nothing => Vec::new(),
        Proof::Token => {
            let mut bearer = Http::new(HttpAuthScheme::Bearer);
            bearer.bearer_format = Some("JWT".to_owned());
            bearer.description = Some("`sub` is the user's id, `roles` a list.".to_owned());
            vec![(TOKEN, SecurityScheme::Http(bearer))]
        }
        Proof::Headers => vec![
            (USER_ID, header("X-User-Id", "The user's id, as a gateway sets it.")),
            (ROLES, header("X-Roles", "`customer`, `operator`, `admin`, separated by commas; absent: `customer`.")),
        ],
    };
    schemes.into_iter()
}

/// Any one of them will do.
fn requirements(proof: Proof, roles: &[String]) -> Vec<SecurityRequirement> {
    match proof {
        Proof::Nothing => Vec::new(),
        Proof::Token => vec![SecurityRequirement::new(TOKEN, roles)],
        Proof::Headers => {
            let user = || SecurityRequirement::new::<_, [&str; 0], _>(USER_ID, []);
            let alone = roles.iter().all(|role| role == CUSTOMER).then(user);
            alone.into_iter().chain([user().add(ROLES, roles)]).collect()
        }
    }
}

/// What is said of each schema, in one line.
fn descriptions(components: &Components) -> BTreeMap<String, String> {
    let said = |schema: &RefOr<Schema>| {
        let description = match schema {
            RefOr::T(Schema::Object(object)) => object.description.as_ref(),
            RefOr::T(Schema::Array(array)) => array.description.as_ref(),
            RefOr::T(Schema::OneOf(one_of)) => one_of.description.as_ref(),
            RefOr::T(Schema::AllOf(all_of)) => all_of.description.as_ref(),
            RefOr::T(Schema::AnyOf(any_of)) => any_of.description.as_ref(),
            RefOr::T(_) | RefOr::Ref(_) => None,
        };
        description.map(|text| text.replace('\n', " "))
    };
    components.schemas.iter().filter_map(|(name, schema)| Some((name.clone(), said(schema)?))).collect()
}

/// What every answer has. One that says nothing of itself is what it holds.
fn complete(status: &str, response: &mut Response, proof: Proof, descriptions: &BTreeMap<String, String>) {
    let is_problem = !status.starts_with('2');
    if is_problem {
        let bodies = std::mem::take(&mut response.content);
        let body = bodies
            .into_iter()
            .next()
            .map_or_else(|| Content::new(Some(reference::<Problem>())).into(), |(_, body)| body);
        response.content.insert(problem::CONTENT_TYPE.to_owned(), body);
    } else if response.description.is_empty() {
        let held = response.content.values().next().and_then(schema_name);
        response.description = held.and_then(|name| descriptions.get(name)).cloned().unwrap_or_default();
    }
    let mut add = |name: &str, header: Header| response.headers.insert(name.to_owned(), header.into());
    add("X-Trace-Id", described(Header::new(reference::<TraceId>()), "The trace of the request."));
    if status == "503" {
        let seconds = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1));
        add("Retry-After", described(Header::new(seconds), "In how many seconds to ask again."));
    }
    if status == "401" && proof == Proof::Token {
        add("WWW-Authenticate", described(Header::default(), "`Bearer`."));
    }
}

fn described(mut header: Header, says: &str) -> Header {
    header.description = Some(says.to_owned());
    header
}

fn reference<T: ToSchema>() -> RefOr<Schema> {
    RefOr::Ref(Ref::from_schema_name(T::name()))
}

fn schema_name(content: &RefOr<Content>) -> Option<&str> {
    let RefOr::T(Content { schema: Some(RefOr::Ref(reference)), .. }) = content else { return None };
    reference.ref_location.rsplit('/').next()
}

#[cfg(test)]
mod tests;
