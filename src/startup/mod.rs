//! Start-up: reads the config once, opens the data folder, starts the threads, and hands the process over to them until a signal comes.

mod check;
pub mod demo;
mod logging;
mod plan;
mod run;
mod sample;
mod server;
mod skip;
mod verify;

pub use check::check;
pub use demo::demo;
pub use plan::server_options;
pub use run::run;
pub use sample::sample;
pub use server::{Bound, Declare, Declared, Server, ServerOptions};
pub use skip::wal_skip;
pub use verify::verify_archive;
