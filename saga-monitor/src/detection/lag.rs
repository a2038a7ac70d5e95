//! Groups that fall behind: the lag of a topic that grows from look to look.

use std::collections::{BTreeMap, VecDeque};

use common_events::Service;
use messaging::OwnTopic;
use serde_json::json;

use crate::{
    alarm::{AlarmKind, CauseClass, Raised},
    cluster::{Standing, topics_read_by},
    services::readers,
};

/// A lag that grew over so many looks is growing.
const LOOKS: usize = 5;
/// Less than this, in records, is no lag to speak of.
const MIN_LAG: i64 = 500;

/// The last looks at the lag of every group and topic.
#[derive(Default)]
pub(super) struct Lags {
    looks: BTreeMap<(Service, String), VecDeque<i64>>,
    alarming: BTreeMap<(Service, String), i64>,
}

impl Lags {
    /// Takes a look, and says which lags are too large: those that grew over the last looks and never shrank, until
    /// they are small again.
    pub(super) fn look(&mut self, cluster: &Standing) -> Vec<Raised> {
        for group in readers() {
            // On its own retry topics records lie until they are due.
            for topic in topics_read_by(group).filter(|topic| !is_own_retry(group, topic)) {
                let from = (topic.clone(), 0);
                let partitions = cluster.ends.range(from..).map(|(at, _)| at).take_while(|(of, _)| *of == topic);
                // A group that can't be asked, and a topic that isn't led, keep the lag that they had.
                let is_led = !cluster.leaderless.iter().any(|(leaderless, _)| *leaderless == topic);
                if is_led && cluster.committed.contains_key(&group) {
                    let lag = partitions.filter_map(|at| cluster.lag(group, at)).sum();
                    self.take((group, topic), lag);
                }
            }
        }
        self.alarming()
    }

    /// Those that were too large when they were looked at last.
    pub(super) fn alarming(&self) -> Vec<Raised> {
        self.alarming.iter().map(|((group, topic), lag)| raised(*group, topic, *lag)).collect()
    }

    fn take(&mut self, of: (Service, String), lag: i64) {
        let looks = self.looks.entry(of.clone()).or_default();
        looks.push_back(lag);
        if looks.len() > LOOKS {
            looks.pop_front();
        }
        let never_shrank = looks.iter().zip(looks.iter().skip(1)).all(|(before, after)| before <= after);
        let grows = looks.len() == LOOKS && never_shrank && looks.front() < looks.back();
        if lag < MIN_LAG {
            self.alarming.remove(&of);
        } else if grows || self.alarming.contains_key(&of) {
            self.alarming.insert(of, lag);
        }
    }
}

fn is_own_retry(group: Service, topic: &str) -> bool {
    matches!(OwnTopic::of(group, topic), Some(OwnTopic::Retry(_)))
}

fn raised(group: Service, topic: &str, lag: i64) -> Raised {
    Raised {
        kind: AlarmKind::Lag,
        cause: format!("{group}/{topic}"),
        class: CauseClass::GrowingLag,
        title: format!("{group} falls behind on {topic}"),
        detail: json!({"group": group.name(), "topic": topic}),
        count: lag,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(end: i64, committed: i64) -> Standing {
        let at = ("order-created".to_owned(), 0);
        Standing {
            ends: [(at.clone(), end)].into(),
            committed: [(Service::Coupon, [(at, committed)].into())].into(),
            ..Standing::default()
        }
    }

    /// How many records behind, by each look's alarm.
    fn looks(lags: &[i64]) -> Vec<Option<i64>> {
        let mut all = Lags::default();
        let of_coupon = |raised: &Raised| raised.cause == "coupon-service/order-created";
        lags.iter()
            .map(|lag| all.look(&standing(10_000, 10_000 - lag)).into_iter().find(of_coupon).map(|alarm| alarm.count))
            .collect()
    }

    #[test]
    fn a_lag_that_grows_alarms_until_it_is_small_again() {
        let alarms = looks(&[100, 400, 900, 1_600, 2_500, 2_000, 600, 499, 600]);
        assert_eq!(alarms, [None, None, None, None, Some(2_500), Some(2_000), Some(600), None, None]);
    }

    #[test]
    fn a_lag_that_grows_now_and_then_and_never_shrinks_alarms_too() {
        assert_eq!(looks(&[600, 600, 601, 601, 601, 602]), [None, None, None, None, Some(601), Some(602)]);
        assert_eq!(looks(&[600; 6]), [None; 6], "it doesn't grow");
    }

    #[test]
    fn what_lies_on_a_retry_topic_until_it_is_due_is_no_lag() {
        let mut lags = Lags::default();
        for lag in [0, 900, 900, 1_800, 1_800, 2_700] {
            let at = ("coupon-service.retry-2".to_owned(), 0);
            let cluster = Standing {
                ends: [(at.clone(), lag)].into(),
                committed: [(Service::Coupon, [(at.clone(), 0)].into()), (Service::SagaMonitor, [(at, lag)].into())]
                    .into(),
                ..Standing::default()
            };
            assert_eq!(lags.look(&cluster), []);
        }
    }

    #[test]
    fn a_peak_or_a_small_lag_alarms_nobody() {
        assert_eq!(looks(&[0, 9_000, 5_000, 4_000, 3_000, 100]), [None; 6]);
        assert_eq!(looks(&[10, 20, 30, 40, 50, 60]), [None; 6]);
    }
}
