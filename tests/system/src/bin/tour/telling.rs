//! How the tour tells what it does.

use system::shop::Order;

pub(crate) fn outcome(order: &Order) -> String {
    let status = format!("{:?}", order.status).to_uppercase();
    match order.reason {
        Some(reason) => format!("{status} ({reason})"),
        None => format!("{status}, {} won", won(order.total)),
    }
}

pub(crate) fn title(text: &str) {
    println!("\n{text}");
}

pub(crate) fn say(what: &str, answer: &str) {
    println!("  {what:<36} {answer}");
}

/// 1234567 → "1,234,567"; the tour knows no negative amounts.
pub(crate) fn won(amount: i64) -> String {
    let digits = amount.to_string();
    let first = digits.len() % 3;
    let groups = digits.as_bytes()[first..].chunks(3).map(String::from_utf8_lossy);
    let head = Some(digits[..first].into()).filter(|head: &std::borrow::Cow<'_, str>| !head.is_empty());
    head.into_iter().chain(groups).collect::<Vec<_>>().join(",")
}
