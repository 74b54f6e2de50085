//! The order of history: by (slice, slot, offset), whatever came first.
//!
//! A slice is one second of a partition's arrival clock: the largest record timestamp so far, at most the time of
//! reading. Rows of a partition are packed in batches as they are decoded, each cut into ranges of one slice. A range
//! may be folded when no partition that is still to be read could bring an earlier one: when each of them has one at
//! hand or is done. So the order hangs on the log alone, not on which broker answered first; records without
//! timestamps are all of one slice, and their partitions follow one another.
//!
//! Pure bookkeeping: no clock, no client. Called on the history thread.

use crate::row::Rows;
use std::collections::VecDeque;
use std::ops::Range;

/// Microseconds of one slice.
const SLICE_MS: i64 = 1_000;

/// Where one slice ends in a batch: behind this row.
pub(super) type Cut = (i64, usize);

/// Rows of one partition, decoded and not folded.
#[derive(Debug, Default)]
pub(super) struct Lane {
    batches: VecDeque<(Rows, VecDeque<Cut>)>,
    /// The first row of the front batch that is not folded.
    at: usize,
    rows: usize,
    /// Arrival clock, ms.
    clock_ms: i64,
}

impl Lane {
    /// The slice of a record, which moves the clock.
    pub(super) fn slice(&mut self, timestamp_ms: i64, now_ms: i64) -> i64 {
        self.clock_ms = self.clock_ms.max(timestamp_ms.min(now_ms));
        self.clock_ms.div_euclid(SLICE_MS)
    }

    /// Arrival clock, ms.
    pub(super) fn clock_ms(&self) -> i64 {
        self.clock_ms
    }

    /// Adds a batch; `cuts` are in order, and the last one is behind its last row.
    pub(super) fn push(&mut self, batch: Rows, cuts: Vec<Cut>) {
        assert_eq!(cuts.last().map(|cut| cut.1), Some(batch.len()), "slices make up the batch");
        debug_assert!(cuts.is_sorted_by(|one, other| one.1 < other.1 && one.0 < other.0), "slices ascend: {cuts:?}");
        self.rows += batch.len();
        self.batches.push_back((batch, cuts.into()));
    }

    /// Rows at hand.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    fn head(&self) -> Option<i64> {
        self.batches.front().and_then(|(_, cuts)| cuts.front()).map(|cut| cut.0)
    }

    /// Takes the next range of rows of one slice, with what to do about them.
    fn next(&mut self, fold: &mut dyn FnMut(&Rows, Range<usize>)) {
        let Some((batch, cuts)) = self.batches.front_mut() else { unreachable!("a lane with a head has a batch") };
        let Some((_, to)) = cuts.pop_front() else { unreachable!("a batch at hand has a slice") };
        assert!(self.at < to && to <= batch.len(), "a slice has rows: {} to {to}", self.at);
        fold(batch, self.at..to);
        self.rows -= to - self.at;
        self.at = to;
        if cuts.is_empty() {
            assert_eq!(to, batch.len(), "a batch ends with its last slice");
            self.batches.pop_front();
            self.at = 0;
        }
    }
}

/// Folds what may be folded: ranges in their order, as long as every lane that is not `done` has one at hand. The
/// lane that has none then, if that is why it ended.
pub(super) fn fold_ready(lanes: &mut [Lane], done: &[bool], fold: &mut dyn FnMut(&Rows, Range<usize>)) -> Option<usize> {
    assert_eq!(lanes.len(), done.len(), "each lane is done or is not");
    loop {
        let mut next: Option<(i64, usize)> = None;
        for (slot, lane) in lanes.iter().enumerate() {
            match lane.head() {
                Some(slice) if next.is_none_or(|(least, _)| slice < least) => next = Some((slice, slot)),
                None if !done[slot] => return Some(slot),
                _ => {}
            }
        }
        let (_, slot) = next?;
        lanes[slot].next(fold);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{EventId, EventSchema, Field, FieldType, RowsBuilder, Strictness, TimeSource};
    use std::sync::Arc;

    fn batch(rows: usize) -> Rows {
        let field = Field { name: "n".into(), kind: FieldType::I64, optional: true };
        let schema = EventSchema {
            id: EventId(1),
            version: 1,
            name: "E".into(),
            fields: vec![field],
            time: TimeSource::Arrival,
            max_future_us: 0,
            cold_after_us: None,
            dedupe: None,
        };
        let mut builder = RowsBuilder::new(Arc::new(schema), Strictness::Record);
        for _ in 0..rows {
            builder.begin();
            builder.commit(0, None, false).unwrap_or_else(|error| panic!("{error:?}"));
        }
        builder.finish()
    }

    /// Lanes with (slice, rows) each; the order of (lane, slice) in which they are folded, and what stopped it.
    fn folded(lanes: &[&[(i64, usize)]], done: &[bool]) -> (Vec<usize>, Option<usize>) {
        let mut all: Vec<Lane> = Vec::new();
        for slices in lanes {
            let mut lane = Lane::default();
            for (slice, rows) in *slices {
                lane.push(batch(*rows), vec![(*slice, *rows)]);
            }
            all.push(lane);
        }
        let mut order = Vec::new();
        let stopped = fold_ready(&mut all, done, &mut |_, range| order.push(range.len()));
        (order, stopped)
    }

    #[test]
    fn slices_come_in_order_and_nobody_overtakes_who_may_still_bring_an_earlier_one() {
        // Numbers of rows tell the ranges apart.
        assert_eq!(folded(&[&[(1, 1), (3, 2)], &[(2, 3)]], &[true, true]), (vec![1, 3, 2], None));
        assert_eq!(folded(&[&[(1, 1), (3, 2)], &[(2, 3)]], &[true, false]), (vec![1, 3], Some(1)));
        assert_eq!(folded(&[&[(1, 1)], &[]], &[false, false]), (vec![], Some(1)));
        assert_eq!(folded(&[&[(1, 1)], &[(1, 2)]], &[true, true]), (vec![1, 2], None), "equal slices go by slot");
        assert_eq!(folded(&[&[(1, 1)], &[(1, 2)]], &[false, false]), (vec![1], Some(0)));
        assert_eq!(folded(&[], &[]), (vec![], None));
    }

    #[test]
    fn the_arrival_clock_never_goes_back_nor_beyond_the_time_of_reading() {
        let mut lane = Lane::default();
        let slices = [(5_000, 9_000), (3_000, 9_000), (20_000, 9_999), (-1, 30_000)].map(|(at, now)| lane.slice(at, now));
        assert_eq!(slices, [5, 5, 9, 9]);
    }
}
