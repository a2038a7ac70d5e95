//! The flows as data, declared once: which event is which step, what is owed after it and by whom, what
//! undoes it, and which amounts have to agree. Rules, resumes, pictures and `docs/flows.md` come from here.
//!
//! What an event says is the business of [`crate::events`]; how a declaration is judged that of
//! [`crate::domain`].

mod document;

use std::{fmt, str::FromStr};

use common_events::{Service, Topic};
use serde::{Deserialize, Serialize};

pub use document::document;

/// A kind of saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flow {
    /// All that happens because of one order; its key is the order's id.
    Order,
    /// One request for a first-come coupon; its key is the id of the request's event.
    CouponIssue,
}

/// Whether something happens once in a saga, or once for each line of its order. Lines run side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Each {
    /// Once.
    Saga,
    /// Once per line.
    Line,
}

/// What a step is to its saga.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// The saga goes on.
    Forward,
    /// A business refusal: an answer, not an error.
    Refusal,
    /// Takes back what the other event did.
    Undo(Topic),
    /// The saga has done what it should.
    Success,
    /// The saga ended without anything to undo.
    Failure,
    /// The one trigger of compensation.
    Cancel,
}

/// One event of a flow.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The event, told by the topic's writer.
    pub event: Topic,
    /// What was done or refused, in words.
    pub name: &'static str,
    /// How often.
    pub each: Each,
    /// What it is to the saga.
    pub role: Role,
}

/// For which orders something is owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// For all.
    Always,
    /// For those that want to use a coupon.
    WithCoupon,
}

/// After all of `after` happened, `by` owes one of `one_of`. An event that happens once per line counts, for
/// what is owed once, when it happened for every line; an event of the coupon only where there is one.
#[derive(Debug, Clone, Copy)]
pub struct Debt {
    /// What has to have happened.
    pub after: &'static [Topic],
    /// How often it is owed.
    pub each: Each,
    /// For which orders.
    pub only: Only,
    /// Who owes it.
    pub by: Service,
    /// Any one of these is an answer; the first is the one that is hoped for.
    pub one_of: &'static [Topic],
}

/// A declared flow.
#[derive(Debug, Clone, Copy)]
pub struct Declaration {
    /// Whose declaration it is.
    pub flow: Flow,
    /// What begins it. Without it, and without an end, it is owed by its writer.
    pub begins: Topic,
    /// Every event of it.
    pub steps: &'static [Step],
    /// Everything that is ever owed in it.
    pub debts: &'static [Debt],
    /// Pairs of events whose amounts agree, where both happened.
    pub same_amount: &'static [(Topic, Topic)],
}

/// Topics that the monitor reads, or doesn't, though they belong to no saga; with the reason.
pub const NO_SAGA: &[(Topic, &str)] = &[
    (Topic::PointCharged, "paying points in is one transaction of one service: nobody answers, nothing is undone"),
    (Topic::ProductCatalog, "it is the state of a product, not a step of anything"),
];

const fn step(event: Topic, name: &'static str, each: Each, role: Role) -> Step {
    Step { event, name, each, role }
}

const fn debt(after: &'static [Topic], each: Each, by: Service, one_of: &'static [Topic]) -> Debt {
    Debt { after, each, only: Only::Always, by, one_of }
}

use Each::{Line, Saga};
use Role::{Cancel, Failure, Forward, Refusal, Success, Undo};
use Topic as T;

const ORDER: Declaration = Declaration {
    flow: Flow::Order,
    begins: T::OrderCreated,
    steps: &[
        step(T::OrderCreated, "place order", Saga, Forward),
        step(T::OrderLinePlaced, "ask for stock", Line, Forward),
        step(T::StockDeducted, "deduct stock", Line, Forward),
        step(T::StockDeductFailed, "deduct stock", Line, Refusal),
        step(T::CouponUsed, "use coupon", Saga, Forward),
        step(T::CouponUseFailed, "use coupon", Saga, Refusal),
        step(T::OrderReserved, "reserve order", Saga, Forward),
        step(T::PointDeducted, "deduct points", Saga, Forward),
        step(T::PaymentCompleted, "complete payment", Saga, Forward),
        step(T::PaymentFailed, "complete payment", Saga, Refusal),
        step(T::OrderConfirmed, "confirm order", Saga, Success),
        step(T::OrderCancelled, "cancel order", Saga, Cancel),
        step(T::StockRestored, "restore stock", Line, Undo(T::StockDeducted)),
        step(T::CouponRestored, "restore coupon", Saga, Undo(T::CouponUsed)),
        step(T::PointRefunded, "refund points", Saga, Undo(T::PointDeducted)),
        step(T::PaymentRefunded, "refund payment", Saga, Undo(T::PaymentCompleted)),
    ],
    debts: &[
        // Forward. A cancel that was faster is an answer, too.
        debt(&[T::OrderCreated], Line, Service::Order, &[T::OrderLinePlaced, T::OrderCancelled]),
        debt(&[T::OrderLinePlaced], Line, Service::Product, &[T::StockDeducted, T::StockDeductFailed]),
        Debt {
            only: Only::WithCoupon,
            ..debt(&[T::OrderCreated], Saga, Service::Coupon, &[T::CouponUsed, T::CouponUseFailed])
        },
        debt(&[T::StockDeductFailed], Line, Service::Order, &[T::OrderCancelled]),
        debt(&[T::CouponUseFailed], Saga, Service::Order, &[T::OrderCancelled]),
        debt(&[T::StockDeducted, T::CouponUsed], Saga, Service::Order, &[T::OrderReserved, T::OrderCancelled]),
        debt(&[T::OrderReserved], Saga, Service::Payment, &[T::PaymentCompleted, T::PaymentFailed]),
        debt(&[T::PaymentFailed], Saga, Service::Order, &[T::OrderCancelled]),
        debt(&[T::PaymentCompleted], Saga, Service::Order, &[T::OrderConfirmed, T::OrderCancelled]),
        // Back. Whoever was asked answers also after the cancel, so that "undone" and "not answered yet" differ.
        debt(&[T::OrderCancelled, T::StockDeducted], Line, Service::Product, &[T::StockRestored]),
        Debt {
            only: Only::WithCoupon,
            ..debt(&[T::OrderCancelled, T::CouponUsed], Saga, Service::Coupon, &[T::CouponRestored])
        },
        debt(&[T::OrderCancelled, T::PaymentCompleted], Saga, Service::Payment, &[T::PaymentRefunded]),
        debt(&[T::OrderCancelled, T::PointDeducted], Saga, Service::Payment, &[T::PointRefunded]),
    ],
    same_amount: &[
        (T::OrderReserved, T::PaymentCompleted),
        (T::OrderReserved, T::OrderConfirmed),
        (T::OrderReserved, T::PointDeducted),
        (T::PaymentCompleted, T::PaymentRefunded),
        (T::PointDeducted, T::PointRefunded),
    ],
};

const COUPON_ISSUE: Declaration = Declaration {
    flow: Flow::CouponIssue,
    begins: T::CouponIssueRequested,
    steps: &[
        step(T::CouponIssueRequested, "request coupon", Saga, Forward),
        step(T::CouponIssued, "issue coupon", Saga, Success),
        step(T::CouponIssueRejected, "issue coupon", Saga, Failure),
    ],
    debts: &[debt(&[T::CouponIssueRequested], Saga, Service::Coupon, &[T::CouponIssued, T::CouponIssueRejected])],
    same_amount: &[],
};

impl Flow {
    /// Every flow there is.
    pub const ALL: &'static [Self] = &[Self::Order, Self::CouponIssue];

    /// How it is declared.
    pub const fn declaration(self) -> &'static Declaration {
        match self {
            Self::Order => &ORDER,
            Self::CouponIssue => &COUPON_ISSUE,
        }
    }

    /// As it is called in answers, filters and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Order => "order",
            Self::CouponIssue => "coupon-issue",
        }
    }

    /// The flow that an event belongs to.
    pub fn of(event: Topic) -> Option<Self> {
        Self::ALL.iter().copied().find(|flow| flow.declaration().step(event).is_some())
    }
}

impl Declaration {
    /// What the event is in this flow.
    pub fn step(&self, event: Topic) -> Option<&'static Step> {
        self.steps.iter().find(|step| step.event == event)
    }

    /// What takes back what the event did.
    pub fn undo_of(&self, event: Topic) -> Option<&'static Step> {
        self.steps.iter().find(|step| step.role == Undo(event))
    }

    /// The events with this role.
    pub(crate) fn with_role(&self, role: Role) -> impl Iterator<Item = Topic> {
        self.steps.iter().filter(move |step| step.role == role).map(|step| step.event)
    }
}

impl Debt {
    /// Of the events after which it is owed, those that the debtor handles: what a resume sends him again.
    pub fn handled_by_debtor(&self) -> impl Iterator<Item = Topic> {
        self.after.iter().copied().filter(|event| event.spec().readers.contains(&self.by))
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no flow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no kind of saga")]
pub struct UnknownFlow(String);

impl FromStr for Flow {
    type Err = UnknownFlow;

    fn from_str(text: &str) -> Result<Self, UnknownFlow> {
        Self::ALL.iter().copied().find(|flow| flow.name() == text).ok_or_else(|| UnknownFlow(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_topic_is_a_step_of_one_flow_or_of_none_with_the_reason() {
        for topic in Topic::ALL {
            let flows = Flow::ALL.iter().filter(|flow| flow.declaration().step(*topic).is_some()).count();
            let excused = NO_SAGA.iter().filter(|(excused, _)| excused == topic).count();
            assert_eq!(flows + excused, 1, "{topic} is in {flows} flows and excused {excused} times");
        }
    }

    #[test]
    fn what_is_owed_is_told_by_its_debtor_who_hears_what_it_is_owed_for() {
        for flow in Flow::ALL {
            let declaration = flow.declaration();
            for debt in declaration.debts {
                let hoped_for = debt.one_of[0];
                assert_eq!(hoped_for.spec().writer, debt.by, "{hoped_for}");
                for event in debt.after.iter().chain(debt.one_of) {
                    assert!(declaration.step(*event).is_some(), "{event} is no step of {flow}");
                }
                // Only what a request caused in the first place is answered to nobody.
                let is_of_a_request = debt.after == [declaration.begins] && declaration.begins.spec().writer == debt.by;
                let is_heard = debt.handled_by_debtor().next().is_some();
                assert!(is_heard || (is_of_a_request && *flow == Flow::Order), "{} can't owe {hoped_for}", debt.by);
            }
        }
    }

    #[test]
    fn every_step_that_takes_something_is_undone_and_its_undo_is_owed_after_the_cancel() {
        // Facts about the order itself, which order-service takes back by the cancel.
        let told_of_the_order = [T::OrderCreated, T::OrderLinePlaced, T::OrderReserved];
        let order = Flow::Order.declaration();
        for step in order.steps.iter().filter(|step| step.role == Forward) {
            let undo = order.undo_of(step.event);
            assert_eq!(undo.is_none(), told_of_the_order.contains(&step.event), "{}", step.event);
            let Some(undo) = undo else { continue };
            assert_eq!(undo.each, step.each);
            let owed = order.debts.iter().find(|debt| debt.one_of == [undo.event] && debt.after.contains(&step.event));
            let owed = owed.unwrap_or_else(|| panic!("nobody owes {}", undo.event));
            let asked = order.debts.iter().find(|debt| debt.one_of.contains(&step.event));
            // The points go with the payment, in one transaction; where nothing is to be paid there are none.
            let Some(asked) = asked else {
                assert_eq!(step.event, T::PointDeducted);
                continue;
            };
            assert_eq!(owed.only, asked.only, "what not every order asks for isn't undone in every order");
        }
    }

    #[test]
    fn the_document_is_current() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/flows.md");
        let written = std::fs::read_to_string(file).expect("docs/flows.md");
        assert!(
            written == document(),
            "docs/flows.md is not current: cargo run -p saga-monitor -- flows > docs/flows.md"
        );
    }
}
