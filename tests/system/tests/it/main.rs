//! The suite end to end, as processes on real parts (DESIGN §7, layer 4).
//!
//! Tests run one after the other, as they freeze, kill and measure. Most share one suite: after each the law
//! has to hold, and a test that fails takes its suite with it, so that the next begins with a new one.

mod at_once;
mod crashes;
mod outages;
mod purchases;
mod replay;
mod stopping;
mod tracing;

use std::sync::{Arc, Mutex};

use anyhow::Context;
use futures::{FutureExt, future::LocalBoxFuture};
use libtest_mimic::{Arguments, Failed, Trial};
use system::{Settings, Suite, law, suite::logs_of_this_process};
use tokio::runtime::Runtime;

/// The suite that tests share, while none of them uses it.
type Shared = Arc<Mutex<Option<Suite>>>;
type OnShared = for<'s> fn(&'s Suite) -> LocalBoxFuture<'s, anyhow::Result<()>>;
type Alone = fn() -> LocalBoxFuture<'static, anyhow::Result<()>>;

macro_rules! on_shared {
    ($($module:ident :: $test:ident),+ $(,)?) => {
        [$((concat!(stringify!($module), "::", stringify!($test)), (|suite| $module::$test(suite).boxed_local()) as OnShared)),+]
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
    let shared = Shared::default();
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
        tracing::a_purchase_is_one_trace_over_all_services_without_a_broken_parent,
        crashes::killed_under_load_each_program_loses_and_doubles_nothing,
        crashes::a_frozen_relay_that_wakes_after_its_stand_by_took_over_does_no_harm,
        crashes::two_instances_of_each_service_share_the_work,
        replay::replaying_every_topic_from_the_first_record_changes_nothing,
        stopping::each_program_stops_within_five_seconds_while_idle_clients_hang_on,
    ];
    let alone = alone![
        purchases::a_payment_that_completes_after_the_timeout_is_refunded,
        stopping::a_wrong_setting_stops_the_start_with_one_line_that_names_it,
        outages::without_kafka_orders_are_still_taken_and_end_once_it_is_back,
        outages::a_restart_of_postgresql_loses_no_acknowledged_order,
    ];
    let mut trials: Vec<Trial> = on_shared
        .into_iter()
        .map(|(name, test)| {
            let (runtime, shared) = (Arc::clone(&runtime), Arc::clone(&shared));
            Trial::test(name, move || as_outcome(run_on_shared(&runtime, &shared, test)))
        })
        .collect();
    trials.extend(alone.into_iter().map(|(name, test)| {
        let runtime = Arc::clone(&runtime);
        Trial::test(name, move || as_outcome(runtime.block_on(test())))
    }));
    let conclusion = libtest_mimic::run(&arguments, trials);
    drop(shared.lock().map(|mut suite| suite.take()));
    let logs = logs_of_this_process();
    if conclusion.has_failed() {
        eprintln!("the programs' logs are in {}", logs.display());
    } else {
        let _ = std::fs::remove_dir_all(logs);
    }
    conclusion.exit()
}

fn run_on_shared(runtime: &Runtime, shared: &Shared, test: OnShared) -> anyhow::Result<()> {
    let kept = shared.lock().ok().and_then(|mut suite| suite.take());
    let suite = match kept {
        Some(suite) => suite,
        None => runtime.block_on(Suite::start(Settings::default())).context("starting the suite")?,
    };
    runtime.block_on(async {
        test(&suite).await?;
        law::holds(&suite).await
    })?;
    if let Ok(mut shared) = shared.lock() {
        *shared = Some(suite);
    }
    Ok(())
}

fn as_outcome(result: anyhow::Result<()>) -> Result<(), Failed> {
    result.map_err(|error| Failed::from(format!("{error:#}")))
}
