//! The log lets nobody change it, and everything that is shown can be made again from it.

use common_events::Service;
use messaging::{OwnTopic, Rung};
use saga_monitor::events::recorder::rebuild;

use crate::{story::Story, watch::Watch};

/// A database as it is deployed: of a role of its own, which owns the tables. What PostgreSQL says of it.
async fn as_own_role(watch: &Watch, sql: &str) -> String {
    let client = watch.database.pool.get().await.expect("a connection");
    let role = format!("monitor_{}", uuid::Uuid::now_v7().simple());
    let owned = "saga_state_log, sagas, hops, read_positions";
    for table in owned.split(", ") {
        // Who owns the table is who ran the migration.
        let moved = format!(
            "DO $$ BEGIN CREATE ROLE {role}; EXCEPTION WHEN duplicate_object THEN NULL; END $$;
             ALTER TABLE {table} OWNER TO {role}; GRANT USAGE ON SCHEMA public TO {role};"
        );
        client.batch_execute(&moved).await.expect("a superuser may");
    }
    let tried = client.batch_execute(&format!("SET ROLE {role}; {sql}")).await;
    let back = format!("RESET ROLE; REASSIGN OWNED BY {role} TO CURRENT_USER; DROP OWNED BY {role}; DROP ROLE {role}");
    client.batch_execute("ROLLBACK").await.expect("nothing is open");
    client.batch_execute(&back).await.expect("a superuser may");
    tried.err().map_or_else(|| "done".to_owned(), |error| said(&error))
}

fn said(error: &tokio_postgres::Error) -> String {
    let error = error.as_db_error().expect("PostgreSQL's");
    assert_eq!(error.code().code(), "42501", "{error}");
    error.message().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_insert_only_also_for_the_services_own_role_and_for_a_superuser() {
    let watch = Watch::begin().await;
    watch.hear_all(&Story::of_a_confirmed_order()).await;
    let rows = watch.count("saga_state_log").await;
    for change in ["UPDATE saga_state_log SET step = 'x'", "DELETE FROM saga_state_log", "TRUNCATE saga_state_log"] {
        assert_eq!(as_own_role(&watch, change).await, "permission denied for table saga_state_log", "{change}");
        // Should somebody grant it the right, there is still the trigger.
        let with_the_right = format!("GRANT ALL ON saga_state_log TO CURRENT_USER; {change}");
        let refused = as_own_role(&watch, &with_the_right).await;
        assert!(refused.starts_with("saga_state_log is insert-only: "), "{change}: {refused}");
        let client = watch.database.pool.get().await.expect("a connection");
        let refused = said(&client.batch_execute(change).await.expect_err("refused"));
        assert!(refused.starts_with("saga_state_log is insert-only: "), "{change}, as superuser: {refused}");
    }
    assert_eq!(watch.count("saga_state_log").await, rows);
    assert_eq!(as_own_role(&watch, "DELETE FROM sagas").await, "done", "the projection is another matter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rebuild_makes_the_same_projection_from_the_log() {
    let watch = Watch::begin().await;
    let (done, undone) = (Story::of_a_confirmed_order(), Story::of_a_compensated_order());
    let open = Story::of(&["tea"]).created().placed();
    watch.hear_all(&done).await;
    watch.hear_all(&undone).await;
    let records = watch.hear_all(&open).await;
    watch.hear(&[watch.hop(Service::Product, OwnTopic::Retry(Rung::Second), &records[1], 4, open.next_at)]).await;
    watch.hear(&[watch.record("order-created", "x", b"rubbish", open.next_at)]).await;
    let before = watch.get("/api/sagas").await;
    let detail = watch.saga(open.order).await;
    {
        let client = watch.database.pool.get().await.expect("a connection");
        client
            .batch_execute("UPDATE sagas SET state = 'FAILED', facts = 'gone'; DELETE FROM hops")
            .await
            .expect("a mess");
    }
    let rows = rebuild(&watch.database.pool).await.expect("it is rebuilt");
    assert_eq!(i64::try_from(rows).expect("few"), watch.count("saga_state_log").await);
    assert_eq!(watch.get("/api/sagas").await, before);
    assert_eq!(watch.saga(open.order).await, detail);
    assert_eq!(watch.count("hops").await, 1);
}
