//! One integration binary. Every test drives real sockets, real Redis and real SQS emulators that it starts itself.

mod bad_input;
mod bad_start;
mod buffer_contract;
mod cli;
mod config_reload;
mod consumer;
mod contract;
mod control_plane;
mod dead_letters;
mod durability;
mod faults;
mod harness;
mod http_api;
mod keys;
mod kill;
mod limits;
mod operations;
mod pipeline;
mod queues;
mod readme;
mod redis;
mod security;
mod sqs;
mod store_contract;
mod support;
mod tidy;
