//! Start-up: reads the config once, opens the data folder, starts the threads, and hands the process over to them until a signal comes.

mod server;

pub use server::{Bound, Declare, Declared, Server, ServerOptions};
