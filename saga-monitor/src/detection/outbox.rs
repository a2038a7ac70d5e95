//! Events that don't leave a service's database: the relay is dead, or Kafka doesn't take their topic. The services tell of
//! their outboxes themselves, as a dead relay tells nothing.

use chrono::TimeDelta;
use common_events::Service;
use serde_json::json;

use crate::{
    alarm::{AlarmKind, CauseClass, Raised},
    consumers::Look,
    services::readers,
};

/// What the services say of their outboxes.
pub(super) struct Outboxes {
    /// Those in which something waits for too long, by topic.
    pub(super) raised: Vec<Raised>,
    /// Who said nothing.
    pub(super) silent: Vec<Service>,
}

/// The outboxes in which something waited for longer than `too_long` at this look.
pub(super) fn waiting(look: &Look, too_long: TimeDelta) -> Outboxes {
    let mut found = Outboxes { raised: Vec::new(), silent: Vec::new() };
    for service in readers() {
        // Of several processes each tells of the same database.
        let Some(sample) = look.of(service).next() else {
            found.silent.push(service);
            continue;
        };
        for (topic, seconds) in sample.by("outbox_oldest_seconds", "topic") {
            if seconds > too_long.as_seconds_f64() {
                found.raised.push(raised(service, topic, sample.sum("outbox_rows_waiting", &[("topic", topic)])));
            }
        }
    }
    found
}

#[expect(clippy::cast_possible_truncation, reason = "the cast saturates; counts are whole")]
fn raised(service: Service, topic: &str, rows: f64) -> Raised {
    Raised {
        kind: AlarmKind::Outbox,
        cause: format!("{service}/{topic}"),
        class: CauseClass::OutboxWaits,
        title: format!("events of {topic} don't leave {service}'s database"),
        detail: json!({"service": service.name(), "topic": topic}),
        count: rows as i64,
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::*;
    use crate::{consumers::Sample, services::Process};

    #[test]
    fn what_waits_for_too_long_is_told_of_by_service_and_topic() {
        let text = "outbox_oldest_seconds{topic=\"order-created\"} 61.5\noutbox_rows_waiting{topic=\"order-created\"} 12\n\
                    outbox_oldest_seconds{topic=\"order-confirmed\"} 0.2\noutbox_rows_waiting{topic=\"order-confirmed\"} 3\n";
        let first = |service| Process { service, nth: 0 };
        let samples = [(first(Service::Order), Sample::read(text)), (first(Service::Payment), Sample::read(""))].into();
        let look = Look { at: DateTime::<Utc>::UNIX_EPOCH, cluster: None, samples };
        let Outboxes { raised, silent } = waiting(&look, TimeDelta::minutes(1));
        let told: Vec<(&str, i64)> = raised.iter().map(|one| (&*one.cause, one.count)).collect();
        assert_eq!(told, [("order-service/order-created", 12)]);
        assert!(silent.contains(&Service::Coupon) && !silent.contains(&Service::Payment));
    }
}
