//! The consumer of a group: one thread that polls, one task per partition that applies.
//!
//! The poll thread never waits for a handler, so heartbeats go on whatever handlers do. Each partition
//! has its own worker: order inside it is kept, partitions run in parallel. A partition whose worker is
//! far behind is paused, so that memory stays flat. Offsets are stored after COMMIT and committed in
//! the background; on revoke and on stop the workers finish what they are at, the offsets are
//! committed, and the partitions are handed over.
//!
//! Left out on purpose: `split_partition_queue`, which can stall a partition for good.

mod poll;
mod stats;
mod worker;

use std::{sync::Arc, thread, time::Duration};

use anyhow::Context;
use common_events::Service;
use service_runtime::{Runtime, database::Pool, health};
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::Group,
    kafka, relay,
    subscriptions::Subscriptions,
    topics::{self, Names},
};

/// How often day partitions past the maximum age are looked for.
const FORGET_EVERY: Duration = Duration::from_hours(1);

/// A running consumer group member. Stop it, so that its partitions are handed over at once.
pub struct Consumer {
    stopping: CancellationToken,
    polling: Option<thread::JoinHandle<()>>,
    housekeeping: tokio::task::JoinHandle<()>,
}

impl Consumer {
    /// Joins the group of `subscriptions` and begins to apply what its topics hold.
    ///
    /// # Errors
    /// When the settings make no client. A broker that is away is no error: it is waited for.
    pub fn start(runtime: &Runtime, pool: Pool, subscriptions: Subscriptions) -> anyhow::Result<Self> {
        // The relay knows a database by its name, which need not be the service's.
        if let Some(database) = &runtime.settings.database {
            relay::send_hints(&runtime.env, database.url.config().get_dbname().unwrap_or_default())?;
        }
        let group = Group::new(pool, subscriptions, runtime.settings.retry.immediate);
        Self::start_group(Arc::new(group), &runtime.settings.kafka, runtime.health.part("kafka"))
    }

    /// Joins as `group`; `health` learns when the group was joined, and when the brokers are away.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn start_group(
        group: Arc<Group>,
        settings: &service_runtime::settings::KafkaSettings,
        health: health::Part,
    ) -> anyhow::Result<Self> {
        let names = Names::with_prefix(settings.topic_prefix.clone());
        let service = group.subscriptions().group();
        let stopping = CancellationToken::new();
        let config = kafka::consumer(settings, &names, service);
        let topics = topics_of(&group, service, &names);
        let member = poll::Member::join(&config, &topics, names, Arc::clone(&group), health, stopping.clone())?;
        let polling = thread::Builder::new()
            .name(format!("poll {service}"))
            .spawn(move || member.run())
            .context("the poll thread")?;
        let housekeeping = tokio::spawn(forget_old(group));
        Ok(Self { stopping, polling: Some(polling), housekeeping })
    }

    /// Finishes what is at hand, commits offsets, and leaves the group.
    ///
    /// # Errors
    /// When the poll thread died before.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stopping.cancel();
        self.housekeeping.abort();
        if let Some(polling) = self.polling.take() {
            let joined =
                tokio::task::spawn_blocking(move || polling.join()).await.context("waiting for the poll thread")?;
            joined.map_err(|_| anyhow::anyhow!("the poll thread panicked"))?;
        }
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.housekeeping.abort();
    }
}

fn topics_of(group: &Group, service: Service, names: &Names) -> Vec<String> {
    let heard = group.subscriptions().topics().map(|topic| names.topic(topic.name()));
    heard.chain([names.topic(&topics::replay_topic(service))]).collect()
}

async fn forget_old(group: Arc<Group>) {
    loop {
        match group.forget_old().await {
            Ok(0) => {}
            Ok(dropped) => tracing::info!(dropped, "dropped day partitions past the maximum age"),
            Err(stalled) => tracing::warn!(error = service_runtime::chain(&stalled), "old day partitions stay for now"),
        }
        tokio::time::sleep(FORGET_EVERY).await;
    }
}
