//! History: tables that were declared when their events had records already are filled from what Kafka still has.
//!
//! ```text
//! fill in the state -> run: ranges, passes over the partitions in the order of (slice, slot, offset), into a shadow
//!   -> fence: the serving positions at one LSN F; a last pass reads exactly up to them
//!   -> tail: the log's own frames behind F, read back from the ring of frames or from its segments
//!   -> seal: the shadow as a file at an LSN B > F, synced, read back
//!   -> flip: on the seat, the last frames are followed and one frame brings the tables in
//! ```
//! Invariants: serving tables are never touched, and live never waits for a run; the seat is held for the fence (a
//! few numbers) and for the flip (a few frames and one small write) alone, whatever the size of the tables. At F every
//! record below the fence is in a frame up to F and every other comes in a later one, so nothing is counted twice
//! and nothing is left out. A run leaves nothing behind that a later one builds on: one that was killed begins anew
//! and, the order being one of the log, ends in the same bits. After the flip a replay needs the sealed file and the
//! log behind it ([`seal`]), neither Kafka nor the run.
//!
//! One thread, `history`, which sleeps while nothing is to be filled; a client exists while a run does. Deliberately
//! absent: single features, pushed rows, checkpoints, proofs.

mod merge;
mod past;
mod run;
pub(crate) mod seal;
mod thread;

pub use thread::{Historian, HistoryParts, Pins};
