//! Why an order ends that was refused: in the words of who refused it.
//!
//! A reason that is not known here ends the order as any other does. It is passed on as it was written, so that the
//! customer, and whoever hears of the cancel, reads what was meant.

use common_events::{CancelReason, CouponRefusal, PaymentRefusal, StockRefusal};

pub(super) fn of_stock(refused: StockRefusal) -> CancelReason {
    match refused {
        StockRefusal::OutOfStock => CancelReason::OutOfStock,
        StockRefusal::UnknownProduct => CancelReason::UnknownProduct,
        StockRefusal::OrderCancelled => CancelReason::OrderCancelled,
        StockRefusal::Other(code) => code.into(),
    }
}

pub(super) fn of_coupon(refused: CouponRefusal) -> CancelReason {
    match refused {
        CouponRefusal::NotFound => CancelReason::CouponNotFound,
        CouponRefusal::NotOwned => CancelReason::CouponNotOwned,
        CouponRefusal::Used => CancelReason::CouponUsed,
        CouponRefusal::Expired => CancelReason::CouponExpired,
        CouponRefusal::OrderCancelled => CancelReason::OrderCancelled,
        CouponRefusal::Other(code) => code.into(),
    }
}

pub(super) fn of_payment(refused: PaymentRefusal) -> CancelReason {
    match refused {
        PaymentRefusal::InsufficientPoints => CancelReason::InsufficientPoints,
        PaymentRefusal::AccountClosed => CancelReason::AccountClosed,
        PaymentRefusal::LimitExceeded => CancelReason::LimitExceeded,
        PaymentRefusal::OrderCancelled => CancelReason::OrderCancelled,
        PaymentRefusal::Other(code) => code.into(),
    }
}

#[cfg(test)]
mod tests {
    use common_events::ReasonCode;

    use super::*;

    #[test]
    fn an_order_ends_in_the_words_of_who_refused_it_known_or_not() {
        let unknown = || "RECALLED".parse::<ReasonCode>().expect("a code");
        let stock = StockRefusal::KNOWN.iter().copied().chain([unknown().into()]);
        let coupon = CouponRefusal::KNOWN.iter().copied().chain([unknown().into()]);
        let payment = PaymentRefusal::KNOWN.iter().copied().chain([unknown().into()]);
        let pairs = (stock.map(|refused| (ReasonCode::from(refused), of_stock(refused))))
            .chain(coupon.map(|refused| (refused.into(), of_coupon(refused))))
            .chain(payment.map(|refused| (refused.into(), of_payment(refused))));
        for (said, reason) in pairs {
            assert_eq!(ReasonCode::from(reason), said);
        }
    }
}
