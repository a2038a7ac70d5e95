//! An event that climbs the retry ladder and comes back: the outside platform is down when a payment is sent to
//! it. The order doesn't notice.

use std::{env, time::Duration};

use anyhow::{Context, ensure};
use chrono::{DateTime, Utc};
use system::{
    Shop, eventually,
    office::{Office, Place},
    outside::{Answer, Arrival, Outside, Whom},
    shop::{Customer, OrderStatus, Product},
};
use tokio::process::Command;
use uuid::Uuid;

use crate::telling::{outcome, say, title};

/// In place of 30 s, 1 m and 2 m: for this part, and for this service only.
const SHORT_DELAYS: &str = "2s,3s,4s";
const SERVICE: &str = "data-platform";
/// The platform comes back when the event is here.
const LAST_RUNG: &str = "retry-2";
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) async fn show(shop: &Shop, teapot: &Product) -> anyhow::Result<()> {
    title("The outside platform is down when a payment is sent to it: the event climbs the ladder, and comes back");
    restart_with_delays(Some(SHORT_DELAYS)).await?;
    say(
        &format!("{SERVICE} is restarted"),
        &format!("RETRY_DELAYS={SHORT_DELAYS}, shortened for this demo from 30s,1m,2m"),
    );
    let climbed = climb(shop, teapot).await;
    // Also when something went wrong: the suite is left as `make up` started it.
    restart_with_delays(None).await?;
    say(&format!("{SERVICE} is restarted"), "with the delays it had before");
    climbed
}

async fn climb(shop: &Shop, teapot: &Product) -> anyhow::Result<()> {
    let outside = Outside::from_env();
    let pat = shop.new_customer("pat");
    pat.charge(teapot.price).await.context("points")?;
    outside.answers(Answer::Unavailable, Whom::Only(pat.id())).await?;
    say("PUT platform-receiver/mode", &format!("503 for what {} buys", pat.id()));
    let fallen = watch(&outside, &pat, teapot).await;
    outside.answers(Answer::Takes, Whom::Everybody).await?;
    fallen
}

/// The order is confirmed at once; its event is followed until the platform has it.
async fn watch(outside: &Outside, pat: &Customer, teapot: &Product) -> anyhow::Result<()> {
    let accepted = pat.place_order(&[(&teapot.product_id, 1)]).await.context("placing an order")?;
    let order = pat.wait_for(accepted.order_id).await.context("waiting for the order")?;
    ensure!(order.status == OrderStatus::Confirmed, "the order is {:?}, {:?}", order.status, order.reason);
    say("the order, all the same", &outcome(&order));
    let refused = eventually("the payment was sent to the platform", PATIENCE, async || {
        outside.about(order.order_id).await?.pop().context("it has nothing of it yet")
    })
    .await?;
    let platform = Office::of_data_platform();
    let event = refused.idempotency_key;
    until_at(&platform, event, LAST_RUNG).await?;
    outside.answers(Answer::Takes, Whom::Everybody).await?;
    say("PUT platform-receiver/mode", "it takes everything again");
    until_at(&platform, event, "applied").await?;
    let arrivals = outside.about(order.order_id).await?;
    let [arrival] = &*arrivals else { anyhow::bail!("it arrived as {} payments", arrivals.len()) };
    tell_of(arrival);
    say("what arrived", &format!("curl '{}/received?orderId={}'", outside.url(), order.order_id));
    Ok(())
}

/// Says each place that the event is seen at, until it is there.
async fn until_at(platform: &Office, event: Uuid, wanted: &str) -> anyhow::Result<()> {
    let mut last = String::new();
    eventually(&format!("the event is at {wanted}"), PATIENCE, async || {
        let Place { state, tier, due_at, .. } = platform.place(event).await?;
        let at = tier.unwrap_or(state);
        if at != last {
            let until = due_at.map_or_else(String::new, |due| format!(", next attempt at {}", clock(due)));
            say(&format!("GET {SERVICE}/admin/inbox/…"), &format!("{at}{until}"));
            last.clone_from(&at);
        }
        ensure!(at == wanted, "it is at {at}");
        Ok(())
    })
    .await
}

fn tell_of(arrival: &Arrival) {
    for call in &arrival.calls {
        say("the platform was called", &format!("{} at {}", call.answered, clock(call.at)));
    }
    say("by the same Idempotency-Key", &arrival.idempotency_key.to_string());
}

fn clock(at: DateTime<Utc>) -> String {
    at.format("%H:%M:%S%.3f").to_string()
}

/// `None`: with what `make demo` was told itself.
async fn restart_with_delays(delays: Option<&str>) -> anyhow::Result<()> {
    let control = env::var("SUITE_CONTROL").context("SUITE_CONTROL isn't set: run the tour by `make demo`")?;
    let mut command = Command::new(control);
    command.args(["restart-part", SERVICE]);
    if let Some(delays) = delays {
        command.env("RETRY_DELAYS", delays);
    }
    let output = command.output().await.context("deploy/local/suite")?;
    ensure!(output.status.success(), "{SERVICE} didn't restart: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}
