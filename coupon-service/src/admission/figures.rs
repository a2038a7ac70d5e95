//! What is counted of admissions, and what `GET /metrics` says of it.

use metrics::{describe_counter, describe_gauge};

pub(super) fn describe() {
    describe_counter!("coupon_admissions_undecided_total", "Claims answered 503, by what could not be decided.");
    describe_counter!("coupon_gate_rebuilds_total", "Gates opened anew under a new epoch.");
    describe_counter!("coupon_drift_total", "Differences found between gate, topic and database, by where.");
    describe_counter!("coupon_requests_sent_again_total", "Requests of pending admissions that were sent again.");
    describe_gauge!("coupon_admissions_pending", "Admissions whose request isn't known to be kept yet.");
    describe_gauge!("coupon_admissions_unsettled", "Admissions that the gate hasn't closed its books on.");
    describe_gauge!("coupon_admissions_unanswered", "Admissions whose request the issuer hasn't decided for too long.");
}
