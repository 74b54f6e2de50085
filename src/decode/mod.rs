//! Record bytes -> rows.
//!
//! Decoders run on connector threads and write straight into a [`crate::row::RowsBuilder`]; they know only the fields that an event takes. [`Decoder`] serves one
//! Kafka source (framing, tombstones, columns from key, headers and position), [`PushDecoder`] serves the push ports. Formats: [`json`], [`msgpack`], [`avro`], [`protobuf`]; CSV and raw bytes stand with their source.
//! Never here: positions' bookkeeping, queues, files, registries. Any bytes get an answer; a panic or an unbounded buffer from input is a bug.

pub mod avro;
#[cfg(test)]
mod choices;
mod error;
#[cfg(test)]
mod fixture;
pub mod json;
pub mod msgpack;
#[cfg(test)]
mod msgpack_tests;
mod path;
mod projection;
mod protobuf;
mod push;
mod source;
mod text;

pub use error::{BadRow, DecodeError};
pub use projection::{Projection, Taking};
pub use push::PushDecoder;
pub use source::{CsvLines, DebeziumMode, Decoded, Decoder, FieldSource, Format, Framing, KeyFormat, SourceFormat, Tombstone};
