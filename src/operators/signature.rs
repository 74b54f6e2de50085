//! What an operator accepts: the facts that registration checks and documents, so that no check is written twice.

use crate::row::FieldType;
use std::collections::BTreeMap;
use streamgauge_api::Code;

/// Whether a feature names a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldRule {
    /// The operator reads no field; a given one is ignored with a warning.
    None,
    /// The operator reads no field; a given one that holds true/false or 0/1 stands for `where`.
    Condition,
    /// Checked when given; without one the operator never updates.
    Optional,
    /// Must be given.
    Required,
}

/// Which values of its field an operator takes; the others it passes over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// Values of every type.
    Any,
    /// Numbers.
    Numbers,
    /// All but bytes and json.
    Scalars,
    /// Texts, integers and booleans.
    Names,
}

impl Reads {
    /// Whether a field of this type can hold a value that is taken. A json field may hold a number.
    pub fn takes(self, kind: FieldType) -> bool {
        match self {
            Self::Any => true,
            Self::Numbers => matches!(kind, FieldType::I64 | FieldType::F64 | FieldType::Json),
            Self::Scalars => !matches!(kind, FieldType::Bytes | FieldType::Json),
            Self::Names => matches!(kind, FieldType::Str | FieldType::I64 | FieldType::Bool | FieldType::Json),
        }
    }

    /// What is taken, for messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "values",
            Self::Numbers => "numbers",
            Self::Scalars => "texts, numbers, booleans and times",
            Self::Names => "texts, integers and booleans",
        }
    }
}

/// Whether a feature may have a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowRule {
    /// With or without.
    Allowed,
    /// Never; with this code.
    Refused(Code),
    /// Always given, and how far back the answer looks; its rows are those of the key's whole life.
    Span,
}

/// A parameter's type, bounds and default.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ParamKind {
    /// An integer in `min..=max`.
    Int {
        /// Smallest.
        min: i64,
        /// Largest.
        max: i64,
        /// Used when not given; `None` = must be given.
        default: Option<i64>,
    },
    /// A number strictly between `above` and `below`.
    Float {
        /// Lower bound, not included.
        above: f64,
        /// Upper bound, not included.
        below: f64,
        /// Used when not given; `None` = must be given.
        default: Option<f64>,
    },
    /// A duration of at least 1 ms, never `forever`.
    Duration {
        /// Whether it must be given.
        required: bool,
    },
    /// A duration, or `forever`: the window under another name.
    Window,
    /// A boolean.
    Bool {
        /// Used when not given.
        default: bool,
    },
    /// Finite numbers in strictly increasing order.
    Edges {
        /// Most of them.
        max: usize,
    },
    /// A list of texts.
    Texts {
        /// Most of them.
        max: usize,
    },
    /// The name of a field.
    FieldName {
        /// Used when not given.
        default: &'static str,
    },
}

/// One parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Param {
    /// Name on the wire.
    pub name: &'static str,
    /// Other accepted names.
    pub aliases: &'static [&'static str],
    /// Type and bounds.
    pub kind: ParamKind,
    /// The code of a bad value.
    pub code: Code,
    /// Meaning, for the docs.
    pub help: &'static str,
}

/// The parameter that stands beside every window: into how many buckets a grown key cuts it. Part
/// of a feature's identity, since buckets of another length hold other rows.
pub const RESOLUTION: Param = Param {
    name: "resolution",
    aliases: &[],
    kind: ParamKind::Int { min: 16, max: 1024, default: Some(RESOLUTION_DEFAULT) },
    code: Code::AggregationInvalidParam,
    help: "Buckets that the window is cut into once a key has outgrown its list.",
};

/// Buckets of a window whose feature names no resolution.
pub const RESOLUTION_DEFAULT: i64 = 64;

/// A bucket is never shorter, microseconds: a window of 10 ms has at most ten.
pub const BUCKET_US_MIN: i64 = 1_000;

/// Declared type of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Always this.
    Is(FieldType),
    /// The field's own type.
    OfField,
}

/// What an operator is looked for under.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// Counts, sums, extremes, spread.
    Core,
    /// Many values in little memory.
    Sketch,
    /// The first and the latest value.
    Point,
    /// When rows came.
    Recency,
    /// Runs of rows.
    Streak,
    /// What fades with time.
    Decay,
    /// How fast things change, and what is unusual.
    Velocity,
    /// Kept values and histograms.
    Buffer,
    /// Places.
    Geo,
}

impl Family {
    /// Its heading.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Core => "Counts, sums, spread",
            Self::Sketch => "Distinct and frequent values, quantiles",
            Self::Point => "First and latest",
            Self::Recency => "When rows came",
            Self::Streak => "Runs of rows",
            Self::Decay => "What fades with time",
            Self::Velocity => "Change, trend, what is unusual",
            Self::Buffer => "Kept values, histograms, mixes",
            Self::Geo => "Places",
        }
    }
}

/// Everything registration needs to know of an operator.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Signature {
    /// Name on the wire.
    pub name: &'static str,
    /// Other accepted names.
    pub aliases: &'static [&'static str],
    /// What it is looked for under.
    pub family: Family,
    /// The question that it answers, for the index of the docs.
    pub asks: &'static str,
    /// One sentence on what it computes, with its error bound and empty value.
    pub help: &'static str,
    /// Field.
    pub field: FieldRule,
    /// Values of the field that are taken.
    pub reads: Reads,
    /// Window.
    pub window: WindowRule,
    /// Parameters besides `field`, `where` and `window`.
    pub params: &'static [Param],
    /// The parameter without which a lifetime feature would be unbounded.
    pub lifetime_bound: Option<&'static str>,
    /// What value and bound are where an edge of the window cuts a bucket of a grown key; empty
    /// when no window is allowed.
    pub grown: &'static str,
    /// Result.
    pub output: Output,
}

/// A checked parameter value.
#[derive(Debug, Clone, PartialEq)]
pub enum ParamValue {
    /// Integer.
    Int(i64),
    /// Number.
    Float(f64),
    /// Duration in microseconds.
    DurationUs(i64),
    /// Boolean.
    Bool(bool),
    /// Numbers.
    Edges(Vec<f64>),
    /// Texts.
    Texts(Vec<String>),
    /// Field name.
    FieldName(String),
}

/// Checked parameters by their wire name, defaults filled in.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ParamValues(pub BTreeMap<&'static str, ParamValue>);

impl ParamValues {
    /// An integer parameter; 0 when the signature has none of that name.
    pub fn int(&self, name: &str) -> i64 {
        if let Some(ParamValue::Int(number)) = self.0.get(name) { *number } else { 0 }
    }

    /// An integer parameter that counts something, at least 1.
    pub fn count(&self, name: &str) -> usize {
        usize::try_from(self.int(name)).unwrap_or(1).max(1)
    }

    /// A number; 0 when the signature has none of that name.
    pub fn float(&self, name: &str) -> f64 {
        if let Some(ParamValue::Float(number)) = self.0.get(name) { *number } else { 0.0 }
    }

    /// A boolean; false when the signature has none of that name.
    pub fn bool(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(ParamValue::Bool(true)))
    }

    /// A duration in microseconds; 0 when not given.
    pub fn duration_us(&self, name: &str) -> i64 {
        if let Some(ParamValue::DurationUs(us)) = self.0.get(name) { *us } else { 0 }
    }
}
