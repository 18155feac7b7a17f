//! A way to Redis on which a single write can be held up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::{Redis, eventually};

const WORD: &[u8] = b"stall-me";

/// Leads to Redis, and stops passing on whatever holds `stall-me`, until it is told to go on.
pub struct Staller {
    url: String,
    stalled: Arc<AtomicU64>,
    going: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Staller {
    pub async fn start(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("redis://{}", listener.local_addr().expect("an address"));
        let (stalled, going, port) = (Arc::new(AtomicU64::new(0)), watch::Sender::new(false), redis.port());
        let (count, seen) = (stalled.clone(), going.subscribe());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", port)).await.expect("Redis listens");
                tokio::spawn(pass(client, server, count.clone(), seen.clone()));
            }
        });
        Self { url, stalled, going, task }
    }

    pub fn url(&self) -> String {
        self.url.clone()
    }

    pub async fn until_stalled(&self) {
        let stalled = || async { (self.stalled.load(Ordering::Relaxed) > 0).then_some(()) };
        eventually("a write is stuck on its way to Redis", stalled).await;
    }

    pub fn go_on(&self) {
        self.going.send_replace(true);
    }
}

impl Drop for Staller {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, stalled: Arc<AtomicU64>, mut going: watch::Receiver<bool>) {
    let (mut from, mut back) = client.into_split();
    let (mut answers, mut to) = server.into_split();
    tokio::spawn(async move { tokio::io::copy(&mut answers, &mut back).await });
    let (mut buffer, mut seen) = (vec![0; 1 << 16], Vec::new());
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        seen.extend_from_slice(&buffer[..count]);
        if seen.windows(WORD.len()).any(|window| window == WORD) && !*going.borrow() {
            stalled.fetch_add(1, Ordering::Relaxed);
            if going.wait_for(|go| *go).await.is_err() {
                return;
            }
        }
        // The word may begin in what was read last.
        seen.drain(..seen.len().saturating_sub(WORD.len() - 1));
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
