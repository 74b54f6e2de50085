//! Keys that have gone cold: when no row of a key came for as long as its event's `cold_after` or its table's
//! `expire_after` says, what it had is dropped.
//!
//! One rule, by row time alone: a row that comes more than that behind its key's latest row begins the key anew. So it is
//! with every replay, and no clock or thread decides. A read goes by the same rule with its own time: a key that is cold
//! then is not there, though its memory may still be.
//!
//! Memory comes back earlier than by the next row, through sweeps (`sweep.rs`), which are frames of the log: a key goes when it is cold
//! by the time of the frame *and* by the clocks of all partitions that feed the table, since a partition that is being caught up
//! may bring the rows in between. A row that comes late by so much that its key was swept meanwhile begins it anew, as a reader
//! has seen it.
//!
//! When a key's rows last came is kept by a slab like any other, of a feature without a name, so that files, moves and
//! accounts need not know of it: 24 bytes for a key of such a table, none elsewhere. A key that had rows before the option was
//! declared counts from its next row on.

use super::plan::SlabPlan;
use super::slab::Slab;
use super::state::State;
use super::table::Table;
use crate::operators::find;
use crate::pipeline::FeatureDef;
use std::sync::Arc;

/// The name of the feature that says when a key's last row came: no user can declare it.
pub(super) const LIFE: &str = "";

/// That feature.
pub(super) fn life() -> Arc<FeatureDef> {
    let Some(op) = find("last_seen") else { unreachable!("there is such an operator") };
    Arc::new(FeatureDef::plain(LIFE, op))
}

impl SlabPlan {
    /// Whether it is that of the feature without a name.
    pub(super) fn is_life(&self) -> bool {
        self.features.iter().any(|feature| &*feature.def.name == LIFE)
    }
}

impl Table {
    /// From now on a key is cold when no row came for longer than this.
    pub(super) fn live_for(&mut self, cold_us: Option<i64>) {
        assert!(cold_us.is_none_or(|us| us > 0), "registration refuses a life of nothing");
        if self.ids_us.is_some() {
            return;
        }
        self.cold_us = cold_us;
        if cold_us.is_some() && !self.slabs.iter().any(|slab| slab.plan.is_life()) {
            self.slabs.push(Slab::new(Arc::new(SlabPlan::compile(&[life()])), &self.account));
        }
    }

    /// Whether keys of this table can go cold.
    pub(crate) fn goes_cold(&self) -> bool {
        self.cold_us.is_some() || self.ids_us.is_some()
    }

    /// Whether the key of this row number is cold at a time.
    pub(crate) fn is_cold(&self, number: u32, now_us: i64) -> bool {
        if self.ids_us.is_some() {
            return self.is_behind(number, now_us);
        }
        let Some(cold_us) = self.cold_us else { return false };
        let Some(slab) = self.slabs.iter().find(|slab| slab.plan.is_life()) else {
            unreachable!("a table whose keys go cold keeps when their rows came")
        };
        let words = slab.settled(number).unwrap_or_default();
        // Rows, the first one's time, the last one's.
        match words {
            [] | [0, ..] => false,
            [_, _, last_us] => now_us.saturating_sub(last_us.cast_signed()) > cold_us,
            other => unreachable!("times are three words, not {}", other.len()),
        }
    }

    /// Drops what a cold key had before a row that brings it so far is applied.
    #[inline]
    pub(super) fn wake(&mut self, number: u32, edge_us: i64) {
        if self.cold_us.is_some() && self.is_cold(number, edge_us) {
            self.slabs.iter_mut().for_each(|slab| slab.clear(number));
            self.funnel.cold += 1;
        }
    }

    /// Whether a sweep takes the key of this row number away. The one row of a table without key columns stays.
    pub(super) fn key_goes_cold(&self, number: u32, cold_us: i64) -> bool {
        !self.def.keys.is_empty() && self.is_cold(number, cold_us)
    }

    /// Forgets a key that is cold by this time; false when it is not.
    pub(super) fn forget_cold(&mut self, number: u32, cold_us: i64) -> bool {
        if !self.key_goes_cold(number, cold_us) {
            return false;
        }
        self.slabs.iter_mut().for_each(|slab| slab.clear(number));
        self.keys.remove(number);
        self.funnel.cold += 1;
        true
    }
}

impl State {
    /// The time by which keys of a table may be swept as cold, at most this: no partition that feeds it is further behind.
    pub(super) fn cold_until_us(&self, table: &Table, now_us: i64) -> i64 {
        let feeds = self.partitions.iter().filter(|stored| *stored.key.event == *table.def.event_name && !stored.is_forgotten());
        feeds.map(|stored| stored.position.clock_ms.saturating_mul(1000)).fold(now_us, i64::min)
    }

    /// Whether keys of any table can go cold.
    pub fn goes_cold(&self) -> bool {
        self.tables.values().any(Table::goes_cold)
    }
}
