//! The write-ahead log: checksummed frames in segments, one total order of everything that changes state.
//!
//! ```text
//! apply thread   WalWriter   stage frames of a turn -> one pwrite -> written LSN
//! syncer thread  WalSyncer   fdatasync -> durable LSN -> callback; prepares the next segment
//! start-up       WalSurvey -> WalReader (frames in LSN order) -> WalTail -> WalWriter
//! any thread     WalHandle   ask for a sync, wait for one, release segments, look
//!                Cursor      a named place that is kept until it is moved or dropped
//!                TailReader  frames from any LSN on while they are written, from memory or from the segments
//! ```
//! Invariants: a frame is acknowledged by [`WalWriter::append`] only when all of its bytes are written; LSNs have no gaps; the writer never
//! waits for a sync, and a segment is on the disk before the one after the next is prepared; what is durable is at most what is written;
//! every frame carries the durable LSN known when it was built, so damage is told from a torn tail; after an unclean stop the old tail is
//! written again, never appended to; a failed sync is final.
//!
//! The body of a frame is opaque here; what frames mean is elsewhere.

mod behind;
mod cursor;
mod damage;
mod error;
mod frame;
mod frames;
mod places;
mod reader;
mod segment;
mod shared;
mod start;
mod survey;
mod syncer;
mod tail;
#[cfg(test)]
mod tests;
mod writer;

pub use cursor::{CURSOR_BYTES_MAX, Cursor, CursorStatus, Hold};
pub use damage::{Damage, DamageKind};
pub use error::{WalError, WalOpenError};
pub use frame::{FRAME_BODY_BYTES_MAX, Frame, FrameKind, FrameParts};
pub use frames::{RING_BYTES_MAX, SharedFrame};
pub use reader::{TailEnd, WalReader, WalTail};
pub use segment::{FORMAT, HEAD_TEXT_BYTES_MAX, LogIdentity};
pub use shared::{PrepareError, Released, RoomLent, WalHandle, WalStatus};
pub use start::{Start, WalOptions};
pub use survey::WalSurvey;
pub use syncer::{SyncEvent, WalSyncer};
pub use tail::{SegmentHead, TailError, TailReader};
pub use writer::WalWriter;

/// The LSN of the first row ever; 0 means "nothing yet".
pub const FIRST_LSN: u64 = 1;
