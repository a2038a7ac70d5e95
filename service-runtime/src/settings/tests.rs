//! A wrong setting is named on one line, and no secret is shown.

use std::time::Duration;

use common_events::Service;
use rstest::rstest;

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

fn jwt() -> Vec<(&'static str, &'static str)> {
    vec![("AUTH_JWT_SECRET", SECRET), ("AUTH_JWT_AUDIENCE", "commerce")]
}

fn read(changes: &[(&'static str, &'static str)]) -> Result<CommonSettings, SettingError> {
    CommonSettings::read(Service::Order, &Env::of(jwt().into_iter().chain(changes.iter().copied())))
}

#[test]
fn nothing_said_is_the_contract_s_defaults() {
    let settings = read(&[]).expect("defaults are valid");
    assert_eq!(settings.http_addr.to_string(), "127.0.0.1:8081");
    assert_eq!(settings.retry.delays, [30, 60, 120].map(Duration::from_secs));
    assert_eq!(settings.retry.ladder(), Duration::from_secs(210 + 540));
    assert_eq!(settings.kafka.brokers, "127.0.0.1:19092");
    assert!(settings.database.is_none());
    assert!(!settings.fault_injection);
}

#[rstest]
#[case("HTTP_ADDR", "8081")]
#[case("DATABASE_URL", "mysql://x")]
#[case("DATABASE_POOL_SIZE", "0")]
#[case("TOPIC_PREFIX", "a b")]
#[case("ZIPKIN_ENDPOINT", "ftp://x")]
#[case("OTEL_TRACES_EXPORTER", "jaeger")]
#[case("OTEL_TRACES_SAMPLER_ARG", "1.5")]
#[case("OTEL_TRACES_SAMPLER_ARG", "NaN")]
#[case("LOG_FORMAT", "xml")]
#[case("RUST_LOG", "info,=,")]
#[case("AUTH_MODE", "none")]
#[case("RETRY_IMMEDIATE", "-1")]
#[case("RETRY_DELAYS", "30s,1m")]
#[case("RETRY_DELAYS", "30s,1m,2")]
#[case("PARKED_INTERVAL", "3")]
#[case("ORDER_TIMEOUT", "99999999999999999999h")]
#[case("FAULT_INJECTION", "yes")]
fn a_wrong_value_stops_the_start_with_one_line_that_names_it(#[case] name: &'static str, #[case] held: &'static str) {
    let line = read(&[("DATABASE_URL", "postgres://h/db"), (name, held)]).expect_err("refused").to_string();
    assert!(line.starts_with(&format!("{name} holds {held:?}; it may hold ")), "{line}");
    assert_eq!(line.lines().count(), 1);
}

#[rstest]
#[case("DATABASE_URL", "postgres://order:hunter2@h:x/db")]
#[case("DATABASE_URL", "host=h password='hunter2 x' frob=1")]
#[case("ZIPKIN_ENDPOINT", "gopher://order:hunter2@h/")]
#[case("AUTH_JWT_SECRET", "hunter2")]
fn no_secret_is_shown(#[case] name: &'static str, #[case] held: &'static str) {
    let line = read(&[(name, held)]).expect_err("refused").to_string();
    assert!(line.starts_with(name) && line.contains("***"), "{line}");
    assert!(!line.contains("hunter2"), "{line}");
}

#[test]
fn a_long_value_and_its_line_breaks_stay_on_one_short_line() {
    let line = Env::of([("N", format!("a\nb{}", "x".repeat(9_999)))]).required::<u16>("N").expect_err("refused");
    assert!(line.to_string().len() < 300 && line.to_string().lines().count() == 1);
}

#[test]
fn header_mode_needs_loopback_or_a_gateway() {
    let open = ("HTTP_ADDR", "0.0.0.0:8081");
    assert!(read(&[("AUTH_MODE", "header")]).is_ok());
    let refused = read(&[("AUTH_MODE", "header"), open]).expect_err("refused").to_string();
    assert!(refused.starts_with("AUTH_MODE holds \"header\"; it may hold header only where"), "{refused}");
    assert!(read(&[("AUTH_MODE", "header"), open, ("AUTH_TRUST_GATEWAY", "true")]).is_ok());
}

#[test]
fn faults_are_injected_on_loopback_only() {
    assert!(read(&[("FAULT_INJECTION", "true")]).expect("allowed").fault_injection);
    let refused = read(&[("FAULT_INJECTION", "true"), ("HTTP_ADDR", "0.0.0.0:8081")]).expect_err("refused");
    assert!(refused.to_string().starts_with("FAULT_INJECTION holds"));
}

#[test]
fn jwt_mode_needs_one_key_and_an_audience_and_the_relay_needs_neither() {
    let refused = CommonSettings::read(Service::Order, &Env::default()).expect_err("refused").to_string();
    assert!(refused.starts_with("AUTH_JWT_SECRET is not set"), "{refused}");
    let refused = CommonSettings::read(Service::Order, &Env::of([jwt()[0]])).expect_err("refused").to_string();
    assert!(refused.starts_with("AUTH_JWT_AUDIENCE is not set"), "{refused}");
    assert!(read(&[("AUTH_JWKS_URL", "https://id.example/jwks")]).is_err(), "two keys, two algorithms");
    assert!(CommonSettings::read(Service::OutboxRelay, &Env::default()).expect("valid").auth.is_none());
}

#[test]
fn kafka_s_security_is_passed_on_in_librdkafka_s_names() {
    let settings = read(&[
        ("KAFKA_SECURITY_PROTOCOL", "SASL_SSL"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
        ("KAFKA_SSL_CA_LOCATION", "/etc/ca.pem"),
    ])
    .expect("valid");
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        settings.kafka.security,
        [
            pair("sasl.password", "hunter2"),
            pair("security.protocol", "SASL_SSL"),
            pair("ssl.ca.location", "/etc/ca.pem")
        ]
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    assert_eq!(Env::of([("N", "")]).or("N", 7_u16), Ok(7));
}
