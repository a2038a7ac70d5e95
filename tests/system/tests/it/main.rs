//! The suite end to end, as processes on real parts (ARCHITECTURE.md, "Tests").
//!
//! They freeze, kill and wait, so few run side by side: each belongs to a lane, in which one runs after the other.
//! Most share one suite, and those that switch parts off share another, with parts of its own: after each test the
//! law has to hold, and one that fails takes its suite with it, so that the next begins with a new one.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

mod at_once;
mod browser;
mod crashes;
mod figures;
mod ladder;
mod lane;
mod monitor;
mod outages;
mod page;
mod purchases;
mod replay;
mod sales;
mod sales_outages;
mod stopping;
mod tracing;

use anyhow::Context;
use futures::{FutureExt, future::LocalBoxFuture};
use lane::{Lane, Needs};
use libtest_mimic::{Arguments, Trial};
use system::{Settings, Suite, law, parts::OwnParts, suite::logs_of_this_process};
use tokio::runtime::Runtime;

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
        tracing::a_refused_order_and_what_it_gives_back_are_one_trace,
        tracing::a_coupon_from_its_claim_to_its_return_is_two_traces,
        monitor::a_confirmed_and_a_compensated_order_read_from_their_first_step_to_their_last,
        monitor::an_issued_coupon_reads_right_and_says_where_its_request_is,
        monitor::away_under_load_it_disturbs_nobody_and_its_log_is_complete_when_it_is_back,
        crashes::killed_under_load_each_program_loses_and_doubles_nothing,
        crashes::a_frozen_relay_that_wakes_after_its_stand_by_took_over_does_no_harm,
        crashes::two_instances_of_each_service_share_the_work,
        replay::replaying_every_topic_from_the_first_record_changes_nothing,
        figures::each_program_says_of_its_figures_what_they_are,
        stopping::each_program_stops_within_five_seconds_while_idle_clients_hang_on,
    ];
    let on_own_parts = on_own_parts![
        outages::without_kafka_orders_are_still_taken_and_end_once_it_is_back,
        outages::a_restart_of_postgresql_loses_no_acknowledged_order,
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
        stopping::a_wrong_setting_stops_the_start_with_one_line_that_names_it,
        sales_outages::with_a_second_cluster_admissions_are_kept_there_while_the_first_is_away,
    ];
    let measuring = alone![page::an_operator_finds_what_is_wrong_and_mends_it_by_clicks];
    // Every trial waits in its lane for its turn.
    let lanes = (Lane::open(run_on_shared)?, Lane::open(run_on_own_parts)?, Lane::open(run_alone)?);
    let trials = on_shared.into_iter().map(|(name, test)| lanes.0.trial(name, test, Needs::Some));
    let trials = trials.chain(on_own_parts.into_iter().map(|(name, test)| lanes.1.trial(name, test, Needs::Some)));
    let trials = trials.chain(alone.into_iter().map(|(name, test)| lanes.2.trial(name, test, Needs::Some)));
    let trials = trials.chain(measuring.into_iter().map(|(name, test)| lanes.2.trial(name, test, Needs::All)));
    let trials: Vec<Trial> = trials.collect();
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(trials.len());
    let conclusion = libtest_mimic::run(&arguments, trials);
    lanes.0.close();
    lanes.1.close();
    lanes.2.close();
    let logs = logs_of_this_process();
    if conclusion.has_failed() {
        eprintln!("the programs' logs are in {}", logs.display());
    } else {
        let _ = std::fs::remove_dir_all(logs);
    }
    conclusion.exit()
}

fn run_on_shared(runtime: &Runtime, shared: &mut Option<Suite>, test: OnShared) -> anyhow::Result<()> {
    let suite = if let Some(suite) = shared.take() {
        suite
    } else {
        let stuck_after = format!("{}s", monitor::STUCK_AFTER_OF_SHARED.as_secs());
        let variables = vec![("STUCK_AFTER".to_owned(), stuck_after)];
        let settings = Settings { variables, ..Settings::default() };
        runtime.block_on(Suite::start(settings)).context("starting the suite")?
    };
    runtime.block_on(async {
        test(&suite).await?;
        law::holds(&suite).await
    })?;
    *shared = Some(suite);
    Ok(())
}

fn run_on_own_parts(runtime: &Runtime, shared: &mut Option<WithParts>, test: OnOwnParts) -> anyhow::Result<()> {
    let both = match shared.take() {
        Some(both) => both,
        None => runtime.block_on(start_with_parts())?,
    };
    runtime.block_on(async {
        let WithParts(suite, parts) = &both;
        test(parts, suite).await?;
        law::holds(suite).await
    })?;
    *shared = Some(both);
    Ok(())
}

fn run_alone(runtime: &Runtime, _nothing: &mut Option<()>, test: Alone) -> anyhow::Result<()> {
    runtime.block_on(test())
}

async fn start_with_parts() -> anyhow::Result<WithParts> {
    let parts = OwnParts::up().await.context("starting parts")?;
    let settings = Settings { parts: parts.addresses().clone(), ..Settings::default() };
    Ok(WithParts(Suite::start(settings).await.context("starting the suite")?, parts))
}
