//! The consumer of a group: one thread that polls, one task per partition that applies, and the chores of the
//! retry ladder.
//!
//! The poll thread never waits for a handler, so heartbeats go on whatever handlers do. Each partition
//! has its own worker: order inside it is kept, partitions run in parallel. A partition whose worker is
//! far behind, or whose records are not due yet, is paused, so that memory stays flat. Offsets are stored
//! after COMMIT and committed in the background; on revoke and on stop the workers finish what they are at,
//! the offsets are committed, and the partitions are handed over.
//!
//! Whatever of this ends by itself ends the process: a consumer that only looks alive is worse than none.
//!
//! Left out on purpose: `split_partition_queue`, which can stall a partition for good.

mod backlog;
mod chores;
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
    figures, kafka,
    ladder::{Alarm, Ladder, OwnTopic},
    relay,
    subscriptions::Subscriptions,
    topics::Names,
};

/// How long a stop waits for the poll thread: for workers to finish, and for Kafka to take the last offsets. A
/// broker that is away must not keep the process from ending.
const STOP_WAIT: Duration = Duration::from_secs(12);

/// A running consumer group member. Stop it, so that its partitions are handed over at once.
pub struct Consumer {
    group: Arc<Group>,
    stopping: CancellationToken,
    /// Cancelled when a part of it ended by itself.
    failed: CancellationToken,
    polling: Option<tokio::task::JoinHandle<thread::Result<()>>>,
    chores: tokio::task::JoinHandle<()>,
}

impl Consumer {
    /// Joins the group of `subscriptions` and begins to apply what its topics hold. When it can't go on, the
    /// process is told to stop.
    ///
    /// # Errors
    /// When the settings make no client. A broker that is away is no error: it is waited for.
    pub fn start(runtime: &Runtime, pool: Pool, subscriptions: Subscriptions) -> anyhow::Result<Self> {
        // The relay knows a database by its name, which need not be the service's.
        if let Some(database) = &runtime.settings.database {
            relay::send_hints(&runtime.env, database.url.config().get_dbname().unwrap_or_default())?;
        }
        let retry = &runtime.settings.retry;
        if retry.ladder() > retry.order_timeout {
            tracing::warn!(
                ladder_s = retry.ladder().as_secs(),
                order_timeout_s = retry.order_timeout.as_secs(),
                "the retry ladder lasts longer than ORDER_TIMEOUT: orders are cancelled while their events climb"
            );
        }
        let group = Group::new(pool, subscriptions, Ladder::from(retry)).with_alarm(Alarm::read(&runtime.env)?);
        let consumer = Self::start_group(Arc::new(group), &runtime.settings.kafka, runtime.health.part("kafka"))?;
        let (failed, shutdown) = (consumer.failed.clone(), runtime.shutdown.clone());
        tokio::spawn(async move {
            failed.cancelled().await;
            shutdown.cancel();
        });
        Ok(consumer)
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
        figures::describe();
        let names = Names::with_prefix(settings.topic_prefix.clone());
        let service = group.subscriptions().group();
        let (stopping, failed) = (CancellationToken::new(), CancellationToken::new());
        let joining = poll::Joining {
            config: kafka::consumer(settings, &names, service),
            topics: topics_of(&group, service, &names),
            names,
            group: Arc::clone(&group),
            health,
            runtime: tokio::runtime::Handle::current(),
        };
        let member = poll::Member::join(joining, stopping.clone())?;
        let polling = poll_in_thread(member, service, stopping.clone(), failed.clone())?;
        let chores = tokio::spawn(chores::run(Arc::clone(&group), failed.clone()));
        Ok(Self { group, stopping, failed, polling: Some(polling), chores })
    }

    /// What it applies records with.
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Cancelled once a part of this consumer ended by itself: nothing is applied any more.
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }

    /// Finishes what is at hand, commits offsets, and leaves the group.
    ///
    /// # Errors
    /// When a part of it ended by itself before.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stopping.cancel();
        self.chores.abort();
        if let Some(polling) = self.polling.take() {
            if let Ok(joined) = tokio::time::timeout(STOP_WAIT, polling).await {
                let ended = joined.context("waiting for the poll thread")?;
                ended.map_err(|_| anyhow::anyhow!("the poll thread panicked"))?;
            } else {
                tracing::warn!("Kafka doesn't answer: leaving without it; the inbox knows what was applied");
            }
        }
        anyhow::ensure!(!self.failed.is_cancelled(), "the consumer ended by itself");
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.chores.abort();
    }
}

/// A thread of its own for polling, and a task that sees it end.
fn poll_in_thread(
    member: poll::Member,
    service: Service,
    stopping: CancellationToken,
    failed: CancellationToken,
) -> anyhow::Result<tokio::task::JoinHandle<thread::Result<()>>> {
    let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
    let last_poll = member.last_poll();
    let thread = thread::Builder::new()
        .name(format!("poll {service}"))
        .spawn(move || {
            // Dropped when the thread ends, also by a panic.
            let _ended = ended;
            member.run();
        })
        .context("the poll thread")?;
    Ok(tokio::spawn(async move {
        let watching = last_poll.watch(service);
        tokio::select! {
            _ = has_ended => {}
            () = watching => {}
        }
        if !stopping.is_cancelled() {
            tracing::error!(group = service.name(), "the poll thread ended or hangs: this process reads no more");
            failed.cancel();
        }
        tokio::task::spawn_blocking(move || thread.join()).await.unwrap_or(Ok(()))
    }))
}

fn topics_of(group: &Group, service: Service, names: &Names) -> Vec<String> {
    let heard = group.subscriptions().topics().map(|topic| names.topic(topic.name()));
    let raw = group.subscriptions().raw.topics().map(|topic| names.topic(topic));
    heard.chain(raw).chain(OwnTopic::ALL.map(|own| names.topic(&own.name(service)))).collect()
}
