//! Problems as browsers see them, where a service has pages for people.

use actix_web::{
    Error, HttpResponse,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
};

use crate::Problem;

/// How a service shows problems to browsers, as the app's data. Without it everybody gets JSON.
#[derive(Clone, Copy)]
pub struct ProblemPages {
    /// Whether who asks so gets a page.
    pub are_for: fn(&ServiceRequest) -> bool,
    /// The page, with the problem's status and headers.
    pub show: fn(&Problem) -> HttpResponse,
}

impl ProblemPages {
    /// Those that this request's problem would be shown by.
    pub(super) fn of(request: &ServiceRequest) -> Option<Self> {
        request.app_data::<Self>().filter(|pages| (pages.are_for)(request)).copied()
    }

    /// Puts the page in the place of the problem, if it is one.
    pub(super) fn instead(
        self,
        outcome: Result<ServiceResponse<BoxBody>, Error>,
    ) -> Result<ServiceResponse<BoxBody>, Error> {
        let page = |error: &Error| error.as_error::<Problem>().map(|problem| (self.show)(problem));
        match outcome {
            Ok(response) => match response.response().error().and_then(page) {
                Some(page) => Ok(response.into_response(page)),
                None => Ok(response),
            },
            Err(error) => Err(match page(&error) {
                Some(page) => InternalError::from_response(error, page).into(),
                None => error,
            }),
        }
    }
}
