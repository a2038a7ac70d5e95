//! 7: each event is, for each group, in exactly one place: unread, waiting, on a retry topic, parked, dead, discarded or
//! applied. 6: nothing that keeps the order of its key is applied before what came before it, dead letters excepted. Looked at
//! after every step that moved some.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use common_events::{Service, Topic, catalogue::Retention, envelope};
use messaging::ladder::headers::X_HOP;
use service_runtime::Pool;
use tokio_postgres::Row;
use uuid::Uuid;

use super::ask;
use crate::{
    broker::{Broker, PARTITIONS, Reading},
    shop::Shop,
};

/// What one group has of the events of a history.
struct Places {
    group: Service,
    /// Behind its offset, on topics whose events the inbox remembers.
    read: BTreeSet<Uuid>,
    /// The events of topics that keep their order, by topic and key, as they came.
    in_order: BTreeMap<(String, Vec<u8>), Vec<Uuid>>,
    /// Before it, by the topic.
    unread: BTreeSet<(String, Uuid)>,
    /// On its own topics, unread or still in the outbox: with the hop.
    on_the_way: BTreeSet<(Uuid, i32)>,
    database: Noted,
}

/// What the group's database says, in one snapshot.
#[derive(Default)]
struct Noted {
    /// Of the inbox: state, hop, and the topic where it lay first.
    inbox: BTreeMap<Uuid, (String, i32, String)>,
    waiting: BTreeSet<Uuid>,
    letters: BTreeMap<Uuid, String>,
    /// In the outbox: topic, event, and the hop that its headers say.
    outbox: Vec<(String, Uuid, Option<i32>)>,
}

/// Looks where each event is, in these groups.
pub(crate) async fn check(shop: &Shop, broker: &Broker, groups: &BTreeSet<Service>) -> anyhow::Result<()> {
    for (group, topics) in shop.topics.iter().filter(|(group, _)| groups.contains(group)) {
        Places::of(shop, broker, *group, topics).await?.are_right().with_context(|| format!("in {group}"))?;
    }
    Ok(())
}

fn hop_of<'h>(mut headers: impl Iterator<Item = (&'h str, &'h [u8])>) -> Option<i32> {
    let (_, hop) = headers.find(|(name, _)| *name == X_HOP)?;
    std::str::from_utf8(hop).ok()?.parse().ok()
}

/// Whether the inbox remembers what was applied.
fn is_remembered(topic: &str) -> bool {
    topic.parse::<Topic>().is_ok_and(|topic| matches!(topic.spec().retention, Retention::Days(_)))
}

impl Noted {
    async fn of(pool: &Pool, known: &[Uuid]) -> anyhow::Result<Self> {
        let sql = "
            SELECT 'inbox', event_id, state, hop, topic, NULL::bytea, NULL::text[], NULL::bytea[]
            FROM inbox WHERE event_id = ANY($1)
            UNION ALL SELECT 'waiting', event_id, NULL, NULL, NULL, NULL, NULL, NULL
            FROM waiting_events WHERE event_id = ANY($1)
            UNION ALL SELECT 'letter', event_id, state, NULL, NULL, NULL, NULL, NULL
            FROM dead_letters WHERE event_id = ANY($1)
            UNION ALL SELECT 'outbox', NULL, NULL, NULL, topic, payload, header_names, header_values FROM outbox";
        let mut noted = Self::default();
        for row in ask(pool, sql, &[&known]).await? {
            match row.get(0) {
                "inbox" => drop(noted.inbox.insert(row.get(1), (row.get(2), row.get(3), row.get(4)))),
                "waiting" => drop(noted.waiting.insert(row.get(1))),
                "letter" => drop(noted.letters.insert(row.get(1), row.get(2))),
                _ => noted.outbox.extend(sent(&row)),
            }
        }
        Ok(noted)
    }
}

/// A row of the outbox.
fn sent(row: &Row) -> Option<(String, Uuid, Option<i32>)> {
    let payload: Option<&[u8]> = row.get(5);
    let (names, values): (Option<Vec<&str>>, Option<Vec<&[u8]>>) = (row.get(6), row.get(7));
    let id = envelope::peek(payload?).id?;
    let headers = names.unwrap_or_default().into_iter().zip(values.unwrap_or_default());
    Some((row.get(4), id.uuid(), hop_of(headers)))
}

impl Places {
    async fn of(shop: &Shop, broker: &Broker, group: Service, topics: &[String]) -> anyhow::Result<Self> {
        let (mut read, mut unread, mut on_the_way) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut in_order, mut known) = (BTreeMap::<_, Vec<Uuid>>::new(), Vec::new());
        for topic in topics {
            let heard = topic.parse::<Topic>().ok();
            let keeps_order = heard.is_some_and(|heard| shop.keeps_order_of(group, heard));
            for partition in 0..PARTITIONS {
                let reading = Reading { group, topic: topic.clone(), partition };
                let (ids, position) = broker.ids(&reading);
                known.extend(ids.iter().flatten().copied());
                if is_remembered(topic) {
                    read.extend(ids[..position].iter().flatten());
                    for (record, id) in broker.log(&reading).iter().zip(ids).filter(|_| keeps_order) {
                        let key = (topic.clone(), record.key.clone().unwrap_or_default());
                        in_order.entry(key).or_default().extend(*id);
                    }
                }
                unread.extend(ids[position..].iter().flatten().map(|id| (topic.clone(), *id)));
                if heard.is_none() {
                    for (record, id) in broker.unread(&reading).iter().zip(&ids[position..]) {
                        let headers = record.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice()));
                        on_the_way.extend(id.zip(hop_of(headers)));
                    }
                }
            }
        }
        let database = Noted::of(shop.database(group), &known).await?;
        on_the_way.extend(database.outbox.iter().filter_map(|(_, id, hop)| Some((*id, (*hop)?))));
        unread.extend(database.outbox.iter().map(|(topic, id, _)| (topic.clone(), *id)));
        Ok(Self { group, read, in_order, unread, on_the_way, database })
    }

    fn are_right(&self) -> anyhow::Result<()> {
        for id in &self.read {
            ensure!(self.database.inbox.contains_key(id), "{id} was read, and is in no place");
        }
        for (id, (state, hop, topic)) in &self.database.inbox {
            let letter = self.database.letters.get(id).map(String::as_str);
            // Whoever is on his way may have been dead before.
            let is_nobody_s_letter = matches!(letter, None | Some("REPLAYED"));
            let is_there = match state.as_str() {
                "applied" => !matches!(letter, Some("DEAD" | "PARKED")),
                "waiting" => is_nobody_s_letter && self.database.waiting.contains(id),
                "retrying" => is_nobody_s_letter && self.on_the_way.contains(&(*id, *hop)),
                "parked" => letter == Some("PARKED"),
                "dead" => letter == Some("DEAD"),
                "discarded" => letter == Some("DISCARDED"),
                "unread" => is_nobody_s_letter && self.unread.contains(&(topic.clone(), *id)),
                other => anyhow::bail!("{id} is {other}"),
            };
            ensure!(is_there, "{id} of {topic} is {state} (hop {hop}), and isn't there; its dead letter: {letter:?}");
            ensure!(state == "waiting" || !self.database.waiting.contains(id), "{id} is {state}, and waits, too");
        }
        for id in &self.database.waiting {
            ensure!(self.database.inbox.contains_key(id), "{id} waits, and {} doesn't know it", self.group);
        }
        self.are_in_order()
    }

    fn are_in_order(&self) -> anyhow::Result<()> {
        for ((topic, _), ids) in &self.in_order {
            let mut held: Option<Uuid> = None;
            let mut seen = BTreeSet::new();
            // What a relay sent twice has its place where it came first.
            for id in ids.iter().filter(|id| seen.insert(**id)) {
                let Some((state, ..)) = self.database.inbox.get(id) else { continue };
                let was_dead = matches!(
                    self.database.letters.get(id).map(String::as_str),
                    Some("DEAD" | "REPLAYED" | "DISCARDED")
                );
                match state.as_str() {
                    "waiting" | "retrying" | "parked" if !was_dead => held = held.or(Some(*id)),
                    "applied" if !was_dead => {
                        ensure!(held.is_none(), "{id} of {topic} is applied before {held:?} of its key");
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
