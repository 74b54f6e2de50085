//! Reads that take long or wait: bounded in bytes and in number, served by turns, and ended with their connection.

use super::{House, NOW_US, count, get, tag, turn, walkers};
use crate::apply::EnginePort;
use crate::apply::answer_size::ANSWER_BYTES_MAX;
use crate::apply::long_read::LINE_BYTES_MAX;
use crate::apply::seat::Held;
use crate::apply::waits::WAITS_PER_EVENT;
use crate::pipeline::{RegisterOptions, Registry};
use serde_json::{Value as Json, json};
use streamgauge_api::port::{Encoding, KeyText, PushRow, REPLY_BYTES_MAX, Read, ReadOptions, Request, Wait};
use streamgauge_api::{Code, Port, Reply, Tag};

const SHOES_BYTES: usize = 64 << 10;

/// A house where walker `w` has a feature of 64 KiB, and many small ones.
fn shoe_house() -> House {
    let mut payload = walkers(&json!({"shoe": {"op": "last", "params": {"field": "shoes"}}}));
    payload["nodes"][0]["schema"]["fields"]["shoes"] = json!("str");
    payload["nodes"][0]["schema"]["optional_fields"] = json!(["shoes"]);
    let house = house_of(&payload);
    let mut port = house.port();
    let body = format!(r#"{{"walker":"w","shoes":"{}"}}"#, "x".repeat(SHOES_BYTES));
    port.push(tag(99, 0), Encoding::Json, PushRow { event: "Step", body: body.as_bytes() }, Wait::Default);
    let replies = turn(&mut port);
    assert!(matches!(&replies[..], [(_, Reply::Pushed { .. })]), "{replies:?}");
    house
}

fn house_of(payload: &Json) -> House {
    let house = House::build();
    house.seat.with(|engine| {
        let registry = Registry::clone(engine.state().registry());
        let outcome = registry.apply_register(&payload.to_string(), &RegisterOptions::default());
        let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
        engine.define(outcome.next.unwrap(), outcome.effects).unwrap();
    });
    house
}

/// A port, and the seat under the test.
fn seated(house: &House) -> (EnginePort, Held<'_>) {
    (house.port(), house.seat.hold())
}

fn push(port: &mut EnginePort, tag: Tag) {
    port.push(tag, Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"w"}"# }, Wait::Default);
}

/// A read that waits for this LSN.
fn waiting(lsn: u64, wait_ms: u64) -> Request {
    Request::Get(Read { options: ReadOptions { min_lsn: Some(lsn), wait_ms, ..ReadOptions::default() }, ..get("w") })
}

/// Does what there is, and gives every reply of a port.
fn run(house: &House, held: &mut Held<'_>, port: &mut EnginePort) -> Vec<(Tag, Reply)> {
    let mut replies = Vec::new();
    while house.seat.step(held) {
        replies.extend(turn(port));
    }
    replies.extend(turn(port));
    replies
}

#[test]
fn an_answer_that_is_too_large_is_refused_before_it_is_built() {
    let house = shoe_house();
    let (mut port, mut held) = seated(&house);
    port.call(tag(1, 0), Request::BatchGet(vec![get("w"); 65_536]));
    turn(&mut port);
    let mut most = 0;
    while house.seat.step(&mut held) {
        most = most.max(held.long_reads.bytes());
    }
    let replies = turn(&mut port);
    let [(_, Reply::Refused(error, _))] = &replies[..] else { panic!("{} replies", replies.len()) };
    assert_eq!((error.code, &error.more["limit"]), (Code::ResponseTooLarge, &json!(REPLY_BYTES_MAX)));
    assert!(most < REPLY_BYTES_MAX + (8 << 20), "{most} bytes were held of an answer that nobody gets");
    // A matrix read too, whose cells alone say nothing about its bytes.
    let keys = vec![KeyText::Text("w".to_owned()); 9_999];
    port.call(tag(1, 1), Request::GetMany { features: vec!["shoe".to_owned()], keys });
    turn(&mut port);
    let replies = run(&house, &mut held, &mut port);
    let [(_, Reply::Refused(error, _))] = &replies[..] else { panic!("{} replies", replies.len()) };
    assert_eq!(error.code, Code::ResponseTooLarge);
    // And one below the bound is whole.
    port.call(tag(1, 2), Request::BatchGet(vec![get("w"); 500]));
    turn(&mut port);
    let replies = run(&house, &mut held, &mut port);
    assert!(matches!(&replies[..], [(_, Reply::Rows(rows, _))] if rows.len() == 500 && rows.iter().all(Result::is_ok)));
}

#[test]
fn explained_cells_count_with_what_they_take() {
    let many = (0..100).map(|number| (format!("c{number:02}"), json!({"op": "count", "params": {}})));
    let house = house_of(&walkers(&Json::Object(many.collect())));
    let mut port = house.port();
    push(&mut port, tag(1, 0));
    assert_eq!(turn(&mut port).len(), 1);
    let mut held = house.seat.hold();
    let explained = Read { options: ReadOptions { explain: true, ..ReadOptions::default() }, ..get("w") };
    port.call(tag(1, 1), Request::BatchGet(vec![explained; 65_536]));
    turn(&mut port);
    let mut most = 0;
    while house.seat.step(&mut held) {
        most = most.max(held.long_reads.bytes());
    }
    let replies = turn(&mut port);
    let [(_, Reply::Refused(error, _))] = &replies[..] else { panic!("{} replies", replies.len()) };
    assert_eq!(error.code, Code::ResponseTooLarge);
    assert!(most <= ANSWER_BYTES_MAX, "{most}");
}

#[test]
fn answers_that_are_being_read_take_a_budget_together() {
    let house = shoe_house();
    let (mut port, mut held) = seated(&house);
    let one = 300 * SHOES_BYTES;
    for connection in 0..16 {
        port.call(tag(connection, 0), Request::BatchGet(vec![get("w"); 300]));
        turn(&mut port);
    }
    let (mut replies, mut most, mut together) = (0, 0, 0);
    while house.seat.step(&mut held) {
        most = most.max(held.long_reads.bytes());
        together = together.max(held.long_reads.len());
        for (_, reply) in turn(&mut port) {
            let Reply::Rows(rows, _) = reply else { panic!("{reply:?}") };
            assert!(rows.len() == 300 && rows.iter().all(Result::is_ok));
            replies += 1;
        }
    }
    assert_eq!(replies, 16, "who waits has its turn");
    assert!(together > 8, "{together} reads in the line say nothing");
    assert!(most < LINE_BYTES_MAX + one + (16 << 20), "{most} bytes together");
}

#[test]
fn what_is_read_for_a_connection_ends_with_it() {
    let house = shoe_house();
    let (mut port, mut held) = seated(&house);
    let lsn = held.state().lsn();
    port.call(tag(1, 0), Request::BatchGet(vec![get("nobody"); 65_536]));
    port.call(tag(2, 0), Request::BatchGet(vec![get("nobody"); 65_536]));
    port.call(tag(3, 0), waiting(lsn + 1, 30_000));
    port.call(tag(4, 0), waiting(lsn + 1, 30_000));
    turn(&mut port);
    assert!(house.seat.step(&mut held));
    while held.waits.len() < 2 {
        assert!(house.seat.step(&mut held));
    }
    assert_eq!(held.long_reads.len(), 2);
    port.gone(1);
    port.gone(3);
    turn(&mut port);
    for _ in 0..4 {
        house.seat.step(&mut held);
    }
    assert_eq!((held.long_reads.len(), held.waits.len()), (1, 1), "those of the others go on");
    push(&mut port, tag(5, 0));
    let mut answered: Vec<u64> = turn(&mut port).iter().map(|(tag, _)| tag.connection()).collect();
    answered.extend(run(&house, &mut held, &mut port).iter().map(|(tag, _)| tag.connection()));
    answered.sort_unstable();
    assert_eq!(answered, [2, 4, 5]);
    assert_eq!(held.requests_in_work(), 0);
}

#[test]
fn a_connection_that_is_closed_in_the_middle_of_a_turn_loses_what_it_asked_for_behind_its_push() {
    let house = House::build();
    let (mut port, mut held) = seated(&house);
    port.push_batch(tag(1, 0), Encoding::Json, &vec![PushRow { event: "Step", body: br#"{"walker":"w"}"# }; 65_536], Wait::Default);
    port.call(tag(1, 1), Request::BatchGet(vec![get("w"); 65_536]));
    turn(&mut port);
    assert!(house.seat.step(&mut held) && held.is_mid_turn());
    port.gone(1);
    turn(&mut port);
    let replies = run(&house, &mut held, &mut port);
    assert!(matches!(&replies[..], [(_, Reply::Pushed { count: 65_536, .. })]), "{} replies", replies.len());
}

#[test]
fn reads_that_wait_are_answered_in_the_order_of_their_lsns_and_a_few_at_a_time() {
    let house = House::build();
    let (mut port, mut pusher) = (house.port(), house.port());
    let mut held = house.seat.hold();
    let lsn = held.state().lsn();
    // Two thirds wait for the next row, the others for the row after that.
    let all: u64 = 3_000;
    for connection in 0..all {
        port.call(tag(connection, 0), waiting(lsn + 1 + u64::from(connection % 3 == 0), 30_000));
    }
    turn(&mut port);
    while house.seat.step(&mut held) {}
    assert_eq!(held.requests_in_work(), 3_000, "what waits is in work");
    let mut answered = Vec::new();
    for number in 0..2 {
        push(&mut pusher, tag(9, number));
        turn(&mut pusher);
        while house.seat.step(&mut held) {
            let replies = turn(&mut port);
            // Those of a slice, and those of its turn among reads.
            assert!(replies.len() <= WAITS_PER_EVENT, "{} reads were answered in one event", replies.len());
            for (tag, reply) in replies {
                let Reply::Row(row, freshness) = reply else { panic!("{reply:?}") };
                assert!(count(&row) > i64::from(number) && freshness.lsn > lsn + u64::from(number));
                answered.push(tag.connection());
            }
        }
        let expected = if number == 0 { all * 2 / 3 } else { all };
        assert_eq!(answered.len() as u64, expected, "after row {number}");
    }
    let (first, second) = answered.split_at(2_000);
    assert!(first.is_sorted() && second.is_sorted(), "the oldest first");
    assert_eq!(held.requests_in_work(), 0);
}

#[test]
fn reads_that_waited_long_enough_are_told_so_by_deadline() {
    let house = House::build();
    let (mut port, mut held) = seated(&house);
    let lsn = held.state().lsn();
    for connection in 0..500 {
        port.call(tag(connection, 0), waiting(lsn + 1 + connection, 1_000 + connection));
    }
    turn(&mut port);
    while house.seat.step(&mut held) {}
    house.clock.set(NOW_US + 1_249_000);
    held.tick();
    let replies = {
        let mut replies = turn(&mut port);
        replies.extend(run(&house, &mut held, &mut port));
        replies
    };
    let told: Vec<u64> = replies.iter().map(|(tag, _)| tag.connection()).collect();
    assert_eq!(told, (0..250).collect::<Vec<u64>>());
    assert!(replies.iter().all(|(_, reply)| matches!(reply, Reply::Refused(error, _) if error.code == Code::MinLsnNotReached)));
    assert_eq!(held.requests_in_work(), 250);
}

#[test]
fn a_read_that_waits_is_a_fence_on_its_connection_and_others_end_its_wait() {
    let house = House::build();
    let (mut port, mut other) = (house.port(), house.port());
    let lsn = house.seat.look(|engine| engine.state().lsn());
    // What is applied is not waited for, and who does not wait is refused at once.
    assert!(!port.is_fence(&waiting(lsn, 1_000)) && !port.is_fence(&waiting(lsn + 1, 0)));
    assert!(port.is_fence(&waiting(lsn + 1, 1_000)));
    port.call(tag(1, 0), waiting(lsn + 1, 1_000));
    assert!(turn(&mut port).is_empty());
    push(&mut other, tag(2, 0));
    assert_eq!(turn(&mut other).len(), 1);
    let replies = turn(&mut port);
    let [(_, Reply::Row(row, freshness))] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((count(row), freshness.lsn), (1, lsn + 1), "it is answered with the row that it waited for");
}

#[test]
fn the_time_of_a_round_is_looked_at_after_each_heavy_step() {
    let house = House::build();
    let mut port = house.port();
    push(&mut port, tag(1, 0));
    assert_eq!(turn(&mut port).len(), 1);
    let mut held = house.seat.hold();
    for connection in 0..16 {
        port.call(tag(connection, 1), Request::BatchGet(vec![get("w"); 60_000]));
    }
    turn(&mut port);
    // Each of them takes a slice: with the first, or the second where that came first to its number of entries, the time is over.
    assert!(house.seat.step(&mut held));
    assert!(held.long_reads.len() <= 2, "{} reads of 60,000 entries were begun in one event", held.long_reads.len());
}
