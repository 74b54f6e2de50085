//! Snapshots: a state on disk at an LSN, independent of what the state is.
//!
//! A file is a header, sections in the order they were written, and a footer with a hash of everything before it. A snapshot exists only under its
//! name (`{lsn:020}.snap`): it is written as `.tmp`, synced, read back and verified, and renamed last. At least two are kept, and the WAL only up to the
//! oldest of them may go, so a damaged newest one changes no answer.
//!
//! Writing runs on the snapshot thread, reading on the start-up thread. What sections mean is known to `state` alone. A snapshot
//! is named only when the WAL is durable up to its LSN ([`SnapshotWriter::finish`] asserts it): an opening log takes a snapshot's
//! LSN as proof of what was synced. A file that cannot be read for I/O, or is of a newer format, is never passed over, renamed or
//! removed: only bytes that are known to be wrong are.

mod choice;
mod error;
mod format;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use choice::{Candidate, Choice, releasable_lsn};
pub use error::{ChoiceError, SnapshotError};
pub(crate) use format::snapshot_path;
pub use format::{SECTION_BYTES_MAX, SNAPSHOT_FORMAT, SnapshotFacts, SnapshotInfo};
pub use reader::{Section, SnapshotReader};
pub use writer::{SnapshotWriter, quarantine, remove_unfinished, retain};
