//! A connection that is cut in the middle of a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hookcache::store::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{cli, halves, options};
use crate::store_contract::{all_unavailable, keys, now_ms, put, put_payload};
use crate::support::{Redis, eventually};

/// Passes bytes on to a server, until this many went there in all; then it cuts every connection, new ones too.
struct Cutter {
    port: u16,
    left: Arc<AtomicUsize>,
}

impl Cutter {
    async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let left = Arc::new(AtomicUsize::new(usize::MAX));
        let budget = Arc::clone(&left);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass_on(client, server, Arc::clone(&budget)));
            }
        });
        Self { port, left }
    }

    fn cut_after(&self, bytes: usize) {
        self.left.store(bytes, Ordering::SeqCst);
    }
}

async fn pass_on(client: TcpStream, server: u16, left: Arc<AtomicUsize>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let back = async { drop(tokio::io::copy(&mut from_server, &mut to_client).await) };
    let there = async {
        let mut chunk = [0; 4_096];
        while let Ok(length @ 1..) = from_client.read(&mut chunk).await {
            let before = left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| Some(n.saturating_sub(length)));
            let allowed = length.min(before.expect("it always has a value"));
            if to_server.write_all(&chunk[..allowed]).await.is_err() || allowed < length {
                return;
            }
        }
    };
    tokio::select! { () = back => {}, () = there => {} }
}

#[tokio::test]
async fn a_write_of_a_thousand_keys_that_is_cut_off_ends_complete_when_repeated() {
    let redis = Redis::start().await;
    let cutter = Cutter::start(redis.port()).await;
    let store = halves(&options(&format!("redis://127.0.0.1:{}", cutter.port)));
    let names: Vec<String> = (0..1_000).map(|i| format!("key-{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let write = put_payload("acme", 5, &names, "x".repeat(10_000));
    // Loads the script, so that what is cut is the write itself.
    assert_eq!(store.one(put("acme", 1, &["warm"])).await, [Outcome::Written]);
    cutter.cut_after(90_000);
    let results = store.writer.write(std::slice::from_ref(&write), now_ms()).await;
    assert!(all_unavailable(&results), "{results:?}");
    cutter.cut_after(usize::MAX);
    let there: usize = eventually("some of the keys", || async {
        let keys: usize = cli(&redis, &["DBSIZE"]).await.parse().expect("a number");
        (keys > 1).then_some(keys - 1)
    })
    .await;
    assert!((64..1_000).contains(&there), "cut between calls: {there}");
    let repeated = store.one(write).await;
    assert_eq!(repeated.iter().filter(|&&outcome| outcome == Outcome::Duplicate).count(), there);
    assert_eq!(repeated.iter().filter(|&&outcome| outcome == Outcome::Written).count(), 1_000 - there);
    for read in store.reader.get_many(&keys(&names)).await {
        assert_eq!(read.unwrap().expect("it is there").payload.len(), 10_000);
    }
}
