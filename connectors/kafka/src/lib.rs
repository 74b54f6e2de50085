//! Streamgauge's Kafka side: subscription, batch drain, positions, incidents, schema-registry client.
//!
//! The only user of librdkafka. It meets the engine in `streamgauge_api` alone: [`start`] runs one ingest thread per source, which offers records to an
//! [`streamgauge_api::Inlet`] and shows what Kafka says on a [`streamgauge_api::source::SourceBoard`].
//!
//! Reading order: [`config`] and [`settings`] (what a source is), `ingest` (the loop), `examine` and `placement` (the decisions, pure), `control` and
//! `cluster` (questions to brokers), [`registry`], [`ext`] (librdkafka, all `unsafe`), and beside them [`mock`], [`producer`] and [`admin`] for demo and tests.
//!
//! Deliberately absent: decoding (the inlet's), consumer groups (partitions are assigned by hand), any action on a log that has moved.
#![deny(unsafe_code)]

pub mod admin;
mod cluster;
pub mod config;
mod control;
mod examine;
#[allow(unsafe_code, reason = "the doorway to librdkafka: one file, every block with its reason")]
pub mod ext;
mod fold;
mod gate;
mod incidents;
mod ingest;
pub mod mock;
mod past;
mod placement;
pub mod producer;
mod reach;
pub mod registry;
mod sample;
pub mod settings;
mod start;
mod statistics;
mod track;

#[cfg(test)]
mod tests;

pub use admin::Admin;
pub use config::{KafkaSource, RegistryAuth, RegistryConfig, Sasl, Secret, Security, Start, Tls, TopicPattern, Topics};
pub use mock::MockKafka;
pub use past::KafkaPast;
pub use producer::Producer;
pub use reach::{check_reachable, newest_schemas};
pub use sample::{Schemas, sample};
pub use settings::{Problem, check_client_settings};
pub use start::{KafkaHandle, Options, start};
