//! hookcache: a webhook cache. What it has accepted is safe until the store has it, and what is old never overwrites
//! what is new.
//!
//! Read the modules in the order of the road:
//!
//! ```text
//! request -> source -> wire form -> ingest -> [buffer] -> consumer -> [store] -> serve
//! ```
//!
//! *Places* (`buffer`, `store`) hold data at rest, hide their backend in an enum, and open as halves, so that direction
//! is a type. *Movers* (`ingest`, `consumer`, `serve`) carry data from one place to the next, know no backend, and never
//! import each other. Around the road stand the edges that a caller meets (`http`, `admin`, `openapi`, `problem`), what
//! decides (`ttl`, `auth`, `config`, `doctor`), and what joins (`app`, `cli`, and `function` for AWS Lambda).

// What travels, and how long it lives.
pub mod envelope;
pub mod ttl;

// The road, station by station.
#[cfg(feature = "server")]
pub mod source;

#[cfg(feature = "server")]
pub mod ingest;

pub mod buffer;

pub mod consumer;

pub mod store;

#[cfg(feature = "server")]
pub mod serve;

// Page links: what a page links to, where pages come from, and who brings them.
#[cfg(feature = "server")]
pub mod confluence;
#[cfg(feature = "server")]
pub mod extract;
#[cfg(feature = "server")]
pub mod hooks;
#[cfg(feature = "server")]
pub mod jwt;
#[cfg(feature = "server")]
pub mod outbound;
#[cfg(feature = "server")]
pub mod page;
#[cfg(feature = "server")]
pub mod pages;
#[cfg(feature = "server")]
pub mod registry;
#[cfg(feature = "server")]
pub mod reindex;

// What both embedded places stand on.
#[cfg(feature = "embedded")]
pub mod disk;

// What everybody who waits for another stands on.
pub mod backoff;

// The edges.
#[cfg(feature = "server")]
pub mod admin;
#[cfg(feature = "server")]
pub mod http;
#[cfg(feature = "server")]
pub mod openapi;
#[cfg(feature = "server")]
pub mod problem;

// What decides.
#[cfg(feature = "config")]
pub mod auth;
#[cfg(feature = "config")]
pub mod config;
#[cfg(feature = "server")]
pub mod doctor;

// What joins and what tells.
#[cfg(feature = "server")]
pub mod app;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(all(feature = "config", feature = "sqs"))]
pub mod function;
pub mod telemetry;
