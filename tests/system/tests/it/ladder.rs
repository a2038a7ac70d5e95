//! Events that fail: they climb the ladder and come back, or die and are brought back. Delays are scaled down.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, ensure};
use common_events::{OrderId, ProductId, Service};
use reqwest::Method;
use serde_json::{Value, json};
use system::{
    Settings, Suite, eventually, law,
    office::{Office, Place},
    outside::{Answer, Arrival, Whom},
    shop::{Customer, OrderStatus, Product},
    suite::Instance,
};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_mins(1);
const PRICE: i64 = 1_000;
/// Payments that meet a platform which is down.
const PAYMENTS: usize = 12;

/// A suite whose ladder takes seconds.
async fn suite() -> anyhow::Result<Suite> {
    let variables = [
        ("RETRY_DELAYS", "4s,4s,4s"),
        ("PARKED_ATTEMPTS", "1"),
        ("PARKED_INTERVAL", "3s"),
        ("FAULT_INJECTION", "true"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Suite::start(Settings { variables, ..Settings::default() }).await.context("starting the suite")
}

fn office(suite: &Suite, service: Service) -> Office {
    Office::at(suite.url(service, Instance::First))
}

async fn a_customer(suite: &Suite) -> anyhow::Result<(Customer, Product)> {
    let tea = suite.shop.admin().create_product("Tea", PRICE, 100).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(100 * PRICE).await?;
    Ok((kim, tea))
}

async fn buys(customer: &Customer, product: &ProductId) -> anyhow::Result<OrderId> {
    let accepted = customer.place_order(&[(product, 1)]).await?;
    let order = customer.wait_for(accepted.order_id).await?;
    ensure!(order.status == OrderStatus::Confirmed, "{:?} {:?}", order.status, order.reason);
    Ok(order.order_id)
}

/// What the platform got of each order, once `enough` is true of all of it.
async fn arrived(
    suite: &Suite,
    orders: &BTreeSet<OrderId>,
    what: &str,
    enough: fn(&Arrival) -> bool,
) -> anyhow::Result<Vec<Arrival>> {
    eventually(what, PATIENCE, async || {
        let arrivals = suite.outside.arrivals().await?;
        let told: BTreeSet<OrderId> = arrivals.iter().map(|arrival| arrival.order_id).collect();
        ensure!(told == *orders, "{} of {} orders have arrived", told.len(), orders.len());
        let open = arrivals.iter().filter(|arrival| !enough(arrival)).count();
        ensure!(open == 0, "{open} of them not yet");
        Ok(arrivals)
    })
    .await
}

pub(crate) async fn while_the_platform_is_down_payments_climb_and_then_each_arrives_once() -> anyhow::Result<()> {
    let suite = suite().await?;
    let (kim, tea) = a_customer(&suite).await?;
    suite.outside.answers(Answer::Unavailable, Whom::Everybody).await?;
    let mut orders = BTreeSet::new();
    for _ in 0..PAYMENTS {
        orders.insert(buys(&kim, &tea.product_id).await?);
    }
    // Three times in place, and once from the first retry topic at least.
    let refused = arrived(&suite, &orders, "each has climbed a rung", |arrival| arrival.call_count > 3).await?;
    ensure!(refused.iter().all(|arrival| arrival.taken_at.is_none()), "a platform that is down takes nothing");
    suite.kill(Service::DataPlatform)?;
    suite.run(Service::DataPlatform).await?;

    suite.outside.answers(Answer::Takes, Whom::Everybody).await?;
    let taken = arrived(&suite, &orders, "each is taken", |arrival| arrival.taken_at.is_some()).await?;
    ensure!(taken.len() == orders.len(), "{} deliveries of {} payments", taken.len(), orders.len());
    let platform = office(&suite, Service::DataPlatform);
    for arrival in &taken {
        eventually("the event is through", PATIENCE, async || {
            let place = platform.place(arrival.idempotency_key).await?;
            ensure!(place.state == "applied", "{place:?}");
            Ok(())
        })
        .await?;
    }
    law::holds(&suite).await?;
    Ok(())
}

pub(crate) async fn killed_between_the_call_and_the_commit_it_calls_again_with_the_same_key() -> anyhow::Result<()> {
    let suite = suite().await?;
    let (kim, tea) = a_customer(&suite).await?;
    // It takes the payment, and data-platform will not hear of it.
    suite.outside.answers(Answer::Late, Whom::Everybody).await?;
    let orders = BTreeSet::from([buys(&kim, &tea.product_id).await?]);
    arrived(&suite, &orders, "the call has arrived", |_| true).await?;
    suite.kill(Service::DataPlatform)?;
    suite.outside.answers(Answer::Takes, Whom::Everybody).await?;
    suite.run(Service::DataPlatform).await?;

    let calls = arrived(&suite, &orders, "it calls again", |arrival| arrival.call_count > 1).await?;
    let [arrival] = &*calls else { anyhow::bail!("another key: {calls:?}") };
    let answers: Vec<u16> = arrival.calls.iter().map(|call| call.answered).collect();
    ensure!(answers == [201, 200], "{answers:?}");
    law::holds(&suite).await?;
    Ok(())
}

/// What a run of sagactl said, as JSON.
async fn sagactl(suite: &Suite, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = suite.sagactl(arguments).await?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "sagactl {} ended with {}: {}", arguments.join(" "), output.status, said());
    serde_json::from_slice(&output.stdout).context("what sagactl says")
}

pub(crate) async fn an_event_fails_climbs_dies_and_is_replayed_by_sagactl() -> anyhow::Result<()> {
    let suite = suite().await?;
    let (kim, tea) = a_customer(&suite).await?;
    let (failing, other) = (buys(&kim, &tea.product_id).await?, buys(&kim, &tea.product_id).await?);
    let ranking = office(&suite, Service::Ranking);
    let sold = async || -> anyhow::Result<i64> {
        let items = suite.shop.ranking("day", "quantity", 100).await?.items;
        Ok(items.iter().filter(|item| item.product_id == tea.product_id).map(|item| item.quantity).sum())
    };
    let until_sold = async |pieces: i64| {
        eventually(&format!("{pieces} pieces in the ranking"), PATIENCE, async || {
            let now = sold().await?;
            ensure!(now == pieces, "{now}");
            Ok(())
        })
        .await
    };
    until_sold(2).await?;

    let fault = json!({ "kind": "transient", "key": failing, "reason": "to see it climb" });
    ranking.send_body::<Value>(Method::PUT, "/admin/faults", &fault).await?;
    kim.cancel(failing).await?;
    kim.cancel(other).await?;
    // The other's refund isn't held up.
    until_sold(1).await?;
    let event = refund_of(&suite, failing).await?;
    eventually("it is dead", PATIENCE, async || {
        let Place { state, tier, .. } = ranking.place(event).await?;
        ensure!(state == "dead", "{state} {tier:?}");
        Ok(())
    })
    .await?;
    // Whoever looks now and then may miss a rung; the figures don't.
    let figures =
        reqwest::get(format!("{}/metrics", suite.url(Service::Ranking, Instance::First))).await?.text().await?;
    for tier in ["retry-1", "retry-2", "retry-3", "parked"] {
        let tier = format!("tier=\"{tier}\"");
        let is_of_it = |line: &&str| line.starts_with("event_hops_total{") && line.contains(&tier);
        let hops: Vec<&str> = figures.lines().filter(is_of_it).collect();
        ensure!(hops.iter().any(|line| !line.ends_with(" 0")), "it was never at {tier}: {hops:?}");
    }

    let listed = sagactl(&suite, &["dlt", "list", "--json", "--key", &failing.to_string()]).await?;
    let letter = &listed["services"]["ranking-service"]["items"][0];
    let id = letter["id"].as_str().with_context(|| format!("a dead letter in {listed}"))?;
    ensure!(letter["eventId"] == event.to_string() && letter["state"] == "DEAD", "{letter}");
    let failed = suite.sagactl(&["dlt", "replay", id, "--reason", "too early", "--wait", "30"]).await?;
    ensure!(failed.status.code() == Some(1), "while it fails, a replay is no success: {failed:?}");

    ranking.send_body::<Value>(Method::DELETE, "/admin/faults", &json!({ "reason": "seen" })).await?;
    let foretold = sagactl(&suite, &["dlt", "replay", id, "--json", "--dry-run", "--reason", "a look"]).await?;
    let verdict = &foretold["services"]["ranking-service"]["items"][0]["verdict"];
    ensure!(verdict == "will-apply", "{foretold}");
    ensure!(sold().await? == 1, "a dry run changes nothing");
    let done =
        sagactl(&suite, &["dlt", "replay", id, "--json", "--reason", "the fault is over", "--wait", "30"]).await?;
    ensure!(done["services"]["ranking-service"]["applied"] == 1, "{done}");
    until_sold(0).await?;
    let again = sagactl(&suite, &["dlt", "replay", id, "--json", "--reason", "once more", "--wait", "30"]).await?;
    ensure!(again["services"]["ranking-service"]["skipped"] == 1, "{again}");
    law::holds(&suite).await?;
    Ok(())
}

/// The id of the event that told of the order's refund.
async fn refund_of(suite: &Suite, order: OrderId) -> anyhow::Result<Uuid> {
    eventually("the refund is told", PATIENCE, async || {
        let told = suite.groups()?.told().await?;
        let refund = told.iter().find(|told| told.kind == "payment-refunded" && told.data.order_id == Some(order));
        Ok(refund.context("not yet")?.id)
    })
    .await
}
