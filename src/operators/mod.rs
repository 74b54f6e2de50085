//! Operators: what a user may write behind `op`. One file each, one line in [`OPERATORS`]; nothing else changes when one is added.
//!
//! An operator says what it accepts ([`Signature`]), which accumulators it needs, and how to read its value from them. It knows no windows, no tables and
//! no files: the plan feeds its accumulators per row and per bucket, and merges buckets before a read.

mod signature;

pub use signature::{FieldRule, Output, Param, ParamKind, ParamValue, ParamValues, Signature, WindowRule};

/// A named aggregate.
pub trait Operator: Sync {
    /// What it accepts.
    fn signature(&self) -> &'static Signature;
}

/// All operators, in the order of the documentation.
pub static OPERATORS: &[&dyn Operator] = &[];

/// The operator of this wire name.
pub fn find(name: &str) -> Option<&'static dyn Operator> {
    OPERATORS.iter().copied().find(|operator| {
        let signature = operator.signature();
        signature.name == name || signature.aliases.contains(&name)
    })
}
