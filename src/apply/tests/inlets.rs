//! What an inlet makes of records: packets that fit into a frame whatever is in them, and sources that do not hold
//! each other up.

use super::turns::record;
use super::{House, NOW_US, options};
use crate::apply::codec::{reject_bytes, rows_bytes};
use crate::apply::incidents::Subject;
use crate::apply::{EngineInlet, EngineOptions, OnBadRecord};
use crate::row::ROW_BYTES_MAX;
use crate::wal::FRAME_BODY_BYTES_MAX;
use proptest::prelude::*;
use std::sync::atomic::Ordering;
use streamgauge_api::control::Reject;
use streamgauge_api::inlet::FetchedSchema;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Inlet, PartitionKey, Position, RawRecord, SchemaId, Slot, Stop, TopicId};

/// Attaches partition `number` of the source's topic.
pub(super) fn attach(inlet: &mut EngineInlet, source: &str, number: i32) -> Slot {
    let key = PartitionKey {
        event: "Step".to_owned(),
        cluster: "c".to_owned(),
        topic: source.to_owned(),
        topic_id: TopicId::NONE,
        partition: number,
    };
    inlet.attach(source, &key, Position { after: -1, epoch: -1, record_time_ms: -1, ..Position::default() }).unwrap().0
}

/// Offers records one after the other, and has the engine take them whenever the inlet is full. Gives the largest number
/// of bytes that waited in the queue.
pub(super) fn offer_all<'a>(house: &House, inlet: &mut EngineInlet, records: impl Iterator<Item = RawRecord<'a>>) {
    for record in records {
        loop {
            let offered = inlet.offer(&[record]);
            if offered.taken == 1 {
                break;
            }
            assert!(matches!(offered.stop, Some(Stop::Full)), "{offered:?}");
            apply_all(house);
        }
    }
    while !inlet.flush() {
        apply_all(house);
    }
    apply_all(house);
}

pub(super) fn apply_all(house: &House) {
    let mut held = house.seat.hold();
    while house.seat.step(&mut held) {}
}

fn rejects(house: &House) -> Vec<Reject> {
    house.seat.look(|engine| engine.state().rejects().cloned().collect())
}

#[test]
fn a_flood_of_bad_records_goes_through_and_the_good_ones_behind_it_are_applied() {
    // Before, no row was counted for a reject: all of them went into one packet, whose frame no log took in the end.
    for (records, bytes, frames) in [(5_000, 250, 4), (200, 70_000, 3)] {
        let house = House::build();
        let mut inlet = house.inlet("steps");
        let slot = attach(&mut inlet, "steps", 0);
        let bad = "x".repeat(bytes);
        let flood = (0..records).map(|offset| record(slot, offset, bad.as_bytes()));
        let before = house.facts.applied_lsn.load(Ordering::Relaxed);
        let good = (records..records + 100).map(|offset| record(slot, offset, br#"{"walker":"w"}"#));
        offer_all(&house, &mut inlet, flood.chain(good));
        assert_eq!(house.steps_of("w").map(|(n, _)| n), Some(100), "{records} of {bytes} bytes");
        // A frame of rejects takes one LSN.
        let lsns = house.facts.applied_lsn.load(Ordering::Relaxed) - before;
        assert!(lsns >= frames + 100, "{records} rejects of {bytes} bytes and 100 rows in frames of {lsns} LSNs");
        let position = house.seat.look(|engine| engine.state().partitions()[slot.0 as usize].position.offset);
        assert_eq!(position, records + 100);
        let kept = rejects(&house);
        assert!(!kept.is_empty() && kept.iter().all(|reject| reject.code == "decode_malformed"), "{:?}", kept.first());
        // Nothing stands still; that most are bad is told where there are enough of them.
        let open: Vec<IncidentKind> = house.facts.incidents.list().iter().map(|(_, incident)| incident.kind).collect();
        assert_eq!(open, [IncidentKind::BadRecords][..usize::from(records >= 1_000)]);
    }
}

#[test]
fn a_topic_of_bad_records_alone_is_an_incident_and_what_fell_out_of_the_log_is_counted() {
    let house = House::build();
    let mut inlet = house.inlet("steps");
    let slots = [attach(&mut inlet, "steps", 0), attach(&mut inlet, "steps", 1)];
    let bad = (0..12_000).map(|offset| record(slots[offset as usize % 2], offset, b"{"));
    offer_all(&house, &mut inlet, bad);
    let incident = house.facts.incidents.get(IncidentKind::BadRecords, &Subject::source("steps")).unwrap();
    assert_eq!((&*incident.cause, house.facts.incidents.list().len()), ("decode_malformed", 1), "one for all partitions");
    assert!(incident.lost.ends_with("records could not become rows and are in no table"), "{incident:?}");
    assert!(incident.evidence.starts_with("first: steps/0 offset 0: decode_malformed: "), "{incident:?}");
    let (kept, gone) = house.seat.look(|engine| (engine.state().rejects().count() as u64, engine.state().rejects_gone()));
    assert_eq!((kept, kept + gone), (10_000, 12_000));
    // Good ones again: ten seconds of them, and it is over.
    for second in 1..=2 {
        house.clock.set(NOW_US + second * 10_000_000);
        let good = (0..100).map(|n| record(slots[0], 12_000 * (second + 1) + n, br#"{"walker":"w"}"#));
        offer_all(&house, &mut inlet, good);
    }
    assert!(house.facts.incidents.list().is_empty());
}

#[test]
fn what_waits_in_the_queue_is_bounded_whatever_the_records_are() {
    let house = House::build();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let bad = "x".repeat(70_000);
    // The seat is taken: nobody takes packets, and the inlet says that it is full.
    let held = house.seat.hold();
    let mut taken = 0;
    while let offered = inlet.offer(&[record(slot, taken, bad.as_bytes())])
        && offered.taken == 1
    {
        taken += 1;
        assert!(taken < 10_000, "10,000 records of 70 kB were taken by a queue of 64 MiB");
    }
    drop(held);
    assert!(taken > 100, "{taken}");
    apply_all(&house);
    assert!(rejects(&house).len() as i64 <= taken);
}

#[test]
fn a_record_that_no_frame_could_hold_is_a_bad_record() {
    let house = House::build();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    // The largest row that is taken, one byte more, and one that is larger than a frame.
    let text = |bytes: usize| format!(r#"{{"walker":"w","x":"{}"}}"#, "y".repeat(bytes));
    let over = text(FRAME_BODY_BYTES_MAX + 1);
    let key = format!(r#"{{"walker":"{}"}}"#, "w".repeat(ROW_BYTES_MAX + 1));
    let records = [record(slot, 0, over.as_bytes()), record(slot, 1, key.as_bytes()), record(slot, 2, br#"{"walker":"w"}"#)];
    offer_all(&house, &mut inlet, records.into_iter());
    // What is not declared is not kept, so the first is a row like any other.
    assert_eq!(house.steps_of("w").map(|(n, _)| n), Some(2));
    let kept = rejects(&house);
    let codes: Vec<&str> = kept.iter().map(|reject| reject.code.as_str()).collect();
    assert_eq!(codes, ["key_too_long"]);
    assert_eq!(kept[0].value_len as usize, key.len());
}

#[test]
fn a_source_whose_rows_wait_does_not_hold_another_one() {
    // No room for a new key; known ones go on.
    let house = House::build();
    let (mut full, mut healthy) = (house.inlet("full"), house.inlet("healthy"));
    let (full_slot, healthy_slot) = (attach(&mut full, "full", 0), attach(&mut healthy, "healthy", 0));
    offer_all(&house, &mut healthy, [record(healthy_slot, 0, br#"{"walker":"known"}"#)].into_iter());
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: 1, ..options() });
    offer_all(
        &house,
        &mut full,
        [record(full_slot, 0, br#"{"walker":"new"}"#), record(full_slot, 1, br#"{"walker":"known"}"#)].into_iter(),
    );
    let source = Subject::source("full");
    assert!(house.facts.incidents.is_open(IncidentKind::WriteStall, &source));
    for offset in 1..2_000 {
        offer_all(&house, &mut healthy, [record(healthy_slot, offset, br#"{"walker":"known"}"#)].into_iter());
    }
    // Of the full source the row of a known key went past the one that waits.
    assert_eq!(house.steps_of("known").map(|(n, _)| n), Some(2_001));
    assert_eq!(house.steps_of("new"), None);
    assert!(house.metrics.text().contains("streamgauge_source_retries_total{code=\"table_memory_exceeded\",source=\"full\"} 1"));

    // Tried again twice a second, and told until it goes on.
    for half_seconds in 1..=3 {
        house.clock.set(NOW_US + half_seconds * 500_000);
        house.seat.with(|engine| engine.tick());
        apply_all(&house);
    }
    assert!(house.metrics.text().contains("streamgauge_source_retries_total{code=\"table_memory_exceeded\",source=\"full\"} 4"));
    house.seat.with(|engine| engine.options = options());
    // Also when the time of frames is set back by a year: only time that passes counts.
    house.seat.with(|engine| {
        house.clock.set(NOW_US + 2_000_000);
        house.clock.jump(-365 * 86_400 * 1_000_000);
        engine.accept_clock().unwrap();
        engine.tick();
    });
    apply_all(&house);
    assert_eq!((house.steps_of("new").map(|(n, _)| n), house.steps_of("known").map(|(n, _)| n)), (Some(1), Some(2_001)));
    assert!(!house.facts.incidents.is_present(IncidentKind::WriteStall, &source));
}

proptest! {
    #[test]
    fn a_reject_is_as_large_as_it_is_counted(
        texts in prop::array::uniform5(any::<String>()),
        numbers in prop::array::uniform6(any::<i64>()),
        bytes in prop::option::of(any::<String>()),
        schema_id in prop::option::of(prop_oneof![any::<u32>().prop_map(SchemaId::Number), any::<[u8; 16]>().prop_map(SchemaId::Guid)]),
    ) {
        let [event, source, topic, code, reason] = texts;
        let [at_us, offset, timestamp_ms, lsn, value_len, partition] = numbers;
        let reject = Reject {
            lsn: lsn.cast_unsigned(), at_us, event, source, topic, partition: partition as i32, offset, code, reason, schema_id, timestamp_ms,
            key: bytes.clone(), value: bytes, value_len: value_len.cast_unsigned(),
        };
        let written = serde_json::to_vec(&reject).unwrap().len() + 1;
        let counted = reject_bytes(&reject);
        prop_assert!(counted >= written && counted - written < 380, "{written} written, {counted} counted");
        let rows = crate::state::RowsContent { rejects: vec![reject; 3], ..Default::default() };
        prop_assert!(rows_bytes(&rows) >= 3 * written + 8);
    }
}

/// Schemas of a registry by id: the first can serve `Step`, no other can.
fn schema(id: u32) -> FetchedSchema {
    let (kind, text) = match id {
        1 => ("AVRO", r#"{"type":"record","name":"Step","fields":[{"name":"walker","type":"string"}]}"#),
        2 => ("PROTOBUF", r#"syntax = "proto3"; message Step { string walker = 1; }"#),
        3 => ("JSON", r#"{"type":"object"}"#),
        4 => ("AVRO", r#""string""#),
        5 => ("AVRO", r#"{"type":"record","name":"Other","fields":[{"name":"runner","type":"string"}]}"#),
        6 => ("AVRO", r#"{"type":"record","name":"Step","fields":[{"name":"walker","type":"long"}]}"#),
        _ => ("AVRO", "{"),
    };
    FetchedSchema { registry: "http://r".into(), id: id.into(), kind: kind.into(), text: text.into(), references: Vec::new() }
}

/// A record of this schema, of a walker.
fn framed(id: u32) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), b"\x06ann"].concat()
}

/// Offers records of these schemas as the Kafka side does: a schema that is asked for is given, and a
/// partition that stalls says so. Gives the offset where it stalled.
fn offer_framed(house: &House, inlet: &mut EngineInlet, slot: Slot, ids: &[u32]) -> Option<usize> {
    for (offset, id) in ids.iter().enumerate() {
        let value = framed(*id);
        let record = record(slot, i64::try_from(offset).unwrap(), &value);
        loop {
            match inlet.offer(&[record]).stop {
                None => break,
                Some(Stop::NeedSchema { id: wanted, .. }) => {
                    assert_eq!(wanted, SchemaId::Number(*id));
                    if inlet.schema(slot, &schema(*id)).is_err() {
                        assert!(matches!(inlet.offer(&[record]).stop, Some(Stop::Stalled { cause: "schema", .. })));
                        return Some(offset);
                    }
                }
                Some(Stop::Stalled { .. }) => return Some(offset),
                Some(Stop::Full) => apply_all(house),
                stop => panic!("{stop:?}"),
            }
        }
    }
    assert!(inlet.flush());
    apply_all(house);
    None
}

/// One record of another type once stopped its partition for good, whatever `on_bad_record` said.
#[test]
fn a_record_of_an_unusable_schema_follows_the_policy_once_another_was_usable() {
    let ids = [1, 2, 1, 3, 4, 1, 5, 6, 7, 2, 1];
    for (policy, kept) in [(OnBadRecord::Keep, 7), (OnBadRecord::Skip, 0)] {
        let house = House::build();
        let mut inlet = house.avro_inlet("steps", policy);
        let slot = attach(&mut inlet, "steps", 0);
        assert_eq!(offer_framed(&house, &mut inlet, slot, &ids), None);
        assert_eq!(house.steps_of("ann").map(|(steps, _)| steps), Some(4));
        let rejects = rejects(&house);
        assert_eq!(rejects.len(), kept);
        for reject in &rejects {
            let id = ids[usize::try_from(reject.offset).unwrap()];
            assert_eq!((reject.code.as_str(), reject.schema_id), ("schema_unusable", Some(SchemaId::Number(id))));
            assert!(reject.reason.contains(&format!("schema {id} ")), "{}", reject.reason);
        }
    }
    let house = House::build();
    let mut inlet = house.avro_inlet("steps", OnBadRecord::Stop);
    let slot = attach(&mut inlet, "steps", 0);
    assert_eq!(offer_framed(&house, &mut inlet, slot, &ids), Some(1), "the policy stops it");
}

#[test]
fn a_source_whose_first_schema_is_unusable_stops_until_one_is_usable() {
    let house = House::build();
    let mut inlet = house.avro_inlet("steps", OnBadRecord::Keep);
    let (first, second) = (attach(&mut inlet, "steps", 0), attach(&mut inlet, "steps", 1));
    for _ in 0..2 {
        assert_eq!(offer_framed(&house, &mut inlet, first, &[5, 1]), Some(0), "nothing says yet that the source is right");
    }
    assert_eq!(offer_framed(&house, &mut inlet, second, &[1]), None);
    assert_eq!(offer_framed(&house, &mut inlet, first, &[5, 1]), None, "a neighbour showed that it is");
    assert_eq!((house.steps_of("ann").unwrap().0, rejects(&house).len()), (2, 1));
}

/// Also a restart remembers it, by the log alone and by what else the same registry's schemas are used for.
#[test]
fn that_a_schema_was_usable_is_in_the_state() {
    let house = House::build();
    let mut inlet = house.avro_inlet("steps", OnBadRecord::Keep);
    let slot = attach(&mut inlet, "steps", 0);
    assert_eq!(offer_framed(&house, &mut inlet, slot, &[1]), None);
    assert!(house.seat.look(|engine| engine.state().is_readable("steps")));
    // Another source of the registry knows its schemas, and has read none of them.
    let mut other = house.avro_inlet("others", OnBadRecord::Keep);
    let slot = attach(&mut other, "others", 0);
    assert_eq!(offer_framed(&house, &mut other, slot, &[5]), Some(0));
    assert_eq!(offer_framed(&house, &mut other, slot, &[1]), None, "known from the state, never asked for");
    assert!(house.seat.look(|engine| engine.state().is_readable("others")));
    // The same log under another process.
    let mut again = house.avro_inlet("steps", OnBadRecord::Keep);
    let slot = attach(&mut again, "steps", 1);
    assert_eq!(offer_framed(&house, &mut again, slot, &[6]), None);
    assert_eq!(rejects(&house).len(), 1);
}
