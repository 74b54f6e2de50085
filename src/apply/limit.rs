//! The memory limit: what would not fit is kept out before it is applied.
//!
//! A batch whose growth might lead beyond `limits.memory` is looked at row by row: rows of keys that are there go on, rows that would make a key wait (`pause`) or are
//! refused, counted and, when they came from Kafka, told in the reject log (`refuse_new`, and every push). Decided before the log is written, so a replay never meets it.

use super::engine::Engine;
use super::incidents::{IncidentText, Subject};
use super::port::Outbox;
use super::work::Ack;
use crate::row::{EventId, Rows};
use crate::state::{NewKeys, RowsContent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::control::Reject;
use streamgauge_api::metrics::EventSeries;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Code, Position, Reply, Slot};

/// A table that kept no row out for this long is off the limit.
const OFF_LIMIT_AFTER_US: i64 = 10_000_000;

impl Engine {
    /// Rows that would make a key which there may be no room for, by batch; none when everything may go on.
    pub(super) fn over_limit(&mut self, content: &RowsContent) -> Option<Vec<NewKeys>> {
        let growth: usize = content.batches.iter().map(|batch| self.state.growth_bytes(batch)).sum();
        let full = (self.state.bytes() + growth) as u64 > self.options.memory_max_bytes;
        self.facts.memory_full.store(full, Ordering::Relaxed);
        if !full {
            return None;
        }
        let new: Vec<NewKeys> = content.batches.iter().map(|batch| self.state.new_keys(batch)).collect();
        let kept_out = new.iter().any(|new| !new.tables.is_empty()).then_some(new);
        self.at_limit(kept_out.as_deref().unwrap_or_default());
        kept_out
    }

    /// Tables whose rows are kept out stand at the limit.
    fn at_limit(&self, new: &[NewKeys]) {
        let now_us = self.clock.now_us();
        for (table, rows) in new.iter().flat_map(|new| &new.tables) {
            let text = || {
                let waits = "; Kafka sources that bring such rows wait, and nothing of theirs is lost";
                let lost = format!("rows of new keys are refused{}", if self.options.pause_on_memory { waits } else { "" });
                IncidentText {
                    cause: if self.options.pause_on_memory { "pause" } else { "refuse_new" }.to_owned(),
                    lost,
                    holds: "known keys are read and updated as ever".to_owned(),
                    evidence: format!("{rows} rows just now; {}", self.exceeded().reason),
                    actions: vec!["raise limits.memory, or remove tables and features that nobody reads".to_owned()],
                }
            };
            self.facts.incidents.open(IncidentKind::MemoryLimit, &Subject::table(&table.name), now_us, text);
        }
    }

    /// A table is off the limit when none of its rows was kept out for a while and tables have room again.
    pub(super) fn off_limit(&self, now_us: i64) {
        let limit = self.options.memory_max_bytes;
        if self.state.bytes() as u64 <= limit - limit / 64 {
            self.facts.incidents.close_unseen(IncidentKind::MemoryLimit, now_us.saturating_sub(OFF_LIMIT_AFTER_US));
        }
    }

    fn count_refused(&self, new: &[NewKeys]) {
        for (table, rows) in new.iter().flat_map(|new| &new.tables) {
            self.metrics.table_series(&table.name).memory_refused.inc_by(*rows);
        }
    }

    pub(super) fn exceeded(&self) -> ApiError {
        let reason =
            format!("tables hold {} bytes, the limit is {}: no room for new keys", self.state.bytes(), self.options.memory_max_bytes);
        ApiError::new(Code::TableMemoryExceeded, reason)
    }

    /// `on_memory_limit = "refuse_new"`: takes rows of new keys out of a packet. Their positions move on; the reject log says which they were.
    pub(super) fn refuse_rows(&mut self, content: &mut RowsContent, new: &[NewKeys], now_us: i64) {
        self.count_refused(new);
        let error = self.exceeded();
        for (batch, new) in content.batches.iter_mut().zip(new).filter(|(_, new)| !new.tables.is_empty()) {
            for (position, refused) in refused_by_position(batch, |row| new.rows[row]) {
                let reject = self.reject(batch, &content.positions, position, refused, &error, now_us);
                content.rejects.extend(reject);
            }
            *batch = batch.keep(|row| !new.rows[row]);
        }
        content.batches.retain(|batch| !batch.is_empty());
    }

    /// What the reject log says of a batch of which no row can be written.
    pub(super) fn reject_all(&mut self, batch: &Rows, positions: &[(Slot, Position)], error: &ApiError, now_us: i64) -> Vec<Reject> {
        let refused = refused_by_position(batch, |_| true);
        refused.into_iter().filter_map(|(position, refused)| self.reject(batch, positions, position, refused, error, now_us)).collect()
    }

    fn reject(
        &mut self,
        batch: &Rows,
        positions: &[(Slot, Position)],
        position: u32,
        refused: Refused,
        error: &ApiError,
        now_us: i64,
    ) -> Option<Reject> {
        let (slot, _) = positions.get(position as usize)?;
        let gauge = Arc::clone(self.freshness.gauge(&self.board, slot.0)?);
        let Refused { rows, first_row, first, last } = refused;
        Some(Reject {
            lsn: 0,
            at_us: now_us,
            event: gauge.key.event.clone(),
            source: gauge.source.clone(),
            topic: gauge.key.topic.clone(),
            partition: gauge.key.partition,
            offset: first,
            code: error.code.as_str().to_owned(),
            reason: format!("{}; {rows} records of offsets {first} to {last} were left out", error.reason),
            schema_id: None,
            timestamp_ms: batch.time_us(first_row).div_euclid(1000),
            key: None,
            value: None,
            value_len: 0,
        })
    }

    /// Counts the rows of pushes by what became of them.
    pub(super) fn count_pushes(&mut self, content: &RowsContent, accepted: bool) {
        for batch in &content.batches {
            let series = self.event_series(batch.event());
            let counter = if accepted { &series.push_accepted } else { &series.push_refused };
            counter.inc_by(batch.len() as u64);
        }
    }

    pub(super) fn event_series(&mut self, event: EventId) -> &EventSeries {
        self.series.entry(event.0).or_insert_with(|| {
            let name = self.state.registry().event_by_id(event).map(|event| event.schema.name.to_string());
            self.metrics.event_series(&name.unwrap_or_default())
        })
    }

    /// Takes pushes out of a frame whose rows would make keys, and answers them; a push is taken whole or not at all. False when none is left.
    pub(super) fn admit(&mut self, content: &mut RowsContent, acks: &mut Vec<Ack>, outbox: &Outbox) -> bool {
        let version = self.state.registry().version;
        if content.batches.iter().any(|batch| self.state.registry().event_by_id(batch.event()).is_none()) {
            let error = ApiError::new(Code::EventNotFound, "the event was dropped while the row was on its way");
            self.count_pushes(content, false);
            refuse_all(outbox, acks, &error, version);
            return false;
        }
        let Some(new) = self.over_limit(content) else { return true };
        self.count_refused(&new);
        let is_new: Vec<bool> = new.into_iter().flat_map(|new| new.rows).collect();
        let rows_of = |ack: &Ack| ack.first_row as usize..(ack.first_row + ack.count) as usize;
        let (refused, mut kept): (Vec<Ack>, Vec<Ack>) =
            acks.iter().partition(|ack| is_new.get(rows_of(ack)).is_none_or(|rows| rows.contains(&true)));
        refuse_all(outbox, &refused, &self.exceeded(), version);
        let mut gone = vec![false; is_new.len()];
        refused.iter().for_each(|ack| gone[rows_of(ack)].fill(true));
        let mut first = 0;
        for batch in &mut content.batches {
            let rows = batch.len();
            let kept = batch.keep(|row| !gone[first + row]);
            self.event_series(batch.event()).push_refused.inc_by((rows - kept.len()) as u64);
            *batch = kept;
            first += rows;
        }
        content.batches.retain(|batch| !batch.is_empty());
        for ack in &mut kept {
            let before = gone[..ack.first_row as usize].iter().filter(|gone| **gone).count();
            let Ok(before) = u32::try_from(before) else { unreachable!("rows of a frame are counted in 32 bits") };
            assert!(before <= ack.first_row, "no more rows are gone before a push than stood before it");
            ack.first_row -= before;
        }
        *acks = kept;
        !acks.is_empty()
    }
}

/// Refused rows of one partition.
#[derive(Debug, Clone, Copy)]
struct Refused {
    rows: u64,
    first_row: usize,
    first: i64,
    last: i64,
}

fn refused_by_position(batch: &Rows, refuses: impl Fn(usize) -> bool) -> BTreeMap<u32, Refused> {
    let mut found = BTreeMap::new();
    for row in (0..batch.len()).filter(|&row| refuses(row)) {
        let Some((position, offset)) = batch.origin(row) else { continue };
        let refused = found.entry(position).or_insert(Refused { rows: 0, first_row: row, first: offset, last: offset });
        refused.rows += 1;
        refused.last = offset;
    }
    found
}

/// Answers all these pushes with one refusal.
pub(super) fn refuse_all(outbox: &Outbox, acks: &[Ack], error: &ApiError, version: u64) {
    for ack in acks {
        outbox.add(ack.tag, Reply::Refused(Box::new(error.clone()), version));
    }
}
