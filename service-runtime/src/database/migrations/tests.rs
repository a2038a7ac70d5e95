//! Old and new releases on one database, against a real PostgreSQL.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

use super::{super::own::OwnDatabase, *};

const TABLE: &str = "shelf_migrations";
const SHELVES: (&str, &str) = ("V1__shelves", "CREATE TABLE shelves (id int)");
const WIDTHS: (&str, &str) = ("V2__widths", "ALTER TABLE shelves ADD width int");
const HEIGHTS: (&str, &str) = ("V3__heights", "ALTER TABLE shelves ADD height int");

fn runner(migrations: &[(&str, &str)]) -> Runner {
    let migrations: Vec<Migration> =
        migrations.iter().map(|(name, sql)| Migration::unapplied(name, sql).expect("a name and SQL")).collect();
    Runner::new(&migrations)
}

const OLD: Migrations = Migrations { table: TABLE, runner: || runner(&[SHELVES]) };
const NEW: Migrations = Migrations { table: TABLE, runner: || runner(&[SHELVES, WIDTHS]) };
const NEWEST: Migrations = Migrations { table: TABLE, runner: || runner(&[SHELVES, WIDTHS, HEIGHTS]) };

/// Enough to see somebody wait.
const BRIEFLY: Patience = Patience {
    for_others: Duration::from_secs(10),
    look_every: Duration::from_millis(10),
    for_a_table: Duration::from_millis(200),
    pause: Duration::from_millis(100),
    for_tables: Duration::from_secs(10),
};

async fn applied(pool: &Pool) -> Vec<i32> {
    let client = pool.get().await.expect("connects");
    let sql = format!("SELECT version FROM {TABLE} ORDER BY version");
    client.query(&sql, &[]).await.expect("a history").iter().map(|row| row.get(0)).collect()
}

#[tokio::test]
async fn an_older_release_starts_on_the_database_of_a_newer_one() {
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[NEWEST]).await.expect("the newest release starts");
    for release in [OLD, NEW, NEWEST] {
        migrate(&database.pool, &[release]).await.expect("each release starts");
        assert_eq!(applied(&database.pool).await, [1, 2, 3]);
    }
    database.drop().await;
}

#[tokio::test]
async fn an_older_release_still_applies_what_is_its_own() {
    const LADDERS: Migrations = Migrations {
        table: "ladder_migrations",
        runner: || runner(&[("V1__ladders", "CREATE TABLE ladders (id int)")]),
    };
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[NEW]).await.expect("the newer release starts");
    migrate(&database.pool, &[OLD, LADDERS]).await.expect("the older release starts");
    let client = database.pool.get().await.expect("connects");
    client.query("SELECT id FROM ladders", &[]).await.expect("there are ladders");
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn a_migration_that_a_newer_database_lacks_or_has_differently_stops_the_start() {
    let lacks = Migrations { table: TABLE, runner: || runner(&[SHELVES, HEIGHTS]) };
    let differs = Migrations { table: TABLE, runner: || runner(&[SHELVES, ("V2__widths", "SELECT 1")]) };
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[lacks]).await.expect("a release without V2 starts");
    let error = migrate(&database.pool, &[NEW]).await.expect_err("V2 was left out");
    assert!(format!("{error:#}").contains("not by V2__widths"), "{error:#}");
    database.drop().await;

    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[NEWEST]).await.expect("the newest release starts");
    let error = migrate(&database.pool, &[differs]).await.expect_err("this V2 is another");
    assert!(format!("{error:#}").contains("not by V2__widths"), "{error:#}");
    database.drop().await;
}

/// The line behind a table that is held is as short as the migration's patience, and what it wants comes later.
#[tokio::test]
async fn a_migration_gives_way_to_those_who_come_after_it_and_is_tried_again() {
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[OLD]).await.expect("the old release starts");
    let holder = database.pool.get().await.expect("connects");
    holder.batch_execute("BEGIN; SELECT id FROM shelves").await.expect("reads, and goes on");
    let pool = database.pool.clone();
    let migrating = tokio::spawn(async move { migrate_with(&pool, &[NEW], BRIEFLY).await });
    let reader = database.pool.get().await.expect("connects");
    until_somebody_waits_for_a_lock(&reader).await;
    reader.batch_execute("SET statement_timeout = '5s'; SELECT id FROM shelves").await.expect("is let through");
    assert_eq!(applied(&database.pool).await, [1], "the table is still held");
    holder.batch_execute("COMMIT").await.expect("is done");
    migrating.await.expect("no panic").expect("the new release starts");
    assert_eq!(applied(&database.pool).await, [1, 2]);
    drop((holder, reader));
    database.drop().await;
}

async fn until_somebody_waits_for_a_lock(client: &ClientWrapper) {
    let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database()
                                AND wait_event_type = 'Lock')";
    let waiting = async {
        while !client.query_one(waits, &[]).await.expect("PostgreSQL knows who waits").get::<_, bool>(0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("the migration asks for its table");
}

#[tokio::test]
async fn a_table_that_is_never_free_stops_the_start_after_a_while_and_nothing_is_half_done() {
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[OLD]).await.expect("the old release starts");
    let holder = database.pool.get().await.expect("connects");
    holder.batch_execute("BEGIN; SELECT id FROM shelves").await.expect("reads, and goes on");
    let patience = Patience { for_tables: Duration::from_millis(500), ..BRIEFLY };
    let error = migrate_with(&database.pool, &[NEWEST], patience).await.expect_err("the table stays held");
    assert!(format!("{error:#}").contains("lock timeout"), "{error:#}");
    assert_eq!(applied(&database.pool).await, [1]);
    holder.batch_execute("COMMIT").await.expect("is done");
    migrate_with(&database.pool, &[NEWEST], patience).await.expect("the next start goes on from there");
    assert_eq!(applied(&database.pool).await, [1, 2, 3]);
    drop(holder);
    database.drop().await;
}

#[tokio::test]
async fn whoever_waits_for_another_instance_gives_up_after_a_while() {
    let database = OwnDatabase::create().await;
    let other = database.pool.get().await.expect("connects");
    other.batch_execute(&format!("SELECT pg_advisory_lock({LOCK})")).await.expect("migrates for ever");
    let patience = Patience { for_others: Duration::from_millis(100), ..BRIEFLY };
    let error = migrate_with(&database.pool, &[OLD], patience).await.expect_err("the other goes on");
    assert!(format!("{error:#}").contains("another instance migrates"), "{error:#}");
    other.batch_execute(&format!("SELECT pg_advisory_unlock({LOCK})")).await.expect("is done");
    migrate_with(&database.pool, &[OLD], patience).await.expect("starts");
    drop(other);
    database.drop().await;
}
