//! Pipelines: what a user declares, checked and compiled into what apply executes.
//!
//! A payload of register JSON (or the config file turned into the same nodes) becomes [`Registry`] values: events, tables, chains, features, all names resolved.
//! Everything here is a pure function of its arguments: no files, no clock, no threads. Called by the apply thread at a register call, by startup for the
//! config file, and by recovery for registries read back from the WAL or a snapshot.

mod chain;
mod change;
mod consistent;
mod definition;
mod dependents;
mod diff;
pub mod duration;
mod environment;
mod event;
pub mod expression;
mod feature;
mod history;
mod loss;
mod node;
mod payload;
mod problem;
mod projection;
mod reads;
mod register;
mod registry;
mod rename;
mod request;
mod world;

pub use definition::{DerivationDef, EventDef, FeatureDef, KeyColumn, KeyKind, Origin, TableDef, TableEffect};
#[cfg(test)]
pub(crate) use environment::FILTERS_TESTED;
pub use environment::{Chain, Column, Derived, RowEnv};
pub use expression::Program;
pub(crate) use expression::{Expression, ExpressionError, Resolved};
pub use feature::Operators;
pub use history::{Histories, HistoryFrom};
pub use loss::Loss;
pub use node::is_retired;
pub(crate) use node::unit_meant;
pub use payload::Tree;
pub use problem::{Problem, Problems};
pub use projection::{COLUMNS, Projection, Projections, Reread};
pub use register::{RegisterError, RegisterOptions, RegisterOutcome};
pub use registry::{Registry, RegistryError};

#[cfg(test)]
mod tests;
