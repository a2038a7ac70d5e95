//! Whoever is on duty hears of each dead letter, whatever dies in between.

use std::sync::{Arc, Mutex, PoisonError};

use common_events::Service;
use messaging::{delivery::Group, ladder::Alarm};
use service_runtime::settings::Url;
use test_support::{Database, eventually};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::SHORT;
use crate::toys::{self, Mood, Toy, Toys, records};

/// A webhook that answers as it is told to, and remembers what it heard.
struct Webhook {
    heard: Arc<Mutex<Vec<String>>>,
    status: Arc<Mutex<&'static str>>,
    url: Url,
}

impl Webhook {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/hook", listener.local_addr().expect("an address")).parse().expect("a URL");
        let (heard, status) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(Mutex::new("200 OK")));
        let (letters, answers) = (Arc::clone(&heard), Arc::clone(&status));
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                let mut request = String::new();
                let mut bytes = [0; 4096];
                while !request.ends_with('}') {
                    let read = connection.read(&mut bytes).await.unwrap_or_default();
                    if read == 0 {
                        break;
                    }
                    request.push_str(&String::from_utf8_lossy(&bytes[..read]));
                }
                let status = *answers.lock().unwrap_or_else(PoisonError::into_inner);
                let body = request.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
                letters.lock().unwrap_or_else(PoisonError::into_inner).push(body);
                let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
                let _ = connection.write_all(answer.as_bytes()).await;
            }
        });
        Self { heard, status, url }
    }

    fn answer(&self, status: &'static str) {
        *self.status.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }

    fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn group(webhook: &Webhook) -> (Database, Group) {
    let database = toys::database().await;
    let alarm = Alarm::to(webhook.url.clone()).expect("a client");
    let group = Group::new(database.pool.clone(), Toys::new().only_toys(Service::Order), SHORT).with_alarm(alarm);
    (database, group)
}

#[tokio::test]
async fn one_message_tells_of_all_that_died_together() {
    let webhook = Webhook::open().await;
    let (_database, group) = group(&webhook).await;
    let nonsense = records((0..3).map(|n| Toy::new(&n.to_string(), n, Mood::AnswersAndIsNonsense)));
    group.deliver(&nonsense).await.expect("the database answers");
    group.tell_alarms().await.expect("the database answers");
    let text = r#"{"text":"order-service: 3 dead letters: 3 × order-created (unprocessable)"}"#;
    assert_eq!(webhook.heard(), [text]);
    group.deliver(&nonsense).await.expect("the database answers");
    group.tell_alarms().await.expect("the database answers");
    assert_eq!(webhook.heard().len(), 1, "once");
}

#[tokio::test]
async fn an_alarm_that_nobody_heard_is_told_again_by_whichever_member_lives() {
    let webhook = Webhook::open().await;
    let (database, dying) = group(&webhook).await;
    webhook.answer("503 Service Unavailable");
    let nonsense = records([Toy::new("bear", 1, Mood::AnswersAndIsNonsense)]);
    dying.deliver(&nonsense).await.expect("the database answers");
    dying.tell_alarms().await.expect_err("the webhook refuses");
    dying.tell_alarms().await.expect_err("nothing is due, but nobody has heard it yet");
    drop(dying);
    webhook.answer("200 OK");
    let alarm = Alarm::to(webhook.url.clone()).expect("a client");
    let next = Group::new(database.pool.clone(), Toys::new().only_toys(Service::Order), SHORT).with_alarm(alarm);
    eventually("it is told again, after its pause", || async {
        next.tell_alarms().await.expect("the database answers");
        (webhook.heard().len() == 2).then_some(())
    })
    .await;
    assert_eq!(
        toys::count(&database.pool, "SELECT count(*) FROM dead_letters WHERE alarm_due_at IS NOT NULL").await,
        0
    );
}

#[tokio::test]
async fn a_webhook_that_never_answers_is_given_up() {
    let webhook = Webhook::open().await;
    let (database, group) = group(&webhook).await;
    webhook.answer("500 No");
    group.deliver(&records([Toy::new("bear", 1, Mood::AnswersAndIsNonsense)])).await.expect("the database answers");
    let client = database.pool.get().await.unwrap();
    let mut failed = 0;
    for _ in 0..20 {
        let now = "UPDATE dead_letters SET alarm_due_at = now() WHERE alarm_due_at IS NOT NULL";
        client.batch_execute(now).await.unwrap();
        failed += usize::from(group.tell_alarms().await.is_err());
    }
    assert_eq!((webhook.heard().len(), failed), (12, 12), "and that is logged");
}
