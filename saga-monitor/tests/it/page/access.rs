//! Who gets in, from where.

use actix_web::cookie::Cookie;
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
use reqwest::Method;
use rstest::rstest;
use serde_json::json;
use uuid::Uuid;

use super::{Form as _, OWN_PAGE, Shown, acts, pages};
use crate::watch::Watch;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const REASON: [(&str, &str); 1] = [("reason", "why not")];

async fn with_tokens() -> Watch {
    Watch::begin_with(&[("AUTH_JWT_SECRET", SECRET), ("AUTH_JWT_AUDIENCE", "commerce")]).await
}

async fn of_olga() -> Watch {
    Watch::begin_with(&[("AUTH_MODE", "header"), ("LOCAL_OPERATOR", "olga")]).await
}

/// A token of somebody with this role, that is good for so many seconds.
fn token(role: &str, seconds: i64) -> String {
    let part = |json: serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let exp = chrono::Utc::now().timestamp() + seconds;
    let claims = json!({"sub": "olga", "aud": "commerce", "exp": exp, "roles": [role]});
    let said = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = PKey::hmac(SECRET.as_bytes()).expect("a key");
    let mut signer = Signer::new(MessageDigest::sha256(), &key).expect("a signer");
    let signature = signer.sign_oneshot_to_vec(said.as_bytes()).expect("signs");
    format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_401_and_a_customer_is_403_on_every_page_and_at_every_button() {
    let watch = Watch::begin().await;
    let id = Uuid::now_v7();
    let gets = pages(id).into_iter().map(|path| (Method::GET, path));
    for (method, path) in gets.chain(acts(id).into_iter().map(|path| (Method::POST, path))) {
        let of = |request: reqwest::RequestBuilder| Shown::of(request.header(OWN_PAGE.0, OWN_PAGE.1).form(&REASON));
        let nobody = of(watch.ask_as_nobody(method.clone(), &path)).await;
        assert_eq!(nobody.status, 401, "{method} {path}");
        let customer = of(watch.ask_as_customer(method.clone(), &path)).await;
        assert_eq!(customer.status, 403, "{method} {path}");
        customer.shows("You may not do that");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_loopback_the_local_operator_stands_in_where_nobody_is_named() {
    let watch = of_olga().await;
    let shown = Shown::of(watch.ask_as_nobody(Method::GET, "/")).await;
    assert_eq!(shown.status, 200, "{}", shown.html);
    shown.shows("olga");
    let customer = Shown::of(watch.ask_as_customer(Method::GET, "/")).await;
    assert_eq!(customer.status, 403, "who is named is not overruled");
    let api = watch.ask_as_nobody(Method::GET, "/api/sagas").send().await.expect("an answer");
    assert_eq!(api.status(), 401, "he stands in for the page only");
}

#[rstest]
#[case::another_name("commerce.evil.example")]
#[case::with_a_port("evil.example:8090")]
#[case::another_address("192.0.2.7:8090")]
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_was_made_to_lead_here_is_refused(#[case] host: &str) {
    let watch = of_olga().await;
    let shown = Shown::of(watch.ask_as_nobody(Method::GET, "/").header("Host", host)).await;
    assert_eq!(shown.status, 403);
    shown.shows("LOCAL_OPERATOR is believed at 127.0.0.1 and localhost only.");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_something_is_refused_unless_a_page_of_ours_sent_it() {
    let watch = of_olga().await;
    for path in acts(Uuid::now_v7()) {
        for foreign in [
            vec![],
            vec![("Sec-Fetch-Site", "cross-site"), ("Origin", "https://evil.example")],
            vec![("Sec-Fetch-Site", "same-site")],
            vec![("Origin", "https://evil.example")],
            vec![("Origin", "null")],
        ] {
            let request = watch.ask_as_nobody(Method::POST, &path).form(&REASON);
            let request = foreign.iter().fold(request, |request, (name, value)| request.header(*name, *value));
            let refused = Shown::of(request).await;
            assert_eq!(refused.status, 403, "{path} {foreign:?}");
            refused.shows("another site");
        }
        let own = Shown::of(watch.ask_as_nobody(Method::POST, &path).header(OWN_PAGE.0, OWN_PAGE.1).form(&REASON));
        assert_ne!(own.await.status, 403, "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_shown_once_kept_in_a_cookie_and_forgotten_on_request() {
    let watch = with_tokens().await;
    let asked = Shown::of(watch.ask_as_nobody(Method::GET, "/sagas?stuck=true")).await;
    assert_eq!(asked.status, 401);
    asked.shows("name=\"next\" value=\"/sagas?stuck=true\"");

    let token = token("operator", 600);
    let form = [("token", &*token), ("next", "/sagas?stuck=true")];
    let sign_in = watch.ask_as_nobody(Method::POST, "/sign-in").header(OWN_PAGE.0, OWN_PAGE.1).form(&form);
    let signed_in = Shown::of(sign_in).await;
    assert_eq!((signed_in.status, signed_in.header("location")), (303, "/sagas?stuck=true"));
    let cookie = Cookie::parse(signed_in.header("set-cookie").to_owned()).expect("a cookie");
    assert!(cookie.http_only() == Some(true) && cookie.secure() != Some(true), "{cookie}");
    assert!(signed_in.header("set-cookie").contains("SameSite=Strict"), "{cookie}");
    assert_eq!(cookie.max_age(), None, "it ends with the browser's session");

    let kept = format!("{}={}", cookie.name(), cookie.value());
    let page = Shown::of(watch.ask_as_nobody(Method::GET, "/").header("Cookie", &kept)).await;
    assert_eq!(page.status, 200, "{}", page.html);
    page.shows("Sign out");
    let api = watch.ask_as_nobody(Method::GET, "/api/sagas").header("Cookie", &kept).send().await.expect("an answer");
    assert_eq!(api.status(), 401, "the cookie is the page's only");

    let out = watch.ask_as_nobody(Method::POST, "/sign-out").header(OWN_PAGE.0, OWN_PAGE.1).header("Cookie", &kept);
    let out = Shown::of(out).await;
    assert!(out.status == 303 && out.header("set-cookie").contains("Max-Age=0"), "{:?}", out.headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn over_https_the_cookie_goes_over_https_only() {
    let watch = with_tokens().await;
    let token = token("operator", 600);
    let form = [("token", &*token)];
    let sign_in = watch.ask_as_nobody(Method::POST, "/sign-in").header(OWN_PAGE.0, OWN_PAGE.1);
    let signed_in = Shown::of(sign_in.header("X-Forwarded-Proto", "https").form(&form)).await;
    assert!(signed_in.header("set-cookie").contains("Secure"), "{:?}", signed_in.headers);
}

#[rstest]
#[case::a_customer_s(token("customer", 600), 403)]
#[case::expired(token("operator", -3_600), 401)]
#[case::garbage("a.b.c".to_owned(), 401)]
#[case::nothing(String::new(), 401)]
#[case::too_long("x".repeat(5_000), 422)]
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_operator_s_is_not_kept(#[case] token: String, #[case] status: u16) {
    let watch = with_tokens().await;
    let sign_in = watch.ask_as_nobody(Method::POST, "/sign-in").header(OWN_PAGE.0, OWN_PAGE.1);
    let refused = Shown::of(sign_in.form(&[("token", &token)])).await;
    assert_eq!(refused.status, status);
    assert_eq!(refused.header("set-cookie"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_customer_s_token_is_403_everywhere_however_it_is_shown() {
    let watch = with_tokens().await;
    let (id, token) = (Uuid::now_v7(), token("customer", 600));
    let shown_by = [("Cookie", format!("operator_token={token}")), ("Authorization", format!("Bearer {token}"))];
    let gets = pages(id).into_iter().map(|path| (Method::GET, path));
    for (method, path) in gets.chain(acts(id).into_iter().map(|path| (Method::POST, path))) {
        for (name, value) in &shown_by {
            let request = watch.ask_as_nobody(method.clone(), &path).header(*name, value).form(&REASON);
            assert_eq!(Shown::of(request.header(OWN_PAGE.0, OWN_PAGE.1)).await.status, 403, "{name} {method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_form_of_another_site_signs_nobody_in() {
    let watch = with_tokens().await;
    let token = token("operator", 600);
    let form = [("token", &*token)];
    let foreign = watch.ask_as_nobody(Method::POST, "/sign-in").header("Sec-Fetch-Site", "cross-site").form(&form);
    let refused = Shown::of(foreign).await;
    assert_eq!((refused.status, refused.header("set-cookie")), (403, ""));
}
