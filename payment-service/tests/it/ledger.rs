//! The ledger can only be appended to, also by the role that owns it, and by the database's keys an
//! order moves points once each way.

use common_events::Service;
use payment_service::store;
use service_runtime::{
    database,
    settings::{DatabaseSettings, DatabaseUrl, Env, Setting},
};
use test_support::Database;
use tokio_postgres::{Client, NoTls, error::SqlState};
use uuid::Uuid;

const ENTRY: &str = "INSERT INTO points_ledger (user_id, at, entry_id, kind, delta, balance, order_id, trace_id)
                     VALUES ('kim', clock_timestamp(), gen_random_uuid(), 'DEDUCTED', -1, 5, $1, repeat('a', 32))";

const CHANGES: [&str; 5] = [
    "UPDATE points_ledger SET balance = 1000000",
    "DELETE FROM points_ledger",
    "TRUNCATE points_ledger",
    "UPDATE points_ledger SET balance = 0 WHERE false",
    "INSERT INTO points_ledger SELECT * FROM points_ledger ON CONFLICT (user_id, at) DO UPDATE SET balance = 7",
];

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("PostgreSQL answers");
    tokio::spawn(connection);
    client
}

async fn assert_append_only(client: &Client) {
    client.execute(ENTRY, &[&Uuid::now_v7()]).await.expect("an entry is appended");
    for change in CHANGES {
        let error = client.batch_execute(change).await.expect_err(change);
        assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{change}: {error}");
    }
    let left = client.query_one("SELECT count(*), max(balance) FROM points_ledger", &[]).await.expect("a row");
    assert_eq!((left.get::<_, i64>(0), left.get::<_, i64>(1)), (1, 5));
}

#[tokio::test(flavor = "multi_thread")]
async fn even_a_superuser_who_replicates_only_appends() {
    let database = Database::new(&[store::MIGRATIONS]).await;
    let client = connect(&database.url).await;
    client.batch_execute("SET session_replication_role = replica").await.expect("a superuser may");
    assert_append_only(&client).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_role_that_owns_the_database_and_the_ledger_only_appends() {
    let database = Database::new(&[]).await;
    let superuser = connect(&database.url).await;
    let role = format!("role_{}", Uuid::now_v7().simple());
    let name: String = superuser.query_one("SELECT current_database()::text", &[]).await.expect("a name").get(0);
    superuser
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'test' NOSUPERUSER; ALTER DATABASE {name} OWNER TO {role};
             ALTER SCHEMA public OWNER TO {role}"
        ))
        .await
        .expect("a role of its own");

    let (scheme, rest) = database.url.split_once("://").expect("a URL");
    let (_, host) = rest.rsplit_once('@').expect("a user");
    let url = format!("{scheme}://{role}:test@{host}");
    let parsed = DatabaseUrl::parse(&url).expect("a URL");
    let settings = DatabaseSettings::of(parsed, &Env::of([("", ""); 0])).expect("settings");
    let pool = database::connect(Service::Payment, &settings, 1).expect("a pool");
    let migrated = database::migrate(&pool, &[store::MIGRATIONS]).await;
    pool.close();
    let owner = connect(&url).await;
    let outcome = tokio::spawn(async move {
        migrated.expect("the migrations apply");
        let whose = "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class WHERE relname = 'points_ledger'";
        assert!(owner.query_one(whose, &[]).await.expect("a row").get::<_, bool>(0), "the role owns the ledger");
        assert_append_only(&owner).await;
        let rights = "SELECT has_table_privilege('points_ledger', 'UPDATE'), has_table_privilege('points_ledger', 'DELETE'),
                             has_table_privilege('points_ledger', 'TRUNCATE'), has_table_privilege('points_ledger', 'INSERT')";
        let row = owner.query_one(rights, &[]).await.expect("a row");
        assert_eq!([0, 1, 2, 3].map(|column| row.get::<_, bool>(column)), [false, false, false, true]);
    })
    .await;

    // The server is everybody's: the role goes, also when the test failed.
    let back = format!(
        "ALTER DATABASE {name} OWNER TO CURRENT_USER; REASSIGN OWNED BY {role} TO CURRENT_USER;
                        DROP OWNED BY {role}; DROP ROLE {role}"
    );
    superuser.batch_execute(&back).await.expect("the role is dropped");
    outcome.expect("the ledger is append-only");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_deduction_or_refund_of_an_order_is_refused_by_key() {
    let database = Database::new(&[store::MIGRATIONS]).await;
    let client = connect(&database.url).await;
    let order_id = Uuid::now_v7();
    client.execute(ENTRY, &[&order_id]).await.expect("the first");
    let refund =
        ENTRY.replace("'DEDUCTED', -1, 5, $1", "'REFUNDED', 1, 6, $1").replace("trace_id)", "trace_id, reason)");
    let refund = refund.replace("repeat('a', 32))", "repeat('a', 32), 'TIMEOUT')");
    client.execute(&refund, &[&order_id]).await.expect("the first refund");
    for again in [ENTRY, &refund] {
        let error = client.execute(again, &[&order_id]).await.expect_err("the second");
        assert_eq!(error.code(), Some(&SqlState::UNIQUE_VIOLATION));
    }
}
