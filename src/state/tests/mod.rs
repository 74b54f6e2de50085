//! Promises of the state, kept against a naive recount of all rows (`recount`) and against itself: replay, snapshots, splits, deletes, definitions.
//!
//! Rows come from proptest, pipelines from real register payloads. Nothing here looks into slabs: values are read as a reader reads them.
#![allow(clippy::unwrap_used, reason = "tests")]

mod cold;
mod counts;
mod crafted;
mod dedupe;
mod definitions;
mod edges;
mod every_operator;
mod expiry;
mod extremes;
mod fading;
mod golden;
mod layouts;
mod memory;
mod pipeline;
mod recount;
mod replay;
mod rows;
mod shedding;
mod steps;

use super::arena::Arena;
use super::{Content, RowsContent, Shed, State, Sweep, Table};
use crate::operators::Reading;
use crate::pipeline::{RegisterOptions, Registry};
use crate::row::{Key, RowsBuilder, Strictness};
use serde_json::Value as Json;
use std::sync::Arc;

const HASH_SEED: u64 = 0xFEED;

/// Gives back all that left a state's definitions: only then can it be written as a snapshot.
fn settle(state: &mut State) {
    while state.shed(7, true) != Shed::Over {}
    assert!(state.is_writable());
}

/// A state that is driven like the engine drives it, with every content it was given.
struct Driven {
    state: State,
    log: Vec<(Content, u64, i64)>,
    next_lsn: u64,
}

impl Driven {
    fn new() -> Self {
        Self { state: State::new(HASH_SEED), log: Vec::new(), next_lsn: 1 }
    }

    fn with(payload: &Json) -> Self {
        let mut driven = Self::new();
        driven.register(payload);
        driven
    }

    fn apply(&mut self, content: Content, now_us: i64) {
        self.state.apply(&content, self.next_lsn, now_us);
        let lsns = content.lsns();
        self.log.push((content, self.next_lsn, now_us));
        self.next_lsn += lsns;
    }

    fn register(&mut self, payload: &Json) {
        let registry = Registry::clone(self.state.registry());
        let unfed = self.state.unfed();
        let options = RegisterOptions { unfed: &unfed, ..RegisterOptions::default() };
        let outcome = registry.apply_register(&payload.to_string(), &options).unwrap_or_else(|error| panic!("{}", error.to_json()));
        if let Some(registry) = outcome.next {
            self.apply(Content::Definition { registry, effects: outcome.effects }, rows::START_US);
        }
    }

    /// Applies rows in batches that end at the given places.
    fn feed(&mut self, rows: &[rows::Row], ends: &[usize]) {
        for batch in rows::split(rows, ends) {
            self.apply(self.pack(batch), rows::START_US);
        }
    }

    /// Sweeps the keys of a part of the rows of every table, by this clock.
    fn sweep(&mut self, from: u32, to: u32, now_us: i64) {
        let keys = |table: &Table| (from..to.min(table.keys.rows())).filter_map(|row| table.key_bytes(row)).collect();
        let sweeps: Vec<Sweep> = self.state.tables().map(|table| Sweep { table: table.def().id, keys: keys(table) }).collect();
        sweeps.into_iter().for_each(|sweep| self.apply(Content::Sweep(sweep), now_us));
    }

    fn pack(&self, rows: &[rows::Row]) -> Content {
        let schema = Arc::clone(&self.state.registry().event("Tx").unwrap().schema);
        let mut builder = RowsBuilder::new(schema, Strictness::Push);
        rows.iter().for_each(|row| row.write(&mut builder));
        Content::Rows(RowsContent { batches: vec![builder.finish()], ..RowsContent::default() })
    }

    /// Gives back all that left the definitions.
    fn settle(&mut self) {
        settle(&mut self.state);
    }

    fn fingerprint(&self) -> u128 {
        self.state.fingerprint()
    }

    /// Whether a key of the table has outgrown its list.
    fn is_grown(&self, table: &str, key: &Key) -> bool {
        let table = self.state.table(table).unwrap();
        table.find(key).is_some_and(|number| table.slabs.iter().any(|slab| slab.is_grown(number)))
    }

    /// Turns the lists of a table's keys into rings.
    fn grow(&mut self, table: &str, keys: impl Fn(u32) -> bool) {
        let id = self.state.table(table).unwrap().def().id;
        let table = self.state.tables.get_mut(&id).unwrap();
        let (numbers, _) = table.keys_from(0, usize::MAX);
        for number in numbers.into_iter().filter(|&number| keys(number)) {
            table.slabs.iter_mut().for_each(|slab| slab.grow_early(number));
        }
    }

    /// One feature of one key, as a reader gets it; none when the key is not there.
    fn read(&self, table: &str, key: &Key, feature: &str, now_us: i64) -> Option<Reading> {
        let (table, number, place) = self.place(table, key, feature)?;
        table.readings(number, &[place], now_us, false, &mut Arena::default()).pop()
    }

    /// The earliest time that a windowed feature of a key can be asked for; none when any time will do.
    fn earliest_us(&self, table: &str, key: &Key, feature: &str) -> Option<i64> {
        let (table, number, place) = self.place(table, key, feature)?;
        table.slabs[place.0].earliest_us(number, &[place.1], i64::MIN)
    }

    fn place(&self, table: &str, key: &Key, feature: &str) -> Option<(&Table, u32, (usize, usize))> {
        let table = self.state.table(table).unwrap();
        let number = table.find(key)?;
        let at = table.def().features.iter().position(|def| &*def.name == feature).unwrap();
        Some((table, number, table.feature_places()[at]))
    }
}
