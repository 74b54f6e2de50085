//! Compiled definitions: what apply, reads and plans work from.
//!
//! Every value here has been validated: names are resolved to columns, parameters are within bounds. All of it is immutable and shared by `Arc`; a change
//! makes another [`Registry`](super::Registry). Each definition keeps its canonical node, so that a registry can be written out and compiled again.

use super::environment::{Chain, Column};
use super::expression::Program;
use super::history::HistoryFrom;
use crate::operators::{Operator, ParamValues, RESOLUTION_DEFAULT, WindowRule};
use crate::row::{EventId, EventSchema, FieldType};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::fmt;
use std::sync::Arc;

/// Who declared something, which decides who may change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The config file; only a changed file changes it.
    Config,
    /// `POST /register` and its twins.
    Api,
}

/// An event as registered.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDef {
    /// Number, version, fields and time source.
    pub schema: Arc<EventSchema>,
    /// The canonical node.
    pub node: Json,
    /// Who registered it; empty by default.
    pub owner: Box<str>,
    /// Config file or register call.
    pub origin: Origin,
}

/// An event derivation: a named chain over an event. It holds no state; tables that name it run its chain before their own.
#[derive(Debug, Clone, PartialEq)]
pub struct DerivationDef {
    /// Name.
    pub name: Box<str>,
    /// The event at the root of its upstreams.
    pub event: EventId,
    /// The canonical node.
    pub node: Json,
    /// Who registered it; empty by default.
    pub owner: Box<str>,
    /// Config file or register call.
    pub origin: Origin,
}

/// How a key column is stored and parsed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyKind {
    /// Text, never split.
    Str,
    /// Exact integer.
    I64,
    /// Boolean.
    Bool,
    /// Milliseconds.
    Datetime,
}

impl KeyKind {
    /// The kind for a column of this type; none for types that cannot be keys.
    pub fn of(kind: FieldType) -> Option<Self> {
        match kind {
            FieldType::Str => Some(Self::Str),
            FieldType::I64 => Some(Self::I64),
            FieldType::Bool => Some(Self::Bool),
            FieldType::Datetime => Some(Self::Datetime),
            FieldType::F64 | FieldType::Bytes | FieldType::Json => None,
        }
    }
}

/// One key column of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct KeyColumn {
    /// Its name after the chain.
    pub name: Box<str>,
    /// Where it is read from.
    pub column: Column,
    /// How it is stored and parsed.
    pub kind: KeyKind,
}

/// One feature of a table.
#[derive(Clone)]
pub struct FeatureDef {
    /// Name, unique in its table.
    pub name: Box<str>,
    /// What computes it.
    pub op: &'static dyn Operator,
    /// The column it aggregates.
    pub field: Option<Column>,
    /// That column's type, when it is known (an expression over json has none).
    pub field_kind: Option<FieldType>,
    /// Columns named by parameters of kind `FieldName` (latitude, longitude), by parameter name.
    pub more_fields: Vec<(&'static str, Column)>,
    /// The row filter.
    pub filter: Option<Arc<Program>>,
    /// Window in microseconds; none over the lifetime.
    pub window_us: Option<i64>,
    /// Buckets that the window is cut into; the default without one.
    pub resolution: u32,
    /// Checked parameters with defaults filled in.
    pub params: ParamValues,
    /// Canonical `{"op","params","columns"}`: the declaration, and what its names stood for. A slab in a snapshot belongs to a feature only when both are the same.
    pub node: Json,
}

impl FeatureDef {
    /// A feature of every row of a key, without field, parameters or window.
    pub(crate) fn plain(name: &str, op: &'static dyn Operator) -> Self {
        let Ok(resolution) = u32::try_from(RESOLUTION_DEFAULT) else { unreachable!("a window has few buckets") };
        Self {
            name: name.into(),
            op,
            field: None,
            field_kind: None,
            more_fields: Vec::new(),
            filter: None,
            window_us: None,
            resolution,
            params: ParamValues::default(),
            node: serde_json::json!({ "op": op.signature().name, "params": {} }),
        }
    }

    /// The window that rows leave, microseconds; none when the feature takes the rows of a key's
    /// whole life.
    pub fn rows_window_us(&self) -> Option<i64> {
        self.window_us.filter(|_| self.op.signature().window != WindowRule::Span)
    }

    /// The declaration alone, `{"op","params"}`: what users see and what registrations are compared by.
    pub fn declared(&self) -> Json {
        declared(&self.node)
    }
}

/// Operator and parameters of a canonical feature.
pub(super) fn declared(node: &Json) -> Json {
    serde_json::json!({ "op": node["op"], "params": node["params"] })
}

impl fmt::Debug for FeatureDef {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "FeatureDef({} = {})", self.name, self.node)
    }
}

/// Two features are the same when everything that decides their values is: the operator by name, and all the rest by value.
impl PartialEq for FeatureDef {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
            && self.op.signature().name == other.op.signature().name
            && (self.field, self.field_kind, &self.more_fields) == (other.field, other.field_kind, &other.more_fields)
            && self.filter == other.filter
            && (self.window_us, self.resolution) == (other.window_us, other.resolution)
            && self.params == other.params
            && self.node == other.node
    }
}

/// A table as registered.
#[derive(Debug, Clone, PartialEq)]
pub struct TableDef {
    /// Number; never reused. A rebuilt table has another number.
    pub id: u32,
    /// Name.
    pub name: Box<str>,
    /// The event whose rows it aggregates.
    pub event: EventId,
    /// That event's name.
    pub event_name: Box<str>,
    /// What happens to a row before keys and features are read.
    pub chain: Chain,
    /// Steps of the chain that chain ops made; the rest are features' computed fields.
    pub(crate) chain_steps: usize,
    /// Computed fields in the order of their derived columns. It only grows while the table lives, so that a column's number stays what it is when features
    /// come and go: slabs hold on to the numbers.
    pub(crate) computed: Vec<Box<str>>,
    /// Key columns in order; none for a global table.
    pub keys: Vec<KeyColumn>,
    /// Features by name.
    pub features: Vec<Arc<FeatureDef>>,
    /// Who registered it; empty by default.
    pub owner: Box<str>,
    /// Config file or register call.
    pub origin: Origin,
    /// The canonical node.
    pub node: Json,
}

impl TableDef {
    /// How long a key lives behind its last row, microseconds; none for ever.
    pub fn expire_after_us(&self) -> Option<i64> {
        self.node["expire_after_ms"].as_i64().map(|ms| ms.saturating_mul(1_000))
    }

    /// The feature of this name.
    pub fn feature(&self, name: &str) -> Option<&Arc<FeatureDef>> {
        let index = self.features.binary_search_by(|feature| (*feature.name).cmp(name)).ok()?;
        self.features.get(index)
    }
}

/// What a change of definitions does to the state, in the order it is to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "lowercase")]
pub enum TableEffect {
    /// A table with all its features begins empty.
    Create {
        /// Its number.
        table: u32,
    },
    /// A table is declared and not there: its history is read first, and it comes whole.
    Fill {
        /// Its number.
        table: u32,
        /// Where its history begins.
        history: HistoryFrom,
    },
    /// A table and its state go away.
    Drop {
        /// Its number.
        table: u32,
    },
    /// Features begin empty beside the others.
    Extend {
        /// The table's number.
        table: u32,
        /// Names of the features.
        features: Vec<String>,
    },
    /// Features and their state go away; comes before an `Extend` that builds one of the same name anew.
    Retire {
        /// The table's number.
        table: u32,
        /// Names of the features.
        features: Vec<String>,
    },
}
