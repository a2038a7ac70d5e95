//! Rankings over HTTP.
//!
//! Many people look at the same few rankings, so the current ones are rendered a few times a second and
//! not once per request: an answer is up to [`MAX_AGE`] old, beside the time an event takes to arrive.
//! It is never of another window than the one it is asked in. Past windows (`at`) are read each time,
//! one at a time per process.

mod answers;

use actix_web::{
    HttpResponse, get,
    web::{Bytes, Data},
};
use chrono::{DateTime, Utc};
use common_events::ProductId;
use serde::{Deserialize, Serialize};
use service_runtime::{
    Pool, Problem,
    http::{Query, Routes},
};
use utoipa::{IntoParams, ToSchema};

pub use self::answers::MAX_AGE;
use self::answers::{Answers, Question};
use crate::domain::{By, Moment, Window};

/// How many products a ranking shows: 1 to 100, default 10.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "u16")]
#[schema(minimum = 1, maximum = 100, default = 10)]
struct Top(u16);

/// A number of products that no ranking shows.
#[derive(Debug, thiserror::Error)]
#[error("a limit is a whole number from 1 to {}", Top::MAX)]
struct InvalidTop;

impl Top {
    const MAX: u16 = 100;
}

impl Default for Top {
    fn default() -> Self {
        Self(10)
    }
}

impl TryFrom<u16> for Top {
    type Error = InvalidTop;

    fn try_from(products: u16) -> Result<Self, InvalidTop> {
        if (1..=Self::MAX).contains(&products) { Ok(Self(products)) } else { Err(InvalidTop) }
    }
}

/// Which ranking is asked for.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// `hour`, `day` or `week` of the calendar, in UTC, by the time of payment; default `day`.
    #[serde(default)]
    #[param(inline)]
    window: Window,
    /// `quantity` or `amount`; default `quantity`.
    #[serde(default)]
    #[param(inline)]
    by: By,
    /// 1 to 100, default 10.
    #[serde(default)]
    #[param(inline)]
    limit: Top,
    /// A time within the window; default now.
    #[param(inline)]
    at: Option<Moment>,
}

/// A ranking.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Ranking {
    /// Which window.
    window: Window,
    /// Where the window begins.
    from: DateTime<Utc>,
    /// Where the next one begins.
    to: DateTime<Utc>,
    /// The products, first the best; equal ones by product id.
    items: Vec<Item>,
}

/// A product of a ranking.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RankedProduct)]
struct Item {
    /// 1 for the best. Equal products have different ranks, by their ids.
    rank: usize,
    /// The product.
    #[schema(value_type = ProductId)]
    product_id: String,
    /// What it is called now.
    name: String,
    /// Pieces that were paid for and not refunded.
    quantity: i64,
    /// Won for them, before any discount: a coupon takes off the order, not the line.
    amount: i64,
}

/// The call of ranking-service, on its database.
pub fn routes(pool: Pool) -> Routes {
    let answers = Data::new(Answers::new(pool));
    Routes::new(move |config| {
        config.app_data(answers.clone()).service(rank_products);
    })
}

/// What was sold most, by the time of payment. Refunds count back where their payment counted. An answer is
/// up to 200 ms old.
#[utoipa::path(
    tag = "rankings",
    params(Wanted),
    responses(
        (status = 200, body = Ranking),
        (status = 503, description = "`rankings-busy`: too many others ask"),
    ),
)]
#[get("/rankings/products")]
async fn rank_products(answers: Data<Answers>, wanted: Query<Wanted>) -> Result<HttpResponse, Problem> {
    let Wanted { window, by, limit: Top(limit), at } = wanted.0;
    let question = Question { window, by, limit };
    let now = Moment::try_from(Utc::now()).map_err(Problem::internal)?;
    let current = window.span(now);
    let body: Bytes = match at.map(|at| window.span(at)) {
        Some(asked) if asked != current => answers.past(question, asked).await?,
        Some(_) | None => answers.current(question, current).await?,
    };
    Ok(HttpResponse::Ok().content_type("application/json").body(body))
}

#[cfg(test)]
mod tests {
    use test_support::assert_limit;

    use super::*;

    #[test]
    fn the_document_says_the_limit_that_is_checked() {
        assert_limit::<Top>("/maximum", Top::MAX);
        assert_limit::<Top>("/default", Top::default().0);
    }
}
