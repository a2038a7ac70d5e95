//! `/`: what is wrong first, then how much there is of what, now and over the last hours.

use std::{fmt::Display, sync::Arc};

use actix_web::{
    HttpResponse,
    web::{Data, Query},
};
use askama::Template;
use common_events::Service;
use serde::Deserialize;
use service_runtime::Problem;

use super::{
    Frame, MENU, Stand, Visitor,
    alarms::{Card, open_alarms},
    away::{Away, ask_all},
    consumers::{Seen, seen},
    counting::{COLUMNS, Range},
    ok,
    plot::{Bars, Line},
    show::{self, Count, Rate},
    told::{Group, Items, ProducerLetter},
};
use crate::{
    domain::State,
    http::consumers::{Consumers, ServiceView},
    services::Question,
    store::sagas::Counts,
};

#[derive(Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    range: Range,
}

#[derive(Template)]
#[template(path = "overview.html")]
struct Overview {
    frame: Frame,
    range: Range,
    cards: Vec<Card>,
    has_more: bool,
    away: Vec<Away>,
    counts: Arc<Counts>,
    bars: Bars,
    lag: Line,
    handled: Line,
    groups: Vec<OfService>,
    producer: Producer,
    kafka: Option<String>,
}

/// What Kafka didn't take.
struct Producer {
    held: Vec<(Service, ProducerLetter)>,
    has_more: bool,
}

/// A service and how its group does.
struct OfService {
    process: ServiceView,
    lag: Option<i64>,
    handled: f64,
    dead: Option<i64>,
}

/// In the order in which they are shown.
const STATES_SHOWN: [State; 5] =
    [State::InProgress, State::Compensating, State::Completed, State::Compensated, State::Failed];

impl Overview {
    /// How many things want somebody.
    fn troubles(&self) -> usize {
        let open = self.cards.iter().filter(|card| card.is_open()).count();
        let others = usize::from(self.kafka.is_some()) + usize::from(!self.producer.held.is_empty());
        open + self.away.len() + self.down().len() + others
    }

    /// Services that do nothing now, beside those that were asked and didn't answer: the first sign of what becomes
    /// an alarm later.
    fn down(&self) -> Vec<String> {
        let is_known = |name: &str| self.away.iter().any(|away| away.service.name() == name);
        let say = |group: &OfService| match (group.process.up, group.lag.is_some() && group.process.members == 0) {
            (false, _) => Some(format!("{} does not answer.", group.process.service)),
            (true, true) => Some(format!("Nobody of {} reads its topics.", group.process.service)),
            (true, false) => None,
        };
        self.groups.iter().filter(|group| !is_known(group.process.service)).filter_map(say).collect()
    }

    fn headline(&self) -> String {
        match (self.troubles(), self.cards.is_empty()) {
            (0, true) => "Nothing is wrong".to_owned(),
            (0, false) => "Everything that is wrong is looked after".to_owned(),
            (1, _) => "1 thing needs you".to_owned(),
            (many, _) if self.has_more => format!("{many} things and more need you"),
            (many, _) => format!("{many} things need you"),
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    fn in_state(&self, state: &State) -> Count {
        Count(self.counts.of(*state))
    }

    fn dead(&self) -> Count {
        Count(self.groups.iter().filter_map(|group| group.dead).sum())
    }

    fn lag_now(&self) -> String {
        self.once_seen(Count(self.groups.iter().filter_map(|group| group.lag).sum()))
    }

    fn handled_now(&self) -> String {
        self.once_seen(Rate(self.groups.iter().map(|group| group.handled).sum()))
    }

    /// A dash while nothing was seen of the groups.
    fn once_seen(&self, figure: impl Display) -> String {
        if self.groups.is_empty() { "–".to_owned() } else { figure.to_string() }
    }

    /// Sagas that are over are counted as far back as the plot goes.
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "templates hand over references")]
    fn says_of(&self, state: &State) -> String {
        if state.is_open() { state.meaning().to_owned() } else { format!("began in the {}", self.range.words()) }
    }

    /// Megabytes.
    fn memory(process: &ServiceView) -> String {
        process.memory_bytes.map_or_else(|| "–".to_owned(), |bytes| format!("{} MB", bytes / 1_000_000))
    }
}

pub(super) async fn overview(
    visitor: Visitor,
    stand: Data<Stand>,
    wanted: Query<Wanted>,
) -> Result<HttpResponse, Problem> {
    let (desk, range) = (&visitor.desk, wanted.range);
    let readers = desk.services.clone().that_read();
    let dead = Question::get("/admin/dead-letters/groups").with("state", "DEAD");
    let held = Question::get("/admin/producer-dead-letters").with("state", "HELD").with("limit", HELD_SHOWN);
    let (dead, held, cards, counted, looked) = tokio::join!(
        ask_all::<Items<Group>>(&readers, &dead),
        ask_all::<Items<ProducerLetter>>(&readers, &held),
        open_alarms(desk),
        stand.counted.counts(&desk.pool, range),
        seen(desk, None),
    );
    let ((since, counts), (cards, has_more)) = (counted?, cards?);
    let (looked, kafka) = match looked? {
        Seen::Looked(looked) => (Some(looked), None),
        Seen::NotYet => (None, None),
        Seen::Away(says) => (None, Some(says)),
    };
    let dead_of = |service: Service| {
        let of = dead.answers.iter().find(|(answered, _)| *answered == service);
        of.map(|(_, groups)| groups.items.iter().map(|group| group.count).sum())
    };
    let history = desk.observed.history();
    let lags = history.iter().map(|moment| {
        let lags = moment.groups.values().map(|beat| beat.lag);
        lags.sum::<Option<i64>>().map(approximately)
    });
    let handled = history.iter().map(|moment| Some(moment.groups.values().map(|beat| beat.handled).sum()));
    let more_held = held.answers.iter().any(|(_, page)| page.next_cursor.is_some());
    let held =
        held.answers.into_iter().flat_map(|(service, page)| page.items.into_iter().map(move |one| (service, one)));
    ok(&Overview {
        frame: Frame::of(&visitor, "overview"),
        range,
        away: dead.away,
        bars: Bars::of(&counts.slices, since, range.slice(), COLUMNS),
        lag: Line::of("Lag of all groups", lags),
        handled: Line::of("Events handled per second", handled),
        groups: looked.map(|looked| of_services(looked, dead_of)).unwrap_or_default(),
        producer: Producer { held: held.collect(), has_more: more_held },
        counts,
        cards,
        has_more,
        kafka,
    })
}

/// Of each service, so many events that Kafka didn't take are looked at.
const HELD_SHOWN: u16 = 5;

#[expect(clippy::cast_precision_loss, reason = "a drawing has no more digits than pixels")]
pub(super) fn approximately(count: i64) -> f64 {
    count as f64
}

fn of_services(looked: Consumers, dead_of: impl Fn(Service) -> Option<i64>) -> Vec<OfService> {
    let Consumers { items, services, .. } = looked;
    let of = |process: ServiceView| {
        let own: Vec<_> = items.iter().filter(|item| item.group == process.service).collect();
        // Rates are of the topic, all partitions together.
        let handled = own.iter().filter(|item| item.partition == 0).map(|item| item.doing.handle_rate).sum();
        let lag = (!own.is_empty()).then(|| own.iter().map(|item| item.lag).sum());
        let dead = process.service.parse().ok().and_then(&dead_of);
        OfService { process, lag, handled, dead }
    };
    services.into_iter().map(of).collect()
}
