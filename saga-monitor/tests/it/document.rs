//! What the service says of itself, to whoever generates a client from it.

use saga_monitor::{
    alarm::{AlarmKind, AlarmState, CauseClass},
    domain::{State, StepStatus},
    flows::Flow,
    http,
    whereabouts::GroupState,
};
use test_support::{assert_document, assert_words};

use crate::watch::Watch;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_can_be_generated_from_the_document() {
    let watch = Watch::begin().await;
    assert_document(&watch.runtime, &watch.group, &http::routes(watch.desk.clone())).await;
}

#[test]
fn words_are_documented_as_they_are_written() {
    assert_words::<AlarmKind>();
    assert_words::<AlarmState>();
    assert_words::<CauseClass>();
    assert_words::<Flow>();
    assert_words::<GroupState>();
    assert_words::<State>();
    assert_words::<StepStatus>();
}
