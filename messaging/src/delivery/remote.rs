//! Remote calls: made before the transaction, with nothing locked, in the order of each key.

use std::{
    collections::{HashMap, HashSet},
    panic::AssertUnwindSafe,
};

use futures::{FutureExt, StreamExt, stream};
use service_runtime::telemetry;

use super::{Group, Reading, Stalled, attempt::panicked, passes::Item};
use crate::{
    failure::Failure,
    inbox::{self, State},
    ladder::Came,
    subscriptions::Decoded,
    waiting,
};

/// Calls under way at a time for one partition, each for another key.
const CALLS_AT_A_TIME: usize = 16;

/// An event whose call is to be made.
struct Call<'h> {
    item: Item<'h>,
    event: &'h Decoded,
}

impl Group {
    /// Makes the calls that aren't made yet of those events that will be handled. Returns those that failed;
    /// later events of their keys are not called for.
    pub(super) async fn call_remotes<'h>(&self, items: &[Item<'h>]) -> Result<Vec<(Item<'h>, Failure)>, Stalled> {
        let remote: Vec<Item<'h>> = items.iter().copied().filter(is_to_be_called).collect();
        if remote.is_empty() {
            return Ok(Vec::new());
        }
        let mut calls = Vec::new();
        for key in by_key(self.expected(remote).await?) {
            calls.push(call_in_order(key).boxed());
        }
        let called: Vec<_> = stream::iter(calls).buffer_unordered(CALLS_AT_A_TIME).collect().await;
        let failed: Vec<(Item<'h>, Failure)> = called.into_iter().flatten().collect();
        if failed.iter().any(|(_, failure)| matches!(failure, Failure::Transient(_))) {
            // While what we stand on is away ourselves, nobody can say whose fault it is.
            self.probe().await?;
        }
        Ok(failed)
    }

    /// Those that the transaction will find new, and not behind a failed one. What changes until then is
    /// found out there.
    async fn expected<'h>(&self, items: Vec<Item<'h>>) -> Result<Vec<Item<'h>>, Stalled> {
        let client = self.pool.get().await?;
        let arrivals: Vec<_> = items.iter().filter_map(|item| item.heard.arrival()).collect();
        let standings = inbox::find_standings(&client, &arrivals).await?;
        let keys: HashSet<_> = items.iter().filter_map(|item| item.heard.order_key()).collect();
        let blocked = waiting::find_blocked(&client, &keys).await?;
        let is_expected = |item: &Item<'h>| {
            let standing = item.heard.event().and_then(|event| standings.get(&event.id)).copied();
            match item.heard.came {
                Came::First | Came::Asked => {
                    let is_new = standing.is_none_or(|(state, _)| state == State::Unread);
                    is_new && item.heard.order_key().is_none_or(|key| !blocked.contains(&waiting::owned(key)))
                }
                Came::Hop { number, .. } => standing == Some((State::Retrying, number)),
                Came::Parked { hop, .. } => standing == Some((State::Parked, hop)),
                Came::Waiting => standing.is_some_and(|(state, _)| state == State::Waiting),
            }
        };
        Ok(items.into_iter().filter(is_expected).collect())
    }
}

fn is_to_be_called(item: &Item<'_>) -> bool {
    match &item.heard.reading {
        Reading::Event { decoded, hearing } => hearing.is_remote() && !decoded.is_answered(),
        Reading::Refused { .. } => false,
    }
}

/// The calls of each key, in order; an event without a key stands alone.
fn by_key(items: Vec<Item<'_>>) -> Vec<Vec<Call<'_>>> {
    let mut keys: Vec<Vec<Call<'_>>> = Vec::new();
    let mut known: HashMap<(&str, &[u8]), usize> = HashMap::new();
    for item in items {
        let Some(event) = item.heard.event() else { continue };
        let call = Call { item, event };
        match item.heard.order_key() {
            Some(key) => {
                let at = *known.entry(key).or_insert(keys.len());
                if at == keys.len() { keys.push(vec![call]) } else { keys[at].push(call) }
            }
            None => keys.push(vec![call]),
        }
    }
    keys
}

/// Calls until one fails.
async fn call_in_order(calls: Vec<Call<'_>>) -> Option<(Item<'_>, Failure)> {
    for Call { item, event } in calls {
        let Reading::Event { hearing, .. } = &item.heard.reading else { continue };
        let Some(call) = hearing.call(event) else { continue };
        let outcome = telemetry::within(event.span, AssertUnwindSafe(call).catch_unwind()).await;
        if let Err(failure) = outcome.unwrap_or_else(|panic| Err(panicked(&*panic))) {
            return Some((item, failure));
        }
    }
    None
}
