//! A sale as one page: everything is in it, so that it can be sent around and read years later.

use askama::Template;

use super::{
    Kind, Pace, Report,
    geometry::{Axis, Bar, FRAME, Frame, Line, Mark, Plot, Tick, count, short},
    report::{Step, Took},
};

/// Of a bar, the share that is drawn; the rest is the gap to the next.
const BAR_SHARE: f64 = 0.86;
/// Of the name of a mark, with the space above.
const NAME_HEIGHT: f64 = 18.0;
/// Beyond these an axis of factors has one tick per power of ten.
const MANY_DECADES: i32 = 3;

#[derive(Template)]
#[template(path = "sale.html")]
struct Page<'r> {
    report: &'r Report,
    asked: String,
    loop_is: String,
    figures: Vec<(&'static str, String)>,
    answers: Vec<(&'static str, String)>,
    frame: Frame,
    plots: [Plot; 3],
}

impl Page<'_> {
    fn title(&self) -> String {
        let coupons = figure(self.report.quantity.unsigned_abs());
        format!("{coupons} coupons, {} requests", figure(self.report.requests()))
    }

    fn outcome(&self) -> String {
        let verdict = &self.report.verdict;
        let [issued, quantity] = [verdict.issued, verdict.quantity].map(|count| figure(count.unsigned_abs()));
        format!("{issued} of {quantity} coupons are issued to {} holders", figure(verdict.holders as u64))
    }
}

impl Report {
    /// One HTML page without anything from elsewhere.
    pub fn to_html(&self) -> anyhow::Result<String> {
        let page = Page {
            report: self,
            asked: format!(
                "{} users and {} repeats over {} connections",
                count(self.users.into()),
                count(self.repeats.into()),
                count(self.connections.into())
            ),
            loop_is: match self.pace {
                Pace::Closed => "Closed loop: each connection asks again as soon as it was answered. Latencies are \
                                 the service's own; a waiting crowd would feel more."
                    .to_owned(),
                Pace::Open(rate) => format!(
                    "Open loop: {} requests a second at times planned beforehand. Latencies count from the \
                     planned time, as a customer feels them.",
                    short(rate)
                ),
            },
            figures: self.figures(),
            answers: self.answers_by_kind(),
            frame: FRAME,
            plots: [self.answers_over_time(), self.latency_distribution(), self.issued_over_time()],
        };
        Ok(page.render()?)
    }

    fn figures(&self) -> Vec<(&'static str, String)> {
        let ms = |value: f64| format!("{} ms", short(value));
        let mut figures = vec![
            ("answers a second", count(self.per_second)),
            ("durable 202 a second", count(self.admitted_per_second)),
            ("p50", ms(self.latency_ms.p50)),
            ("p95", ms(self.latency_ms.p95)),
            ("p99", ms(self.latency_ms.p99)),
            ("slowest", ms(self.latency_ms.max)),
            ("drained after the last 202", self.drained_after_ms.map_or_else(|| "never".to_owned(), ms)),
        ];
        if let Some(seconds) = self.service_cpu_seconds {
            figures.push(("service CPU", format!("{seconds:.2} s")));
        }
        figures
    }

    fn answers_by_kind(&self) -> Vec<(&'static str, String)> {
        let seen = self.answers.seen().map(|(kind, number)| (kind.name(), figure(number)));
        seen.chain([("rejected after a 202", figure(self.verdict.rejected as u64))]).collect()
    }

    fn answers_over_time(&self) -> Plot {
        let long = self.step_seconds();
        let rate = |answers: u64| as_f64(answers) / long;
        let all = |step: &Step| step.answers.seen().map(|(_, count)| count).sum::<u64>();
        let most = self.timeline.iter().map(|step| rate(all(step))).fold(0.0, f64::max);
        let end = self.timeline.last().map_or(self.seconds, |last| last.from_seconds + long);
        let (along, up) = (Axis::along(end), Axis::up(most));
        let width = (along.at(long) - along.at(0.0)) * BAR_SHARE;
        let mut bars = Vec::new();
        for Step { from_seconds, answers } in &self.timeline {
            let mut below = 0.0;
            for (kind, number) in answers.seen() {
                let top = below + rate(number);
                bars.push(Bar {
                    class: class(kind),
                    x: along.at(*from_seconds),
                    y: up.at(top),
                    width,
                    height: up.at(below) - up.at(top),
                    told: format!("{} × {} from {} s", figure(number), kind.name(), short(*from_seconds)),
                });
                below = top;
            }
        }
        Plot {
            title: "Answers a second over time",
            told: format!("{} answers in {} seconds", figure(self.answers.count()), short(self.seconds)),
            down: up.ticks(count),
            along: along.ticks(seconds),
            bars,
            legend: self.answers.seen().map(|(kind, _)| (class(kind), kind.name())).collect(),
            ..Plot::default()
        }
    }

    /// Bands are as wide as the one before in factors, so they are drawn alike wide.
    fn latency_distribution(&self) -> Plot {
        let (Some(first), Some(last)) = (self.latencies.first(), self.latencies.last()) else {
            return Plot { title: "How long answers took", told: "There were none".to_owned(), ..Plot::default() };
        };
        // The first band begins at 0, which has no logarithm.
        let lowest = if first.from_ms > 0.0 { first.from_ms } else { first.to_ms / 2.0 };
        let decades = (last.to_ms / lowest).log10().max(0.1);
        let x = |ms: f64| FRAME.left + (FRAME.right - FRAME.left) * ((ms / lowest).log10() / decades).clamp(0.0, 1.0);
        let most = self.latencies.iter().map(|band| band.count).max().unwrap_or_default();
        let up = Axis::up(as_f64(most));
        let bar = |Took { from_ms, to_ms, count: answers }: &Took| Bar {
            class: "took",
            x: x(*from_ms),
            y: up.at(as_f64(*answers)),
            width: (x(*to_ms) - x(*from_ms)) * BAR_SHARE,
            height: FRAME.bottom - up.at(as_f64(*answers)),
            told: format!("{} answers within {} to {} ms", figure(*answers), short(*from_ms), short(*to_ms)),
        };
        let latency = &self.latency_ms;
        let points = [("p50", latency.p50), ("p95", latency.p95), ("p99", latency.p99)];
        // Each name below the one before, as the places may be the same.
        let downwards = std::iter::successors(Some(FRAME.top + NAME_HEIGHT), |down| Some(down + NAME_HEIGHT));
        let mark = |((name, ms), down)| Mark::new(x(ms), down, format!("{name} {}", short(ms)));
        Plot {
            title: "How long answers took (milliseconds, logarithmic)",
            told: format!("Half within {} ms, 99 of 100 within {} ms", short(latency.p50), short(latency.p99)),
            down: up.ticks(count),
            along: log_ticks(lowest, last.to_ms).map(|ms| Tick { at: x(ms), label: short(ms) }).collect(),
            bars: self.latencies.iter().map(bar).collect(),
            marks: points.into_iter().zip(downwards).map(mark).collect(),
            ..Plot::default()
        }
    }

    fn issued_over_time(&self) -> Plot {
        let end = self.issued.last().map_or(0.0, |seen| seen.seconds).max(self.seconds);
        let mut admitted = 0;
        let mut admissions = vec![(0.0, 0)];
        for step in &self.timeline {
            admitted += step.answers.of(Kind::Admitted);
            admissions.push(((step.from_seconds + self.step_seconds()).min(end), admitted));
        }
        let quantity = self.quantity.unsigned_abs();
        let (along, up) = (Axis::along(end), Axis::up(as_f64(quantity.max(admitted))));
        let place = |(at, count): (f64, u64)| (along.at(at), up.at(as_f64(count)));
        let issued = self.issued.iter().map(|seen| place((seen.seconds, seen.issued.unsigned_abs())));
        let lines = vec![
            Line::through("there-are", [(0.0, quantity), (end, quantity)].into_iter().map(place)),
            Line::through("admitted-line", admissions.into_iter().map(place)),
            Line::through("issued-line", issued),
        ];
        let of = figure(quantity);
        Plot {
            title: "Coupons over time",
            told: format!("{} of {of} coupons were issued", figure(self.verdict.issued.unsigned_abs())),
            down: up.ticks(count),
            along: along.ticks(seconds),
            lines,
            legend: vec![
                ("admitted-line", "answered with 202"),
                ("issued-line", "issued"),
                ("there-are", "how many there are"),
            ],
            ..Plot::default()
        }
    }

    fn step_seconds(&self) -> f64 {
        self.timeline.get(1).map_or(self.seconds, |second| second.from_seconds).max(0.001)
    }
}

fn seconds(value: f64) -> String {
    format!("{} s", short(value))
}

fn figure(number: u64) -> String {
    count(as_f64(number))
}

#[expect(clippy::cast_precision_loss, reason = "a count")]
const fn as_f64(count: u64) -> f64 {
    count as f64
}

/// Of the style sheet.
const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Admitted => "admitted",
        Kind::HasItAlready => "has-it",
        Kind::SoldOut => "sold-out",
        Kind::NotOpen => "not-open",
        Kind::Undecided => "undecided",
        Kind::Other => "other",
        Kind::Silence => "silence",
    }
}

/// 1, 2 and 5 times the powers of ten within.
fn log_ticks(lowest: f64, highest: f64) -> impl Iterator<Item = f64> {
    #[expect(clippy::cast_possible_truncation, reason = "a few decades")]
    let (first, last) = (lowest.log10().floor() as i32, highest.log10().ceil() as i32);
    let is_long = last - first > MANY_DECADES;
    let steps: &[f64] = if is_long { &[1.0] } else { &[1.0, 2.0, 5.0] };
    (first..=last)
        .flat_map(|decade| steps.iter().map(move |step| step * 10_f64.powi(decade)))
        .filter(move |ms| (lowest..=highest).contains(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_of_factors_has_round_ticks() {
        assert_eq!(log_ticks(0.3, 12.0).collect::<Vec<_>>(), [0.5, 1.0, 2.0, 5.0, 10.0]);
        assert_eq!(log_ticks(0.05, 5_000.0).collect::<Vec<_>>(), [0.1, 1.0, 10.0, 100.0, 1_000.0]);
    }
}
