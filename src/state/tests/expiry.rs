//! A key whose rows have all expired gives its memory back: at its next row, and early by a sweep. Nobody who reads at
//! or after that time sees a difference; who reads the past is told the truth or refused.

use super::edges::{MINUTE_US, SECOND_US, count, get, row, table};
use super::replay::{through_a_frame, through_a_snapshot};
use super::rows::START_US;
use super::{Driven, HASH_SEED};
use crate::row::Key;
use crate::state::{Content, Found, Place, State, Sweep};
use streamgauge_api::{Code, Value};

const HOUR_US: i64 = 60 * MINUTE_US;
/// The day and its bucket: how long the table of these tests keeps a row.
const KEEP_US: i64 = 24 * HOUR_US + 24 * HOUR_US / 64;

/// A list of 30 rows, or rings of 2,000.
fn fed(grown: bool) -> (Driven, i64) {
    let mut driven = table();
    let rows = if grown { 2000 } else { 30 };
    driven.feed(&(0..rows).map(|index| row(START_US + index * SECOND_US, 0)).collect::<Vec<_>>(), &[]);
    assert_eq!(driven.is_grown("T", &Key::from_slice(b"u")), grown);
    (driven, START_US + (rows - 1) * SECOND_US)
}

fn used_bytes(driven: &Driven) -> usize {
    driven.state.table("T").unwrap().used_bytes()
}

/// Rings stayed rings for ever, and a list that had room kept what had expired.
#[test]
fn the_next_row_of_a_key_that_has_expired_begins_a_list() {
    for grown in [false, true] {
        for gap_us in [KEEP_US - 1, KEEP_US, 90 * 24 * HOUR_US] {
            let (mut driven, newest_us) = fed(grown);
            let (before, at_us) = (used_bytes(&driven), newest_us + gap_us);
            driven.feed(&[row(at_us, 0)], &[]);
            let expired = gap_us >= KEEP_US;
            assert_eq!(driven.is_grown("T", &Key::from_slice(b"u")), grown && !expired, "{gap_us}");
            assert_eq!(used_bytes(&driven) < before, expired, "grown: {grown}, {gap_us}");
            assert_eq!(count(&driven, "cnt_1d", at_us), 1 + i64::from(grown && gap_us < 24 * HOUR_US));
            // What the list lost is known to it; a ring answers for one bucket back at most.
            let past = get(&driven, &["cnt_1d"], newest_us, false).map_err(|refused| refused.code);
            let told = if expired || grown { Err(Code::AsOfOutOfReach) } else { Ok(vec![Value::I64(30)]) };
            assert_eq!(past, told, "grown: {grown}, {gap_us}");
        }
    }
}

#[test]
fn what_an_update_gives_back_is_the_same_however_frames_are_cut() {
    let rows: Vec<_> = [(0, 700), (3 * 24, 5), (3 * 24, 700), (9 * 24, 3)]
        .into_iter()
        .flat_map(|(hours, rows)| (0..rows).map(move |index| row(START_US + hours * HOUR_US + index * SECOND_US, 0)))
        .collect();
    let fingerprints = [&[][..], &[1, 699, 700, 701, 1404, 1405, 1406], &[700, 1405]].map(|ends| {
        let mut driven = table();
        driven.feed(&rows, ends);
        (driven.fingerprint(), used_bytes(&driven))
    });
    assert!(fingerprints.iter().all(|fingerprint| *fingerprint == fingerprints[0]), "{fingerprints:?}");
}

#[test]
fn a_sweep_gives_back_exactly_what_no_reader_sees_any_more() {
    for grown in [false, true] {
        let (mut driven, newest_us) = fed(grown);
        let full = used_bytes(&driven);
        driven.sweep(0, 10, newest_us + KEEP_US - 1);
        assert_eq!(used_bytes(&driven), full, "a row of the last bucket stays");
        driven.sweep(1, 10, newest_us + KEEP_US + 1000);
        assert_eq!(used_bytes(&driven), full, "another row");
        driven.sweep(0, 1, newest_us + KEEP_US + 1000);
        assert_eq!(used_bytes(&driven), 0);
        // The key is there, its lifetime counts, and its windows are empty.
        assert_eq!(count(&driven, "cnt", newest_us), if grown { 2000 } else { 30 });
        assert_eq!(count(&driven, "cnt_1d", newest_us + KEEP_US + 1000), 0);
        let before = driven.fingerprint();
        driven.sweep(0, 10, newest_us + 2 * KEEP_US);
        assert_eq!(driven.fingerprint(), before, "what is gone goes no further");
    }
}

#[test]
fn a_row_ahead_and_one_that_a_ring_refused_keep_their_key_until_their_time_is_over() {
    for grown in [false, true] {
        let (mut driven, newest_us) = fed(grown);
        let ahead_us = 50 * MINUTE_US;
        driven.feed(&[row(newest_us + ahead_us, ahead_us)], &[]);
        driven.sweep(0, 1, newest_us + KEEP_US + SECOND_US);
        assert_eq!(count(&driven, "cnt_1d", newest_us + KEEP_US + SECOND_US), 1, "the day has that one still");
        assert!(used_bytes(&driven) > 0);
        driven.sweep(0, 1, newest_us + ahead_us + KEEP_US + 1000);
        assert_eq!(used_bytes(&driven), 0);
    }
}

/// A sweep answered 0 for the past.
#[test]
fn a_read_of_the_past_that_would_have_seen_rows_is_refused_after_a_sweep() {
    for grown in [false, true] {
        let (mut driven, newest_us) = fed(grown);
        driven.sweep(0, 1, newest_us + 100 * KEEP_US);
        for (feature, window_us) in [("cnt_1m", MINUTE_US), ("cnt_1h", HOUR_US), ("cnt_1d", 24 * HOUR_US)] {
            for at_us in [newest_us, newest_us + window_us - 1000] {
                let refused = get(&driven, &[feature], at_us, false).unwrap_err();
                assert_eq!(refused.code, Code::AsOfOutOfReach);
                // From the first time on at which the rows are in no window, and not only from the sweep's clock on.
                let earliest_ms = refused.more.get("earliest_ms").unwrap().as_i64().unwrap();
                assert!((0..=2000).contains(&(earliest_ms * 1000 - newest_us - window_us)), "{feature}: {earliest_ms}");
                assert_eq!(get(&driven, &[feature], earliest_ms * 1000, false).unwrap(), [Value::I64(0)]);
            }
        }
        // It stays so when rows come again, and through a snapshot.
        driven.feed(&[row(newest_us + 2 * HOUR_US, 0)], &[]);
        driven.state = through_a_snapshot(&driven.state);
        assert!(get(&driven, &["cnt_1h"], newest_us + HOUR_US - 1000, false).is_err());
        assert_eq!(get(&driven, &["cnt_1h"], newest_us + 2 * HOUR_US, false).unwrap(), [Value::I64(1)]);
    }
}

/// A topic that is read from long ago has expired as it comes: what is given back in between is what a reader of now
/// would never see, and rows are late by their key's edge still.
#[test]
fn rows_of_a_stream_that_is_far_behind_count_when_they_come_near() {
    for step_us in [MINUTE_US, HOUR_US] {
        let (mut driven, newest_us) = fed(true);
        let now_us = newest_us + 5 * KEEP_US;
        let rows: Vec<_> = (1..).map(|index| newest_us + index * step_us).take_while(|time_us| *time_us <= now_us).collect();
        for (number, time_us) in rows.iter().enumerate() {
            driven.feed(&[row(*time_us, 0)], &[]);
            if number % 7 == 0 {
                driven.sweep(0, 1, now_us);
            }
        }
        for (feature, window_us) in [("cnt_1m", MINUTE_US), ("cnt_1h", HOUR_US), ("cnt_1d", 24 * HOUR_US)] {
            let inside = rows.iter().filter(|time_us| **time_us > now_us - window_us).count() as i64;
            assert_eq!(count(&driven, feature, now_us), inside, "{feature}, a row each {step_us} us");
        }
    }
}

#[test]
fn sweeps_are_replayed_and_cut_by_snapshots_like_everything_else() {
    let mut live = table();
    for round in 0..6i64 {
        let from_us = START_US + round * 30 * HOUR_US;
        let rows = 3 + round % 2 * 900;
        live.feed(&(0..rows).map(|index| row(from_us + index * SECOND_US, 0)).collect::<Vec<_>>(), &[100]);
        live.sweep(0, 5, from_us + 26 * HOUR_US);
    }
    for cut in 0..live.log.len() {
        let mut replayed = State::new(HASH_SEED);
        for (number, (content, first_lsn, now_us)) in live.log.iter().enumerate() {
            replayed.apply(&through_a_frame(content, *first_lsn, *now_us), *first_lsn, *now_us);
            if number == cut {
                replayed = through_a_snapshot(&replayed);
            }
        }
        assert_eq!(replayed.fingerprint(), live.fingerprint());
        assert_eq!(replayed.table("T").unwrap().used_bytes(), used_bytes(&live));
    }
}

#[test]
fn a_look_goes_round_all_rows_and_finds_what_a_sweep_would_give_back() {
    let mut driven = table();
    let keys: Vec<_> =
        (0..300).map(|number| super::rows::Row { data: super::edges::data(&format!("u{number}")), ..row(START_US, 0) }).collect();
    driven.feed(&keys, &[]);
    let id = driven.state.table("T").unwrap().def().id;
    assert_eq!(driven.state.windowed_rows(), 300);
    for (now_us, expired) in [(START_US + KEEP_US - 1000, 0), (START_US + KEEP_US + 1000, 300)] {
        for rows in [1, 7, 128, 1000] {
            let (mut at, mut found, mut all) = (Place::default(), Found::default(), 0);
            loop {
                let (looked, next) = driven.state.look_for_expired(at, rows, now_us, &mut found);
                assert!(looked <= rows);
                all += looked;
                at = next;
                if next == Place::default() {
                    break;
                }
            }
            assert_eq!((all, found.sweep.keys.len()), (300, expired));
            assert!(found.sweep.keys.iter().enumerate().all(|(row, key)| **key == *format!("u{row}").as_bytes()));
            assert!(expired == 0 || found.sweep.table == id);
        }
    }
}

/// A frame names what may have been deleted meanwhile, or left out with `wal skip`.
#[test]
fn a_sweep_of_keys_that_are_not_there_does_nothing() {
    let (mut driven, newest_us) = fed(true);
    let full = used_bytes(&driven);
    let table = driven.state.table("T").unwrap().def().id;
    let (here, gone) = (Key::from_slice(b"u"), Key::from_slice(b"somebody with a long name"));
    for (sweep, now_us) in [
        (Sweep { table, keys: vec![gone.clone(), gone] }, newest_us + 2 * KEEP_US),
        (Sweep { table, keys: Vec::new() }, newest_us + 2 * KEEP_US),
        (Sweep { table, keys: vec![here.clone(), here.clone()] }, newest_us),
        (Sweep { table: table + 1, keys: vec![here.clone()] }, newest_us + 2 * KEEP_US),
    ] {
        driven.apply(Content::Sweep(sweep.clone()), now_us);
        assert_eq!(used_bytes(&driven), full, "{sweep:?}");
    }
    let unknown = Content::Sweep(Sweep { table: table + 1, keys: vec![here] });
    assert!(driven.state.accepts(&unknown, driven.state.lsn() + 1, newest_us).is_err());
}

/// Row numbers are a process's own: sparse chunks are emptied in one and not in the other.
#[test]
fn a_sweep_finds_its_keys_in_whatever_rows_they_stand() {
    let rows: Vec<_> =
        (0..3000).map(|number| super::rows::Row { data: super::edges::data(&format!("u{number}")), ..row(START_US, 0) }).collect();
    let deletes: Vec<_> = rows.iter().step_by(3).map(|row| super::rows::Row { delete: true, ..row.clone() }).collect();
    let mut moved = table();
    moved.feed(&rows, &[]);
    moved.feed(&deletes, &[]);
    let mut stayed = table();
    stayed.feed(&rows, &[]);
    stayed.feed(&deletes, &[]);
    while moved.state.evacuate(64, 1) {}
    let (mut found, mut at) = (Found::default(), Place::default());
    for _ in 0..10 {
        (_, at) = moved.state.look_for_expired(at, 50, START_US + 2 * KEEP_US, &mut found);
    }
    assert!(found.sweep.keys.len() > 100);
    for driven in [&mut moved, &mut stayed] {
        driven.apply(Content::Sweep(found.sweep.clone()), START_US + 2 * KEEP_US);
    }
    assert_eq!(moved.fingerprint(), stayed.fingerprint());
    assert_eq!(used_bytes(&moved), used_bytes(&stayed));
}
