//! Which keys the rows of a batch touch, in every table that they feed.
//!
//! Rows of one key keep their order, so a row that waits for room holds the later ones of its keys, and those alone. Keys
//! are told by hashes of 64 bits: two that share one only keep an order that nobody asked for. Called by the engine near
//! the memory limit, before rows are written; cold.

use super::state::State;
use super::table::key_of;
use crate::pipeline::{Derived, RowEnv};
use crate::row::{Key, Rows};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The keys of each row, as hashes of table and key.
#[derive(Debug, Default)]
pub struct TouchedKeys {
    keys: Vec<u64>,
    /// Where each row's keys end.
    ends: Vec<usize>,
}

impl TouchedKeys {
    /// The keys of a row.
    pub fn of(&self, row: usize) -> &[u64] {
        let from = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.keys[from..self.ends[row]]
    }
}

impl State {
    /// The keys that each row of a batch updates or deletes.
    pub fn touched_keys(&self, batch: &Rows) -> TouchedKeys {
        let mut touched = TouchedKeys { keys: Vec::new(), ends: Vec::with_capacity(batch.len()) };
        let event = self.registry.event_by_id(batch.event());
        let (mut derived, mut key) = (Derived::default(), Key::default());
        for row in 0..batch.len() {
            for table in self.fed_by(batch) {
                let Some(event) = event else { continue };
                let (schema, def) = (&event.schema, table.def());
                if batch.is_delete(row) {
                    // The one row of a table without key columns is no key's: no delete forgets it.
                    if def.keys.is_empty() {
                        continue;
                    }
                    def.chain.derive(batch, row, schema, &mut derived);
                } else if !def.chain.run(batch, row, schema, &mut derived) {
                    continue;
                }
                if key_of(&def.keys, &RowEnv { rows: batch, row, schema, derived: &derived }, &mut key) {
                    touched.keys.push(xxh3_64_with_seed(&key, u64::from(def.id)));
                }
            }
            touched.ends.push(touched.keys.len());
        }
        assert_eq!(touched.ends.len(), batch.len(), "every row says which keys it touches");
        touched
    }
}
