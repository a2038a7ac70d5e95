//! A group's own topics: what failed in this group, and only there.

use std::fmt;

use common_events::Service;

/// One of the topics that a single group writes and reads: `order-service.retry-1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnTopic {
    /// Tried again after this rung's delay.
    Retry(Rung),
    /// Handled again at once, alone by this group: replays and resumes.
    Replay,
    /// What the group gave up, for others to see; its owner keeps it in `dead_letters`.
    Dlt,
}

/// One delay of the ladder, one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rung {
    /// `retry-1`.
    First,
    /// `retry-2`.
    Second,
    /// `retry-3`.
    Third,
}

impl Rung {
    /// From the first to the last.
    pub const ALL: [Self; 3] = [Self::First, Self::Second, Self::Third];

    /// The one after it.
    pub const fn next(self) -> Option<Self> {
        match self {
            Self::First => Some(Self::Second),
            Self::Second => Some(Self::Third),
            Self::Third => None,
        }
    }
}

impl OwnTopic {
    /// Every one that a group has.
    pub const ALL: [Self; 5] =
        [Self::Retry(Rung::First), Self::Retry(Rung::Second), Self::Retry(Rung::Third), Self::Replay, Self::Dlt];

    /// What stands behind the group's name; also the `tier` of the inbox.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::Retry(Rung::First) => "retry-1",
            Self::Retry(Rung::Second) => "retry-2",
            Self::Retry(Rung::Third) => "retry-3",
            Self::Replay => "replay",
            Self::Dlt => "dlt",
        }
    }

    /// Its name in this group, without the suite's prefix.
    pub fn name(self, group: Service) -> String {
        format!("{group}.{}", self.suffix())
    }

    /// Which of the group's own topics that is, if it is one.
    pub fn of(group: Service, name: &str) -> Option<Self> {
        let suffix = name.strip_prefix(group.name())?.strip_prefix('.')?;
        Self::ALL.into_iter().find(|own| own.suffix() == suffix)
    }
}

impl fmt::Display for OwnTopic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.suffix())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_knows_its_own_topics_and_no_others() {
        for own in OwnTopic::ALL {
            assert_eq!(OwnTopic::of(Service::Order, &own.name(Service::Order)), Some(own));
            assert_eq!(OwnTopic::of(Service::Payment, &own.name(Service::Order)), None);
        }
        for other in ["order-created", "order-service", "order-service.retry-4", "order-service.", ""] {
            assert_eq!(OwnTopic::of(Service::Order, other), None, "{other:?}");
        }
    }
}
