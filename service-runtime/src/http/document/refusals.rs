//! What a call may answer whatever it does, because of what it takes and who may call it (docs/contract.md §3).

use utoipa::openapi::{
    RefOr, Required, Response,
    path::{Operation, Parameter, ParameterIn},
    request_body::RequestBody,
};

use crate::auth::Proof;

const KEY: &str = "Idempotency-Key";
const CURSOR: &str = "cursor";

/// Which calls refuse something so.
#[derive(Clone, Copy)]
enum Calls {
    All,
    /// Of somebody who has to show who he is.
    OfSomebody,
    /// The same, where he shows a token.
    WithToken,
    /// Of somebody with a role.
    OfARole,
    /// About something that the path names.
    OnSomething,
    WithBody,
    /// Which are not taken without one.
    OnlyWithBody,
    /// Which are taken with or without one.
    PerhapsWithBody,
    WithCursor,
    WithKey,
    /// Which are not taken without one.
    OnlyWithKey,
}

/// Status, code, when.
const REFUSALS: &[(Calls, u16, &str, &str)] = &[
    (Calls::All, 400, "invalid-query", "a parameter that the call doesn't have, or that can't be so"),
    (Calls::WithCursor, 400, "invalid-cursor", "a cursor that this list never gave"),
    (Calls::All, 400, "invalid-value", "a text or time beyond what can be looked for"),
    (Calls::OnlyWithBody, 400, "malformed-json", "the body is no JSON, or missing"),
    (Calls::PerhapsWithBody, 400, "malformed-json", "the body is no JSON"),
    (Calls::OnlyWithKey, 400, "idempotency-key-missing", "there has to be one"),
    (Calls::WithKey, 400, "idempotency-key-invalid", "a key that is none, or several"),
    (Calls::OfSomebody, 401, "unauthorized", "who is asking is missing, or is not believed"),
    (Calls::OfARole, 403, "forbidden", "this caller may not do that"),
    (Calls::OnSomething, 404, "not-found", "there is no such thing, or it isn't this caller's"),
    (Calls::WithKey, 409, "idempotency-key-in-use", "the first call with this key still runs"),
    (Calls::All, 413, "body-too-large", "more than 64 KiB"),
    (
        Calls::WithBody,
        422,
        "invalid-field",
        "JSON, but an unknown or missing field, a wrong type, a value out of range",
    ),
    (Calls::WithKey, 422, "idempotency-key-reused", "the key was used with another body"),
    (Calls::All, 500, "internal", "our fault; the trace id finds it"),
    (Calls::All, 503, "database-unavailable", "the database doesn't answer just now"),
    (Calls::WithToken, 503, "keys-unavailable", "who knows the keys of tokens doesn't answer just now"),
];

/// `roles` as the operation asks for them; `None` when it asks nobody who he is.
pub(super) fn add(operation: &mut Operation, roles: Option<&[String]>, proof: Proof) {
    for (calls, status, code, when) in REFUSALS {
        if calls.include(operation, roles, proof) {
            let answers = &mut operation.responses.responses;
            let answer = answers.entry(status.to_string()).or_insert_with(|| Response::default().into());
            if let RefOr::T(answer) = answer {
                let joint = if answer.description.is_empty() { "" } else { "; " };
                answer.description = format!("{}{joint}`{code}`: {when}", answer.description);
            }
        }
    }
}

impl Calls {
    fn include(self, operation: &Operation, roles: Option<&[String]>, proof: Proof) -> bool {
        let parameter = |is_it: &dyn Fn(&Parameter) -> bool| {
            let all = operation.parameters.iter().flatten();
            all.into_iter().any(|parameter| matches!(parameter, RefOr::T(parameter) if is_it(parameter)))
        };
        let is_required =
            |body: &RefOr<RequestBody>| matches!(body, RefOr::T(body) if body.required == Some(Required::True));
        let body_is_required = operation.request_body.as_ref().map(is_required);
        match self {
            Self::All => true,
            Self::OfSomebody => roles.is_some(),
            Self::WithToken => roles.is_some() && proof == Proof::Token,
            Self::OfARole => roles.is_some_and(|roles| !roles.is_empty()),
            Self::OnSomething => parameter(&|parameter| parameter.parameter_in == ParameterIn::Path),
            Self::WithBody => operation.request_body.is_some(),
            Self::OnlyWithBody => body_is_required == Some(true),
            Self::PerhapsWithBody => body_is_required == Some(false),
            Self::WithCursor => parameter(&|parameter| parameter.name == CURSOR),
            Self::WithKey => parameter(&|parameter| parameter.name == KEY),
            Self::OnlyWithKey => parameter(&|parameter| parameter.name == KEY && parameter.required == Required::True),
        }
    }
}
