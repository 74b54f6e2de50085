//! Whether definitions that a file brought fit together: what registration makes sure of one by one.
//!
//! Each stored node compiles by itself ([`Registry::from_json`]); numbers and names are relations between
//! them, and the state is built upon these. Called at recovery, once per registry read.

use super::registry::Registry;
use std::collections::BTreeSet;

/// Numbers are given out one by one, from 32 bits: those below this bound leave room for more.
const NUMBERS_MAX: u32 = 1 << 31;
/// The same for versions of the registry.
const VERSION_MAX: u64 = 1 << 53;

impl Registry {
    /// Whether numbers and names fit together. `stored` is how many descriptors were read.
    ///
    /// # Errors
    /// Says what does not.
    pub(super) fn verify(&self, stored: usize) -> Result<(), String> {
        if self.version > VERSION_MAX || self.next_event_id > NUMBERS_MAX || self.next_table_id > NUMBERS_MAX {
            let Self { version, next_event_id, next_table_id, .. } = self;
            return Err(format!("version {version}, events up to {next_event_id} and tables up to {next_table_id} leave no room for more"));
        }
        let names: BTreeSet<String> = self.names().collect();
        if names.len() != stored {
            return Err(format!("{stored} descriptors have {} names", names.len()));
        }
        let events: BTreeSet<u32> = self.events.values().map(|event| event.schema.id.0).collect();
        if events.len() != self.events.len() || events.last().is_some_and(|&last| last >= self.next_event_id) {
            return Err(format!("events have the numbers {events:?}, the next one is {}", self.next_event_id));
        }
        let tables: BTreeSet<u32> = self.tables.values().map(|table| table.id).collect();
        if tables.len() != self.tables.len() || tables.last().is_some_and(|&last| last >= self.next_table_id) {
            return Err(format!("tables have the numbers {tables:?}, the next one is {}", self.next_table_id));
        }
        for event in self.events.values() {
            let fields: BTreeSet<&str> = event.schema.fields.iter().map(|field| &*field.name).collect();
            if fields.len() != event.schema.fields.len() || fields.len() > usize::from(u16::MAX) || event.schema.version > NUMBERS_MAX {
                return Err(format!("event {} has {} names for {} fields", event.schema.name, fields.len(), event.schema.fields.len()));
            }
        }
        let roots = self.derivations.values().map(|derivation| (&derivation.name, derivation.event));
        for (name, event) in roots.chain(self.tables.values().map(|table| (&table.name, table.event))) {
            if !events.contains(&event.0) {
                return Err(format!("{name} hangs from event {}, which is not there", event.0));
            }
        }
        for table in self.tables.values() {
            let features: BTreeSet<&str> = table.features.iter().map(|feature| &*feature.name).collect();
            if features.len() != table.features.len() {
                return Err(format!("table {} has two features of one name", table.name));
            }
        }
        Ok(())
    }
}
