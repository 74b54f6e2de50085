//! The memory limit: what would not fit is kept out before it is applied.
//!
//! A batch whose growth, bounded from above, might lead beyond `limits.memory` is looked at ([`look`](super::look)). Rows that need
//! nothing, and deletes, go on. Rows for which there may be no room wait ([`waiting`](super::waiting)), or are refused:
//! rows of new keys under `refuse_new`, told in the reject log, and every push, whole. Decided before the log is written,
//! so a replay never meets it.

use super::engine::Engine;
use super::incidents::{IncidentText, Subject};
use super::port::Outbox;
use super::split::Split;
use super::work::Ack;
use crate::pipeline::TableDef;
use crate::row::{EventId, Rows};
use crate::state::{FROZEN_SHARE, Lacking, Numbers, RowsContent};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::control::Reject;
use streamgauge_api::metrics::EventSeries;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{ApiError, Code, Position, Reply, Slot};

/// Tables have room again when they hold all but one byte in so many of the limit.
const ROOM_AGAIN: usize = 64;
/// A table that kept no row out for this long is off the limit.
const OFF_LIMIT_AFTER_US: i64 = 10_000_000;
/// New keys leave this part of the limit to the growth of those that are there: one in so many bytes.
const NEW_KEYS_LEAVE: u64 = 32;
/// Memory that chunks gave back and nobody wanted for so long goes back to the allocator.
const TRIM_EVERY_US: i64 = 10_000_000;
/// Memory is what holds things up for this long after rows were kept out; what waits is tried more often.
const FULL_FOR_US: i64 = 2_000_000;

impl Engine {
    /// Bytes that tables may still take. What a snapshot holds besides is theirs when they need it.
    pub(super) fn room(&self) -> usize {
        self.memory_room().1
    }

    /// Bytes that tables may hold, and how many of them they do not.
    pub(super) fn memory_room(&self) -> (usize, usize) {
        let limit = usize::try_from(self.options.memory_max_bytes).unwrap_or(usize::MAX);
        let limit = limit - limit / FROZEN_SHARE;
        (limit, limit.saturating_sub(self.state.live_bytes()))
    }

    /// Whether so many rows fit, whatever they are.
    pub(super) fn fit_surely(&self, numbers: &Numbers) -> bool {
        self.state.growth_bytes(numbers) <= self.room()
    }

    /// What rows of new keys leave to the growth of those that are there.
    pub(super) fn reserve(&self) -> usize {
        usize::try_from(self.options.memory_max_bytes / NEW_KEYS_LEAVE).unwrap_or(usize::MAX)
    }

    /// Rows are kept out by the limit: they wait, or some of them are refused.
    pub(super) fn keeps_out(&mut self, lacking: &[Lacking], refuses: bool) {
        self.facts.memory_full.store(true, Ordering::Relaxed);
        self.lacking_us = self.passed_us();
        self.refuses |= refuses;
        self.facts.kept_out.store(self.refuses || self.waits_for_room(), Ordering::Relaxed);
        self.at_limit(lacking);
    }

    /// Tables whose rows are kept out stand at the limit.
    fn at_limit(&self, lacking: &[Lacking]) {
        for Lacking { table, known, new, .. } in lacking {
            let text = || {
                let lost = if self.options.pause_on_memory {
                    "pushes that need room are refused; rows of Kafka sources wait".to_owned()
                } else {
                    let left_out = self.left_out.get(&table.id).copied().unwrap_or(0);
                    format!(
                        "pushes that need room are refused, and rows of new keys are left out for good: {left_out} since the start, \
                         which no larger limit brings back; rows of known keys wait"
                    )
                };
                IncidentText {
                    cause: if self.options.pause_on_memory { "pause" } else { "refuse_new" }.to_owned(),
                    lost,
                    holds: "keys are read; deletes, and rows that need no room, are applied as ever".to_owned(),
                    evidence: format!(
                        "{} rows of new keys and {} of known ones just now; {}",
                        new.len(),
                        known.len(),
                        self.exceeded().reason
                    ),
                    actions: vec!["raise limits.memory, or remove tables and features that nobody reads".to_owned()],
                }
            };
            self.facts.incidents.open(IncidentKind::MemoryLimit, &Subject::table(&table.name), self.clock.now_us(), text);
        }
    }

    /// What chunks gave back is kept for others, but not for ever where nobody wants it.
    pub(super) fn trim_kept(&mut self, passed_us: i64) {
        if passed_us.saturating_sub(self.trimmed_us) >= TRIM_EVERY_US {
            self.trimmed_us = passed_us;
            self.state.trim_kept();
        }
    }

    /// Nothing is kept out when no row waits, and where some were refused, tables have room again. That is so at once; the
    /// incident stays open for a while, since rows that wait come and go.
    pub(super) fn off_limit(&mut self, now_us: i64, passed_us: i64) {
        if passed_us.saturating_sub(self.lacking_us) >= FULL_FOR_US {
            self.facts.memory_full.store(false, Ordering::Relaxed);
        }
        // Rows that wait and are looked at are not among those that do meanwhile.
        if self.turn.look.is_some() {
            return;
        }
        let (limit, room) = self.memory_room();
        self.refuses &= room < (limit / ROOM_AGAIN).max(1);
        let kept_out = self.refuses || self.waits_for_room();
        self.facts.kept_out.store(kept_out, Ordering::Relaxed);
        if !kept_out {
            self.facts.incidents.away(IncidentKind::MemoryLimit, now_us);
            self.facts.incidents.close_unseen(IncidentKind::MemoryLimit, now_us.saturating_sub(OFF_LIMIT_AFTER_US));
        }
    }

    pub(super) fn count_refused(&self, table: &TableDef, rows: usize) {
        self.metrics.table_series(&table.name).memory_refused.inc_by(rows as u64);
    }

    pub(super) fn exceeded(&self) -> ApiError {
        let reason = format!(
            "tables hold {} bytes, the limit is {}: no room for what would grow",
            self.state.live_bytes(),
            self.options.memory_max_bytes
        );
        ApiError::new(Code::TableMemoryExceeded, reason)
    }

    /// Some rows of a batch, with the texts of these rows alone.
    pub(super) fn part_of(&self, batch: &Rows, keep: impl Fn(usize) -> bool) -> Rows {
        let Some(event) = self.state.registry().event_by_id(batch.event()) else {
            unreachable!("rows of an event that is gone need no room and are no key's")
        };
        batch.keep(&event.schema, keep)
    }

    /// `on_memory_limit = "refuse_new"`: what the reject log says of rows of new keys. Their positions move on.
    pub(super) fn reject_rows(&mut self, batches: &[Rows], positions: &[(Slot, Position)], split: &Split, now_us: i64) -> Vec<Reject> {
        let error = self.exceeded();
        let mut rejects = Vec::new();
        for (number, batch) in batches.iter().enumerate() {
            for (position, refused) in refused_by_position(batch, |row| split.is_refused(number, row)) {
                rejects.extend(self.reject(batch, positions, position, refused, &error, now_us));
            }
        }
        rejects
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
        // Records that came over Kafka are no pushes when they are decoded again.
        if !content.retried.is_empty() {
            return;
        }
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

    /// Refuses pushes of an event that was dropped while they were on their way; false when they are.
    pub(super) fn has_events(&mut self, content: &RowsContent, acks: &[Ack], outbox: &Outbox) -> bool {
        let version = self.state.registry().version;
        if content.batches.iter().all(|batch| self.state.registry().event_by_id(batch.event()).is_some()) {
            return true;
        }
        let error = ApiError::new(Code::EventNotFound, "the event was dropped while the row was on its way");
        self.count_pushes(content, false);
        refuse_all(outbox, acks, &error, version);
        false
    }

    /// Counts the rows that a split leaves out for good, when its frame is written: one that the log does not take is tried
    /// again.
    pub(super) fn count_left_out(&mut self, split: Option<&Split>) {
        for (table, rows) in split.into_iter().flat_map(Split::refused_by_table) {
            self.count_refused(table, rows);
            *self.left_out.entry(table.id).or_default() += rows as u64;
        }
    }

    /// Refuses pushes of which a row lacks room. What the others need is to be looked at again: it may have hung on rows that go now.
    pub(super) fn take_out(&mut self, content: &mut RowsContent, acks: &mut Vec<Ack>, outbox: &Outbox, lacking: &[Lacking]) {
        let version = self.state.registry().version;
        let mut first = 0;
        let mut lacks = vec![false; content.rows()];
        for (number, batch) in content.batches.iter().enumerate() {
            for Lacking { table, known, new, .. } in lacking.iter().filter(|lacking| lacking.batch == number) {
                self.count_refused(table, known.len() + new.len());
                known.iter().chain(new).for_each(|row| lacks[first + *row as usize] = true);
            }
            first += batch.len();
        }
        let (refused, kept): (Vec<Ack>, Vec<Ack>) =
            acks.iter().partition(|ack| lacks.get(rows_of(ack)).is_none_or(|rows| rows.contains(&true)));
        refuse_all(outbox, &refused, &self.exceeded(), version);
        let refused = self.only(content, refused).0;
        self.count_pushes(&refused, false);
        let (left, acks_left) = self.only(content, kept);
        (*content, *acks) = (left, acks_left);
    }

    /// Leaves half of the pushes of a frame in it, and gives the later ones.
    pub(super) fn halve(&self, content: &mut RowsContent, acks: &mut Vec<Ack>) -> (RowsContent, Vec<Ack>) {
        assert!(acks.len() > 1, "one push has no half");
        let later = acks.split_off(acks.len() / 2);
        let behind = self.only(content, later);
        (*content, *acks) = self.only(content, std::mem::take(acks));
        behind
    }

    /// The rows of some pushes of a frame, and where they stand then.
    fn only(&self, content: &RowsContent, mut acks: Vec<Ack>) -> (RowsContent, Vec<Ack>) {
        let mut stays = vec![false; content.rows()];
        acks.iter().for_each(|ack| stays[rows_of(ack)].fill(true));
        let mut first = 0;
        let mut batches = Vec::with_capacity(content.batches.len());
        for batch in &content.batches {
            batches.push(self.part_of(batch, |row| stays[first + row]));
            first += batch.len();
        }
        batches.retain(|batch| !batch.is_empty());
        let mut before = 0;
        let mut places = Vec::with_capacity(stays.len());
        for stays in &stays {
            places.push(before);
            before += u32::from(*stays);
        }
        for ack in &mut acks {
            ack.first_row = places[ack.first_row as usize];
        }
        let only = RowsContent { batches, ..RowsContent::default() };
        assert_eq!(only.rows(), acks.iter().map(|ack| ack.count as usize).sum::<usize>(), "each row is of one push");
        (only, acks)
    }
}

fn rows_of(ack: &Ack) -> std::ops::Range<usize> {
    ack.first_row as usize..(ack.first_row + ack.count) as usize
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
    for (row, (position, offset)) in batch.origins().enumerate().filter(|(row, _)| refuses(*row)) {
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
