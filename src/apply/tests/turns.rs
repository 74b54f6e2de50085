//! Everybody gets a turn: reads beside a large frame, housekeeping beside endless work, who waits for the seat,
//! other requests beside a read of many keys, and declarations in the order of their connection.

use super::{House, NOW_US, count, get, tag, turn, walkers};
use crate::apply::seat::{TICK_AFTER_US, TURNS_PER_TICK};
use serde_json::json;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use streamgauge_api::port::{Encoding, KeyText, PushRow, Request, Wait};
use streamgauge_api::{Code, Inlet, Port, RawRecord, Reply};

const BATCH_ROWS: usize = 65_536;
const BODY: &[u8] = br#"{"walker":"w"}"#;

/// Events until a port's reply is there, at most `most`.
fn steps_until_reply(
    house: &House,
    held: &mut crate::apply::seat::Held<'_>,
    port: &mut crate::apply::EnginePort,
    most: usize,
) -> (usize, Vec<(streamgauge_api::Tag, Reply)>) {
    for steps in 0..=most {
        let replies = turn(port);
        if !replies.is_empty() {
            return (steps, replies);
        }
        assert!(house.seat.step(held), "nothing is left to do after {steps} events, and no reply came");
    }
    panic!("no reply after {most} events");
}

fn push_many(port: &mut crate::apply::EnginePort, tag: streamgauge_api::Tag) {
    let rows = vec![PushRow { event: "Step", body: BODY }; BATCH_ROWS];
    port.push_batch(tag, Encoding::Json, &rows, Wait::Default);
}

#[test]
fn reads_of_others_run_beside_a_large_push_and_its_own_connection_reads_its_end() {
    let house = House::build();
    let before = house.facts.applied_lsn.load(Ordering::Relaxed);
    let (mut pusher, mut reader) = (house.port(), house.port());
    let mut held = house.seat.hold();
    push_many(&mut pusher, tag(1, 0));
    assert!(turn(&mut pusher).is_empty());
    assert!(house.seat.step(&mut held) && held.is_mid_turn(), "a frame of 65,536 rows is more than one slice");

    // Another port, another connection of the same port, and the connection that pushed.
    reader.call(tag(1, 0), Request::Get(get("w")));
    assert!(turn(&mut reader).is_empty());
    pusher.call(tag(2, 0), Request::Get(get("w")));
    pusher.call(tag(1, 1), Request::Get(get("w")));
    assert!(turn(&mut pusher).is_empty());
    for (port, own) in [(&mut reader, tag(1, 0)), (&mut pusher, tag(2, 0))] {
        let (steps, replies) = steps_until_reply(&house, &mut held, port, 6);
        assert!(held.is_mid_turn(), "the reply came with the frame's end, after {steps} events");
        let [(answered, Reply::Row(row, freshness))] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!(*answered, own);
        // A prefix of the rows, and the LSN of its last one.
        assert_eq!(count(row), i64::try_from(freshness.lsn - before).unwrap());
        assert!(count(row) > 0 && count(row) < BATCH_ROWS as i64, "{row:?}");
    }
    let mut rest = Vec::new();
    while house.seat.step(&mut held) {
        rest.extend(turn(&mut pusher));
    }
    rest.extend(turn(&mut pusher));
    let [(first, Reply::Pushed { ack_lsn, count: rows, .. }), (second, Reply::Row(row, _))] = &rest[..] else { panic!("{rest:?}") };
    assert_eq!((*first, *second, *rows as usize), (tag(1, 0), tag(1, 1), BATCH_ROWS));
    assert_eq!((count(row), *ack_lsn), (BATCH_ROWS as i64, before + BATCH_ROWS as u64));
}

#[test]
fn pushes_behind_a_large_one_keep_their_order() {
    let house = House::build();
    let mut port = house.port();
    let mut held = house.seat.hold();
    push_many(&mut port, tag(1, 0));
    assert!(turn(&mut port).is_empty());
    assert!(house.seat.step(&mut held) && held.is_mid_turn());
    for number in 1..20 {
        port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
        port.call(tag(1, 100 + number), Request::Get(get("w")));
        assert!(turn(&mut port).is_empty());
        house.seat.step(&mut held);
    }
    let mut replies = Vec::new();
    while house.seat.step(&mut held) {
        replies.extend(turn(&mut port));
    }
    replies.extend(turn(&mut port));
    assert_eq!(replies.len(), 1 + 19 * 2);
    for (at, pair) in (1..).zip(replies[1..].chunks(2)) {
        let [(pushed, Reply::Pushed { .. }), (read, Reply::Row(row, _))] = pair else { panic!("{pair:?}") };
        assert_eq!((*pushed, *read, count(row)), (tag(1, at), tag(1, 100 + at), BATCH_ROWS as i64 + i64::from(at)));
    }
}

#[test]
fn housekeeping_has_its_turn_beside_endless_work() {
    let house = House::build();
    let mut port = house.port();
    let mut held = house.seat.hold();
    let mut beats = 0;
    for number in 0..u16::try_from(TURNS_PER_TICK).unwrap() * 8 {
        house.clock.set(NOW_US + i64::from(number));
        // Every event leaves more work behind than it did.
        port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
        turn(&mut port);
        let before = house.facts.heartbeat_us.load(Ordering::Relaxed);
        assert!(house.seat.step(&mut held));
        beats += u32::from(house.facts.heartbeat_us.load(Ordering::Relaxed) != before);
    }
    assert!(beats >= 7, "{beats} beats in {} events", TURNS_PER_TICK * 8);
}

/// Thirty-two events of heavy rows are a long time: then housekeeping comes earlier.
#[test]
fn housekeeping_comes_after_ten_milliseconds_of_work_however_few_events_that_was() {
    let house = House::build();
    let mut port = house.port();
    let mut held = house.seat.hold();
    let mut quiet = 0;
    for number in 0..u16::try_from(TURNS_PER_TICK).unwrap() * 2 {
        // Three events take as long as one may wait.
        house.clock.set(NOW_US + i64::from(number) * TICK_AFTER_US / 3);
        port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
        turn(&mut port);
        let before = house.facts.heartbeat_us.load(Ordering::Relaxed);
        assert!(house.seat.step(&mut held));
        quiet = if house.facts.heartbeat_us.load(Ordering::Relaxed) == before { quiet + 1 } else { 0 };
        assert!(quiet <= 3, "{quiet} events without housekeeping");
    }
}

#[test]
fn who_waits_for_the_seat_gets_it_between_two_events() {
    let house = Arc::new(House::build());
    let (waits, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut port = house.port();
    let mut held = house.seat.hold();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            waits.store(true, Ordering::Release);
            house.seat.with(|_| served.store(true, Ordering::Release));
        });
        let mut events = 0;
        while !served.load(Ordering::Acquire) {
            for number in 0..100 {
                port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
            }
            turn(&mut port);
            assert!(house.seat.step(&mut held));
            held.make_way();
            events += usize::from(waits.load(Ordering::Acquire));
            assert!(events < 1_000, "there was always work, and nobody else had the seat for {events} events");
        }
        // Nobody takes from the inbox any more: the visitor's way out has to be free.
        drop(held);
    });
}

#[test]
fn a_read_of_many_keys_is_served_beside_others_as_of_one_moment() {
    let house = House::build();
    let (mut bulk, mut other) = (house.port(), house.port());
    other.push(tag(9, 0), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
    assert_eq!(turn(&mut other).len(), 1);
    let mut held = house.seat.hold();
    let lsn = held.state().lsn();
    bulk.call(tag(1, 0), Request::BatchGet(vec![get("w"); BATCH_ROWS]));
    assert!(turn(&mut bulk).is_empty());
    assert!(house.seat.step(&mut held) && held.has_long_reads());
    other.push(tag(9, 1), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
    other.call(tag(9, 2), Request::Get(get("w")));
    turn(&mut other);
    // The slice may be over between the two.
    let (_, mut replies) = steps_until_reply(&house, &mut held, &mut other, 4);
    if replies.len() == 1 {
        replies.extend(steps_until_reply(&house, &mut held, &mut other, 4).1);
    }
    assert!(matches!(&replies[..], [(_, Reply::Pushed { .. }), (_, Reply::Row(..))]), "{replies:?}");
    assert!(held.has_long_reads(), "the read was over before anybody else had a turn");
    // Another registry: it begins again, with the features that are declared now.
    other.call(tag(9, 3), Request::Register(walkers(&json!({"m": {"op": "count", "params": {}}})).to_string()));
    turn(&mut other);
    let (_, replies) = steps_until_reply(&house, &mut held, &mut bulk, 1_000);
    let [(_, Reply::Rows(rows, freshness))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(rows.len(), BATCH_ROWS);
    assert!(rows.iter().all(|row| row.as_ref().is_ok_and(|row| row.present && row.names.len() == 2)), "rows of two registries");
    // The lowest LSN that any entry saw: that of the beginning, which was after the declaration.
    assert!(freshness.lsn > lsn + 1 && freshness.lsn <= held.state().lsn(), "{freshness:?}");
}

#[test]
fn a_read_that_the_registry_never_lets_finish_is_refused() {
    let house = House::build();
    let (mut bulk, mut other) = (house.port(), house.port());
    let mut held = house.seat.hold();
    bulk.call(tag(1, 0), Request::BatchGet(vec![get("w"); BATCH_ROWS]));
    turn(&mut bulk);
    for round in 0..200 {
        let more = if round % 2 == 0 {
            json!({"m": {"op": "count", "params": {}}})
        } else {
            json!({"l": {"op": "count", "params": {}}, "m": {"op": "count", "params": {}}})
        };
        let mut payload = walkers(&more);
        payload["force"] = json!(true);
        other.call(tag(9, round), Request::Register(payload.to_string()));
        turn(&mut other);
        house.seat.step(&mut held);
        house.seat.step(&mut held);
        if let [(_, reply)] = &turn(&mut bulk)[..] {
            assert!(matches!(reply, Reply::Refused(error, _) if error.code == Code::Overloaded), "{reply:?}");
            return;
        }
    }
    panic!("it is read still");
}

#[test]
fn a_declaration_stands_in_the_order_of_its_connection_and_blocks_no_io_thread() {
    let house = House::build();
    let mut port = house.port();
    let mut held = house.seat.hold();
    port.push(tag(1, 0), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
    let mut payload = walkers(&json!({}));
    payload["nodes"][0]["schema"]["fields"]["shoes"] = json!("str");
    payload["nodes"][0]["schema"]["optional_fields"] = json!(["shoes"]);
    let register = Request::Register(payload.to_string());
    assert!(register.is_fence());
    port.call(tag(1, 1), register);
    // This test holds the seat: a port that waited for it would never come back.
    assert!(turn(&mut port).is_empty());
    while house.seat.step(&mut held) {}
    let version = house.facts.registry_version.load(Ordering::Relaxed);
    let replies = turn(&mut port);
    let [(first, Reply::Pushed { registry_version, .. })] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((*first, *registry_version), (tag(1, 0), version - 1), "the push came before the declaration");
    // The declaration is answered when it is durable; rows behind it are decoded with it.
    let written = held.state().lsn();
    held.hear(crate::apply::News::Durable(written));
    assert!(matches!(&turn(&mut port)[..], [(second, Reply::Registered(_))] if *second == tag(1, 1)));
    port.push(tag(1, 2), Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"w","shoes":"red"}"# }, Wait::Default);
    turn(&mut port);
    while house.seat.step(&mut held) {}
    assert!(matches!(&turn(&mut port)[..], [(_, Reply::Pushed { .. })]));
}

#[test]
fn a_push_batch_that_would_grow_beyond_a_frame_is_refused() {
    let house = House::build();
    let mut port = house.port();
    // One row of 4 KB of text each: 20,000 of them are 80 MB.
    let body = format!(r#"{{"walker":"w{}"}}"#, "x".repeat(4000));
    let rows = vec![PushRow { event: "Step", body: body.as_bytes() }; 20_000];
    port.push_batch(tag(1, 0), Encoding::Json, &rows, Wait::Default);
    port.push(tag(1, 1), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
    let replies = turn(&mut port);
    let [(_, Reply::Refused(error, _)), (_, Reply::Pushed { count: 1, .. })] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(error.code, Code::BatchTooLarge);
    assert_eq!(house.steps_of("w").map(|(n, _)| n), Some(1));
}

#[test]
fn keys_of_a_matrix_read_are_found_in_slices_too() {
    let house = House::build();
    let mut port = house.port();
    port.push(tag(1, 0), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
    let keys = (0..9_999).map(|number| KeyText::Text(format!("nobody-{number}"))).chain([KeyText::Text("w".to_owned())]).collect();
    port.call(tag(1, 1), Request::GetMany { features: vec!["n".to_owned()], keys });
    let mut replies = turn(&mut port);
    let mut held = house.seat.hold();
    while house.seat.step(&mut held) {}
    replies.extend(turn(&mut port));
    let [(_, Reply::Pushed { .. }), (_, Reply::Many(found))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, "w");
}

/// For tests that offer records.
pub(super) fn record(slot: streamgauge_api::Slot, offset: i64, value: &[u8]) -> RawRecord<'_> {
    RawRecord { slot, offset, epoch: 0, timestamp_ms: NOW_US / 1000, key: None, value: Some(value), headers: None }
}

#[test]
fn packets_of_kafka_rows_have_their_turn_beside_endless_requests() {
    let house = House::build();
    let (mut inlet, mut port) = (house.inlet("steps"), house.port());
    let slot = super::inlets::attach(&mut inlet, "steps", 0);
    let mut held = house.seat.hold();
    inlet.offer(&[record(slot, 0, BODY)]);
    assert!(inlet.flush());
    for number in 0..8 {
        port.push(tag(1, number), Encoding::Json, PushRow { event: "Step", body: BODY }, Wait::Default);
        turn(&mut port);
        assert!(house.seat.step(&mut held));
        if house.facts.queued_rows.load(Ordering::Relaxed) == 0 {
            return;
        }
    }
    panic!("requests were served eight times in a row");
}
