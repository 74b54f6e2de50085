//! The clock of a partition: how far its records have come in time, told from the records themselves.
//!
//! A row is judged by the clock of its own partition, so that a record of last week is late or too far ahead by
//! last week's measure, and catch-up sees what live saw. The clock is the running maximum of Kafka timestamps,
//! with two provisos:
//!
//! - **It never passes the time at which a record is read.** While a source is at the end of its topic the clock
//!   of the reader decides, so neither a quiet topic nor producers that lag each other can be mistaken for a fast
//!   clock.
//! - **A timestamp that stands alone does not move it.** Where enough records of the partition are at hand, one
//!   of its neighbours (the one before, or one of those behind it) must reach it too; else it moves only as far as
//!   they do. So one producer with a fast clock is still ahead when its records are read again a week later, while
//!   producers that lag each other vouch for each other.
//!
//! Pure; called by inlets for each record, on ingest threads. The result stands in the position, in the WAL.

use crate::row::RowClock;
use streamgauge_api::{Position, RawRecord};

/// Records behind this one that may vouch for its timestamp,
const NEIGHBOURS_MAX: usize = 32;
/// looked for among this many that follow.
const LOOK_AHEAD_MAX: usize = 128;
/// With fewer neighbours than this its own word and the time of reading are all there is.
const NEIGHBOURS_MIN: usize = 8;

/// Timestamps before 2000-01-01 say nothing: zeroes, and seconds taken for milliseconds.
const PLAUSIBLE_FROM_MS: i64 = 946_684_800_000;

/// The partition's clock (ms) with this record, and what the record's row is judged by. `known` is where the
/// partition stood before it, `behind` are the records that follow in the same batch, of any partition.
#[inline]
pub(super) fn advance(known: Position, record: &RawRecord<'_>, behind: &[RawRecord<'_>], now_us: i64) -> (i64, RowClock) {
    let time_ms = record.timestamp_ms;
    if time_ms < PLAUSIBLE_FROM_MS {
        return (known.clock_ms, RowClock::at(now_us));
    }
    let mut clock_ms = known.clock_ms;
    if time_ms > clock_ms {
        let reached_ms = vouched(known, record, behind);
        clock_ms = clock_ms.max(reached_ms.min(now_us.div_euclid(1000)));
    }
    debug_assert!(clock_ms >= known.clock_ms, "a partition's clock goes forward only");
    (clock_ms, RowClock { now_us, clock_us: clock_ms.saturating_mul(1000) })
}

/// How far the record's timestamp may move the clock.
fn vouched(known: Position, record: &RawRecord<'_>, behind: &[RawRecord<'_>]) -> i64 {
    let time_ms = record.timestamp_ms;
    let mut reached_ms = known.record_time_ms;
    let mut neighbours = 0;
    for next in behind.iter().take(LOOK_AHEAD_MAX).filter(|next| next.slot == record.slot).take(NEIGHBOURS_MAX) {
        if reached_ms >= time_ms {
            return time_ms;
        }
        reached_ms = reached_ms.max(next.timestamp_ms);
        neighbours += 1;
    }
    if neighbours < NEIGHBOURS_MIN { time_ms } else { time_ms.min(reached_ms) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use streamgauge_api::Slot;

    /// 2026-01-01 in ms.
    const BASE_MS: i64 = 1_767_225_600_000;
    const MINUTE_MS: i64 = 60_000;

    fn record(timestamp_ms: i64) -> RawRecord<'static> {
        RawRecord { slot: Slot(3), offset: 0, epoch: -1, timestamp_ms, key: None, value: None, headers: None }
    }

    /// Reads timestamps (minutes after the base) in batches; how far each record is ahead of its clock, in minutes.
    fn minutes_ahead(minutes: &[i64], batch: usize, now: i64) -> Vec<i64> {
        let records: Vec<RawRecord<'_>> = minutes.iter().map(|minute| record(BASE_MS + minute * MINUTE_MS)).collect();
        let now_us = (BASE_MS + now * MINUTE_MS) * 1000;
        let mut position = Position::start(0);
        let mut ahead = Vec::new();
        for batch in records.chunks(batch) {
            for (at, record) in batch.iter().enumerate() {
                let (clock_ms, clock) = advance(position, record, &batch[at + 1..], now_us);
                position = Position { record_time_ms: record.timestamp_ms, clock_ms, ..position };
                ahead.push(clock.of(record.timestamp_ms * 1000).ahead_us / (MINUTE_MS * 1000));
            }
        }
        ahead
    }

    #[test]
    fn one_record_that_stands_alone_is_ahead_and_hides_nobody() {
        let mut minutes: Vec<i64> = (0..40).collect();
        minutes[20] = 70;
        for batch in [3, 7, 30, 40] {
            let ahead = minutes_ahead(&minutes, batch, 10_000);
            for (at, &ahead) in ahead.iter().enumerate() {
                match at {
                    // The clock is that of the records at hand behind it already.
                    20 if batch >= 30 => assert!((31..=50).contains(&ahead), "{ahead} in batches of {batch}"),
                    20 => assert_eq!(ahead, 0, "nobody at hand says otherwise, in batches of {batch}"),
                    _ => assert_eq!(ahead, 0, "record {at} in batches of {batch}"),
                }
            }
        }
    }

    #[test]
    fn neither_silence_nor_producers_that_lag_are_taken_for_a_fast_clock() {
        for (name, minutes) in [
            ("a topic that was quiet for ten hours", vec![0, 1, 2, 602, 603, 604]),
            ("one record every two hours", vec![0, 120, 240, 360, 480]),
            ("two producers, one half an hour behind", vec![30, 0, 31, 1, 32, 2, 33, 3, 34, 4]),
            ("one record in five is current", vec![30, 0, 0, 0, 0, 31, 1, 1, 1, 1, 32, 2, 2, 2, 2, 33, 3, 3, 3, 3]),
            ("backwards", vec![50, 40, 30, 20, 10, 0]),
        ] {
            for batch in [1, 2, 100] {
                let ahead = minutes_ahead(&minutes, batch, 10_000);
                assert!(ahead.iter().all(|&ahead| ahead == 0), "{name} in batches of {batch}: {ahead:?}");
            }
        }
    }

    #[test]
    fn the_time_of_reading_is_the_most_that_a_clock_can_say() {
        assert_eq!(minutes_ahead(&[60, 61, 62], 100, 10), [50, 51, 52]);
        assert_eq!(minutes_ahead(&[60], 1, 10), [50]);
    }

    #[test]
    fn timestamps_that_mean_nothing_leave_the_clock_alone() {
        let known = Position { clock_ms: BASE_MS, record_time_ms: BASE_MS, ..Position::start(0) };
        for timestamp_ms in [-1, 0, 1_767_225_600] {
            let (clock_ms, clock) = advance(known, &record(timestamp_ms), &[], BASE_MS * 1000 + 7);
            assert_eq!((clock_ms, clock), (BASE_MS, RowClock::at(BASE_MS * 1000 + 7)));
        }
    }
}
