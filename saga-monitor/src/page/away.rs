//! Asking services for a page: each answers for itself, within the time that somebody waits for a page, and one that
//! is away is named in place of what it would have said.

use std::time::Duration;

use common_events::Service;
use futures::future::join_all;
use serde::de::DeserializeOwned;
use service_runtime::Problem;
use tokio::time::timeout;

use crate::services::{Question, Services, Trouble};

/// A page waits for nobody longer than this.
const AT_MOST: Duration = Duration::from_secs(1);

/// A service that didn't say what it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Away {
    pub(super) service: Service,
    /// What is wrong, for people.
    pub(super) says: String,
}

impl Away {
    fn of(service: Service, trouble: &Trouble) -> Self {
        let says = match trouble {
            Trouble::Away(why) => format!("{service} does not answer ({why})."),
            Trouble::Refused { status, detail, .. } => {
                format!("{service} refuses to say it ({}): {detail}", status.as_u16())
            }
            Trouble::Odd(_) => format!("What {service} answers can't be read; it may be of another release."),
        };
        Self { service, says }
    }
}

/// What each said, and who didn't.
pub(super) struct Said<T> {
    pub(super) answers: Vec<(Service, T)>,
    pub(super) away: Vec<Away>,
}

/// Asks all that are known here the same.
pub(super) async fn ask_all<T: DeserializeOwned>(services: &Services, question: &Question) -> Said<T> {
    let asked = services.names().map(async |service| (service, ask(services, service, question).await));
    let mut said = Said { answers: Vec::new(), away: Vec::new() };
    for (service, answer) in join_all(asked).await {
        match answer {
            Ok(answer) => said.answers.push((service, answer)),
            Err(trouble) => said.away.push(Away::of(service, &trouble)),
        }
    }
    said
}

/// Asks one of them.
pub(super) async fn ask_one<T: DeserializeOwned>(
    services: &Services,
    service: Service,
    question: &Question,
) -> Result<T, Trouble> {
    ask(services, service, question).await
}

async fn ask<T: DeserializeOwned>(services: &Services, service: Service, question: &Question) -> Result<T, Trouble> {
    let answer = timeout(AT_MOST, services.ask(service, question)).await;
    let answer = answer.map_err(|_| Trouble::Away(format!("nothing within {} s", AT_MOST.as_secs())))??;
    serde_json::from_value(answer).map_err(|error| Trouble::Odd(error.to_string()))
}

/// The service that a path names.
pub(super) fn known(services: &Services, name: &str) -> Result<Service, Problem> {
    let known = name.parse::<Service>().ok().filter(|service| services.knows(*service));
    known.ok_or_else(|| Problem::not_found("service"))
}

/// In one sentence, what is shown in place of what a service would have said.
pub(super) fn away_says(service: Service, trouble: &Trouble) -> String {
    Away::of(service, trouble).says
}

/// What a service that was asked to do something made of it, for people. Only its own word says that nothing was done.
pub(super) fn refusal(service: Service, trouble: &Trouble) -> (u16, String) {
    match trouble {
        Trouble::Refused { status, detail, .. } => (status.as_u16(), format!("Nothing was done: {detail}")),
        Trouble::Away(_) | Trouble::Odd(_) => {
            let says = Away::of(service, trouble).says;
            (503, format!("Whether it was done is not known: {says} The audit log tells, once the service answers."))
        }
    }
}
