//! The alarm: whoever is on duty hears of dead letters, at a Slack-compatible webhook.
//!
//! A dead letter is written with the mark that its alarm is due; a member claims due marks, tells of all of
//! them in one message, and takes the marks away. So no alarm is lost in a crash, though one may be told
//! twice. Nothing waits for the webhook.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use common_events::Service;
use metrics::counter;
use service_runtime::{Env, database::Pool, settings::Url};
use tokio::sync::Notify;
use tracing::error;
use uuid::Uuid;

use crate::delivery::{Group, Stalled};

/// Dead letters of one message; more of them are the next.
const MAX_LETTERS: i64 = 1_000;
/// Kinds that a message names; more are counted.
const MAX_KINDS: usize = 10;
/// How often an alarm is tried: with the pauses between, for about an hour.
const MAX_ATTEMPTS: i32 = 12;
/// How long the webhook may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The second attempt comes after this, each further one after twice as long, up to ten minutes. Longer than
/// [`ANSWER_TIMEOUT`], so that nobody else tries in the meantime.
const FIRST_PAUSE_SECONDS: f64 = 10.0;
const LONGEST_PAUSE_SECONDS: f64 = 600.0;

/// Where dead letters are told.
pub struct Alarm {
    webhook: Option<Webhook>,
    due: Arc<Notify>,
}

struct Webhook {
    url: Url,
    client: reqwest::Client,
    /// The last time.
    has_refused: AtomicBool,
}

/// Dead letters of one kind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    topic: String,
    class: String,
}

impl Alarm {
    /// Nobody is told.
    pub(crate) fn silent() -> Self {
        Self { webhook: None, due: Arc::default() }
    }

    /// `ALARM_WEBHOOK_URL`; not set: dead letters are only logged and counted.
    ///
    /// # Errors
    /// When it is no URL, or there is no client for it.
    pub fn read(env: &Env) -> anyhow::Result<Self> {
        let Some(url) = env.optional::<Url>("ALARM_WEBHOOK_URL")? else { return Ok(Self::silent()) };
        Self::to(url)
    }

    /// Tells them there.
    ///
    /// # Errors
    /// When there is no client for it.
    pub fn to(url: Url) -> anyhow::Result<Self> {
        let client = service_runtime::http::client(&url, ANSWER_TIMEOUT)?;
        Ok(Self { webhook: Some(Webhook { url, client, has_refused: AtomicBool::new(false) }), due: Arc::default() })
    }

    pub(crate) const fn is_heard(&self) -> bool {
        self.webhook.is_some()
    }

    /// There may be something to tell.
    pub(crate) fn wake(&self) {
        self.due.notify_one();
    }

    /// Told when there may be.
    pub(crate) fn due(&self) -> Arc<Notify> {
        Arc::clone(&self.due)
    }
}

impl Webhook {
    async fn tell(&self, text: &str) -> anyhow::Result<()> {
        let request = self.client.post(self.url.clone()).json(&serde_json::json!({ "text": text }));
        let answer = request.send().await.context("calling the webhook")?;
        answer.error_for_status().context("the webhook refused")?;
        Ok(())
    }
}

impl Group {
    /// Tells of dead letters whose alarm is due, as many as one message holds. Returns how many. A running consumer
    /// does it by itself.
    ///
    /// # Errors
    /// When the database is away, or the webhook refuses, and from then on for as long as alarms wait to be told
    /// again. They lie in the database.
    pub async fn tell_alarms(&self) -> anyhow::Result<usize> {
        let Some(webhook) = &self.alarm.webhook else { return Ok(0) };
        let claimed = claim(&self.pool).await?;
        let Some(most_attempts) = claimed.iter().map(|due| due.attempts).max() else {
            return self.await_webhook(webhook).await.map(|()| 0);
        };
        let ids: Vec<Uuid> = claimed.iter().map(|due| due.id).collect();
        match webhook.tell(&message(self.subscriptions.group(), &claimed)).await {
            Ok(()) => {
                counter!("alarms_sent_total").increment(1);
                webhook.has_refused.store(false, Ordering::Relaxed);
                done(&self.pool, &ids).await?;
                Ok(ids.len())
            }
            Err(failure) => {
                counter!("alarms_failed_total").increment(1);
                webhook.has_refused.store(true, Ordering::Relaxed);
                if most_attempts >= MAX_ATTEMPTS {
                    let given_up = give_up(&self.pool).await?;
                    error!(dead_letters = given_up, "alarms are given up: the webhook doesn't answer");
                }
                Err(failure.context(format!("an alarm of {} dead letters was not delivered", ids.len())))
            }
        }
    }

    /// Nothing is due, which says nothing of a webhook that refused: alarms may wait to be told again.
    async fn await_webhook(&self, webhook: &Webhook) -> anyhow::Result<()> {
        if !webhook.has_refused.load(Ordering::Relaxed) {
            return Ok(());
        }
        anyhow::ensure!(!are_waiting(&self.pool).await?, "the webhook refused, and alarms wait to be told again");
        webhook.has_refused.store(false, Ordering::Relaxed);
        Ok(())
    }
}

struct Due {
    id: Uuid,
    kind: Kind,
    attempts: i32,
}

/// Takes due alarms for as long as one attempt lasts; then they are due again.
async fn claim(pool: &Pool) -> Result<Vec<Due>, Stalled> {
    let client = pool.get().await?;
    let statement = client
        .prepare_cached(
            "UPDATE dead_letters
             SET alarm_attempts = alarm_attempts + 1,
                 alarm_due_at = clock_timestamp()
                     + least($2 * power(2, least(alarm_attempts, 20)), $3) * interval '1 second'
             WHERE id IN (SELECT id FROM dead_letters WHERE alarm_due_at <= clock_timestamp()
                          ORDER BY alarm_due_at LIMIT $1 FOR UPDATE SKIP LOCKED)
             RETURNING id, origin_topic, error_class, alarm_attempts",
        )
        .await?;
    let rows = client.query(&statement, &[&MAX_LETTERS, &FIRST_PAUSE_SECONDS, &LONGEST_PAUSE_SECONDS]).await?;
    let read = |row: &tokio_postgres::Row| Due {
        id: row.get(0),
        kind: Kind { topic: row.get(1), class: row.get(2) },
        attempts: row.get(3),
    };
    Ok(rows.iter().map(read).collect())
}

async fn done(pool: &Pool, ids: &[Uuid]) -> Result<(), Stalled> {
    let client = pool.get().await?;
    let statement = client.prepare_cached("UPDATE dead_letters SET alarm_due_at = NULL WHERE id = ANY($1)").await?;
    client.execute(&statement, &[&ids]).await?;
    Ok(())
}

async fn are_waiting(pool: &Pool) -> Result<bool, Stalled> {
    let client = pool.get().await?;
    let sql = "SELECT EXISTS (SELECT FROM dead_letters WHERE alarm_due_at IS NOT NULL)";
    let statement = client.prepare_cached(sql).await?;
    Ok(client.query_one(&statement, &[]).await?.get(0))
}

async fn give_up(pool: &Pool) -> Result<u64, Stalled> {
    let client = pool.get().await?;
    let sql = "UPDATE dead_letters SET alarm_due_at = NULL WHERE alarm_due_at IS NOT NULL AND alarm_attempts >= $1";
    let statement = client.prepare_cached(sql).await?;
    Ok(client.execute(&statement, &[&MAX_ATTEMPTS]).await?)
}

/// `order-service: 3 dead letters: 2 × payment-completed (platform-unavailable), 1 × order-created (panic)`.
fn message(group: Service, claimed: &[Due]) -> String {
    let mut kinds: BTreeMap<&Kind, usize> = BTreeMap::new();
    for due in claimed {
        *kinds.entry(&due.kind).or_default() += 1;
    }
    let letters =
        if claimed.len() == 1 { "1 dead letter".to_owned() } else { format!("{} dead letters", claimed.len()) };
    let named =
        kinds.iter().take(MAX_KINDS).map(|(Kind { topic, class }, count)| format!("{count} × {topic} ({class})"));
    let mut text = format!("{group}: {letters}: {}", named.collect::<Vec<_>>().join(", "));
    if kinds.len() > MAX_KINDS {
        let _ = write!(text, " and {} other kinds", kinds.len() - MAX_KINDS);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_counts_by_kind_and_has_an_end() {
        let due = |class: &str| Due {
            id: Uuid::now_v7(),
            kind: Kind { topic: "order-created".to_owned(), class: class.to_owned() },
            attempts: 1,
        };
        let two = [due("panic"), due("panic"), due("database")];
        assert_eq!(
            message(Service::Order, &two),
            "order-service: 3 dead letters: 1 × order-created (database), 2 × order-created (panic)"
        );
        let many: Vec<Due> = (0..100).map(|n| due(&n.to_string())).collect();
        assert!(message(Service::Order, &many).ends_with(" and 90 other kinds"));
    }
}
