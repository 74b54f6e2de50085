//! Tables that are declared and not there yet: their history is read into a state of its own, which comes in whole.
//!
//! ```text
//! define(Fill) --> a fill: no table, rows cost nothing --> run (`src/history`) --> sealed file --> Filled --> the table
//!                    |  another declaration: the fill begins anew under another number
//!                    |  dropped, reset: it ends          Live: the table begins empty now
//! ```
//! A **shadow** is a second [`State`] with the tables of some fills and nothing else. It is changed by its own single
//! writer: history by [`State::fold`], which gives rows the stamp 0 (at equal row times a row of the log comes after
//! all history, and of history the later fold is the later row), then the log's own frames by [`State::follow_log`], with
//! the LSNs and times that the serving state gave them. So a table that comes in is the one that would have been there
//! from the first record. Its memory is charged to the serving state's account from the start: nothing moves then.
//!
//! The table itself travels beside the frame: live from the run, at replay from recovery, which reads the sealed file
//! and follows the log from there ([`State::hand_in`]). The frame is written, and only then the table is there.

use super::account::Account;
use super::content::Content;
use super::state::State;
use super::table::Table;
use super::unseen::Unseen;
use crate::pipeline::{HistoryFrom, Registry, TableEffect};
use crate::row::{EventId, Rows};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use streamgauge_api::control::Reject;

/// Fills that may be open at a time.
pub const FILLS_MAX: usize = 64;
/// Flips that are remembered: their files are kept while a snapshot may need them.
const FLIPS_MAX: usize = 256;

/// A table that is being filled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fill {
    /// The table's number.
    pub table: u32,
    /// Where its history begins.
    pub history: HistoryFrom,
    /// LSN and time (us) of its declaration.
    pub since: (u64, i64),
    /// An operator holds it.
    #[serde(default)]
    pub paused: bool,
}

/// The file that holds what came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Its folder: the lowest fill of the run.
    pub folder: u64,
    /// LSN that it stands at; the file's name.
    pub through_lsn: u64,
    /// Bytes.
    pub bytes: u64,
    /// Fingerprint of the state in it, as hexadecimal digits.
    pub fingerprint: String,
}

/// Where the history of one partition began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryStart {
    /// Topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// First offset that was read.
    pub offset: i64,
    /// Of the first record, ms; none where there was none.
    pub time_ms: Option<i64>,
}

/// One table that came in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filled {
    /// The fill that ends.
    pub fill: u64,
    /// The table's number.
    pub table: u32,
    /// How far rows had come that it never saw; none when it saw all of them.
    pub(crate) unseen: Option<Unseen>,
    /// Where its history began.
    pub starts: Vec<HistoryStart>,
}

/// The tables of a run come in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flip {
    /// Where they are read from at replay.
    pub seal: Seal,
    /// The fence: below are rows of history, above rows of the log.
    pub fence_lsn: u64,
    /// Rows of history that were folded.
    pub rows: u64,
    /// The tables.
    pub filled: Vec<Filled>,
}

/// What becomes of fills.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum FillStep {
    /// They are whole.
    Flip(Flip),
    /// One is given up: its table begins empty now.
    Live {
        /// Which.
        fill: u64,
    },
    /// An operator holds one, or lets it go on.
    Pause {
        /// Which.
        fill: u64,
        /// Whether it is held.
        paused: bool,
    },
}

/// A flip that a replay may come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flipped {
    /// LSN of its frame.
    pub lsn: u64,
    /// The file.
    pub seal: Seal,
}

/// Fills, and what is remembered of those that ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fills {
    /// Open ones by number.
    pub open: BTreeMap<u64, Fill>,
    /// How many were begun.
    begun: u64,
    /// Flips, oldest first.
    pub flips: Vec<Flipped>,
    /// Where the history of tables began that came in by a flip.
    pub starts: BTreeMap<u32, Vec<HistoryStart>>,
}

impl Fills {
    /// Whether there is nothing to say.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many were begun: the highest number.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// The open fill of a table.
    pub fn of_table(&self, table: u32) -> Option<(u64, &Fill)> {
        self.open.iter().find(|(_, fill)| fill.table == table).map(|(id, fill)| (*id, fill))
    }

    pub(super) fn begin(&mut self, table: u32, history: HistoryFrom, since: (u64, i64)) {
        assert!(self.of_table(table).is_none(), "table {table} is filled once at a time");
        self.begun += 1;
        let before = self.open.insert(self.begun, Fill { table, history, since, paused: false });
        assert!(before.is_none(), "numbers of fills are used once");
    }

    /// Another declaration of a table that is being filled: what was read of its history is of the one before.
    pub(super) fn begin_anew(&mut self, table: u32, since: (u64, i64)) -> bool {
        let Some((id, fill)) = self.of_table(table) else { return false };
        let history = fill.history;
        self.open.remove(&id);
        self.begin(table, history, since);
        true
    }

    /// The table goes.
    pub(super) fn forget(&mut self, table: u32) -> bool {
        self.starts.remove(&table);
        let id = self.of_table(table).map(|(id, _)| id);
        id.is_some_and(|id| self.open.remove(&id).is_some())
    }

    pub(super) fn end_all(&mut self) {
        self.open.clear();
        self.starts.clear();
    }
}

impl State {
    /// Tables that are being filled, and what is remembered of those that were.
    pub fn fills(&self) -> &Fills {
        &self.fills
    }

    /// Gives the tables that the next flip brings in; the caller applies that frame next.
    pub(crate) fn hand_in(&mut self, tables: Vec<Table>) {
        assert!(self.handed.is_empty(), "tables that were handed in are taken by the next frame");
        self.handed = tables;
    }

    /// Takes back what no frame came for.
    pub(crate) fn hand_back(&mut self) -> Vec<Table> {
        std::mem::take(&mut self.handed)
    }

    /// Whether a step fits what is there.
    pub(super) fn accepts_fill_step(&self, step: &FillStep, lsn: u64) -> Result<(), String> {
        let open = |fill: u64| self.fills.open.get(&fill).ok_or_else(|| format!("it is of fill {fill}, which is not open"));
        match step {
            FillStep::Pause { fill, .. } | FillStep::Live { fill } => open(*fill).map(drop),
            FillStep::Flip(flip) => {
                if flip.seal.through_lsn >= lsn || flip.fence_lsn > flip.seal.through_lsn {
                    return Err(format!("its file stands at {}, its fence at {}", flip.seal.through_lsn, flip.fence_lsn));
                }
                if flip.filled.is_empty() {
                    return Err("it brings in no table".into());
                }
                for filled in &flip.filled {
                    if open(filled.fill)?.table != filled.table {
                        return Err(format!("fill {} is of another table than {}", filled.fill, filled.table));
                    }
                    let Some(def) = self.registry.table_by_id(filled.table) else {
                        return Err(format!("table {} is not defined", filled.table));
                    };
                    if self.is_bare() {
                        continue;
                    }
                    let Some(table) = self.handed.iter().find(|table| table.def.id == filled.table) else {
                        return Err(format!("table {} is not in its file", filled.table));
                    };
                    if !table.is_of(def) {
                        return Err(format!("table {} of its file is declared otherwise", def.name));
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn step_fill(&mut self, step: &FillStep, lsn: u64, now_us: i64) {
        match step {
            FillStep::Pause { fill, paused } => {
                let Some(fill) = self.fills.open.get_mut(fill) else { unreachable!("fill {fill} is open") };
                fill.paused = *paused;
            }
            FillStep::Live { fill } => {
                let Some(fill) = self.fills.open.remove(fill) else { unreachable!("fill {fill} is open") };
                self.end_evacuation();
                self.create(fill.table, lsn, now_us);
                self.route();
            }
            FillStep::Flip(flip) => {
                self.end_evacuation();
                let mut handed = self.hand_back();
                for filled in &flip.filled {
                    let open = self.fills.open.remove(&filled.fill);
                    assert!(open.is_some(), "fill {} is open until it is whole", filled.fill);
                    if !self.is_bare() {
                        let Some(at) = handed.iter().position(|table| table.def.id == filled.table) else {
                            unreachable!("table {} was handed in", filled.table)
                        };
                        self.take_in(handed.swap_remove(at), filled, flip.fence_lsn, now_us);
                    }
                    self.fills.starts.insert(filled.table, filled.starts.clone());
                }
                assert!(handed.is_empty(), "a flip brings in what was handed in, and nothing else");
                self.fills.flips.push(Flipped { lsn, seal: flip.seal.clone() });
                let many = self.fills.flips.len().saturating_sub(FLIPS_MAX);
                self.fills.flips.drain(..many);
                self.route();
            }
        }
    }

    /// Whether a table of the event was filled from a history in which this record stood: applied once more it would count
    /// twice there. One that history could not read either is among them.
    pub fn was_read_by_fill(&self, reject: &Reject) -> bool {
        self.fills.starts.iter().any(|(table, starts)| {
            let Some(def) = self.registry.table_by_id(*table) else { return false };
            let of_event = self.registry.event_by_id(def.event);
            let before_fence = self.table(&def.name).is_some_and(|table| reject.lsn <= table.since.0);
            let begins = |start: &HistoryStart| {
                (&*start.topic, start.partition) == (&*reject.topic, reject.partition) && start.offset <= reject.offset
            };
            of_event.is_some_and(|event| *event.schema.name == *reject.event) && before_fence && starts.iter().any(begins)
        })
    }

    fn take_in(&mut self, mut table: Table, filled: &Filled, fence_lsn: u64, now_us: i64) {
        let Some(def) = self.registry.table_by_id(filled.table).cloned() else { unreachable!("what is filled is declared") };
        table.slabs.iter_mut().for_each(|slab| slab.unseen = filled.unseen);
        table.since = (fence_lsn, filled.unseen.map_or(0, |unseen| unseen.newest_us.clamp(0, now_us)));
        table.count_anew();
        let cold_us = self.registry.cold_after_us(&def);
        table.adopt(def);
        table.live_for(cold_us);
        let before = self.tables.insert(filled.table, table);
        assert!(before.is_none(), "table {} is filled and was there", filled.table);
    }

    /// A state for the history of these tables, beside this one: it is charged to the same account.
    ///
    /// # Errors
    /// When one of them is not declared.
    pub(crate) fn shadow(&self, tables: &[u32]) -> Option<State> {
        let mut registry = (*self.registry).clone();
        registry.tables.retain(|_, def| tables.contains(&def.id));
        if registry.tables.len() != tables.len() {
            return None;
        }
        let mut shadow = State::new(self.hash_seed);
        shadow.account = self.account.clone();
        let effects: Vec<TableEffect> = tables.iter().map(|&table| TableEffect::Create { table }).collect();
        shadow.define(&Arc::new(registry), &effects, 0, 0);
        assert_eq!(shadow.by_event.values().flatten().filter(|id| tables.contains(id)).count(), tables.len(), "each is fed");
        Some(shadow)
    }

    /// Rows of history, in every table that they feed.
    pub(crate) fn fold(&mut self, batch: &Rows, rows: Range<usize>) {
        assert_eq!(self.lsn, 0, "history comes before the log");
        self.apply_batch(batch, rows, 0);
        self.done_with(batch);
    }

    /// From here on the log's own frames come, from the one behind `fence_lsn` on.
    pub(crate) fn fence(&mut self, fence_lsn: u64, frame_us: i64) {
        assert_eq!(self.lsn, 0, "a shadow is fenced once");
        self.lsn = fence_lsn;
        self.frame_us = frame_us;
    }

    /// A frame of the log, as far as it concerns tables that are being filled: rows, and time that is set. Definitions
    /// are not followed: what they change of these tables ends the fill.
    pub(crate) fn follow_log(&mut self, content: Option<&Content>, (first_lsn, last_lsn): (u64, u64), now_us: i64) {
        assert_eq!(first_lsn, self.lsn + 1, "frame {first_lsn} does not follow {}", self.lsn);
        self.frame_us = self.frame_us.max(now_us);
        match content {
            Some(Content::Rows(rows)) => {
                let mut lsn = first_lsn;
                for batch in rows.batches.iter() {
                    self.apply_batch(batch, 0..batch.len(), lsn);
                    self.done_with(batch);
                    lsn += batch.len() as u64;
                }
            }
            Some(Content::Clock { now_us, .. }) => {
                self.frame_us = *now_us;
                self.tables.values_mut().for_each(|table| table.newest_us = table.newest_us.min(*now_us));
            }
            _ => {}
        }
        self.lsn = last_lsn;
    }

    fn done_with(&mut self, batch: &Rows) {
        self.repeated.clear();
        let _work = self.take_work(batch);
    }

    /// The tables of a shadow whose work is done.
    pub(crate) fn take_tables(&mut self) -> Vec<Table> {
        let (ids, tables) = std::mem::take(&mut self.tables).into_iter().partition(|(id, _)| super::dedupe::is_ids(*id));
        self.tables = ids;
        BTreeMap::into_values(tables).collect()
    }

    /// Gives them back: they did not come in.
    pub(crate) fn put_back(&mut self, tables: Vec<Table>) {
        self.tables.extend(tables.into_iter().map(|table| (table.def.id, table)));
    }

    /// Bytes of the tables of a shadow.
    pub(crate) fn bytes_of_tables(&self) -> usize {
        self.tables.values().map(Table::bytes).sum()
    }

    /// Bytes that all tables may hold, the serving ones included.
    pub(crate) fn account_limit(&self) -> usize {
        self.account.limit()
    }

    /// Whether so many bytes more are within that.
    pub(crate) fn account_has_room(&self, bytes: usize) -> bool {
        self.account.has_room(bytes)
    }

    /// How far the rows of an event have come; none without any.
    pub(crate) fn event_reached(&self, event: EventId) -> Option<Unseen> {
        self.applied.get(&event).filter(|applied| applied.rows > 0).map(|applied| applied.reached)
    }

    /// How far the rows of an event had come here that nobody can read again: pushed ones.
    pub(crate) fn pushed(&self, event: EventId) -> Option<Unseen> {
        self.applied.get(&event).and_then(|applied| applied.pushed)
    }

    /// Whether every record of the event is still to come: no row was applied, and nothing was read.
    pub fn is_untouched(&self, event: EventId) -> bool {
        let Some(def) = self.registry.event_by_id(event) else { return true };
        let moved = |stored: &streamgauge_api::StoredPosition| *stored.key.event == *def.schema.name && stored.position.offset > 0;
        self.applied_rows(event).is_none_or(|rows| rows == 0) && !self.partitions.iter().any(moved)
    }

    /// Its account, for a state that is read from a file to come into this one.
    pub(crate) fn account(&self) -> &Account {
        &self.account
    }
}

/// The definitions of a run's tables, as they have to be still when its tables come in.
pub(crate) fn same_declarations(one: &Registry, other: &Registry, tables: &[u32]) -> bool {
    tables.iter().all(|id| match (one.table_by_id(*id), other.table_by_id(*id)) {
        (Some(mine), Some(theirs)) => {
            let event = |registry: &Registry| registry.event_by_id(mine.event).map(|event| Arc::clone(&event.schema));
            mine.node == theirs.node && mine.features == theirs.features && mine.event == theirs.event && event(one) == event(other)
        }
        _ => false,
    })
}
