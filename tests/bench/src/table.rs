//! What was measured, as a table and as JSON.

use comfy_table::{Table, presets::UTF8_FULL_CONDENSED};
use serde::Serialize;

/// One row of docs/speed.md.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Row {
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: Samples,
    /// The bare limit, measured in the same run.
    pub(crate) bare: Option<Samples>,
    /// Of the ratio, where there is a bare limit; else of our median.
    pub(crate) goal: Goal,
}

/// What is to be reached.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Goal {
    AtLeast(f64),
    AtMost(f64),
}

/// The same thing, measured several times.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(crate) struct Samples(pub(crate) Vec<f64>);

impl Samples {
    pub(crate) fn push(&mut self, sample: f64) {
        self.0.push(sample);
    }

    pub(crate) fn median(&self) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let middle = sorted.len() / 2;
        match sorted.len() {
            0 => f64::NAN,
            length if length % 2 == 1 => sorted[middle],
            _ => f64::midpoint(sorted[middle - 1], sorted[middle]),
        }
    }

    fn show(&self) -> String {
        let least = self.0.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        match self.0.len() {
            0 | 1 => number(self.median()),
            _ => format!("{} ({}…{})", number(self.median()), number(least), number(most)),
        }
    }
}

impl From<f64> for Samples {
    fn from(sample: f64) -> Self {
        Self(vec![sample])
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        Some(self.ours.median() / self.bare.as_ref()?.median())
    }

    fn is_reached(&self) -> bool {
        let judged = self.ratio().unwrap_or_else(|| self.ours.median());
        match self.goal {
            Goal::AtLeast(goal) => judged >= goal,
            Goal::AtMost(goal) => judged <= goal,
        }
    }
}

/// For people.
pub(crate) fn table(rows: &[Row]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header([
        "what",
        "unit",
        "ours: median (spread)",
        "bare limit",
        "ratio",
        "goal",
        "",
    ]);
    for row in rows {
        let goal = match row.goal {
            Goal::AtLeast(goal) => format!("≥ {}", number(goal)),
            Goal::AtMost(goal) => format!("≤ {}", number(goal)),
        };
        table.add_row([
            row.what.clone(),
            row.unit.to_owned(),
            row.ours.show(),
            row.bare.as_ref().map(Samples::show).unwrap_or_default(),
            row.ratio().map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            goal,
            if row.is_reached() { "reached" } else { "not reached" }.to_owned(),
        ]);
    }
    table
}

fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
