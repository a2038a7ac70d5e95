//! What events say, in every version that there was (docs/decisions/0020).
//!
//! Each version is a type of its own. It names the one before it, which can be read as itself; so the newest, which
//! handlers hear and publish, reads them all. Readers come first: as long as some don't know the newest version, it
//! is told as the one before, where that can say it.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};

use crate::{Event, Topic, envelope::encode};

/// What one type of event says. One type, one topic.
pub trait EventData: Serialize + DeserializeOwned + JsonSchema + Send + Sync + 'static {
    /// The topic, whose name is the event's type.
    const TOPIC: Topic;
    /// The version before this one, if there is one. A change that isn't just a new optional field makes a new
    /// version.
    const BEFORE: Option<Before<Self>> = None;
    /// The version of the type, counted from 1.
    const VERSION: u32 = match Self::BEFORE {
        Some(before) => before.version + 1,
        None => 1,
    };

    /// What order is kept by: the record's key and the event's subject.
    fn key(&self) -> Cow<'_, str>;
}

/// An event as the bytes of a record's value.
type Encoded = Result<Vec<u8>, serde_json::Error>;
/// Writes a `T` in an older version; `None` when that can't say it.
type Tell<T> = fn(&Event<T>) -> Option<Encoded>;

/// The version before a `T`: how it is read as a `T`, and whether a `T` is still told in it.
pub struct Before<T> {
    version: u32,
    read: fn(u32, &str) -> Result<T, serde_json::Error>,
    tell: Option<Tell<T>>,
    versions: fn() -> Vec<Version>,
}

impl<T: EventData> Before<T> {
    /// `V`, which is told no more: every reader knows `T`. A type of another topic isn't compiled.
    pub const fn only_read<V: EventData + Into<T>>() -> Self {
        const { assert!(V::TOPIC as usize == T::TOPIC as usize, "versions of one type are on one topic") };
        let read = |version, data: &str| read_data::<V>(version, data).map(V::into);
        Self { version: V::VERSION, read, tell: None, versions: versions::<V> }
    }

    /// `V`, in which a `T` is told as long as it can be: some readers may not know `T` yet.
    pub const fn still_told<V: EventData + Into<T> + TryFrom<T>>() -> Self
    where
        T: Clone,
    {
        let tell = |event: &Event<T>| {
            let older = V::try_from(event.data.clone()).ok()?;
            let Event { id, time, subject, trace, data: _ } = event;
            Some(encode(&Event { id: *id, time: *time, subject: subject.clone(), trace: *trace, data: older }))
        };
        Self { tell: Some(tell), ..Self::only_read::<V>() }
    }
}

/// Writes the event in the version before, where it is still told and can say it.
pub(crate) fn tell_as_before<T: EventData>(event: &Event<T>) -> Option<Encoded> {
    T::BEFORE?.tell?(event)
}

/// Reads an event's data that was written in this version, which is at most the newest.
pub(crate) fn read_data<T: EventData>(version: u32, data: &str) -> Result<T, serde_json::Error> {
    match T::BEFORE {
        Some(before) if version < T::VERSION => (before.read)(version, data),
        Some(_) | None => serde_json::from_str(data),
    }
}

/// Whether records are still written in a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// They are.
    Still,
    /// There may be some, and that is all.
    NoMore,
}

/// One version of a type, for who describes it.
#[derive(Debug, Clone, Copy)]
pub struct Version {
    /// Counted from 1.
    pub number: u32,
    /// Whether it is written.
    pub told: Told,
    /// The schema of the event's `data`.
    pub data: fn(&mut SchemaGenerator) -> Schema,
}

/// Every version of a type that there was, the newest last.
pub fn versions<T: EventData>() -> Vec<Version> {
    let mut versions = T::BEFORE.map_or_else(Vec::new, |before| {
        let mut older = (before.versions)();
        if before.tell.is_none() {
            for version in &mut older {
                version.told = Told::NoMore;
            }
        }
        older
    });
    versions.push(Version { number: T::VERSION, told: Told::Still, data: T::json_schema });
    versions
}
