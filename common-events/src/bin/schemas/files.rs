//! Which files there should be, what differs in those there are, and which changes are refused.
//! Decides only; `main` reads and writes.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::RangeInclusive,
};

use common_events::Topic;
use schemars::Schema;
use serde_json::Value;

use crate::{asyncapi, compatibility::incompatibilities, event_schema::event_schema, event_types::EventType};

const ASYNCAPI_FILE: &str = "asyncapi.yaml";
const FIRST_VERSION: u32 = 1;

/// What to do about a refusal.
pub(crate) const WAY_OUT: &str =
    "a change that isn't just a new optional field is a new VERSION of its type, beside the file of the old one";

/// Texts by file name.
pub(crate) type Files = BTreeMap<String, String>;

/// Something about one file, in one line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) file: String,
    pub(crate) what: String,
}

/// `<type>.v<version>.json`
pub(crate) fn schema_file(topic: Topic, version: u32) -> String {
    format!("{topic}.v{version}.json")
}

/// Every version of the type that was ever written, the present one last.
pub(crate) fn versions(event: &EventType) -> RangeInclusive<u32> {
    FIRST_VERSION..=event.version
}

/// The files that follow from the types and the catalogue. Those of older versions don't: they are kept.
///
/// # Errors
/// When a text can't be written, which no schema of this crate causes.
pub(crate) fn generate(event_types: &[EventType]) -> io::Result<Files> {
    let mut wanted = Files::new();
    for event in event_types {
        // `Schema` writes a schema's keywords in the order people expect.
        let schema = Schema::try_from(sorted(event_schema(event)))?;
        let text = serde_json::to_string_pretty(&schema)? + "\n";
        wanted.insert(schema_file(event.topic, event.version), text);
    }
    let document = sorted(asyncapi::document(event_types));
    wanted.insert(ASYNCAPI_FILE.to_owned(), serde_saphyr::to_string(&document).map_err(io::Error::other)?);
    Ok(wanted)
}

/// Objects with their keys in order, also when some crate of the build turns on `serde_json/preserve_order`.
fn sorted(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields: BTreeMap<_, _> = fields.into_iter().map(|(key, field)| (key, sorted(field))).collect();
            Value::Object(fields.into_iter().collect())
        }
        Value::Array(items) => items.into_iter().map(sorted).collect(),
        plain => plain,
    }
}

/// Where the files aren't what they should be: the first line that differs.
pub(crate) fn stale(kept: &Files, wanted: &Files) -> Vec<Finding> {
    let differs = |(file, wanted): (&String, &String)| {
        let what = match kept.get(file) {
            None => "missing".to_owned(),
            Some(text) if text == wanted => return None,
            Some(text) => first_difference(text, wanted),
        };
        Some(Finding { file: file.clone(), what })
    };
    wanted.iter().filter_map(differs).collect()
}

fn first_difference(kept: &str, wanted: &str) -> String {
    let (mut kept, mut wanted) = (kept.lines(), wanted.lines());
    let mut number = 0;
    loop {
        number += 1;
        let show = |line: Option<&str>| line.map_or("the end".to_owned(), |line| format!("`{}`", line.trim()));
        match (kept.next(), wanted.next()) {
            (None, None) => return "differs in its line ends".to_owned(),
            (kept, wanted) if kept == wanted => {}
            (kept, wanted) => return format!("line {number} is {}, would be {}", show(kept), show(wanted)),
        }
    }
}

/// Why the files may not be written: what would make events or readers of a version unreadable.
pub(crate) fn refused(event_types: &[EventType], kept: &Files, wanted: &Files) -> Vec<Finding> {
    let mut known = BTreeSet::from([ASYNCAPI_FILE.to_owned()]);
    let mut found = Vec::new();
    for event in event_types {
        for version in versions(event) {
            let file = schema_file(event.topic, version);
            let what = match (kept.get(&file), wanted.get(&file)) {
                (Some(old), Some(new)) => overwrite(old, new),
                (None, None) => vec![format!("missing: version {version} was written once and stays readable")],
                (Some(_), None) | (None, Some(_)) => Vec::new(),
            };
            found.extend(what.into_iter().map(|what| Finding { file: file.clone(), what }));
            known.insert(file);
        }
    }
    let strays = kept.keys().filter(|file| !known.contains(*file));
    found.extend(strays.map(|file| Finding {
        file: file.clone(),
        what: "no type has this version; delete the file when no topic holds such events".to_owned(),
    }));
    found
}

fn overwrite(old: &str, new: &str) -> Vec<String> {
    match (serde_json::from_str(old), serde_json::from_str(new)) {
        (Ok(old), Ok(new)) => incompatibilities(&old, &new).iter().map(ToString::to_string).collect(),
        (Err(error), _) | (_, Err(error)) => vec![format!("not JSON: {error}")],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_types::EVENT_TYPES;

    const ORDER_CREATED: &str = "order-created.v1.json";

    fn generated(event_types: &[EventType]) -> Files {
        generate(event_types).expect("can be written")
    }

    fn second_version_of_order_created() -> Vec<EventType> {
        let second = EventType { version: 2, ..EVENT_TYPES[0] };
        [&[second], &EVENT_TYPES[1..]].concat()
    }

    #[test]
    fn what_was_generated_is_neither_stale_nor_refused() {
        let files = generated(EVENT_TYPES);
        assert_eq!(files, generated(EVENT_TYPES));
        assert_eq!(stale(&files, &files), []);
        assert_eq!(refused(EVENT_TYPES, &files, &files), []);
    }

    #[test]
    fn a_stale_file_is_named_with_its_first_difference() {
        let wanted = generated(EVENT_TYPES);
        let mut kept = wanted.clone();
        kept.remove(ASYNCAPI_FILE);
        let text = kept.get_mut(ORDER_CREATED).expect("is there");
        *text = text.replacen("order-created", "order-made", 1);
        let lines: Vec<_> = stale(&kept, &wanted).into_iter().map(|found| found.what).collect();
        assert_eq!(
            lines,
            [
                "missing",
                "line 2 is `\"$id\": \"urn:commerce:order-made:1\",`, would be `\"$id\": \"urn:commerce:order-created:1\",`"
            ]
        );
    }

    #[test]
    fn a_new_version_makes_a_new_file_beside_the_old_one() {
        let kept = generated(EVENT_TYPES);
        let types = second_version_of_order_created();
        let wanted = generated(&types);
        assert!(wanted.contains_key("order-created.v2.json") && !wanted.contains_key(ORDER_CREATED));
        assert!(wanted[ASYNCAPI_FILE].contains("./order-created.v1.json"));
        assert_eq!(refused(&types, &kept, &wanted), []);
    }

    #[test]
    fn the_file_of_an_old_version_cannot_be_dropped() {
        let types = second_version_of_order_created();
        let found = refused(&types, &Files::new(), &generated(&types));
        let files: Vec<_> = found.iter().map(|found| found.file.as_str()).collect();
        assert_eq!(files, [ORDER_CREATED]);
    }

    #[test]
    fn an_incompatible_overwrite_is_refused() {
        let wanted = generated(EVENT_TYPES);
        let mut kept = wanted.clone();
        let text = kept.get_mut(ORDER_CREATED).expect("is there");
        *text = text.replace("\"subtotal\"", "\"sum\"");
        let lines: Vec<_> = refused(EVENT_TYPES, &kept, &wanted).into_iter().map(|found| found.what).collect();
        assert_eq!(
            lines,
            ["$.data.subtotal: new and required: events already on the topic lack it", "$.data.sum: removed"]
        );
        *kept.get_mut(ORDER_CREATED).expect("is there") = "rubbish".to_owned();
        assert!(refused(EVENT_TYPES, &kept, &wanted)[0].what.starts_with("not JSON"));
    }

    #[test]
    fn a_schema_of_no_type_is_named() {
        let wanted = generated(EVENT_TYPES);
        let mut kept = wanted.clone();
        kept.insert("order-vanished.v1.json".to_owned(), "{}".to_owned());
        kept.insert("order-created.v2.json".to_owned(), "{}".to_owned());
        let files: Vec<_> = refused(EVENT_TYPES, &kept, &wanted).into_iter().map(|found| found.file).collect();
        assert_eq!(files, ["order-created.v2.json", "order-vanished.v1.json"]);
    }
}
