//! Those who ask at the same moment share a script: while one question is on its way, the next ones gather.

use std::sync::Arc;

use chrono::DateTime;
use common_events::CouponId;
use futures::future::join_all;
use redis::Value;
use service_runtime::{
    museum::{self, Bug},
    tasks::Next,
};
use tokio::sync::{mpsc, oneshot};

use super::{
    MAX_BATCH, Request, Token, Unanswered, Verdict,
    link::{Link, Live},
    lua::{self, Keys},
};

type Answer = Result<Verdict, Unanswered>;

/// Somebody who waits for the gate.
pub(super) struct Asked {
    request: Request,
    answer: oneshot::Sender<Answer>,
}

impl Asked {
    pub(super) fn new(request: Request) -> (Self, oneshot::Receiver<Answer>) {
        let (answer, answered) = oneshot::channel();
        (Self { request, answer }, answered)
    }
}

/// Where everybody asks.
pub(super) struct Desk {
    asked: mpsc::Receiver<Asked>,
    link: Link,
    prefix: Arc<str>,
    waiting: Vec<Asked>,
}

impl Desk {
    pub(super) fn new(asked: mpsc::Receiver<Asked>, link: Link, prefix: Arc<str>) -> Self {
        Self { asked, link, prefix, waiting: Vec::with_capacity(MAX_BATCH) }
    }

    /// Waits for somebody to ask. When there is nobody then, nobody can any more.
    pub(super) async fn wait(&mut self) -> anyhow::Result<()> {
        self.asked.recv_many(&mut self.waiting, MAX_BATCH).await;
        Ok(())
    }

    /// Asks for all who wait, in the order in which they came. Everybody is answered, also when the round fails.
    pub(super) async fn answer_some(&mut self) -> anyhow::Result<Next> {
        if self.waiting.is_empty() {
            return Ok(Next::Never);
        }
        let coupons = by_coupon(self.waiting.drain(..));
        // One round trip: the questions go one behind the other on one connection.
        let answers = join_all(coupons.into_iter().map(|asked| answer(asked, &self.link, &self.prefix))).await;
        // While one coupon's questions are answered, the gate is there.
        if answers.iter().any(Result::is_ok) {
            return Ok(Next::Now);
        }
        answers.into_iter().collect::<Result<(), Unanswered>>()?;
        Ok(Next::Now)
    }
}

fn by_coupon(waiting: impl Iterator<Item = Asked>) -> Vec<Vec<Asked>> {
    let mut coupons: Vec<Vec<Asked>> = Vec::new();
    for asked in waiting {
        match coupons.iter_mut().find(|others| others[0].request.coupon_id == asked.request.coupon_id) {
            Some(others) => others.push(asked),
            None => coupons.push(vec![asked]),
        }
    }
    coupons
}

async fn answer(asked: Vec<Asked>, link: &Link, prefix: &str) -> Result<(), Unanswered> {
    let coupon_id = asked[0].request.coupon_id.clone();
    match ask(&coupon_id, &asked, link, prefix).await {
        Ok(verdicts) => {
            for (asked, verdict) in asked.into_iter().zip(verdicts) {
                // Who stopped waiting is admitted all the same; his token is pending.
                let _ = asked.answer.send(Ok(verdict));
            }
            Ok(())
        }
        Err(error) => {
            let said = service_runtime::chain(&error);
            for asked in asked {
                let _ = asked.answer.send(Err(Unanswered::Together(said.clone())));
            }
            Err(error)
        }
    }
}

async fn ask(coupon_id: &CouponId, asked: &[Asked], link: &Link, prefix: &str) -> Result<Vec<Verdict>, Unanswered> {
    let live = link.live().await?;
    let keys = Keys { prefix, coupon_id }.all();
    let mut call = lua::ADMIT.call(&keys.each_ref().map(String::as_str));
    if museum::is_back(Bug::CountThenAdd) && is_any_left(&live, &keys).await? {
        let adds = lua::ADMIT.source.replace("taken >= quantity", "false");
        call = redis::cmd("EVAL");
        call.arg(adds).arg(keys.len()).arg(&keys);
    }
    call.arg(live.run_id());
    for Asked { request, .. } in asked {
        call.arg(request.user_id.as_str()).arg(request.request_id.to_string()).arg(request.trace.to_string());
    }
    let answer = lua::list(live.run(&lua::ADMIT, &call).await?)?;
    let [epoch, now, verdicts @ ..] = &answer[..] else { return Ok(vec![Verdict::Lost; asked.len()]) };
    let (epoch, now) = (lua::number(epoch)?, lua::number(now)?);
    if verdicts.len() != asked.len() {
        return Err(Unanswered::Nonsense(format!("{} verdicts for {}", verdicts.len(), asked.len())));
    }
    verdicts.iter().zip(asked).map(|(verdict, asked)| verdict_of(verdict, &asked.request, epoch, now)).collect()
}

/// Of a bug: whether somebody may be let in, so far.
async fn is_any_left(live: &Live, [state, holders, ..]: &[String; 5]) -> Result<bool, Unanswered> {
    let taken = lua::number(&live.send(redis::cmd("SCARD").arg(holders)).await?)?;
    let quantity = live.send(redis::cmd("HGET").arg(state).arg("quantity")).await?;
    Ok(lua::text(&quantity).is_ok_and(|quantity| quantity.parse().is_ok_and(|quantity: i64| taken < quantity)))
}

fn verdict_of(verdict: &Value, request: &Request, epoch: i64, now: i64) -> Answer {
    let rank = match lua::number(verdict)? {
        -1 => return Ok(Verdict::AskedBefore),
        -2 => return Ok(Verdict::SoldOut),
        -3 => return Ok(Verdict::NotOpenYet),
        -4 => return Ok(Verdict::Closed),
        0 => None,
        rank => Some(rank),
    };
    let admitted_at =
        DateTime::from_timestamp_micros(now).ok_or_else(|| Unanswered::Nonsense(format!("the time {now}")))?;
    Ok(Verdict::Admitted(Token {
        request_id: request.request_id,
        coupon_id: request.coupon_id.clone(),
        user_id: request.user_id.clone(),
        rank,
        epoch,
        admitted_at,
        trace: request.trace,
    }))
}
