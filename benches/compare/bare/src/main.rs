//! `bare PORT UPSTREAM_PORT PATH AUTHORIZATION`: answers every request with the bytes that another server answered one.
//!
//! It asks that server once, keeps status, headers and body, and from then on looks at nothing of a request. What it
//! spends is what hyper and the kernel spend on a get of this size: nobody who serves with hyper can spend less.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::header::{AUTHORIZATION, DATE, HOST};
use hyper::service::service_fn;
use hyper::{Request, Response, client, server};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

/// The same as hookcache's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [port, upstream, path, authorization] = args.as_slice() else {
        return Err("usage: bare PORT UPSTREAM_PORT PATH AUTHORIZATION".into());
    };
    let constant = asked_once(upstream.parse()?, path, authorization).await?;
    let listener = TcpListener::bind(("127.0.0.1", port.parse()?)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let constant = constant.clone();
        let answer = service_fn(move |_| std::future::ready(Ok::<_, Infallible>(constant.clone())));
        tokio::spawn(server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), answer));
    }
}

async fn asked_once(port: u16, path: &str, authorization: &str) -> Result<Response<Full<Bytes>>, Error> {
    let stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::get(path).header(HOST, "127.0.0.1").header(AUTHORIZATION, authorization);
    let answer = sender.send_request(request.body(Empty::<Bytes>::new())?).await?;
    if !answer.status().is_success() {
        return Err(format!("asked for {path}, port {port} answered {}", answer.status()).into());
    }
    let (mut head, body) = answer.into_parts();
    // hyper adds its own.
    head.headers.remove(DATE);
    Ok(Response::from_parts(head, Full::new(body.collect().await?.to_bytes())))
}
