//! The expression language: text -> syntax tree -> flat program.
//!
//! Three-valued, total (no input panics), shared by `where`, chain steps and computed fields. Grammar and meaning are those of the wire contract; a bare
//! top-level comparison is accepted. Pure: no schema or table knowledge beyond a name -> column lookup.

mod program;
mod value;

pub use program::Program;
pub use value::{Evaluated, ShortText};
