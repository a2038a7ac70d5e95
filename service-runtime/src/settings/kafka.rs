//! How Kafka is reached, and how to get in (docs/contract.md §6).
//!
//! What is passed on to librdkafka is checked here, so that a wrong variable stops the start by its name and
//! no secret gets into librdkafka's own complaints. Mechanisms that the build has no use for (Kerberos, and
//! OAUTHBEARER, which needs somebody to fetch tokens) are left out on purpose.

use std::{fmt, fs, path::Path};

use openssl::{pkcs12::Pkcs12, pkey::PKey, x509::X509};
use secrecy::SecretString;

use super::{Env, Setting, SettingError};

/// How Kafka is reached. Plain data: `messaging` hands it to librdkafka.
#[derive(Clone)]
pub struct KafkaSettings {
    /// `KAFKA_BROKERS` (127.0.0.1:19092).
    pub brokers: String,
    /// `TOPIC_PREFIX` (empty): goes before the names of topics and groups.
    pub topic_prefix: String,
    /// librdkafka's own settings, from `KAFKA_SECURITY_PROTOCOL`, `KAFKA_SASL_*`, `KAFKA_SSL_*`:
    /// `KAFKA_SSL_CA_LOCATION` becomes `ssl.ca.location`. Secrets are among the values.
    pub security: Vec<(String, String)>,
}

impl fmt::Debug for KafkaSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.security.iter().map(|(name, _)| name).collect();
        f.debug_struct("KafkaSettings")
            .field("brokers", &self.brokers)
            .field("topic_prefix", &self.topic_prefix)
            .field("security", &names)
            .finish()
    }
}

const PROTOCOL: &str = "KAFKA_SECURITY_PROTOCOL";
const SASL: &str = "KAFKA_SASL_";
const SSL: &str = "KAFKA_SSL_";

type Check = fn(&Env, &str) -> Result<(), SettingError>;

/// Every variable that is passed on, and what it is held against.
const PASSED_ON: [(&str, Check); 19] = [
    (PROTOCOL, is_a::<Protocol>),
    ("KAFKA_SASL_MECHANISM", is_a::<Mechanism>),
    ("KAFKA_SASL_MECHANISMS", is_a::<Mechanism>),
    ("KAFKA_SASL_USERNAME", is_a::<String>),
    ("KAFKA_SASL_PASSWORD", is_a::<SecretString>),
    ("KAFKA_SSL_CA_LOCATION", is_a::<Authorities>),
    ("KAFKA_SSL_CA_PEM", is_a::<Certificates>),
    ("KAFKA_SSL_CERTIFICATE_LOCATION", is_a::<CertificateFile>),
    ("KAFKA_SSL_CERTIFICATE_PEM", is_a::<Certificates>),
    ("KAFKA_SSL_KEY_LOCATION", is_a_key_file),
    ("KAFKA_SSL_KEY_PEM", is_a_key),
    ("KAFKA_SSL_KEY_PASSWORD", is_a::<SecretString>),
    ("KAFKA_SSL_KEYSTORE_LOCATION", is_a_key_store),
    ("KAFKA_SSL_KEYSTORE_PASSWORD", is_a::<SecretString>),
    ("KAFKA_SSL_CRL_LOCATION", is_a::<ReadableFile>),
    ("KAFKA_SSL_ENDPOINT_IDENTIFICATION_ALGORITHM", is_a::<Identification>),
    ("KAFKA_SSL_CIPHER_SUITES", is_a::<String>),
    ("KAFKA_SSL_CURVES_LIST", is_a::<String>),
    ("KAFKA_SSL_SIGALGS_LIST", is_a::<String>),
];

impl KafkaSettings {
    /// Reads and checks `KAFKA_…` and `TOPIC_PREFIX`.
    pub fn read(env: &Env) -> Result<Self, SettingError> {
        let mut security = Vec::new();
        for start in [PROTOCOL, SASL, SSL] {
            for (end, held) in env.starting_with(start) {
                let name = format!("{start}{end}");
                let Some((_, check)) = PASSED_ON.iter().find(|(known, _)| *known == name) else {
                    return Err(SettingError::wrong(&name, "***", format!("nothing: {}", known_names(start))));
                };
                check(env, &name)?;
                let property = name.trim_start_matches("KAFKA_").to_ascii_lowercase().replace('_', ".");
                security.push((property, held.to_owned()));
            }
        }
        check_protocol(env)?;
        Ok(Self {
            brokers: env.or("KAFKA_BROKERS", Brokers("127.0.0.1:19092".to_owned()))?.0,
            topic_prefix: env.or("TOPIC_PREFIX", TopicPrefix(String::new()))?.0,
            security,
        })
    }
}

fn known_names(start: &str) -> String {
    let names: Vec<_> = PASSED_ON.iter().map(|(name, _)| *name).filter(|name| name.starts_with(start)).collect();
    format!("there are {}", names.join(", "))
}

/// What isn't used by the protocol would be silently left out: who gave a password means to be let in by it.
fn check_protocol(env: &Env) -> Result<(), SettingError> {
    let protocol = env.or(PROTOCOL, Protocol::Plaintext)?;
    let (logs_in, encrypts) = match protocol {
        Protocol::Plaintext => (false, false),
        Protocol::Ssl => (false, true),
        Protocol::SaslPlaintext => (true, false),
        Protocol::SaslSsl => (true, true),
    };
    let held = env.text(PROTOCOL).unwrap_or_default();
    if !logs_in && let Some((end, _)) = env.starting_with(SASL).next() {
        let may_hold = format!("sasl_plaintext or sasl_ssl where {SASL}{end} is set");
        return Err(SettingError::wrong(PROTOCOL, held, may_hold));
    }
    if !encrypts && let Some((end, _)) = env.starting_with(SSL).next() {
        return Err(SettingError::wrong(PROTOCOL, held, format!("ssl or sasl_ssl where {SSL}{end} is set")));
    }
    if logs_in {
        if env.text("KAFKA_SASL_MECHANISMS").is_none() {
            env.required::<Mechanism>("KAFKA_SASL_MECHANISM")?;
        }
        env.required::<String>("KAFKA_SASL_USERNAME")?;
        env.required::<SecretString>("KAFKA_SASL_PASSWORD")?;
    }
    Ok(())
}

fn is_a<T: Setting>(env: &Env, name: &str) -> Result<(), SettingError> {
    env.optional::<T>(name).map(drop)
}

fn is_a_key_file(env: &Env, name: &str) -> Result<(), SettingError> {
    let file = env.text(name).unwrap_or_default();
    let may_hold = "a file with a private key in PEM, which KAFKA_SSL_KEY_PASSWORD opens if it is locked";
    if fs::read(file).is_ok_and(|pem| opens(env, &pem)) {
        return Ok(());
    }
    Err(SettingError::wrong(name, file, may_hold))
}

fn is_a_key(env: &Env, name: &str) -> Result<(), SettingError> {
    if opens(env, env.text(name).unwrap_or_default().as_bytes()) {
        return Ok(());
    }
    let may_hold = "a private key in PEM, which KAFKA_SSL_KEY_PASSWORD opens if it is locked";
    Err(SettingError::wrong(name, "***", may_hold))
}

fn opens(env: &Env, pem: &[u8]) -> bool {
    let password = env.text("KAFKA_SSL_KEY_PASSWORD").unwrap_or_default();
    PKey::private_key_from_pem_passphrase(pem, password.as_bytes()).is_ok()
}

fn is_a_key_store(env: &Env, name: &str) -> Result<(), SettingError> {
    let file = env.text(name).unwrap_or_default();
    let password = env.text("KAFKA_SSL_KEYSTORE_PASSWORD").unwrap_or_default();
    let store = fs::read(file).ok().and_then(|der| Pkcs12::from_der(&der).ok());
    if store.is_some_and(|store| store.parse2(password).is_ok()) {
        return Ok(());
    }
    Err(SettingError::wrong(name, file, "a PKCS #12 file, which KAFKA_SSL_KEYSTORE_PASSWORD opens"))
}

enum Protocol {
    Plaintext,
    Ssl,
    SaslPlaintext,
    SaslSsl,
}

impl Setting for Protocol {
    const MAY_HOLD: &'static str = "plaintext, ssl, sasl_plaintext or sasl_ssl";

    fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "plaintext" => Some(Self::Plaintext),
            "ssl" => Some(Self::Ssl),
            "sasl_plaintext" => Some(Self::SaslPlaintext),
            "sasl_ssl" => Some(Self::SaslSsl),
            _ => None,
        }
    }
}

struct Mechanism;

impl Setting for Mechanism {
    const MAY_HOLD: &'static str = "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512";

    fn parse(text: &str) -> Option<Self> {
        matches!(text, "PLAIN" | "SCRAM-SHA-256" | "SCRAM-SHA-512").then_some(Self)
    }
}

struct Identification;

impl Setting for Identification {
    const MAY_HOLD: &'static str = "https, or none to believe a broker under any name";

    fn parse(text: &str) -> Option<Self> {
        matches!(text, "https" | "none").then_some(Self)
    }
}

struct Certificates;

impl Setting for Certificates {
    const MAY_HOLD: &'static str = "certificates in PEM";

    fn parse(text: &str) -> Option<Self> {
        X509::stack_from_pem(text.as_bytes()).is_ok_and(|found| !found.is_empty()).then_some(Self)
    }
}

struct CertificateFile;

impl Setting for CertificateFile {
    const MAY_HOLD: &'static str = "a file with certificates in PEM";

    fn parse(text: &str) -> Option<Self> {
        Certificates::parse(&fs::read_to_string(text).ok()?).map(|_| Self)
    }
}

struct Authorities;

impl Setting for Authorities {
    const MAY_HOLD: &'static str = "a file with certificates in PEM, a folder of such, or probe for the system's own";

    fn parse(text: &str) -> Option<Self> {
        let there = text == "probe" || Path::new(text).is_dir() || CertificateFile::parse(text).is_some();
        there.then_some(Self)
    }
}

/// A file that can be read now.
pub(super) struct ReadableFile(pub(super) String);

impl Setting for ReadableFile {
    const MAY_HOLD: &'static str = "a file that can be read";

    fn parse(text: &str) -> Option<Self> {
        fs::read(text).ok().map(|_| Self(text.to_owned()))
    }
}

struct Brokers(String);

impl Setting for Brokers {
    const MAY_HOLD: &'static str = "brokers separated by commas, such as 127.0.0.1:19092";

    fn parse(text: &str) -> Option<Self> {
        let is_broker = |broker: &str| {
            let (host, port) = broker.trim().rsplit_once(':').unwrap_or((broker.trim(), "9092"));
            !host.is_empty() && !host.contains(char::is_whitespace) && port.parse::<u16>().is_ok_and(|port| port > 0)
        };
        text.split(',').all(is_broker).then(|| Self(text.to_owned()))
    }
}

struct TopicPrefix(String);

impl Setting for TopicPrefix {
    const MAY_HOLD: &'static str = "at most 64 of the characters A-Z a-z 0-9 . _ -";

    fn parse(text: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        (text.len() <= 64 && text.bytes().all(allowed)).then(|| Self(text.to_owned()))
    }
}
