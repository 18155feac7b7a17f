//! A real process, killed with SIGKILL again and again while it accepts.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;

use crate::support::{Hookcache, eventually, http_get};

const ROUNDS: u64 = 200;
const CLIENTS: usize = 8;
/// The process is killed when it has acknowledged this many of a round, at most.
const ACKNOWLEDGED_MAX: usize = 60;

/// Each round: clients set as fast as they can, the process is killed after a seeded number of acknowledgements, in the
/// middle of the next ones, and started again on the same data. At the end every key that was acknowledged is readable.
#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_rounds_of_kill_nine_lose_no_acknowledged_set() {
    let mut random = fastrand::Rng::with_seed(2);
    let mut hookcache = Hookcache::start(&[], &[]).await;
    let acknowledged = Arc::new(Mutex::new(HashSet::new()));
    for round in 0..ROUNDS {
        let enough = acknowledged.lock().unwrap().len() + random.usize(1..=ACKNOWLEDGED_MAX);
        let clients: Vec<_> = (0..CLIENTS)
            .map(|client| {
                tokio::spawn(set_until_cut(hookcache.url(), format!("{round}-{client}"), acknowledged.clone()))
            })
            .collect();
        eventually("enough acknowledgements", || async {
            (acknowledged.lock().unwrap().len() >= enough).then_some(())
        })
        .await;
        hookcache.kill9();
        for client in clients {
            client.await.unwrap();
        }
        hookcache.start_again().await;
    }
    let keys: Vec<String> = acknowledged.lock().unwrap().iter().cloned().collect();
    assert!(keys.len() as u64 > ROUNDS);
    for key in keys {
        let url = format!("{}/v1/keys/{key}", hookcache.url());
        let reply = eventually(&format!("{key} is readable"), || async {
            Some(http_get(&url).await).filter(|reply| reply.status == 200)
        })
        .await;
        assert_eq!(reply.text(), format!("\"{key}\""));
    }
}

/// Sets one key after the other on one connection until the connection breaks; notes each key that was acknowledged.
async fn set_until_cut(base: String, name: String, acknowledged: Arc<Mutex<HashSet<String>>>) {
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    for n in 0.. {
        let key = format!("{name}-{n}");
        let body = format!(r#"{{"accountId":"a","flowId":"f","webhookKeys":["{key}"],"data":"{key}"}}"#);
        let request = http::Request::post(format!("{base}/v1/set"))
            .header("content-type", "application/json")
            .body(Full::new(body.into()))
            .unwrap();
        let Ok(reply) = client.request(request).await else { return };
        let (status, body) = (reply.status(), reply.into_body().collect().await);
        assert_eq!(status, 202, "{body:?}");
        acknowledged.lock().unwrap().insert(key);
    }
}
