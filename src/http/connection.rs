//! One connection, from accept to close.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;

use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::answer::Answer;
use super::limits::{HEAD_BYTES_MAX, HEADERS_MAX, LINGER_BYTES_MAX, LINGER_MAX, READ_BUFFER_BYTES_MAX};
use super::watch::{Watch, Watched};

/// Serves a connection until it ends, or until the call that runs at the stop signal is answered.
pub async fn serve(stream: TcpStream, shared: Arc<Shared>, stop: CancellationToken) {
    // Answers are written whole; waiting for more of them only adds delay.
    let _ = stream.set_nodelay(true);
    let watch = Watch::new();
    let io = TokioIo::new(Watched { stream, watch: watch.clone() });
    let calls = Calls { shared: shared.clone(), watch: watch.clone() };
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The watch does this, and can tell a slow head from an idle connection.
        .header_read_timeout(None)
        // A caller that has sent all and closes its side is still answered, and its call not broken off.
        .half_close(true)
        .max_headers(HEADERS_MAX)
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(io, calls);

    let mut stalled = pin!(watch.stalled(&shared.options));
    let mut stopping = false;
    loop {
        tokio::select! {
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
            () = &mut stalled => {
                tracing::debug!("a connection was cut: slow or idle");
                return;
            }
            () = stop.cancelled(), if !stopping => {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
        }
    }
    linger(connection.into_parts().io.into_inner().stream).await;
}

/// Closes our side, and takes for a while what the client still sends, so that it sees the answer and no reset.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let drop_all = async {
        let mut buffer = vec![0; READ_BUFFER_BYTES_MAX];
        let mut dropped = 0;
        while dropped < LINGER_BYTES_MAX {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(bytes) => dropped += bytes,
            }
        }
    };
    let _ = timeout(LINGER_MAX, drop_all).await;
}

/// The calls of one connection.
struct Calls {
    shared: Arc<Shared>,
    watch: Arc<Watch>,
}

impl Service<Request<Incoming>> for Calls {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let running = self.watch.call();
        let shared = self.shared.clone();
        Box::pin(async move {
            let answer = shared.answer(request).await;
            running.answered(answer.body().size_hint().lower());
            Ok(answer)
        })
    }
}
