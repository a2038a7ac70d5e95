//! What a test hears of its own: log lines and metrics of its thread.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};

/// The lines that are logged on this thread.
pub(super) struct Log {
    written: Written,
    _listening: tracing::subscriber::DefaultGuard,
}

#[derive(Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub(super) fn listen() -> Self {
        let written = Written::default();
        let writer = written.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_writer(move || writer.clone())
            .with_ansi(false)
            .with_target(false)
            .without_time()
            .finish();
        Self { written, _listening: tracing::subscriber::set_default(subscriber) }
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let written = self.written.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&written).lines().map(str::to_owned).collect()
    }
}

impl io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is counted on this thread.
pub(super) struct Metrics {
    recorder: &'static PrometheusRecorder,
    _listening: metrics::LocalRecorderGuard<'static>,
}

impl Metrics {
    pub(super) fn listen() -> Self {
        // As long as a test lasts.
        let recorder: &'static _ = Box::leak(Box::new(PrometheusBuilder::new().build_recorder()));
        Self { recorder, _listening: metrics::set_default_local_recorder(recorder) }
    }

    pub(super) fn has(&self, line: &str) -> bool {
        self.text().lines().any(|known| known == line)
    }

    pub(super) fn text(&self) -> String {
        self.recorder.handle().render()
    }
}
