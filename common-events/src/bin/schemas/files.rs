//! Which files there should be, what differs in those there are, and which changes are refused.
//! Decides only; `main` reads and writes.

use std::{collections::BTreeMap, io};

use common_events::Topic;
use schemars::Schema;
use serde_json::Value;

use crate::{asyncapi, compatibility::incompatibilities, event_schema::event_schema, event_types::EventType};

const ASYNCAPI_FILE: &str = "asyncapi.yaml";

/// What to do about a refusal.
pub(crate) const WAY_OUT: &str =
    "a change that isn't just a new optional field is a new version: a type of its own, with the old one BEFORE it";

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

/// The files that follow from the types and the catalogue.
///
/// # Errors
/// When a text can't be written, which no schema of this crate causes.
pub(crate) fn generate(event_types: &[EventType]) -> io::Result<Files> {
    let mut wanted = Files::new();
    for event in event_types {
        for version in &event.versions {
            // `Schema` writes a schema's keywords in the order people expect.
            let schema = Schema::try_from(sorted(event_schema(event, version)))?;
            let text = serde_json::to_string_pretty(&schema)? + "\n";
            wanted.insert(schema_file(event.topic, version.number), text);
        }
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
pub(crate) fn refused(kept: &Files, wanted: &Files) -> Vec<Finding> {
    let schemas = kept.iter().filter(|(file, _)| *file != ASYNCAPI_FILE);
    let differences = schemas.flat_map(|(file, old)| {
        let what = match wanted.get(file) {
            Some(new) => overwrite(old, new),
            None => vec!["no type has this version; delete the file when nothing holds such events".to_owned()],
        };
        what.into_iter().map(|what| Finding { file: file.clone(), what })
    });
    differences.collect()
}

fn overwrite(old: &str, new: &str) -> Vec<String> {
    match (serde_json::from_str(old), serde_json::from_str(new)) {
        (Ok(old), Ok(new)) => incompatibilities(&old, &new).iter().map(ToString::to_string).collect(),
        (Err(error), _) | (_, Err(error)) => vec![format!("not JSON: {error}")],
    }
}

#[cfg(test)]
mod tests {
    use common_events::versions::Version;

    use super::*;
    use crate::event_types::event_types;

    const ORDER_CREATED: &str = "order-created.v1.json";

    fn generated() -> Files {
        generate(&event_types()).expect("can be written")
    }

    fn generated_with(change: impl FnOnce(&mut Vec<Version>)) -> Files {
        let mut types = event_types();
        change(&mut types[0].versions);
        generate(&types).expect("can be written")
    }

    fn with_second_version_of_order_created() -> Files {
        generated_with(|versions| versions.push(Version { number: 2, ..versions[0] }))
    }

    #[test]
    fn what_was_generated_is_neither_stale_nor_refused() {
        let files = generated();
        assert_eq!(files, generated());
        assert_eq!(stale(&files, &files), []);
        assert_eq!(refused(&files, &files), []);
    }

    #[test]
    fn a_stale_file_is_named_with_its_first_difference() {
        let wanted = generated();
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
        let (kept, wanted) = (generated(), with_second_version_of_order_created());
        assert_eq!(wanted[ORDER_CREATED], kept[ORDER_CREATED]);
        assert!(wanted.contains_key("order-created.v2.json"));
        assert!(wanted[ASYNCAPI_FILE].contains("./order-created.v1.json"));
        assert_eq!(refused(&kept, &wanted), []);
    }

    #[test]
    fn an_old_version_cannot_be_dropped() {
        let kept = with_second_version_of_order_created();
        let without_first = generated_with(|versions| versions[0].number = 2);
        let found = refused(&kept, &without_first);
        let files: Vec<_> = found.iter().map(|found| found.file.as_str()).collect();
        assert_eq!(files, [ORDER_CREATED]);
    }

    #[test]
    fn an_incompatible_overwrite_is_refused() {
        let wanted = generated();
        let mut kept = wanted.clone();
        let text = kept.get_mut(ORDER_CREATED).expect("is there");
        *text = text.replace("\"subtotal\"", "\"sum\"");
        let lines: Vec<_> = refused(&kept, &wanted).into_iter().map(|found| found.what).collect();
        assert_eq!(
            lines,
            ["$.data.subtotal: new and required: events already on the topic lack it", "$.data.sum: removed"]
        );
        *kept.get_mut(ORDER_CREATED).expect("is there") = "rubbish".to_owned();
        assert!(refused(&kept, &wanted)[0].what.starts_with("not JSON"));
    }

    #[test]
    fn a_schema_of_no_type_is_named() {
        let wanted = generated();
        let mut kept = wanted.clone();
        kept.insert("order-vanished.v1.json".to_owned(), "{}".to_owned());
        kept.insert("order-created.v2.json".to_owned(), "{}".to_owned());
        let files: Vec<_> = refused(&kept, &wanted).into_iter().map(|found| found.file).collect();
        assert_eq!(files, ["order-created.v2.json", "order-vanished.v1.json"]);
    }
}
