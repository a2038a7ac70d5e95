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

use std::{sync::Arc, time::Duration};

use anyhow::bail;
use common_events::Service;
use futures::{FutureExt, future::BoxFuture};
use service_runtime::{Runtime, Tasks, database::Pool, tasks::blocking};

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
    tasks: Tasks,
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
        let retry = &runtime.settings.retry;
        if retry.ladder() > retry.order_timeout {
            tracing::warn!(
                ladder_s = retry.ladder().as_secs(),
                order_timeout_s = retry.order_timeout.as_secs(),
                "the retry ladder lasts longer than ORDER_TIMEOUT: orders are cancelled while their events climb"
            );
        }
        let group = Group::new(pool, subscriptions, Ladder::from(retry)).with_alarm(Alarm::read(&runtime.env)?);
        Self::start_group(Arc::new(group), &runtime.settings.kafka, &runtime.tasks)
    }

    /// Joins as `group`, in the process of these tasks. Its health learns when the group was joined, and when the
    /// brokers are away.
    ///
    /// # Errors
    /// When the settings make no client.
    pub fn start_group(
        group: Arc<Group>,
        settings: &service_runtime::settings::KafkaSettings,
        tasks: &Tasks,
    ) -> anyhow::Result<Self> {
        figures::describe();
        let names = Names::with_prefix(settings.topic_prefix.clone());
        let service = group.subscriptions().group();
        let tasks = tasks.group();
        let joining = poll::Joining {
            config: kafka::consumer(settings, &names, service),
            topics: topics_of(&group, service, &names),
            names,
            group: Arc::clone(&group),
            health: tasks.health().part("kafka"),
            runtime: tokio::runtime::Handle::current(),
        };
        let member = poll::Member::join(joining, tasks.stopping().clone())?;
        tasks.run("poll", poll_in_thread(member, service, &tasks)?);
        chores::start(&tasks, &group);
        Ok(Self { group, tasks })
    }

    /// What it applies records with.
    pub const fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// Finishes what is at hand, commits offsets, and leaves the group.
    ///
    /// # Errors
    /// When a part of it ended by itself before.
    pub async fn stop(self) -> anyhow::Result<()> {
        if let Ok(stopped) = tokio::time::timeout(STOP_WAIT, self.tasks.stop()).await {
            return Ok(stopped?);
        }
        tracing::warn!("Kafka doesn't answer: leaving without it; the inbox knows what was applied");
        Ok(())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.tasks.tell_to_stop();
    }
}

/// A thread of its own for polling. The loop sees it end, or hang.
fn poll_in_thread(
    member: poll::Member,
    service: Service,
    tasks: &Tasks,
) -> anyhow::Result<BoxFuture<'static, anyhow::Result<()>>> {
    let (ended, has_ended) = tokio::sync::oneshot::channel::<()>();
    let last_poll = member.last_poll();
    let poll = move || {
        // Dropped when the thread ends, also by a panic.
        let _ended = ended;
        member.run();
    };
    let thread = tasks.thread("poll-thread", poll)?;
    let watching = async move {
        tokio::select! {
            _ = has_ended => {}
            () = last_poll.watch(service) => bail!("the poll thread hangs: this process reads no more"),
        }
        let ended = blocking(move || thread.join()).await;
        ended.map_err(|_| anyhow::anyhow!("the poll thread panicked: this process reads no more"))
    };
    Ok(watching.boxed())
}

fn topics_of(group: &Group, service: Service, names: &Names) -> Vec<String> {
    let heard = group.subscriptions().topics().map(|topic| names.topic(topic.name()));
    let raw = group.subscriptions().raw.topics().map(|topic| names.topic(topic));
    heard.chain(raw).chain(OwnTopic::ALL.map(|own| names.topic(&own.name(service)))).collect()
}
