//! One table: its keys, and slabs of features under their row numbers.

use super::account::{Account, Charge};
use super::accumulator::{Input, hash_cell};
use super::arena::Arena;
use super::chunk::Chunk;
use super::keys::{Keys, Probe};
use super::older::Passed;
use super::plan::{FeaturePlan, SlabPlan, SlabRow};
use super::shedding::{Gone, Leaving};
use super::slab::{Missed, Slab};
use super::unseen::Unseen;
use crate::operators::{Accuracy, Membership, Reading, Slot};
use crate::pipeline::{Derived, KeyColumn, KeyKind, RowEnv, TableDef};
use crate::row::{Cell, EventSchema, KEY_BYTES_MAX, Key, Rows, key};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use streamgauge_api::Value;
use xxhash_rust::xxh3::Xxh3;

/// Rows are applied in groups of at most this many, so that their addresses are known before memory is touched.
pub(crate) const GROUP: usize = 32;

/// Where rows went, since this process started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Funnel {
    /// Rows of the table's event.
    pub received: u64,
    /// Dropped by the table's chain or `where`.
    pub filtered: u64,
    /// A key part was missing, null or too long.
    pub null_key: u64,
    /// Too old, or too far ahead, for a window of the table.
    pub late: u64,
    /// Applied to an entity.
    pub applied: u64,
    /// Of a table of ids: rows that came before.
    pub repeated: u64,
    /// Entities that had gone cold and lost what they had.
    pub cold: u64,
    /// Entities forgotten by a delete.
    pub deleted: u64,
    /// Deletes that forgot nothing: of keys that are not there, and of records whose key does not tell the table's.
    pub undeleted: u64,
}

/// A table's state.
#[derive(Debug)]
pub struct Table {
    pub(crate) def: Arc<TableDef>,
    pub(crate) keys: Keys,
    pub(crate) slabs: Vec<Slab>,
    /// How far its rows have come in time, microseconds: the newest row time, less what the row was ahead of its clock; `i64::MIN` when there were none.
    pub(crate) newest_us: i64,
    /// LSN and time from which the table counts.
    pub(crate) since: (u64, i64),
    /// How long a key lives behind its last row, microseconds: said by the definitions.
    pub(super) cold_us: Option<i64>,
    /// How long ids are remembered, microseconds; of tables of ids alone.
    pub(super) ids_us: Option<i64>,
    /// How often a key got another row number in this process; not part of the state.
    pub(crate) moves: u32,
    /// Counts of this process; not part of the state.
    pub funnel: Funnel,
    /// What its keys and slabs hold, and what frozen copies of it still hold.
    pub(crate) account: Account,
    /// What the lists of chunks of a frozen copy take.
    _lists: Charge,
}

/// Reused buffers of apply.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    pub(super) derived: Derived,
    pub(super) key: Key,
    probes: Vec<Option<Probe>>,
    group: Vec<(usize, u32)>,
    matches: Vec<bool>,
}

/// A row's inputs to the accumulators of a slab.
type Inputs<'r> = smallvec::SmallVec<[Input<'r>; 6]>;

impl Table {
    /// A table with these keys and no features' words yet.
    pub(crate) fn new(def: Arc<TableDef>, keys: Keys, since: (u64, i64), account: Account) -> Self {
        let plan = Arc::new(SlabPlan::compile(&def.features));
        let slabs = vec![Slab::new(plan, &account)];
        Self {
            keys,
            slabs,
            newest_us: i64::MIN,
            since,
            cold_us: None,
            ids_us: None,
            moves: 0,
            funnel: Funnel::default(),
            account,
            _lists: Charge::default(),
            def,
        }
    }

    /// An empty table.
    pub(crate) fn empty(def: Arc<TableDef>, hash_seed: u64, since: (u64, i64), above: &Account) -> Self {
        let account = above.below();
        Self::new(def, Keys::new(hash_seed, &account), since, account)
    }

    /// The declaration.
    pub fn def(&self) -> &Arc<TableDef> {
        &self.def
    }

    /// Number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How far its rows have come in time, microseconds: the newest row time, less what the row was ahead of its clock.
    pub fn newest_us(&self) -> Option<i64> {
        (self.newest_us != i64::MIN).then_some(self.newest_us)
    }

    /// See [`State::count_anew`](super::State::count_anew).
    pub(crate) fn count_anew(&mut self) {
        self.funnel = Funnel::default();
        self.slabs.iter_mut().for_each(|slab| slab.missed.fill(Missed::default()));
    }

    /// Rows that each window did not take since this process started, by its length in microseconds and its resolution:
    /// both together are the window, since a finer one has less room for rows ahead. A window that several slabs have,
    /// because features came later, missed what the one that missed most did: the same rows come to all of them.
    pub fn missed(&self) -> BTreeMap<(i64, usize), Missed> {
        let mut by_window: BTreeMap<(i64, usize), Missed> = BTreeMap::new();
        for slab in &self.slabs {
            for (window, missed) in slab.plan.windows.iter().zip(&slab.missed) {
                let known = by_window.entry((window.window_us, window.resolution)).or_default();
                known.late = known.late.max(missed.late);
                known.ahead = known.ahead.max(missed.ahead);
            }
        }
        by_window
    }

    /// LSN and time from which the table counts.
    pub fn since(&self) -> (u64, i64) {
        self.since
    }

    /// Bytes that the table holds: keys, slabs, copies on write, and what frozen copies still hold.
    pub fn bytes(&self) -> usize {
        self.account.bytes()
    }

    /// Every chunk of keys, words and objects.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.keys.chunks().chain(self.slabs.iter().flat_map(Slab::chunks))
    }

    /// Bytes charged besides chunks.
    #[cfg(test)]
    pub(crate) fn bytes_besides_chunks(&self) -> usize {
        self.keys.bytes_besides_chunks() + self._lists.bytes()
    }

    /// Bytes in live objects.
    #[cfg(test)]
    pub(crate) fn used_bytes(&self) -> usize {
        self.keys.used_bytes() + self.slabs.iter().map(|slab| slab.arena.used_bytes()).sum::<usize>()
    }

    /// The most work that one row may be, in words.
    pub(super) fn row_work_max(&self) -> usize {
        self.slabs.iter().map(|slab| slab.plan.row_work_max).sum()
    }

    /// Work of rows that hung on what their keys held, in words, since the last call.
    pub(super) fn take_work(&mut self) -> usize {
        self.slabs.iter_mut().map(|slab| std::mem::take(&mut slab.worked)).sum()
    }

    /// Folds some rows of a batch of the table's event. `lsn` is that of the batch's first row; 0 of rows of history,
    /// which all come before the log.
    pub(crate) fn apply(&mut self, rows: &Rows, range: Range<usize>, schema: &EventSchema, lsn: u64, scratch: &mut Scratch) {
        debug_assert!(range.end <= rows.len(), "{range:?} of {} rows", rows.len());
        self.funnel.received += range.len() as u64;
        let def = Arc::clone(&self.def);
        if !def.chain.is_empty() {
            for row in range {
                self.apply_chained(&def, rows, row, schema, stamp(lsn, row), scratch);
            }
            return;
        }
        let mut from = range.start;
        while from < range.end {
            let to = (from + GROUP).min(range.end);
            self.apply_group(&def, rows, from..to, schema, lsn, scratch);
            from = to;
        }
    }

    /// Rows whose chain derives nothing: keys first, then one touch of every row, then the updates.
    fn apply_group(&mut self, def: &TableDef, rows: &Rows, range: Range<usize>, schema: &EventSchema, lsn: u64, scratch: &mut Scratch) {
        let Scratch { derived, key, probes, group, matches } = scratch;
        probes.clear();
        for row in range.clone() {
            let has_key = key_of(&def.keys, &RowEnv { rows, row, schema, derived }, key);
            probes.push(has_key.then(|| self.keys.probe(key)));
        }
        let touched = probes.iter().flatten().fold(0, |seen, probe| seen ^ self.keys.touch(probe));
        std::hint::black_box(touched);
        group.clear();
        for (row, probe) in range.zip(probes.iter()) {
            let Some(probe) = probe else {
                self.no_key(rows.is_delete(row));
                continue;
            };
            if probe.needs_bytes() || rows.is_delete(row) {
                let _it_has_one = key_of(&def.keys, &RowEnv { rows, row, schema, derived }, key);
            }
            if rows.is_delete(row) {
                // The rows before it must be applied before their entity goes.
                self.update_group(rows, schema, lsn, derived, group, matches);
                group.clear();
                self.delete(key);
                continue;
            }
            let number = self.keys.resolve(probe, key);
            group.push((row, number));
        }
        self.update_group(rows, schema, lsn, derived, group, matches);
    }

    fn update_group(
        &mut self,
        rows: &Rows,
        schema: &EventSchema,
        lsn: u64,
        derived: &Derived,
        group: &[(usize, u32)],
        matches: &mut Vec<bool>,
    ) {
        let touched = self.slabs.iter().fold(0, |seen, slab| seen ^ slab.touch(group));
        std::hint::black_box(touched);
        let mut inputs = Inputs::new();
        for &(row, number) in group {
            let env = RowEnv { rows, row, schema, derived };
            self.update(number, &env, stamp(lsn, row), matches, &mut inputs);
        }
    }

    fn apply_chained(&mut self, def: &TableDef, rows: &Rows, row: usize, schema: &EventSchema, lsn: u64, scratch: &mut Scratch) {
        let Scratch { derived, key, matches, .. } = scratch;
        if rows.is_delete(row) {
            def.chain.derive(rows, row, schema, derived);
        } else if !def.chain.run(rows, row, schema, derived) {
            self.funnel.filtered += 1;
            return;
        }
        let env = RowEnv { rows, row, schema, derived };
        if !key_of(&def.keys, &env, key) {
            self.no_key(rows.is_delete(row));
        } else if rows.is_delete(row) {
            self.delete(key);
        } else {
            let number = self.keys.resolve(&self.keys.probe(key), key);
            self.update(number, &env, lsn, matches, &mut Inputs::new());
        }
    }

    #[inline]
    fn update<'r>(&mut self, number: u32, env: &RowEnv<'r>, lsn: u64, matches: &mut Vec<bool>, inputs: &mut Inputs<'r>) {
        let time_us = env.rows.time_us(env.row);
        let edge_us = env.rows.edge_us(env.row);
        self.newest_us = self.newest_us.max(edge_us);
        self.wake(number, edge_us);
        let bare = Input::bare(time_us, lsn);
        let mut in_time = true;
        for slab in &mut self.slabs {
            matches.clear();
            for filter in &slab.plan.filters {
                matches.push(filter.test(env));
            }
            inputs.clear();
            for column in &slab.plan.columns {
                let cell = env.cell(column.column);
                let hash = if column.need_hash { hash_cell(cell) } else { 0 };
                inputs.push(Input { cell, hash, ..bare });
            }
            in_time &= slab.update(number, SlabRow { inputs, matches, bare: &bare, edge_us });
        }
        self.funnel.applied += 1;
        if !in_time {
            self.funnel.late += 1;
        }
    }

    /// A row that has no key of this table.
    #[cold]
    fn no_key(&mut self, is_delete: bool) {
        *(if is_delete { &mut self.funnel.undeleted } else { &mut self.funnel.null_key }) += 1;
    }

    /// The row number of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<u32> {
        self.keys.find(&self.keys.probe(key), key)
    }

    /// Forgets a key. A table without key columns has nothing that a deleted key could name: its one row stays.
    fn delete(&mut self, key: &[u8]) {
        let Some(number) = self.find(key).filter(|_| !self.def.keys.is_empty()) else {
            self.funnel.undeleted += 1;
            return;
        };
        for slab in &mut self.slabs {
            slab.clear(number);
        }
        self.keys.remove(number);
        self.funnel.deleted += 1;
    }

    /// Canonical bytes of a row's key; none for a free row number.
    pub(crate) fn key_bytes(&self, number: u32) -> Option<Key> {
        self.keys.get(number)
    }

    /// The part of the state's fingerprint that some of its rows are: the sum of hash(table, key, content with handles
    /// followed).
    pub(crate) fn fingerprint(&self, rows: Range<u32>) -> u128 {
        let mut sum = 0u128;
        for number in rows {
            let Some(key) = self.key_bytes(number) else { continue };
            let mut hash = Xxh3::with_seed(u64::from(self.def.id));
            hash.update(&key);
            for slab in &self.slabs {
                slab.digest(number, &mut |words| hash.update(bytemuck::cast_slice(words)));
            }
            sum = sum.wrapping_add(hash.digest128());
        }
        sum
    }

    /// It is gone; what it consists of goes bit by bit.
    pub(super) fn leave(self, leaving: &mut Leaving, since_us: i64) {
        let gone = Gone { table: Arc::from(&*self.def.name), features: Vec::new(), since_us };
        let (index, keys) = self.keys.into_chunks();
        leaving.add(gone, Some(index), keys.chain(self.slabs.into_iter().flat_map(Slab::into_chunks)));
    }

    /// The same table without its index: what snapshots and fingerprints read.
    pub(crate) fn freeze(&self) -> Self {
        let lists = self.account.charge(self.chunks().count() * size_of::<Chunk>());
        lists.leave();
        Self {
            def: Arc::clone(&self.def),
            keys: self.keys.freeze(),
            slabs: self.slabs.iter().map(Slab::freeze).collect(),
            newest_us: self.newest_us,
            since: self.since,
            cold_us: self.cold_us,
            ids_us: self.ids_us,
            moves: self.moves,
            funnel: self.funnel,
            account: self.account.clone(),
            _lists: lists,
        }
    }

    /// How often a key got another row number in this process: pages of keys from before are of no use then.
    pub(crate) fn moves(&self) -> u32 {
        self.moves
    }

    /// Numbers of rows with a key from `from` on, at most `limit`, and where the next page begins. The order is that of row
    /// numbers: of first sight, until keys move.
    pub(crate) fn keys_from(&self, from: u32, limit: usize) -> (Vec<u32>, Option<u32>) {
        let mut numbers = Vec::new();
        for number in from..self.keys.rows() {
            if numbers.len() == limit {
                return (numbers, Some(number));
            }
            if self.key_bytes(number).is_some() {
                numbers.push(number);
            }
        }
        (numbers, None)
    }

    /// Where each feature of the declaration stands: slab and index in its plan, in the declaration's (alphabetical) order.
    pub(crate) fn feature_places(&self) -> Vec<(usize, usize)> {
        let place = |name: &str| self.slabs.iter().enumerate().find_map(|(number, slab)| Some((number, slab.plan.feature(name)?)));
        let places: Vec<(usize, usize)> = self.def.features.iter().filter_map(|feature| place(&feature.name)).collect();
        assert_eq!(places.len(), self.def.features.len(), "every feature of {} is in a slab", self.def.name);
        places
    }

    /// From which row time on these features have all rows, microseconds; none where they have all since the event's first.
    pub(crate) fn complete_since_us(&self, places: &[(usize, usize)]) -> Option<i64> {
        let slabs = self.slabs.iter().enumerate().filter(|(at, _)| places.iter().any(|place| place.0 == *at));
        slabs.filter_map(|(_, slab)| slab.unseen).map(|unseen| unseen.latest_us).max()
    }

    /// From which row time on all its features have all rows, microseconds, and those of them by which that is later than
    /// by others.
    pub fn coverage(&self) -> Vec<(&str, Option<i64>)> {
        let of_slab = |slab: &Slab| slab.unseen.map(|unseen| unseen.latest_us);
        let slabs = self.slabs.iter().filter(|slab| !slab.plan.is_life());
        slabs.flat_map(|slab| slab.plan.features.iter().map(move |feature| (&*feature.def.name, of_slab(slab)))).collect()
    }

    /// Whether rows that came before one of these features did may be in what it answers at a time.
    pub(crate) fn lacks_earlier_rows(&self, places: &[(usize, usize)], now_us: i64) -> bool {
        places.iter().any(|&(slab, feature)| self.slabs.get(slab).is_some_and(|slab| slab.lacks_earlier_rows(feature, now_us)))
    }

    /// Reads values of features by their places; they come in the order asked for.
    pub(crate) fn values(&self, number: u32, places: &[(usize, usize)], now_us: i64, scratch: &mut Arena) -> Vec<Value> {
        self.read(number, places, now_us, scratch, |feature, slots| (feature.value)(slots, now_us))
    }

    /// The same, with what is known of each value. `past`: the reader chose the time, so that lifetime features, which
    /// have no past, may count rows that came after it.
    pub(crate) fn readings(&self, number: u32, places: &[(usize, usize)], now_us: i64, past: bool, scratch: &mut Arena) -> Vec<Reading> {
        let mut readings = self.read(number, places, now_us, scratch, |feature, slots| {
            let lacks_rows = slots.iter().any(|slot| slot.lacks_rows);
            let accuracy = if lacks_rows { Accuracy::Unknown } else { (feature.accuracy)(slots, now_us) };
            Reading { value: (feature.value)(slots, now_us), accuracy }
        });
        for (reading, &(slab, feature)) in readings.iter_mut().zip(places) {
            let lifetime_us = if past { self.newest_us } else { i64::MIN };
            let earliest_us = self.slabs[slab].earliest_us(number, &[feature], lifetime_us);
            if earliest_us.is_some_and(|earliest_us| now_us < earliest_us) {
                reading.accuracy = Accuracy::Unknown;
            }
            if self.slabs[slab].lacks_earlier_rows(feature, now_us) {
                reading.accuracy = Accuracy::Unknown;
            }
        }
        readings
    }

    /// Whether values with these hashes came, by a feature that keeps a set of them.
    pub(crate) fn holds(
        &self,
        number: u32,
        place: (usize, usize),
        membership: &Membership,
        hashes: &[u64],
        scratch: &mut Arena,
    ) -> Vec<bool> {
        let mut found = self.read(number, &[place], 0, scratch, |_, slots| {
            let [slot] = slots else { unreachable!("a set is one accumulator") };
            hashes.iter().map(|&hash| (membership.holds)(slot, hash)).collect::<Vec<bool>>()
        });
        let Some(found) = found.pop() else { unreachable!("one feature was asked for") };
        found
    }

    fn read<R: Clone>(
        &self,
        number: u32,
        places: &[(usize, usize)],
        now_us: i64,
        scratch: &mut Arena,
        each: impl Fn(&FeaturePlan, &[Slot<'_>]) -> R,
    ) -> Vec<R> {
        if let [slab] = &self.slabs[..] {
            let features: smallvec::SmallVec<[usize; 16]> = places.iter().map(|place| place.1).collect();
            return slab.read(number, &features, now_us, scratch, each);
        }
        let mut values: Vec<Option<R>> = vec![None; places.len()];
        for (slab_number, slab) in self.slabs.iter().enumerate() {
            let mine: Vec<usize> = (0..places.len()).filter(|&at| places[at].0 == slab_number).collect();
            let features: Vec<usize> = mine.iter().map(|&at| places[at].1).collect();
            for (at, reading) in mine.into_iter().zip(slab.read(number, &features, now_us, scratch, &each)) {
                values[at] = Some(reading);
            }
        }
        let read = |value: Option<R>| if let Some(value) = value { value } else { unreachable!("every place is in a slab") };
        values.into_iter().map(read).collect()
    }

    /// The earliest time that a read of these features can be asked for and be told truly; none when any will do.
    /// A lifetime feature has no past: it answers from the table's newest row on.
    pub(crate) fn earliest_us(&self, number: u32, places: &[(usize, usize)]) -> Option<i64> {
        let of_slab = |(at, slab): (usize, &Slab)| {
            let mine = places.iter().filter(|place| place.0 == at).map(|place| place.1);
            let features: smallvec::SmallVec<[usize; 16]> = mine.collect();
            slab.earliest_us(number, &features, self.newest_us)
        };
        self.slabs.iter().enumerate().filter_map(of_slab).max()
    }

    /// Takes another declaration of the same features.
    pub(crate) fn adopt(&mut self, def: Arc<TableDef>) {
        self.slabs.iter_mut().for_each(|slab| slab.adopt(&def));
        self.def = def;
    }

    /// Whether its words are of this declaration.
    pub(super) fn is_of(&self, def: &TableDef) -> bool {
        let names = |def: &TableDef| def.keys.iter().map(|key| (key.name.clone(), key.kind)).collect::<Vec<_>>();
        names(&self.def) == names(def) && self.def.features == def.features && self.def.event == def.event
    }

    /// Adds a slab for features that the new declaration has and no slab holds.
    pub(crate) fn extend(&mut self, def: Arc<TableDef>, names: &[String], unseen: Option<Unseen>) {
        let features: Vec<_> = def.features.iter().filter(|feature| names.iter().any(|name| **name == *feature.name)).cloned().collect();
        assert_eq!(features.len(), names.len(), "features that begin are declared: {names:?}");
        self.adopt(def);
        self.slabs.push(Slab { unseen, ..Slab::new(Arc::new(SlabPlan::compile(&features)), &self.account) });
    }

    /// Takes the new declaration without the named features. Their words and objects go back bit by bit: those of a slab
    /// that goes whole with `leaving`, others row by row ([`Table::shed`]).
    pub(super) fn retire(&mut self, def: Arc<TableDef>, names: &[String], leaving: &mut Leaving, since_us: i64) {
        for mut slab in std::mem::take(&mut self.slabs) {
            if slab.plan.is_life() {
                self.slabs.push(slab);
                continue;
            }
            let stay = |name: &str| !names.iter().any(|gone| gone == name);
            let features: Vec<_> = slab
                .plan
                .features
                .iter()
                .filter(|feature| stay(&feature.def.name))
                .filter_map(|feature| def.feature(&feature.def.name).cloned())
                .collect();
            let named = slab.plan.features.iter().map(|feature| &*feature.def.name).filter(|name| !stay(name));
            let gone = Gone { table: Arc::from(&*def.name), features: named.map(Arc::from).collect(), since_us };
            if features.is_empty() {
                leaving.add(gone, None, slab.into_chunks());
                continue;
            }
            if features.len() < slab.plan.features.len() {
                // There is one larger plan at a time. The engine waits for this; a replay does not.
                while slab.shed(None) != Passed::Over {}
                slab.retire(Arc::new(SlabPlan::compile(&features)), self.keys.rows(), gone, &self.account);
            }
            self.slabs.push(slab);
        }
        self.adopt(def);
        let mut held = self.slabs.iter().filter(|slab| !slab.plan.is_life()).flat_map(|slab| &slab.plan.features);
        assert!(held.all(|feature| self.def.feature(&feature.def.name).is_some()), "what stays in a table is declared");
    }
}

/// What a row is told from others of its time by: its LSN; 0 where it is a row of history.
#[inline]
fn stamp(lsn: u64, row: usize) -> u64 {
    if lsn == 0 { 0 } else { lsn + row as u64 }
}

/// Builds a row's canonical key; false when a part is missing, null, of a type that is no key, or the whole is too long.
#[inline]
pub(crate) fn key_of(columns: &[KeyColumn], env: &RowEnv<'_>, key: &mut Key) -> bool {
    key.clear();
    let alone = columns.len() == 1;
    for column in columns {
        match (column.kind, env.cell(column.column)) {
            (KeyKind::Str, Cell::Str(text)) if text.len() <= KEY_BYTES_MAX => key::push_text(key, text, alone),
            (KeyKind::I64, Cell::I64(number)) | (KeyKind::Datetime, Cell::Datetime(number)) => key::push_i64(key, number),
            (KeyKind::Bool, Cell::Bool(truth)) => key::push_bool(key, truth),
            _ => return false,
        }
    }
    key.len() <= KEY_BYTES_MAX
}
