//! Counts of one source that belong to no partition. Written by its ingest thread, found on the board by whoever shows them.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one running source.
#[derive(Debug, Default)]
pub struct SourceCounters {
    /// Offsets left out between two records: transaction markers, compaction, deleted records.
    pub offset_jumps: AtomicU64,
    /// Records that came again after an assign and were dropped.
    pub duplicates: AtomicU64,
    /// Times that all partitions were unassigned because the inlet was full.
    pub back_pressures: AtomicU64,
    /// Group commits that succeeded.
    pub commits: AtomicU64,
    /// Group commits that failed; nothing but lag tools depends on them.
    pub commit_failures: AtomicU64,
    /// Connections that the reader opened or tried.
    pub connects: AtomicU64,
    /// Errors of connections.
    pub client_errors: AtomicU64,
    /// Bytes queued in the client, last known.
    pub client_queue_bytes: AtomicU64,
    /// Milliseconds spent with a full inlet.
    pub full_ms: AtomicU64,
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}
