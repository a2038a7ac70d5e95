//! What histories were made of, and how they ended.

use std::{collections::BTreeMap, fmt, ops::AddAssign};

use messaging::faults::{Death, Side, Step};

/// What has to happen in a run of some length: what never did was never looked at.
const EXPECTED: [&str; 22] = [
    "orders confirmed",
    "orders cancelled",
    "coupons used",
    "coupons used again",
    "cancels",
    "times when every open order was late",
    "deliveries cut off",
    "deliveries that came again",
    "rows sent twice",
    "groups set back",
    "faults",
    "hops",
    "parked",
    "dead letters",
    "kept waiting",
    "replays",
    "replays of one letter",
    "replays to the origin",
    "replays that failed again",
    "letters of which was foretold what a replay does",
    "letters given up",
    "answers told again",
];

/// How often what happened.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Outcome {
    happened: BTreeMap<&'static str, usize>,
    deaths: BTreeMap<Death, usize>,
}

impl Outcome {
    /// Counts what happened, by one of the names that are expected.
    pub(crate) fn count(&mut self, what: &'static str, times: usize) {
        assert!(EXPECTED.contains(&what), "{what} isn't expected");
        *self.happened.entry(what).or_default() += times;
    }

    pub(crate) fn count_death(&mut self, death: Death) {
        *self.deaths.entry(death).or_default() += 1;
    }

    pub(crate) fn of(&self, what: &str) -> usize {
        self.happened.get(what).copied().unwrap_or_default()
    }

    /// What never happened.
    pub fn missing(&self) -> Vec<String> {
        self.lines().filter(|(_, times)| *times == 0).map(|(what, _)| what).collect()
    }

    /// Each with its number.
    fn lines(&self) -> impl Iterator<Item = (String, usize)> + '_ {
        let happened = EXPECTED.iter().map(|what| ((*what).to_owned(), self.of(what)));
        let deaths =
            Step::ALL.into_iter().flat_map(|step| [Side::Before, Side::After].map(|side| Death { step, side }));
        let times = |death| self.deaths.get(&death).copied().unwrap_or_default();
        happened.chain(deaths.map(move |death| {
            let Death { step, side } = death;
            (format!("deaths: {step:?}, {side:?} COMMIT"), times(death))
        }))
    }
}

impl AddAssign for Outcome {
    fn add_assign(&mut self, more: Self) {
        for (what, times) in more.happened {
            self.count(what, times);
        }
        for (death, times) in more.deaths {
            *self.deaths.entry(death).or_default() += times;
        }
    }
}

/// One line each.
impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|(what, times)| writeln!(f, "{times:8} {what}"))
    }
}
