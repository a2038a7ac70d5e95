//! Where each step of a flow stands in its picture, by its declaration alone.

use std::collections::BTreeMap;

use common_events::{Service, Topic};

use super::{BOX_HEIGHT, BOX_WIDTH, GAP, LANE_GAP, MARGIN, NAMES};
use crate::flows::{Declaration, Role, Step};

/// A step, or two that answer the same question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spot {
    /// The event that is hoped for, then what may come instead of it.
    pub(super) events: Vec<Topic>,
    pub(super) x: i32,
    pub(super) y: i32,
}

/// Boxes in their places, and which lead to which.
pub(super) struct Layout {
    pub(super) boxes: Vec<Spot>,
    pub(super) arrows: Vec<(usize, usize)>,
    pub(super) lanes: Vec<(Service, i32)>,
    pub(super) width: i32,
    pub(super) height: i32,
}

/// The steps that are drawn, before they have a place.
struct Node {
    events: Vec<Topic>,
    role: Role,
    service: Service,
    column: i32,
}

/// Places the steps that `is_drawn`. Columns: each step right of all that it is owed for; what takes something back
/// stands under it, and the cancel in the last column.
pub(super) fn layout(declaration: &Declaration, is_drawn: impl Fn(&Step) -> bool) -> Layout {
    let mut nodes = nodes(declaration, is_drawn);
    let arrows = arrows(declaration, &nodes);
    place_forward(&mut nodes, &arrows);
    place_back(&mut nodes);
    let (lanes, rows, height) = lanes(&nodes);
    let boxes = nodes.iter().zip(rows).map(|(node, y)| Spot {
        events: node.events.clone(),
        x: NAMES + MARGIN + node.column * (BOX_WIDTH + GAP),
        y,
    });
    let last = nodes.iter().map(|node| node.column).max().unwrap_or_default();
    let width = NAMES + MARGIN + last * (BOX_WIDTH + GAP) + BOX_WIDTH + MARGIN;
    Layout { boxes: boxes.collect(), arrows, lanes, width, height }
}

/// Steps of one name and service are one node.
fn nodes(declaration: &Declaration, is_drawn: impl Fn(&Step) -> bool) -> Vec<Node> {
    let mut named: Vec<(&'static str, Node)> = Vec::new();
    for step in declaration.steps.iter().filter(|step| is_drawn(step)) {
        let service = step.event.spec().writer;
        match named.iter_mut().find(|(name, node)| *name == step.name && node.service == service) {
            Some((_, node)) => node.events.push(step.event),
            None => named.push((step.name, Node { events: vec![step.event], role: step.role, service, column: 0 })),
        }
    }
    named.into_iter().map(|(_, node)| node).collect()
}

const fn is_back(role: Role) -> bool {
    matches!(role, Role::Undo(_) | Role::Cancel)
}

fn arrows(declaration: &Declaration, nodes: &[Node]) -> Vec<(usize, usize)> {
    let of = |event: Topic| nodes.iter().position(|node| node.events.contains(&event));
    let mut arrows = Vec::new();
    for debt in declaration.debts {
        let Some(to) = of(debt.one_of[0]) else { continue };
        for from in debt.after.iter().filter_map(|event| of(*event)) {
            // Everything on the way back hangs on the cancel; one arrow from what it takes back says more.
            if !is_back(nodes[from].role) && !is_back(nodes[to].role) {
                arrows.push((from, to));
            }
        }
    }
    for (index, node) in nodes.iter().enumerate() {
        match node.role {
            Role::Undo(done) => arrows.extend(of(done).map(|done| (done, index))),
            // What nobody owes goes with the next step of its service.
            Role::Forward if !arrows.iter().any(|(_, to)| *to == index) && index > 0 => {
                let next = nodes.iter().skip(index + 1).position(|next| next.service == node.service);
                if let Some(next) = next.map(|offset| index + 1 + offset) {
                    let causes: Vec<usize> =
                        arrows.iter().filter(|(_, to)| *to == next).map(|(from, _)| *from).collect();
                    arrows.retain(|(_, to)| *to != next);
                    arrows.extend(causes.into_iter().map(|from| (from, index)).chain([(index, next)]));
                }
            }
            Role::Forward | Role::Refusal | Role::Success | Role::Failure | Role::Cancel => {}
        }
    }
    arrows.sort_unstable();
    arrows.dedup();
    arrows
}

/// Flows have no circles, so after as many rounds as there are nodes nothing moves any more.
fn place_forward(nodes: &mut [Node], arrows: &[(usize, usize)]) {
    for _ in 0..nodes.len() {
        for (from, to) in arrows {
            if !is_back(nodes[*to].role) {
                nodes[*to].column = nodes[*to].column.max(nodes[*from].column + 1);
            }
        }
    }
}

fn place_back(nodes: &mut [Node]) {
    let last = nodes.iter().map(|node| node.column).max().unwrap_or_default();
    let columns: BTreeMap<Topic, i32> =
        nodes.iter().flat_map(|node| node.events.iter().map(|event| (*event, node.column))).collect();
    for node in nodes {
        match node.role {
            Role::Undo(done) => node.column = columns.get(&done).copied().unwrap_or(last),
            Role::Cancel => node.column = last,
            Role::Forward | Role::Refusal | Role::Success | Role::Failure => {}
        }
    }
}

/// Lanes in the order in which services come up, each with one row for the way forward and, where something of it
/// goes back, one below.
fn lanes(nodes: &[Node]) -> (Vec<(Service, i32)>, Vec<i32>, i32) {
    let mut services: Vec<Service> = Vec::new();
    for node in nodes {
        if !services.contains(&node.service) {
            services.push(node.service);
        }
    }
    let (mut y, mut lanes, mut rows) = (MARGIN, Vec::new(), vec![0; nodes.len()]);
    for service in services {
        lanes.push((service, y));
        let below = y + BOX_HEIGHT + LANE_GAP;
        let mut bottom = y + BOX_HEIGHT;
        for (index, node) in nodes.iter().enumerate().filter(|(_, node)| node.service == service) {
            rows[index] = if is_back(node.role) { below } else { y };
            bottom = bottom.max(rows[index] + BOX_HEIGHT);
        }
        y = bottom + LANE_GAP;
    }
    (lanes, rows, y - LANE_GAP + MARGIN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flows::Flow;

    fn drawn(flow: Flow) -> Layout {
        layout(flow.declaration(), |_| true)
    }

    #[test]
    fn no_two_steps_of_a_flow_stand_in_one_place() {
        for flow in Flow::ALL {
            let layout = drawn(*flow);
            for (index, one) in layout.boxes.iter().enumerate() {
                for other in &layout.boxes[index + 1..] {
                    assert!((one.x, one.y) != (other.x, other.y), "{:?} over {:?}", one.events, other.events);
                }
            }
        }
    }

    #[test]
    fn arrows_lead_to_the_right_or_to_what_takes_a_step_back() {
        for flow in Flow::ALL {
            let layout = drawn(*flow);
            for (from, to) in &layout.arrows {
                let (from, to) = (&layout.boxes[*from], &layout.boxes[*to]);
                let is_below = from.x == to.x && from.y < to.y;
                assert!(from.x < to.x || is_below, "{:?} to {:?}", from.events, to.events);
            }
        }
    }

    #[test]
    fn an_undo_stands_under_what_it_takes_back() {
        let layout = drawn(Flow::Order);
        let of = |event| layout.boxes.iter().find(|at| at.events.contains(&event)).expect("it is drawn");
        for (done, undone) in [
            (Topic::StockDeducted, Topic::StockRestored),
            (Topic::PaymentCompleted, Topic::PaymentRefunded),
            (Topic::CouponUsed, Topic::CouponRestored),
        ] {
            assert!(of(done).x == of(undone).x && of(done).y < of(undone).y, "{undone}");
        }
    }
}
