//! The calls of a service, to be mounted on the app of each worker.

use std::sync::Arc;

use utoipa_actix_web::service_config::ServiceConfig;

/// Calls that are mounted together. Cheap to clone.
///
/// One type, whatever they need to answer: so the server is compiled once, here, and not again in every program and
/// every test.
#[derive(Clone)]
pub struct Routes(Arc<dyn Fn(&mut ServiceConfig<'_>) + Send + Sync>);

impl Routes {
    /// Calls that are mounted so, once per worker.
    pub fn new(mount: impl Fn(&mut ServiceConfig<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(mount))
    }

    /// No calls but those that every service answers.
    pub fn none() -> Self {
        Self::new(|_| ())
    }

    /// These, and then the others.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self::new(move |config| {
            self.mount(config);
            others.mount(config);
        })
    }

    pub(super) fn mount(&self, config: &mut ServiceConfig<'_>) {
        (self.0)(config);
    }
}
