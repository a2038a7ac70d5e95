//! The museum: bugs that other projects had or warn of, kept to see which test finds them. In a build of its own (`cfg(museum)`,
//! `make museum`) one of them is put back by the name in `MUSEUM`; in any other build nothing of them is left.
//!
//! `tests/museum/bugs` has a line for each: whose bug it was, and which tests look for it.

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $bug:ident = $name:literal,)+) => {
        /// A bug that can be put back.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $doc])+ $bug,)+
        }

        #[cfg(museum)]
        impl Bug {
            fn of(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$bug),)+
                    _ => None,
                }
            }
        }
    };
}

bugs! {
    /// Two answers about one order are joined without a lock: the later one overwrites the earlier.
    JoinLosesUpdate = "join-loses-update",
    /// The outbox is read behind the highest id that was seen: a transaction that commits late is passed over.
    OutboxByCursor = "outbox-by-cursor",
    /// Rows leave the outbox when they are sent, not when they are acknowledged.
    DeletedBeforeAck = "deleted-before-ack",
    /// A relay goes on sending when its lease has run out.
    LeaseWithoutEnd = "lease-without-end",
    /// Two workers take records of one partition.
    TwoWorkers = "two-workers",
    /// The offset is stored before the transaction has committed.
    OffsetBeforeCommit = "offset-before-commit",
    /// The end of a partition is last record + 1: what a transaction leaves behind is never passed.
    EndIsLastRecord = "end-is-last-record",
    /// Ids are noted in a transaction of their own: what fails afterwards is known, and never done.
    InboxApart = "inbox-apart",
    /// Ids are forgotten before the dead letters are whose events they are.
    InboxForgetsFirst = "inbox-forgets-first",
    /// One record that can't be handled takes its whole batch along.
    BatchPoisoned = "batch-poisoned",
    /// The inbox moves in one transaction, the record in the next.
    HopInTwo = "hop-in-two",
    /// A record on the ladder is handled whatever hop it says.
    StaleHop = "stale-hop",
    /// What follows a failed event of its key doesn't wait.
    FollowerOvertakes = "follower-overtakes",
    /// What is too large for a retry topic is sent there all the same.
    TooLargeForItsTopic = "too-large-for-its-topic",
    /// A replay to the origin is a new event: every group handles it.
    ReplayReachesAll = "replay-reaches-all",
    /// The stock of an order goes back when a step failed, and not when the order timed out.
    UndoOnlyAfterFailure = "undo-only-after-failure",
    /// A cancel that comes before its order's lines leaves nothing behind.
    NoTombstone = "no-tombstone",
    /// Each cancel of a paid order refunds it: only the ledger's key stands in the way.
    RefundTwice = "refund-twice",
    /// A call that was refused keeps its idempotency key.
    RefusalKeepsKey = "refusal-keeps-key",
    /// An idempotency key is everybody's.
    KeyOfEverybody = "key-of-everybody",
    /// The gate counts in one command, and adds in the next.
    CountThenAdd = "count-then-add",
    /// A gate that was lost opens as if nobody had been in.
    GateOpensEmpty = "gate-opens-empty",
    /// What Redis comes back with after a restart is believed.
    StaleRedisBelieved = "stale-redis-believed",
    /// An admission whose request never went out keeps its slot for good.
    SlotLeaks = "slot-leaks",
    /// Whom the issuer turns away isn't told.
    RejectionUntold = "rejection-untold",
    /// A saga is stuck when it is old, not when it stands still.
    StuckSinceItsStart = "stuck-since-its-start",
    /// The monitor judges what it hasn't read yet.
    AlarmAfterOwnAbsence = "alarm-after-own-absence",
    /// What was refunded stays in the ranking.
    RankingKeepsRefunded = "ranking-keeps-refunded",
}

/// Whether this bug is put back. Never, but in the museum's build.
///
/// # Panics
/// In that build, when `MUSEUM` names no bug.
#[cfg(museum)]
pub fn is_back(bug: Bug) -> bool {
    static PUT_BACK: std::sync::LazyLock<Option<Bug>> = std::sync::LazyLock::new(|| {
        let name = std::env::var("MUSEUM").ok().filter(|name| !name.is_empty())?;
        Some(Bug::of(&name).unwrap_or_else(|| panic!("the museum has no bug called {name:?}")))
    });
    *PUT_BACK == Some(bug)
}

/// Whether this bug is put back: it isn't.
#[cfg(not(museum))]
#[inline]
pub const fn is_back(_: Bug) -> bool {
    false
}
