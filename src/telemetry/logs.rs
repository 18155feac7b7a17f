//! Log lines: to stderr, JSON where it is not a terminal.
//!
//! Set up once, by the binary alone. The library only emits: one line per event that matters, with the `id` of the
//! event where there is one, and never a payload, a token or a password.

#![cfg(feature = "config")]

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::Metadata;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Lines that wait are written once they are so many bytes.
const WAITING_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    Json,
    Text,
}

/// Starts logging for the whole process. A second call changes nothing.
pub fn init(level: Level, format: Format) {
    start(level, format, io::stderr);
}

/// Like [`init`], where lines below a warning may wait for [`Lines::write`]: a function that is frozen after its answer
/// writes them once for each batch, rather than once for each message.
pub fn init_in_batches(level: Level, format: Format) -> Lines {
    let to = |lines: &[u8]| {
        let _ = io::stderr().write_all(lines);
    };
    let lines = Lines { waiting: Arc::default(), to };
    start(level, format, lines.clone());
    lines
}

fn start(level: Level, format: Format, writer: impl for<'a> MakeWriter<'a> + Send + Sync + 'static) {
    let level = filter(level);
    // Libraries log at `warn` at least: their `info` is of no use to an operator.
    let libraries = level.min(LevelFilter::WARN);
    let targets = Targets::new().with_default(libraries).with_target("hookcache", level);
    let terminal = io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !terminal,
        Format::Json => true,
        Format::Text => false,
    };
    // A line that can't be written is lost. By default it would be complained of on stderr, which panics where it is
    // stderr that nobody reads any more, in the middle of whatever wanted to log.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_max_level(level).with_writer(writer).with_ansi(terminal);
    // It fails only where logging was started before, which a test process may do.
    let _ = if json {
        let builder = builder.json().flatten_event(true).with_current_span(false).with_span_list(false);
        builder.finish().with(targets).try_init()
    } else {
        builder.finish().with(targets).try_init()
    };
}

/// Lines that wait to be written. A warning never waits, nor does what came before it.
#[derive(Clone)]
pub struct Lines {
    waiting: Arc<Mutex<Vec<u8>>>,
    to: fn(&[u8]),
}

/// The writer of one line.
pub struct Line {
    lines: Lines,
    waits: bool,
}

impl Lines {
    /// Writes all that wait. What can't be written is lost.
    pub fn write(&self) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        (self.to)(&waiting);
        waiting.clear();
    }

    fn add(&self, bytes: &[u8]) -> usize {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.extend_from_slice(bytes);
        waiting.len()
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Line;

    fn make_writer(&self) -> Line {
        Line { lines: self.clone(), waits: false }
    }

    fn make_writer_for(&self, of: &Metadata<'_>) -> Line {
        Line { lines: self.clone(), waits: *of.level() > tracing::Level::WARN }
    }
}

impl Write for Line {
    /// Is handed a whole line.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let waiting = self.lines.add(bytes);
        if !self.waits || waiting >= WAITING_BYTES_MAX {
            self.lines.write();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(level: Level) -> LevelFilter {
    match level {
        Level::Error => LevelFilter::ERROR,
        Level::Warn => LevelFilter::WARN,
        Level::Info => LevelFilter::INFO,
        Level::Debug => LevelFilter::DEBUG,
        Level::Trace => LevelFilter::TRACE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_wait_for_their_batch_or_a_warning_and_never_in_great_number() {
        let lines = Lines { waiting: Arc::default(), to: |_| () };
        let waiting = || lines.waiting.lock().unwrap().len();
        let subscriber = tracing_subscriber::fmt().with_writer(lines.clone()).with_ansi(false).finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("waits");
            let one = waiting();
            tracing::info!("waits");
            assert!(one > 0 && waiting() == 2 * one);
            lines.write();
            assert_eq!(waiting(), 0);
            for urgent in [|| tracing::warn!("does not"), || tracing::error!("does not")] {
                tracing::info!("goes before it");
                urgent();
                assert_eq!(waiting(), 0);
            }
            for _ in 0..2 * WAITING_BYTES_MAX / one {
                tracing::info!("waits");
                assert!(waiting() < WAITING_BYTES_MAX);
            }
        });
    }
}
