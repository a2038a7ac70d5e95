//! Who may call what, as the document says it and as it is answered to whoever may not.

use actix_web::{
    dev::Service,
    http::Method,
    test::{TestRequest, init_service},
};
use serde_json::Value;
use service_runtime::{
    Runtime,
    http::{Routes, app},
};

use super::{Operation, operations};

/// The roles that there are, the mightiest last.
const ROLES: [&str; 3] = ["customer", "operator", "admin"];

pub(super) async fn faults(document: &Value, runtime: &Runtime, routes: &Routes) -> Vec<String> {
    let app = init_service(app(runtime, routes).expect("an app")).await;
    let mut faults = Vec::new();
    for operation in operations(document) {
        let name = operation.name();
        let answered = async |roles: Option<&str>| {
            let request = request(&operation, roles);
            match app.call(request.to_request()).await {
                Ok(response) => response.status().as_u16(),
                Err(error) => error.as_response_error().status_code().as_u16(),
            }
        };
        let is_asked = operation.says["security"].is_array();
        if (answered(None).await == 401) != is_asked {
            faults.push(format!("{name}: whether it asks who is calling, and whether it says so"));
        }
        let Some(needed) = is_asked.then(|| role(&operation)).flatten() else { continue };
        let too_little = ROLES.into_iter().take_while(|role| *role != needed).chain(["none"]);
        for roles in too_little {
            if answered(Some(roles)).await != 403 {
                faults.push(format!("{name}: it says that {needed}s may, and takes {roles}s"));
            }
        }
        if answered(Some(&needed)).await == 403 {
            faults.push(format!("{name}: it says that {needed}s may, and refuses them"));
        }
    }
    faults
}

/// The role that is needed, of whatever scheme names one.
fn role(operation: &Operation<'_>) -> Option<String> {
    let last = operation.says["security"].as_array()?.last()?;
    let roles = last.as_object()?.values().find_map(|roles| roles.as_array()?.first());
    roles.and_then(Value::as_str).map(str::to_owned)
}

/// Without a body or a query: who may not is told so before these are looked at.
fn request(operation: &Operation<'_>, roles: Option<&str>) -> TestRequest {
    let method: Method = operation.method.to_uppercase().parse().expect("a method");
    let request = TestRequest::with_uri(&path(operation)).method(method);
    match roles {
        Some(roles) => request.insert_header(("X-User-Id", "somebody")).insert_header(("X-Roles", roles)),
        None => request,
    }
}

/// The path of something that isn't there.
fn path(operation: &Operation<'_>) -> String {
    operation.parameters().filter(|parameter| parameter["in"] == "path").fold(
        operation.path.to_owned(),
        |path, parameter| {
            let is_uuid = parameter["schema"]["format"] == "uuid";
            let id = if is_uuid { "00000000-0000-7000-8000-000000000000" } else { "nothing" };
            path.replace(&format!("{{{}}}", parameter["name"].as_str().unwrap_or_default()), id)
        },
    )
}
