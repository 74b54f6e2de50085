//! The declaration of the event store: `CREATE EVENTSTORE`, its 84 keys, and what they come to.
//!
//! ```text
//! statement file --+
//! [eventstore] ----+--> pairs of key and value, each with its place -> checks -> Store
//! POST /eventstore +
//! ```
//! Every key is known, with its type, range, default and how it may be changed ([`keys`]). There are
//! two answers: a declaration is *valid* when grammar, types, ranges and cross rules hold, and
//! *runnable* when this build does what each pair asks for. A pair that it would not do is named and
//! refused; nothing is accepted and then ignored.
//!
//! Pure: who reads files and opens folders is elsewhere ([`crate::archive`] does what a store says).

mod declaration;
mod keys;
mod markdown;
mod problem;
mod schedule;
mod statement;
mod store;
#[cfg(test)]
mod tests;

pub use declaration::{Declaration, Origin, Pair};
pub use keys::{Change, KEYS, Key, Literal};
pub use markdown::page;
pub use problem::Problem;
pub use schedule::Schedule;
pub use statement::parse;
pub(crate) use store::civil;
pub use store::{DtOf, Envelope, Granularity, PartitionColumn, Store};
