//! Reading what `GET /metrics` says: the text that Prometheus reads, as far as the monitor needs it.

use std::collections::BTreeMap;

use super::Latency;

/// What one process said, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Sample(BTreeMap<String, Vec<Series>>);

#[derive(Debug, Clone, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Sample {
    /// Reads the text; a line that isn't understood is left out.
    pub fn read(text: &str) -> Self {
        let mut sample = Self::default();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((name, series)) = read_line(line) else { continue };
            sample.0.entry(name).or_default().push(series);
        }
        sample
    }

    /// The sum of all series of that name with these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series(name, labels).map(|series| series.value).sum()
    }

    /// The value of that name.
    pub fn value(&self, name: &str) -> Option<f64> {
        self.0.get(name)?.first().map(|series| series.value)
    }

    /// The value of that name by each value of this label.
    pub fn by<'s>(&'s self, name: &str, label: &'s str) -> impl Iterator<Item = (&'s str, f64)> {
        let series = self.0.get(name).into_iter().flatten();
        series.filter_map(move |series| Some((series.labels.get(label)?.as_str(), series.value)))
    }

    fn series<'s>(&'s self, name: &str, labels: &'s [(&str, &str)]) -> impl Iterator<Item = &'s Series> {
        let has = |series: &&Series| {
            labels.iter().all(|(label, value)| series.labels.get(*label).is_some_and(|is| is == value))
        };
        self.0.get(name).into_iter().flatten().filter(has)
    }

    /// By how much a counter of a topic grew since `then`; by nothing where the process began anew.
    pub(super) fn grown(&self, then: &Self, name: &str, topic: &str) -> f64 {
        let of_topic = [("topic", topic)];
        (self.sum(name, &of_topic) - then.sum(name, &of_topic)).max(0.0)
    }

    /// How long it took in these processes, by a histogram of seconds, since `then`; since the start when nothing came
    /// since.
    pub(super) fn latency(now: &[&Self], then: &[&Self], name: &str, topic: &str) -> Option<Latency> {
        let since = Self::histogram(now, name, topic).minus(&Self::histogram(then, name, topic));
        let histogram = if since.count > 0.0 { since } else { Self::histogram(now, name, topic) };
        histogram.latency()
    }

    fn histogram(samples: &[&Self], name: &str, topic: &str) -> Histogram {
        let of_topic = [("topic", topic)];
        let bucket = |series: &Series| Some((series.labels.get("le")?.parse().ok()?, series.value));
        let name_of_buckets = format!("{name}_bucket");
        let series = samples.iter().flat_map(|sample| sample.series(&name_of_buckets, &of_topic));
        let mut buckets: Vec<(f64, f64)> = series.filter_map(bucket).collect();
        buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
        buckets.dedup_by(|next, kept| {
            let is_one = next.0.total_cmp(&kept.0).is_eq();
            kept.1 += if is_one { next.1 } else { 0.0 };
            is_one
        });
        let sum = |of: &str| samples.iter().map(|sample| sample.sum(&format!("{name}_{of}"), &of_topic)).sum();
        Histogram { buckets, sum: sum("sum"), count: sum("count") }
    }
}

/// A counter, as the whole number it is.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates; counters are whole")]
pub(super) fn whole(value: f64) -> u64 {
    value.round() as u64
}

struct Histogram {
    /// Upper bounds in seconds and how many are at most that, in the order of the bounds.
    buckets: Vec<(f64, f64)>,
    sum: f64,
    count: f64,
}

impl Histogram {
    fn minus(self, then: &Self) -> Self {
        // A process that began anew counts from nothing.
        if self.count < then.count || self.buckets.len() != then.buckets.len() {
            return self;
        }
        let buckets = self.buckets.iter().zip(&then.buckets);
        let buckets = buckets.map(|((bound, now), (_, then))| (*bound, now - then)).collect();
        Self { buckets, sum: self.sum - then.sum, count: self.count - then.count }
    }

    fn latency(&self) -> Option<Latency> {
        const MS: f64 = 1_000.0;
        (self.count > 0.0).then(|| Latency {
            avg_ms: self.sum / self.count * MS,
            p50_ms: self.quantile(0.50) * MS,
            p95_ms: self.quantile(0.95) * MS,
            p99_ms: self.quantile(0.99) * MS,
        })
    }

    /// Within a bucket evenly spread; what is beyond the last bound counts as that.
    fn quantile(&self, share: f64) -> f64 {
        let rank = share * self.count;
        let (mut low, mut below) = (0.0, 0.0);
        for (bound, up_to) in &self.buckets {
            if *up_to >= rank {
                if bound.is_infinite() {
                    return low;
                }
                let within = up_to - below;
                return if within > 0.0 { low + (bound - low) * (rank - below) / within } else { *bound };
            }
            (low, below) = (*bound, *up_to);
        }
        low
    }
}

/// `name{label="value",…} 1.5`
fn read_line(line: &str) -> Option<(String, Series)> {
    let (series, value) = line.trim().rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some((series.to_owned(), Series { labels: BTreeMap::new(), value }));
    };
    let labels = labels.strip_suffix('}')?;
    let label = |pair: &str| {
        let (name, value) = pair.split_once('=')?;
        Some((name.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    let labels = labels.split("\",").filter(|pair| !pair.is_empty()).map(label).collect::<Option<_>>()?;
    Some((name.to_owned(), Series { labels, value }))
}

#[cfg(test)]
mod tests {
    use super::{super::AGE, *};

    const TEXT: &str = r#"
# TYPE events_handled_total counter
events_handled_total{topic="order-created"} 40
events_handled_total{topic="stock-deducted"} 2
event_retries_total{topic="order-created",class="x y"} 3
process_resident_memory_bytes 1.5e7
event_age_seconds_bucket{topic="order-created",le="0.1"} 50
event_age_seconds_bucket{topic="order-created",le="0.2"} 100
event_age_seconds_bucket{topic="order-created",le="+Inf"} 100
event_age_seconds_sum{topic="order-created"} 10
event_age_seconds_count{topic="order-created"} 100
rubbish
"#;

    #[test]
    fn counters_are_read_by_name_and_label() {
        let sample = Sample::read(TEXT);
        assert!((sample.sum("events_handled_total", &[("topic", "order-created")]) - 40.0).abs() < 1e-9);
        assert!((sample.sum("events_handled_total", &[]) - 42.0).abs() < 1e-9);
        assert!((sample.sum("event_retries_total", &[("class", "x y")]) - 3.0).abs() < 1e-9);
        assert_eq!(sample.value("process_resident_memory_bytes").map(whole), Some(15_000_000));
        assert_eq!(sample.value("nothing"), None);
    }

    #[test]
    fn latencies_come_from_the_buckets() {
        let latency = Sample::latency(&[&Sample::read(TEXT)], &[], AGE, "order-created").expect("some came");
        let rounded = [latency.avg_ms, latency.p50_ms, latency.p95_ms, latency.p99_ms].map(whole);
        assert_eq!(rounded, [100, 100, 190, 198]);
        assert_eq!(Sample::latency(&[&Sample::read(TEXT)], &[], AGE, "order-cancelled"), None);
        let both = Sample::latency(&[&Sample::read(TEXT), &Sample::read(TEXT)], &[], AGE, "order-created");
        assert_eq!(both, Some(latency), "of two processes that are alike");
    }

    #[test]
    fn only_what_came_since_the_last_look_counts() {
        let before = Sample::read(TEXT);
        let later = TEXT.replace("le=\"0.2\"} 100", "le=\"0.2\"} 200").replace("Inf\"} 100", "Inf\"} 200");
        let later =
            Sample::read(&later.replace("count{topic=\"order-created\"} 100", "count{topic=\"order-created\"} 200"));
        let latency = Sample::latency(&[&later], &[&before], AGE, "order-created").expect("some came");
        assert_eq!(whole(latency.p50_ms), 150, "all of them took between 0.1 and 0.2 s");
    }
}
