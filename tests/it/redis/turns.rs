//! More writes than connections, on a Redis that answers slowly.

use std::time::Duration;

use hookcache::store::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Options, halves, options};
use crate::store_contract::{now_ms, put};
use crate::support::Redis;

/// Each answer comes so much later.
const DELAY: Duration = Duration::from_millis(500);
/// Far longer than one answer takes, and shorter than the last of the writes waits for its turn.
const WRITE_TIMEOUT: Duration = Duration::from_secs(3);
const WRITES: usize = 8;

/// A port from which a server's answers come late.
async fn slow_port(server: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass_on(client, server));
        }
    });
    port
}

async fn pass_on(client: TcpStream, server: u16) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let there = async { drop(tokio::io::copy(&mut from_client, &mut to_server).await) };
    let back = async {
        let mut chunk = [0; 4_096];
        while let Ok(length @ 1..) = from_server.read(&mut chunk).await {
            tokio::time::sleep(DELAY).await;
            if to_client.write_all(&chunk[..length]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! { () = back => {}, () = there => {} }
}

#[tokio::test]
async fn a_write_that_waits_long_for_its_turn_is_no_outage() {
    let redis = Redis::start().await;
    // Loads the script, so that each write is one answer.
    assert_eq!(halves(&options(&redis.url())).one(put("acme", 1, &["warm"])).await, [Outcome::Written]);
    let url = format!("redis://127.0.0.1:{}", slow_port(redis.port()).await);
    let store = halves(&Options { write_connections: 1, write_timeout: WRITE_TIMEOUT, ..options(&url) });
    let mut writes = tokio::task::JoinSet::new();
    for i in 0..WRITES {
        let writer = store.writer.clone();
        writes.spawn(async move { writer.write(&[put("acme", 1, &[&format!("k{i}")])], now_ms()).await });
    }
    for results in writes.join_all().await {
        assert_eq!(results, [[Ok(Outcome::Written)]]);
    }
}
