//! The contract between the Streamgauge engine and its connectors.
//!
//! Plain data, traits, the table of error codes, and the metric families. Connectors (`kafka`, `native`, `admin`)
//! depend on this crate and never on the engine; the engine depends on this crate and never on a connector;
//! `startup` in the root crate alone knows both sides.
//!
//! Nothing here does I/O (but for the `process_*` metrics, read from `/proc/self` at a scrape), starts a thread or reads a clock other than [`Clock`]'s
//! system implementation.

pub mod clock;
pub mod control;
pub mod cors;
pub mod counters;
pub mod decision;
pub mod error;
pub mod inlet;
pub mod metrics;
pub mod msgpack;
pub mod nearest;
pub mod past;
pub mod port;
pub mod position;
pub mod schema_id;
pub mod source;
pub mod subscribe;
pub mod value;

pub use clock::{Clock, ManualClock, SystemClock};
pub use control::Control;
pub use cors::Cors;
pub use error::{ApiError, Code};
pub use inlet::{Inlet, Offered, RawRecord, Stop};
pub use nearest::{did_you_mean, nearest, unknown_member};
pub use port::{Port, Reply, Request, Tag};
pub use position::{PartitionKey, Position, Slot, StoredPosition, TopicId};
pub use schema_id::SchemaId;
pub use value::Value;
