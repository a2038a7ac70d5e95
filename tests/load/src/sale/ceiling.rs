//! How much this tool could send: a load that is slower than what it measures measures itself.

use std::time::Duration;

use serde::Serialize;

use super::{Empty, Rush, Sale, ask_all};
use crate::Live;

/// Enough for half a second or so.
const REQUESTS: u32 = 20_000;
const GONE: u16 = 410;

/// Found out against an empty handler on this machine, before the sale.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ceiling {
    /// Answers a second of the empty handler, tool and handler sharing the machine.
    pub per_second: f64,
    /// The tool's CPU time per request.
    #[serde(rename = "cpuMicrosPerRequest", serialize_with = "as_micros")]
    pub cpu_per_request: Duration,
}

impl Ceiling {
    /// The same requests as the sale's, over as many connections.
    pub async fn measure(connections: u32) -> anyhow::Result<Self> {
        let empty = Empty::start(GONE)?;
        let nothing = Sale {
            url: format!("http://{}", empty.address()),
            coupon: "nothing".parse()?,
            quantity: 0,
            run: "nobody".to_owned(),
        };
        let tally = ask_all(&nothing, &Rush::of(REQUESTS, connections), &Live::default()).await?;
        empty.stop().await?;
        Ok(Self { per_second: tally.per_second(), cpu_per_request: tally.cpu_per_request() })
    }
}

fn as_micros<S: serde::Serializer>(time: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(time.as_secs_f64() * 1_000_000.0)
}
