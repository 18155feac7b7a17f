//! Log lines: to stderr, JSON where it is not a terminal.
//!
//! Set up once, by the binary alone. The library only emits: one line per event that matters, with the `id` of the
//! event where there is one, and never a payload, a token or a password.

#![cfg(feature = "config")]

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

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
    let level = filter(level);
    // Libraries log at `warn` at least: their `info` is of no use to an operator.
    let libraries = level.min(LevelFilter::WARN);
    let filter = EnvFilter::new(format!("{libraries},hookcache={level}"));
    let terminal = std::io::stderr().is_terminal();
    let json = match format {
        Format::Auto => !terminal,
        Format::Json => true,
        Format::Text => false,
    };
    // A line that can't be written is lost. By default it would be complained of on stderr, which panics where it is
    // stderr that nobody reads any more, in the middle of whatever wanted to log.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(std::io::stderr).with_ansi(terminal);
    // It fails only where logging was started before, which a test process may do.
    let _ = if json {
        builder.json().flatten_event(true).with_current_span(false).with_span_list(false).try_init()
    } else {
        builder.try_init()
    };
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
