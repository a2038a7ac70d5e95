//! How answers are shown: tables for people, JSON for programs.

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};

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
