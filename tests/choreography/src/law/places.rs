//! 7: each event is, for each group, in exactly one place: unread, waiting, on a retry topic, parked, dead, discarded or
//! applied. 6: nothing that keeps the order of its key is applied before what came before it, dead letters excepted. Looked at
//! whenever nothing is under way.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, ensure};
use common_events::{EventId, Service, Topic, catalogue::Retention, envelope};
use messaging::{Record, ladder::headers::X_HOP};
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
    /// The same by topic and key, as they came, of topics that keep their order.
    in_order: BTreeMap<(String, Vec<u8>), Vec<Uuid>>,
    /// Before it, by the topic.
    unread: BTreeSet<(String, Uuid)>,
    /// On its own topics, unread or still in the outbox: with the hop.
    on_the_way: BTreeSet<(Uuid, i32)>,
    /// In the outbox, by the topic.
    in_outbox: BTreeSet<(String, Uuid)>,
    /// What the inbox says: state, hop, and the topic where it lay first.
    inbox: BTreeMap<Uuid, (String, i32, String)>,
    waiting: BTreeSet<Uuid>,
    letters: BTreeMap<Uuid, String>,
}

/// Looks where each event is, in each group.
pub(crate) async fn check(shop: &Shop, broker: &Broker) -> anyhow::Result<()> {
    for (group, topics) in &shop.topics {
        Places::of(shop, broker, *group, topics).await?.are_right().with_context(|| format!("in {group}"))?;
    }
    Ok(())
}

fn id_of(record: &Record) -> Option<Uuid> {
    envelope::peek(record.value.as_deref()?).id.map(EventId::uuid)
}

fn hop_of(headers: &[(String, Vec<u8>)]) -> Option<i32> {
    let (_, hop) = headers.iter().find(|(name, _)| name == X_HOP)?;
    std::str::from_utf8(hop).ok()?.parse().ok()
}

/// Whether the inbox remembers what was applied.
fn is_remembered(topic: &str) -> bool {
    topic.parse::<Topic>().is_ok_and(|topic| matches!(topic.spec().retention, Retention::Days(_)))
}

impl Places {
    async fn of(shop: &Shop, broker: &Broker, group: Service, topics: &[String]) -> anyhow::Result<Self> {
        let (mut read, mut unread, mut on_the_way) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let (mut in_outbox, mut in_order) = (BTreeSet::new(), BTreeMap::<_, Vec<Uuid>>::new());
        let subscriptions = shop.process(group, 0).group.subscriptions();
        for topic in topics {
            let is_own = topic.parse::<Topic>().is_err();
            let keeps_order = topic.parse().is_ok_and(|topic| subscriptions.keeps_order_of(topic));
            for partition in 0..PARTITIONS {
                let reading = Reading { group, topic: topic.clone(), partition };
                let ids = |records: &[Record]| records.iter().filter_map(id_of).collect::<Vec<_>>();
                if is_remembered(topic) {
                    read.extend(ids(broker.read(&reading)));
                    for record in broker.read(&reading).iter().filter(|_| keeps_order) {
                        let key = (topic.clone(), record.key.clone().unwrap_or_default());
                        in_order.entry(key).or_default().extend(id_of(record));
                    }
                }
                unread.extend(ids(broker.unread(&reading)).into_iter().map(|id| (topic.clone(), id)));
                if is_own {
                    let hops = broker.unread(&reading).iter().filter_map(|r| Some((id_of(r)?, hop_of(&r.headers)?)));
                    on_the_way.extend(hops);
                }
            }
        }
        let pool = shop.pool(group);
        for row in shop.outbox(group, i64::from(u16::MAX)).await? {
            let value = row.message.value.as_deref().unwrap_or_default();
            let Some(id) = envelope::peek(value).id.map(EventId::uuid) else { continue };
            on_the_way.extend(hop_of(&row.message.headers).map(|hop| (id, hop)));
            in_outbox.insert((row.message.topic, id));
        }
        let known: Vec<Uuid> = broker.records().filter_map(id_of).collect();
        let state = |row: &Row| (row.get::<_, Uuid>(0), (row.get(1), row.get(2), row.get(3)));
        let sql = "SELECT event_id, state, hop, topic FROM inbox WHERE event_id = ANY($1)";
        let inbox = ask(pool, sql, &[&known]).await?.iter().map(state).collect();
        let sql = "SELECT event_id FROM waiting_events WHERE event_id = ANY($1)";
        let waiting = ask(pool, sql, &[&known]).await?.iter().map(|row| row.get(0)).collect();
        let sql = "SELECT event_id, state FROM dead_letters WHERE event_id = ANY($1)";
        let letters = ask(pool, sql, &[&known]).await?.iter().map(|row| (row.get(0), row.get(1))).collect();
        Ok(Self { group, read, in_order, unread, on_the_way, in_outbox, inbox, waiting, letters })
    }

    fn are_right(&self) -> anyhow::Result<()> {
        for id in &self.read {
            ensure!(self.inbox.contains_key(id), "{id} was read, and is in no place");
        }
        for (id, (state, hop, topic)) in &self.inbox {
            let letter = self.letters.get(id).map(String::as_str);
            let is_there = match state.as_str() {
                "applied" => !matches!(letter, Some("DEAD" | "PARKED")),
                "waiting" => self.waiting.contains(id),
                "retrying" => self.on_the_way.contains(&(*id, *hop)),
                "parked" => letter == Some("PARKED"),
                "dead" => letter == Some("DEAD"),
                "discarded" => letter == Some("DISCARDED"),
                "unread" => {
                    let at_origin = (topic.clone(), *id);
                    self.unread.contains(&at_origin) || self.in_outbox.contains(&at_origin)
                }
                other => anyhow::bail!("{id} is {other}"),
            };
            ensure!(is_there, "{id} of {topic} is {state} (hop {hop}), and isn't there; its dead letter: {letter:?}");
            ensure!(state == "waiting" || !self.waiting.contains(id), "{id} is {state}, and waits, too");
        }
        for id in &self.waiting {
            ensure!(self.inbox.contains_key(id), "{id} waits, and {} doesn't know it", self.group);
        }
        self.are_in_order()
    }

    fn are_in_order(&self) -> anyhow::Result<()> {
        for ((topic, _), ids) in &self.in_order {
            let mut held: Option<Uuid> = None;
            let mut seen = BTreeSet::new();
            // What a relay sent twice has its place where it came first.
            for id in ids.iter().filter(|id| seen.insert(**id)) {
                let Some((state, ..)) = self.inbox.get(id) else { continue };
                let was_dead =
                    matches!(self.letters.get(id).map(String::as_str), Some("DEAD" | "REPLAYED" | "DISCARDED"));
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
