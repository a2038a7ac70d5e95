//! The monitor's tables: the log, what is projected from it, and the alarms.

pub mod alarms;
pub mod hops;
pub mod log;
pub mod positions;
pub mod sagas;

use messaging::Tx;
use service_runtime::database::Migrations;
use tokio_postgres::Error;

mod embedded {
    refinery::embed_migrations!("migrations");
}

/// The log, its projection, alarms and notices.
pub const MIGRATIONS: Migrations =
    Migrations { table: "saga_monitor_migrations", runner: embedded::migrations::runner };

/// Who writes the projection holds this lock, so that writers of the log, the detection and a rebuild go one
/// after the other, in every instance. "sagas" in ASCII.
const PROJECTION: i64 = 0x0073_6167_6173;
/// Who detects holds this one: alarms are raised by one instance. "alarm" in ASCII.
const DETECTION: i64 = 0x0061_6c61_726d;

/// Waits until nobody else writes the projection; until the end of the transaction.
pub async fn lock_projection(tx: &Tx<'_>) -> Result<(), Error> {
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&PROJECTION]).await?;
    Ok(())
}

/// Whether nobody else detects; until the end of the transaction.
pub async fn try_lock_detection(tx: &Tx<'_>) -> Result<bool, Error> {
    Ok(tx.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&DETECTION]).await?.get(0))
}

/// Waits until nobody detects; until the end of the transaction.
pub async fn lock_detection(tx: &Tx<'_>) -> Result<(), Error> {
    tx.execute("SELECT pg_advisory_xact_lock($1)", &[&DETECTION]).await?;
    Ok(())
}
