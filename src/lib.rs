//! Streamgauge: live features beside the stream. Kafka in, keyed tables out, each record counted exactly once.
//!
//! Modules in reading order, pure ones first. A module uses those above it, never one below: `startup` uses everything, `row` uses nothing. `operators`, `pipeline` and `state`
//! know each other. `tests/tidy` holds this.

#[cfg(not(target_endian = "little"))]
compile_error!("rows, WAL and snapshots are little-endian words read in place");

pub mod row;

pub mod decode;
pub mod operators;
pub mod pipeline;
pub mod state;

pub mod eventstore;

pub mod config;

pub mod storage;

pub mod wal;

pub mod snapshot;

pub mod read;

pub mod apply;
pub mod history;
pub mod recovery;

pub mod subscribe;

pub mod archive;

pub mod cli;

pub mod startup;
