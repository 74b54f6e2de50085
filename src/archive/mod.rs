//! The archive: rows of the log as Parquet files, each LSN in exactly one of them.
//!
//! ```text
//! log -> Pass (whole frames, bounded memory) -> files by partition, event, version -> manifest N+1 -> cursor "archive" goes on
//!        ^ archived_lsn + 1                     written aside, synced, named          one name, one writer
//! ```
//! The newest manifest says which files count and up to which LSN everything is settled. A process
//! that dies leaves files without a manifest; the next start sweeps them, and the range is read
//! again from the log, which is kept until the manifest that settles it is on the disk. The cursor
//! holds firmly: an archive that cannot be written makes the log longer, and on a full disk pushes
//! are refused and sources wait as they do for any full disk. Nothing is dropped.
//!
//! Reads durable frames only, on a thread of its own; the seat and the writer of the log know
//! nothing of it. What a store is to be is declared ([`crate::eventstore`]).

mod columns;
mod error;
mod file;
mod ids;
mod manifest;
mod marker;
mod pass;
mod place;
mod sweep;
#[cfg(test)]
mod tests;
mod thread;
mod verify;
mod writer;

pub use error::ArchiveError;
pub use manifest::{FileEntry, Live, RowCounts};
pub use marker::{note_place, resumes};
pub use thread::{Archiver, ArchiverOptions};
pub use verify::{Report, verify};
pub use writer::{Archive, Ran};
