//! Operators: what a user may write behind `op`. One file each, one line in [`OPERATORS`]; nothing else changes when one is added.
//!
//! An operator says what it accepts ([`Signature`]), which accumulators it needs, and how to read its value from them. It knows no windows, no tables and
//! no files: the plan feeds its accumulators per row and per bucket, and merges buckets before a read.

mod count;
mod distinct;
mod extreme;
mod first;
mod heavy_hitters;
mod last;
#[cfg(test)]
mod laws;
mod max;
mod mean;
mod min;
mod moments;
mod n_unique;
mod quantile;
mod quantiles;
mod ratio;
mod signature;
mod std;
mod sum;
mod top_k;
mod total;
mod value_slot;
mod var;

use crate::row::FieldType;
use crate::state::{Accumulator, Arena};
use ::std::sync::Arc;
use streamgauge_api::Value;

pub use signature::{FieldRule, Output, Param, ParamKind, ParamValue, ParamValues, Signature, WindowRule};

/// A named aggregate.
pub trait Operator: Sync {
    /// What it accepts.
    fn signature(&self) -> &'static Signature;

    /// Which accumulators a feature needs, and how its value is read from them.
    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled;
}

/// What a feature's declaration says to its operator.
#[derive(Debug, Clone, Copy)]
pub struct FeatureParams<'a> {
    /// Declared type of the field, when one is given.
    pub field_kind: Option<FieldType>,
    /// Checked parameters.
    pub params: &'a ParamValues,
    /// Window, microseconds.
    pub window_us: Option<i64>,
}

/// One accumulator of a feature.
#[derive(Debug, Clone)]
pub struct AccumulatorNeed {
    /// The accumulator.
    pub accumulator: Arc<dyn Accumulator>,
    /// Whether the feature's `where` decides which rows it takes; false = every row of the table.
    pub filtered: bool,
}

/// An accumulator's slot at a read: the merge of all buckets inside the window, or the lifetime slot itself.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The slot's words.
    pub words: &'a [u64],
    /// The arena that its handles point into.
    pub arena: &'a Arena,
}

/// A value with what is known of its error.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: Value,
    /// Relative standard error or bound; `None` = exact.
    pub error: Option<f64>,
}

impl From<Value> for Reading {
    fn from(value: Value) -> Self {
        Self { value, error: None }
    }
}

/// A feature, compiled. Slots come in the order of `needs`; `now_us` is the read's clock.
pub struct Compiled {
    /// Accumulators.
    pub needs: Vec<AccumulatorNeed>,
    /// Reads the value.
    pub read: Box<dyn Fn(&[Slot<'_>], i64) -> Reading + Send + Sync>,
}

impl Compiled {
    /// A feature that reads one accumulator, fed with the rows that its `where` takes.
    fn of_one(accumulator: Arc<dyn Accumulator>, read: impl Fn(&Slot<'_>) -> Reading + Send + Sync + 'static) -> Self {
        Self {
            needs: vec![AccumulatorNeed { accumulator, filtered: true }],
            read: Box::new(move |slots, _now_us| slots.first().map_or(Reading::from(Value::Null), &read)),
        }
    }
}

/// All operators, in the order of the documentation.
#[rustfmt::skip]
pub static OPERATORS: &[&dyn Operator] = &[
    &count::Count,
    &sum::Sum,
    &mean::Mean,
    &min::Min,
    &max::Max,
    &var::Var,
    &std::Std,
    &ratio::Ratio,
    &first::First,
    &last::Last,
    &n_unique::NUnique,
    &quantile::Quantile,
    &top_k::TopK,
];

/// The operator of this wire name.
pub fn find(name: &str) -> Option<&'static dyn Operator> {
    OPERATORS.iter().copied().find(|operator| {
        let signature = operator.signature();
        signature.name == name || signature.aliases.contains(&name)
    })
}
