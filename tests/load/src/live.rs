//! A tally that grows while others look at it, and may say that it is enough.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, Ordering},
};

use crate::Tally;

/// Shared by who sends, who shows the progress, and who ends the load. All clones are the same one.
#[derive(Debug)]
pub struct Live<T = Tally> {
    tally: Arc<Mutex<T>>,
    enough: Arc<AtomicBool>,
}

impl<T: Clone> Live<T> {
    /// As it is now.
    pub fn now(&self) -> T {
        self.locked().clone()
    }
}

impl<T> Live<T> {
    /// Looks at it, without a copy.
    pub fn look<A>(&self, look: impl FnOnce(&T) -> A) -> A {
        look(&self.locked())
    }

    /// Nothing more is sent; what is under way goes on to its end.
    pub fn stop_sending(&self) {
        self.enough.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_enough(&self) -> bool {
        self.enough.load(Ordering::Relaxed)
    }

    pub(crate) fn tell(&self, tell: impl FnOnce(&mut T)) {
        tell(&mut self.locked());
    }

    fn locked(&self) -> MutexGuard<'_, T> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Default> Default for Live<T> {
    fn default() -> Self {
        Self { tally: Arc::default(), enough: Arc::default() }
    }
}

impl<T> Clone for Live<T> {
    fn clone(&self) -> Self {
        Self { tally: Arc::clone(&self.tally), enough: Arc::clone(&self.enough) }
    }
}
