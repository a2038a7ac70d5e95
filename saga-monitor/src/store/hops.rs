//! `hops`: of each event that a group could not handle, the last that was heard.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use common_events::Service;
use deadpool_postgres::Client;
use messaging::{OwnTopic, Tx};
use tokio_postgres::{Error, Row};

use crate::{
    domain::{Place, StepStatus},
    events::reading::{Hop, HopSays},
};

/// A hop and when it happened.
pub type Timed = (DateTime<Utc>, Hop);

/// Keeps of each event and group the latest hop, whichever was heard first.
pub async fn update_hops(tx: &Tx<'_>, hops: &[Timed]) -> Result<(), Error> {
    let mut latest: BTreeMap<(&str, Place, Service), &Timed> = BTreeMap::new();
    for timed in hops {
        let (at, hop) = timed;
        let known = latest.entry((&hop.origin_topic, hop.origin, hop.group)).or_insert(timed);
        if (known.0, &known.1.says) < (*at, &hop.says) {
            *known = timed;
        }
    }
    let latest: Vec<&Timed> = latest.into_values().collect();
    let topics: Vec<&str> = latest.iter().map(|(_, hop)| &*hop.origin_topic).collect();
    let partitions: Vec<i32> = latest.iter().map(|(_, hop)| hop.origin.partition).collect();
    let offsets: Vec<i64> = latest.iter().map(|(_, hop)| hop.origin.offset).collect();
    let groups: Vec<&str> = latest.iter().map(|(_, hop)| hop.group.name()).collect();
    let statuses: Vec<&str> = latest.iter().map(|(_, hop)| hop.status().as_str()).collect();
    let tiers: Vec<&str> = latest.iter().map(|(_, hop)| &*hop.says.tier).collect();
    let attempts: Vec<i32> = latest.iter().map(|(_, hop)| hop.says.attempt).collect();
    let due: Vec<Option<DateTime<Utc>>> = latest.iter().map(|(_, hop)| hop.says.due_at).collect();
    let classes: Vec<Option<&str>> = latest.iter().map(|(_, hop)| hop.says.error_class.as_deref()).collect();
    let messages: Vec<Option<&str>> = latest.iter().map(|(_, hop)| hop.says.error_message.as_deref()).collect();
    let times: Vec<DateTime<Utc>> = latest.iter().map(|(at, _)| *at).collect();
    tx.execute(
        r#"INSERT INTO hops AS known (topic, "partition", "offset", consumer_group, status, tier, attempt, due_at,
                                      error_class, error_message, at)
           SELECT * FROM unnest($1::text[], $2::int[], $3::bigint[], $4::text[], $5::text[], $6::text[], $7::int[],
                                $8::timestamptz[], $9::text[], $10::text[], $11::timestamptz[])
           ON CONFLICT (topic, "partition", "offset", consumer_group) DO UPDATE
           SET status = excluded.status, tier = excluded.tier, attempt = excluded.attempt, due_at = excluded.due_at,
               error_class = excluded.error_class, error_message = excluded.error_message, at = excluded.at
           WHERE (known.at, known.attempt) < (excluded.at, excluded.attempt)"#,
        &[&topics, &partitions, &offsets, &groups, &statuses, &tiers, &attempts, &due, &classes, &messages, &times],
    )
    .await?;
    Ok(())
}

impl Hop {
    /// Whether the group tries again, or gave up.
    pub fn status(&self) -> StepStatus {
        if self.says.tier == OwnTopic::Dlt.suffix() { StepStatus::Dead } else { StepStatus::Retrying }
    }
}

/// The sagas whose events lie at these places, or first lay there, with the time of their latest hop.
pub async fn list_progress(tx: &Tx<'_>, places: &[(&str, Place)]) -> Result<Vec<(String, DateTime<Utc>)>, Error> {
    let topics: Vec<&str> = places.iter().map(|(topic, _)| *topic).collect();
    let partitions: Vec<i32> = places.iter().map(|(_, place)| place.partition).collect();
    let offsets: Vec<i64> = places.iter().map(|(_, place)| place.offset).collect();
    let rows = tx
        .query(
            r#"SELECT log.saga, max(hops.at)
               FROM unnest($1::text[], $2::int[], $3::bigint[]) AS asked (topic, place, at)
               JOIN hops ON hops.topic = asked.topic AND hops."partition" = asked.place AND hops."offset" = asked.at
               JOIN saga_state_log log ON log.topic = asked.topic AND log."partition" = asked.place
                                      AND log."offset" = asked.at
               WHERE log.saga IS NOT NULL
               GROUP BY log.saga"#,
            &[&topics, &partitions, &offsets],
        )
        .await?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// The last that was heard of an event in each group.
pub async fn list_hops(client: &Client, topic: &str, place: Place) -> Result<Vec<Timed>, Error> {
    let statement = client
        .prepare_cached(
            r#"SELECT topic, "partition", "offset", consumer_group, tier, attempt, due_at, error_class, error_message, at
               FROM hops WHERE topic = $1 AND "partition" = $2 AND "offset" = $3"#,
        )
        .await?;
    let rows = client.query(&statement, &[&topic, &place.partition, &place.offset]).await?;
    Ok(rows.iter().filter_map(timed).collect())
}

fn timed(row: &Row) -> Option<Timed> {
    let hop = Hop {
        group: row.get::<_, &str>("consumer_group").parse().ok()?,
        origin_topic: row.get("topic"),
        origin: Place { partition: row.get("partition"), offset: row.get("offset") },
        says: HopSays {
            tier: row.get("tier"),
            attempt: row.get("attempt"),
            due_at: row.get("due_at"),
            error_class: row.get("error_class"),
            error_message: row.get("error_message"),
        },
    };
    Some((row.get("at"), hop))
}
