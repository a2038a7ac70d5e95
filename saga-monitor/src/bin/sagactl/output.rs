//! How answers are shown: tables for people, JSON for programs.

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde_json::Value;

/// For whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// For people.
    Tables,
    /// For programs: one JSON value.
    Json,
}

/// A table, ready to be printed.
pub(crate) fn table<const N: usize>(header: &[&str; N], rows: impl Iterator<Item = [String; N]>) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    table
}

/// A field as people read it; a dash when it isn't there.
pub(crate) fn field(value: &Value, name: &str) -> String {
    match value.get(name) {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => printable(text),
        Some(other) => other.to_string(),
    }
}

/// A text of strangers as a terminal may have it: what would move its cursor or change its title is spelled out.
pub(crate) fn printable(text: &str) -> String {
    let spelled_out = |c: char| c.is_control() && c != '\n' && c != '\t';
    text.chars().fold(String::with_capacity(text.len()), |mut shown, c| {
        if spelled_out(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
        shown
    })
}

/// The beginning of a text on one line, so that tables stay tables.
pub(crate) fn short(text: &str, chars: usize) -> String {
    let line = text.lines().next().unwrap_or_default();
    match line.char_indices().nth(chars) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strangers_text_does_not_command_the_terminal() {
        let hostile = serde_json::json!({ "key": "\u{1b}[2J녹차\u{7}\n\tok\u{9b}31m" });
        assert_eq!(field(&hostile, "key"), "\\u{1b}[2J녹차\\u{7}\n\tok\\u{9b}31m");
    }
}
