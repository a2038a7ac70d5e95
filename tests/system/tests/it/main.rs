//! The suite end to end, as processes on real parts (ARCHITECTURE.md, "Tests").
//!
//! Tests run one after the other, as they freeze, kill and measure. Most share one suite, and those that switch
//! parts off share another, with parts of its own: after each test the law has to hold, and one that fails takes its
//! suite with it, so that the next begins with a new one.

mod at_once;
mod browser;
mod crashes;
mod ladder;
mod monitor;
mod outages;
mod page;
mod purchases;
mod replay;
mod sales;
mod sales_outages;
mod stopping;
mod tracing;

use std::sync::{Arc, Mutex};

use anyhow::Context;
use futures::{FutureExt, future::LocalBoxFuture};
use libtest_mimic::{Arguments, Failed, Trial};
use system::{Settings, Suite, law, parts::OwnParts, suite::logs_of_this_process};
use tokio::runtime::Runtime;

/// What tests share, while none of them uses it.
type Shared<T> = Arc<Mutex<Option<T>>>;
/// A suite and the parts it runs on. The suite goes first.
struct WithParts(Suite, OwnParts);
type OnShared = for<'s> fn(&'s Suite) -> LocalBoxFuture<'s, anyhow::Result<()>>;
type OnOwnParts = for<'s> fn(&'s OwnParts, &'s Suite) -> LocalBoxFuture<'s, anyhow::Result<()>>;
type Alone = fn() -> LocalBoxFuture<'static, anyhow::Result<()>>;

macro_rules! on_shared {
    ($($module:ident :: $test:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($test)), (|suite| $module::$test(suite).boxed_local()) as OnShared)),+]
    };
}

macro_rules! on_own_parts {
    ($($module:ident :: $test:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($test)), (|parts, suite| $module::$test(parts, suite).boxed_local()) as OnOwnParts)),+]
    };
}

macro_rules! alone {
    ($($module:ident :: $test:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($test)), (|| $module::$test().boxed_local()) as Alone)),+]
    };
}

fn main() -> anyhow::Result<()> {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("a runtime")?,
    );
    let (shared, with_parts) = (Shared::<Suite>::default(), Shared::<WithParts>::default());
    let on_shared = on_shared![
        purchases::a_purchase_takes_stock_and_points_and_shows_in_the_ranking,
        purchases::out_of_stock_on_the_second_line_gives_the_first_back,
        purchases::without_enough_points_the_stock_goes_back,
        purchases::a_closed_account_buys_nothing_and_the_stock_goes_back,
        purchases::above_the_limit_of_the_account_the_stock_goes_back,
        purchases::a_cancel_after_confirmed_gives_points_stock_and_ranking_back,
        at_once::forty_buyers_get_exactly_the_twenty_five_pieces,
        at_once::one_idempotency_key_sent_eight_times_at_once_is_one_order,
        at_once::who_is_refused_may_send_the_same_again_at_once,
        sales::six_hundred_users_who_ask_nine_hundred_times_get_exactly_the_hundred_coupons,
        sales::ranks_are_given_without_gap_and_each_gets_the_reward_of_his_rank,
        sales::an_order_paid_with_a_coupon_and_cancelled_gives_the_coupon_back,
        sales::somebody_elses_coupon_is_refused_and_the_stock_goes_back,
        sales::killed_between_gate_and_kafka_at_full_load_nobody_is_lost_and_nobody_served_twice,
        sales::killed_between_kafka_and_database_at_full_load_nobody_is_lost_and_nobody_served_twice,
        tracing::a_purchase_is_one_trace_over_all_services_without_a_broken_parent,
        monitor::a_confirmed_and_a_compensated_order_read_from_their_first_step_to_their_last,
        monitor::an_issued_coupon_reads_right_and_says_where_its_request_is,
        monitor::away_under_load_it_disturbs_nobody_and_its_log_is_complete_when_it_is_back,
        crashes::killed_under_load_each_program_loses_and_doubles_nothing,
        crashes::a_frozen_relay_that_wakes_after_its_stand_by_took_over_does_no_harm,
        crashes::two_instances_of_each_service_share_the_work,
        replay::replaying_every_topic_from_the_first_record_changes_nothing,
        stopping::each_program_stops_within_five_seconds_while_idle_clients_hang_on,
    ];
    let on_own_parts = on_own_parts![
        sales_outages::without_kafka_for_thirty_seconds_every_admission_is_kept_and_goes_to_its_topic_later,
        sales_outages::flushall_in_mid_sale_closes_the_gate_until_it_is_rebuilt,
        sales_outages::redis_restarted_without_its_data_in_mid_sale_is_rebuilt,
        sales_outages::redis_restarted_with_stale_data_in_mid_sale_is_rebuilt,
    ];
    let alone = alone![
        ladder::while_the_platform_is_down_payments_climb_and_then_each_arrives_once,
        ladder::killed_between_the_call_and_the_commit_it_calls_again_with_the_same_key,
        ladder::an_event_fails_climbs_dies_and_is_replayed_by_sagactl,
        purchases::a_payment_that_completes_after_the_timeout_is_refunded,
        monitor::each_stall_has_one_alarm_with_its_cause_and_a_resume_ends_what_can_be_resumed,
        monitor::a_parked_event_has_one_alarm_that_says_so,
        page::an_operator_finds_what_is_wrong_and_mends_it_by_clicks,
        stopping::a_wrong_setting_stops_the_start_with_one_line_that_names_it,
        outages::without_kafka_orders_are_still_taken_and_end_once_it_is_back,
        outages::a_restart_of_postgresql_loses_no_acknowledged_order,
        sales_outages::with_a_second_cluster_admissions_are_kept_there_while_the_first_is_away,
    ];
    let mut trials: Vec<Trial> = on_shared
        .into_iter()
        .map(|(name, test)| {
            let (runtime, shared) = (Arc::clone(&runtime), Arc::clone(&shared));
            Trial::test(name, move || as_outcome(run_on_shared(&runtime, &shared, test)))
        })
        .collect();
    trials.extend(on_own_parts.into_iter().map(|(name, test)| {
        let (runtime, with_parts) = (Arc::clone(&runtime), Arc::clone(&with_parts));
        Trial::test(name, move || as_outcome(run_on_own_parts(&runtime, &with_parts, test)))
    }));
    trials.extend(alone.into_iter().map(|(name, test)| {
        let runtime = Arc::clone(&runtime);
        Trial::test(name, move || as_outcome(runtime.block_on(test())))
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop((taken(&shared), taken(&with_parts)));
    let logs = logs_of_this_process();
    if conclusion.has_failed() {
        eprintln!("the programs' logs are in {}", logs.display());
    } else {
        let _ = std::fs::remove_dir_all(logs);
    }
    conclusion.exit()
}

fn run_on_shared(runtime: &Runtime, shared: &Shared<Suite>, test: OnShared) -> anyhow::Result<()> {
    let suite = match taken(shared) {
        Some(suite) => suite,
        None => runtime.block_on(Suite::start(Settings::default())).context("starting the suite")?,
    };
    runtime.block_on(async {
        test(&suite).await?;
        law::holds(&suite).await
    })?;
    give_back(shared, suite);
    Ok(())
}

fn run_on_own_parts(runtime: &Runtime, shared: &Shared<WithParts>, test: OnOwnParts) -> anyhow::Result<()> {
    let both = match taken(shared) {
        Some(both) => both,
        None => runtime.block_on(start_with_parts())?,
    };
    runtime.block_on(async {
        let WithParts(suite, parts) = &both;
        test(parts, suite).await?;
        law::holds(suite).await
    })?;
    give_back(shared, both);
    Ok(())
}

async fn start_with_parts() -> anyhow::Result<WithParts> {
    let parts = OwnParts::up().await.context("starting parts")?;
    let settings = Settings { parts: parts.addresses().clone(), ..Settings::default() };
    Ok(WithParts(Suite::start(settings).await.context("starting the suite")?, parts))
}

fn taken<T>(shared: &Shared<T>) -> Option<T> {
    shared.lock().ok().and_then(|mut shared| shared.take())
}

fn give_back<T>(shared: &Shared<T>, value: T) {
    if let Ok(mut shared) = shared.lock() {
        *shared = Some(value);
    }
}

fn as_outcome(result: anyhow::Result<()>) -> Result<(), Failed> {
    result.map_err(|error| Failed::from(format!("{error:#}")))
}
