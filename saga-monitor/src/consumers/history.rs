//! How groups did over the last hour: one beat per look, in memory only. What is older, or was before a restart, is
//! Prometheus' to know.

use std::collections::{BTreeMap, VecDeque};

use chrono::{DateTime, Utc};
use common_events::{Service, Topic};

use super::Look;
use crate::{cluster::topics_read_by, services::readers};

/// An hour of looks every five seconds.
pub const BEATS_KEPT: usize = 720;

/// How a group did between two looks.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Beat {
    /// Records before it, over all its topics; none while Kafka didn't answer.
    pub lag: Option<i64>,
    /// Events it handled per second.
    pub handled: f64,
}

/// How all groups did at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Moment {
    /// When it was looked.
    pub at: DateTime<Utc>,
    /// Events of all topics that Kafka acknowledged per second.
    pub published: f64,
    /// By group.
    pub groups: BTreeMap<Service, Beat>,
}

/// The beats of the last hour.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Moment>);

impl History {
    pub(super) fn take(&mut self, before: &Look, now: &Look) {
        self.0.push_back(moment(before, now));
        if self.0.len() > BEATS_KEPT {
            self.0.pop_front();
        }
    }

    pub(super) fn moments(&self) -> Vec<Moment> {
        self.0.iter().cloned().collect()
    }
}

fn moment(before: &Look, now: &Look) -> Moment {
    Moment {
        at: now.at,
        published: Topic::ALL.iter().map(|topic| now.publish_rate(before, topic.name())).sum(),
        groups: readers().map(|group| (group, beat(before, now, group))).collect(),
    }
}

fn beat(before: &Look, now: &Look, group: Service) -> Beat {
    let topics: Vec<String> = topics_read_by(group).collect();
    let lag = now.cluster.as_ref().map(|cluster| {
        let partitions = cluster.ends.keys().filter(|(topic, _)| topics.contains(topic));
        partitions.filter_map(|at| cluster.lag(group, at)).sum()
    });
    let handled = topics.iter().map(|topic| now.handle_rate(before, group, topic)).sum();
    Beat { lag, handled }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::{
        cluster::Standing,
        consumers::{HANDLED, PUBLISHED, Sample},
        services::Process,
    };

    fn look(seconds: i64, handled: u32, end: i64) -> Look {
        let text = format!("events_handled_total{{topic=\"order-created\"}} {handled}\n");
        let at = ("order-created".to_owned(), 0);
        let committed = [(Service::Coupon, <_>::default())].into();
        let cluster = Standing { ends: [(at, end)].into(), committed, ..Standing::default() };
        Look {
            at: DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds),
            cluster: Some(cluster),
            samples: [(first(Service::Coupon), Sample::read(&text))].into(),
        }
    }

    const fn first(service: Service) -> Process {
        Process { service, nth: 0 }
    }

    fn near(rate: f64, expected: f64) {
        assert!((rate - expected).abs() < 1e-9, "{rate}, not {expected}");
    }

    #[test]
    fn a_beat_is_what_happened_between_two_looks_and_an_hour_of_them_is_kept() {
        let mut history = History::default();
        for step in 0..=BEATS_KEPT {
            let seconds = i64::try_from(step).expect("few") * 5;
            let handled = u32::try_from(step).expect("few") * 50;
            history.take(&look(seconds, handled, 7), &look(seconds + 5, handled + 50, 7));
        }
        let moments = history.moments();
        assert_eq!(moments.len(), BEATS_KEPT);
        let beat = moments.last().expect("some").groups[&Service::Coupon];
        assert_eq!(beat.lag, Some(7));
        assert!((beat.handled - 10.0).abs() < 1e-9, "{beat:?}");
    }

    /// What is written waits in the outbox; it is published once Kafka has it, by whom it may be.
    #[test]
    fn what_is_published_is_what_kafka_acknowledged() {
        let at = |seconds: i64, (written, relayed, direct): (u32, u32, u32)| {
            let said = |name: &str, count: u32, topic: &str| format!("{name}{{topic=\"{topic}\"}} {count}\n");
            let order = said("events_written_total", written, "order-created");
            let relay = said(PUBLISHED, relayed, "order-created") + &said(PUBLISHED, relayed, "coupon-issue-requested");
            let coupon = said(PUBLISHED, direct, "coupon-issue-requested");
            let services = [(Service::Order, order), (Service::OutboxRelay, relay), (Service::Coupon, coupon)];
            let samples = services.map(|(service, text)| (first(service), Sample::read(&text))).into();
            Look { samples, ..look(seconds, 0, 0) }
        };
        let (before, now) = (at(0, (0, 0, 0)), at(5, (500, 10, 20)));
        let rate = |topic: &str| now.doing(&before, Service::Coupon, topic).publish_rate;
        near(rate("order-created"), 2.0);
        near(rate("coupon-issue-requested"), 6.0);
        near(moment(&before, &now).published, 8.0);
    }

    #[test]
    fn processes_of_one_service_are_added_up_and_one_that_did_not_answer_before_counts_for_nothing() {
        let at = |seconds: i64, counted: &[(usize, u32)]| {
            let said = |count: u32| {
                format!("{PUBLISHED}{{topic=\"order-created\"}} {count}\n")
                    + &format!("{HANDLED}{{topic=\"order-created\"}} {count}\n")
            };
            let process = |nth| Process { service: Service::Coupon, nth };
            let samples = counted.iter().map(|(nth, count)| (process(*nth), Sample::read(&said(*count)))).collect();
            Look { samples, ..look(seconds, 0, 0) }
        };
        let rates = |before: &Look, now: &Look| {
            let doing = now.doing(before, Service::Coupon, "order-created");
            near(doing.publish_rate, doing.handle_rate);
            near(moment(before, now).published, doing.publish_rate);
            doing.publish_rate
        };
        near(rates(&at(0, &[(0, 100), (1, 0)]), &at(5, &[(0, 110), (1, 20)])), 6.0);
        near(rates(&at(0, &[(0, 100)]), &at(5, &[(0, 110), (1, 1_000)])), 2.0);
        near(rates(&at(0, &[]), &at(5, &[(0, 1_000)])), 0.0);
        // One that began anew counts from nothing.
        near(rates(&at(0, &[(0, 100), (1, 100)]), &at(5, &[(0, 110), (1, 3)])), 2.0);
    }

    #[test]
    fn while_kafka_does_not_answer_no_lag_is_known() {
        let away = Look { cluster: None, ..look(5, 0, 0) };
        assert_eq!(moment(&look(0, 0, 0), &away).groups[&Service::Coupon].lag, None);
    }
}
