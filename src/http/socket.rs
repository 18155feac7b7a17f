//! A socket that hyper reads and writes, and what its calls know of who is at the other end.
//!
//! hyper itself knows two ways, to break off a call whose client has closed its side, or not to look. A client that has
//! sent all may still wait for its answer, and gets it; but a call that only waits need not wait for nobody.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::auth::Known;

pub struct Socket {
    peer: Arc<Peer>,
    write: OwnedWriteHalf,
}

/// Largest answer that is put together before it is written, in bytes: the kernel takes one piece sooner than several,
/// and copying a small one costs next to nothing.
const WHOLE_BYTES_MAX: usize = 2 << 10;

/// Who is at the other end of a connection.
pub struct Peer {
    /// Read by hyper, or looked at by a call that runs on its connection; both are one task.
    read: Mutex<OwnedReadHalf>,
    /// Whose token came with the last call.
    pub known: Known,
}

impl Socket {
    pub fn new(stream: TcpStream) -> Self {
        let (read, write) = stream.into_split();
        Self { peer: Arc::new(Peer { read: Mutex::new(read), known: Known::default() }), write }
    }

    pub fn peer(&self) -> &Arc<Peer> {
        &self.peer
    }
}

impl Peer {
    fn half(&self) -> MutexGuard<'_, OwnedReadHalf> {
        self.read.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once the client has closed its side. Behind a further request, sent ahead of its answers, that isn't seen.
    pub async fn client_closed(&self) {
        poll_fn(|cx| match ready!(self.half().as_ref().poll_peek(cx, &mut ReadBuf::new(&mut [0]))) {
            Ok(0) | Err(_) => Poll::Ready(()),
            Ok(_) => Poll::Pending,
        })
        .await;
    }
}

/// Several pieces as one, where they fit.
fn joined<'a>(bufs: &[IoSlice<'_>], whole: &'a mut [u8; WHOLE_BYTES_MAX]) -> Option<&'a [u8]> {
    let mut length = 0;
    for buf in bufs {
        whole.get_mut(length..length + buf.len())?.copy_from_slice(buf);
        length += buf.len();
    }
    Some(&whole[..length])
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.peer.half()).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.write).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut whole = [0; WHOLE_BYTES_MAX];
        match joined(bufs, &mut whole) {
            Some(bytes) => Pin::new(&mut self.write).poll_write(cx, bytes),
            None => Pin::new(&mut self.write).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.write.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.write).poll_shutdown(cx)
    }
}
