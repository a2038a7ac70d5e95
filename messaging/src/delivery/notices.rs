//! The group's own DLT: notices of its dead letters, which it wrote with their rows. So they are known here,
//! but for what somebody else put there; that becomes a dead letter, too.

use super::{Delivered, Group, Heard, Reading, Stalled};
use crate::{
    dead_letters::{self, Letter, State},
    inbox,
    ladder::headers::{Trouble, X_ERROR_CLASS, X_ERROR_MESSAGE},
    tx::Tx,
};

impl Group {
    pub(super) async fn keep_notices(&self, heard: &[Heard<'_>]) -> Result<Delivered, Stalled> {
        let mut delivered = Delivered::default();
        let now = self.clock.now(&self.pool).await?;
        let mut client = self.pool.get().await?;
        let tx = Tx::begin(&mut client).await?;
        let mut news = Vec::new();
        for heard in heard {
            // A letter of ours, though its event can't be read any more: its time is over, or its type gone.
            if heard.event().is_none()
                && let Some((day, id)) = heard.identity()
                && dead_letters::is_known(&tx, day, id).await?
            {
                delivered.duplicates += 1;
                continue;
            }
            let trouble = told(heard, now);
            let letter = Letter {
                record: heard.record,
                identity: heard.arrival().map(|arrival| (arrival.day, arrival.id)),
                state: State::Dead,
                trouble: &trouble,
                parked_attempts: 0,
                due_at: None,
                alarm_due_at: self.alarm.is_heard().then_some(now),
            };
            if !dead_letters::insert_if_absent(&tx, &letter).await? {
                delivered.duplicates += 1;
                continue;
            }
            if let Some(arrival) = heard.arrival()
                && !inbox::insert_dead(&tx, &arrival).await?
            {
                // It stands somewhere else, and an event is in one place only.
                dead_letters::delete_event(&tx, arrival.day, arrival.id).await?;
                delivered.duplicates += 1;
                continue;
            }
            delivered.dead += 1;
            news.push((heard, trouble));
        }
        tx.commit().await?;
        for (heard, trouble) in news {
            heard.log_dead(self, &trouble.class, &trouble.message);
        }
        self.alarm.wake();
        Ok(delivered)
    }
}

/// What the notice says of how it came there; else that it says nothing.
fn told(heard: &Heard<'_>, now: chrono::DateTime<chrono::Utc>) -> Trouble {
    let record = heard.record;
    let (class, message) = match (&heard.reading, record.header(X_ERROR_CLASS)) {
        (_, Some(class)) => (class, record.header(X_ERROR_MESSAGE).unwrap_or_default()),
        (Reading::Refused { class, message }, None) => (*class, &**message),
        (Reading::Event { .. }, None) => ("unknown", "somebody put it on the dead-letter topic"),
    };
    Trouble::new(class, message, record.attempts(), record.first_failed_at().unwrap_or(now))
}
