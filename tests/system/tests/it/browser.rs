//! A headless Chromium, driven as somebody would use it: real clicks and keys, and everything that its console says.

use std::{net::TcpListener, path::PathBuf, time::Duration};

use anyhow::{Context, ensure};
use fantoccini::{Client, ClientBuilder, Locator, elements::Element};
use serde_json::{Value, json};
use system::{eventually, suite::Process};

/// How long something may take to show up.
const PATIENCE: Duration = Duration::from_secs(40);
const ENTER: &str = "\u{e007}";

/// A browser with a profile of its own. Dropped, it is killed with its driver.
pub(crate) struct Browser {
    client: Client,
    driver_url: String,
    http: reqwest::Client,
    profile: PathBuf,
    _driver: Process,
}

impl Browser {
    /// Starts one.
    pub(crate) async fn start(logs: &std::path::Path) -> anyhow::Result<Self> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let (driver_url, profile) = (format!("http://127.0.0.1:{port}"), logs.join(format!("browser-{port}")));
        let driver =
            Process::spawn_with(&driver_program()?, &[format!("--port={port}")], &[], &logs.join("chromedriver.log"))?;
        let http = reqwest::Client::builder().no_proxy().build().context("an HTTP client")?;
        eventually("chromedriver is ready", PATIENCE, async || {
            let status: Value = http.get(format!("{driver_url}/status")).send().await?.json().await?;
            ensure!(status["value"]["ready"] == true, "{status}");
            Ok(())
        })
        .await?;
        let client = session(&driver_url, &profile).await?;
        Ok(Self { client, driver_url, http, profile, _driver: driver })
    }

    /// Looks at a page.
    pub(crate) async fn open(&self, url: &str) -> anyhow::Result<()> {
        self.client.goto(url).await.with_context(|| url.to_owned())
    }

    /// The address of the page.
    pub(crate) async fn at(&self) -> anyhow::Result<String> {
        Ok(self.client.current_url().await?.to_string())
    }

    /// Changes the size of the window.
    pub(crate) async fn resize(&self, width: u32, height: u32) -> anyhow::Result<()> {
        self.client.set_window_size(width, height).await.context("resizing")
    }

    /// Clicks what is found by a CSS selector, once it is there.
    pub(crate) async fn click(&self, css: &str) -> anyhow::Result<()> {
        self.act(css, async |element| element.click().await).await
    }

    /// Clicks a link or button by what it says.
    pub(crate) async fn press(&self, says: &str) -> anyhow::Result<()> {
        let path = format!("//*[self::a or self::button or self::summary][normalize-space()='{says}']");
        eventually(&format!("{says:?} is pressed"), PATIENCE, async || {
            let element = self.client.find(Locator::XPath(&path)).await?;
            element.click().await.context("clicking")
        })
        .await
    }

    /// Types into a field.
    pub(crate) async fn fill(&self, css: &str, text: &str) -> anyhow::Result<()> {
        self.act(css, async |element| {
            element.clear().await?;
            element.send_keys(text).await
        })
        .await
    }

    /// Types into a field and presses Enter.
    pub(crate) async fn enter(&self, css: &str, text: &str) -> anyhow::Result<()> {
        self.fill(css, &format!("{text}{ENTER}")).await
    }

    /// Chooses from a list by its value.
    pub(crate) async fn choose(&self, css: &str, value: &str) -> anyhow::Result<()> {
        self.act(css, async |element| element.select_by_value(value).await).await
    }

    /// Waits until the page shows this, without anybody reloading it.
    pub(crate) async fn until_shown(&self, text: &str) -> anyhow::Result<()> {
        eventually(&format!("{text:?} is shown"), PATIENCE, async || {
            let shown = self.text().await?;
            ensure!(shown.contains(text), "{} shows {shown}", self.at().await?);
            Ok(())
        })
        .await
    }

    /// Everything that somebody can read on the page.
    pub(crate) async fn text(&self) -> anyhow::Result<String> {
        Ok(self.client.find(Locator::Css("body")).await?.text().await?)
    }

    /// What a script in the page says.
    pub(crate) async fn eval(&self, script: &str) -> anyhow::Result<Value> {
        self.client.execute(script, Vec::new()).await.context("a script")
    }

    /// Everything that the console said since it was last asked, and nobody wants to read there.
    pub(crate) async fn complaints(&self) -> anyhow::Result<Vec<String>> {
        let session = self.client.session_id().await?.context("a session")?;
        let url = format!("{}/session/{session}/se/log", self.driver_url);
        let said: Value = self.http.post(url).json(&json!({"type": "browser"})).send().await?.json().await?;
        let entries = said["value"].as_array().with_context(|| said.to_string())?;
        let bad = entries.iter().filter(|entry| ["SEVERE", "WARNING"].iter().any(|level| entry["level"] == *level));
        Ok(bad.map(|entry| format!("{}: {}", entry["source"], entry["message"])).collect())
    }

    /// The console said nothing that anybody has to worry about: no error, no violation of the policy.
    pub(crate) async fn is_content(&self) -> anyhow::Result<()> {
        let complaints = self.complaints().await?;
        ensure!(complaints.is_empty(), "{}: {complaints:?}", self.at().await?);
        Ok(())
    }

    /// Ends the session.
    pub(crate) async fn close(self) -> anyhow::Result<()> {
        self.client.clone().close().await.context("closing the browser")
    }

    async fn act(
        &self,
        css: &str,
        act: impl AsyncFn(Element) -> Result<(), fantoccini::error::CmdError>,
    ) -> anyhow::Result<()> {
        eventually(&format!("{css} is there"), PATIENCE, async || {
            let element = self.client.find(Locator::Css(css)).await?;
            act(element).await.with_context(|| css.to_owned())
        })
        .await
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.profile);
    }
}

fn driver_program() -> anyhow::Result<PathBuf> {
    let paths = ["/usr/bin/chromedriver", "/usr/lib/chromium/chromedriver", "/usr/local/bin/chromedriver"];
    let found = paths.into_iter().map(PathBuf::from).find(|path| path.exists());
    found.context("chromedriver isn't there: deploy/local/suite install-for-tests")
}

async fn session(driver_url: &str, profile: &std::path::Path) -> anyhow::Result<Client> {
    let arguments = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-dev-shm-usage",
        "--window-size=1280,900",
        &format!("--user-data-dir={}", profile.display()),
    ];
    let capabilities = json!({
        "browserName": "chrome",
        "goog:chromeOptions": {"args": arguments},
        "goog:loggingPrefs": {"browser": "ALL"},
    });
    let capabilities = capabilities.as_object().cloned().context("an object")?;
    ClientBuilder::native().capabilities(capabilities).connect(driver_url).await.context("starting Chromium")
}
