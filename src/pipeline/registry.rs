//! The registry: every definition in force, as one immutable value.
//!
//! Apply holds an `Arc` of it for a range of LSNs; a register call computes the next one without touching this one. It goes into WAL frames and snapshots as
//! JSON of canonical nodes and numbers, and is compiled again when it is read back, so replay never needs the outside.

use super::definition::{DerivationDef, EventDef, TableDef};
use crate::row::EventId;
use std::collections::BTreeMap;
use std::sync::Arc;

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
    /// The next event's number.
    pub next_event_id: u32,
    /// The next table's number.
    pub next_table_id: u32,
}

impl Registry {
    /// The event of this name.
    pub fn event(&self, name: &str) -> Option<&Arc<EventDef>> {
        self.events.get(name)
    }

    /// The event of this number.
    pub fn event_by_id(&self, id: EventId) -> Option<&Arc<EventDef>> {
        self.events.values().find(|event| event.schema.id == id)
    }

    /// The table of this name.
    pub fn table(&self, name: &str) -> Option<&Arc<TableDef>> {
        self.tables.get(name)
    }

    /// Number of descriptors: events, derivations and tables.
    pub fn node_count(&self) -> usize {
        self.events.len() + self.derivations.len() + self.tables.len()
    }
}
