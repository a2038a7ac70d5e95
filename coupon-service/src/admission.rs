//! Admitting: the gate decides, Kafka (or the dead letters) keeps the request, and only then it is a yes.
//!
//! | step | if it dies right here |
//! |---|---|
//! | the gate admits: slot and token in one script | the token is pending; the reconciler sends its request |
//! | the request is published, acks=all | the same: it is sent again, with the same id, and known by it |
//! | confirmed, off the path | the same |
//! | the issuer decides, in PostgreSQL | the record is delivered again |
//! | the gate closes the books on it | the reconciler finds the outcome in the tables |
//!
//! A 202 is a promise: the request is on its topic, or among the producer dead letters. What was certainly
//! never sent is undone; with an unknown outcome the admission stays pending, and the answer is 503.
//!
//! | who | does |
//! |---|---|
//! | [`Admission`] | admits, and tells what became of a claim |
//! | `sales` | what this process knows without asking: who holds what of a sale that is sold out; epochs |
//! | `books` | confirms and settles, in batches, behind everybody's back |
//! | `reconciler` | finds what was left undone anywhere |
//! | `rebuilder` | opens a lost gate again, under a new epoch |

mod books;
mod figures;
mod rebuilder;
mod reconciler;
mod sales;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use common_events::{ClaimRefusal, CouponId, EventId, IssuedCouponId, Service, Topic, TraceParent, UserId};
use messaging::{
    direct::{NotKept, Publisher},
    progress::Progress,
};
use metrics::counter;
use service_runtime::{Pool, Runtime, Tasks, chain, telemetry};
use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};
use tracing::{debug, error, warn};
use uuid::Uuid;

use crate::{
    domain::{Coupon, Outcome, Settled},
    gate::{Claim, Gate, Opening, Request, Token, Unanswered, Verdict},
    store,
};
use sales::Sales;

/// How long the gate may take for an answer, connecting included.
const GATE_LONGEST: Duration = Duration::from_secs(2);
/// Lost coupons that wait for the rebuilder by name; more are found when their page is looked at.
const MAX_NOTICED: usize = 1_000;
/// Admissions that wait to be confirmed; what finds no room is sent again by the reconciler.
const MAX_UNCONFIRMED: usize = 20_000;

/// Admits customers. Cheap to clone; all clones are one.
#[derive(Clone)]
pub struct Admission {
    inner: Arc<Inner>,
}

struct Inner {
    gate: Gate,
    publisher: Publisher,
    pool: Pool,
    progress: Progress,
    sales: Sales,
    unconfirmed: mpsc::Sender<Token>,
    noticed: Mutex<BTreeSet<CouponId>>,
    wake: Arc<Notify>,
    /// How long after the gate let somebody in his request can still be on its way, for all anybody knows.
    longest: Duration,
    tasks: Tasks,
}

/// Somebody who was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// 1-based; ranked mode only.
    pub rank: Option<i64>,
}

/// Why somebody wasn't.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// He has it, or is admitted already.
    AskedBefore,
    /// Nothing is left.
    SoldOut,
    /// The sale hasn't begun.
    NotOpenYet,
    /// The sale is over.
    Closed,
    /// There is no such coupon.
    UnknownCoupon,
    /// Who is admitted isn't known until the gate is rebuilt.
    Rebuilding,
    /// It can't be decided now; or it was, and whether it holds isn't known.
    Undecided,
}

/// What a customer's claim has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// He holds the coupon.
    Issued {
        /// What an order names.
        issued_coupon_id: IssuedCouponId,
        /// Ranked mode only.
        rank: Option<i64>,
    },
    /// He is admitted, and the issuer hasn't decided.
    Admitted {
        /// Ranked mode only.
        rank: Option<i64>,
    },
    /// His last admission came to nothing.
    Rejected(ClaimRefusal),
    /// He never was admitted.
    Never,
}

/// Why that can't be told.
#[derive(Debug)]
pub enum Untold {
    /// There is no such coupon.
    UnknownCoupon,
    /// The gate is being rebuilt, or doesn't answer.
    NotNow,
    /// The database failed.
    Database(tokio_postgres::Error),
}

impl From<tokio_postgres::Error> for Untold {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error)
    }
}

impl Admission {
    /// Starts what stands behind admissions. `settled`: how they ended, from the issuer.
    ///
    /// # Errors
    /// When a setting makes no client.
    pub fn start(
        runtime: &Runtime,
        pool: Pool,
        gate: Gate,
        publisher: Publisher,
        settled: mpsc::Receiver<Vec<Settled>>,
    ) -> anyhow::Result<Self> {
        figures::describe();
        let (unconfirmed, confirming) = mpsc::channel(MAX_UNCONFIRMED);
        let longest = publisher.longest() + GATE_LONGEST;
        let progress = Progress::of(&runtime.settings.kafka, Service::Coupon, Topic::CouponIssueRequested)?;
        let inner = Arc::new(Inner {
            gate,
            publisher,
            pool,
            progress,
            sales: Sales::default(),
            unconfirmed,
            noticed: Mutex::default(),
            wake: Arc::default(),
            longest,
            // Requests under way need them until they are answered.
            tasks: runtime.tasks.group(),
        });
        books::confirm_all(&inner, confirming);
        books::settle_all(&inner, settled);
        sales::watch(&inner);
        reconciler::start(&inner);
        Ok(Self { inner })
    }

    /// The gate, for who only looks.
    pub fn gate(&self) -> &Gate {
        &self.inner.gate
    }

    /// Admits the user, or not. Ok is a promise; `trace` is the span of his request.
    pub async fn admit(&self, coupon_id: &CouponId, user_id: &UserId, trace: TraceParent) -> Result<Admitted, Refused> {
        let inner = &self.inner;
        if let Some(refused) = inner.sales.refuse(coupon_id, user_id) {
            return Err(refused);
        }
        let asked = Instant::now();
        let request = Request {
            coupon_id: coupon_id.clone(),
            user_id: user_id.clone(),
            request_id: EventId::new(Uuid::now_v7()),
            trace: telemetry::child_of(trace),
        };
        let token = match inner.gate.admit(request).await {
            Ok(Verdict::Admitted(token)) => {
                inner.sales.remember(coupon_id);
                token
            }
            Ok(Verdict::AskedBefore) => return Err(Refused::AskedBefore),
            Ok(Verdict::SoldOut) => {
                Sales::sold_out(inner, coupon_id);
                return Err(Refused::SoldOut);
            }
            Ok(Verdict::NotOpenYet) => return Err(Refused::NotOpenYet),
            Ok(Verdict::Closed) => return Err(Refused::Closed),
            Ok(Verdict::Lost) => return Err(inner.why_lost(coupon_id).await),
            Err(unanswered) => return Err(undecided("the gate gave no answer", &unanswered)),
        };
        match inner.publisher.publish(&token.request(), Some(trace.span_id)).await {
            Ok(_) => {}
            Err(never @ NotKept::NeverSent(_)) => {
                inner.undo(&token).await;
                return Err(undecided("an admission was undone", &never));
            }
            Err(unknown @ NotKept::Unknown(_)) => return Err(undecided("an admission stays pending", &unknown)),
        }
        if !inner.is_still_in_epoch(&token, asked).await {
            return Err(Refused::Rebuilding);
        }
        let rank = token.rank;
        // Without room, or a reader, the reconciler sends the request again, which is known by its id.
        let _ = inner.unconfirmed.try_send(token);
        Ok(Admitted { rank })
    }

    /// What the user's claim has come to. The gate is asked before the database: what is settled in
    /// between is found there.
    pub async fn standing(&self, coupon_id: &CouponId, user_id: &UserId) -> Result<Standing, Untold> {
        let inner = &self.inner;
        let claim = inner.gate.claim(coupon_id, user_id).await;
        let client = inner.pool.get().await.map_err(|error| {
            warn!(error = chain(&error), "the database doesn't answer");
            Untold::NotNow
        })?;
        let held = store::list_issued(&client, coupon_id, std::slice::from_ref(user_id)).await?;
        if let Some(held) = held.first() {
            return Ok(Standing::Issued { issued_coupon_id: held.issued_coupon_id, rank: held.rank });
        }
        match claim {
            Ok(Claim::Admitted(token)) => Ok(match store::list_unused(&client, &[token.request_id]).await?.first() {
                Some(settled) => Standing::Rejected(rejection(settled.outcome)),
                None => Standing::Admitted { rank: token.rank },
            }),
            Ok(Claim::Settled | Claim::None) => match store::find_rejection(&client, coupon_id, user_id).await? {
                Some(reason) => Ok(Standing::Rejected(reason)),
                None if store::find_coupon(&client, coupon_id).await?.is_none() => Err(Untold::UnknownCoupon),
                None => Ok(Standing::Never),
            },
            Ok(Claim::Lost) => match store::find_coupon(&client, coupon_id).await? {
                Some(_) => {
                    inner.notice_lost(coupon_id);
                    Err(Untold::NotNow)
                }
                None => Err(Untold::UnknownCoupon),
            },
            Err(unanswered) => {
                warn!(error = chain(&unanswered), "the gate gave no answer");
                Err(Untold::NotNow)
            }
        }
    }

    /// Opens the gate of a coupon that was just put up for claiming. If that fails, or the process dies
    /// before, the rebuilder opens it.
    pub async fn open(&self, coupon: &Coupon) {
        let opening = Opening { coupon, epoch: coupon.epoch, holders: &[] };
        if let Err(unanswered) = self.inner.gate.open(&opening).await {
            warn!(coupon = %coupon.coupon_id, error = chain(&unanswered), "the gate opens later");
            self.inner.notice_lost(&coupon.coupon_id);
        }
    }

    /// Ends the tasks. Admissions are over by then.
    ///
    /// # Errors
    /// When one of them had ended by itself.
    pub async fn stop(self) -> anyhow::Result<()> {
        let stopped = self.inner.tasks.stop().await;
        self.inner.publisher.clone().stop().await?;
        Ok(stopped?)
    }
}

impl Inner {
    /// A gate that knows nothing of a coupon: either there is none, or the gate was lost. A coupon that there
    /// was once, there is for ever.
    async fn why_lost(&self, coupon_id: &CouponId) -> Refused {
        if self.sales.knows(coupon_id) {
            self.notice_lost(coupon_id);
            return Refused::Rebuilding;
        }
        let found = match self.pool.get().await {
            Ok(client) => store::find_coupon(&client, coupon_id).await.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        match found {
            Ok(None) => Refused::UnknownCoupon,
            Ok(Some(_)) => {
                self.sales.remember(coupon_id);
                self.notice_lost(coupon_id);
                Refused::Rebuilding
            }
            Err(error) => {
                debug!(error, "whether there is such a coupon isn't known");
                Refused::Undecided
            }
        }
    }

    /// Has the reconciler look at this coupon next.
    fn notice_lost(&self, coupon_id: &CouponId) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.len() < MAX_NOTICED && noticed.insert(coupon_id.clone()) {
            self.wake.notify_one();
        }
    }

    /// What is left behind when this fails is pending, and is sent after all.
    async fn undo(&self, token: &Token) {
        match self.gate.undo(token).await {
            Ok(()) => self.sales.slot_came_back(&token.coupon_id),
            Err(unanswered) => warn!(error = chain(&unanswered), "an admission that was never sent stays pending"),
        }
    }

    /// Whether what was admitted in the token's epoch still counts. An epoch ends only after everything
    /// that was let in before had its time to arrive (`longest`); so within that time nobody need be asked,
    /// unless this process has heard of a later one. A process that was frozen on the way asks.
    async fn is_still_in_epoch(&self, token: &Token, asked: Instant) -> bool {
        if self.sales.epoch_of(&token.coupon_id).is_some_and(|epoch| epoch > token.epoch) {
            return false;
        }
        if asked.elapsed() < self.longest {
            return true;
        }
        let found = match self.pool.get().await {
            Ok(client) => store::find_coupon(&client, &token.coupon_id).await.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        match found {
            Ok(coupon) => coupon.is_some_and(|coupon| coupon.epoch == token.epoch),
            Err(error) => {
                warn!(error, "whether a late admission still counts isn't known");
                false
            }
        }
    }

    async fn publish_again(&self, token: &Token) -> bool {
        match self.publisher.publish(&token.request(), None).await {
            Ok(_) => true,
            Err(error) => {
                error!(request_id = %token.request_id, error = chain(&error), "an admission can't be sent again yet");
                false
            }
        }
    }
}

/// Counted, and no warning: whoever failed has said so, once, and in a rush there are thousands of these.
fn undecided(what: &'static str, why: &dyn std::error::Error) -> Refused {
    debug!(error = chain(why), what, "undecided");
    counter!("coupon_admissions_undecided_total", "what" => what).increment(1);
    Refused::Undecided
}

/// What a customer is told whose admission came to nothing.
const fn rejection(outcome: Outcome) -> ClaimRefusal {
    match outcome {
        Outcome::Rejected(reason) => reason,
        // Who holds the coupon is told so before.
        Outcome::RankTaken | Outcome::AlreadyHeld { .. } | Outcome::Issued => ClaimRefusal::SoldOut,
    }
}

/// For who compares with now.
fn is_past(time: Option<DateTime<Utc>>) -> bool {
    time.is_some_and(|time| time <= Utc::now())
}

type Answered<T> = Result<T, Unanswered>;
