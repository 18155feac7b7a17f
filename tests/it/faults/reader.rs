//! A reader beside the faults: what it is told may be "try again", but is never wrong.

use std::collections::HashMap;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::event::OWNED;
use crate::support::http_get;

const PAUSE: Duration = Duration::from_millis(5);

/// Reads until told to stop; returns how many answers were 200, and how many 503. A store that is down is no miss; an
/// entry never gives way to an older one; and half a payload is never served.
pub async fn read_until(stop: CancellationToken, base: String, common: usize, seed: u64) -> (u64, u64) {
    let (mut random, mut newest, mut there, mut down) = (fastrand::Rng::with_seed(seed), HashMap::new(), 0, 0);
    while !stop.is_cancelled() {
        let is_owned = random.u8(..4) == 0;
        let key = match is_owned {
            true => format!("owned:{}", random.usize(..OWNED)),
            false => format!("common:{}", random.usize(..common)),
        };
        let reply = http_get(&format!("{base}/v1/keys/{key}")).await;
        match reply.status.as_u16() {
            200 => {
                there += 1;
                let version = reply.header("etag").to_owned();
                let payload = serde_json::from_slice::<serde_json::Value>(&reply.body);
                assert!(payload.is_ok_and(|payload| payload["n"].is_u64()), "{key}: {}", reply.text());
                let last = newest.insert(key.clone(), version.clone()).unwrap_or_default();
                assert!(last <= version, "{key}: {version} after {last}");
            }
            503 => down += 1,
            404 if !is_owned => {}
            status => panic!("{key}: {status} {}", reply.text()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    (there, down)
}
