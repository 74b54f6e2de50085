//! Apply: the one place where order is decided, the log is written and the state changes.
//!
//! [`Seat`] says who runs, [`Engine`] what is done, the ports and inlets bring work from connector threads. The way of a record: an inlet decodes it on the ingest
//! thread into a packet, the packet waits in the bounded inbox, the engine writes its frame and applies it. The way of a read: a port parses it into a request, the request runs on the
//! seat between two frames, the reply goes to the port's outbox.

mod ahead;
mod answer_size;
mod catch_up;
mod clock;
pub mod codec;
mod engine;
mod evacuation;
mod facts;
mod fill_board;
mod floods;
mod frame_clock;
mod freshness;
mod incidents;
mod inlet;
mod limit;
mod log;
mod long_read;
mod look;
pub(crate) mod names;
mod operator;
mod packets;
pub(crate) mod panic;
pub(crate) mod partition_clock;
mod port;
mod rates;
mod requests;
mod retry;
mod rounds;
mod scrape;
mod seat;
mod shedding;
mod snapshots;
mod snapshotter;
mod split;
mod sweep;
mod turn;
mod waiting;
mod waits;
mod work;

#[cfg(test)]
mod tests;

pub use catch_up::CatchUp;
pub use clock::EngineClock;
pub use engine::{Engine, EngineOptions, Parts};
pub use facts::{Facts, Phase};
pub use fill_board::{FillBoard, FillProgress, PartProgress};
pub use incidents::{IncidentText, Incidents, Subject};
pub use inlet::{EngineInlet, OnBadRecord, SourceSetup};
pub(crate) use log::names_at;
pub use operator::{ArchiveDoor, EngineControl, Settings, Subscribe};
pub use panic::{PANIC_EXIT, PanicNote, end_process_on_panic};
pub use port::{EnginePort, Outbox, SeatSlot};
pub use seat::Seat;
pub use snapshotter::{SnapshotOptions, Snapshotter};
pub use work::News;
