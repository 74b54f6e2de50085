//! The native data plane: framed TCP and HTTP/1.1 on mio, for pushes, reads and registration.
//!
//! An I/O thread parses what its sockets hold, puts it through a [`Port`](streamgauge_api::Port) to the engine and sends the replies in
//! request order. Row bodies are passed on verbatim: decoding them is the engine's, on this thread, inside the port. Nothing here knows tables, events
//! or the log; nothing here blocks except in poll; every buffer, queue and wait has a named bound in `config`.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use streamgauge_api::{Port, metrics::Metrics};
//! # fn serve(ports: Vec<Box<dyn Port>>, readiness: streamgauge_native::Readiness, metrics: Arc<Metrics>) -> std::io::Result<()> {
//! use streamgauge_native::{NativeConfig, Server};
//! let server = Server::bind(NativeConfig { http: Some(([127, 0, 0, 1], 0).into()), ..NativeConfig::default() })?;
//! let address = server.http_addr();
//! let running = server.start(ports, readiness, &metrics)?;
//! running.stop(std::time::Duration::from_secs(5));
//! # Ok(())
//! # }
//! ```

mod census;
pub mod config;
mod connection;
mod deadlines;
mod desk;
mod form;
mod framed;
mod http;
mod msgpack;
mod protocol;
mod reply;
mod server;
mod shape;
mod slots;
mod tally;
mod worker;

pub use config::NativeConfig;
pub use server::{Readiness, Running, Server};
