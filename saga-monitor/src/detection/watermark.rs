//! How far the monitor knows everything: the moment up to which every record of every topic it hears is in the
//! log. Nothing is judged beyond it, so that the monitor's own absence raises no alarm.

use chrono::{DateTime, Utc};

use crate::{cluster::Standing, store::positions::Positions};

/// The watermark, given how the cluster stood at `looked_at` and how far the log has read. `None` when some
/// partition was never read, though something lies there.
///
/// A partition that is read to its end is known up to the look; any other up to the last record that was read
/// of it, as one is that nobody leads. What lies behind a transaction that is still open is before the end, and not read.
pub fn watermark(
    heard: impl Iterator<Item = String>,
    cluster: &Standing,
    read: &Positions,
    looked_at: DateTime<Utc>,
) -> Option<DateTime<Utc>> {
    let mut known_until = looked_at;
    for topic in heard {
        let partitions = cluster.ends.range(from_first(&topic)..).take_while(|((of, _), _)| *of == topic);
        for at in cluster.leaderless.range(from_first(&topic)..).take_while(|(of, _)| *of == topic) {
            known_until = known_until.min(read.get(at)?.last_at);
        }
        for (at, end) in partitions {
            let begin = cluster.begins.get(at).copied().unwrap_or_default();
            let position = read.get(at);
            if position.map_or(0, |position| position.next_offset).max(begin) < *end {
                known_until = known_until.min(position?.last_at);
            }
        }
    }
    Some(known_until)
}

fn from_first(topic: &str) -> (String, i32) {
    (topic.to_owned(), 0)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::store::positions::Position;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn cluster(ends: &[(&str, i32, i64)]) -> Standing {
        let ends = ends.iter().map(|(topic, partition, end)| (((*topic).to_owned(), *partition), *end)).collect();
        Standing { ends, ..Standing::default() }
    }

    fn read(positions: &[(&str, i32, i64, i64)]) -> Positions {
        let position = |(topic, partition, next_offset, second): &(&str, i32, i64, i64)| {
            let position = Position { next_offset: *next_offset, last_at: at(*second) };
            (((*topic).to_owned(), *partition), position)
        };
        positions.iter().map(position).collect()
    }

    fn known_until(cluster: &Standing, read: &Positions) -> Option<DateTime<Utc>> {
        watermark(["a", "b"].map(str::to_owned).into_iter(), cluster, read, at(100))
    }

    #[test]
    fn what_is_read_to_its_end_is_known_until_now() {
        let cluster = cluster(&[("a", 0, 5), ("a", 1, 0), ("b", 0, 2)]);
        assert_eq!(known_until(&cluster, &read(&[("a", 0, 5, 10), ("b", 0, 2, 20)])), Some(at(100)));
    }

    #[test]
    fn the_partition_that_is_furthest_behind_decides() {
        let cluster = cluster(&[("a", 0, 5), ("a", 1, 9), ("b", 0, 2)]);
        let read = read(&[("a", 0, 5, 10), ("a", 1, 8, 40), ("b", 0, 1, 30)]);
        assert_eq!(known_until(&cluster, &read), Some(at(30)));
    }

    #[test]
    fn a_partition_of_which_nothing_was_read_lets_nothing_be_judged() {
        assert_eq!(known_until(&cluster(&[("a", 0, 1)]), &read(&[])), None);
    }

    #[test]
    fn a_partition_that_nobody_leads_is_known_up_to_what_was_read_of_it() {
        let mut cluster = cluster(&[("a", 0, 5), ("b", 0, 2)]);
        cluster.leaderless.insert(("b".to_owned(), 1));
        let known = [("a", 0, 5, 10), ("b", 0, 2, 20), ("b", 1, 7, 30)];
        assert_eq!(known_until(&cluster, &read(&known)), Some(at(30)));
        assert_eq!(known_until(&cluster, &read(&known[..2])), None, "it may hold what was never read");
    }

    #[test]
    fn what_is_past_its_retention_needs_no_reading() {
        let mut cluster = cluster(&[("a", 0, 7)]);
        cluster.begins.insert(("a".to_owned(), 0), 7);
        assert_eq!(known_until(&cluster, &read(&[])), Some(at(100)));
    }

    #[test]
    fn topics_that_are_not_heard_do_not_count() {
        assert_eq!(known_until(&cluster(&[("c", 0, 7)]), &read(&[])), Some(at(100)));
    }
}
