//! When a connection last moved, so that one that is slow or idle can be cut.
//!
//! hyper's own `header_read_timeout` also counts the time between two requests, so that one setting would have to
//! serve for slow heads and for idle keep-alive alike. Here they are two, and clients that don't read, or read a byte
//! now and then, are seen as well.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::Options;
use super::limits::ANSWER_BYTES_PER_SECOND_MIN;

/// What is known of one connection. Times are milliseconds since it began, so that they fit an atomic.
pub struct Watch {
    begin: Instant,
    moved_ms: AtomicU64,
    /// When the first byte came that no call has taken yet; 0 for none.
    head_since_ms: AtomicU64,
    /// Since when there are answers that the client has not taken yet; 0 for none.
    answer_since_ms: AtomicU64,
    /// How many bytes the bodies of these answers have.
    answer_bytes: AtomicU64,
    calls: AtomicUsize,
    closes: AtomicBool,
}

impl Watch {
    pub fn new() -> Arc<Self> {
        let none = || AtomicU64::new(0);
        let (moved_ms, head_since_ms, answer_since_ms, answer_bytes) = (none(), none(), none(), none());
        let (begin, calls, closes) = (Instant::now(), AtomicUsize::new(0), AtomicBool::new(false));
        Arc::new(Self { begin, moved_ms, head_since_ms, answer_since_ms, answer_bytes, calls, closes })
    }

    fn now_ms(&self) -> u64 {
        // 0 stands for "none", so time begins at 1.
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn wrote(&self) {
        self.moved_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    fn read(&self) {
        let now = self.now_ms();
        self.moved_ms.store(now, Ordering::Relaxed);
        if self.calls.load(Ordering::Relaxed) == 0 && self.head_since_ms.load(Ordering::Relaxed) == 0 {
            self.head_since_ms.store(now, Ordering::Relaxed);
        }
    }

    /// An answer is on its way to the client. What the client has not taken of those before it counts as well.
    fn answers(&self, bytes: u64) {
        if self.answer_since_ms.load(Ordering::Relaxed) == 0 {
            self.answer_since_ms.store(self.now_ms(), Ordering::Relaxed);
        }
        self.answer_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Nothing is left to be written.
    fn all_written(&self) {
        self.answer_since_ms.store(0, Ordering::Relaxed);
        self.answer_bytes.store(0, Ordering::Relaxed);
    }

    /// A head is whole and its call begins; it ends when the result is dropped.
    pub fn call(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.head_since_ms.store(0, Ordering::Relaxed);
        Call(self.clone())
    }

    /// From now on each answer is the last.
    pub fn close(&self) {
        self.closes.store(true, Ordering::Relaxed);
    }

    /// Returns once the connection has been too slow or idle for too long.
    pub async fn stalled(&self, options: &Options) {
        loop {
            let Some(left) = self.left(options) else { return };
            // A head may begin while this sleeps, so it never sleeps longer than a head may take.
            tokio::time::sleep(left.min(options.header_read_timeout)).await;
        }
    }

    /// How much time is left; `None` when it is up.
    fn left(&self, options: &Options) -> Option<Duration> {
        Some(self.left_to_move(options)?.min(self.left_to_take_answers(options)?))
    }

    /// The whole time that an answer may take, however steadily it moves. It holds while the next call runs, too.
    fn left_to_take_answers(&self, options: &Options) -> Option<Duration> {
        let since = self.answer_since_ms.load(Ordering::Relaxed);
        if since == 0 {
            return Some(Duration::MAX);
        }
        let seconds = self.answer_bytes.load(Ordering::Relaxed) / ANSWER_BYTES_PER_SECOND_MIN;
        self.left_of(since, options.idle_timeout + Duration::from_secs(seconds))
    }

    fn left_to_move(&self, options: &Options) -> Option<Duration> {
        if self.calls.load(Ordering::Relaxed) > 0 {
            // A call has timeouts of its own.
            return Some(options.idle_timeout);
        }
        let (since, limit) = match self.head_since_ms.load(Ordering::Relaxed) {
            0 => (self.moved_ms.load(Ordering::Relaxed), options.idle_timeout),
            since => (since, options.header_read_timeout),
        };
        self.left_of(since, limit)
    }

    fn left_of(&self, since: u64, limit: Duration) -> Option<Duration> {
        let spent = Duration::from_millis(self.now_ms().saturating_sub(since));
        limit.checked_sub(spent).filter(|left| !left.is_zero())
    }
}

/// A call that runs.
pub struct Call(Arc<Watch>);

impl Call {
    /// It ends with an answer, of whose body this many bytes are to be written. Is it the last of its connection?
    pub fn answered(self, body_bytes: u64) -> bool {
        self.0.answers(body_bytes);
        self.0.closes.load(Ordering::Relaxed)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.wrote();
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A stream that tells its watch whenever bytes move.
pub struct Watched<T> {
    pub stream: T,
    pub watch: Arc<Watch>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Watched<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.watch.read();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> Watched<T> {
    fn moved(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(polled, Poll::Ready(Ok(1..))) {
            self.watch.wrote();
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Watched<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.moved(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.moved(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once all that it holds is written.
        let polled = Pin::new(&mut self.stream).poll_flush(cx);
        if matches!(polled, Poll::Ready(Ok(()))) {
            self.watch.all_written();
        }
        polled
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const ANSWER_BYTES: usize = 10 * ANSWER_BYTES_PER_SECOND_MIN as usize;

    fn options() -> Options {
        Options {
            connections_max: 1,
            header_read_timeout: Duration::from_secs(1),
            body_read_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_secs(5),
            drain_deadline: Duration::from_secs(1),
            close_delay: Duration::ZERO,
        }
    }

    /// Answers a client that reads these many bytes a second, and says after how many seconds it is cut, if it is.
    async fn cut_after(bytes_per_second: usize) -> Option<u64> {
        let ((ours, mut client), options) = (duplex(1_024), options());
        let watch = Watch::new();
        watch.call().answered(ANSWER_BYTES as u64);
        let begin = Instant::now();
        let mut watched = Watched { stream: ours, watch: watch.clone() };
        let write = async {
            watched.write_all(&vec![0; ANSWER_BYTES]).await.unwrap();
            watched.flush().await.unwrap();
        };
        tokio::select! {
            _ = async { tokio::join!(write, read(&mut client, bytes_per_second)) } => None,
            () = watch.stalled(&options) => Some(begin.elapsed().as_secs()),
        }
    }

    async fn read(client: &mut DuplexStream, bytes_per_second: usize) {
        let (mut left, mut some) = (ANSWER_BYTES, vec![0; bytes_per_second]);
        while left > 0 {
            let wanted = left.min(bytes_per_second);
            client.read_exact(&mut some[..wanted]).await.unwrap();
            left -= wanted;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_to_take_an_answer_grows_with_its_size_and_ends() {
        let rate = ANSWER_BYTES_PER_SECOND_MIN as usize;
        assert_eq!(cut_after(rate).await, None);
        // Bytes move every second, so that it is never idle.
        assert_eq!(cut_after(rate / 10).await, Some(15));
        assert_eq!(cut_after(1).await, Some(15));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_was_taken_leaves_the_next_its_own_time() {
        let watch = Watch::new();
        let mut watched = Watched { stream: duplex(64).0, watch: watch.clone() };
        watch.call().answered(ANSWER_BYTES as u64);
        watched.flush().await.unwrap();
        assert_eq!(watch.left_to_take_answers(&options()), Some(Duration::MAX));
        tokio::time::sleep(Duration::from_secs(100)).await;
        watch.call().answered(0);
        assert_eq!(watch.left(&options()), Some(Duration::from_secs(5)));
    }
}
