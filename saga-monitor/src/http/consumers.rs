//! `GET /api/consumers`: lag, rates and latencies per group, topic and partition; memory and CPU per service.

use actix_web::{get, web::Data};
use chrono::{DateTime, Utc};
use common_events::Service;
use serde::{Deserialize, Serialize};
use service_runtime::{
    Operator, Problem,
    http::{Json, Query},
};
use utoipa::{IntoParams, ToSchema};

use super::{Desk, kafka_unavailable};
use crate::{
    cluster::{Standing, topics_read_by},
    consumers::{Doing, Look, look},
    services::readers,
};

/// A partition that a group reads, and how it does.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Consumer)]
pub struct ConsumerView {
    /// The group.
    pub group: &'static str,
    /// Its topic, without the suite's prefix.
    pub topic: String,
    /// Its partition.
    pub partition: i32,
    /// The next offset that the group reads; none while it has committed nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub committed_offset: Option<i64>,
    /// The offset that the next record gets: after the last one, and what the ends of transactions take.
    pub end_offset: i64,
    /// Records between.
    pub lag: i64,
    /// What the group does with the topic, all partitions together.
    #[serde(flatten)]
    pub doing: Doing,
}

/// A process, and what it uses.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ServiceProcess)]
pub struct ServiceView {
    /// Its service.
    pub service: &'static str,
    /// Whether its `/metrics` answered.
    pub up: bool,
    /// Members of its consumer group.
    pub members: usize,
    /// Memory in use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How much of a processor it uses: 1 is one core.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_cores: Option<f64>,
}

/// How groups and processes do.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Consumers {
    /// When it was looked.
    pub at: DateTime<Utc>,
    /// Per group, topic and partition.
    pub items: Vec<ConsumerView>,
    /// Per service.
    pub services: Vec<ServiceView>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct Wanted {
    /// Only of this group, such as `order-service`.
    #[param(pattern = "^[a-z]+(-[a-z]+)*$")]
    group: Option<String>,
}

/// How groups and processes do, as it was seen some seconds ago.
#[utoipa::path(
    tag = "consumers",
    security(("identity" = ["operator"])),
    params(Wanted),
    responses(
        (status = 200, body = Consumers),
        (status = 503, description = "`kafka-unavailable`: Kafka doesn't answer just now"),
    ),
)]
#[get("/api/consumers")]
pub(super) async fn list_consumers(
    _: Operator,
    Query(wanted): Query<Wanted>,
    desk: Data<Desk>,
) -> Result<Json<Consumers>, Problem> {
    let only: Option<Service> = match wanted.group.as_deref().map(str::parse) {
        Some(Ok(group)) => Some(group),
        Some(Err(_)) => return Err(Problem::bad_request("invalid-query", "There is no such group.").of_field("group")),
        None => None,
    };
    Ok(Json(look_at(&desk, only).await?))
}

/// How groups and processes do; only this one, when it is named.
pub(crate) async fn look_at(desk: &Desk, only: Option<Service>) -> Result<Consumers, Problem> {
    if desk.observed.ends().is_none() {
        // Asked within moments of the start: the first look is taken now.
        desk.observed.take(look(&desk.cluster, &desk.services).await);
    }
    let (before, now) = desk.observed.ends().ok_or_else(kafka_unavailable)?;
    let cluster = now.cluster.as_ref().ok_or_else(kafka_unavailable)?;
    let groups = readers().filter(|group| only.is_none_or(|only| only == *group));
    let items = groups.flat_map(|group| of_group(cluster, &before, &now, group)).collect();
    let shown = desk.services.names().filter(|service| only.is_none_or(|only| only == *service));
    let services = shown.map(|service| of_service(cluster, &before, &now, service)).collect();
    Ok(Consumers { at: now.at, items, services })
}

fn of_group(cluster: &Standing, before: &Look, now: &Look, group: Service) -> Vec<ConsumerView> {
    let mut views = Vec::new();
    // Of a group that couldn't be asked nothing is said, rather than that it has read nothing.
    let Some(committed) = cluster.committed.get(&group) else { return views };
    for topic in topics_read_by(group) {
        let doing = now.doing(before, group, &topic);
        let from = (topic.clone(), 0);
        let partitions = cluster.ends.range(from..).take_while(|((of, _), _)| *of == topic);
        views.extend(partitions.map(|(at, end)| ConsumerView {
            group: group.name(),
            topic: at.0.clone(),
            partition: at.1,
            committed_offset: committed.get(at).copied(),
            end_offset: *end,
            lag: cluster.lag(group, at).unwrap_or_default(),
            doing,
        }));
    }
    views
}

fn of_service(cluster: &Standing, before: &Look, now: &Look, service: Service) -> ServiceView {
    ServiceView {
        service: service.name(),
        up: now.of(service).next().is_some(),
        members: cluster.members.get(&service).copied().unwrap_or_default(),
        memory_bytes: now.memory(service),
        cpu_cores: now.cpu(before, service),
    }
}
