//! The registry: every definition in force, as one immutable value.
//!
//! Apply holds an `Arc` of it for a range of LSNs; a register call computes the next one without touching this one. It goes into WAL frames and snapshots as
//! JSON of canonical nodes and numbers, and is compiled again when it is read back, so replay never needs the outside.

use super::definition::{DerivationDef, EventDef, KeyColumn, KeyKind, Origin, TableDef};
use super::environment::Column;
use super::event;
use super::feature::{Checks, Operators};
use super::node::{DerivationSpec, NodeSpec, decode};
use super::payload::Tree;
use super::problem::Problems;
use super::projection::Projections;
use super::world::{Identity, World};
use crate::row::{EventId, EventSchema, FieldIndex};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::sync::Arc;
use streamgauge_api::{ApiError, Code, nearest};

/// Every definition in force.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Registry {
    /// Grows by one with each effective change.
    pub version: u64,
    /// Events by name.
    pub events: BTreeMap<Box<str>, Arc<EventDef>>,
    /// Event derivations by name.
    pub derivations: BTreeMap<Box<str>, Arc<DerivationDef>>,
    /// Tables by name.
    pub tables: BTreeMap<Box<str>, Arc<TableDef>>,
    /// Where sources take the events' fields from, as the config says.
    pub projections: Projections,
    /// The next event's number.
    pub next_event_id: u32,
    /// The next table's number.
    pub next_table_id: u32,
}

/// Why stored definitions cannot be read back.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The JSON has another shape.
    #[error("stored definitions are damaged: {0}")]
    Shape(#[from] serde_json::Error),
    /// A stored node does not compile in this program, for example because it lacks an operator.
    #[error("stored definition of \"{name}\" does not compile: {reason}")]
    Node {
        /// Its name.
        name: String,
        /// Why.
        reason: String,
    },
    /// They do not fit together.
    #[error("stored definitions contradict each other: {0}")]
    Contradiction(String),
}

#[derive(Serialize, Deserialize)]
struct StoredRegistry {
    version: u64,
    next_event_id: u32,
    next_table_id: u32,
    events: Vec<StoredEvent>,
    derivations: Vec<StoredDerivation>,
    tables: Vec<StoredTable>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    projections: Projections,
}

#[derive(Serialize, Deserialize)]
struct StoredEvent {
    schema: EventSchema,
    owner: Box<str>,
    origin: Origin,
}

#[derive(Serialize, Deserialize)]
struct StoredDerivation {
    event: EventId,
    node: Json,
    owner: Box<str>,
    origin: Origin,
}

#[derive(Serialize, Deserialize)]
struct StoredTable {
    id: u32,
    node: Json,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    computed: Vec<Box<str>>,
    owner: Box<str>,
    origin: Origin,
}

/// Stored definitions were accepted once; what they may do is not decided again.
pub(super) const STORED: Checks = Checks { lifetime_bound: false, ignore_velocity_windows: false };

impl Registry {
    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&Arc<EventDef>> {
        self.events.get(name)
    }

    /// The same, of a name that comes from outside.
    ///
    /// # Errors
    /// `event_not_found`, with the nearest name that is known.
    pub fn known_event(&self, name: &str) -> Result<&Arc<EventDef>, ApiError> {
        self.event(name).ok_or_else(|| {
            let error = ApiError::new(Code::EventNotFound, format!("no event \"{name}\" is registered"));
            match nearest(name, self.events.keys()) {
                Some(near) => error.hint(format!("did you mean \"{near}\"?")),
                None => error,
            }
        })
    }

    /// The event of this number.
    pub fn event_by_id(&self, id: EventId) -> Option<&Arc<EventDef>> {
        self.events.values().find(|event| event.schema.id == id)
    }

    /// How long a key of a table lives behind its last row, microseconds: as the table or its event says, the shorter one.
    pub fn cold_after_us(&self, table: &TableDef) -> Option<i64> {
        let of_event = self.event_by_id(table.event).and_then(|event| event.schema.cold_after_us);
        of_event.into_iter().chain(table.expire_after_us()).min()
    }

    /// The table of this name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableDef>> {
        self.tables.get(name)
    }

    /// The table of this number.
    pub fn table_by_id(&self, id: u32) -> Option<&Arc<TableDef>> {
        self.tables.values().find(|table| table.id == id)
    }

    /// Number of descriptors: events, derivations and tables.
    pub fn node_count(&self) -> usize {
        self.events.len() + self.derivations.len() + self.tables.len()
    }

    /// An empty registry one version later, as a reset leaves it. Numbers of events and tables go on.
    #[must_use]
    pub fn reset(&self) -> Self {
        Self { version: self.version + 1, next_event_id: self.next_event_id, next_table_id: self.next_table_id, ..Self::default() }
    }

    /// The registry as JSON text, as WAL frames and snapshots carry it.
    pub fn to_json(&self) -> String {
        let stored = StoredRegistry {
            version: self.version,
            next_event_id: self.next_event_id,
            next_table_id: self.next_table_id,
            events: self
                .events
                .values()
                .map(|event| StoredEvent { schema: (*event.schema).clone(), owner: event.owner.clone(), origin: event.origin })
                .collect(),
            derivations: self
                .derivations
                .values()
                .map(|derivation| StoredDerivation {
                    event: derivation.event,
                    node: derivation.node.clone(),
                    owner: derivation.owner.clone(),
                    origin: derivation.origin,
                })
                .collect(),
            tables: self
                .tables
                .values()
                .map(|table| StoredTable {
                    id: table.id,
                    node: table.node.clone(),
                    computed: table.computed.clone(),
                    owner: table.owner.clone(),
                    origin: table.origin,
                })
                .collect(),
            projections: self.projections.clone(),
        };
        match serde_json::to_string(&stored) {
            Ok(text) => text,
            Err(error) => unreachable!("plain data with text keys serialises: {error}"),
        }
    }

    /// Reads a registry back and compiles it.
    ///
    /// # Errors
    /// When the text is damaged or this program lacks an operator.
    pub fn from_json(text: &str, operators: Operators) -> Result<Self, RegistryError> {
        let stored: StoredRegistry = serde_json::from_str(text)?;
        let mut registry = Self {
            version: stored.version,
            projections: stored.projections,
            next_event_id: stored.next_event_id,
            next_table_id: stored.next_table_id,
            ..Self::default()
        };
        let descriptors = stored.events.len() + stored.derivations.len() + stored.tables.len();
        for event in stored.events {
            let node = event::canonical(&event.schema);
            let name = event.schema.name.clone();
            let event = EventDef { schema: Arc::new(event.schema), node, owner: event.owner, origin: event.origin };
            registry.events.insert(name, Arc::new(event));
        }
        for derivation in stored.derivations {
            let name: Box<str> = node_name(&derivation.node).into();
            let StoredDerivation { event, node, owner, origin } = derivation;
            let derivation = DerivationDef { name: name.clone(), event, node, owner, origin };
            registry.derivations.insert(name, Arc::new(derivation));
        }
        let mut world = registry.world(operators, STORED);
        let mut specs = Vec::with_capacity(stored.tables.len());
        for table in stored.tables {
            let name = node_name(&table.node).to_owned();
            let mut problems = Problems::default();
            let spec = stored_spec(&table.node, &mut problems).ok_or_else(|| unreadable(&name, &problems))?;
            world.derivations.insert(name.as_str().into(), Arc::new(spec.clone()));
            specs.push((table, spec));
        }
        for (table, spec) in specs {
            let mut problems = Problems::default();
            let identity = Identity { id: table.id, owner: table.owner, origin: table.origin, computed: table.computed };
            let compiled = spec.group.as_ref().and_then(|group| world.compile_table(&spec, group, identity, &mut problems));
            let compiled = compiled.ok_or_else(|| unreadable(&spec.name, &problems))?;
            registry.tables.insert(compiled.name.clone(), Arc::new(compiled));
        }
        registry.verify(descriptors).map_err(RegistryError::Contradiction)?;
        Ok(registry)
    }

    /// The text fields of an event that make up keys, one list a table.
    pub fn text_keys(&self, event: EventId) -> Vec<Vec<FieldIndex>> {
        let field = |key: &KeyColumn| match (key.kind, key.column) {
            (KeyKind::Str, Column::Field(field)) => Some(field),
            _ => None,
        };
        let keys = self.tables.values().filter(|table| table.event == event).map(|table| table.keys.iter().filter_map(field).collect());
        keys.filter(|fields: &Vec<_>| !fields.is_empty()).collect()
    }

    /// The world as it is.
    pub(super) fn world(&self, operators: Operators, checks: Checks) -> World {
        let nodes = self.derivations.values().map(|derivation| &derivation.node).chain(self.tables.values().map(|table| &table.node));
        let specs = nodes.filter_map(|node| stored_spec(node, &mut Problems::default()));
        let derivations = specs.map(|spec| (spec.name.as_str().into(), Arc::new(spec))).collect();
        World { events: self.events.clone(), derivations, operators, checks }
    }

    /// Every name in force.
    pub(super) fn names(&self) -> impl Iterator<Item = String> + '_ {
        self.events.keys().chain(self.derivations.keys()).chain(self.tables.keys()).map(ToString::to_string)
    }

    /// The canonical node of a name.
    pub(super) fn node(&self, name: &str) -> Option<&Json> {
        let event = || self.events.get(name).map(|event| &event.node);
        let derivation = || self.derivations.get(name).map(|derivation| &derivation.node);
        event().or_else(derivation).or_else(|| self.tables.get(name).map(|table| &table.node))
    }

    /// Owner and origin of a name.
    pub(super) fn ownership(&self, name: &str) -> Option<(&str, Origin)> {
        let event = || self.events.get(name).map(|event| (&*event.owner, event.origin));
        let derivation = || self.derivations.get(name).map(|derivation| (&*derivation.owner, derivation.origin));
        let table = || self.tables.get(name).map(|table| (&*table.owner, table.origin));
        event().or_else(derivation).or_else(table)
    }

    /// Name of the event that a descriptor hangs from; an event hangs from itself.
    pub(super) fn root_event(&self, name: &str) -> Option<&str> {
        if let Some(event) = self.events.get(name) {
            return Some(&event.schema.name);
        }
        if let Some(table) = self.tables.get(name) {
            return Some(&table.event_name);
        }
        let id = self.derivations.get(name)?.event;
        self.event_by_id(id).map(|event| &*event.schema.name)
    }
}

fn node_name(node: &Json) -> &str {
    node["name"].as_str().unwrap_or_default()
}

fn stored_spec(node: &Json, problems: &mut Problems) -> Option<DerivationSpec> {
    match decode(&Tree::from(node), node_name(node).to_owned(), problems)? {
        NodeSpec::Derivation(spec) => Some(spec),
        NodeSpec::Event(_) => None,
    }
}

fn unreadable(name: &str, problems: &Problems) -> RegistryError {
    let reason = problems.errors.first().map_or_else(|| "it is no table".to_owned(), |problem| problem.reason.clone());
    RegistryError::Node { name: name.to_owned(), reason }
}
