//! Each kind of change, one case.

use rstest::rstest;

use super::*;

fn order(note: &Value) -> Value {
    json!({ "type": "object", "required": ["id"], "properties": { "id": { "type": "string" }, "note": note } })
}

fn found(old: &Value, new: &Value) -> Vec<String> {
    incompatibilities(old, new).iter().map(ToString::to_string).collect()
}

#[rstest]
#[case::nothing(order(&json!({})), order(&json!({})))]
#[case::an_optional_field_is_added(
    json!({ "properties": { "id": {} } }),
    json!({ "properties": { "id": {}, "note": { "type": "string" } } }),
)]
#[case::an_optional_field_is_added_below_a_list(
    order(&json!({ "items": { "properties": {} } })),
    order(&json!({ "items": { "properties": { "colour": {} } } })),
)]
#[case::an_optional_field_is_added_to_one_branch(
    json!({ "oneOf": [{ "properties": { "a": {} } }, { "properties": { "b": {} } }] }),
    json!({ "oneOf": [{ "properties": { "a": {} } }, { "properties": { "b": {}, "max": {} } }] }),
)]
#[case::words_change(
    order(&json!({ "title": "Note", "description": "A note.", "type": "string" })),
    order(&json!({ "description": "What was said.", "examples": ["so"], "deprecated": true, "type": "string" })),
)]
#[case::what_is_referred_to_is_written_out(
    json!({ "properties": { "total": { "$ref": "#/$defs/Won" } }, "$defs": { "Won": { "type": "integer" } } }),
    json!({ "properties": { "total": { "type": "integer" } } }),
)]
#[case::a_definition_is_renamed(
    json!({ "properties": { "a": { "$ref": "#/$defs/Won" } }, "$defs": { "Won": { "type": "integer" } } }),
    json!({ "properties": { "a": { "$ref": "#/$defs/Amount" } }, "$defs": { "Amount": { "type": "integer" } } }),
)]
#[case::lists_say_the_same_in_another_order(
    json!({ "type": ["string", "null"], "enum": ["a", "b"], "required": ["x", "y"] }),
    json!({ "type": ["null", "string"], "enum": ["b", "a"], "required": ["y", "x"] }),
)]
#[case::branches_change_places(
    json!({ "oneOf": [{ "type": "string" }, { "type": "object" }] }),
    json!({ "oneOf": [{ "type": "object" }, { "type": "string" }] }),
)]
#[case::constants_lose_their_comments(
    json!({ "oneOf": [{ "const": "A", "type": "string", "description": "a" }, { "enum": ["B"], "type": "string" }] }),
    json!({ "enum": ["A", "B"], "type": "string" }),
)]
#[case::a_nullable_becomes_a_newtype(
    json!({ "type": ["string", "null"], "format": "uuid" }),
    json!({ "anyOf": [{ "$ref": "#/$defs/Id" }, { "type": "null" }],
            "$defs": { "Id": { "type": "string", "format": "uuid" } } }),
)]
#[case::a_field_has_the_name_of_a_keyword(
    json!({ "properties": { "title": { "type": "string" } } }),
    json!({ "properties": { "title": { "type": "string" }, "description": { "type": "string" } } }),
)]
fn may_take_the_others_place(#[case] old: Value, #[case] new: Value) {
    assert_eq!(found(&old, &new), [""; 0]);
}

#[rstest]
#[case::an_optional_field_is_removed(
    order(&json!({})),
    json!({ "type": "object", "required": ["id"], "properties": { "id": { "type": "string" } } }),
    "$.note: removed",
)]
#[case::a_field_with_the_name_of_a_keyword_is_removed(
    json!({ "properties": { "title": {} } }),
    json!({ "properties": {} }),
    "$.title: removed",
)]
#[case::a_required_field_is_added(
    json!({ "properties": {} }),
    json!({ "properties": { "id": {} }, "required": ["id"] }),
    "$.id: new and required: events already on the topic lack it",
)]
#[case::an_optional_field_becomes_required(
    json!({ "properties": { "id": {} } }),
    json!({ "properties": { "id": {} }, "required": ["id"] }),
    "$.id: required, was optional: events already on the topic may lack it",
)]
#[case::a_required_field_becomes_optional(
    json!({ "properties": { "id": {} }, "required": ["id"] }),
    json!({ "properties": { "id": {} } }),
    "$.id: optional, was required: readers of the old schema need it",
)]
#[case::an_optional_field_is_added_where_none_is_taken(
    json!({ "properties": {}, "additionalProperties": false }),
    json!({ "properties": { "id": {} }, "additionalProperties": false }),
    "$.id: new, and readers of the old schema take no unknown field",
)]
#[case::unknown_fields_are_shut_out(
    json!({ "properties": {} }),
    json!({ "properties": {}, "additionalProperties": false }),
    "$: additionalProperties was absent, would be false",
)]
#[case::a_type_changes(
    order(&json!({ "type": "string" })),
    order(&json!({ "type": "integer" })),
    r#"$.note: type was "string", would be "integer""#,
)]
#[case::a_type_is_widened(
    order(&json!({ "type": "string" })),
    order(&json!({ "type": ["string", "null"] })),
    r#"$.note: type was "string", would be ["null","string"]"#,
)]
#[case::a_type_is_narrowed(
    order(&json!({ "type": ["string", "null"] })),
    order(&json!({ "type": "string" })),
    r#"$.note: type was ["null","string"], would be "string""#,
)]
#[case::a_type_is_no_longer_said(
    order(&json!({ "type": "string" })),
    order(&json!({})),
    r#"$.note: type was "string", would be absent"#,
)]
#[case::anything_becomes_nothing(
    order(&json!(true)),
    order(&json!(false)),
    "$.note: was true, would be false",
)]
#[case::a_format_changes(
    order(&json!({ "format": "uuid" })),
    order(&json!({ "format": "date-time" })),
    r#"$.note: format was "uuid", would be "date-time""#,
)]
#[case::a_pattern_changes(
    order(&json!({ "pattern": "^a$" })),
    order(&json!({ "pattern": "^b$" })),
    r#"$.note: pattern was "^a$", would be "^b$""#,
)]
#[case::a_pattern_is_added(
    order(&json!({})),
    order(&json!({ "pattern": "^b$" })),
    r#"$.note: pattern was absent, would be "^b$""#,
)]
#[case::a_bound_is_narrowed(
    order(&json!({ "maximum": 10 })),
    order(&json!({ "maximum": 9 })),
    "$.note: maximum was 10, would be 9",
)]
#[case::a_bound_is_widened(
    order(&json!({ "minimum": 1 })),
    order(&json!({ "minimum": 0 })),
    "$.note: minimum was 1, would be 0",
)]
#[case::a_bound_is_dropped(
    order(&json!({ "maxLength": 200 })),
    order(&json!({})),
    "$.note: maxLength was 200, would be absent",
)]
#[case::a_value_goes(
    order(&json!({ "enum": ["A", "B"] })),
    order(&json!({ "enum": ["A"] })),
    r#"$.note: "B" is no longer a value: events already on the topic may hold it"#,
)]
#[case::a_value_comes(
    order(&json!({ "enum": ["A"] })),
    order(&json!({ "enum": ["A", "B"] })),
    r#"$.note: "B" is a new value: readers of the old schema don't know it"#,
)]
#[case::a_constant_comes_with_its_comment(
    order(&json!({ "oneOf": [{ "const": "A", "type": "string" }] })),
    order(&json!({ "oneOf": [{ "const": "A", "type": "string" }, { "const": "B", "type": "string" }] })),
    r#"$.note: "B" is a new value: readers of the old schema don't know it"#,
)]
#[case::a_branch_goes(
    json!({ "oneOf": [{ "required": ["a"] }, { "required": ["b"] }] }),
    json!({ "oneOf": [{ "required": ["b"] }] }),
    "$.oneOf[0]: removed: events already on the topic may be so",
)]
#[case::a_branch_comes(
    json!({ "anyOf": [{ "type": "string" }] }),
    json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] }),
    r#"$.anyOf: new: readers of the old schema don't know {"type":"object"}"#,
)]
#[case::a_branch_changes(
    json!({ "oneOf": [{ "type": "string" }, { "properties": { "max": { "maximum": 9 } } }] }),
    json!({ "oneOf": [{ "type": "string" }, { "properties": { "max": { "maximum": 8 } } }] }),
    "$.oneOf[1].max: maximum was 9, would be 8",
)]
#[case::an_item_of_a_list_changes(
    order(&json!({ "items": { "properties": { "quantity": { "maximum": 10 } } } })),
    order(&json!({ "items": { "properties": { "quantity": { "maximum": 5 } } } })),
    "$.note[*].quantity: maximum was 10, would be 5",
)]
#[case::a_value_of_a_map_changes(
    json!({ "additionalProperties": { "type": "string" } }),
    json!({ "additionalProperties": { "type": "integer" } }),
    r#"$.*: type was "string", would be "integer""#,
)]
#[case::a_definition_changes(
    json!({ "properties": { "total": { "$ref": "#/$defs/Won" } }, "$defs": { "Won": { "minimum": 0 } } }),
    json!({ "properties": { "total": { "$ref": "#/$defs/Won" } }, "$defs": { "Won": { "minimum": 1 } } }),
    "$.total: minimum was 0, would be 1",
)]
#[case::something_beside_a_reference_changes(
    json!({ "properties": { "a": { "$ref": "#/$defs/W", "default": 0 } }, "$defs": { "W": { "minimum": 0 } } }),
    json!({ "properties": { "a": { "$ref": "#/$defs/W", "default": 1 } }, "$defs": { "W": { "minimum": 0 } } }),
    "$.a: default was 0, would be 1",
)]
#[case::a_keyword_nobody_here_has_heard_of(
    order(&json!({ "multipleOf": 2 })),
    order(&json!({ "multipleOf": 3 })),
    "$.note: multipleOf was 2, would be 3",
)]
#[case::something_optional_is_added_to_what_must_not_be(
    json!({ "not": { "properties": {} } }),
    json!({ "not": { "properties": { "id": {} } } }),
    r#"$: not was {"properties":{}}, would be {"properties":{"id":{}}}"#,
)]
#[case::a_schema_contains_itself(
    json!({ "properties": { "next": { "$ref": "#" } } }),
    json!({ "properties": { "next": { "$ref": "#" } } }),
    "$: nests deeper than 64: can't be compared",
)]
#[case::a_reference_leads_nowhere(
    json!({ "$ref": "#/$defs/Gone" }),
    json!({}),
    r##"$: "#/$defs/Gone" leads nowhere"##,
)]
fn may_not_take_the_others_place(#[case] old: Value, #[case] new: Value, #[case] difference: &str) {
    assert_eq!(found(&old, &new), [difference]);
}

#[test]
fn every_difference_is_told() {
    let new = json!({ "type": "object", "properties": { "id": { "type": "integer" } } });
    assert_eq!(
        found(&order(&json!({})), &new),
        [
            "$.id: optional, was required: readers of the old schema need it",
            r#"$.id: type was "string", would be "integer""#,
            "$.note: removed",
        ]
    );
}
