//! No file may panic: real images and real frames, changed at random, are refused or are a state that works.
//!
//! Checksums are not in the way here, as they are not in that of whoever writes a file of their own: sections and
//! contents are changed behind them. What is taken must bear everything that a state bears: every row is read and
//! explained at several times, counted again, frozen, fingerprinted, written, measured for growth, fed with more
//! rows and rid of its keys.

use super::pipeline::{event, payload, tables};
use super::replay::{sections, through_a_snapshot};
use super::rows::{Datum, FIELDS, Row, START_US, newest_us, rows};
use super::{Driven, HASH_SEED};
use crate::apply::codec::{self, Encoded};
use crate::snapshot::Section;
use crate::state::{Arena, Content, ImageReader, State};
use crate::wal::{Frame, FrameKind};
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value as Json, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use streamgauge_api::source::{Incident, IncidentKind};
use streamgauge_api::{PartitionKey, Position, Slot, StoredPosition, TopicId};

/// A section, owned.
pub(super) type Owned = (u32, u32, Vec<u8>);

/// SplitMix64: the same changes for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ word >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((word ^ word >> 31) % sides.max(1) as u64) as usize
    }
}

/// Rows of the fixed seed of a runner.
fn some_rows(count: usize) -> Vec<Row> {
    let mut runner = TestRunner::deterministic();
    loop {
        let rows = rows(count + 1).new_tree(&mut runner).unwrap().current();
        if rows.len() > count * 3 / 4 {
            return rows;
        }
    }
}

/// Rows of one user, so that its texts, distinct values and numbers are many.
pub(super) fn varied_rows(count: i64) -> Vec<Row> {
    let datum = |n: i64, name: &str| match name {
        "user" => Datum::Str("varied".into()),
        "label" => Datum::Str(format!("label {n}")),
        "n" => Datum::I64(n * n % 7_001 - 900),
        "amount" => Datum::F64((n * 37 % 5_003) as f64 / 4.0 - 300.0),
        _ => Datum::Absent,
    };
    let row = |n: i64| Row {
        time_us: START_US + n * 40_000,
        ahead_us: 0,
        delete: false,
        data: FIELDS.iter().map(|(name, _)| datum(n, name)).collect(),
    };
    (0..count).map(row).collect()
}

/// A state with lists, rings, long keys, sketches, freed keys and everything beside tables.
pub(super) fn driven() -> (Driven, Vec<Row>) {
    let rows = some_rows(200);
    let mut driven = Driven::with(&payload(&tables()));
    let key = PartitionKey { event: "Tx".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition: 3 };
    driven.apply(Content::Partition(StoredPosition { key, position: Position::start(7) }), START_US);
    driven.feed(&rows, &[40, 90]);
    driven.grow("ByUser", |number| number % 2 == 0);
    driven.feed(&varied_rows(1_100), &[300]);
    let incident = Incident {
        kind: IncidentKind::Stalled,
        cause: "lso".into(),
        opened_us: 5,
        lost: String::new(),
        holds: String::new(),
        evidence: String::new(),
        actions: Vec::new(),
        resume_offset: None,
    };
    driven.apply(Content::Incident { slot: Slot(0), incident: Some(incident) }, START_US);
    (driven, rows)
}

pub(super) fn restore(sections: &[Owned], lsn: u64) -> Result<State, String> {
    let mut image = ImageReader::default();
    for (id, index, bytes) in sections {
        let mut padded = bytes.clone();
        padded.resize(bytes.len().next_multiple_of(8), 0);
        let words: Vec<u64> = padded.chunks(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap())).collect();
        let section = Section { id: *id, index: *index, words: &words, bytes, is_words: *id != 1 };
        image.take(&section).map_err(|error| error.to_string())?;
    }
    image.finish(HASH_SEED, lsn).map_err(|error| error.to_string())
}

/// Everything that a state bears.
fn bear(state: State, rows: &[Row]) {
    let mut driven = Driven { next_lsn: state.lsn() + 1, state, log: Vec::new() };
    let read = |state: &State| {
        for table in state.tables() {
            let (places, (numbers, _)) = (table.feature_places(), table.keys_from(0, usize::MAX));
            for number in numbers {
                for now_us in [START_US, newest_us(rows), newest_us(rows) - 1_500_000, i64::MAX] {
                    let readings = table.readings(number, &places, now_us, true, &mut Arena::default());
                    readings.iter().for_each(|reading| assert!(reading.error().is_none_or(|error| error >= 0.0 || error.is_nan())));
                    table.values(number, &places, now_us, &mut Arena::default());
                }
                table.earliest_us(number, &places);
                crate::read::key_to_json(&table.def().keys, &table.key_bytes(number).unwrap());
            }
        }
    };
    read(&driven.state);
    let before = driven.fingerprint();
    driven.settle();
    assert_eq!(through_a_snapshot(&driven.state).fingerprint(), before, "what was taken is written and taken again");
    if driven.state.registry().event("Tx").is_some_and(|event| event.schema.fields.len() >= FIELDS.len()) {
        let Content::Rows(more) = driven.pack(rows) else { unreachable!() };
        driven.state.lacking(&more.batches, &[], usize::MAX, 0);
        driven.state.lacking(&more.batches, &[], 4_096, 0);
        driven.feed(rows, &[60]);
        driven.feed(&varied_rows(30), &[]);
        let gone: Vec<Row> = rows.iter().map(|row| Row { delete: true, ..row.clone() }).collect();
        driven.feed(&gone, &[]);
        (0..200).take_while(|_| driven.state.evacuate(16, 1)).count();
        driven.feed(rows, &[]);
    }
    read(&driven.state);
    driven.fingerprint();
}

/// Changes one word, or the order of two.
fn change_words(bytes: &mut [u8], dice: &mut Dice) {
    let words: &mut [[u8; 8]] = bytemuck::cast_slice_mut(bytes);
    // What is not zero means something; zeroes are what is free.
    let used: Vec<usize> = (0..words.len()).filter(|&at| words[at] != [0; 8]).collect();
    let at = if used.is_empty() || dice.roll(4) == 0 { dice.roll(words.len()) } else { used[dice.roll(used.len())] };
    let other = words[dice.roll(words.len())];
    let Some(word) = words.get_mut(at) else { return };
    let value = u64::from_le_bytes(*word);
    let changed = match dice.roll(8) {
        0 => 0,
        1 => u64::MAX,
        2 => value.wrapping_add(1),
        3 => value.wrapping_sub(1),
        4 => u64::from_le_bytes(other),
        5 => value ^ 1 << dice.roll(12),
        6 => dice.roll(5_000) as u64,
        _ => value ^ 1 << dice.roll(64),
    };
    *word = changed.to_le_bytes();
}

/// Changes one value somewhere in a document.
fn change_json(value: &mut Json, dice: &mut Dice) {
    let deeper = dice.roll(6) != 0;
    match value {
        Json::Array(items) if !items.is_empty() => {
            let at = dice.roll(items.len());
            if deeper {
                return change_json(&mut items[at], dice);
            }
            match dice.roll(3) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                _ => items.swap(0, at),
            }
        }
        Json::Object(members) if !members.is_empty() => {
            let name = members.keys().nth(dice.roll(members.len())).unwrap().clone();
            if deeper {
                return change_json(&mut members[&name], dice);
            }
            let value = members[&name].clone();
            match dice.roll(3) {
                0 => drop(members.remove(&name)),
                1 => drop(members.insert("another".into(), value)),
                _ => members.values_mut().for_each(|member| *member = value.clone()),
            }
        }
        // Definitions are a document in a text.
        Json::String(text) if text.starts_with('{') => {
            let mut inner: Json = serde_json::from_str(text).unwrap();
            change_json(&mut inner, dice);
            *text = inner.to_string();
        }
        Json::String(text) => *text = ["", "user", "label", "count", "top_k", "sum", "1h", "cnt", "\u{0}"][dice.roll(9)].into(),
        Json::Number(number) => {
            let near = number.as_i64().unwrap_or(0);
            let numbers = [0, 1, -1, near.wrapping_add(1), near.wrapping_sub(1), i64::MAX, i64::MIN, i64::from(u32::MAX), 4096];
            *value = json!(numbers[dice.roll(numbers.len())]);
        }
        other => *other = [json!(null), json!(true), json!({}), json!([]), json!(1)][dice.roll(5)].clone(),
    }
}

fn change_section(sections: &mut Vec<Owned>, dice: &mut Dice) {
    let at = dice.roll(sections.len());
    match dice.roll(30) {
        0 => drop(sections.remove(at)),
        1 => sections.insert(dice.roll(sections.len()), sections[at].clone()),
        2 => sections[at].1 = dice.roll(40) as u32,
        3 | 4 => {
            let mut meta: Json = serde_json::from_slice(&sections[0].2).unwrap();
            change_json(&mut meta, dice);
            sections[0].2 = serde_json::to_vec(&meta).unwrap();
        }
        5 => {
            let length = sections[at].2.len() / 8;
            sections[at].2.truncate(dice.roll(length + 1) * 8);
        }
        _ if sections[at].0 == 1 => {}
        _ => change_words(&mut sections[at].2, dice),
    }
}

/// How many changes are tried; a long run takes more.
fn tries(usual: u64) -> u64 {
    std::env::var("STREAMGAUGE_CRAFTED").ok().and_then(|tries| tries.parse().ok()).unwrap_or(usual)
}

/// Runs one try and says how to repeat it.
fn survives(what: &str, seed: u64, attempt: impl FnOnce() -> bool) -> bool {
    match catch_unwind(AssertUnwindSafe(attempt)) {
        Ok(taken) => taken,
        Err(_) => panic!("{what}, seed {seed}"),
    }
}

#[test]
fn a_crafted_image_is_refused_or_is_a_state() {
    let (driven, rows) = driven();
    let (sections, lsn) = (sections(&driven.state), driven.state.lsn());
    assert_eq!(restore(&sections, lsn).unwrap().fingerprint(), driven.fingerprint());
    let (mut taken, all) = (0, tries(160));
    for seed in 0..all {
        let mut dice = Dice(seed);
        let mut changed = sections.clone();
        (0..=dice.roll(2)).for_each(|_| change_section(&mut changed, &mut dice));
        taken += u64::from(survives("an image", seed, || match restore(&changed, lsn) {
            Ok(state) => {
                bear(state, &rows);
                true
            }
            Err(_) => false,
        }));
    }
    assert!(taken > 0 && taken < all, "{taken} of {all} were taken");
}

fn decoded(kind: FrameKind, row_count: u32, encoded: (&[u8], &[u64]), first_lsn: u64, now_us: i64) -> Result<Content, String> {
    let (positions, body) = encoded;
    let frame = Frame { kind, flags: 0, first_lsn, row_count, now_us, durable_lsn: 0, positions, body };
    codec::decode(&frame).map_err(|error| error.to_string())
}

/// A log of every kind of content, with definitions that extend, retire, restart and drop.
fn log() -> (Vec<(Content, u64, i64)>, Vec<Row>) {
    let rows = some_rows(60);
    let mut driven = Driven::with(&payload(&tables()[..2]));
    let key = |partition| PartitionKey { event: "Tx".into(), cluster: "c".into(), topic: "t".into(), topic_id: TopicId::NONE, partition };
    driven.apply(Content::Partition(StoredPosition { key: key(1), position: Position::start(0) }), START_US);
    driven.apply(Content::Partition(StoredPosition { key: key(2), position: Position::start(4) }), START_US);
    let mut content = driven.pack(&rows);
    if let Content::Rows(rows) = &mut content {
        rows.positions = vec![(Slot(1), Position { offset: 40, after: 40, epoch: 2, record_time_ms: 5, clock_ms: 6 })];
    }
    driven.apply(content, START_US);
    let changed = |driven: &mut Driven, agg: Json, force: bool| {
        let node = super::pipeline::node("Changing", &[], &["user"], &agg);
        let registry = crate::pipeline::Registry::clone(driven.state.registry());
        let options = crate::pipeline::RegisterOptions::default();
        let payload = json!({ "nodes": [event(), node], "force": force });
        let outcome = registry.apply_register(&payload.to_string(), &options).unwrap_or_else(|error| panic!("{}", error.to_json()));
        if let Some(registry) = outcome.next {
            driven.apply(Content::Definition { registry, effects: outcome.effects }, START_US);
        }
    };
    let count = json!({ "op": "count", "params": {} });
    let top = json!({ "op": "top_k", "params": { "field": "label" } });
    changed(&mut driven, json!({ "a": count, "b_1h": { "op": "count", "params": { "window": "1h" } } }), true);
    driven.feed(&rows, &[]);
    changed(&mut driven, json!({ "a": count, "b_1h": { "op": "count", "params": { "window": "1h" } }, "c": top }), true);
    driven.feed(&rows, &[]);
    changed(&mut driven, json!({ "a": count, "b_1h": { "op": "sum", "params": { "field": "n", "window": "1h" } } }), true);
    driven.apply(Content::Clock { now_us: START_US + 5, held: true }, START_US + 5);
    driven.feed(&rows[..8], &[]);
    (driven.log, rows)
}

#[test]
fn a_crafted_frame_is_refused_or_makes_a_state() {
    let (log, rows) = log();
    assert!(log.iter().filter(|(content, ..)| matches!(content, Content::Definition { .. })).count() >= 4);
    let mut state = State::new(HASH_SEED);
    for (content, first_lsn, now_us) in &log {
        assert_eq!(state.accepts(content, *first_lsn, *now_us), Ok(()));
        state.apply(content, *first_lsn, *now_us);
    }
    let (mut taken, all) = (0, tries(400));
    for seed in 0..all {
        let mut dice = Dice(seed);
        let at = dice.roll(log.len());
        let mut state = State::new(HASH_SEED);
        log[..at].iter().for_each(|(content, first_lsn, now_us)| state.apply(content, *first_lsn, *now_us));
        let (content, mut first_lsn, mut now_us) = log[at].clone();
        let mut encoded = Encoded::default();
        codec::encode(&content, &mut encoded);
        let (mut body, mut row_count) = (encoded.head.clone(), 0);
        if let Content::Rows(rows) = &content {
            rows.batches.iter().for_each(|batch| body.extend_from_slice(batch.words()));
            row_count = rows.rows() as u32;
        }
        body.extend_from_slice(&encoded.tail);
        let mut kind = codec::kind_of(&content);
        match dice.roll(12) {
            0 => now_us = [i64::MIN, i64::MAX, -1, 0][dice.roll(4)],
            1 => first_lsn = [0, 1, first_lsn + 1, u64::MAX, 1 << 60][dice.roll(5)],
            2 => row_count = [0, 1, row_count + 1, u32::MAX][dice.roll(4)],
            3 => kind = FrameKind(dice.roll(12) as u8),
            4 if !encoded.positions.is_empty() => {
                let at = dice.roll(encoded.positions.len());
                encoded.positions[at] ^= 1 << dice.roll(8);
            }
            _ if matches!(content, Content::Rows(_)) => change_words(bytemuck::cast_slice_mut(&mut body), &mut dice),
            _ if body.is_empty() => {}
            _ => {
                let text = &bytemuck::cast_slice::<u64, u8>(&body[1..])[..body[0] as usize];
                let mut json: Json = serde_json::from_slice(text).unwrap();
                change_json(&mut json, &mut dice);
                let mut text = serde_json::to_vec(&json).unwrap();
                let length = text.len() as u64;
                text.resize(text.len().next_multiple_of(8), 0);
                body = std::iter::once(length).chain(text.chunks(8).map(|eight| u64::from_le_bytes(eight.try_into().unwrap()))).collect();
            }
        }
        taken += u64::from(survives("a frame", seed, || {
            let Ok(content) = decoded(kind, row_count, (&encoded.positions, &body), first_lsn, now_us) else { return false };
            if state.accepts(&content, first_lsn, now_us).is_err() {
                return false;
            }
            state.apply(&content, first_lsn, now_us);
            bear(state, &rows);
            true
        }));
    }
    assert!(taken > 0 && taken < all, "{taken} of {all} were taken");
}
