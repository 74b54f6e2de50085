//! Streamgauge: live features beside the stream. Kafka in, keyed tables out, each record counted exactly once.
//!
//! Modules in reading order, pure ones first. Direction of use is top to bottom reversed: `startup` uses everything, `row` uses nothing.

#[cfg(not(target_endian = "little"))]
compile_error!("rows, WAL and snapshots are little-endian words read in place");

pub mod row;
pub mod snapshot;
pub mod storage;
pub mod wal;
