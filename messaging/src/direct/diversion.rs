//! Writing what Kafka didn't take, in the order in which it was published.

use std::{sync::Arc, time::Duration};

use common_events::Topic;
use service_runtime::{chain, database::Pool, tasks::blocking};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    reports::{Diverted, Letter, Sent},
    road::Road,
    second_cluster::SecondCluster,
    store,
};

/// How many letters one statement writes.
const MAX_BATCH: usize = 1_000;
/// The pause before a failed write is tried again.
const AFTER_FAILURE: Duration = Duration::from_millis(200);

/// Keeps what is diverted: on the second cluster, else in the table.
pub(super) struct Diversion {
    pub(super) topic: Topic,
    pub(super) pool: Pool,
    pub(super) road: Arc<Road>,
    pub(super) second: Option<Arc<SecondCluster>>,
    /// How long the database may take for a batch.
    pub(super) at_most: Duration,
}

impl Diversion {
    /// Until told to stop, and then what is left.
    pub(super) async fn run(
        self,
        mut diverted: mpsc::Receiver<Diverted>,
        stopping: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut waiting = Vec::new();
        loop {
            tokio::select! {
                biased;
                received = diverted.recv_many(&mut waiting, MAX_BATCH) => {
                    if received == 0 {
                        return Ok(());
                    }
                }
                () = stopping.cancelled() => {
                    diverted.close();
                    continue;
                }
                // What comes back from there is diverted.
                () = self.road.brokers_lost() => {}
            }
            self.keep_all(&mut diverted, std::mem::take(&mut waiting)).await;
        }
    }

    async fn keep_all(&self, diverted: &mut mpsc::Receiver<Diverted>, mut waiting: Vec<Diverted>) {
        if !self.road.is_closed() {
            let road = Arc::clone(&self.road);
            blocking(move || road.close()).await;
        }
        // With the road closed all that was on its way has come back: now the order is known.
        while let Ok(more) = diverted.try_recv() {
            waiting.push(more);
        }
        waiting.sort_by_key(|letter| letter.number);
        while !waiting.is_empty() {
            let rest = waiting.split_off(waiting.len().min(MAX_BATCH));
            self.keep(std::mem::replace(&mut waiting, rest)).await;
        }
    }

    async fn keep(&self, batch: Vec<Diverted>) {
        let mut refused = match &self.second {
            Some(second) => second.send(self.topic, batch).await,
            None => batch.into_iter().map(|letter| (letter, Sent::Never)).collect(),
        };
        let mut written = Sent::Never;
        let until = Instant::now() + self.at_most;
        while !refused.is_empty() {
            let letters: Vec<(&Letter, &str)> =
                refused.iter().map(|(diverted, _)| (&diverted.letter, &*diverted.error)).collect();
            let why = match self.write(until, &letters, &mut written).await {
                Ok(()) => {
                    refused.drain(..).for_each(|(letter, _)| letter.kept());
                    return;
                }
                Err(why) => why,
            };
            if Instant::now() + AFTER_FAILURE >= until {
                warn!(topic = %self.topic, letters = refused.len(), error = why, "neither Kafka nor the dead letters");
                for (letter, sent) in refused.drain(..) {
                    let perhaps = if sent == Sent::Perhaps { sent } else { written };
                    letter.not_kept(&why, perhaps);
                }
                return;
            }
            sleep(AFTER_FAILURE).await;
        }
    }

    /// `written` becomes [`Sent::Perhaps`] when the database may have taken the letters without saying so.
    async fn write(&self, until: Instant, letters: &[(&Letter, &str)], written: &mut Sent) -> Result<(), String> {
        let client = match timeout_at(until, self.pool.get()).await {
            Ok(Ok(client)) => client,
            Ok(Err(error)) => return Err(chain(&error)),
            Err(_) => return Err("the database gave no connection in time".to_owned()),
        };
        match timeout_at(until, store::insert(&client, self.topic, letters)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => {
                // What the server refuses isn't written; without its word, it may be.
                if error.code().is_none() {
                    *written = Sent::Perhaps;
                }
                Err(chain(&error))
            }
            Err(_) => {
                *written = Sent::Perhaps;
                Err("the database didn't answer in time".to_owned())
            }
        }
    }
}
