//! The operators' calls, the same in every service (docs/contract.md §5): dead letters, their replay and discard,
//! where an event stands, who did what; and the fault switch.
//!
//! A service mounts them all with one call, beside its own routes:
//!
//! ```ignore
//! let consumer = Consumer::start(&runtime, pool.clone(), events::subscriptions())?;
//! let served = runtime.serve(messaging::admin::beside(&runtime, &consumer, http::routes(pool))).await;
//! consumer.stop().await?;
//! ```
//!
//! Who is no operator is refused. Whatever changes something, and whatever is refused of it, is written into
//! `audit_log`, which nobody can change ([`audit`]).
//!
//! A service that owes somebody an answer about an event which an operator discards gives it with
//! [`Subscriptions::when_discarded`](crate::Subscriptions::when_discarded). A handler for which an event came
//! too late says so with [`Tx::came_too_late`](crate::Tx::came_too_late): a dry run shows it.

mod audit;
mod discard;
mod faults;
mod inbox;
mod justification;
mod letters;
mod replay;
mod selection;
mod shown;

use std::{sync::Arc, time::Duration};

use actix_web::web::Data;
use chrono::NaiveDate;
use futures::FutureExt;
use service_runtime::{
    Problem, Runtime, Tasks, chain, database::Pool, http::Routes, settings::CommonSettings, tasks::Rounds,
};
use tokio::sync::Notify;
use url::Url;

use self::replay::runner::{LOOK_EVERY, Runner};
pub use self::{
    audit::{Act, Action},
    justification::Justification,
};
use crate::{Consumer, delivery::Group, direct};

/// What an operator is told to wait when the database is away.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// A consumer group as its operators see it. Cheap to clone.
#[derive(Clone)]
pub struct Office(Arc<Inner>);

struct Inner {
    group: Arc<Group>,
    zipkin: Url,
    fault_injection: bool,
    /// A replay was asked for.
    asked: Arc<Notify>,
}

impl Office {
    /// The office of this group.
    pub fn of(group: Arc<Group>, settings: &CommonSettings) -> Self {
        Self(Arc::new(Inner {
            group,
            zipkin: settings.traces.zipkin_endpoint.clone(),
            fault_injection: settings.fault_injection,
            asked: Arc::default(),
        }))
    }

    /// The operators' calls.
    pub fn routes(&self) -> Routes {
        let office = Data::new(self.clone());
        Routes::new(move |config| {
            config
                .app_data(office.clone())
                .service(letters::list_dead_letters)
                .service(letters::group_dead_letters)
                .service(replay::replay_dead_letters)
                .service(discard::discard_dead_letters)
                .service(letters::find_dead_letter)
                .service(replay::list_replays)
                .service(replay::find_replay)
                .service(replay::halt_replay)
                .service(inbox::find_in_inbox)
                .service(audit::list_audit)
                .service(faults::find_fault)
                .service(faults::set_fault)
                .service(faults::clear_fault)
                .app_data(Data::new(office.pool().clone()));
            direct::routes(config);
        })
    }

    /// Works on the service's replays. Every instance does; each step is one instance's.
    pub fn run_replays(&self, tasks: &Tasks) {
        let runner = Runner { group: Arc::clone(&self.0.group) };
        let rounds = Rounds::every("replays", LOOK_EVERY).woken_by(Arc::clone(&self.0.asked));
        tasks.repeat(rounds, runner, |runner| async { Ok(runner.step().await?) }.boxed());
    }

    fn group(&self) -> &Group {
        &self.0.group
    }

    fn pool(&self) -> &Pool {
        &self.0.group.pool
    }

    /// By the database's clock.
    async fn today(&self) -> Result<NaiveDate, Problem> {
        let now = self.group().clock.now(self.pool()).await;
        let now = now.map_err(|stalled| {
            tracing::warn!(error = chain(&stalled), "the database doesn't answer");
            Problem::unavailable("database-unavailable", "The database doesn't answer just now.", RETRY_AFTER)
        })?;
        Ok(now.date_naive())
    }

    fn allows_faults(&self) -> bool {
        self.0.fault_injection
    }

    fn wake_runner(&self) {
        self.0.asked.notify_one();
    }

    /// Where Zipkin shows the trace: its page lies beside where spans are sent.
    fn trace_url(&self, trace_id: &str) -> String {
        let mut url = self.0.zipkin.clone();
        url.set_path(&format!("/zipkin/traces/{trace_id}"));
        url.into()
    }
}

/// A service's routes and the operators' calls beside them, for [`Runtime::serve`]. From here on, this
/// instance takes its share in the service's replays.
pub fn beside(runtime: &Runtime, consumer: &Consumer, routes: Routes) -> Routes {
    let office = Office::of(Arc::clone(consumer.group()), &runtime.settings);
    office.run_replays(&runtime.tasks);
    routes.and(office.routes())
}
