//! The audit log: everything stands in it, and nobody can change it.

use actix_web::http::Method;
use chrono::{DateTime, SubsecRound, Utc};
use serde_json::{Value, json};
use service_runtime::{
    database::{self},
    settings::{DatabaseSettings, DatabaseUrl, Env, Setting},
};
use test_support::{Database, made_at};
use uuid::Uuid;

use super::{Desk, OWN, answering};

#[actix_web::test]
async fn who_did_what_when_why_and_with_what_result() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..3).map(answering)).await;
    let replay = desk.replay(json!({"ids": [letters[0]], "reason": "mended"})).await;
    desk.finish(&replay, OWN).await;
    desk.discard(json!({"ids": [letters[1]], "reason": "a test order"})).await;
    let audit = desk.get("/admin/audit?who=olga").await;
    let lines: Vec<_> =
        audit.items().iter().map(|line| json!([line["action"], line["reason"], line["result"]])).collect();
    let line = |action: &str, reason: Value| json!([action, reason, "DONE"]);
    assert_eq!(
        lines,
        [
            line("discard", json!("a test order")),
            line("replay", json!("mended")),
            line("fault-cleared", Value::Null),
            line("fault-set", json!("a test")),
        ]
    );
    let discarded = &audit.items()[0];
    assert_eq!(discarded["subject"]["ids"], json!([letters[1]]));
    assert_eq!(discarded["detail"]["discarded"], 1);
    assert!(discarded["at"].is_string() && discarded["traceId"].is_string());
    assert_eq!(audit.items()[1]["detail"]["replayId"], replay.body["id"]);
    let by_itself = desk.get("/admin/audit?action=replay-done").await;
    assert_eq!(by_itself.items()[0]["who"], "order-service");
    assert_eq!(by_itself.items()[0]["detail"]["applied"], 1);
}

#[actix_web::test]
async fn every_refusal_stands_there_too() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys([answering(1)]).await;
    let replay = "/admin/dead-letters/replay";
    desk.replay(json!({"ids": letters})).await;
    desk.replay(json!({"ids": [Uuid::now_v7()], "reason": "who knows"})).await;
    desk.call_as(&[("X-User-Id", "olga"), ("X-Roles", "operator")], Method::POST, replay, "rubbish").await;
    desk.call_as(&[("X-User-Id", "kim")], Method::POST, replay, &json!({"ids": letters, "reason": "mine"}).to_string())
        .await;
    desk.discard(json!({"filter": {"key": "gh\u{0}st"}, "reason": "a\u{0}b"})).await;
    let audit = desk.get("/admin/audit?result=REFUSED").await;
    let lines: Vec<_> = audit
        .items()
        .iter()
        .map(|line| {
            json!([line["who"], line["action"], line["reason"], line["detail"]["status"], line["detail"]["code"]])
        })
        .collect();
    assert_eq!(
        lines,
        [
            json!(["olga", "discard", null, 422, "invalid-field"]),
            json!(["kim", "replay", "mine", 403, "forbidden"]),
            json!(["olga", "replay", null, 400, "malformed-json"]),
            json!(["olga", "replay", "who knows", 404, "unknown-dead-letter"]),
            json!(["olga", "replay", null, 422, "invalid-field"]),
        ]
    );
    assert_eq!(audit.items()[4]["subject"]["ids"], json!(letters));
    assert_eq!(audit.items()[4]["detail"]["field"], "reason");
}

#[actix_web::test]
async fn it_is_read_page_by_page() {
    let desk = Desk::open().await;
    for n in 0..5 {
        desk.replay(json!({"ids": [Uuid::now_v7()], "reason": format!("{n}")})).await;
    }
    let first = desk.get("/admin/audit?limit=3").await;
    assert_eq!(first.items().len(), 3);
    assert_eq!(first.items()[0]["reason"], "4");
    let cursor = first.body["nextCursor"].as_str().expect("there is more");
    let second = desk.get(&format!("/admin/audit?limit=3&cursor={cursor}")).await;
    assert_eq!((second.items().len(), &second.items()[1]["reason"]), (2, &json!("0")));
    assert_eq!(desk.get("/admin/audit?action=nonsense").await.refusal(), (400, "invalid-query", "action"));
}

#[actix_web::test]
async fn what_is_listed_by_its_id_is_of_the_moment_that_the_id_is_of() {
    let desk = Desk::open().await;
    let (_, letters) = desk.bury_toys((0..10).map(answering)).await;
    for _ in 0..10 {
        desk.replay(json!({"ids": letters, "reason": "mended"})).await;
        desk.replay(json!({"ids": letters})).await;
    }
    for (list, time) in [("audit", "at"), ("dead-letters", "lastFailedAt"), ("replays", "askedAt")] {
        let page = desk.get(&format!("/admin/{list}")).await;
        assert!(page.items().len() >= 10, "{list}: {}", page.body);
        for item in page.items() {
            let id: Uuid = serde_json::from_value(item["id"].clone()).expect("an id");
            let at: DateTime<Utc> = serde_json::from_value(item[time].clone()).expect("a time");
            assert_eq!(made_at(id), at.trunc_subsecs(3), "{list}: {item}");
        }
    }
}

const CHANGES: [&str; 4] = [
    "UPDATE audit_log SET who = 'nobody'",
    "DELETE FROM audit_log",
    "TRUNCATE audit_log",
    "INSERT INTO audit_log (id, who, action, subject, result, detail)
     SELECT id, 'nobody', action, subject, result, detail FROM audit_log
     ON CONFLICT (id) DO UPDATE SET who = 'nobody'",
];

#[actix_web::test]
async fn nobody_changes_it_not_even_a_superuser_who_replicates() {
    let desk = Desk::open().await;
    desk.replay(json!({"ids": [Uuid::now_v7()], "reason": "r"})).await;
    let client = desk.pool().get().await.expect("a connection");
    for mode in ["origin", "replica"] {
        client.batch_execute(&format!("SET session_replication_role = {mode}")).await.expect("a superuser may");
        for change in CHANGES {
            let refused = client.batch_execute(change).await.expect_err(change);
            assert_eq!(refused.code().expect("a code").code(), "42501", "{mode}: {change}");
        }
    }
    assert_eq!(desk.count("SELECT count(*) FROM audit_log WHERE who = 'olga'").await, 1);
}

#[actix_web::test]
async fn the_role_that_owns_the_database_only_appends() {
    let database = Database::new(&[]).await;
    let superuser = database.pool.get().await.expect("a connection");
    let name: String = superuser.query_one("SELECT current_database()", &[]).await.expect("a name").get(0);
    let role = format!("role_{}", Uuid::now_v7().simple());
    superuser
        .batch_execute(&format!(
            "CREATE ROLE {role} LOGIN PASSWORD 'test' NOSUPERUSER; ALTER DATABASE {name} OWNER TO {role};
             ALTER SCHEMA public OWNER TO {role}"
        ))
        .await
        .expect("a role of its own");
    let outcome = {
        let (scheme, rest) = database.url.split_once("://").expect("an URL");
        let (_, host) = rest.split_once('@').expect("credentials");
        as_owner(&format!("{scheme}://{role}:test@{host}")).await
    };
    let back = format!(
        "ALTER DATABASE {name} OWNER TO CURRENT_USER; REASSIGN OWNED BY {role} TO CURRENT_USER;
         DROP OWNED BY {role}; DROP ROLE {role}"
    );
    superuser.batch_execute(&back).await.expect("the role is dropped");
    assert_eq!(outcome, Ok(()));
}

/// Migrates and works as this role, and tries to rewrite history.
async fn as_owner(url: &str) -> Result<(), String> {
    let parsed = DatabaseUrl::parse(url).expect("a PostgreSQL URL");
    let settings = DatabaseSettings::of(parsed, &Env::of([("", ""); 0])).expect("defaults are right");
    let pool = database::connect(common_events::Service::Order, &settings, 2).expect("a pool");
    database::migrate(&pool, &[messaging::MIGRATIONS]).await.map_err(|error| format!("{error:#}"))?;
    let client = pool.get().await.map_err(|error| error.to_string())?;
    let insert = "INSERT INTO audit_log (id, who, action, subject, result, detail)
                  VALUES (gen_random_uuid(), 'olga', 'replay', '{}', 'DONE', '{}')";
    client.batch_execute(insert).await.map_err(|error| format!("{error:?}"))?;
    let owns = "SELECT pg_get_userbyid(relowner) = current_user FROM pg_class WHERE relname = 'audit_log'";
    let owns: bool = client.query_one(owns, &[]).await.map_err(|error| error.to_string())?.get(0);
    if !owns {
        return Err("the role doesn't own the log".to_owned());
    }
    for right in ["UPDATE", "DELETE", "TRUNCATE"] {
        let sql = "SELECT has_table_privilege(current_user, 'audit_log', $1)";
        if client.query_one(sql, &[&right]).await.map_err(|error| error.to_string())?.get(0) {
            return Err(format!("the role has the right to {right}"));
        }
    }
    for change in CHANGES {
        match client.batch_execute(change).await {
            Ok(()) => return Err(format!("went through: {change}")),
            Err(error) if error.code().map(tokio_postgres::error::SqlState::code) == Some("42501") => {}
            Err(error) => return Err(format!("{change}: {error:?}")),
        }
    }
    drop(client);
    pool.close();
    Ok(())
}
