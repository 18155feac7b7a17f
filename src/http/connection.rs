//! One connection, from accept to close.
//!
//! At the stop signal a call that runs is finished, and its answer says that it is the last. Where none runs, the client may
//! be sending one at this very moment, and would find the connection closed with no answer; few clients may repeat a POST
//! then. So such a connection is kept for a while, for one more call. A client that says nothing meanwhile is hardly at it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use hyper::Request;
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::answer::Answer;
use super::limits::{HEAD_BYTES_MAX, LINGER_BYTES_MAX, LINGER_MAX, READ_BUFFER_BYTES_MAX};
use super::socket::{Peer, Socket};
use super::watch::{Watch, Watched};

/// Serves a connection until it ends, or until its last call after the stop signal is answered.
pub async fn serve(stream: TcpStream, shared: Arc<Shared>) {
    // Answers are written whole; waiting for more of them only adds delay.
    let _ = stream.set_nodelay(true);
    let (stream, watch) = (Socket::new(stream), Watch::new());
    let calls = Calls { shared: shared.clone(), watch: watch.clone(), peer: stream.peer().clone() };
    let io = TokioIo::new(Watched { stream, watch: watch.clone() });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // The watch does this, and can tell a slow head from an idle connection.
        .header_read_timeout(None)
        // A caller that has sent all and closes its side is still answered, and its call not broken off.
        .half_close(true)
        // Not `max_headers`, which would allocate room for them with each request: HEADERS_MAX is hyper's own.
        .max_header_size(HEAD_BYTES_MAX)
        .max_buf_size(READ_BUFFER_BYTES_MAX)
        .serve_connection(io, calls);

    // A set of futures polls each only when it was woken itself, and not whenever a byte moves.
    let mut interrupts: FuturesUnordered<_> = [
        watch.stalled(&shared.options).map(|()| Interrupt::Stalled).boxed(),
        shared.stop.cancelled().map(|()| Interrupt::Stop).boxed(),
        shared.cut.cancelled().map(|()| Interrupt::Cut).boxed(),
    ]
    .into_iter()
    .collect();
    loop {
        tokio::select! {
            biased;
            ended = poll_fn(|cx| connection.poll_without_shutdown(cx)) => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
            Some(interrupt) = interrupts.next() => match interrupt {
                Interrupt::Stalled => {
                    tracing::debug!("a connection was cut: slow or idle");
                    return;
                }
                Interrupt::Stop => {
                    watch.close();
                    interrupts.push(sleep(shared.options.close_delay).map(|()| Interrupt::Silent).boxed());
                }
                Interrupt::Silent => Pin::new(&mut connection).graceful_shutdown(),
                Interrupt::Cut => return,
            }
        }
    }
    shared.cut.run_until_cancelled(linger(connection.into_parts().io.into_inner().stream)).await;
}

/// What ends a connection beside its client.
enum Interrupt {
    Stalled,
    /// After one more answer.
    Stop,
    /// After the call that runs, if one does.
    Silent,
    /// At once.
    Cut,
}

/// Closes our side, and takes for a while what the client still sends, so that it sees the answer and no reset.
async fn linger(mut stream: Socket) {
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
    peer: Arc<Peer>,
}

impl Service<Request<Incoming>> for Calls {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let running = self.watch.call();
        let (shared, peer) = (self.shared.clone(), self.peer.clone());
        let answered = move |mut answer: Answer| {
            if running.answered(answer.body().size_hint().lower()) {
                answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            Ok(answer)
        };
        // Most calls are plain gets: their future is a fraction of one that may become any call.
        match shared.is_get(&request) {
            true => Box::pin(shared.answer_get(request, peer).map(answered)),
            false => Box::pin(shared.answer(request).map(answered)),
        }
    }
}
