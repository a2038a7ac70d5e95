//! One sale in figures: for people, for programs, and as a page.

use std::{fmt, time::Instant};

use chrono::{DateTime, SubsecRound, Utc};
use common_events::CouponId;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::{Answers, Ceiling, Held, Pace, Rush, Sale, SaleVerdict, tally::TICK};
use crate::Latency;

/// Everything that was planned, measured and found.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// When it was written.
    pub at: DateTime<Utc>,
    /// What was sold.
    pub coupon: CouponId,
    /// `set` or `ranked`.
    pub mode: String,
    /// How many there were.
    pub quantity: i64,
    /// Different users.
    pub users: u32,
    /// Requests beyond one per user.
    pub repeats: u32,
    /// Requests under way at once.
    pub connections: u32,
    /// When requests were sent.
    pub pace: Pace,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Answers a second.
    pub per_second: f64,
    /// 202 a second, until the last of them.
    pub admitted_per_second: f64,
    /// How many of each kind.
    pub answers: Answers,
    /// Of all answers.
    pub latency_ms: Latency,
    /// Of the 202.
    pub admitted_latency_ms: Latency,
    /// From the last 202 until the last coupon was seen to be issued.
    pub drained_after_ms: Option<f64>,
    /// What coupon-service spent, from the first request until it had drained, when it says so at `/metrics`.
    pub service_cpu_seconds: Option<f64>,
    /// What this tool spent on a request of the sale, in µs.
    pub tool_cpu_micros_per_request: f64,
    /// What this tool can send.
    pub ceiling: Ceiling,
    /// Who holds a coupon in the end.
    pub verdict: SaleVerdict,
    /// The answers in each step of the sale.
    pub timeline: Vec<Step>,
    /// How many answers took how long.
    pub latencies: Vec<Took>,
    /// Coupons issued, as they were seen.
    pub issued: Vec<Seen>,
}

/// Answers since the step before.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Since the first request.
    pub from_seconds: f64,
    /// By kind.
    pub answers: Answers,
}

/// So many answers took so long.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Took {
    /// Longer than this.
    pub from_ms: f64,
    /// At most this.
    pub to_ms: f64,
    /// Answers.
    pub count: u64,
}

/// So many were issued by then.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Seen {
    /// Since the first request.
    pub seconds: f64,
    /// Coupons.
    pub issued: i64,
}

/// Steps of the timeline, at most.
const STEPS: usize = 60;
/// Up to here latencies are one band, in µs; each further band ends at so many times the end of the one before.
const FIRST_BAND_US: u64 = 50;
const BAND_RATIO: f64 = 1.25;

impl Report {
    /// Puts it all together.
    pub fn of(
        (sale, mode, rush): (&Sale, &str, &Rush),
        held: &Held,
        service_cpu_seconds: Option<f64>,
        ceiling: Ceiling,
        verdict: SaleVerdict,
    ) -> Self {
        let Held { tally, issuing } = held;
        let began = tally.began.unwrap_or_else(Instant::now);
        Self {
            at: Utc::now().trunc_subsecs(0),
            coupon: sale.coupon.clone(),
            mode: mode.to_owned(),
            quantity: sale.quantity,
            users: rush.users,
            repeats: rush.repeats,
            connections: rush.connections,
            pace: rush.pace,
            seconds: tally.lasted.as_secs_f64(),
            per_second: tally.per_second(),
            admitted_per_second: tally.admitted_per_second(),
            answers: tally.answers,
            latency_ms: tally.latencies(),
            admitted_latency_ms: Latency::of(&tally.admitted_latency),
            drained_after_ms: issuing.drained_after.map(|time| time.as_secs_f64() * 1_000.0),
            service_cpu_seconds,
            tool_cpu_micros_per_request: tally.cpu_per_request().as_secs_f64() * 1_000_000.0,
            ceiling,
            verdict,
            timeline: steps(&tally.timeline),
            latencies: bands(&tally.latency),
            issued: issuing.issued_since(began),
        }
    }

    /// Requests that were planned.
    pub const fn requests(&self) -> u64 {
        self.users as u64 + self.repeats as u64
    }
}

/// At most [`STEPS`], each of as many ticks.
fn steps(timeline: &[Answers]) -> Vec<Step> {
    let ticks = timeline.len().div_ceil(STEPS).max(1);
    let step = |(number, answers): (usize, &[Answers])| {
        let mut sum = Answers::default();
        for tick in answers {
            sum.add(tick);
        }
        let from = TICK * u32::try_from(number * ticks).unwrap_or(u32::MAX);
        Step { from_seconds: from.as_secs_f64(), answers: sum }
    };
    timeline.chunks(ticks).enumerate().map(step).collect()
}

/// As many as there are between the fastest and the slowest answer.
fn bands(latency: &Histogram<u64>) -> Vec<Took> {
    #[expect(clippy::cast_precision_loss, reason = "at most ten minutes in µs")]
    let ms = |us: u64| us as f64 / 1_000.0;
    let mut from = 0;
    let band = latency.iter_log(FIRST_BAND_US, BAND_RATIO).map(|band| {
        let to = band.value_iterated_to();
        let took = Took { from_ms: ms(from), to_ms: ms(to), count: band.count_since_last_iteration() };
        from = to;
        took
    });
    band.skip_while(|band| band.count == 0).collect()
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "answers:")?;
        for (kind, count) in self.answers.seen() {
            writeln!(f, "  {:<28} {count:>8}", kind.name())?;
        }
        writeln!(
            f,
            "{:.0} answers/s in {:.2} s; {:.0} durable 202/s until the last",
            self.per_second, self.seconds, self.admitted_per_second
        )?;
        let from = match self.pace {
            Pace::Closed => "asked",
            Pace::Open(_) => "planned",
        };
        writeln!(f, "{from} → answered:  {}", self.latency_ms)?;
        writeln!(f, "{from} → 202:       {}", self.admitted_latency_ms)?;
        match self.drained_after_ms {
            Some(ms) => writeln!(f, "the last coupon was issued {ms:.0} ms after the last 202")?,
            None => writeln!(f, "some coupons were never issued")?,
        }
        if let Some(seconds) = self.service_cpu_seconds {
            writeln!(f, "coupon-service: {seconds:.2} CPU seconds for all of it")?;
        }
        writeln!(f, "this tool: {}", self.about_the_tool())?;
        self.fmt_verdict(f)
    }
}

impl Report {
    /// Whether the tool was in the way.
    pub(super) fn about_the_tool(&self) -> String {
        let Ceiling { per_second, cpu_per_request } = self.ceiling;
        format!(
            "{:.1} µs of CPU per request; against an empty handler on this machine it gets {per_second:.0} answers/s, at {:.1} µs",
            self.tool_cpu_micros_per_request,
            cpu_per_request.as_secs_f64() * 1_000_000.0,
        )
    }

    fn fmt_verdict(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SaleVerdict { quantity, issued, holders, rejected, wrong } = &self.verdict;
        writeln!(f, "verdict: {issued} of {quantity} issued to {holders} holders, {rejected} rejected after a 202:")?;
        if wrong.is_empty() {
            return write!(f, "  exactly as many as there are, one each, and every 202 is accounted for");
        }
        let sentences: Vec<String> = wrong.iter().map(|sentence| format!("  WRONG: {sentence}")).collect();
        write!(f, "{}", sentences.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sale::{Kind, SaleTally};

    #[test]
    fn steps_and_bands_hold_every_answer() {
        let mut tally = SaleTally::default();
        for number in 0..1_000 {
            let took = Duration::from_micros(200 + u64::from(number) * 7);
            tally.note(number, Kind::SoldOut, None, took, Duration::from_millis(u64::from(number) * 3));
        }
        let steps = steps(&tally.timeline);
        assert!(steps.len() <= STEPS);
        assert_eq!(steps.iter().map(|step| step.answers.count()).sum::<u64>(), 1_000);
        let bands = bands(&tally.latency);
        assert_eq!(bands.iter().map(|band| band.count).sum::<u64>(), 1_000);
        assert!(bands.iter().all(|band| band.from_ms < band.to_ms), "{bands:?}");
    }
}
