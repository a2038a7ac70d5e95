//! The gate without a service around it: `EVALSHA` of the service's own script, sent by Redis's own benchmark.

use std::process::Stdio;

use anyhow::{Context, ensure};
use redis::aio::MultiplexedConnection;
use system::{
    Suite,
    shop::{CouponMode, Discount, NewCoupon},
};
use tokio::process::Command;
use url::Url;
use uuid::Uuid;

/// The service's script, byte for byte.
const ADMIT: &str = include_str!("../../../coupon-service/src/gate/admit.lua");
/// As the script wants them: state, holders, tokens, pending, freed.
const KEYS: [&str; 5] = ["state", "holders", "tokens", "pending", "freed"];
/// Of the same length as a request's id, and a trace.
const REQUEST: &str = "0190b5e5-7c1f-7a3e-9d2b-000000000000";
const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A gate that belongs to no coupon of any service, so that nobody tends it.
pub(crate) struct BareGate {
    redis: MultiplexedConnection,
    url: Url,
    /// What an open gate of the service looks like; each run begins with a copy.
    open: String,
    keys: [String; 5],
    sha: String,
    run_id: String,
}

impl BareGate {
    /// As the service opens it for so many coupons in this mode.
    pub(crate) async fn like_one_of(suite: &Suite, mode: CouponMode, quantity: i64) -> anyhow::Result<Self> {
        let url = Url::parse(&suite.parts().redis).context("Redis's address")?;
        let mut redis = redis::Client::open(url.as_str())?.get_multiplexed_async_connection().await?;
        let new = NewCoupon::of(mode, quantity, Discount::Amount { value: 1_000 });
        let coupon = suite.shop.admin().create_coupon(&new).await?.coupon_id;
        let own: Vec<String> = redis::cmd("KEYS").arg(format!("*{coupon}*")).query_async(&mut redis).await?;
        let [state] = &own[..] else { anyhow::bail!("a fresh gate has the keys {own:?}") };
        let name = format!("bench-{}", Uuid::now_v7().simple());
        let (open, keys) = (format!("{name}:open"), KEYS.map(|key| format!("{name}:{key}")));
        redis::cmd("COPY").arg(state).arg(&open).exec_async(&mut redis).await?;
        let sha: String = redis::cmd("SCRIPT").arg("LOAD").arg(ADMIT).query_async(&mut redis).await?;
        let run_id: String = redis::cmd("HGET").arg(state).arg("run_id").query_async(&mut redis).await?;
        Ok(Self { redis, url, open, keys, sha, run_id })
    }

    /// So many requests by random users out of so many, over so many connections, to a gate that is still
    /// empty. Returns answers a second.
    pub(crate) async fn answers_per_second(
        &mut self,
        requests: u32,
        users: u32,
        connections: u32,
    ) -> anyhow::Result<f64> {
        self.clear().await?;
        redis::cmd("COPY").arg(&self.open).arg(&self.keys[0]).exec_async(&mut self.redis).await?;
        let output = Command::new("redis-benchmark")
            .args(["-h", self.url.host_str().context("Redis's host")?])
            .args(["-p", &self.url.port().unwrap_or(6379).to_string()])
            .args(["-n", &requests.to_string(), "-r", &users.to_string(), "-c", &connections.to_string(), "--csv"])
            .args(["EVALSHA", &self.sha, &self.keys.len().to_string()])
            .args(&self.keys)
            .args([&self.run_id, "bench-__rand_int__", REQUEST, TRACE])
            .stdin(Stdio::null())
            .output()
            .await
            .context("redis-benchmark")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "redis-benchmark said {said}{}", String::from_utf8_lossy(&output.stderr));
        // "the command","answers a second","…" is its last line.
        let figure = said.lines().last().and_then(|line| line.split("\",\"").nth(1));
        let rate = figure.and_then(|text| text.trim_matches('"').parse().ok());
        let admitted: i64 = redis::cmd("SCARD").arg(&self.keys[1]).query_async(&mut self.redis).await?;
        ensure!(admitted > 0, "the bare gate let nobody in: {said}");
        rate.with_context(|| format!("redis-benchmark said {said}"))
    }

    /// Removes it.
    pub(crate) async fn close(mut self) -> anyhow::Result<()> {
        self.clear().await?;
        redis::cmd("DEL").arg(&self.open).exec_async(&mut self.redis).await.context("closing the bare gate")
    }

    async fn clear(&mut self) -> anyhow::Result<()> {
        redis::cmd("DEL").arg(&self.keys).exec_async(&mut self.redis).await.context("clearing the bare gate")
    }
}
