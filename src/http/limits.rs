//! Limits of HTTP that no operator needs to set. Those that one may are in [`Options`](super::Options).

use std::time::Duration;

/// Largest body of a data plane call, in bytes: an array of sets.
pub const BODY_BYTES_MAX: usize = 10 << 20;
/// Bytes of bodies in memory at once, per listener: 25 of the largest. More are answered 503.
pub const BODIES_BYTES_MAX: usize = 256 << 20;
/// Largest body of a control plane call, in bytes: a TTL rule is a few dozen.
pub const CONTROL_BODY_BYTES_MAX: usize = 1 << 20;
/// Room made for a body before its first byte came, in bytes; more only as it comes.
pub const BODY_FIRST_BYTES: usize = 64 << 10;
/// Longest path with its query, in bytes: a key of 512 four-byte characters, each byte escaped in three, is 6,144.
pub const PATH_BYTES_MAX: usize = 8 << 10;
/// Longest head of a request, its first line included, in bytes; hyper answers 431.
pub const HEAD_BYTES_MAX: usize = 16 << 10;
/// Headers of a request; hyper answers 431. Its own default, as another one would cost an allocation with each request.
pub const HEADERS_MAX: usize = 100;
/// Read buffer of a connection, in bytes: at least [`HEAD_BYTES_MAX`], and small, as there are many.
pub const READ_BUFFER_BYTES_MAX: usize = 64 << 10;
/// Time after an accept that failed, so that a lack of file descriptors costs no core.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// For how long a closed connection is still read from. A client that is sending a body sees the answer to it only if
/// its bytes are taken: a close with unread bytes resets the connection.
pub const LINGER_MAX: Duration = Duration::from_secs(2);
/// Bytes that are read and dropped while lingering.
pub const LINGER_BYTES_MAX: usize = 256 << 20;
/// The slowest that a client may read, in bytes per second, beside `http.idle_timeout` for each answer: a client that
/// takes a byte now and then would otherwise hold its connection and the answer's memory for ever.
pub const ANSWER_BYTES_PER_SECOND_MIN: u64 = 128 << 10;
/// The longest that a get may be held for news (`Prefer: wait`): few load balancers wait for longer.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// The share of a listener's connections that may be held so at once. Further gets are answered at once, as a preference
/// is no demand, so that there is always room for those that don't wait.
pub const HELD_SHARE_MAX: f64 = 0.75;
