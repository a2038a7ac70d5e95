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
#[case("RETRY_DELAYS", "30s,1m,9999h")]
#[case("RETRY_DELAYS", "0s,1m,2m")]
#[case("PARKED_INTERVAL", "3")]
#[case("PARKED_INTERVAL", "0s")]
#[case("ORDER_TIMEOUT", "0ms")]
#[case("ORDER_TIMEOUT", "5000000000h")]
#[case("STUCK_AFTER", "9999h")]
#[case("DATABASE_POOL_WAIT", "0s")]
#[case("DATABASE_STATEMENT_TIMEOUT", "0s")]
#[case("DATABASE_START_WAIT", "2h")]
#[case("DATABASE_SSL_ROOT_CERT", "/nowhere/ca.pem")]
#[case("KAFKA_BROKERS", "127.0.0.1:19092,")]
#[case("KAFKA_BROKERS", "127.0.0.1:0")]
#[case("KAFKA_BROKERS", "kafka one:9092")]
#[case("KAFKA_SECURITY_PROTOCOL", "tls")]
#[case("KAFKA_SASL_MECHANISM", "GSSAPI")]
#[case("KAFKA_SSL_CA_LOCATION", "/nowhere/ca.pem")]
#[case("KAFKA_SSL_CA_LOCATION", "Cargo.toml")]
#[case("KAFKA_SSL_KEY_LOCATION", "Cargo.toml")]
#[case("KAFKA_SSL_KEYSTORE_LOCATION", "Cargo.toml")]
#[case("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", "off")]
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
#[case("KAFKA_SASL_PASWORD", "hunter2")]
#[case("KAFKA_SSL_KEY_PEM", "hunter2")]
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
        ("KAFKA_SASL_MECHANISM", "SCRAM-SHA-512"),
        ("KAFKA_SASL_USERNAME", "order"),
        ("KAFKA_SASL_PASSWORD", "hunter2"),
        ("KAFKA_SSL_CA_LOCATION", "probe"),
    ])
    .expect("valid");
    let passed_on: Vec<_> = settings.kafka.security.iter().map(|(name, held)| (name.as_str(), held.as_str())).collect();
    assert_eq!(
        passed_on,
        [
            ("security.protocol", "SASL_SSL"),
            ("sasl.mechanism", "SCRAM-SHA-512"),
            ("sasl.password", "hunter2"),
            ("sasl.username", "order"),
            ("ssl.ca.location", "probe"),
        ]
    );
    assert!(!format!("{settings:?}").contains("hunter2"));
    assert!(!format!("{settings:?}").contains(SECRET));
}

#[rstest]
#[case::nobody(&[("KAFKA_SECURITY_PROTOCOL", "sasl_ssl")], "KAFKA_SASL_MECHANISM is not set")]
#[case::no_password(&[
    ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"), ("KAFKA_SASL_MECHANISM", "PLAIN"), ("KAFKA_SASL_USERNAME", "order"),
], "KAFKA_SASL_PASSWORD is not set")]
#[case::in_the_clear(&[("KAFKA_SASL_USERNAME", "order")], "KAFKA_SECURITY_PROTOCOL holds \"\"; it may hold sasl_")]
#[case::no_tls(&[("KAFKA_SSL_CA_LOCATION", "probe")], "KAFKA_SECURITY_PROTOCOL holds \"\"; it may hold ssl or")]
#[case::no_such(&[("KAFKA_SSL_KEY", "x")], "KAFKA_SSL_KEY holds \"***\"; it may hold nothing: there are KAFKA_SSL_CA")]
fn security_that_would_silently_be_none_stops_the_start(
    #[case] held: &[(&'static str, &'static str)],
    #[case] line: &str,
) {
    let said = read(held).expect_err("refused").to_string();
    assert!(said.starts_with(line), "{said}");
}

#[test]
fn a_locked_key_needs_its_password() {
    let key = openssl::rsa::Rsa::generate(2048).and_then(openssl::pkey::PKey::from_rsa).expect("a key");
    let cipher = openssl::symm::Cipher::aes_128_cbc();
    let pem = key.private_key_to_pem_pkcs8_passphrase(cipher, b"hunter2").expect("PEM");
    let pem = String::from_utf8(pem).expect("text");
    let of = |password: &str| {
        let held =
            [("KAFKA_SECURITY_PROTOCOL", "ssl"), ("KAFKA_SSL_KEY_PEM", &pem), ("KAFKA_SSL_KEY_PASSWORD", password)];
        KafkaSettings::read(&Env::of(held))
    };
    assert!(of("hunter2").is_ok());
    let refused = of("hunter3").expect_err("refused").to_string();
    assert!(refused.starts_with("KAFKA_SSL_KEY_PEM holds \"***\"; it may hold a private key"), "{refused}");
}

#[test]
fn a_duration_out_of_bounds_is_told_the_bounds() {
    let line = read(&[("ORDER_TIMEOUT", "1ms")]).expect_err("refused").to_string();
    assert!(line.ends_with("it may hold a duration such as 250ms, 30s, 1m or 2h from 100ms to 168h"), "{line}");
}

#[test]
fn an_empty_variable_is_one_that_is_not_set() {
    assert_eq!(Env::of([("N", "")]).or("N", 7_u16), Ok(7));
}
