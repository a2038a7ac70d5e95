//! Small drawings: bars over time, and lines without axes. Shapes only: what is written stands beside them in HTML, so
//! that it stays readable however far a drawing is stretched.

use std::fmt::{self, Display, Formatter};

use askama::filters::HtmlSafe;
use chrono::{DateTime, TimeDelta, Utc};

use super::show::{Count, Rate};
use crate::{consumers::BEATS_KEPT, domain::State, store::sagas::Slice};

/// The size of every drawing, in units of its own; the page stretches it.
const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 120.0;
/// Of a bar, the share that is drawn; the rest is the gap to the next.
const BAR_SHARE: f64 = 0.8;

/// From the bottom to the top of a bar: what is wrong stands on the ground line, where it is seen.
const STACKED: [State; 5] =
    [State::Compensating, State::InProgress, State::Failed, State::Compensated, State::Completed];

/// Sagas over time, by when they began and where they stand now.
#[derive(Debug, Clone)]
pub(super) struct Bars {
    columns: Vec<Column>,
    highest: i64,
    pub(super) from: DateTime<Utc>,
    pub(super) until: DateTime<Utc>,
}

#[derive(Debug, Clone)]
struct Column {
    from: DateTime<Utc>,
    counts: [i64; STACKED.len()],
}

impl Bars {
    /// One column for each slice from `from` on, also for those in which nothing began.
    pub(super) fn of(slices: &[Slice], from: DateTime<Utc>, slice: TimeDelta, columns: i32) -> Self {
        let mut all: Vec<Column> =
            (0..columns).map(|index| Column { from: from + slice * index, counts: [0; STACKED.len()] }).collect();
        for known in slices {
            let Some(column) = all.iter_mut().rfind(|column| column.from <= known.from) else { continue };
            if let Some(layer) = STACKED.iter().position(|state| *state == known.state) {
                column.counts[layer] += known.count;
            }
        }
        let highest = all.iter().map(Column::total).max().unwrap_or_default();
        Self { columns: all, highest, from, until: from + slice * columns }
    }

    /// The most that began within one slice.
    pub(super) fn highest(&self) -> Count {
        Count(self.highest)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.highest == 0
    }
}

impl Column {
    fn total(&self) -> i64 {
        self.counts.iter().sum()
    }
}

impl Display for Bars {
    #[expect(clippy::cast_precision_loss, reason = "a drawing has no more digits than pixels")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(
            f,
            r#"<svg class="plot bars" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="Sagas by the time they began">"#
        )?;
        let step = WIDTH / self.columns.len().max(1) as f64;
        for (index, column) in self.columns.iter().enumerate() {
            let x = index as f64 * step;
            let mut top = HEIGHT;
            f.write_str("<g>")?;
            for (state, count) in STACKED.iter().zip(column.counts).filter(|(_, count)| *count > 0) {
                let height = count as f64 / self.highest.max(1) as f64 * (HEIGHT - 2.0);
                top -= height;
                let (class, width) = (state.class(), step * BAR_SHARE);
                write!(
                    f,
                    r#"<rect class="{class}" x="{x:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}"/>"#
                )?;
            }
            // The whole column can be pointed at.
            write!(f, r#"<rect class="point" x="{x:.1}" y="0" width="{step:.1}" height="{HEIGHT}"/>"#)?;
            write!(f, "<title>{}", column.from.format("%H:%M"))?;
            for (state, count) in STACKED.iter().zip(column.counts).rev().filter(|(_, count)| *count > 0) {
                write!(f, ", {} {}", Count(count), state.words())?;
            }
            f.write_str("</title></g>")?;
        }
        f.write_str("</svg>")
    }
}

impl HtmlSafe for Bars {}

/// How something went on over the last hour, as far as that is known: a line over a filled ground, with gaps where nothing is known.
#[derive(Debug, Clone)]
pub(super) struct Line {
    points: Vec<Option<f64>>,
    highest: f64,
    label: &'static str,
    minutes: usize,
    is_begun: bool,
}

/// A drawing is at least as wide as five minutes.
const MIN_BEATS: usize = BEATS_KEPT / 12;
/// More points than this are drawn as the highest of each of so many groups.
const MAX_POINTS: usize = 180;

impl Line {
    pub(super) fn of(label: &'static str, points: impl IntoIterator<Item = Option<f64>>) -> Self {
        let known: Vec<Option<f64>> = points.into_iter().collect();
        let is_begun = known.len() > 1;
        let minutes = known.len().max(MIN_BEATS) * 60 / BEATS_KEPT;
        // What is not known yet is a gap at the left.
        let missing = MIN_BEATS.saturating_sub(known.len());
        let all: Vec<Option<f64>> = std::iter::repeat_n(None, missing).chain(known).collect();
        let together = all.len().div_ceil(MAX_POINTS).max(1);
        let highest_of = |points: &[Option<f64>]| points.iter().copied().flatten().reduce(f64::max);
        let points: Vec<Option<f64>> = all.chunks(together).map(highest_of).collect();
        let highest = highest_of(&points).unwrap_or_default();
        Self { points, highest, label, minutes, is_begun }
    }

    /// Over which time it goes.
    pub(super) fn over(&self) -> String {
        if self.minutes >= 60 { "last hour".to_owned() } else { format!("last {} min", self.minutes) }
    }

    /// The highest value, of a rate.
    pub(super) fn highest_rate(&self) -> Rate {
        Rate(self.highest)
    }

    /// The same, of what is counted.
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates; what is counted is whole")]
    pub(super) fn highest_count(&self) -> Count {
        Count(self.highest as i64)
    }

    /// Whether there is nothing to draw yet.
    pub(super) fn is_empty(&self) -> bool {
        !self.is_begun
    }
}

impl Display for Line {
    #[expect(clippy::cast_precision_loss, reason = "a drawing has no more digits than pixels")]
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let label = self.label;
        write!(
            f,
            r#"<svg class="plot line" viewBox="0 0 {WIDTH} {HEIGHT}" preserveAspectRatio="none" role="img" aria-label="{label}">"#
        )?;
        let step = WIDTH / (self.points.len().max(2) - 1) as f64;
        let at = |index: usize, value: f64| {
            let share = if self.highest > 0.0 { value / self.highest } else { 0.0 };
            (index as f64 * step, HEIGHT - 1.0 - share * (HEIGHT - 4.0))
        };
        let mut index = 0;
        while index < self.points.len() {
            let run: Vec<(f64, f64)> = self.points[index..]
                .iter()
                .enumerate()
                .map_while(|(offset, value)| Some(at(index + offset, (*value)?)))
                .collect();
            if let (Some(first), Some(last)) = (run.first(), run.last()) {
                let line = points(&run);
                write!(f, r#"<polygon points="{:.1},{HEIGHT} {line}{:.1},{HEIGHT}"/>"#, first.0, last.0)?;
                write!(f, r#"<polyline points="{line}"/>"#)?;
            }
            index += run.len() + 1;
        }
        f.write_str("</svg>")
    }
}

fn points(run: &[(f64, f64)]) -> String {
    use std::fmt::Write as _;
    run.iter().fold(String::new(), |mut text, (x, y)| {
        let _ = write!(text, "{x:.1},{y:.1} ");
        text
    })
}

impl HtmlSafe for Line {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slice_has_a_column_and_each_state_its_part_of_it() {
        let from = DateTime::UNIX_EPOCH;
        let slices = [
            Slice { from, state: State::Completed, count: 3 },
            Slice { from, state: State::InProgress, count: 1 },
            Slice { from: from + TimeDelta::minutes(10), state: State::Failed, count: 2 },
        ];
        let bars = Bars::of(&slices, from, TimeDelta::minutes(5), 4);
        assert_eq!((bars.columns.len(), bars.highest), (4, 4));
        let drawn = bars.to_string();
        assert!(drawn.contains("<title>00:00, 3 completed, 1 in progress</title>"), "{drawn}");
        assert!(drawn.contains("<title>00:10, 2 failed</title>"), "{drawn}");
        assert!(!drawn.contains("style"), "the policy allows no inline style");
        assert!(Bars::of(&[], from, TimeDelta::minutes(5), 4).is_empty());
    }

    #[test]
    fn a_line_has_gaps_where_nothing_is_known_and_a_bounded_number_of_points() {
        let quarter = |value| std::iter::repeat_n(value, BEATS_KEPT / 4);
        let line = Line::of("lag", quarter(Some(1.0)).chain(quarter(None)).chain(quarter(Some(4.0))));
        assert_eq!(line.to_string().matches("<polyline").count(), 2);
        let long = Line::of("lag", (0..720).map(|value| Some(f64::from(value))));
        assert!(long.points.len() <= MAX_POINTS && (long.highest - 719.0).abs() < 1e-9);
        assert!(Line::of("lag", [None]).is_empty());
        assert_eq!((long.over().as_str(), &*Line::of("lag", [None]).over()), ("last hour", "last 5 min"));
    }
}
