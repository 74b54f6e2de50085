//! The control plane: health, readiness, metrics, registry, sources, tables, rejects, snapshots, over HTTP on a port of its own.
//!
//! The only user of axum and tokio. One thread runs one current-thread runtime; nothing asynchronous leaves it. The engine is reached through
//! [`Control`] alone, always on a bounded pool of blocking threads and always with a time limit, so that a stalled engine is *reported* by the probes instead of
//! stalling them. Everything has a bound: connections, calls in flight, head, body and write times, page sizes.
//!
//! Not here: the data plane (`connectors/native`), any state, any decision about readiness; authentication comes with the tokens.
//!
//! ```text
//! listener -> connection (head 5 s, write 10 s) -> request layer (id, x-runtime, counts, problem+json) -> handler -> Calls -> Control
//! ```

mod calls;
mod connection;
mod handlers;
mod index;
mod openapi;
mod problem;
mod request;
mod routes;
mod server;
mod subscribe;
mod websocket;

pub use server::{AdminOptions, AdminServer, RunningAdmin};
pub use streamgauge_api::Control;

/// The OpenAPI 3.1 document that `/openapi.json` serves, for `export` and for the golden file.
pub fn openapi(version: &str) -> serde_json::Value {
    openapi::document(version)
}
