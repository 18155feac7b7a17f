//! How connections are spread over the threads that serve them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::routing::get;
use hookcache::http::{self as edge, Lanes, Plane, Probes, Readiness, Workers};
use hookcache::telemetry::Metrics;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use crate::http_api::patient;

const LANES: usize = 3;

/// Asks on a connection that is kept, and returns the body's one byte.
async fn lane_of(stream: &mut TcpStream) -> u8 {
    stream.write_all(b"GET /lane HTTP/1.1\r\n\r\n").await.unwrap();
    let (mut answer, mut some) = (Vec::new(), [0; 512]);
    // The body has one byte, which follows the empty line.
    while answer.windows(4).position(|end| end == b"\r\n\r\n").is_none_or(|at| answer.len() < at + 5) {
        let bytes = stream.read(&mut some).await.unwrap();
        assert_ne!(bytes, 0, "it answers");
        answer.extend_from_slice(&some[..bytes]);
    }
    *answer.last().unwrap()
}

#[tokio::test]
async fn a_connection_goes_where_there_are_fewest_and_stays_there() {
    let (workers, next) = (Workers::start(LANES).unwrap(), AtomicUsize::new(0));
    let lanes = Lanes::on(&workers, || {
        let lane = char::from(b'A' + next.fetch_add(1, Ordering::Relaxed) as u8).to_string();
        Plane::Control(Router::new().route("/lane", get(move || async move { lane })))
    });
    let probes = Probes {
        readiness: Arc::new(|| Box::pin(async { Readiness::default() })),
        metrics_text: Arc::new(|| Box::pin(async { String::new() })),
    };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
    let task = tokio::spawn(edge::run(listener, lanes, probes, Metrics::new(), patient(), stop.clone()));

    let mut kept = Vec::new();
    for _ in 0..3 * LANES {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let lane = lane_of(&mut stream).await;
        kept.push((stream, lane));
    }
    for lane in (b'A'..).take(LANES) {
        assert_eq!(kept.iter().filter(|(_, of)| *of == lane).count(), 3, "lane {}", char::from(lane));
    }
    for (stream, lane) in &mut kept {
        assert_eq!(lane_of(stream).await, *lane);
    }
    drop(kept);
    stop.cancel();
    task.await.unwrap();
}
