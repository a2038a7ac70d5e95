//! What is counted here, and what `GET /metrics` says of it. Who counts names the metric; that each is described, as
//! what it is, is tested with the house.

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// Describes them all. Again, as every part of a process does it that begins to count, nothing happens.
pub(crate) fn describe() {
    describe_publishing();
    describe_consuming();
    describe_failing();
    describe_dead_letters();
}

fn describe_publishing() {
    describe_counter!("events_written_total", "Events committed to the outbox, by topic.");
    describe_counter!("events_published_total", "Events that Kafka acknowledged, by topic.");
    describe_counter!("events_diverted_total", "Admissions kept as producer dead letters, by topic.");
    describe_counter!("events_not_kept_total", "Admissions of which it isn't certain that they arrive, by topic.");
    describe_counter!("outbox_failed_total", "Rows of the outbox that Kafka refused and that go again, by topic.");
    describe_gauge!("outbox_rows_waiting", "Rows that wait in the outbox of this group's database, by topic.");
    describe_gauge!("outbox_oldest_seconds", "For how long the oldest row of the outbox has waited, by topic.");
    describe_gauge!(
        "outbox_topic_refused",
        "1 while Kafka takes nothing for a topic, or for a key of it, by database and topic."
    );
    describe_gauge!("outbox_in_flight", "Rows of the outbox that wait for Kafka's acknowledgement, by database.");
    describe_histogram!("outbox_delay_seconds", "From the write of a row to Kafka's acknowledgement, by database.");
    describe_gauge!("producer_dead_letters", "Events that wait for Kafka as producer dead letters, by topic.");
}

fn describe_consuming() {
    describe_counter!("events_handled_total", "Events applied by this group, by topic.");
    describe_counter!("event_duplicates_total", "Events that came again and were turned away.");
    describe_counter!("event_conflicts_total", "Batches tried again after a deadlock or a serialization failure.");
    describe_histogram!("event_age_seconds", "From an event's own time to the end of its handling, by topic.");
    describe_histogram!("event_batch_seconds", "Time that one transaction of events takes.");
    describe_gauge!("consumer_lag_records", "Records on a partition that this group hasn't applied yet.");
}

fn describe_failing() {
    describe_counter!("event_retries_total", "Attempts after one that failed, by topic and class.");
    describe_counter!("event_hops_total", "Moves of events to retry topics or to the parked, by topic and tier.");
    describe_counter!("events_recovered_total", "Events applied after they had climbed the ladder, by tier.");
    describe_counter!("events_kept_waiting_total", "Events kept behind a failed one of their key.");
    describe_counter!("events_drained_total", "Events applied that had waited behind a failed one of their key.");
    describe_counter!("events_dead_total", "Events set aside as dead letters, by topic and class.");
    describe_histogram!("retry_lateness_seconds", "How much later than due a retry is made.");
    describe_gauge!("keys_waiting", "Keys whose events wait behind a failed one.");
    describe_gauge!("events_waiting", "Events that wait behind a failed one of their key.");
    describe_gauge!("events_parked", "Events that wait for the next batch of parked ones.");
}

fn describe_dead_letters() {
    describe_gauge!("dead_letters", "Dead letters that nobody has decided about.");
    describe_counter!("alarms_sent_total", "Alarms of dead letters that the webhook took.");
    describe_counter!("alarms_failed_total", "Alarms of dead letters that the webhook didn't take.");
    describe_counter!("replays_halted_total", "Replays that halted by themselves.");
    describe_counter!("replay_records_total", "Records of replays, by what became of them.");
}
