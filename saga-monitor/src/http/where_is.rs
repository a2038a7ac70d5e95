//! `GET /api/where/{eventId}`: where an event is, for each group that reads it.

use actix_web::{
    get,
    web::{Data, Path},
};
use common_events::{EventId, Service, Topic};
use futures::future::join_all;
use serde::Serialize;
use service_runtime::{Operator, Problem, http::Json};
use utoipa::ToSchema;

use super::Desk;
use crate::{
    cluster::Standing,
    services::readers,
    store::{
        hops,
        log::{self, Lying},
    },
    whereabouts::{self, Event, GroupState, Whereabouts},
};

/// Whether an event is anywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Presence {
    /// On a topic, or known to a group.
    Found,
    /// On no topic, and unknown to every group that answered.
    Nowhere,
}

/// Where an event is.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = EventWhereabouts)]
pub(crate) struct WhereView {
    pub(crate) event_id: EventId,
    pub(crate) state: Presence,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) partition: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<i64>,
    /// The saga it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) saga_id: Option<String>,
    /// Per group that reads its topic; per group that knows it, when it is on no topic that is heard.
    pub(crate) groups: Vec<Whereabouts>,
}

/// Where an event is, for each group that reads it.
#[utoipa::path(
    tag = "events",
    security(("identity" = ["operator"])),
    params(("event_id" = inline(EventId), Path)),
    responses((status = 200, body = WhereView)),
)]
#[get("/api/where/{event_id}")]
pub(super) async fn where_is(
    _: Operator,
    event_id: Path<EventId>,
    desk: Data<Desk>,
) -> Result<Json<WhereView>, Problem> {
    Ok(Json(look_for(&desk, *event_id).await?))
}

/// Where an event is, for each group that reads it.
pub(crate) async fn look_for(desk: &Desk, id: EventId) -> Result<WhereView, Problem> {
    let (lying, heard) = {
        let client = desk.pool.get().await?;
        let lying = log::list_lying(&client, &[id]).await?.into_iter().next();
        let heard = match &lying {
            Some(lying) => hops::list_hops(&client, &lying.topic, lying.place).await?,
            None => Vec::new(),
        };
        (lying, heard)
    };
    let cluster = desk.look().await;
    let groups: Vec<Service> = match lying.as_ref().and_then(|lying| lying.topic.parse::<Topic>().ok()) {
        Some(topic) => topic.spec().readers.to_vec(),
        None => readers().collect(),
    };
    let lies = lying.as_ref().map(|lying| (&*lying.topic, lying.place));
    let asked = groups.into_iter().filter(|group| *group != Service::SagaMonitor || lying.is_some());
    let asked = asked.map(|group| of_group(desk, cluster.as_ref(), group, Event { id, lies }, &heard));
    let mut groups: Vec<Whereabouts> = join_all(asked).await;
    if lying.is_none() {
        groups.retain(|found| !matches!(found.state, GroupState::Unread | GroupState::Unknown));
    }
    Ok(view(id, lying, groups))
}

async fn of_group(
    desk: &Desk,
    cluster: Option<&Standing>,
    group: Service,
    event: Event<'_>,
    heard: &[hops::Timed],
) -> Whereabouts {
    // What is in the log is applied here: the log is the monitor's inbox.
    if group == Service::SagaMonitor {
        return Whereabouts::of(group, GroupState::Applied);
    }
    let found = whereabouts::find(&desk.services, cluster, group, event, heard).await;
    found.unwrap_or_else(|trouble| {
        tracing::warn!(%group, event = %event.id, error = %trouble, "where an event lies can't be found out");
        Whereabouts::of(group, GroupState::Unknown)
    })
}

fn view(event_id: EventId, lying: Option<Lying>, groups: Vec<Whereabouts>) -> WhereView {
    let state = if lying.is_none() && groups.is_empty() { Presence::Nowhere } else { Presence::Found };
    let (topic, place, saga_id) =
        lying.map_or((None, None, None), |lying| (Some(lying.topic), Some(lying.place), lying.saga));
    WhereView {
        event_id,
        state,
        topic,
        partition: place.map(|place| place.partition),
        offset: place.map(|place| place.offset),
        saga_id,
        groups,
    }
}
