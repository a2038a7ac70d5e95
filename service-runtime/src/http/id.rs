//! Ids in requests that no type of the shop stands for: dead letters, replays, alarms.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use uuid::{Uuid, fmt::Hyphenated};

/// A UUID with hyphens, in either case. Other spellings of it would be other addresses of the same thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "Uuid")]
pub struct Id(pub Uuid);

impl TryFrom<String> for Id {
    type Error = uuid::Error;

    fn try_from(text: String) -> Result<Self, uuid::Error> {
        text.parse()
    }
}

impl FromStr for Id {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        Ok(Self(text.parse::<Hyphenated>()?.into_uuid()))
    }
}

impl From<Id> for Uuid {
    fn from(Id(id): Id) -> Self {
        id
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_hyphens_and_is_read_in_either_case() {
        let id = "0190163d-8694-739b-aea5-966c26f8ad91";
        for good in [id, &id.to_uppercase()] {
            assert_eq!(good.parse::<Id>().expect("an id").to_string(), id);
            assert_eq!(
                serde_json::to_value(serde_json::from_str::<Id>(&format!("{good:?}")).expect("an id")).expect("JSON"),
                id
            );
        }
        for other in
            [id.replace('-', ""), format!("{{{id}}}"), format!("urn:uuid:{id}"), format!(" {id}"), String::new()]
        {
            assert!(other.parse::<Id>().is_err(), "{other}");
            assert!(serde_json::from_str::<Id>(&format!("{other:?}")).is_err(), "{other}");
        }
    }
}
