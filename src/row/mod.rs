//! Rows: one packed form from decode to WAL to replay to archive.
//!
//! A batch of rows of one event and schema version is one buffer of little-endian 8-byte words ([`Rows`]); the body of a WAL frame *is* this buffer.
//! Decoders write through [`RowsBuilder`], on connector threads; apply, replay and (later) the archiver read in place through [`Cell`]s.
//! Nothing here knows tables, files or sockets.

mod builder;
mod cell;
pub(crate) mod decimal;
pub mod key;
mod reading;
mod rows;
mod schema;
mod time;
mod verify;

pub use builder::{CellError, ROW_BYTES_MAX, RowsBuilder, Strictness};
pub use cell::Cell;
pub use key::{KEY_BYTES_MAX, Key};
pub use reading::{Reading, Written};
pub use rows::{Rows, RowsError, Run};
pub use schema::{Dedupe, EventId, EventSchema, Field, FieldIndex, FieldType, TimeSource, TimeUnit};
pub(crate) use time::parse_time_us;
pub use time::{RowClock, RowTime};
