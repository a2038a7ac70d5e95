//! The operators' page in a browser, on a running suite: what is wrong is found, understood and mended by clicks.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use common_events::{OrderId, Service};
use openssl::{hash::MessageDigest, pkey::PKey, sign::Signer};
use reqwest::Method;
use serde_json::{Value, json};
use system::{
    Settings, Suite, eventually,
    monitor::Operator,
    shop::{Customer, Product},
    suite::{Instance, Process},
};

use crate::browser::Browser;

const PATIENCE: Duration = Duration::from_secs(40);
const SECRET: &str = "0123456789abcdef0123456789abcdef";
/// Pages of ten thousand rows open within this, in milliseconds, from the click to the last drawing …
const OPEN_WITHIN_MS: f64 = 300.0;
/// … on a machine whose browser draws a bare table of as many cells within this; on a slower one, in proportion.
const BARE_WITHIN_MS: f64 = 30.0;
/// How long the bare table is opened again and again.
const BARE_FOR: Duration = Duration::from_secs(5);
/// How long the machine may take to leave the browser what it needs for that.
const MACHINE_QUIET_WITHIN: Duration = Duration::from_secs(30);
/// Milliseconds from the click to the whole answer, and to the last drawing.
const NAVIGATION_TOOK: &str =
    "const took = performance.getEntriesByType('navigation')[0]; return [took.responseEnd, took.loadEventStart];";

/// A suite in which things get stuck soon, and somebody who looks at it.
struct Desk<'s> {
    suite: &'s Suite,
    olga: Operator<'s>,
    browser: Browser,
    kim: Customer,
    tea: Product,
}

impl<'s> Desk<'s> {
    async fn at(suite: &'s Suite) -> anyhow::Result<Self> {
        let tea = suite.shop.admin().create_product("Tea", 1_000, 1_000).await?;
        let kim = suite.shop.new_customer("kim");
        kim.charge(500_000).await?;
        let browser = Browser::start(suite.logs()).await?;
        let desk = Self { suite, olga: Operator::of(suite)?, browser, kim, tea };
        let order = desk.order().await?;
        desk.olga.saga(order, "COMPLETED", PATIENCE).await?;
        Ok(desk)
    }

    async fn order(&self) -> anyhow::Result<OrderId> {
        Ok(self.kim.place_order(&[(&self.tea.product_id, 1)]).await?.order_id)
    }

    async fn open(&self, path: &str) -> anyhow::Result<()> {
        self.browser.open(&self.url(path)).await
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.suite.url(Service::SagaMonitor, Instance::First))
    }

    async fn fault(&self, method: Method, body: Option<Value>) -> anyhow::Result<()> {
        let (status, answer) = self.olga.ask(Service::Product, method, "/admin/faults", body.as_ref()).await?;
        ensure!(status < 300, "{status} {answer}");
        Ok(())
    }
}

pub(crate) async fn an_operator_finds_what_is_wrong_and_mends_it_by_clicks() -> anyhow::Result<()> {
    let variables = [("STUCK_AFTER", "3s"), ("FAULT_INJECTION", "true"), ("LOCAL_OPERATOR", "olga")];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let suite = Suite::start(Settings { variables, ..Settings::default() }).await?;
    let desk = Desk::at(&suite).await?;
    a_stuck_saga_is_found_and_resumed(&desk).await.context("a stuck saga")?;
    dead_letters_are_replayed_and_discarded(&desk).await.context("dead letters")?;
    sagas_are_filtered(&desk).await.context("filters")?;
    each_page_opens_by_its_link_also_on_a_phone(&desk).await.context("each page")?;
    a_service_that_is_away_is_named(&desk).await.context("a service that is away")?;
    a_form_of_another_site_is_refused(&desk).await.context("another site")?;
    ten_thousand_rows_open_at_once(&desk).await.context("ten thousand rows")?;
    an_operator_signs_in_by_his_token(&desk).await.context("signing in")?;
    desk.browser.close().await
}

/// From the overview to the button: two clicks and a reason.
async fn a_stuck_saga_is_found_and_resumed(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    desk.open("/").await?;
    browser.until_shown("Nothing is wrong").await?;
    let database = desk.suite.database(Service::Product).await?;
    database
        .batch_execute(
            "CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
             CREATE TRIGGER lose BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.topic = 'stock-deducted')
             EXECUTE FUNCTION lose()",
        )
        .await?;
    let order = desk.order().await?;
    // Nobody reloads the page.
    browser.until_shown("1 thing needs you").await?;
    database.batch_execute("DROP TRIGGER lose ON outbox; DROP FUNCTION lose()").await?;
    browser.press("Open the saga").await?;
    browser.until_shown("Stuck: the answer got lost").await?;
    browser.until_shown("stock-deducted from product-service").await?;
    ensure!(browser.at().await?.ends_with(&order.to_string()), "{}", browser.at().await?);
    // What is being written is not swept away by what is new.
    browser.fill("#reason", "its answer got lost").await?;
    browser.until_shown("Paused while you fill in the form.").await?;
    let written = browser.eval("return document.querySelector('#reason').value").await?;
    ensure!(written == "its answer got lost", "{written}");
    browser.press("Resume").await?;
    browser.until_shown("Asked again.").await?;
    browser.until_shown("confirm order").await?;
    eventually("the saga is shown as completed", PATIENCE, async || {
        let heading = browser.eval("return document.querySelector('h1').innerText").await?;
        ensure!(heading.as_str().is_some_and(|text| text.contains("completed")), "{heading}");
        Ok(())
    })
    .await?;
    browser.is_content().await
}

async fn dead_letters_are_replayed_and_discarded(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    let fault = json!({
        "kind": "unprocessable", "topic": "order-line-placed", "key": desk.tea.product_id, "reason": "a test",
    });
    desk.fault(Method::PUT, Some(fault)).await?;
    let (first, second) = (desk.order().await?, desk.order().await?);
    desk.open("/").await?;
    browser.until_shown("Look at them").await?;
    browser.press("Look at them").await?;
    browser.until_shown("All of this cause at once").await?;
    desk.fault(Method::DELETE, None).await?;
    // The latest stands first: the one is discarded, the other replayed.
    browser.click("#letters tbody tr:first-child a.open").await?;
    browser.until_shown("product-service could not handle it").await?;
    browser.press("Discard it instead").await?;
    browser.fill("#discard input[name=reason]", "nobody wants it").await?;
    browser.click("#discard button.danger").await?;
    browser.until_shown("1 discarded").await?;
    browser.press("Back").await?;
    browser.until_shown("discarded").await?;

    desk.open("/dead-letters?service=product-service&state=DEAD").await?;
    browser.click("#letters tbody tr:first-child a.open").await?;
    browser.fill("#replay input[name=reason]", "mended").await?;
    browser.press("Dry run").await?;
    browser.until_shown("nothing was changed").await?;
    browser.until_shown("stock-deducted").await?;
    browser.press("Replay it now").await?;
    browser.until_shown("done").await?;
    ensure!(browser.at().await?.contains("/replays/product-service/"), "{}", browser.at().await?);
    let ended = async |order| desk.olga.saga(order, "COMPLETED", Duration::from_secs(5)).await;
    ensure!(ended(first).await.is_ok() || ended(second).await.is_ok(), "no order went on");
    desk.open("/audit").await?;
    browser.until_shown("nobody wants it").await?;
    browser.until_shown("olga").await?;
    browser.is_content().await
}

async fn sagas_are_filtered(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    desk.open("/sagas").await?;
    browser.choose("select[name=state]", "COMPLETED").await?;
    browser.click("#filters button").await?;
    eventually("only completed sagas are shown", PATIENCE, async || {
        ensure!(browser.at().await?.contains("state=COMPLETED"), "{}", browser.at().await?);
        let states =
            "return [...document.querySelectorAll('td[data-name=State]')].map((cell) => cell.innerText.trim())";
        let states: Vec<String> = serde_json::from_value(browser.eval(states).await?)?;
        ensure!(!states.is_empty() && states.iter().all(|state| state == "completed"), "{states:?}");
        Ok(())
    })
    .await?;
    browser.fill("input[name=olderThan]", "yesterday").await?;
    browser.click("#filters button").await?;
    browser.until_shown("takes a duration").await?;
    browser.is_content().await
}

async fn each_page_opens_by_its_link_also_on_a_phone(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    let order = desk.order().await?;
    desk.olga.saga(order, "COMPLETED", PATIENCE).await?;
    for (width, height) in [(1_280, 900), (360, 740)] {
        browser.resize(width, height).await?;
        desk.open("/").await?;
        for (link, heading, path, shown) in [
            ("Sagas", "Sagas", "/sagas", "#live tbody tr"),
            ("Dead letters", "By cause", "/dead-letters", "#letters tbody tr"),
            ("Replays", "Replays", "/replays", "#live tbody tr"),
            ("Consumers", "payment-service", "/consumers", "#group-payment-service .chart"),
            ("Events", "order-created", "/events", "tbody tr"),
            ("Where is an event?", "Where is it?", "/where", "main input[name=event]"),
            ("Audit", "resume", "/audit", "tbody tr"),
            ("Overview", "Services", "/", "section[aria-labelledby=services] tbody tr"),
            ("All alarms, also those that are over", "Alarms", "/alarms", "article.card"),
        ] {
            browser.press(link).await.with_context(|| format!("{link} at {width} px"))?;
            browser.until_shown(heading).await.with_context(|| format!("{link} at {width} px"))?;
            eventually(&format!("{path} shows {shown} at {width} px"), PATIENCE, async || {
                let question =
                    format!("return location.pathname === '{path}' && document.querySelector('{shown}') !== null");
                ensure!(
                    browser.eval(&question).await? == true,
                    "{} shows {}",
                    browser.at().await?,
                    browser.text().await?
                );
                Ok(())
            })
            .await?;
            fits(browser).await.with_context(|| format!("{link} at {width} px"))?;
        }
        // By what somebody has in his hands.
        browser.enter(".find input", &order.to_string()).await?;
        browser.until_shown("Its flow").await?;
        fits(browser).await.with_context(|| format!("a saga at {width} px"))?;
        browser.click("[id^=payload-] summary").await?;
        browser.until_shown("specversion").await?;
        browser.press("where it is").await?;
        browser.until_shown("applied").await?;
        browser.is_content().await?;
    }
    browser.resize(1_280, 900).await
}

/// Nothing stands out of the window to the right.
async fn fits(browser: &Browser) -> anyhow::Result<()> {
    let wide =
        browser.eval("return document.documentElement.scrollWidth - document.documentElement.clientWidth").await?;
    ensure!(wide == 0, "the page is {wide} px wider than the window");
    Ok(())
}

async fn a_service_that_is_away_is_named(desk: &Desk<'_>) -> anyhow::Result<()> {
    desk.suite.kill(Service::Payment)?;
    desk.open("/dead-letters").await?;
    desk.browser.until_shown("payment-service does not answer").await?;
    desk.suite.run(Service::Payment).await?;
    // And no longer, as soon as it is back.
    eventually("nobody is away", PATIENCE, async || {
        let shown = desk.browser.text().await?;
        ensure!(!shown.contains("does not answer"), "{shown}");
        Ok(())
    })
    .await?;
    desk.browser.is_content().await
}

/// By a page of another origin, in the same browser, in which the local operator would be believed.
async fn a_form_of_another_site_is_refused(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    let foreign = desk.suite.url(Service::Order, Instance::First).replace("127.0.0.1", "localhost");
    browser.open(&format!("{foreign}/health/live")).await?;
    let target = desk.url("/dead-letters/product-service/discard");
    let post = format!(
        "const form = document.createElement('form'); form.method = 'post'; form.action = '{target}';
         document.body.append(form); form.submit();"
    );
    browser.eval(&post).await?;
    browser.until_shown("This came from a page of another site").await?;
    // The browser tells of the 403.
    browser.complaints().await?;
    Ok(())
}

async fn ten_thousand_rows_open_at_once(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    let database = desk.suite.database(Service::SagaMonitor).await?;
    let more = "INSERT INTO sagas (saga, type, key, trace_id, state, started_at, fact_at, doubts, marks, facts)
         SELECT saga || n, type, key || n, trace_id, state, started_at - n * interval '1 second', fact_at, doubts, marks,
                facts
         FROM (SELECT * FROM sagas WHERE state = 'COMPLETED' LIMIT 1) AS one, generate_series(1, 10000) AS n";
    database.execute(more, &[]).await?;
    database.batch_execute("ANALYZE sagas").await?;
    let rows = format!("<tr>{}</tr>", "<td>some text</td>".repeat(6)).repeat(200);
    let bare = format!("data:text/html,<!doctype html><title>bare</title><table>{rows}</table>");
    let (bare, _) = opens_within(browser, &bare, BARE_WITHIN_MS, BARE_FOR).await?;
    let limit = OPEN_WITHIN_MS * (bare / BARE_WITHIN_MS).max(1.0);
    println!("a bare table opens within {bare:.0} ms, so the page has to within {limit:.0}");
    for path in ["/sagas?limit=200", "/sagas?state=COMPLETED&limit=200", "/", "/events?limit=200", "/dead-letters"] {
        let (drawn, answered) = opens_within(browser, &desk.url(path), limit, MACHINE_QUIET_WITHIN).await?;
        println!("{path} opens within {drawn:.0} ms, {answered:.0} of them until the answer was there");
        ensure!(drawn <= limit, "{path} takes {drawn:.0} ms of {limit:.0}");
    }
    database.execute("DELETE FROM sagas WHERE length(key) > 36", &[]).await?;
    browser.is_content().await
}

/// How long the page takes to be drawn, and until its answer is there, in milliseconds. The machine of a test is busy, and
/// both cores are what a browser wants: the best is what the page takes.
async fn opens_within(browser: &Browser, url: &str, limit: f64, patience: Duration) -> anyhow::Result<(f64, f64)> {
    let (mut best, mut answered, patience) = (f64::INFINITY, 0.0, Instant::now() + patience);
    while best > limit && Instant::now() < patience {
        browser.open(url).await?;
        let took = browser.eval(NAVIGATION_TOOK).await?;
        let [answer, drawn]: [f64; 2] = serde_json::from_value(took).context("two times")?;
        if drawn < best {
            (best, answered) = (drawn, answer);
        }
    }
    Ok((best, answered))
}

/// A token as an identity provider would sign it.
fn token(role: &str) -> anyhow::Result<String> {
    let part = |json: Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    let exp = chrono::Utc::now().timestamp() + 600;
    let claims = json!({"sub": "olga", "aud": "commerce", "exp": exp, "roles": [role]});
    let said = format!("{}.{}", part(json!({"alg": "HS256", "typ": "JWT"})), part(claims));
    let key = PKey::hmac(SECRET.as_bytes())?;
    let signature = Signer::new(MessageDigest::sha256(), &key)?.sign_oneshot_to_vec(said.as_bytes())?;
    Ok(format!("{said}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature)))
}

/// At another instance of the monitor, which asks for tokens.
async fn an_operator_signs_in_by_his_token(desk: &Desk<'_>) -> anyhow::Result<()> {
    let browser = &desk.browser;
    let mut variables = desk.suite.variables(Service::SagaMonitor, Instance::Second);
    let others = ["AUTH_MODE", "LOCAL_OPERATOR"];
    variables.retain(|(name, _)| !others.contains(&&**name));
    for (name, value) in [("AUTH_MODE", "jwt"), ("AUTH_JWT_SECRET", SECRET), ("AUTH_JWT_AUDIENCE", "commerce")] {
        variables.push((name.to_owned(), value.to_owned()));
    }
    let program = desk.suite.program(Service::SagaMonitor);
    let log = desk.suite.logs().join("saga-monitor-with-tokens.log");
    let _monitor = Process::spawn_with(&program, &[], &variables, &log)?;
    let url = desk.suite.url(Service::SagaMonitor, Instance::Second);
    eventually("the other monitor is there", PATIENCE, async || browser.open(&format!("{url}/sign-in")).await).await?;
    browser.until_shown("Sign in").await?;
    browser.complaints().await?;
    browser.enter("#token", &token("customer")?).await?;
    browser.until_shown("not an operator's").await?;
    // The browser tells of the 403.
    browser.complaints().await?;
    browser.enter("#token", &token("operator")?).await?;
    browser.until_shown("Sign out").await?;
    browser.press("Sagas").await?;
    browser.until_shown("completed").await?;
    let seen_by_scripts = browser.eval("return document.cookie").await?;
    ensure!(seen_by_scripts == "", "{seen_by_scripts}");
    browser.is_content().await?;
    browser.press("Sign out").await?;
    browser.until_shown("Paste the token").await?;
    browser.is_content().await?;
    browser.open(&format!("{url}/sagas")).await?;
    browser.until_shown("Paste the token").await
}
