//! Streamgauge's Kafka side.
#![deny(unsafe_code)]

pub mod config;
#[allow(unsafe_code, reason = "the doorway to librdkafka: one file, every block with its reason")]
pub mod ext;
pub mod settings;
