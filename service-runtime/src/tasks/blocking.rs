//! Calls that block, kept off the threads of the runtime.

/// A call that blocks, waited for. A panic of it is the caller's.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    #[expect(clippy::disallowed_methods, reason = "waited for right here")]
    let called = tokio::task::spawn_blocking(work).await;
    match called {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going, and whoever waits with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Drops something whose end may take a while, such as a Kafka client that nobody answers; nobody waits for it.
pub fn drop_aside<T: Send + 'static>(left: T) {
    let thread = std::thread::Builder::new().name("dropping".to_owned());
    #[expect(clippy::disallowed_methods, reason = "it ends by itself, and nobody needs what it holds")]
    let begun = thread.spawn(move || drop(left));
    if let Err(error) = begun {
        tracing::warn!(%error, "no thread to drop something on: it was dropped here");
    }
}
