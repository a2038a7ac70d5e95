//! Who is believed, and who isn't.

use actix_web::{ResponseError, test::TestRequest};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::settings::{CommonSettings, Env};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const LONG_FROM_NOW: i64 = 4_102_444_800;

fn auth(variables: &[(&str, &str)]) -> Auth {
    let env = Env::of(variables.iter().copied());
    let settings = CommonSettings::read(common_events::Service::Order, &env).expect("valid");
    Auth::new(settings.auth.as_ref()).expect("sets up")
}

fn jwt() -> Auth {
    auth(&[("AUTH_JWT_SECRET", SECRET), ("AUTH_JWT_AUDIENCE", "commerce")])
}

async fn ask<T: FromRequest<Error = Problem>>(auth: Auth, headers: &[(&str, &str)]) -> Result<T, Problem> {
    let request = TestRequest::default().app_data(Data::new(auth));
    let request = headers.iter().fold(request, |request, header| request.append_header(*header));
    T::extract(&request.to_http_request()).await
}

async fn ask_gateway<T: FromRequest<Error = Problem>>(headers: &[(&str, &str)]) -> Result<T, Problem> {
    ask(auth(&[("AUTH_MODE", "header")]), headers).await
}

fn claims() -> Value {
    json!({"sub": "kim", "aud": "commerce", "exp": LONG_FROM_NOW, "roles": ["customer"]})
}

fn signed(algorithm: Algorithm, secret: &str, claims: &Value) -> String {
    encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(secret.as_bytes())).expect("signs")
}

async fn ask_with_token(token: &str) -> Result<Caller, Problem> {
    ask(jwt(), &[("authorization", &format!("Bearer {token}"))]).await
}

#[actix_web::test]
async fn a_gateway_says_who_it_is() {
    let caller: Caller = ask_gateway(&[("x-user-id", "kim")]).await.expect("believed");
    assert_eq!((caller.user_id.as_str(), caller.roles), ("kim", Roles { customer: true, ..Roles::default() }));
    let caller: Caller = ask_gateway(&[("x-user-id", "kim"), ("x-roles", "astronaut")]).await.expect("believed");
    assert_eq!(caller.roles, Roles::default(), "unknown roles are nobody's");
}

#[rstest]
#[case::nobody(&[])]
#[case::empty(&[("x-user-id", "")])]
#[case::characters(&[("x-user-id", "kim lee")])]
#[case::long(&[("x-user-id", &*"x".repeat(1_000_000))])]
#[case::two_people(&[("x-user-id", "kim"), ("x-user-id", "lee")])]
#[case::two_sets_of_roles(&[("x-user-id", "kim"), ("x-roles", "customer"), ("x-roles", "admin")])]
#[case::a_token_is_nothing_to_a_gateway(&[("authorization", "Bearer x")])]
#[actix_web::test]
async fn who_is_missing_or_impossible_is_401(#[case] headers: &[(&str, &str)]) {
    let problem = ask_gateway::<Caller>(headers).await.expect_err("refused");
    assert_eq!((problem.body().status, problem.body().code), (401, "unauthorized"));
}

#[rstest]
#[case("customer", 403, 403)]
#[case("customer,operator", 200, 403)]
#[case("admin", 200, 200)]
#[case(" admin , customer", 200, 200)]
#[case("ADMIN", 403, 403)]
#[case("", 403, 403)]
#[actix_web::test]
async fn admin_includes_operator_and_nothing_else_does(#[case] roles: &str, #[case] operator: u16, #[case] admin: u16) {
    let headers = [("x-user-id", "kim"), ("x-roles", roles)];
    let status = |outcome: Result<(), Problem>| outcome.map_or_else(|problem| problem.body().status, |()| 200);
    assert_eq!(status(ask_gateway::<Operator>(&headers).await.map(drop)), operator);
    assert_eq!(status(ask_gateway::<Admin>(&headers).await.map(drop)), admin);
}

#[actix_web::test]
async fn a_signed_token_says_who_it_is() {
    let caller = ask_with_token(&signed(Algorithm::HS256, SECRET, &claims())).await.expect("believed");
    assert_eq!((caller.user_id.as_str(), caller.roles.customer, caller.roles.operator), ("kim", true, false));
}

fn changed(field: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[field] = value;
    claims
}

fn without(field: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().expect("an object").remove(field);
    claims
}

#[rstest]
#[case::expired(signed(Algorithm::HS256, SECRET, &changed("exp", json!(1))))]
#[case::never_expires(signed(Algorithm::HS256, SECRET, &without("exp")))]
#[case::not_yet(signed(Algorithm::HS256, SECRET, &changed("nbf", json!(LONG_FROM_NOW))))]
#[case::for_somebody_else(signed(Algorithm::HS256, SECRET, &changed("aud", json!("bank"))))]
#[case::for_nobody(signed(Algorithm::HS256, SECRET, &without("aud")))]
#[case::of_nobody(signed(Algorithm::HS256, SECRET, &without("sub")))]
#[case::impossible_user(signed(Algorithm::HS256, SECRET, &changed("sub", json!("kim lee"))))]
#[case::another_algorithm(signed(Algorithm::HS512, SECRET, &claims()))]
#[case::another_secret(signed(Algorithm::HS256, "another secret, of 32 bytes or so", &claims()))]
#[case::unsigned(unsigned("none"))]
#[case::unsigned_in_capitals(unsigned("None"))]
#[case::garbage("a.b.c".to_owned())]
#[case::empty(String::new())]
#[case::huge("x".repeat(1_000_000))]
#[actix_web::test]
async fn a_token_that_is_not_ours_is_401(#[case] token: String) {
    let problem = ask_with_token(&token).await.expect_err("refused");
    assert_eq!(problem.body().status, 401);
    assert_eq!(problem.error_response().headers().get("www-authenticate").expect("a challenge"), "Bearer");
}

fn unsigned(algorithm: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.", part(&json!({"alg": algorithm, "typ": "JWT"})), part(&claims()))
}

#[actix_web::test]
async fn in_jwt_mode_a_gateway_s_headers_are_nothing() {
    let problem = ask::<Caller>(jwt(), &[("x-user-id", "kim"), ("x-roles", "admin")]).await.expect_err("refused");
    assert_eq!(problem.body().status, 401);
}

#[actix_web::test]
async fn a_process_without_auth_believes_nobody() {
    let nobody = Auth::new(None).expect("sets up");
    assert_eq!(ask::<Caller>(nobody, &[("x-user-id", "kim")]).await.expect_err("refused").body().status, 401);
}

#[actix_web::test]
async fn a_published_key_is_fetched_once_and_pins_its_algorithm() {
    let provider = Provider::start().await;
    let auth = provider.auth();
    let caller = auth.caller_of_token(&provider.signed("one")).await.expect("believed");
    assert_eq!(caller.user_id.as_str(), "kim");
    assert_eq!(auth.caller_of_token(&provider.signed("unknown")).await, Err(NotBelieved::Unproven));
    let with_the_public_part = signed(Algorithm::HS256, &provider.public_part, &claims());
    assert_eq!(auth.caller_of_token(&with_the_public_part).await, Err(NotBelieved::Unproven));
    auth.caller_of_token(&provider.signed("one")).await.expect("still believed");
    assert_eq!(provider.times_asked().await, 1, "forged ids don't ask again");
}

#[actix_web::test]
async fn keys_are_believed_on_while_their_provider_is_away_but_not_for_ever() {
    let provider = Provider::start().await;
    let auth = provider.auth();
    auth.caller_of_token(&provider.signed("one")).await.expect("believed");
    provider.go_away().await;
    later(jwks::FRESH_FOR).await;
    auth.caller_of_token(&provider.signed("one")).await.expect("its key is old, and kept");
    until("it is asked again meanwhile", async || provider.times_asked().await == 1).await;
    later(jwks::FETCH_EVERY).await;
    auth.caller_of_token(&provider.signed("one")).await.expect("also after it did not answer");
    later(jwks::KEPT_FOR).await;
    assert_eq!(auth.caller_of_token(&provider.signed("one")).await, Err(undecided()));
}

#[actix_web::test]
async fn who_cannot_be_known_while_the_provider_is_away_is_503_and_does_not_make_it_worse() {
    let provider = Provider::start().await;
    provider.go_away().await;
    let (auth, token) = (provider.auth(), format!("Bearer {}", provider.signed("one")));
    for _ in 0..5 {
        let problem = ask::<Caller>(auth.clone(), &[("authorization", &token)]).await.expect_err("nobody knows");
        assert_eq!((problem.body().status, problem.body().code), (503, "keys-unavailable"));
        assert_eq!(problem.error_response().headers().get("retry-after").expect("when"), "10");
    }
    assert_eq!(provider.times_asked().await, 1);
    provider.publish(&[&provider.jwk]).await;
    later(jwks::FETCH_EVERY).await;
    ask::<Caller>(auth, &[("authorization", &token)]).await.expect("it is back");
}

#[actix_web::test]
async fn a_key_that_was_withdrawn_is_believed_until_the_keys_are_old() {
    let provider = Provider::start().await;
    let auth = provider.auth();
    auth.caller_of_token(&provider.signed("one")).await.expect("believed");
    provider.publish(&[]).await;
    later(jwks::FRESH_FOR).await;
    until("it isn't believed any more", async || auth.caller_of_token(&provider.signed("one")).await.is_err()).await;
}

#[rstest]
#[case::for_encryption(json!({"use": "enc"}))]
#[case::for_something(json!({"use": "tls"}))]
#[case::another_algorithm(json!({"alg": "ES384"}))]
#[case::an_algorithm_of_another_kind(json!({"alg": "RS256"}))]
#[case::an_unknown_algorithm(json!({"alg": "ECDH-ES"}))]
#[case::to_sign_only(json!({"key_ops": ["sign"]}))]
#[actix_web::test]
async fn a_key_that_is_published_for_something_else_verifies_nothing(#[case] meant: Value) {
    let provider = Provider::start().await;
    provider.publish(&[&with(&provider.jwk, &meant)]).await;
    assert_eq!(provider.auth().caller_of_token(&provider.signed("one")).await, Err(NotBelieved::Unproven));
}

#[actix_web::test]
async fn a_key_that_is_published_for_signatures_is_found_among_all_others() {
    let provider = Provider::start().await;
    let meant = json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]});
    let unheard_of = json!({"kty": "lattice", "kid": "two"});
    let encryption = with(&provider.jwk, &json!({"use": "enc"}));
    provider.publish(&[&unheard_of, &with(&provider.jwk, &meant), &encryption]).await;
    provider.auth().caller_of_token(&provider.signed("one")).await.expect("believed");
}

fn undecided() -> NotBelieved {
    NotBelieved::Undecided { retry_after: jwks::FETCH_EVERY }
}

fn with(jwk: &Value, more: &Value) -> Value {
    let mut jwk = jwk.clone();
    jwk.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    jwk
}

/// Sets the clock forward; nothing waits for it meanwhile.
async fn later(length: Duration) {
    tokio::time::pause();
    tokio::time::advance(length).await;
    tokio::time::resume();
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(10), "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An identity provider with one ES256 key, `one`.
struct Provider {
    server: wiremock::MockServer,
    jwk: Value,
    key: EncodingKey,
    public_part: String,
}

impl Provider {
    async fn start() -> Self {
        use openssl::{bn::BigNum, bn::BigNumContext, ec::EcGroup, ec::EcKey, nid::Nid, pkey::PKey};
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("P-256");
        let pair = EcKey::generate(&group).expect("a key");
        let (mut x, mut y) = (BigNum::new().expect("zero"), BigNum::new().expect("zero"));
        let mut context = BigNumContext::new().expect("a context");
        pair.public_key().affine_coordinates(&group, &mut x, &mut y, &mut context).expect("a point");
        let part = |number: &BigNum| BASE64_URL_SAFE_NO_PAD.encode(number.to_vec_padded(32).expect("32 bytes"));
        let jwk = json!({"kty": "EC", "crv": "P-256", "kid": "one", "x": part(&x), "y": part(&y)});
        let der = PKey::from_ec_key(pair).and_then(|key| key.private_key_to_pkcs8()).expect("PKCS #8");

        let (server, public_part) = (wiremock::MockServer::start().await, part(&x));
        let provider = Self { server, jwk, key: EncodingKey::from_ec_der(&der), public_part };
        provider.publish(&[&provider.jwk]).await;
        provider
    }

    fn auth(&self) -> Auth {
        let url = format!("{}/jwks", self.server.uri());
        auth(&[("AUTH_JWKS_URL", &url), ("AUTH_JWT_AUDIENCE", "commerce")])
    }

    /// From now on it has exactly these keys.
    async fn publish(&self, keys: &[&Value]) {
        self.answer(wiremock::ResponseTemplate::new(200).set_body_json(json!({"keys": keys}))).await;
    }

    async fn go_away(&self) {
        self.answer(wiremock::ResponseTemplate::new(500)).await;
    }

    async fn answer(&self, answer: wiremock::ResponseTemplate) {
        self.server.reset().await;
        wiremock::Mock::given(wiremock::matchers::path("/jwks")).respond_with(answer).mount(&self.server).await;
    }

    /// Since its answer last changed.
    async fn times_asked(&self) -> usize {
        self.server.received_requests().await.expect("recorded").len()
    }

    fn signed(&self, kid: &str) -> String {
        let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims(), &self.key).expect("signs")
    }
}
