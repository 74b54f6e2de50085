//! Records arrive once, in order, whatever stops and starts in between.

use super::{House, LIMIT};
use crate::config::{Start, Topics};
use crate::ext::{Assignment, Batch, Client, Inbox, code};
use crate::{Producer, settings};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

#[test]
fn records_come_with_key_header_and_time_and_resume_at_the_stored_position() {
    let mut house = House::new(&[("t", 2)]);
    house.produce("t", 0, 0..10);
    house.produce("t", 1, 0..5);
    house.start();
    house.until("first records", |engine| engine.seen.len() == 15);
    assert_eq!(house.offsets("t", 0), (0..10).collect::<Vec<_>>());
    let record = house.engine.lock().seen.iter().find(|seen| seen.partition == 0 && seen.offset == 3).cloned().unwrap();
    assert_eq!((record.value.as_deref(), record.header.as_deref()), (Some("3"), Some("x")));
    house.stop();
    house.produce("t", 0, 10..13);
    house.start();
    house.until("records after the restart", |engine| engine.seen.len() == 18);
    house.stop();
    assert_eq!(house.offsets("t", 0), (0..13).collect::<Vec<_>>());
    let times: Vec<i64> = house.engine.lock().state.values().map(|position| position.record_time_ms).collect();
    assert_eq!(times, [1012, 1004]);
}

/// A pause at the end of a log loses one record or ends in a false out-of-range; unassign and assign at our position must not. Regression for the client's
/// position counting an end of partition like a record.
#[test]
fn stop_and_go_at_the_end_of_a_log_reads_on_without_loss_or_alarm() {
    let house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..10);
    let source = house.source.clone();
    let client = Client::new(&settings::reader(&source, "x", settings::Budget::share(64 << 20, 1, 1)), Arc::new(Inbox::default())).unwrap();
    let mut batch = Batch::new();
    let mut next = 0i64;
    let read_to_end = |client: &Client, batch: &mut Batch, next: &mut i64| {
        let deadline = Instant::now() + LIMIT;
        loop {
            assert!(Instant::now() < deadline, "no end of partition");
            client.drain(batch, Duration::from_millis(50));
            for message in batch.messages(0) {
                match message.code() {
                    0 => {
                        assert_eq!(message.offset(), *next);
                        *next += 1;
                    }
                    code::PARTITION_EOF => {
                        assert_eq!(message.offset(), *next);
                        return;
                    }
                    code => panic!("{code}: {}", message.error_text()),
                }
            }
        }
    };
    let at = |offset| [Assignment { topic: "t", partition: 0, offset, epoch: -1 }];
    client.assign(&at(0)).unwrap();
    read_to_end(&client, &mut batch, &mut next);
    for round in 0..20 {
        client.unassign(&[("t", 0)]).unwrap();
        let more = if round % 3 == 0 { 0 } else { 3 };
        house.produce("t", 0, next..next + more);
        client.assign(&at(next)).unwrap();
        read_to_end(&client, &mut batch, &mut next);
    }
    assert_eq!(next, 10 + 13 * 3);
}

#[test]
fn a_full_inlet_holds_unassigns_and_loses_nothing() {
    let mut house = House::new(&[("t", 3)]);
    for partition in 0..3 {
        house.produce("t", partition, 0..5000);
    }
    house.engine.lock().room = Some(700);
    house.start();
    house.until("the first 700", |engine| engine.seen.len() == 700);
    // Long enough for the press: everything is unassigned.
    house.until_unassigned();
    house.engine.lock().room = Some(1);
    house.until("one more", |engine| engine.seen.len() == 701);
    for step in [13, 999, 4096] {
        let before = house.engine.lock().seen.len();
        house.engine.lock().room = Some(step);
        house.until("a little room", |engine| engine.seen.len() == before + step);
    }
    house.engine.lock().room = None;
    house.until("all", |engine| engine.seen.len() == 15_000);
    for partition in 0..3 {
        assert_eq!(house.offsets("t", partition), (0..5000).collect::<Vec<_>>());
    }
    let counters = house.running.as_ref().unwrap().counters();
    assert!(counters[0].1.back_pressures.load(Ordering::Relaxed) >= 1);
    house.stop();
}

#[test]
fn a_regex_takes_new_topics_in_from_their_first_record() {
    let mut house = House::new(&[("clicks-eu", 1), ("other", 1)]);
    house.source.topics = Topics::matching("clicks-.*").unwrap();
    house.source.start = Start::Latest;
    house.produce("clicks-eu", 0, 0..5);
    house.produce("other", 0, 0..5);
    house.start();
    house.until("attached", |engine| !engine.attached.is_empty());
    house.produce("clicks-eu", 0, 5..8);
    house.until("records after the start", |engine| engine.seen.len() == 3);
    assert_eq!(house.offsets("clicks-eu", 0), [5, 6, 7]);
    house.stop();
    // Made while nothing ran: the start policy was used before, so it begins at 0.
    house.mock.create_topic("clicks-us", 1);
    house.produce("clicks-us", 0, 0..4);
    house.start();
    house.until("the new topic", |engine| engine.seen.len() == 7);
    house.stop();
    assert_eq!(house.offsets("clicks-us", 0), [0, 1, 2, 3]);
    assert_eq!(house.offsets("other", 0), [0i64; 0]);
}

#[test]
fn a_broker_that_goes_and_comes_back_needs_no_intervention() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..5);
    house.start();
    house.until("before", |engine| engine.seen.len() == 5);
    house.mock.set_up(false);
    std::thread::sleep(Duration::from_millis(1500));
    house.mock.set_up(true);
    house.produce("t", 0, 5..9);
    house.until("after", |engine| engine.seen.len() == 9);
    assert_eq!(house.open_incident(), None);
    house.stop();
    assert_eq!(house.offsets("t", 0), (0..9).collect::<Vec<_>>());
}

/// librdkafka asks for the group's coordinator at each change of that broker's state, and each wish for a broker made it forget its back-off: 8,000 attempts
/// a second and most of a core while the only broker was away.
#[test]
fn a_broker_that_is_away_is_not_tried_in_a_loop() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..5);
    house.start();
    house.until("before", |engine| engine.seen.len() == 5);
    let counters = house.running.as_ref().unwrap().counters()[0].1.clone();
    let connects = || counters.connects.load(Ordering::Relaxed);
    house.until("the first count", |_engine| connects() > 0);
    house.mock.set_up(false);
    let (begun, before) = (Instant::now(), connects());
    house.until("three more attempts", |_engine| connects() >= before + 3);
    let halves = begun.elapsed().as_millis() as u64 / 500 + 1;
    // Three broker threads: the bootstrap address, the broker, the group's coordinator.
    assert!(connects() - before <= 3 * (halves + 1), "{} attempts in {halves} half seconds", connects() - before);
    house.mock.set_up(true);
    house.produce("t", 0, 5..9);
    house.until("after", |engine| engine.seen.len() == 9);
    house.stop();
}

#[test]
fn gauges_show_the_log_end_and_the_group_is_committed() {
    let mut house = House::new(&[("t", 1)]);
    house.produce("t", 0, 0..50);
    house.start();
    house.until("all", |engine| engine.seen.len() == 50);
    let gauge = house.board.partitions()[0].clone();
    house.until("the end is known", |_engine| {
        gauge.end_known_us.load(Ordering::Relaxed) > 0 && gauge.end_offset.load(Ordering::Relaxed) == 50
    });
    assert_eq!(gauge.read_records.load(Ordering::Relaxed), 50);
    assert!(gauge.reading.load(Ordering::Relaxed));
    let counters = house.running.as_ref().unwrap().counters()[0].1.clone();
    house.stop();
    assert!(counters.commits.load(Ordering::Relaxed) >= 1, "no group commit");
}

#[test]
fn tombstones_and_missing_keys_are_told_apart_from_empty_ones() {
    let house = House::new(&[("t", 1)]);
    let mut producer = Producer::new(house.mock.bootstrap(), &[]).unwrap();
    producer.send("t", Some(0), Some(b"k"), None, None, &[]).unwrap();
    producer.send("t", Some(0), None, Some(b""), None, &[("a", None), ("a", Some(b"2"))]).unwrap();
    producer.flush(LIMIT).unwrap();
    let client =
        Client::new(&settings::reader(&house.source, "x", settings::Budget::share(64 << 20, 1, 1)), Arc::new(Inbox::default())).unwrap();
    client.assign(&[Assignment { topic: "t", partition: 0, offset: 0, epoch: -1 }]).unwrap();
    let mut batch = Batch::new();
    let mut seen = Vec::new();
    let deadline = Instant::now() + LIMIT;
    while seen.len() < 2 && Instant::now() < deadline {
        client.drain(&mut batch, Duration::from_millis(50));
        for message in batch.messages(0).filter(|message| message.code() == 0) {
            use streamgauge_api::inlet::Headers;
            let mut headers = Vec::new();
            message.visit(&mut |name, value| headers.push((name.to_owned(), value.map(<[u8]>::to_vec))));
            let last = message.last("a").map(|value| value.map(<[u8]>::to_vec));
            seen.push((message.key().map(<[u8]>::to_vec), message.value().map(<[u8]>::to_vec), headers, last));
        }
    }
    let header = |value: Option<&[u8]>| ("a".to_owned(), value.map(<[u8]>::to_vec));
    assert_eq!(seen[0], (Some(b"k".to_vec()), None, vec![], None));
    assert_eq!(seen[1], (None, Some(vec![]), vec![header(None), header(Some(b"2"))], Some(Some(b"2".to_vec()))));
}

impl House {
    fn until_unassigned(&self) {
        self.until("unassigned", |_engine| self.board.partitions().iter().all(|gauge| !gauge.reading.load(Ordering::Relaxed)));
    }
}
