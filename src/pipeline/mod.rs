//! Pipelines: what a user declares, checked and compiled into what apply executes.
//!
//! A payload of register JSON (or the config file turned into the same nodes) becomes [`Registry`] values: events, tables, chains, features, all names resolved.
//! Everything here is a pure function of its arguments: no files, no clock, no threads. Called by the apply thread at a register call, by startup for the
//! config file, and by recovery for registries read back from the WAL or a snapshot.

mod definition;
mod environment;
pub mod expression;
mod registry;

pub use definition::{DerivationDef, EventDef, FeatureDef, KeyColumn, KeyKind, Origin, TableDef, TableEffect};
pub use environment::{Chain, Column, Derived, RowEnv};
pub use expression::Program;
pub use registry::Registry;
