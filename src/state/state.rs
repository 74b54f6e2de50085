//! The state: every table, the positions that brought it here, and the definitions in force.
//!
//! [`State::apply`] is the only way to change it. Live apply, recovery and simulation call it with the same content and the same time and reach the same bytes.

use super::account::Account;
use super::arena::Arena;
use super::content::Content;
use super::dedupe::{Repeated, is_ids};
use super::evacuate::Evacuation;
use super::fills::Fills;
use super::frame::OpenFrame;
use super::shedding::Leaving;
use super::skip::Skip;
use super::table::{Scratch, Table};
use super::unseen::{Applied, Unseen};
use super::waiting::WaitingOffsets;
use crate::pipeline::{Registry, TableDef, TableEffect};
use crate::row::{EventId, Rows};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use streamgauge_api::control::{Reject, RejectId};
use streamgauge_api::decision::Gap;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::source::Incident;
use streamgauge_api::{Position, Slot, StoredPosition};

/// Everything that a log of frames amounts to.
#[derive(Debug)]
pub struct State {
    pub(crate) registry: Arc<Registry>,
    pub(crate) tables: BTreeMap<u32, Table>,
    pub(crate) by_event: BTreeMap<EventId, Vec<u32>>,
    pub(crate) partitions: Vec<StoredPosition>,
    /// By slot: what was read beyond the position and is not in the tables yet.
    pub(super) waiting: BTreeMap<u32, WaitingOffsets>,
    pub(crate) schemas: Vec<FetchedSchema>,
    /// Sources that have had a usable writer schema.
    pub(crate) readable: BTreeSet<Box<str>>,
    pub(crate) incidents: BTreeMap<u32, Incident>,
    /// Rows applied of each event in force, those of tables that came later or went away included.
    pub(crate) applied: BTreeMap<EventId, Applied>,
    /// Last applied LSN; 0 = nothing.
    pub(crate) lsn: u64,
    /// Time of the last frame, microseconds.
    pub(crate) frame_us: i64,
    /// The wall clock was not believed when that frame was written.
    pub(crate) clock_held: bool,
    /// Frames that an operator left out, oldest first, at most [`super::skip::SKIPS_MAX`].
    pub(crate) skips: Vec<Skip>,
    /// What those frames had of a partition, by slot: `FrameSkipped`, which nothing closes.
    pub(crate) skipped: BTreeMap<u32, Incident>,
    /// What tables lack by operators' decisions, oldest first, at most [`GAPS_PER_EVENT_MAX`] of an event.
    pub(crate) gaps: Vec<Gap>,
    /// Tables that are declared and not there yet.
    pub(super) fills: Fills,
    /// Tables that the next frame brings in; not part of the state.
    pub(super) handed: Vec<Table>,
    pub(crate) hash_seed: u64,
    /// Records that could not become rows, oldest first, bounded by [`REJECTS_MAX`] and [`REJECT_BYTES_MAX`].
    /// Shared with frozen copies.
    pub(crate) rejects: VecDeque<Arc<Reject>>,
    pub(crate) reject_bytes: usize,
    /// Those that fell out of that log since the state began.
    pub(crate) rejects_gone: u64,
    /// Rejects that were decoded again and are rows now.
    pub(crate) rejects_retried: u64,
    /// The frame that is applied in part.
    pub(super) open: Option<OpenFrame>,
    /// Rows were heavy: so many further ones are applied a few at a time; not part of the state.
    pub(super) heavy_rows: usize,
    /// Chunks that are being emptied; not part of the state.
    pub(super) evacuation: Option<Evacuation>,
    /// What tables and features that are gone consist of still; not part of the state.
    pub(super) leaving: Leaving,
    /// Whether there is any, or a row in the layout of a larger plan.
    pub(super) shedding: bool,
    /// It is read for its definitions alone, and has no tables.
    is_bare: bool,
    /// Rows of the last frame that came before; not part of the state.
    pub(super) repeated: Vec<Repeated>,
    scratch: Scratch,
    /// What all tables hold, and what frozen copies of them still hold.
    pub(crate) account: Account,
}

/// The reject log keeps this many records,
const REJECTS_MAX: usize = 10_000;
/// and this many bytes of them.
const REJECT_BYTES_MAX: usize = 16 << 20;

/// Decisions about partitions of one event that are remembered: the oldest, which says since when tables lack rows, and the
/// newest. The others are in the log of the processes that carried them out.
pub(super) const GAPS_PER_EVENT_MAX: usize = 256;

/// Blocks that one trim gives back: ten megabytes.
const KEPT_BLOCKS_PER_TRIM: usize = 640;

impl State {
    /// An empty state. The seed of key hashes belongs to the log and never changes.
    pub fn new(hash_seed: u64) -> Self {
        Self {
            registry: Arc::default(),
            tables: BTreeMap::new(),
            by_event: BTreeMap::new(),
            partitions: Vec::new(),
            waiting: BTreeMap::new(),
            schemas: Vec::new(),
            readable: BTreeSet::new(),
            incidents: BTreeMap::new(),
            applied: BTreeMap::new(),
            lsn: 0,
            frame_us: 0,
            clock_held: false,
            skips: Vec::new(),
            skipped: BTreeMap::new(),
            gaps: Vec::new(),
            fills: Fills::default(),
            handed: Vec::new(),
            hash_seed,
            rejects: VecDeque::new(),
            reject_bytes: 0,
            rejects_gone: 0,
            rejects_retried: 0,
            open: None,
            heavy_rows: 0,
            evacuation: None,
            leaving: Leaving::default(),
            shedding: false,
            is_bare: false,
            repeated: Vec::new(),
            scratch: Scratch::default(),
            account: Account::open(),
        }
    }

    /// The same, read for its definitions alone: nothing gives it tables.
    #[must_use]
    pub(crate) fn bare(self) -> Self {
        assert!(self.tables.is_empty(), "a state that is read without its tables has none");
        Self { is_bare: true, ..self }
    }

    /// Whether it is read for its definitions alone.
    pub(super) fn is_bare(&self) -> bool {
        self.is_bare
    }

    /// Any content but rows.
    pub(super) fn apply_other(&mut self, content: &Content, first_lsn: u64, now_us: i64) {
        match content {
            Content::Rows(_) => unreachable!("rows are applied in slices"),
            Content::Definition { registry, effects } => self.define(registry, effects, first_lsn, now_us),
            Content::Partition(partition) => self.partitions.push(partition.clone()),
            Content::Schema(schema) => self.schemas.push(schema.clone()),
            Content::Readable { source } => {
                self.readable.insert(source.clone());
            }
            Content::Incident { slot, incident: Some(incident) } => {
                assert!((slot.0 as usize) < self.partitions.len(), "an incident of slot {} of {}", slot.0, self.partitions.len());
                self.incidents.insert(slot.0, incident.clone());
            }
            Content::Incident { slot, incident: None } => {
                self.incidents.remove(&slot.0);
            }
            Content::Moved { slot, stored, reached, gap } => self.move_to(*slot, stored, *reached, gap.as_deref()),
            Content::Clock { now_us, held } => {
                (self.frame_us, self.clock_held) = (*now_us, *held);
                // Rows of a time that was taken back are none that a read could be asked to begin from.
                self.tables.values_mut().for_each(|table| table.newest_us = table.newest_us.min(*now_us));
            }
            Content::Skipped { positions, waiting, rows } => self.skip((positions, waiting), *rows, first_lsn, now_us),
            Content::Sweep(sweep) => self.sweep(sweep, now_us),
            Content::Fill(step) => self.step_fill(step, first_lsn, now_us),
            Content::Reset => self.reset(),
            Content::Nothing => {}
        }
    }

    /// Rejects that fell out of the bounded log.
    pub fn rejects_gone(&self) -> u64 {
        self.rejects_gone
    }

    pub(super) fn keep_reject(&mut self, reject: &Reject, lsn: u64) {
        self.reject_bytes += reject_size(reject);
        self.rejects.push_back(Arc::new(Reject { lsn, ..reject.clone() }));
        while self.rejects.len() > REJECTS_MAX || self.reject_bytes > REJECT_BYTES_MAX {
            let Some(oldest) = self.rejects.pop_front() else { unreachable!("an empty reject log is within its bounds") };
            let size = reject_size(&oldest);
            assert!(size <= self.reject_bytes, "a reject that leaves was counted when it came");
            self.reject_bytes -= size;
            self.rejects_gone = self.rejects_gone.saturating_add(1);
        }
    }

    /// A reject that became a row. One that fell out of the bounded log since it was read is gone already.
    pub(super) fn drop_reject(&mut self, retried: &RejectId) {
        self.rejects_retried = self.rejects_retried.saturating_add(1);
        // They stand in the order of their LSNs.
        let from = self.rejects.partition_point(|reject| reject.lsn < retried.lsn);
        let at = self.rejects.iter().skip(from).take_while(|reject| reject.lsn == retried.lsn).position(|reject| retried.is_of(reject));
        if let Some(done) = at.and_then(|at| self.rejects.remove(from + at)) {
            let size = reject_size(&done);
            assert!(size <= self.reject_bytes, "a reject that leaves was counted when it came");
            self.reject_bytes -= size;
        }
    }

    /// Rejects that were decoded again and are rows now.
    pub fn rejects_retried(&self) -> u64 {
        self.rejects_retried
    }

    /// Bytes of the reject log.
    pub fn reject_bytes(&self) -> usize {
        self.reject_bytes
    }

    /// What was counted until now does not count: the funnels and the windows' misses of a process begin when it serves, not where its snapshot stood.
    pub fn count_anew(&mut self) {
        self.tables.values_mut().for_each(Table::count_anew);
    }

    /// Takes the reject log of a snapshot.
    pub(crate) fn restore_rejects(&mut self, rejects: Vec<Reject>, gone: u64, retried: u64) {
        (self.rejects_gone, self.rejects_retried) = (gone, retried);
        self.reject_bytes = rejects.iter().map(reject_size).sum();
        self.rejects = rejects.into_iter().map(Arc::new).collect();
    }

    /// Some rows of a batch, in every table that they feed. `lsn` is that of the batch's first row.
    pub(super) fn apply_batch(&mut self, batch: &Rows, rows: std::ops::Range<usize>, lsn: u64) {
        // Rows that were on their way when their event was removed are no event's.
        if let Some(applied) = self.applied.get_mut(&batch.event()) {
            applied.take(batch, rows.clone());
        }
        let Some(tables) = self.by_event.get(&batch.event()) else { return };
        let Some(event) = self.registry.event_by_id(batch.event()) else { return };
        let mut once: smallvec::SmallVec<[std::ops::Range<usize>; 4]> = smallvec::smallvec![rows.clone()];
        if event.schema.dedupe.is_some()
            && let Some(ids) = self.ids_table(batch.event()).and_then(|id| self.tables.get_mut(&id))
        {
            // An id that came has a row, of history too.
            once = ids.take_ids(batch, rows, &event.schema, lsn.max(1), &mut self.scratch, &mut self.repeated);
        }
        for id in tables.iter().filter(|id| !is_ids(**id)) {
            if let Some(table) = self.tables.get_mut(id) {
                once.iter().for_each(|run| table.apply(batch, run.clone(), &event.schema, lsn, &mut self.scratch));
            }
        }
    }

    /// A decision: the partition's incident is answered, and what was read of its log is what it was.
    fn move_to(&mut self, slot: Slot, stored: &StoredPosition, reached: Option<Position>, gap: Option<&Gap>) {
        let known = self.partitions.len();
        let Some(partition) = self.partitions.get_mut(slot.0 as usize) else { unreachable!("slot {} of {known} is moved", slot.0) };
        partition.clone_from(stored);
        self.move_waiting(slot, reached);
        self.incidents.remove(&slot.0);
        if let Some(gap) = gap {
            self.remember(gap);
        }
    }

    /// Other events' gaps stay, whatever happens to this one's.
    fn remember(&mut self, gap: &Gap) {
        let of_event = || self.gaps.iter().enumerate().filter(|(_, known)| known.event == gap.event).map(|(at, _)| at);
        if of_event().count() >= GAPS_PER_EVENT_MAX
            && let Some(second) = of_event().nth(1)
        {
            self.gaps.remove(second);
        }
        assert!(self.gaps.last().is_none_or(|last| last.lsn < gap.lsn), "a decision at {} comes behind {:?}", gap.lsn, self.gaps.last());
        self.gaps.push(gap.clone());
    }

    /// What tables lack by operators' decisions, oldest first.
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Since when a table lacks rows by decision: the oldest that came after the table, microseconds.
    pub fn gap_since_us(&self, table: &Table) -> Option<i64> {
        let (since_lsn, _) = table.since();
        let of_table = |gap: &&Gap| *gap.event == *table.def().event_name && gap.lsn > since_lsn;
        self.gaps.iter().find(of_table).map(|gap| gap.since_us)
    }

    /// A table that is declared begins empty.
    pub(super) fn create(&mut self, table: u32, lsn: u64, now_us: i64) {
        let Some(def) = self.registry.table_by_id(table).cloned() else { unreachable!("table {table} is declared") };
        let cold_us = self.registry.cold_after_us(&def);
        self.create_as(def, lsn, now_us);
        self.changed_table(table).live_for(cold_us);
    }

    fn create_as(&mut self, def: Arc<TableDef>, lsn: u64, now_us: i64) {
        let (id, unseen) = (def.id, self.unseen(def.event));
        let mut created = Table::empty(def, self.hash_seed, (lsn, now_us), &self.account);
        created.slabs.iter_mut().for_each(|slab| slab.unseen = unseen);
        assert!(self.tables.insert(id, created).is_none(), "a number is given to one table only");
    }

    pub(super) fn define(&mut self, registry: &Arc<Registry>, effects: &[TableEffect], lsn: u64, now_us: i64) {
        let definition = |id: u32| match registry.table_by_id(id) {
            Some(def) => Arc::clone(def),
            None => unreachable!("an effect names table {id}, which the registry beside it does not have"),
        };
        self.end_evacuation();
        for effect in effects {
            match effect {
                TableEffect::Create { table } => self.create_as(definition(*table), lsn, now_us),
                TableEffect::Fill { table, history } => self.fills.begin(*table, *history, (lsn, now_us)),
                TableEffect::Extend { table, .. } | TableEffect::Retire { table, .. } if self.fills.begin_anew(*table, (lsn, now_us)) => {}
                TableEffect::Drop { table } => {
                    self.fills.forget(*table);
                    if let Some(table) = self.tables.remove(table) {
                        table.leave(&mut self.leaving, now_us);
                    }
                }
                TableEffect::Extend { table, features } => {
                    let def = definition(*table);
                    let unseen = self.unseen(def.event);
                    self.changed_table(*table).extend(def, features, unseen);
                }
                TableEffect::Retire { table, features } => {
                    let (def, mut leaving) = (definition(*table), std::mem::take(&mut self.leaving));
                    self.changed_table(*table).retire(def, features, &mut leaving, now_us);
                    self.leaving = leaving;
                }
            }
        }
        // A table that no effect names may still have another declaration (owner, origin, schema version).
        for def in registry.tables.values() {
            if let Some(table) = self.tables.get_mut(&def.id) {
                table.adopt(Arc::clone(def));
                table.live_for(registry.cold_after_us(def));
            }
        }
        if !self.is_bare {
            self.have_ids(registry, lsn, now_us);
        }
        self.shedding = self.look_for_shedding();
        self.registry = Arc::clone(registry);
        self.count_events();
        self.route();
    }

    /// How far the rows of an event have come, which a feature that begins now never sees.
    fn unseen(&self, event: EventId) -> Option<Unseen> {
        self.applied.get(&event).filter(|applied| applied.rows > 0).map(|applied| applied.reached)
    }

    fn changed_table(&mut self, id: u32) -> &mut Table {
        match self.tables.get_mut(&id) {
            Some(table) => table,
            None => unreachable!("an effect changes table {id}, which does not exist"),
        }
    }

    /// Counts the rows of every event in force, and of no other.
    fn count_events(&mut self) {
        let known = |id: EventId| self.applied.get(&id).copied().unwrap_or_default();
        self.applied = self.registry.events.values().map(|event| (event.schema.id, known(event.schema.id))).collect();
    }

    /// Events of which no row was ever applied: their declarations may change freely.
    pub fn unfed(&self) -> Vec<EventId> {
        assert_eq!(self.applied.len(), self.registry.events.len(), "rows are counted for every event in force");
        self.applied.iter().filter(|(_, applied)| applied.rows == 0).map(|(event, _)| *event).collect()
    }

    /// Rows applied of an event; none when it is not in force.
    pub fn applied_rows(&self, event: EventId) -> Option<u64> {
        self.applied.get(&event).map(|applied| applied.rows)
    }

    /// Recomputes which tables an event feeds.
    pub(crate) fn route(&mut self) {
        self.by_event.clear();
        for (id, table) in &self.tables {
            self.by_event.entry(table.def.event).or_default().push(*id);
        }
    }

    fn reset(&mut self) {
        let next = self.registry.reset();
        self.registry = Arc::new(next);
        self.count_events();
        self.fills.end_all();
        self.end_evacuation();
        let gone = std::mem::take(&mut self.tables);
        gone.into_values().for_each(|table| table.leave(&mut self.leaving, self.frame_us));
        self.shedding = self.look_for_shedding();
        self.route();
    }

    /// The definitions in force.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Last applied LSN.
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Time of the last frame, microseconds.
    pub fn frame_us(&self) -> i64 {
        self.frame_us
    }

    /// Whether the wall clock was not believed when the last frame was written.
    pub fn clock_held(&self) -> bool {
        self.clock_held
    }

    /// Known partitions by slot.
    pub fn partitions(&self) -> &[StoredPosition] {
        &self.partitions
    }

    /// Whether a source has had a usable writer schema.
    pub fn is_readable(&self, source: &str) -> bool {
        self.readable.contains(source)
    }

    /// Writer schemas seen so far.
    pub fn schemas(&self) -> &[FetchedSchema] {
        &self.schemas
    }

    /// Rejected records, oldest first.
    pub fn rejects(&self) -> impl Iterator<Item = &Reject> {
        self.rejects.iter().map(|reject| &**reject)
    }

    /// Whether a slot stands as this incident says: stopped for that kind and cause, or not at all.
    pub fn has_incident(&self, slot: Slot, incident: Option<&Incident>) -> bool {
        match (self.incidents.get(&slot.0), incident) {
            (Some(known), Some(asked)) => known.kind == asked.kind && known.cause == asked.cause,
            (known, asked) => known.is_none() && asked.is_none(),
        }
    }

    /// Open incidents by slot.
    pub fn incidents(&self) -> impl Iterator<Item = (Slot, &Incident)> {
        self.incidents.iter().map(|(slot, incident)| (Slot(*slot), incident))
    }

    /// A table by name.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.tables.get(&self.registry.table(name)?.id)
    }

    /// All tables.
    pub fn tables(&self) -> impl Iterator<Item = &Table> {
        self.tables.values()
    }

    /// Bytes that all tables hold: keys, slabs, copies on write, and what frozen copies still hold.
    pub fn bytes(&self) -> usize {
        self.account.bytes()
    }

    /// How many tables the rows of a batch go to.
    pub fn tables_fed_by(&self, batch: &Rows) -> usize {
        self.by_event.get(&batch.event()).map_or(0, Vec::len)
    }

    /// Of these, what tables hold themselves: the rest gives way when they need room.
    pub fn live_bytes(&self) -> usize {
        // Frozen states give back on other threads: what was read later may be less.
        let left = self.account.left_bytes();
        self.account.bytes().saturating_sub(left)
    }

    /// Bytes that tables and frozen states may hold together: frozen states are let go before they would lead beyond.
    pub fn set_memory_limit(&self, bytes: usize) {
        self.account.set_limit(bytes);
    }

    /// Gives memory back to the allocator that was kept for the next chunks and that nobody wanted since the last call.
    pub fn trim_kept(&self) {
        self.account.trim(KEPT_BLOCKS_PER_TRIM);
    }

    /// Whether a frozen state shares chunks with this one.
    pub fn is_shared(&self) -> bool {
        self.account.is_shared()
    }

    /// Everything but the tables.
    pub(super) fn without_tables(&self) -> State {
        State {
            registry: Arc::clone(&self.registry),
            tables: BTreeMap::new(),
            by_event: BTreeMap::new(),
            partitions: self.partitions.clone(),
            waiting: self.waiting.clone(),
            schemas: self.schemas.clone(),
            readable: self.readable.clone(),
            incidents: self.incidents.clone(),
            applied: self.applied.clone(),
            lsn: self.lsn,
            frame_us: self.frame_us,
            clock_held: self.clock_held,
            skips: self.skips.clone(),
            skipped: self.skipped.clone(),
            gaps: self.gaps.clone(),
            fills: self.fills.clone(),
            handed: Vec::new(),
            hash_seed: self.hash_seed,
            rejects: self.rejects.clone(),
            reject_bytes: self.reject_bytes,
            rejects_gone: self.rejects_gone,
            rejects_retried: self.rejects_retried,
            open: None,
            heavy_rows: 0,
            evacuation: None,
            leaving: Leaving::default(),
            shedding: false,
            is_bare: false,
            repeated: Vec::new(),
            scratch: Scratch::default(),
            account: self.account.clone(),
        }
    }

    /// 128-bit fingerprint: the sum over all rows of hash(table, key, content with handles followed), plus positions, schemas, incidents, rejects and definitions. Two states with
    /// equal fingerprints answer alike; addresses, row numbers and the index do not count.
    pub fn fingerprint(&self) -> u128 {
        assert!(self.open.is_none(), "a fingerprint is of whole frames, not while {:?} is open", self.open);
        let mut sum = 0u128;
        for table in self.tables.values() {
            sum = sum.wrapping_add(table.fingerprint(0..table.keys.rows()));
        }
        let mut add = |text: Vec<u8>, seed: u64| {
            sum = sum.wrapping_add(xxhash_rust::xxh3::xxh3_128_with_seed(&text, seed));
        };
        self.partitions.iter().enumerate().for_each(|stored| add(text_of(&stored), 1));
        self.schemas.iter().for_each(|schema| add(text_of(schema), 2));
        self.readable.iter().for_each(|source| add(text_of(source), 9));
        self.incidents.iter().for_each(|incident| add(text_of(&incident), 4));
        self.rejects.iter().for_each(|reject| add(text_of(&**reject), 5));
        self.applied.iter().for_each(|counted| add(text_of(&counted), 6));
        self.waiting.iter().for_each(|waiting| add(text_of(&waiting), 8));
        self.gaps.iter().for_each(|gap| add(text_of(gap), 9));
        self.skipped.iter().for_each(|skipped| add(text_of(&skipped), 10));
        self.fills.open.iter().for_each(|fill| add(text_of(&fill), 11));
        self.registry.projections.iter().for_each(|projection| add(text_of(&projection), 7));
        let events = self.registry.events.values().map(|event| (event.schema.id.0, event.schema.version, &event.node));
        let tables = self.registry.tables.values().map(|table| (table.id, 0, &table.node));
        let derivations = self.registry.derivations.values().map(|derivation| (derivation.event.0, 0, &derivation.node));
        events.chain(tables).chain(derivations).for_each(|definition| add(text_of(&definition), 3));
        sum
    }
}

/// Our own plain data as JSON.
pub(crate) fn text_of(value: &impl serde::Serialize) -> Vec<u8> {
    match serde_json::to_vec(value) {
        Ok(text) => text,
        Err(error) => unreachable!("plain data always serialises: {error}"),
    }
}

fn reject_size(reject: &Reject) -> usize {
    let texts = [&reject.key, &reject.value].into_iter().flatten().map(String::len).sum::<usize>();
    texts + reject.reason.len() + reject.event.len() + reject.source.len() + reject.topic.len() + 96
}

/// A scratch arena for reads: reused, never part of the state.
pub type ReadScratch = Arena;
