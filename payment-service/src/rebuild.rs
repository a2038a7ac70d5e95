//! Balances rebuilt from the points topics, and held against the ledger and its accounts.
//!
//! The ledger is the truth, and nothing here changes it: topics that disagree are for somebody to look
//! into. What can be repaired is the projection, and only where ledger and topics agree.
//!
//! Runs beside the service. Entries that are made meanwhile are left out, and those that are committed
//! but not relayed yet are waited for, for a while.

use std::{collections::BTreeMap, fmt, time::Duration};

use anyhow::Context;
use chrono::{DateTime, Utc};
use common_events::{
    EventData, Topic, UserId,
    envelope::{self, DecodeError},
    events::{PointCharged, PointDeducted, PointRefunded},
};
use messaging::Tx;
use service_runtime::{Pool, settings::KafkaSettings, tasks::blocking};

use crate::{
    domain::{Balances, Entry, UserBalance},
    store::{self, Drift, LedgerBalance},
    topics_reader::TopicsReader,
};

/// The ledger's entries, once more.
const TOPICS: [Topic; 3] = [PointCharged::TOPIC, PointDeducted::TOPIC, PointRefunded::TOPIC];
/// How often the ends of the topics are read again when entries are missing there.
const ROUNDS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);
/// How many users a report names.
const NAMED: usize = 20;

/// What is done about accounts that aren't what the ledger adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounts {
    /// They are reported.
    Leave,
    /// They are made so, where ledger and topics agree.
    Repair,
}

/// A user of whom ledger and topics say different things.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Whose points.
    pub user_id: UserId,
    /// What the topics add up to; `None` when they know nothing of him.
    pub topics: Option<UserBalance>,
    /// What the ledger adds up to; `None` when it knows nothing of him.
    pub ledger: Option<LedgerBalance>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Different entries on the topics.
    pub entries: usize,
    /// Entries that were there again.
    pub duplicates: u64,
    /// Records that are no such event.
    pub unreadable: u64,
    /// Users the topics know.
    pub users: usize,
    /// Where ledger and topics differ.
    pub differences: Vec<Difference>,
    /// Where accounts and ledger differ.
    pub drifts: Vec<Drift>,
    /// Whether those accounts were repaired.
    pub repaired: Repaired,
}

/// What became of accounts that differed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repaired {
    /// They are as they were.
    No,
    /// They are what the ledger adds up to.
    Yes,
}

impl Report {
    /// Whether topics, ledger and accounts say the same, now.
    pub fn all_agree(&self) -> bool {
        self.differences.is_empty() && (self.drifts.is_empty() || self.repaired == Repaired::Yes)
    }
}

/// Reads the topics, compares, and repairs what is asked for.
pub async fn balances(pool: &Pool, kafka: &KafkaSettings, accounts: Accounts) -> anyhow::Result<Report> {
    let mut client = pool.get().await.context("connecting to the database")?;
    let since: DateTime<Utc> = client.query_one("SELECT clock_timestamp()", &[]).await?.get(0);
    let mut reading = Reading::open(kafka.clone()).await?;
    let mut differences = Vec::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE).await;
        }
        reading = reading.go_on().await?;
        let tx = Tx::begin(&mut client).await?;
        let ledger = store::list_ledger_balances(&tx, &reading.balances, since).await.context("the ledger")?;
        tx.rollback().await?;
        differences = compare(&reading.balances, &ledger);
        if differences.is_empty() {
            break;
        }
    }
    let tx = Tx::begin(&mut client).await?;
    let drifts = store::list_drifts(&tx).await.context("the accounts")?;
    tx.rollback().await?;
    let repair = accounts == Accounts::Repair && differences.is_empty() && !drifts.is_empty();
    if repair {
        let tx = Tx::begin(&mut client).await?;
        store::update_drifted_accounts(&tx, &drifts).await.context("repairing the accounts")?;
        tx.commit().await?;
    }
    Ok(Report {
        entries: reading.balances.entries(),
        duplicates: reading.balances.duplicates(),
        unreadable: reading.unreadable,
        users: reading.balances.users().len(),
        differences,
        drifts,
        repaired: if repair { Repaired::Yes } else { Repaired::No },
    })
}

/// The users of whom the two say different things.
fn compare(topics: &Balances, ledger: &BTreeMap<UserId, LedgerBalance>) -> Vec<Difference> {
    let same = |topics: &UserBalance, ledger: &LedgerBalance| {
        (topics.balance, topics.entries) == (ledger.balance, ledger.entries)
    };
    let of_topics = topics.users().iter().filter_map(|(user_id, folded)| {
        let ledger = ledger.get(user_id).copied();
        let differs = !ledger.is_some_and(|ledger| same(folded, &ledger));
        differs.then(|| Difference { user_id: user_id.clone(), topics: Some(*folded), ledger })
    });
    let only_ledger = ledger.iter().filter(|(user_id, _)| !topics.users().contains_key(*user_id));
    let of_ledger = only_ledger.map(|(user_id, ledger)| Difference {
        user_id: user_id.clone(),
        topics: None,
        ledger: Some(*ledger),
    });
    of_topics.chain(of_ledger).collect()
}

/// The topics as far as they were read, and what that adds up to.
struct Reading {
    reader: TopicsReader,
    balances: Balances,
    unreadable: u64,
}

impl Reading {
    async fn open(kafka: KafkaSettings) -> anyhow::Result<Self> {
        let reader = blocking(move || TopicsReader::open(&kafka, &TOPICS)).await?;
        Ok(Self { reader, balances: Balances::default(), unreadable: 0 })
    }

    async fn go_on(mut self) -> anyhow::Result<Self> {
        blocking(move || {
            let (balances, unreadable) = (&mut self.balances, &mut self.unreadable);
            self.reader.read_to_end(|topic, value| match entry(topic, value) {
                Ok(entry) => balances.add(&entry),
                Err(error) => {
                    *unreadable += 1;
                    tracing::warn!(topic, error = service_runtime::chain(&error), "a record is no entry of the ledger");
                }
            })?;
            Ok(self)
        })
        .await
    }
}

fn entry(topic: &str, value: &[u8]) -> Result<Entry, DecodeError> {
    fn read<T: EventData + Into<Entry>>(value: &[u8]) -> Result<Entry, DecodeError> {
        envelope::decode::<T>(value).map(|event| event.data.into())
    }
    if topic == PointCharged::TOPIC.name() {
        read::<PointCharged>(value)
    } else if topic == PointDeducted::TOPIC.name() {
        read::<PointDeducted>(value)
    } else {
        read::<PointRefunded>(value)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { entries, duplicates, unreadable, users, .. } = self;
        writeln!(
            f,
            "topics    {entries} entries of {users} users; {duplicates} came again, {unreadable} can't be read"
        )?;
        match self.differences.len() {
            0 => writeln!(f, "ledger    agrees with the topics")?,
            differ => writeln!(f, "ledger    differs from the topics for {differ} users")?,
        }
        for Difference { user_id, topics, ledger } in self.differences.iter().take(NAMED) {
            let topics = topics.map_or((0, 0), |topics| (topics.entries, topics.balance));
            let ledger = ledger.map_or((0, 0), |ledger| (ledger.entries, ledger.balance));
            writeln!(
                f,
                "          {user_id}: topics {} entries, {} won; ledger {} entries, {} won",
                topics.0, topics.1, ledger.0, ledger.1
            )?;
        }
        match (self.drifts.len(), self.repaired) {
            (0, _) => write!(f, "accounts  agree with the ledger")?,
            (differ, Repaired::No) => write!(f, "accounts  {differ} differ from the ledger")?,
            (differ, Repaired::Yes) => write!(f, "accounts  {differ} differed from the ledger, and are repaired")?,
        }
        for Drift { user_id, account, ledger } in self.drifts.iter().take(NAMED) {
            let account = account.map_or_else(|| "none".to_owned(), |balance| format!("{balance} won"));
            write!(f, "\n          {user_id}: account {account}; ledger {ledger} won")?;
        }
        Ok(())
    }
}
