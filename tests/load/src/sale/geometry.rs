//! Plots as shapes: where each bar, line and label lies. Drawing them is the page's.

use std::fmt::Write;

/// The edges of every plot, in units of the drawing, which the browser scales.
pub(super) const FRAME: Frame =
    Frame { width: 420.0, height: 228.0, left: 70.0, right: 406.0, top: 18.0, bottom: 200.0 };
/// Between a mark and its name.
const NAME_GAP: f64 = 4.0;
/// Ticks of an axis, about.
const TICKS: f64 = 4.0;

/// Where the axes lie in the drawing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) left: f64,
    pub(super) right: f64,
    pub(super) top: f64,
    pub(super) bottom: f64,
}

/// A drawing with two axes.
#[derive(Debug, Default)]
pub(super) struct Plot {
    pub(super) title: &'static str,
    /// What it shows, in a sentence: for who can't see it.
    pub(super) told: String,
    pub(super) down: Vec<Tick>,
    pub(super) along: Vec<Tick>,
    pub(super) bars: Vec<Bar>,
    pub(super) lines: Vec<Line>,
    pub(super) marks: Vec<Mark>,
    pub(super) legend: Vec<(&'static str, &'static str)>,
}

/// A place on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub(super) at: f64,
    pub(super) label: String,
}

/// A place along the lower axis that is pointed out from top to bottom, with its name beside it, so far down.
#[derive(Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) name_at: f64,
    /// `start` or `end`: which side of the place the name is on.
    pub(super) anchor: &'static str,
    pub(super) down: f64,
    pub(super) label: String,
}

impl Mark {
    /// Its name is where there is more room.
    pub(super) fn new(at: f64, down: f64, label: String) -> Self {
        let (name_at, anchor) =
            if at > f64::midpoint(FRAME.left, FRAME.right) { (at - NAME_GAP, "end") } else { (at + NAME_GAP, "start") };
        Self { at, name_at, anchor, down, label }
    }
}

/// A bar, and what is said when it is pointed at.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) class: &'static str,
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) told: String,
}

/// A line through points.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) class: &'static str,
    pub(super) points: String,
}

/// From values to places.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    most: f64,
    first: f64,
    last: f64,
}

impl Axis {
    /// From 0 upwards.
    pub(super) fn up(most: f64) -> Self {
        Self { most: round_up(most), first: FRAME.bottom, last: FRAME.top }
    }

    /// From 0 to the right.
    pub(super) fn along(most: f64) -> Self {
        Self { most: most.max(f64::MIN_POSITIVE), first: FRAME.left, last: FRAME.right }
    }

    /// Where a value lies.
    pub(super) fn at(&self, value: f64) -> f64 {
        self.first + (self.last - self.first) * value / self.most
    }

    /// Round values with their labels.
    pub(super) fn ticks(&self, label: impl Fn(f64) -> String) -> Vec<Tick> {
        let step = round_step(self.most / TICKS);
        let mut ticks = Vec::new();
        let mut value = 0.0;
        while value <= self.most * 1.001 {
            ticks.push(Tick { at: self.at(value), label: label(value) });
            value += step;
        }
        ticks
    }
}

impl Line {
    pub(super) fn through(class: &'static str, points: impl Iterator<Item = (f64, f64)>) -> Self {
        let mut text = String::new();
        for (x, y) in points {
            write!(text, "{x:.1},{y:.1} ").expect("a string takes everything");
        }
        Self { class, points: text }
    }
}

/// 1, 2 or 5 times a power of ten, at least this.
fn round_step(value: f64) -> f64 {
    let power = 10_f64.powf(value.max(f64::MIN_POSITIVE).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().find(|times| times * power >= value * 0.999);
    step.unwrap_or(10.0) * power
}

/// The next whole step above.
fn round_up(value: f64) -> f64 {
    let value = value.max(1.0);
    let step = round_step(value / TICKS);
    (value / step).ceil() * step
}

/// 1234567 → "1,234,567".
pub(super) fn count(value: f64) -> String {
    let digits = format!("{value:.0}");
    let first = digits.len() % 3;
    let mut text = digits[..first].to_owned();
    for group in digits.as_bytes()[first..].chunks(3) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&String::from_utf8_lossy(group));
    }
    text
}

/// As few digits as say it: `0.5`, `12`, `1,500`.
pub(super) fn short(value: f64) -> String {
    match value {
        value if value >= 100.0 => count(value),
        value if value >= 10.0 || (value - value.round()).abs() < 1e-9 => format!("{value:.0}"),
        value if value >= 1.0 => format!("{value:.1}"),
        value => format!("{value:.2}").trim_end_matches('0').to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_round_ticks_and_room_for_the_most() {
        let axis = Axis::up(8_731.0);
        let labels: Vec<String> = axis.ticks(count).into_iter().map(|tick| tick.label).collect();
        assert_eq!(labels, ["0", "5,000", "10,000"]);
        assert!(axis.at(8_731.0) >= FRAME.top && (axis.at(0.0) - FRAME.bottom).abs() < 0.001);
    }

    #[test]
    fn nothing_at_all_can_be_drawn() {
        assert!(Axis::up(0.0).at(0.0).is_finite());
        assert!(Axis::along(0.0).at(0.0).is_finite());
        assert!(Axis::along(0.0).ticks(short).len() < 20);
    }

    #[test]
    fn figures_are_short() {
        let shown = [0.0, 0.5, 0.25, 1.5, 2.0, 12.3, 1_234_567.0].map(short);
        assert_eq!(shown, ["0", "0.5", "0.25", "1.5", "2", "12", "1,234,567"]);
    }
}
