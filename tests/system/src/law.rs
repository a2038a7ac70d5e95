//! The law (ARCHITECTURE.md, "The law"), checked from outside on a quiet suite. Each article gets the evidence and
//! says what is broken, so that all that is wrong is told at once.

mod articles;
pub mod evidence;
mod snapshot;

use anyhow::ensure;

use crate::Suite;
pub use evidence::Evidence;
pub use snapshot::{Snapshot, snapshot};

/// Waits until the suite is quiet, then checks every article.
pub async fn holds(suite: &Suite) -> anyhow::Result<Evidence> {
    suite.until_quiet().await?;
    let evidence = Evidence::gather(suite).await?;
    let broken = broken(&evidence);
    ensure!(broken.is_empty(), "the law is broken:\n  {}", broken.join("\n  "));
    Ok(evidence)
}

/// What is broken, a sentence each.
pub fn broken(evidence: &Evidence) -> Vec<String> {
    let articles = [
        articles::money,
        articles::stock,
        articles::coupons,
        articles::coupons_in_orders,
        articles::nothing_acknowledged_is_lost,
        articles::effects_happen_once,
        articles::every_saga_has_ended,
        articles::nothing_is_dead,
        articles::ranking,
        articles::one_trace,
        articles::balances_from_the_topics,
        articles::the_platform_outside,
    ];
    articles.iter().flat_map(|article| article(evidence)).collect()
}
