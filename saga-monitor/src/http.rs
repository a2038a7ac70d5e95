//! The operators' API (docs/contract.md §7). Everything here asks for an operator.

mod alarms;
pub(crate) mod consumers;
pub(crate) mod get_saga;
mod list_events;
pub(crate) mod list_sagas;
pub(crate) mod resume_saga;
pub(crate) mod view;
pub(crate) mod where_is;

use std::{sync::Arc, time::Duration};

use actix_web::web::Data;
use service_runtime::{Pool, Problem, http::Routes, settings::Url};

use crate::{
    cluster::{Cluster, Standing},
    consumers::Observed,
    services::Services,
};
pub use consumers::{ConsumerView, Consumers};
pub use get_saga::SagaDetail;
pub use view::{SagaView, StepView, WaitingFor};

/// What the endpoints stand on.
#[derive(Clone)]
pub struct Desk {
    /// The monitor's database.
    pub pool: Pool,
    /// Where Kafka is asked.
    pub cluster: Cluster,
    /// Where the services are asked.
    pub services: Services,
    /// What was last seen of groups and processes.
    pub observed: Observed,
    /// Zipkin's own address, in which traces are shown.
    pub zipkin: Url,
}

impl Desk {
    /// Where a trace is shown.
    pub(crate) fn zipkin_url(&self, trace: common_events::TraceId) -> String {
        let mut url = self.zipkin.clone();
        url.set_path(&format!("/zipkin/traces/{trace}"));
        url.set_query(None);
        url.into()
    }

    /// How the cluster stands now; `None`, with a line in the log, when it doesn't answer.
    pub(crate) async fn look(&self) -> Option<Standing> {
        let looked = self.cluster.look().await;
        looked.inspect_err(|error| tracing::warn!(error = format!("{error:#}"), "Kafka doesn't answer")).ok()
    }
}

/// Every route of this service.
pub fn routes(desk: Desk) -> Routes {
    let desk = Data::from(Arc::new(desk));
    Routes::new(move |config| {
        config
            .app_data(desk.clone())
            .service(list_sagas::list_sagas)
            .service(get_saga::get_saga)
            .service(resume_saga::resume_saga)
            .service(alarms::list_alarms)
            .service(alarms::acknowledge_alarm)
            .service(list_events::list_events)
            .service(where_is::where_is)
            .service(consumers::list_consumers);
    })
}

/// What an operator is told to wait when somebody who has to be asked is away.
const AFTER_SILENCE: Duration = Duration::from_secs(2);

/// 503: Kafka can't say where groups stand.
fn kafka_unavailable() -> Problem {
    Problem::unavailable("kafka-unavailable", "Kafka doesn't answer just now.", AFTER_SILENCE)
}
