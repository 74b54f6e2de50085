//! The schema registry's side: a read-only client of Confluent's API on a small thread of its own, so that an ingest thread never waits for HTTP.
//!
//! Invariants: a schema is cached for ever, because an id never changes; one request per id is under way; a registry that is down is asked with growing
//! pauses and never turns a record into a bad one; only its own word "no such schema" (40403), repeated over the grace time, does. Credentials
//! leave [`crate::config::Secret`] only into the request's header.
//!
//! Deliberately absent: subjects for decoding (the id in the record suffices), writing, deletion.

pub(crate) mod fetch;
mod http;
mod thread;

pub use http::{Http, RegistryError, SCHEMA_NOT_FOUND};
pub use thread::{Outcome, Registry, Reply};
