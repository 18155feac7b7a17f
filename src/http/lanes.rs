//! Where connections are served: on the runtime that accepts them, or on threads that each have a runtime of their own.
//!
//! A connection stays on its thread, and whatever a get needs lives there too: its connections to the store, its
//! timers, its counts. So no thread wakes another in the middle of a get, and reads that come at the same time go out
//! together. A new connection goes where there are fewest, so that a few connections that are kept alive spread as well
//! as many do; sockets of one port each (SO_REUSEPORT) would leave that to chance, and would let two processes share a
//! port without a word.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::CancellationToken;

use super::Plane;

/// On which threads the data plane's connections are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// On threads of their own, a runtime each: one less than there are cores, and one at least. The kernel's part of a
    /// get, the store and whatever else runs beside it need the core that is left, and a few threads that are busy sleep and wake
    /// less often than many that are not.
    Auto,
    /// On one for each core.
    PerCore,
    /// On those of the runtime that runs everything else.
    Shared,
}

impl Threads {
    pub const ALL: [Self; 3] = [Self::Auto, Self::PerCore, Self::Shared];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::PerCore => "per-core",
            Self::Shared => "shared",
        }
    }

    /// How many of their own, on this machine: of the cores that this process may use.
    pub fn own(self) -> usize {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        match self {
            Self::Auto => cores.saturating_sub(1).max(1),
            Self::PerCore => cores,
            Self::Shared => 0,
        }
    }
}

/// Threads, each with a runtime of its own.
pub struct Workers {
    workers: Vec<Worker>,
}

struct Worker {
    runtime: Handle,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Workers {
    /// None where everything is to be served by the runtime that accepts.
    pub fn start(count: usize) -> io::Result<Self> {
        let workers = (0..count).map(Worker::start).collect::<io::Result<_>>()?;
        Ok(Self { workers })
    }

    pub fn runtimes(&self) -> impl Iterator<Item = &Handle> {
        self.workers.iter().map(|worker| &worker.runtime)
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (handle, stop) = (runtime.handle().clone(), CancellationToken::new());
        let stopped = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("http-{number}"))
            .spawn(move || runtime.block_on(stopped.cancelled()))?;
        Ok(Self { runtime: handle, stop, thread: Some(thread) })
    }
}

impl Drop for Worker {
    /// What still runs there ends where it waits.
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its tasks catch their own panics.
            let _ = thread.join();
        }
    }
}

/// How a listener's connections are spread.
pub struct Lanes(pub(super) Vec<Lane>);

/// A plane, and the runtime on which it answers.
pub(super) struct Lane {
    pub(super) plane: Plane,
    /// `None`: the one that accepts.
    pub(super) runtime: Option<Handle>,
}

impl From<Plane> for Lanes {
    /// All on the runtime that accepts.
    fn from(plane: Plane) -> Self {
        Self(vec![Lane { plane, runtime: None }])
    }
}

impl Lanes {
    /// A plane for each worker; `plane` is called within its runtime, so that what it opens lives there. Without a worker
    /// it is one, on the runtime that accepts.
    pub fn on(workers: &Workers, plane: impl Fn() -> Plane) -> Self {
        if workers.workers.is_empty() {
            return plane().into();
        }
        let lane = |runtime: &Handle| {
            let _within = runtime.enter();
            Lane { plane: plane(), runtime: Some(runtime.clone()) }
        };
        Self(workers.runtimes().map(lane).collect())
    }
}

/// The connections of one lane.
#[derive(Clone, Default)]
pub(super) struct Count(Arc<AtomicUsize>);

/// One of them; it ends when it is dropped.
pub(super) struct Counted(Count);

impl Count {
    pub(super) fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn one(&self) -> Counted {
        self.0.fetch_add(1, Ordering::Relaxed);
        Counted(self.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}
