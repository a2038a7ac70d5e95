//! The envelope, as one event wears it.

use super::*;
use crate::{
    CancelReason, CouponRefusal, IssuedCouponId, OrderId, ReasonCode, Won,
    events::{CouponUseFailed, OrderCancelled, OrderConfirmed, v1},
    versions::Before,
};
use schemars::JsonSchema;
use uuid::Uuid;

fn event() -> Event<OrderConfirmed> {
    let order_id = OrderId::new(Uuid::from_u128(7));
    Event {
        id: EventId::new(Uuid::from_u128(42)),
        time: "2026-11-21T06:00:00.123Z".parse().expect("a time"),
        subject: order_id.to_string(),
        trace: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("a trace"),
        data: OrderConfirmed {
            order_id,
            order_version: 3,
            user_id: "kim".parse().expect("a user"),
            total: Won::try_from(12_000).expect("an amount"),
            confirmed_at: "2026-11-21T06:00:00Z".parse().expect("a time"),
        },
    }
}

fn value() -> serde_json::Value {
    serde_json::from_slice(&encode(&event()).expect("encodes")).expect("is JSON")
}

fn decoded(value: &serde_json::Value) -> Result<Event<OrderConfirmed>, DecodeError> {
    decode(value.to_string().as_bytes())
}

#[test]
fn an_event_reads_as_it_was_written() {
    assert_eq!(decoded(&value()).expect("decodes"), event());
    assert_eq!(value()["time"], "2026-11-21T06:00:00.123Z");
    assert_eq!(value()["source"], "/order-service");
    assert_eq!(value()["dataschema"], "urn:commerce:order-confirmed:1");
}

#[test]
fn a_field_added_later_is_skipped() {
    let mut value = value();
    value["data"]["loyaltyTier"] = "gold".into();
    value["partitionkey"] = "x".into();
    assert!(decoded(&value).is_ok());
}

#[test]
fn what_is_no_such_event_says_why() {
    let mut other_type = value();
    other_type["type"] = "order-vanished".into();
    assert!(matches!(decoded(&other_type), Err(DecodeError::Type { .. })));

    let mut later_version = value();
    later_version["dataschema"] = "urn:commerce:order-confirmed:2".into();
    later_version["data"] = serde_json::json!({});
    assert!(matches!(decoded(&later_version), Err(DecodeError::Newer { .. })));

    for none in ["order-confirmed:0", "order-confirmed:01", "order-confirmed:+1", "order-confirmed:", "order-created:1"]
    {
        let mut no_version = value();
        no_version["dataschema"] = format!("urn:commerce:{none}").into();
        assert!(matches!(decoded(&no_version), Err(DecodeError::Version { .. })), "{none}");
    }

    let mut no_id = value();
    no_id.as_object_mut().expect("an object").remove("id");
    assert!(matches!(decoded(&no_id), Err(DecodeError::Schema { .. })));

    let mut two_traces = value();
    two_traces["traceid"] = "00000000000000000000000000000001".into();
    assert!(matches!(decoded(&two_traces), Err(DecodeError::Attribute(_))));

    assert!(matches!(decode::<OrderConfirmed>(b"rubbish"), Err(DecodeError::Schema { .. })));
}

#[test]
fn the_label_of_anything_can_be_peeked_at() {
    assert_eq!(peek(b"\xff\x00"), Peeked::default());
    assert_eq!(peek(br#"{"id":17,"type":"x"}"#).kind.as_deref(), Some("x"));
    assert_eq!(peek(value().to_string().as_bytes()).id, Some(event().id));
}

/// The first version of an event that has a second.
fn first_version() -> Event<v1::OrderCancelled> {
    let OrderConfirmed { order_id, order_version, user_id, confirmed_at: cancelled_at, .. } = event().data;
    event().map(|_| v1::OrderCancelled {
        order_id,
        order_version,
        user_id,
        lines: Vec::new(),
        issued_coupon_id: None,
        reason: v1::Reason::Timeout.into(),
        note: None,
        cancelled_at,
    })
}

#[test]
fn an_older_version_is_read_as_the_newest() {
    let read: Event<OrderCancelled> = decode(&encode(&first_version()).expect("encodes")).expect("decodes");
    assert_eq!(read, first_version().map(OrderCancelled::from));
    assert_eq!(read.data.reason, CancelReason::Timeout);
    assert_eq!((v1::OrderCancelled::VERSION, OrderCancelled::VERSION), (1, 2));
}

#[test]
fn an_older_reader_says_that_a_version_is_newer() {
    let second = encode(&first_version().map(OrderCancelled::from)).expect("encodes");
    let refused = decode::<v1::OrderCancelled>(&second).expect_err("it is newer");
    assert!(matches!(&refused, DecodeError::Newer { found, .. } if found == "urn:commerce:order-cancelled:2"));
}

#[test]
fn a_reason_that_is_not_known_is_kept_in_either_version() {
    let mut value: serde_json::Value =
        serde_json::from_slice(&encode(&first_version()).expect("encodes")).expect("is JSON");
    value["data"]["reason"] = "RECALLED".into();
    for version in [1, 2] {
        value["dataschema"] = schema_urn(Topic::OrderCancelled, version).into();
        let read: Event<OrderCancelled> = decode(value.to_string().as_bytes()).expect("decodes");
        assert_eq!(read.data.reason.as_str(), "RECALLED", "version {version}");
    }
}

/// What a type said first, which can't be read as its newest version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct InWon {
    total: Won,
}

/// The newest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
struct InAnyCurrency {
    total: Won,
    currency: String,
}

impl From<InWon> for InAnyCurrency {
    fn from(InWon { total }: InWon) -> Self {
        Self { total, currency: "KRW".to_owned() }
    }
}

impl EventData for InWon {
    const TOPIC: Topic = Topic::OrderConfirmed;

    fn key(&self) -> Cow<'_, str> {
        "a key".into()
    }
}

impl EventData for InAnyCurrency {
    const TOPIC: Topic = Topic::OrderConfirmed;
    const BEFORE: Option<Before<Self>> = Some(Before::only_read::<InWon>());

    fn key(&self) -> Cow<'_, str> {
        "a key".into()
    }
}

fn in_won() -> serde_json::Value {
    let event = event().map(|data| InWon { total: data.total });
    serde_json::from_slice(&encode(&event).expect("encodes")).expect("is JSON")
}

#[test]
fn the_label_says_which_version_it_is() {
    let currency = |value: &serde_json::Value| {
        decode::<InAnyCurrency>(value.to_string().as_bytes()).map(|event| event.data.currency)
    };
    let mut value = in_won();
    assert_eq!(currency(&value).expect("decodes"), "KRW");
    value["data"]["currency"] = "EUR".into();
    assert_eq!(currency(&value).expect("decodes"), "KRW", "it fits the newest version, and says that it is the first");
    value["dataschema"] = schema_urn(Topic::OrderConfirmed, 2).into();
    assert_eq!(currency(&value).expect("decodes"), "EUR");
}

#[test]
fn an_older_version_in_another_envelope_is_refused_as_the_newest_is() {
    for currency in [None, Some("EUR")] {
        let mut value = in_won();
        value["specversion"] = "0.3".into();
        if let Some(currency) = currency {
            value["data"]["currency"] = currency.into();
        }
        let refused = decode::<InAnyCurrency>(value.to_string().as_bytes()).expect_err("the envelope is none of ours");
        assert!(matches!(refused, DecodeError::Attribute(_)), "{refused}");
    }
}

#[test]
fn data_alone_is_read_by_its_schema() {
    let data = serde_json::to_string(&first_version().data).expect("JSON");
    let read = |version| decode_data::<OrderCancelled>(&schema_urn(Topic::OrderCancelled, version), &data);
    assert_eq!(read(1).expect("decodes"), first_version().data.into());
    assert_eq!(read(2).expect("decodes"), first_version().data.into());
    assert!(matches!(read(3), Err(DecodeError::Newer { .. })));
    assert!(matches!(decode_data::<OrderCancelled>("", &data), Err(DecodeError::Version { .. })));
}

/// Readers first: a version that some may not know yet is told only where the one before can't say it.
#[test]
fn what_the_version_before_can_say_is_told_in_it_as_long_as_that_is_so() {
    let refused = |reason| {
        event().map(|_| CouponUseFailed {
            order_id: event().data.order_id,
            issued_coupon_id: IssuedCouponId::new(Uuid::from_u128(8)),
            reason,
        })
    };
    let later = "RECALLED".parse::<ReasonCode>().expect("a code");
    for (reason, version) in [(CouponRefusal::Expired, 1), (later.into(), 2)] {
        let told = encode(&refused(reason)).expect("encodes");
        assert_eq!(peek(&told).dataschema, Some(schema_urn(Topic::CouponUseFailed, version)));
        assert_eq!(decode::<CouponUseFailed>(&told).expect("decodes"), refused(reason));
        let newest = encode_newest(&refused(reason)).expect("encodes");
        assert_eq!(peek(&newest).dataschema, Some(schema_urn(Topic::CouponUseFailed, 2)));
    }
    let cancelled = encode(&first_version().map(OrderCancelled::from)).expect("encodes");
    assert_eq!(peek(&cancelled).dataschema, Some(schema_urn(Topic::OrderCancelled, 2)), "every reader knows it");
}
