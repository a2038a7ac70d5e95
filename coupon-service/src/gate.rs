//! The gate: Redis decides at once who is admitted, one atomic script per question.
//!
//! What Redis knows of a coupon lies under keys with one hash tag, so that a script finds all of it on one
//! node of a cluster:
//!
//! | key | holds |
//! |---|---|
//! | `…:state` | run id, epoch, mode, quantity, opening and closing time, the last rank given, how many slots came back |
//! | `…:holders` | every user with a slot: admitted, or issued |
//! | `…:tokens` | per user the token of his admission, until it is settled |
//! | `…:pending` | users whose request nobody confirmed yet, by the time of their admission |
//! | `…:freed` | ranks that came back |
//!
//! **A missing state, or one of another run of Redis, means that the gate is lost**: closed until it is
//! rebuilt from PostgreSQL, never "nobody yet". A Redis that was started again has another run id, whatever
//! data it woke up with; and a connection never outlives the run whose id was read on it.
//!
//! Left out on purpose: what to do about any of it (`admission`), and what a coupon is worth.

mod asking;
mod link;
mod lua;
mod token;

use std::time::Duration;

use chrono::{DateTime, Utc};
use common_events::{CouponId, EventId, TraceParent, UserId};
use futures::FutureExt;
use service_runtime::{
    Tasks,
    settings::{ExposeSecret, SecretString},
    tasks::Rounds,
};
use tokio::sync::mpsc;

use crate::domain::{Coupon, Mode, Outcome, Settled};
use asking::Asked;
use link::Link;
use lua::Keys;
pub use token::Token;

/// How many may wait for the gate in this process; one more is told so at once.
const MAX_WAITING: usize = 10_000;
/// The most users that one script takes: at a few microseconds each, others don't wait long for it.
const MAX_BATCH: usize = 128;
/// After no question was answered the next ones wait so long, at first and at most: those who ask are told at once
/// all the same.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);
/// How many holders or ranks one command stages.
const STAGED_AT_ONCE: usize = 2_000;
/// Opening times before the first and after the last moment, in microseconds, as numbers that Lua holds exactly.
const ALWAYS: i64 = 0;
const NEVER: i64 = (1 << 53) - 1;

/// The gate of all coupons. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Gate {
    link: Link,
    prefix: std::sync::Arc<str>,
    asks: mpsc::Sender<Asked>,
}

/// Somebody who asks to be admitted.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Request {
    pub coupon_id: CouponId,
    pub user_id: UserId,
    /// The id that his `coupon-issue-requested` will have.
    pub request_id: EventId,
    /// The span of its publication.
    pub trace: TraceParent,
}

/// What the gate decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// He is in.
    Admitted(Token),
    /// He has a slot already.
    AskedBefore,
    /// Nothing is left.
    SoldOut,
    /// The sale hasn't begun.
    NotOpenYet,
    /// The sale is over.
    Closed,
    /// The gate knows nothing of this coupon: it was lost, or there is no such coupon.
    Lost,
}

/// What the gate knows of one user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// He has a slot by this admission, which isn't settled.
    Admitted(Token),
    /// He has a slot, and it is settled.
    Settled,
    /// He has none.
    None,
    /// The gate is lost.
    Lost,
}

/// How the gate of one coupon stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Standing {
    pub epoch: i64,
    pub quantity: i64,
    /// `None`: without end.
    pub closes_at: Option<DateTime<Utc>>,
    /// How many slots ever came back in this epoch.
    pub released: i64,
    /// Ranked mode only: the highest rank that was given.
    pub last_rank: i64,
    /// Users with a slot: admitted or issued.
    pub holders: i64,
    /// Ranks that wait to be given again.
    pub freed_ranks: i64,
    /// Admissions that aren't settled.
    pub unsettled: i64,
    /// Of these, those whose request nobody confirmed.
    pub pending: i64,
}

impl Standing {
    /// Whether nobody is admitted until a slot comes back.
    pub const fn is_sold_out(&self) -> bool {
        self.holders >= self.quantity || (self.last_rank >= self.quantity && self.freed_ranks == 0)
    }
}

/// Everything about a coupon that the gate is opened with.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "a field whose name says it all has no second sentence")]
pub struct Opening<'c> {
    pub coupon: &'c Coupon,
    pub epoch: i64,
    /// Who holds one, each with his rank in ranked mode.
    pub holders: &'c [(UserId, Option<i64>)],
}

/// What opening did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opened {
    /// It is open now.
    Now,
    /// It was open, in this epoch or a later one.
    Before,
}

/// Redis gave no answer. What was asked may have been done.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It is away, or refused.
    #[error("Redis doesn't answer")]
    Redis(#[from] redis::RedisError),
    /// The question that was asked together with others' failed.
    #[error("{0}")]
    Together(String),
    /// It said something that these scripts don't say.
    #[error("Redis answered {0}")]
    Nonsense(String),
    /// Too many wait already, or the gate is stopping.
    #[error("the gate is too busy")]
    Busy,
}

impl Gate {
    /// A gate on this Redis, whose keys begin with `prefix`. It is reached when it is asked.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn at(redis: &SecretString, prefix: &str, tasks: &Tasks) -> anyhow::Result<Self> {
        let link = Link::to(redis.expose_secret())?;
        let (asks, asked) = mpsc::channel(MAX_WAITING);
        let prefix: std::sync::Arc<str> = prefix.into();
        let desk = asking::Desk::new(asked, link.clone(), std::sync::Arc::clone(&prefix));
        // Requests under way ask until they are answered.
        let rounds = Rounds::on_demand("gate").backing_off(FIRST_PAUSE, LONGEST_PAUSE);
        tasks.group().repeat_on_demand(rounds, desk, |desk| desk.wait().boxed(), |desk| desk.answer_some().boxed());
        Ok(Self { link, prefix, asks })
    }

    /// Whether Redis answers.
    pub async fn answers(&self) -> bool {
        self.link.ping().await
    }

    /// Asks for admission. Who asks at the same moment shares a script, and is decided in turn.
    ///
    /// # Errors
    /// Without an answer he may be in: then his token is pending.
    pub async fn admit(&self, request: Request) -> Result<Verdict, Unanswered> {
        let (asked, answer) = Asked::new(request);
        self.asks.try_send(asked).map_err(|_| Unanswered::Busy)?;
        answer.await.map_err(|_| Unanswered::Busy)?
    }

    /// Notes that these requests, all of one coupon, are kept.
    pub async fn confirm(&self, coupon_id: &CouponId, tokens: &[Token]) -> Result<(), Unanswered> {
        let keys = self.keys(coupon_id);
        for some in tokens.chunks(MAX_BATCH) {
            let mut call = lua::CONFIRM.call(&[&keys.tokens(), &keys.pending()]);
            for token in some {
                call.arg(token.user_id.as_str()).arg(token.request_id.to_string());
            }
            self.link.run(&lua::CONFIRM, &call).await?;
        }
        Ok(())
    }

    /// Undoes an admission whose request was certainly never sent, as long as its token is there.
    pub async fn undo(&self, token: &Token) -> Result<(), Unanswered> {
        let undone = Settled {
            request_id: token.request_id,
            coupon_id: token.coupon_id.clone(),
            user_id: token.user_id.clone(),
            rank: token.rank,
            epoch: token.epoch,
            // Nobody is told a reason: he was told that it could not be decided.
            outcome: Outcome::Rejected(common_events::ClaimRefusal::Discarded),
        };
        self.settle(&token.coupon_id, &[undone]).await.map(drop)
    }

    /// Closes the books on admissions of one coupon: each does something only while its token is there, and
    /// so only once. Returns how many slots were freed.
    pub async fn settle(&self, coupon_id: &CouponId, settled: &[Settled]) -> Result<i64, Unanswered> {
        let keys = self.keys(coupon_id);
        let mut freed = 0;
        for some in settled.chunks(MAX_BATCH) {
            let mut call = lua::SETTLE.call(&keys.all().each_ref().map(String::as_str));
            for one in some {
                let (outcome, held) = match one.outcome {
                    Outcome::Issued => ("issued", None),
                    Outcome::AlreadyHeld { rank } => ("held", rank),
                    Outcome::Rejected(_) => ("free", None),
                    Outcome::RankTaken => ("burnt", None),
                };
                let held = held.map(|rank| rank.to_string()).unwrap_or_default();
                call.arg(one.user_id.as_str()).arg(one.request_id.to_string()).arg(outcome).arg(held);
            }
            freed += lua::number(&self.link.run(&lua::SETTLE, &call).await?)?;
        }
        Ok(freed)
    }

    /// What is known of one user.
    pub async fn claim(&self, coupon_id: &CouponId, user_id: &UserId) -> Result<Claim, Unanswered> {
        let keys = self.keys(coupon_id);
        let live = self.link.live().await?;
        let mut call = lua::CLAIM.call(&[&keys.state(), &keys.holders(), &keys.tokens()]);
        call.arg(live.run_id()).arg(user_id.as_str());
        let answer = lua::list(live.run(&lua::CLAIM, &call).await?)?;
        let [is_in, token] = &answer[..] else { return Ok(Claim::Lost) };
        if lua::number(is_in)? == 0 {
            return Ok(Claim::None);
        }
        let token = lua::text(token)?;
        Ok(match Token::parse(coupon_id, user_id, token) {
            Some(token) => Claim::Admitted(token),
            None if token.is_empty() => Claim::Settled,
            None => return Err(Unanswered::Nonsense(format!("the token {token:?}"))),
        })
    }

    /// How the gate stands; `None` when it is lost.
    pub async fn standing(&self, coupon_id: &CouponId) -> Result<Option<Standing>, Unanswered> {
        let keys = self.keys(coupon_id);
        let live = self.link.live().await?;
        let mut call = lua::STANDING.call(&keys.all().each_ref().map(String::as_str));
        call.arg(live.run_id());
        let numbers = lua::list(live.run(&lua::STANDING, &call).await?)?;
        let numbers: Vec<i64> = numbers.iter().map(lua::number).collect::<Result<_, _>>()?;
        let [epoch, quantity, closes_at, released, last_rank, holders, freed_ranks, unsettled, pending] = numbers[..]
        else {
            return Ok(None);
        };
        let closes_at = if closes_at == NEVER { None } else { DateTime::from_timestamp_micros(closes_at) };
        Ok(Some(Standing { epoch, quantity, closes_at, released, last_rank, holders, freed_ranks, unsettled, pending }))
    }

    /// Admissions whose request nobody confirmed for so long, by Redis's clock; the oldest first.
    pub async fn list_overdue(
        &self,
        coupon_id: &CouponId,
        age: Duration,
        at_most: usize,
    ) -> Result<Vec<Token>, Unanswered> {
        let keys = self.keys(coupon_id);
        let live = self.link.live().await?;
        let mut call = lua::OVERDUE.call(&[&keys.state(), &keys.tokens(), &keys.pending()]);
        call.arg(live.run_id()).arg(u64::try_from(age.as_micros()).unwrap_or(u64::MAX)).arg(at_most);
        tokens(coupon_id, &lua::list(live.run(&lua::OVERDUE, &call).await?)?)
    }

    /// Some of the admissions that aren't settled, and where the next call goes on; 0 begins, and ends.
    pub async fn list_unsettled(&self, coupon_id: &CouponId, cursor: u64) -> Result<(u64, Vec<Token>), Unanswered> {
        let live = self.link.live().await?;
        let mut scan = redis::cmd("HSCAN");
        scan.arg(self.keys(coupon_id).tokens()).arg(cursor).arg("COUNT").arg(STAGED_AT_ONCE);
        let (next, found) = lua::scanned(live.send(&scan).await?)?;
        Ok((next, tokens(coupon_id, &found)?))
    }

    /// Some of the users with a slot, and where the next call goes on; 0 begins, and ends.
    pub async fn list_holders(&self, coupon_id: &CouponId, cursor: u64) -> Result<(u64, Vec<String>), Unanswered> {
        let live = self.link.live().await?;
        let mut scan = redis::cmd("SSCAN");
        scan.arg(self.keys(coupon_id).holders()).arg(cursor).arg("COUNT").arg(STAGED_AT_ONCE);
        let (next, found) = lua::scanned(live.send(&scan).await?)?;
        Ok((next, found.iter().map(|user| lua::text(user).map(str::to_owned)).collect::<Result<_, _>>()?))
    }

    /// Opens the gate, unless it is open in this epoch or a later one. What it knew before is gone.
    pub async fn open(&self, opening: &Opening<'_>) -> Result<Opened, Unanswered> {
        let Opening { coupon, epoch, holders } = opening;
        let keys = self.keys(&coupon.coupon_id);
        let [staged_holders, staged_freed] = keys.staged();
        // All of it on one connection, and so in one run of Redis.
        let live = self.link.live().await?;
        live.send(redis::cmd("DEL").arg(&staged_holders).arg(&staged_freed)).await?;
        for some in holders.chunks(STAGED_AT_ONCE) {
            let mut add = redis::cmd("SADD");
            add.arg(&staged_holders);
            for (user, _) in some {
                add.arg(user.as_str());
            }
            live.send(&add).await?;
        }
        let (last_rank, freed) = ranks(coupon.mode, holders);
        for some in freed.chunks(STAGED_AT_ONCE) {
            let mut add = redis::cmd("ZADD");
            add.arg(&staged_freed);
            for rank in some {
                add.arg(rank).arg(rank);
            }
            live.send(&add).await?;
        }
        let mut keys: Vec<String> = keys.all().into();
        keys.extend([staged_holders, staged_freed]);
        let mut call = lua::OPEN.call(&keys.iter().map(String::as_str).collect::<Vec<_>>());
        let (opens_at, closes_at) = (micros(coupon.opens_at, ALWAYS), micros(coupon.closes_at, NEVER));
        call.arg(live.run_id()).arg(epoch).arg(coupon.mode.as_str()).arg(coupon.quantity).arg(opens_at).arg(closes_at);
        call.arg(last_rank).arg(holders.len()).arg(freed.len());
        match lua::number(&live.run(&lua::OPEN, &call).await?)? {
            1 => Ok(Opened::Now),
            0 => Ok(Opened::Before),
            _ => Err(Unanswered::Nonsense("what was staged is not there any more".to_owned())),
        }
    }

    /// Gives a gate up that isn't to be trusted, if it is still in this epoch: it is lost until it is rebuilt.
    pub async fn close(&self, coupon_id: &CouponId, epoch: i64) -> Result<(), Unanswered> {
        let mut call = lua::CLOSE.call(&[&self.keys(coupon_id).state()]);
        call.arg(epoch);
        self.link.run(&lua::CLOSE, &call).await.map(drop)
    }

    fn keys<'k>(&'k self, coupon_id: &'k CouponId) -> Keys<'k> {
        Keys { prefix: &self.prefix, coupon_id }
    }
}

fn tokens(coupon_id: &CouponId, found: &[redis::Value]) -> Result<Vec<Token>, Unanswered> {
    let token = |pair: &[redis::Value]| {
        let (user, token) = (lua::text(&pair[0])?, lua::text(&pair[1])?);
        let user_id = user.parse().map_err(|_| Unanswered::Nonsense(format!("the user {user:?}")))?;
        Token::parse(coupon_id, &user_id, token).ok_or_else(|| Unanswered::Nonsense(format!("the token {token:?}")))
    };
    found.chunks_exact(2).map(token).collect()
}

/// The last rank that was given, and those below it that nobody holds.
fn ranks(mode: Mode, holders: &[(UserId, Option<i64>)]) -> (i64, Vec<i64>) {
    match mode {
        Mode::Set => (0, Vec::new()),
        Mode::Ranked => {
            let mut held: Vec<i64> = holders.iter().filter_map(|(_, rank)| *rank).collect();
            held.sort_unstable();
            let last = held.last().copied().unwrap_or(0);
            (last, (1..=last).filter(|rank| held.binary_search(rank).is_err()).collect())
        }
    }
}

fn micros(time: Option<DateTime<Utc>>, otherwise: i64) -> i64 {
    time.map_or(otherwise, |time| time.timestamp_micros().clamp(ALWAYS, NEVER))
}
