//! `docs/flows.md`: the declarations as tables and pictures.

use std::fmt::Write as _;

use common_events::Topic;

use super::{Debt, Declaration, Each, Flow, NO_SAGA, Only, Role, Step};

/// The whole document. `saga-monitor flows` prints it.
pub fn document() -> String {
    let mut text = String::from(
        "# Flows\n\nGenerated from `saga-monitor/src/flows.rs` by `saga-monitor flows`; a test fails when it is not current. The \
         monitor judges every saga by these tables.\n",
    );
    for flow in Flow::ALL {
        text.push_str(&chapter(*flow));
    }
    text.push_str("\n## Topics without a saga\n\n| topic | why |\n|---|---|\n");
    for (topic, why) in NO_SAGA {
        let _ = writeln!(text, "| `{topic}` | {why} |");
    }
    text
}

fn chapter(flow: Flow) -> String {
    let declaration = flow.declaration();
    let mut text = format!("\n## {flow}\n\n{}\n### Steps\n\n", picture(declaration));
    text.push_str("| event | step | how often | told by | what it is | undone by |\n|---|---|---|---|---|---|\n");
    for step in declaration.steps {
        let undone_by = declaration.undo_of(step.event).map_or("–".to_owned(), |undo| format!("`{}`", undo.event));
        let (often, writer) = (often(step.each), step.event.spec().writer);
        let _ =
            writeln!(text, "| `{}` | {} | {often} | {writer} | {} | {undone_by} |", step.event, step.name, role(step));
    }
    text.push_str("\n### Who owes what\n\n| after | owed | how often | by |\n|---|---|---|---|\n");
    for debt in declaration.debts {
        let after = events(debt.after, " and ");
        let _ = writeln!(text, "| {after} | {} | {} | {} |", events(debt.one_of, " or "), debt_often(debt), debt.by);
    }
    if !declaration.same_amount.is_empty() {
        text.push_str("\n### Amounts that agree\n\n");
        for (one, other) in declaration.same_amount {
            let _ = writeln!(text, "- `{one}` and `{other}`");
        }
    }
    text
}

fn picture(declaration: &Declaration) -> String {
    let mut text = String::from("```mermaid\nflowchart LR\n");
    for debt in declaration.debts {
        for (after, answer) in debt.after.iter().flat_map(|after| debt.one_of.iter().map(move |answer| (after, answer)))
        {
            let _ = writeln!(text, "    {after} -- {} --> {answer}", debt.by);
        }
    }
    text.push_str("```\n");
    text
}

fn events(events: &[Topic], between: &str) -> String {
    events.iter().map(|event| format!("`{event}`")).collect::<Vec<_>>().join(between)
}

const fn often(each: Each) -> &'static str {
    match each {
        Each::Saga => "once",
        Each::Line => "per line",
    }
}

const fn debt_often(debt: &Debt) -> &'static str {
    match (debt.each, debt.only) {
        (Each::Saga, Only::Always) => "once",
        (Each::Saga, Only::WithCoupon) => "once, with a coupon",
        (Each::Line, Only::Always) => "per line",
        (Each::Line, Only::WithCoupon) => "per line, with a coupon",
    }
}

fn role(step: &Step) -> String {
    match step.role {
        Role::Forward => "forward".to_owned(),
        Role::Refusal => "refusal".to_owned(),
        Role::Undo(event) => format!("undoes `{event}`"),
        Role::Success => "end: COMPLETED".to_owned(),
        Role::Failure => "end: FAILED".to_owned(),
        Role::Cancel => "begins the compensation".to_owned(),
    }
}
