//! What saga-monitor knows of a running suite, and how it sets sagas going again.

use std::{
    collections::BTreeMap,
    fmt::Display,
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use common_events::{OrderId, Service, Topic};
use reqwest::Method;
use serde_json::{Value, json};
use system::{
    Settings, Suite, eventually,
    monitor::Operator,
    shop::{CouponMode, Customer, Discount, NewCoupon, OrderStatus, Product},
    suite::Instance,
};

use crate::crashes::Rush;

const PATIENCE: Duration = Duration::from_secs(40);
/// Of the suite that most tests share: none of them takes an order that stands still for so long, but those that freeze or
/// kill somebody.
pub(crate) const STUCK_AFTER_OF_SHARED: Duration = Duration::from_secs(10);

fn events(saga: &Value) -> Vec<&str> {
    saga["steps"].as_array().into_iter().flatten().filter_map(|step| step["eventType"].as_str()).collect()
}

pub(crate) async fn a_confirmed_and_a_compensated_order_read_from_their_first_step_to_their_last(
    suite: &Suite,
) -> anyhow::Result<()> {
    let olga = Operator::of(suite)?;
    let tea = suite.shop.admin().create_product("Tea", 1_000, 10).await?;
    let kim = suite.shop.new_customer("kim");
    kim.charge(50_000).await?;
    let order = kim.place_order(&[(&tea.product_id, 2)]).await?;
    ensure!(kim.wait_for(order.order_id).await?.status == OrderStatus::Confirmed);
    let forward = [
        "order-created",
        "order-line-placed",
        "stock-deducted",
        "order-reserved",
        "point-deducted",
        "payment-completed",
        "order-confirmed",
    ];
    let saga = olga.saga(order.order_id, "COMPLETED", PATIENCE).await?;
    ensure!(events(&saga) == forward, "{saga}");
    ensure!(saga["traceId"] == json!(order.trace_id), "{saga}");

    kim.cancel(order.order_id).await?;
    let saga = olga.saga(order.trace_id, "COMPENSATED", PATIENCE).await?;
    let mut undone: Vec<&str> = events(&saga)[forward.len()..].to_vec();
    undone[1..].sort_unstable();
    ensure!(undone == ["order-cancelled", "payment-refunded", "point-refunded", "stock-restored"], "{saga}");
    ensure!(saga["mismatched"] == false, "{saga}");
    let all_undone = saga["pairs"].as_array().context("pairs")?.iter().all(|pair| pair["undone"] == true);
    ensure!(all_undone, "{saga}");
    // Also of product-catalog, which is written in transactions.
    eventually("nobody is behind in a quiet suite", PATIENCE, async || {
        let groups = olga.look("/api/consumers").await?;
        let items = groups["items"].as_array().context("items")?;
        let behind: Vec<&Value> = items.iter().filter(|item| item["lag"] != 0).collect();
        ensure!(!items.is_empty() && behind.is_empty(), "{behind:?}");
        Ok(())
    })
    .await
}

pub(crate) async fn an_issued_coupon_reads_right_and_says_where_its_request_is(suite: &Suite) -> anyhow::Result<()> {
    let olga = Operator::of(suite)?;
    let new = NewCoupon::of(CouponMode::Set, 1, Discount::Amount { value: 1_000 });
    let coupon = suite.shop.admin().create_coupon(&new).await?;
    let admitted = suite.shop.new_customer("kim").ask_for(&coupon.coupon_id).await?;
    let saga = olga.saga(admitted.trace_id, "COMPLETED", PATIENCE).await?;
    ensure!(saga["type"] == "coupon-issue", "{saga}");
    ensure!(events(&saga) == ["coupon-issue-requested", "coupon-issued"], "{saga}");
    let request = saga["key"].as_str().context("a key")?;
    let found = olga.look(&format!("/api/where/{request}")).await?;
    let states: Vec<&Value> =
        found["groups"].as_array().context("groups")?.iter().map(|group| &group["state"]).collect();
    ensure!(states == [&json!("applied"), &json!("applied")], "{found}");
    Ok(())
}

pub(crate) async fn away_under_load_it_disturbs_nobody_and_its_log_is_complete_when_it_is_back(
    suite: &Suite,
) -> anyhow::Result<()> {
    let olga = Operator::of(suite)?;
    // Tests before may have given it reasons. A cause alarms once as long as it is open: a false alarm would join it.
    for kind in ["stuck", "mismatched"] {
        olga.no_alarm_is_left(kind, PATIENCE).await?;
    }
    let before = olga.alarms_about_sagas().await?;
    let rush = Rush::begin(suite, 40).await?;
    rush.until_more_accepted(80).await?;
    suite.kill(Service::SagaMonitor)?;
    let away_since = Instant::now();
    rush.until_more_accepted(200).await?;
    // So long that each saga of that time would be called stuck by who knew only that it hasn't heard of it.
    tokio::time::sleep((STUCK_AFTER_OF_SHARED * 3 / 2).saturating_sub(away_since.elapsed())).await;
    suite.run(Service::SagaMonitor).await?;
    rush.until_more_accepted(40).await?;
    rush.end().await?;
    suite.until_quiet().await?;
    let written = suite.groups()?.written().await?;
    let heard: BTreeMap<(String, i32), i64> = written
        .into_iter()
        .map(|((topic, partition), end)| ((suite.names().bare(&topic).to_owned(), partition), end))
        .filter(|((topic, _), end)| *end > 0 && is_heard(topic))
        .collect();
    let database = suite.database(Service::SagaMonitor).await?;
    let rows = database
        .query(r#"SELECT topic, "partition", count(*) FROM saga_state_log GROUP BY topic, "partition""#, &[])
        .await?;
    let logged: BTreeMap<(String, i32), i64> = rows
        .iter()
        .map(|row| ((row.get::<_, String>(0), row.get(1)), row.get(2)))
        .filter(|((topic, _), _)| is_heard(topic))
        .collect();
    ensure!(heard == logged, "written {heard:?}, in the log {logged:?}");
    olga.has_judged(PATIENCE).await?;
    let alarms = olga.alarms_about_sagas().await?;
    ensure!(alarms == before, "healthy sagas are called stuck or mismatched: {alarms:?}, before {before:?}");
    Ok(())
}

fn is_heard(topic: &str) -> bool {
    topic.parse::<Topic>().is_ok_and(|topic| topic.spec().readers.contains(&Service::SagaMonitor))
}

/// How long a saga of these suites may stand still.
const STUCK_AFTER: Duration = Duration::from_secs(3);

/// A suite whose sagas are stuck soon.
async fn hasty(retry_delays: &str, parked_interval: &str) -> anyhow::Result<Suite> {
    let stuck_after = format!("{}s", STUCK_AFTER.as_secs());
    let variables = [
        ("STUCK_AFTER", &*stuck_after),
        ("FAULT_INJECTION", "true"),
        ("RETRY_IMMEDIATE", "1"),
        ("RETRY_DELAYS", retry_delays),
        ("PARKED_ATTEMPTS", "1"),
        ("PARKED_INTERVAL", parked_interval),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Suite::start(Settings { variables, ..Settings::default() }).await
}

/// A stall's ingredients: tea on the shelf, and Kim who can pay.
struct Stage<'s> {
    suite: &'s Suite,
    olga: Operator<'s>,
    kim: Customer,
    tea: Product,
}

impl<'s> Stage<'s> {
    async fn set(suite: &'s Suite) -> anyhow::Result<Self> {
        let tea = suite.shop.admin().create_product("Tea", 1_000, 5_000).await?;
        let kim = suite.shop.new_customer("kim");
        kim.charge(5_000_000).await?;
        let stage = Self { suite, olga: Operator::of(suite)?, kim, tea };
        // Catalogue and groups are warm.
        let order = stage.order().await?;
        stage.ends(order).await?;
        Ok(stage)
    }

    async fn order(&self) -> anyhow::Result<OrderId> {
        Ok(self.kim.place_order(&[(&self.tea.product_id, 1)]).await?.order_id)
    }

    /// The order is confirmed, and no alarm is left.
    async fn ends(&self, order: OrderId) -> anyhow::Result<()> {
        self.olga.saga(order, "COMPLETED", PATIENCE).await?;
        self.olga.no_alarm_is_left("stuck", PATIENCE).await
    }

    async fn one_stuck(&self, cause: &str, count: i64) -> anyhow::Result<Value> {
        self.olga.one_alarm("stuck", cause, count, PATIENCE).await
    }

    async fn resume_is_refused(&self, order: OrderId, code: &str) -> anyhow::Result<()> {
        let (status, problem) = self.olga.resume(order).await?;
        ensure!(status == 409 && problem["code"] == code, "{status} {problem}");
        Ok(())
    }

    /// Makes product-service fail at lines of the tea.
    async fn fault(&self, kind: &str) -> anyhow::Result<()> {
        let body = json!({
            "kind": kind, "topic": "order-line-placed", "key": self.tea.product_id, "reason": "a test",
        });
        let (status, answer) = self.olga.ask(Service::Product, Method::PUT, "/admin/faults", Some(&body)).await?;
        ensure!(status < 300, "{status} {answer}");
        Ok(())
    }

    async fn no_fault(&self) -> anyhow::Result<()> {
        let (status, answer) = self.olga.ask(Service::Product, Method::DELETE, "/admin/faults", None).await?;
        ensure!(status < 300, "{status} {answer}");
        Ok(())
    }
}

pub(crate) async fn each_stall_has_one_alarm_with_its_cause_and_a_resume_ends_what_can_be_resumed() -> anyhow::Result<()>
{
    let suite = hasty("12s,12s,12s", "12s").await?;
    let stage = Stage::set(&suite).await?;
    a_monitor_that_was_away(&stage).await.context("the monitor itself")?;
    a_dead_consumer(&stage).await.context("consumer dead")?;
    a_lost_answer(&stage).await.context("answer lost")?;
    a_lost_event(&stage).await.context("event lost")?;
    an_event_that_is_tried_again_and_one_behind_it(&stage).await.context("in a retry tier")?;
    a_dead_event(&stage).await.context("dead-lettered")
}

/// Sagas began and ended while it was away, for thrice as long as one may stand still: ten minutes, scaled.
async fn a_monitor_that_was_away(stage: &Stage<'_>) -> anyhow::Result<()> {
    let alarms = stage.olga.alarms_about_sagas().await?;
    let mut orders = vec![stage.order().await?];
    stage.suite.kill(Service::SagaMonitor)?;
    let since = Instant::now();
    while since.elapsed() < STUCK_AFTER * 3 {
        let order = stage.order().await?;
        ensure!(stage.kim.wait_for(order).await?.status == OrderStatus::Confirmed);
        orders.push(order);
    }
    stage.suite.run(Service::SagaMonitor).await?;
    for order in orders {
        stage.olga.saga(order, "COMPLETED", PATIENCE).await?;
    }
    stage.olga.has_judged(PATIENCE).await?;
    let now = stage.olga.alarms_about_sagas().await?;
    ensure!(now == alarms, "{alarms:?} alarms before it was away, {now:?} since");
    Ok(())
}

async fn a_dead_consumer(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.suite.kill(Service::Product)?;
    let (order, other) = (stage.order().await?, stage.order().await?);
    stage.one_stuck("CONSUMER_DEAD", 2).await?;
    stage.suite.run(Service::Product).await?;
    stage.ends(order).await?;
    stage.ends(other).await
}

/// The work is done, and what is said of it gets lost on its way into the outbox: an answer, the next step of whoever joins
/// them, an undo, and a coupon.
async fn a_lost_answer(stage: &Stage<'_>) -> anyhow::Result<()> {
    for (service, topic) in [(Service::Product, "stock-deducted"), (Service::Order, "order-reserved")] {
        let order = loses(stage, service, topic, async || stage.order().await).await.context(topic)?;
        is_told_again(stage, order, service).await.context(topic)?;
        stage.ends(order).await.context(topic)?;
        stage.resume_is_refused(order, "nothing-owed").await?;
    }
    let order = stage.order().await?;
    stage.ends(order).await?;
    let cancels = async || Ok(stage.kim.cancel(order).await?);
    loses(stage, Service::Payment, "payment-refunded", cancels).await.context("an undo")?;
    is_told_again(stage, order, Service::Payment).await.context("an undo")?;
    stage.olga.saga(order, "COMPENSATED", PATIENCE).await.context("an undo")?;
    stage.olga.no_alarm_is_left("stuck", PATIENCE).await?;
    let new = NewCoupon::of(CouponMode::Set, 1, Discount::Amount { value: 1_000 });
    let coupon = stage.suite.shop.admin().create_coupon(&new).await?;
    let claims = async || Ok(stage.kim.ask_for(&coupon.coupon_id).await?);
    let admitted = loses(stage, Service::Coupon, "coupon-issued", claims).await.context("a coupon")?;
    let saga = stage.olga.look(&format!("/api/sagas/{}", admitted.trace_id)).await?;
    is_told_again(stage, saga["key"].as_str().context("a key")?, Service::Coupon).await.context("a coupon")?;
    stage.olga.saga(admitted.trace_id, "COMPLETED", PATIENCE).await?;
    stage.olga.no_alarm_is_left("stuck", PATIENCE).await
}

/// Has a service lose what it says on that topic until somebody does something, and his saga is stuck.
async fn loses<T>(
    stage: &Stage<'_>,
    service: Service,
    topic: &str,
    does: impl AsyncFnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let database = stage.suite.database(service).await?;
    let lose = format!(
        "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
         CREATE TRIGGER lose BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.topic = '{topic}')
         EXECUTE FUNCTION lose()"
    );
    database.batch_execute(&lose).await?;
    let done = does().await?;
    stage.one_stuck("ANSWER_LOST", 1).await?;
    database.batch_execute("DROP TRIGGER lose ON outbox; DROP FUNCTION lose()").await?;
    Ok(done)
}

/// The saga is resumed: who lost the answer gives it again.
async fn is_told_again(stage: &Stage<'_>, saga: impl Display, service: Service) -> anyhow::Result<()> {
    let (status, resumed) = stage.olga.resume(saga).await?;
    ensure!(status == 202 && resumed["asked"][0]["group"] == service.name(), "{status} {resumed}");
    Ok(())
}

/// A row of the outbox is deleted before it was published. The request that caused it can't be made again; the
/// order can be cancelled.
async fn a_lost_event(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.suite.stop(Service::OutboxRelay, Instance::First)?;
    let order = stage.order().await?;
    let database = stage.suite.database(Service::Order).await?;
    let lost = database.execute("DELETE FROM outbox WHERE topic = 'order-line-placed'", &[]).await?;
    ensure!(lost == 1, "{lost} rows");
    stage.suite.cont(Service::OutboxRelay, Instance::First)?;
    stage.one_stuck("EVENT_LOST", 1).await?;
    stage.resume_is_refused(order, "event-lost").await?;
    stage.kim.cancel(order).await?;
    stage.olga.saga(order, "COMPENSATED", PATIENCE).await?;
    stage.olga.no_alarm_is_left("stuck", PATIENCE).await
}

async fn an_event_that_is_tried_again_and_one_behind_it(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.fault("transient").await?;
    let head = stage.order().await?;
    eventually("the first is on the ladder", PATIENCE, async || {
        let saga = stage.olga.look(&format!("/api/sagas/{head}")).await?;
        let retried = saga["steps"].as_array().into_iter().flatten().any(|step| step["status"] == "RETRYING");
        ensure!(retried, "{saga}");
        Ok(())
    })
    .await?;
    let follower = stage.order().await?;
    stage.one_stuck("RETRYING", 2).await?;
    let saga = stage.olga.look(&format!("/api/sagas/{follower}")).await?;
    ensure!(saga["cause"] == "WAITING_BEHIND", "{saga}");
    stage.resume_is_refused(head, "event-in-ladder").await?;
    stage.resume_is_refused(follower, "event-waiting").await?;
    stage.no_fault().await?;
    stage.ends(head).await?;
    stage.ends(follower).await
}

async fn a_dead_event(stage: &Stage<'_>) -> anyhow::Result<()> {
    stage.fault("unprocessable").await?;
    let order = stage.order().await?;
    stage.one_stuck("DEAD", 1).await?;
    stage.olga.one_alarm("dead-letter", "DEAD_LETTERS", 1, PATIENCE).await?;
    stage.resume_is_refused(order, "event-dead").await?;
    stage.no_fault().await?;
    let replay = json!({"filter": {"state": "DEAD"}, "to": "group", "reason": "it works again"});
    let (status, answer) =
        stage.olga.ask(Service::Product, Method::POST, "/admin/dead-letters/replay", Some(&replay)).await?;
    ensure!(status == 202, "{status} {answer}");
    stage.ends(order).await?;
    stage.olga.no_alarm_is_left("dead-letter", PATIENCE).await
}

pub(crate) async fn a_parked_event_has_one_alarm_that_says_so() -> anyhow::Result<()> {
    let suite = hasty("200ms,200ms,200ms", "15s").await?;
    let stage = Stage::set(&suite).await?;
    stage.fault("transient").await?;
    let order = stage.order().await?;
    stage.one_stuck("PARKED", 1).await?;
    stage.resume_is_refused(order, "event-in-ladder").await?;
    stage.no_fault().await?;
    stage.ends(order).await
}
