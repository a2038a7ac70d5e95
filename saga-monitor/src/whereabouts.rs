//! Where an event is, for one group: the group knows what became of it; in case it doesn't answer, Kafka knows
//! whether the group has read it, and the topics of its failures what it said last.

use chrono::{DateTime, Utc};
use common_events::{EventId, Service};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    cluster::Standing,
    domain::{Place, StepStatus, words},
    services::{Question, Services, Trouble},
    store::hops::Timed,
};

words! {
    /// Where an event is, for one group.
    GroupState, "place of an event" {
        /// The group has it still before it.
        Unread => "unread",
        /// Behind an event of its key that failed.
        Waiting => "waiting",
        /// On its way to the next attempt.
        Retrying => "retrying",
        /// Waiting for the next batch of parked ones.
        Parked => "parked",
        /// Given up.
        Dead => "dead",
        /// Closed for good.
        Discarded => "discarded",
        /// Handled.
        Applied => "applied",
        /// The group doesn't answer, and nothing else tells.
        Unknown => "unknown",
    }
}

/// Where an event is, for one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Whereabouts {
    /// The group.
    pub group: String,
    /// Where it is there.
    pub state: GroupState,
    /// Which retry topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<String>,
    /// When it is tried next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due_at: Option<DateTime<Utc>>,
    /// The event that it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub behind: Option<EventId>,
    /// The dead letter that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter_id: Option<uuid::Uuid>,
}

impl Whereabouts {
    pub(crate) fn of(group: Service, state: GroupState) -> Self {
        let group = group.name().to_owned();
        Self { group, state, tier: None, due_at: None, behind: None, dead_letter_id: None }
    }
}

/// What is known of one event.
#[derive(Debug, Clone, Copy)]
pub struct Event<'e> {
    /// Its id.
    pub id: EventId,
    /// Its topic and where it lies there; `None` when it is on no topic that is heard.
    pub lies: Option<(&'e str, Place)>,
}

/// Where the event is for `group`. `cluster` is `None` when Kafka doesn't answer; `heard` is what the topics of
/// failures say.
pub async fn find(
    services: &Services,
    cluster: Option<&Standing>,
    group: Service,
    event: Event<'_>,
    heard: &[Timed],
) -> Result<Whereabouts, Trouble> {
    let question = Question::get(format!("/admin/inbox/{}", event.id));
    let trouble = match services.ask(group, &question).await {
        Ok(answer) => return serde_json::from_value(answer).map_err(|error| Trouble::Odd(error.to_string())),
        Err(trouble) => trouble,
    };
    // Offsets are committed a moment after the event is applied, so they are the second to ask.
    if let (Some(cluster), Some((topic, place))) = (cluster, event.lies)
        && cluster.is_unread(group, topic, place)
    {
        return Ok(Whereabouts::of(group, GroupState::Unread));
    }
    last_heard(group, heard).ok_or(trouble)
}

/// What the topics of failures said last of it.
fn last_heard(group: Service, heard: &[Timed]) -> Option<Whereabouts> {
    let (_, hop) = heard.iter().filter(|(_, hop)| hop.group == group).max_by_key(|(at, _)| *at)?;
    let state = if hop.status() == StepStatus::Dead { GroupState::Dead } else { GroupState::Retrying };
    let tier = (state == GroupState::Retrying).then(|| hop.says.tier.clone());
    Some(Whereabouts { tier, due_at: hop.says.due_at, ..Whereabouts::of(group, state) })
}
