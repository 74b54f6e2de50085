//! The clock of a partition: how far its records have come in time, told from the records themselves.
//!
//! A row is judged by the clock of its own partition, so that a record of last week is late or too far ahead by
//! last week's measure. The clock is the running maximum of Kafka timestamps, with two provisos:
//!
//! - **It never passes the time at which a record is read.** A timestamp of the last few seconds needs nobody's
//!   word: at the end of a topic the reader's time decides.
//! - **A timestamp that stands alone does not move it.** Of its neighbours (the record before, and those behind it
//!   in the same batch) one in eight must reach it too; else the clock goes only as far as they do. So a producer
//!   with a fast clock is still ahead when its records are read again a week later, while producers that lag each
//!   other vouch for each other.
//!
//! Where a batch holds too few neighbours to tell, the row is judged by its own word, but the clock that is kept in
//! the position does not move on it. No row is ever refused because others are old: `max_future` counts from the
//! later of the clock and the record's own timestamp.
//!
//! Pure; called by inlets for each record, on ingest threads. The result stands in the position, in the WAL.

use crate::row::RowClock;
use smallvec::SmallVec;
use streamgauge_api::{Position, RawRecord};

/// Records behind this one that may vouch for its timestamp,
const NEIGHBOURS_MAX: usize = 32;
/// looked for among this many that follow.
const LOOK_AHEAD_MAX: usize = 128;
/// With fewer neighbours than this nothing can be told of a timestamp.
const NEIGHBOURS_MIN: usize = 8;
/// One neighbour in this many must reach a timestamp.
const VOUCHED_BY: usize = 8;

const _: () = assert!(VOUCHED_BY <= NEIGHBOURS_MAX && NEIGHBOURS_MIN <= NEIGHBOURS_MAX && NEIGHBOURS_MAX <= LOOK_AHEAD_MAX);

/// Timestamps before 2000-01-01 say nothing: zeroes, and seconds taken for milliseconds.
const PLAUSIBLE_FROM_MS: i64 = 946_684_800_000;
/// A timestamp this close to the time of reading needs nobody's word.
const PRESENT_MS: i64 = 10_000;

/// The partition's clock (ms) with this record, and what the record's row is judged by. `known` is where the
/// partition stood before it, `behind` are the records that follow in the same batch, of any partition.
#[inline]
pub(crate) fn advance(known: Position, record: &RawRecord<'_>, behind: &[RawRecord<'_>], now_us: i64) -> (i64, RowClock) {
    let (time_ms, now_ms) = (record.timestamp_ms, now_us.div_euclid(1000));
    // A wall clock that was set back takes the clocks of partitions with it.
    let mut clock_ms = known.clock_ms.min(now_ms);
    if time_ms < PLAUSIBLE_FROM_MS {
        return (clock_ms, RowClock::at(now_us));
    }
    let own_ms = time_ms.min(now_ms);
    let mut judged_ms = clock_ms;
    if time_ms > clock_ms {
        let (vouched_ms, neighbours) = vouched(known, record, behind, now_ms);
        clock_ms = clock_ms.max(vouched_ms.min(now_ms));
        judged_ms = if neighbours < NEIGHBOURS_MIN { clock_ms.max(own_ms) } else { clock_ms };
    }
    debug_assert!(clock_ms <= now_ms || clock_ms < 0, "a partition's clock never passes the time of reading");
    let [clock_us, latest_us] = [judged_ms, judged_ms.max(own_ms)].map(|ms| ms.saturating_mul(1000));
    debug_assert!(clock_us <= latest_us, "max_future counts from the clock or later");
    (clock_ms, RowClock { now_us, clock_us, latest_us })
}

/// How far the record's timestamp may move the clock, and how many neighbours say so.
fn vouched(known: Position, record: &RawRecord<'_>, behind: &[RawRecord<'_>], now_ms: i64) -> (i64, usize) {
    let time_ms = record.timestamp_ms;
    if time_ms <= now_ms && now_ms - time_ms < PRESENT_MS {
        return (time_ms, NEIGHBOURS_MIN);
    }
    let before = (known.record_time_ms >= PLAUSIBLE_FROM_MS).then_some(known.record_time_ms);
    let following = behind.iter().take(LOOK_AHEAD_MAX).filter(|next| next.slot == record.slot);
    let plausible = following.map(|next| next.timestamp_ms).filter(|&next_ms| next_ms >= PLAUSIBLE_FROM_MS);
    let mut times: SmallVec<[i64; NEIGHBOURS_MAX]> = SmallVec::new();
    let mut reaching = 0;
    for next_ms in before.into_iter().chain(plausible).take(NEIGHBOURS_MAX) {
        times.push(next_ms);
        reaching += usize::from(next_ms >= time_ms);
        if reaching * VOUCHED_BY >= NEIGHBOURS_MAX {
            return (time_ms, NEIGHBOURS_MAX);
        }
    }
    let neighbours = times.len();
    if neighbours == 0 {
        return (-1, 0);
    }
    times.sort_unstable_by(|one, other| other.cmp(one));
    // Where too few are at hand they must agree.
    let needed = if neighbours < NEIGHBOURS_MIN { neighbours } else { neighbours.div_ceil(VOUCHED_BY) };
    debug_assert!((1..=neighbours).contains(&needed), "{needed} of {neighbours} neighbours are asked");
    (time_ms.min(times[needed - 1]), neighbours)
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
                // A current record at a batch's end may lack those that would vouch for its last minute.
                assert!(ahead.iter().all(|&ahead| ahead <= 1), "{name} in batches of {batch}: {ahead:?}");
            }
        }
    }

    #[test]
    fn the_time_of_reading_is_the_most_that_a_clock_can_say() {
        assert_eq!(minutes_ahead(&[60, 61, 62], 100, 10), [50, 51, 52]);
        assert_eq!(minutes_ahead(&[60], 1, 10), [50]);
    }

    /// A right row was refused by `max_future` because a restore of old records stood behind it.
    #[test]
    fn no_row_is_too_far_ahead_because_others_are_old() {
        let lone: Vec<i64> = [vec![0; 40], vec![150], vec![0; 40]].concat();
        for (minutes, now) in [(&lone, 150), (&lone, 10_000)] {
            let records: Vec<RawRecord<'_>> = minutes.iter().map(|minute| record(BASE_MS + minute * MINUTE_MS)).collect();
            let now_us = (BASE_MS + now * MINUTE_MS) * 1000;
            let mut position = Position::start(0);
            for (at, record) in records.iter().enumerate() {
                let (clock_ms, clock) = advance(position, record, &records[at + 1..], now_us);
                assert!(record.timestamp_ms * 1000 <= clock.latest_us, "record {at} at {now}");
                position = Position { record_time_ms: record.timestamp_ms, clock_ms, ..position };
            }
        }
        // What is of the present needs nobody's word.
        assert!(minutes_ahead(&lone, 100, 150).iter().all(|&ahead| ahead == 0));
        // What means nothing is nobody's neighbour.
        let records: Vec<RawRecord<'_>> = [BASE_MS].into_iter().chain([0; 20]).map(record).collect();
        let (clock_ms, clock) = advance(Position::start(0), &records[0], &records[1..], (BASE_MS + MINUTE_MS) * 1000);
        assert_eq!((clock_ms, clock.of(BASE_MS * 1000).ahead_us), (-1, 0));
    }

    #[test]
    fn a_producer_with_a_fast_clock_is_ahead_again_when_its_records_are_read_later() {
        // One record in fifty is fifty minutes ahead, now and then two of them in a row.
        let minutes: Vec<i64> = (0..5000).map(|at| at / 50 + if at % 50 == 30 || at % 500 == 31 { 50 } else { 0 }).collect();
        let ahead = minutes_ahead(&minutes, 512, 100_000);
        for (at, &ahead) in ahead.iter().enumerate() {
            let (fast, tail) = (at % 50 == 30 || at % 500 == 31, at % 512 >= 512 - NEIGHBOURS_MIN || at >= 5000 - NEIGHBOURS_MIN);
            assert!(tail || (ahead >= 45) == fast, "record {at} is {ahead} minutes ahead");
        }
    }

    #[test]
    fn a_wall_clock_that_was_set_back_takes_the_clock_with_it() {
        let known = Position { clock_ms: BASE_MS + 60 * MINUTE_MS, record_time_ms: BASE_MS, ..Position::start(0) };
        let (clock_ms, _) = advance(known, &record(BASE_MS), &[], BASE_MS * 1000);
        assert_eq!(clock_ms, BASE_MS);
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
