//! What traces cost. Zipkin runs on the same cores, so its own work is in the figure, too.

use system::{Settings, Suite};

use crate::{
    saga, settings,
    table::{Goal, Row, Samples},
};

const PAIRS: usize = 3;

pub(crate) async fn measure() -> anyhow::Result<Vec<Row>> {
    let with = Suite::start(Settings { variables: Vec::new(), ..settings() }).await?;
    let without = Suite::start(settings()).await?;
    let (seeded_with, seeded_without) = (saga::warm(&with).await?, saga::warm(&without).await?);
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..PAIRS {
        ours.push(saga::sustained_by(&with, &seeded_with).await?);
        bare.push(saga::sustained_by(&without, &seeded_without).await?);
    }
    let what = "orders/s, traces on against off".to_owned();
    Ok(vec![Row { what, unit: "orders/s", ours, bare: Some(bare), goal: Goal::AtLeast(0.9) }])
}
