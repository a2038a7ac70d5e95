//! Accounts that an admin closes or limits.

use common_events::PaymentRefusal;
use reqwest::Method;
use serde_json::json;

use crate::cashier::{Cashier, order, problem};

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_account_refuses_charges_and_payments_but_never_refunds() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1_000).await;
    let (before, after) = (order(), order());
    cashier.reserve(before, "kim", 600).await;
    let account = cashier.account("kim", json!({"state": "CLOSED"})).await;
    assert_eq!(account, json!({"userId": "kim", "state": "CLOSED", "balance": 400}));

    assert_eq!(problem(cashier.try_charge("kim", 1).await).await, (409, "account-closed".to_owned()));
    cashier.reserve(after, "kim", 100).await;
    assert_eq!(cashier.failed().await, [(after, PaymentRefusal::AccountClosed)]);
    cashier.cancel(before, "kim").await;
    assert_eq!((cashier.refunds().await.len(), cashier.balance("kim").await), (1, 1_000));

    cashier.account("kim", json!({"state": "OPEN"})).await;
    cashier.charge("kim", 1).await;
    assert_eq!(cashier.balance("kim").await, 1_001);
    cashier.assert_lawful().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_payment_over_the_limit_is_refused_and_one_up_to_it_is_taken() {
    let cashier = Cashier::open().await;
    cashier.charge("kim", 1_000).await;
    let account = cashier.account("kim", json!({"state": "OPEN", "limitPerPayment": 300})).await;
    assert_eq!(account, json!({"userId": "kim", "state": "OPEN", "limitPerPayment": 300, "balance": 1_000}));
    let ids = [order(), order(), order()];
    cashier.seam.deliver_batch(&[cashier.reserved(ids[0], "kim", 301), cashier.reserved(ids[1], "kim", 300)]).await;
    assert_eq!(cashier.failed().await, [(ids[0], PaymentRefusal::LimitExceeded)]);
    assert_eq!(cashier.balance("kim").await, 700);

    let account = cashier.account("kim", json!({"state": "OPEN"})).await;
    assert_eq!(account.get("limitPerPayment"), None, "a PUT says all there is to say");
    cashier.reserve(ids[2], "kim", 700).await;
    assert_eq!(cashier.balance("kim").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_can_be_closed_before_its_user_ever_charged() {
    let cashier = Cashier::open().await;
    cashier.account("newcomer", json!({"state": "CLOSED"})).await;
    assert_eq!(problem(cashier.try_charge("newcomer", 1).await).await.0, 409);
    assert_eq!(cashier.balance("newcomer").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_admin_changes_accounts() {
    let cashier = Cashier::open().await;
    for roles in ["customer", "operator", "", "customer,operator"] {
        let put = cashier.call(Method::PUT, "/points/accounts/kim", "kim").header("X-Roles", roles);
        let answer = put.json(&json!({"state": "OPEN", "limitPerPayment": 1})).send().await.expect("an answer");
        assert_eq!(problem(answer).await.0, 403, "{roles}");
    }
}
