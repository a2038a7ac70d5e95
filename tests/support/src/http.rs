//! A service's calls, without its process: on a port of their own ([`Served`]), or without any ([`ask`]). Either way
//! each answer has to be as the service's document says.

use std::sync::Arc;

use actix_web::{
    HttpResponse, HttpServer,
    body::{BoxBody, to_bytes},
    dev::{ServerHandle, Service as _, ServiceResponse},
    error::InternalError,
    http::header::HeaderMap,
    test::{TestRequest, init_service},
};
use common_events::Service;
use futures::{FutureExt, future::LocalBoxFuture};
use serde_json::Value;
use service_runtime::{
    CommonSettings, Env, Runtime,
    http::{Routes, app},
};

use crate::document::{Asked, Described};

/// A service that believes its gateway and has no other settings: no signals, logs or spans.
///
/// # Panics
/// When the defaults aren't good settings.
pub fn runtime(service: Service) -> Runtime {
    runtime_with(service, &[])
}

/// The same with these variables.
///
/// # Panics
/// When these aren't good settings.
pub fn runtime_with(service: Service, variables: &[(&str, &str)]) -> Runtime {
    let usual = [("AUTH_MODE", "header"), ("HTTP_ADDR", "127.0.0.1:0"), ("OTEL_TRACES_EXPORTER", "none")];
    let env = Env::of(usual.iter().chain(variables).copied());
    let settings = CommonSettings::read(service, &env).expect("good settings");
    Runtime::new(service, env, settings)
}

/// Routes that are answered on a port of their own until this is dropped.
pub struct Served {
    /// Such as `http://127.0.0.1:40123`.
    pub url: String,
    server: ServerHandle,
}

impl Served {
    /// Answers these routes; 500 in place of an answer that isn't as it is described.
    ///
    /// # Panics
    /// When there is no free port.
    pub fn new(runtime: &Runtime, routes: Routes) -> Self {
        let (runtime, described) = (runtime.clone(), Described::of(runtime, &routes));
        let app = move || {
            let described = Arc::clone(&described);
            app(&runtime, &routes).expect("an app of these settings").wrap_fn(move |request, inner| {
                let asked = Asked::new(request.method(), request.path());
                let (answer, described) = (inner.call(request), Arc::clone(&described));
                async move {
                    // A refusal before any handler is an error here; the server would write it in the same way.
                    match answer.await {
                        Ok(answer) => {
                            let (request, answer) = answer.into_parts();
                            Ok(ServiceResponse::new(request, held_against(&described, &asked, answer).await))
                        }
                        Err(error) => {
                            let answer = held_against(&described, &asked, error.error_response()).await;
                            Err(InternalError::from_response(error, answer).into())
                        }
                    }
                }
            })
        };
        let server = HttpServer::new(app).workers(1).disable_signals().bind("127.0.0.1:0").expect("a free port");
        let url = format!("http://{}", server.addrs()[0]);
        let running = server.run();
        let server = running.handle();
        tokio::spawn(running);
        Self { url, server }
    }
}

/// The answer, if it is as it is described.
async fn held_against(described: &Described, asked: &Asked, answer: HttpResponse) -> HttpResponse {
    let (head, body) = answer.into_parts();
    let body = to_bytes(body).await.unwrap_or_else(|error| panic!("a body: {error}"));
    let faults = described.faults(asked, head.status().as_u16(), head.headers(), &body);
    if faults.is_empty() {
        head.set_body(BoxBody::new(body))
    } else {
        HttpResponse::InternalServerError().json(serde_json::json!({ "notAsDescribed": faults }))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Asked for when it is called; there is nobody to wait for it.
        drop(self.server.stop(false));
    }
}

/// What was answered, in JSON.
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Value,
}

impl Answer {
    /// One header.
    ///
    /// # Panics
    /// When it isn't there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_else(|| panic!("no {name}"))
    }

    /// The status of a problem, and the field that is to blame.
    ///
    /// # Panics
    /// When it is no problem as RFC 9457 and the contract want it.
    pub fn refusal(&self) -> (u16, &str) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("x-trace-id"), self.body["traceId"].as_str().expect("a trace id"));
        (self.status, self.body["field"].as_str().unwrap_or_default())
    }
}

/// Asks a new instance of a service with these routes.
///
/// # Panics
/// When the answer isn't JSON, or not as it is described.
pub fn ask(runtime: &Runtime, routes: Routes, request: TestRequest) -> LocalBoxFuture<'_, Answer> {
    // Boxed, so that it is compiled here and not in every test.
    ask_new_instance(runtime, routes, request).boxed_local()
}

async fn ask_new_instance(runtime: &Runtime, routes: Routes, request: TestRequest) -> Answer {
    let described = Described::of(runtime, &routes);
    let app = init_service(app(runtime, &routes).expect("an app of these settings")).await;
    let request = request.to_request();
    let asked = Asked::new(request.method(), request.path());
    // A refusal before any handler is an error here; the server would write it in the same way.
    let response = match app.call(request).await {
        Ok(response) => response.into_parts().1.map_into_boxed_body(),
        Err(error) => error.error_response(),
    };
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = to_bytes(response.into_body()).await.unwrap_or_else(|error| panic!("a body: {error}"));
    let faults = described.faults(&asked, status, &headers, &body);
    assert!(faults.is_empty(), "not as described: {}\n{}", faults.join("\n"), String::from_utf8_lossy(&body));
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| panic!("JSON, not {body:?}"));
    Answer { status, headers, body }
}
