//! Against a real PostgreSQL.

#![expect(clippy::disallowed_methods, reason = "what a test starts ends with it")]

use actix_web::{FromRequest, test::TestRequest};
use rstest::rstest;

use super::*;
use crate::database::{migrate, own::OwnDatabase};

const CALL: &str = "POST /orders";

async fn migrated() -> OwnDatabase {
    let database = OwnDatabase::create().await;
    migrate(&database.pool, &[MIGRATIONS]).await.expect("migrates");
    database
}

fn user(id: &str) -> UserId {
    id.parse().expect("a user id")
}

fn key(text: &str) -> IdempotencyKey {
    text.parse().expect("a key")
}

fn pending(attempt: Attempt) -> Pending {
    match attempt {
        Attempt::First(pending) => pending,
        Attempt::Repeat(answer) => panic!("answered before: {answer:?}"),
    }
}

/// One whole call: takes the key, and answers 202 with `body` when it is the first.
async fn call(
    database: &OwnDatabase,
    who: &str,
    call: &'static str,
    request: &str,
    body: &str,
) -> Result<StoredAnswer, IdempotencyError> {
    let mut client = database.pool.get().await.expect("connects");
    let tx = client.transaction().await.expect("begins");
    let answer = match begin(&tx, &user(who), call, &key("k"), &request).await? {
        Attempt::First(first) => first.remember(&tx, StatusCode::ACCEPTED, Some("/orders/1".to_owned()), &body).await?,
        Attempt::Repeat(answer) => answer,
    };
    tx.commit().await.expect("commits");
    Ok(answer)
}

#[tokio::test]
async fn the_same_request_gets_the_same_answer_and_another_is_refused() {
    let database = migrated().await;
    let first = call(&database, "kim", CALL, "a", "one").await.expect("first");
    let again = call(&database, "kim", CALL, "a", "two").await.expect("repeated");
    assert_eq!(first, again);
    assert_eq!((again.status.as_u16(), again.body.as_str()), (202, r#""one""#));
    assert!(matches!(call(&database, "kim", CALL, "b", "two").await, Err(IdempotencyError::Reused)));
    database.drop().await;
}

#[tokio::test]
async fn a_key_is_the_caller_s_and_the_call_s_own() {
    let database = migrated().await;
    call(&database, "kim", CALL, "a", "one").await.expect("first");
    assert_eq!(call(&database, "lee", CALL, "a", "two").await.expect("another caller").body, r#""two""#);
    assert_eq!(call(&database, "kim", "POST /points/charge", "a", "3").await.expect("another call").body, r#""3""#);
    database.drop().await;
}

#[tokio::test]
async fn while_the_first_runs_a_second_is_refused_and_what_is_rolled_back_is_forgotten() {
    let database = migrated().await;
    let mut client = database.pool.get().await.expect("connects");
    let tx = client.transaction().await.expect("begins");
    let first = pending(begin(&tx, &user("kim"), CALL, &key("k"), &"a").await.expect("first"));
    assert!(matches!(call(&database, "kim", CALL, "a", "two").await, Err(IdempotencyError::InUse)));
    call(&database, "lee", CALL, "a", "two").await.expect("nobody else waits");
    first.remember(&tx, StatusCode::ACCEPTED, None, &"one").await.expect("remembers");
    tx.rollback().await.expect("rolls back");
    assert_eq!(call(&database, "kim", CALL, "a", "two").await.expect("nothing was remembered").body, r#""two""#);
    drop(client);
    database.drop().await;
}

#[tokio::test]
async fn while_a_repeated_call_runs_others_get_the_answer_too() {
    let database = migrated().await;
    let first = call(&database, "kim", CALL, "a", "one").await.expect("first");
    let mut client = database.pool.get().await.expect("connects");
    let repeating = client.transaction().await.expect("begins");
    let repeated = begin(&repeating, &user("kim"), CALL, &key("k"), &"a").await.expect("repeats");
    assert!(matches!(repeated, Attempt::Repeat(_)));
    assert_eq!(call(&database, "kim", CALL, "a", "two").await.expect("repeats beside it"), first);
    repeating.rollback().await.expect("rolls back");
    drop(client);
    database.drop().await;
}

/// A statement that begins before the first call commits, and gets the lock after it, must find the
/// answer, or the second call believes itself the first. A gate holds the statement in between.
#[tokio::test]
async fn the_look_for_the_answer_sees_what_committed_before_the_lock() {
    let database = migrated().await;
    let (gate, late) = (database.pool.get().await.expect("connects"), database.pool.get().await.expect("connects"));
    gate.batch_execute("SELECT pg_advisory_lock(42)").await.expect("closes the gate");
    let lock = lock_of(&user("kim"), CALL, &key("k"));
    let statement = format!(
        "SELECT found.locked, found.body \
         FROM (SELECT length(pg_advisory_lock(42)::text) AS zero) AS gate, \
         LATERAL begin_idempotent({lock} + gate.zero, 'kim', '{CALL}', 'k') AS found"
    );
    let looking = tokio::spawn(async move { late.query_one(&statement, &[]).await });
    let held = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let is_held = async {
        while gate.query_one(held, &[]).await.expect("counts").get::<_, i64>(0) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), is_held).await.expect("it reaches the gate");

    call(&database, "kim", CALL, "a", "one").await.expect("first");
    gate.batch_execute("SELECT pg_advisory_unlock(42)").await.expect("opens the gate");
    let found = looking.await.expect("no panic").expect("looks");
    assert_eq!((found.get(0), found.get(1)), (true, Some(r#""one""#)));
    drop(gate);
    database.drop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_many_at_once_exactly_one_is_the_first() {
    let database = migrated().await;
    for round in 0..20 {
        let request = format!("{round}");
        let who = format!("kim-{round}");
        let bodies: Vec<_> = (0..8).map(|nth| format!("{nth}")).collect();
        let calls = bodies.iter().map(|body| call(&database, &who, CALL, &request, body));
        let outcomes = futures::future::join_all(calls).await;
        let mut answers: Vec<_> = outcomes
            .into_iter()
            .filter_map(|outcome| match outcome {
                Ok(answer) => Some(answer.body),
                Err(IdempotencyError::InUse) => None,
                Err(other) => panic!("{other}"),
            })
            .collect();
        answers.dedup();
        assert_eq!(answers.len(), 1, "one answer, however often");
    }
    database.drop().await;
}

#[tokio::test]
async fn old_answers_are_deleted_and_young_ones_stay() {
    let database = migrated().await;
    call(&database, "kim", CALL, "a", "one").await.expect("first");
    call(&database, "lee", CALL, "a", "one").await.expect("first");
    let client = database.pool.get().await.expect("connects");
    let aged = "UPDATE idempotency_keys SET created_at = now() - interval '49 hours' WHERE user_id = 'kim'";
    client.batch_execute(aged).await.expect("ages");
    assert_eq!(clean_up::delete_old(&database.pool).await.expect("cleans up"), 1);
    assert_eq!(clean_up::delete_old(&database.pool).await.expect("cleans up"), 0);
    drop(client);
    database.drop().await;
}

#[rstest]
#[case(&[], "idempotency-key-missing")]
#[case(&[""], "idempotency-key-invalid")]
#[case(&["a b"], "idempotency-key-invalid")]
#[case(&["a", "b"], "idempotency-key-invalid")]
#[case(&[&*"x".repeat(256)], "idempotency-key-invalid")]
#[actix_web::test]
async fn a_missing_or_impossible_key_is_400(#[case] sent: &[&str], #[case] code: &str) {
    let request =
        sent.iter().fold(TestRequest::default(), |request, key| request.append_header(("Idempotency-Key", *key)));
    let problem = IdempotencyKey::extract(&request.to_http_request()).await.expect_err("refused");
    assert_eq!((problem.body().status, problem.body().code), (400, code));
}

#[actix_web::test]
async fn the_longest_key_is_taken() {
    let sent = "~".repeat(255);
    let request = TestRequest::default().insert_header(("Idempotency-Key", sent.as_str())).to_http_request();
    assert_eq!(IdempotencyKey::extract(&request).await.expect("valid").as_str(), sent);
}
