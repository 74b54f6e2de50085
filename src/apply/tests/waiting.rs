//! Rows behind a row that waits go on: at the memory limit deletes and what needs no room are applied at once, wherever they
//! stand in their topic; what grows gets in when there is room; rows of one key keep their order; and each record counts
//! once, wherever the process ends in between.
//!
//! A topic is a list of records here, read as a connector does: from the position that `attach` gives. Engines stand over
//! a real log in a folder; one that is dropped is one that was killed, and whatever it wrote is replayed and compared.

use super::inlets::{attach, offer_all};
use super::turns;
use super::{House, NOW_US, declare_with, options, tag, turn, walkers};
use crate::apply::incidents::Subject;
use crate::apply::work::InletId;
use crate::apply::{EngineInlet, EngineOptions, Facts};
use crate::pipeline::RegisterOptions;
use crate::recovery::{Attempts, Recovered, recover};
use crate::state::{FROZEN_SHARE, State};
use crate::storage::Disk;
use crate::wal::{WalOptions, WalWriter};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use streamgauge_api::decision::GoOn;
use streamgauge_api::inlet::ReadBefore;
use streamgauge_api::port::{KeyText, Read, ReadOptions, Request};
use streamgauge_api::source::{Incident, IncidentKind};
use streamgauge_api::{Clock, Code, Inlet, Port, Position, RawRecord, Slot, Stop};

/// Keys that are there when the limit is set,
const ELDERS: usize = 12_000;
/// and what is left of it then: for parts of the index that grow, not for many keys.
const LEFT_BYTES: u64 = 48 << 10;

/// A record: its key, and whether it is a row or forgets the key.
type Step = (String, bool);

struct Topic {
    folder: tempfile::TempDir,
    steps: Vec<Step>,
    memory_max_bytes: u64,
}

/// One life of a process that reads the topic.
struct Life {
    house: House,
    inlet: EngineInlet,
    slot: Slot,
    /// The next offset to offer.
    next: usize,
}

fn up(key: String) -> Step {
    (key, true)
}

fn gone(key: String) -> Step {
    (key, false)
}

impl Topic {
    /// A topic whose elders are applied, with what is left of the limit behind them.
    fn of_elders(more: Vec<Step>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let elders: Vec<Step> = (0..ELDERS).map(|number| up(format!("elder-{number}"))).collect();
        let mut topic = Self { folder, steps: elders, memory_max_bytes: 1 << 30 };
        let mut life = topic.live();
        life.read_all(&topic);
        let bytes = life.house.seat.look(|engine| engine.state().bytes() as u64);
        let share = FROZEN_SHARE as u64;
        topic.memory_max_bytes = (bytes + LEFT_BYTES) * share / (share - 1);
        drop(life);
        topic.steps.extend(more);
        topic
    }

    fn recovered(&self) -> Recovered {
        let folder = self.folder.path();
        let mut attempts = Attempts::open(&Disk, folder, "1");
        recover(&Disk, &folder.join("wal"), &folder.join("snapshots"), &Facts::default(), &mut attempts).unwrap()
    }

    /// What the log says.
    fn replayed(&self) -> State {
        self.recovered().state
    }

    fn live(&self) -> Life {
        let Recovered { state, start, .. } = self.recovered();
        let fresh = state.registry().events.is_empty();
        let wal = WalOptions { segment_bytes: 1 << 20, ..WalOptions::default() };
        let log = WalWriter::start(Disk, &self.folder.path().join("wal"), start, wal, NOW_US).unwrap();
        let options = EngineOptions { memory_max_bytes: self.memory_max_bytes, ..options() };
        let house = House::over_log(NOW_US, state, options, None, log);
        if fresh {
            let features = json!({"h": {"op": "count", "params": {"window": "1h"}}, "d": {"op": "count", "params": {"window": "1d"}}});
            house.seat.with(|engine| declare_with(engine, &features));
        }
        let mut inlet = house.keyed_inlet("steps");
        let slot = attach(&mut inlet, "steps", 0);
        let next = house.seat.look(|engine| engine.state().partitions()[slot.0 as usize].position.offset) as usize;
        Life { house, inlet, slot, next }
    }

    /// What each key's count is when every record is in.
    fn counts(&self) -> BTreeMap<&str, i64> {
        let mut counts = BTreeMap::new();
        for (key, is_row) in &self.steps {
            match is_row {
                true => *counts.entry(key.as_str()).or_default() += 1,
                false => drop(counts.remove(key.as_str())),
            }
        }
        counts
    }
}

impl Life {
    /// Offers what the inlet takes of the next records, and hands it over.
    fn offer(&mut self, topic: &Topic, most: usize) {
        let to = topic.steps.len().min(self.next + most);
        let records: Vec<RawRecord<'_>> = (self.next..to).map(|offset| record(topic, self.slot, offset, 0)).collect();
        let offered = self.inlet.offer(&records);
        assert!(matches!(offered.stop, None | Some(Stop::Full)), "{offered:?}");
        self.next += offered.taken;
        if self.next == topic.steps.len() {
            assert!(self.inlet.end_of_partition(self.slot, topic.steps.len() as i64));
        }
        let _kept = self.inlet.flush();
    }

    /// One event of the seat.
    fn step(&self) -> bool {
        let mut held = self.house.seat.hold();
        self.house.seat.step(&mut held)
    }

    /// Half a second passes.
    fn pass(&self) {
        self.house.clock.set(self.house.clock.now_us() + 500_000);
        self.house.seat.with(|engine| engine.tick());
    }

    fn offset(&self) -> i64 {
        self.house.seat.look(|engine| engine.state().partitions()[self.slot.0 as usize].position.offset)
    }

    fn waiting(&self) -> usize {
        let runs =
            self.house.seat.look(|engine| engine.state().waiting_of(self.slot).map_or(Vec::new(), |waiting| waiting.runs().to_vec()));
        runs.iter().map(|(from, to)| (to - from) as usize).sum()
    }

    /// Reads to the end of the topic, and until nothing moves any more.
    fn read_all(&mut self, topic: &Topic) {
        let mut idle = 0;
        while idle < 3 {
            let before = (self.next, self.house.seat.look(|engine| engine.state().lsn()));
            self.offer(topic, 500);
            while self.step() {}
            let after = (self.next, self.house.seat.look(|engine| engine.state().lsn()));
            if before == after {
                idle += 1;
                self.pass();
            }
        }
    }

    /// An operator decides about the partition; so many records that waited are lost by it.
    fn decide(&mut self, before: &ReadBefore, position: Option<Position>, reached: Option<Position>, lost: i64) {
        let key = self.house.seat.look(|engine| engine.state().partitions()[self.slot.0 as usize].key.clone());
        let told = format!("{lost} records that waited");
        assert!(lost > 10 && lost <= before.waiting(0..before.reached.offset), "{told}");
        let decided = GoOn { key, position, reached, incident: IncidentKind::SourceGap, lost: Some(told.clone()) };
        self.inlet.go_on(self.slot, &decided).unwrap();
        let gaps = self.house.seat.look(|engine| engine.state().gaps().to_vec());
        assert_eq!(gaps.last().map(|gap| &gap.lost), Some(&told));
    }

    /// Every record is in the table, once, but for those of these offsets; and so says the log.
    fn assert_in_but(&self, topic: &Topic, is_lost: impl Fn(i64) -> bool, what: &str) {
        let mut counts: BTreeMap<&str, i64> = topic.counts();
        for (offset, (key, is_row)) in (0..).zip(&topic.steps) {
            assert!(!is_lost(offset) || *is_row, "rows of newcomers wait");
            if is_lost(offset) {
                *counts.get_mut(key.as_str()).unwrap() -= 1;
            }
        }
        for (key, count) in counts {
            assert_eq!(self.count(key).unwrap_or(0), count, "{key} {what}");
        }
        assert_eq!(topic.replayed().fingerprint(), self.house.seat.with(|engine| engine.state().fingerprint()), "{what}");
    }

    fn count(&self, key: &str) -> Option<i64> {
        self.house.steps_of(key).map(|(n, _)| n)
    }

    /// Every record is in the table, once.
    fn assert_all_in(&self, topic: &Topic, what: &str) {
        assert_eq!((self.waiting(), self.offset()), (0, topic.steps.len() as i64), "{what}");
        let counts = topic.counts();
        let keys: BTreeSet<&str> = topic.steps.iter().map(|(key, _)| key.as_str()).collect();
        for key in keys {
            assert_eq!(self.count(key), counts.get(key).copied(), "{key} {what}");
        }
        let bytes = self.house.seat.look(|engine| engine.state().bytes() as u64);
        assert!(bytes <= topic.memory_max_bytes, "{bytes} of {} {what}", topic.memory_max_bytes);
        assert!(!self.house.facts.incidents.is_present(IncidentKind::WriteStall, &Subject::source("steps")), "{what}");
    }
}

fn record(topic: &Topic, slot: Slot, offset: usize, epoch: i32) -> RawRecord<'_> {
    let (key, is_row) = &topic.steps[offset];
    RawRecord {
        slot,
        offset: offset as i64,
        epoch,
        timestamp_ms: NOW_US / 1000 - 60_000 + offset as i64,
        key: Some(key.as_bytes()),
        value: is_row.then_some(b"{}"),
        headers: None,
    }
}

/// Rows of newcomers, two each, in front of tombstones of elders.
fn newcomers_before_tombstones(newcomers: usize, tombstones: usize) -> Vec<Step> {
    let newcomer = |number: usize| up(format!("newcomer-{number}"));
    let rows = (0..newcomers).map(newcomer).chain((0..newcomers).map(newcomer));
    rows.chain((0..tombstones).map(|number| gone(format!("elder-{number}")))).collect()
}

#[test]
fn deletes_behind_rows_that_wait_go_on_and_make_the_room_that_these_wait_for() {
    let topic = Topic::of_elders(newcomers_before_tombstones(750, 6_000));
    let mut life = topic.live();
    // As far as the newcomers: many of them wait.
    while life.next < ELDERS + 1_500 {
        let left = ELDERS + 1_500 - life.next;
        life.offer(&topic, left.min(500));
        while life.step() {}
    }
    let waiting = life.waiting();
    assert!(waiting > 300, "{waiting} rows wait, the limit was not reached");
    assert!(life.offset() < (ELDERS + 1_500) as i64, "the position stands in front of what waits");
    let incident = Subject::source("steps");
    assert!(life.house.facts.incidents.is_open(IncidentKind::WriteStall, &incident));
    assert_eq!(life.count("elder-7"), Some(1));
    // The tombstones behind them go past them, and no time has to pass until what waits is in.
    while life.next < topic.steps.len() {
        life.offer(&topic, 500);
        while life.step() {}
    }
    life.assert_all_in(&topic, "after all was read");
    let gauge = life.house.board.get(life.slot.0).unwrap();
    let applied = gauge.applied_records.load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(applied, (topic.steps.len() - ELDERS) as u64, "each record is counted once");
    assert_eq!(topic.replayed().fingerprint(), life.house.seat.with(|engine| engine.state().fingerprint()));
}

#[test]
fn rows_and_deletes_of_one_key_keep_their_order_behind_one_that_waits() {
    let mut more: Vec<Step> = (0..1_000).map(|number| up(format!("newcomer-{number}"))).collect();
    // Of the last ones some are forgotten and come again, some only once more.
    for number in 900..1_000 {
        let key = format!("newcomer-{number}");
        more.extend([up(key.clone()), gone(key.clone()), up(key.clone())]);
        if number % 2 == 0 {
            more.push(gone(key));
        }
    }
    more.extend((0..6_000).map(|number| gone(format!("elder-{number}"))));
    let topic = Topic::of_elders(more);
    let mut life = topic.live();
    life.read_all(&topic);
    life.assert_all_in(&topic, "in order");
    assert_eq!((life.count("newcomer-901"), life.count("newcomer-902"), life.count("newcomer-800")), (Some(1), None, Some(1)));
}

#[test]
fn more_rows_than_may_wait_hold_their_inlet_and_go_on_when_others_make_room() {
    let topic = Topic::of_elders(newcomers_before_tombstones(20_000, 100));
    let mut life = topic.live();
    life.read_all(&topic);
    let (bytes_max, waiting) = (life.house.seat.look(|engine| engine.waiting_bytes_max()), life.waiting());
    assert!(waiting > 500 && waiting * 24 < bytes_max, "{waiting} rows wait in at most {bytes_max} bytes");
    assert_eq!(life.count("elder-7"), Some(1), "the tombstones are behind the packet that is held");
    // With room everything goes on.
    life.house.seat.with(|engine| engine.options.memory_max_bytes = 1 << 30);
    life.pass();
    life.read_all(&topic);
    assert_eq!(life.waiting(), 0);
    assert_eq!((life.count("newcomer-19999"), life.count("elder-7"), life.count("elder-100")), (Some(2), None, Some(1)));
}

/// Reads the topic with one kill after `steps` events, and what the log said at each of them.
fn killed_after(topic: &Topic, steps: usize, look: bool) -> (bool, usize) {
    let mut life = topic.live();
    let (mut done, mut looked) = (0, 0);
    while done < steps {
        if !life.step() {
            if life.next == topic.steps.len() && life.waiting() == 0 {
                return (true, done);
            }
            if life.next < topic.steps.len() { life.offer(topic, 700) } else { life.pass() }
        }
        done += 1;
        if !look || life.house.seat.look(|engine| engine.is_mid_turn()) {
            continue;
        }
        life.house.seat.with(|engine| {
            let live = engine.state();
            if live.lsn() > looked {
                looked = live.lsn();
                let replayed = topic.replayed();
                assert_eq!(replayed.lsn(), live.lsn(), "after {done} events");
                assert_eq!(replayed.fingerprint(), live.fingerprint(), "after {done} events");
                assert_eq!(replayed.waiting_of(life.slot), live.waiting_of(life.slot), "after {done} events");
            }
        });
    }
    (false, done)
}

#[test]
fn each_record_counts_once_wherever_the_process_is_killed() {
    let mut more = newcomers_before_tombstones(700, 6_000);
    more.extend((0..50).flat_map(|number| [gone(format!("newcomer-{number}")), up(format!("newcomer-{number}"))]));
    let whole = Topic::of_elders(more.clone());
    let (finished, events) = killed_after(&whole, 10_000, true);
    assert!(finished && events > 20, "{events} events");
    for after in (1..events).step_by((events / 8).max(1)) {
        let topic = Topic::of_elders(more.clone());
        let mut lives = 0;
        // Killed again and again, each time after as many events.
        while lives < 4 && !killed_after(&topic, after, lives == 1).0 {
            lives += 1;
        }
        let mut life = topic.live();
        life.read_all(&topic);
        life.assert_all_in(&topic, &format!("after {lives} kills, each after {after} of {events} events"));
    }
}

#[test]
fn a_log_that_was_written_anew_below_what_was_read_stops_the_partition() {
    let topic = Topic::of_elders(newcomers_before_tombstones(750, 10));
    let mut life = topic.live();
    life.read_all(&topic);
    assert!(life.waiting() > 100);
    drop(life);
    let mut life = topic.live();
    let from = life.next;
    let reached = life.house.seat.look(|engine| engine.state().waiting_of(life.slot).unwrap().reached());
    assert!((from as i64) < reached.offset, "{from} {reached:?}");
    let old = record(&topic, life.slot, from, reached.epoch);
    assert_eq!(life.inlet.offer(&[old]).taken, 1);
    let anew = record(&topic, life.slot, from + 1, reached.epoch + 1);
    let offered = life.inlet.offer(&[anew]);
    let Some(Stop::Truncated { slot, from: read, to, .. }) = offered.stop else { panic!("{offered:?}") };
    assert_eq!((offered.taken, slot, read, to), (0, life.slot, reached.after, from as i64 + 1));
}

/// A topic with rows that wait, and what a process knows of them that has just started beside it.
fn restarted_with_waiting() -> (Topic, Life, ReadBefore) {
    let mut topic = Topic::of_elders(newcomers_before_tombstones(750, 10));
    let mut life = topic.live();
    life.read_all(&topic);
    drop(life);
    topic.memory_max_bytes = 1 << 30;
    let life = topic.live();
    let before = life.inlet.read_before(life.slot).unwrap();
    assert!(before.waiting(0..before.reached.offset) > 300 && before.waits.len() > 1, "{} runs", before.waits.len());
    (topic, life, before)
}

/// The runs in front of the end were settled without a word, and those behind it waited for ever.
#[test]
fn an_end_in_front_of_what_was_read_before_is_not_believed() {
    let (topic, mut life, before) = restarted_with_waiting();
    let (offset, waiting) = (life.offset(), life.waiting());
    life.next += 1;
    let first = record(&topic, life.slot, life.next - 1, 0);
    assert_eq!(life.inlet.offer(&[first]).taken, 1);
    for end in [life.next as i64, before.reached.offset - 1] {
        assert!(!life.inlet.end_of_partition(life.slot, end), "the log ends at {end}");
    }
    assert!(life.inlet.flush());
    while life.step() {}
    let settled = usize::from(before.waiting(offset..offset + 1) == 1);
    assert_eq!(life.waiting(), waiting - settled, "only the record that was read is done");
    life.read_all(&topic);
    life.assert_all_in(&topic, "after the end was believed");
}

/// They were settled without a word.
#[test]
fn records_that_were_compacted_away_while_they_waited_are_counted() {
    let (topic, mut life, before) = restarted_with_waiting();
    let gone: Vec<i64> = before.waits.iter().flat_map(|(from, to)| *from..*to).step_by(3).collect();
    for offset in life.next..topic.steps.len() {
        if !gone.contains(&(offset as i64)) {
            assert_eq!(life.inlet.offer(&[record(&topic, life.slot, offset, 0)]).taken, 1);
        }
    }
    assert!(life.inlet.end_of_partition(life.slot, topic.steps.len() as i64) && life.inlet.flush());
    while life.step() {}
    assert_eq!((life.waiting(), life.offset()), (0, topic.steps.len() as i64));
    let told = format!("streamgauge_source_compacted_total{{source=\"steps\"}} {}", gone.len());
    assert!(life.house.metrics.text().contains(&told), "{told}");
    let mut counts: BTreeMap<String, i64> = topic.counts().into_iter().map(|(key, count)| (key.to_owned(), count)).collect();
    gone.iter().for_each(|offset| *counts.get_mut(&topic.steps[*offset as usize].0).unwrap() -= 1);
    for (key, count) in counts {
        assert_eq!(life.count(&key).unwrap_or(0), count, "{key}");
    }
    assert_eq!(topic.replayed().fingerprint(), life.house.seat.with(|engine| engine.state().fingerprint()));
}

/// An incident that opened while they were in memory said nothing of them.
#[test]
fn a_partition_that_stands_since_the_start_says_that_records_of_it_wait() {
    let (topic, mut life, before) = restarted_with_waiting();
    let lost = "offsets 7 to 9".to_owned();
    let (cause, holds, evidence) = (String::new(), String::new(), String::new());
    let (kind, actions) = (IncidentKind::SourceGap, Vec::new());
    let incident = Incident { kind, cause, opened_us: NOW_US, lost, holds, evidence, actions, resume_offset: Some(10) };
    life.inlet.incident_opened(life.slot, &incident);
    drop(life);
    for _restart in 0..2 {
        let life = topic.live();
        let shown = life.house.board.get(life.slot.0).and_then(|gauge| gauge.incident()).unwrap();
        let waiting = before.waiting(0..before.reached.offset);
        let told =
            format!("offsets 7 to 9; {waiting} records wait for room, and are read again when it goes on, as far as the log has them");
        assert_eq!((shown.kind, shown.lost), (kind, told));
    }
}

/// What is decided may not fit what came since; it was written all the same, and no start read past it.
#[test]
fn a_decision_that_would_give_two_slots_one_partition_is_refused_and_nothing_is_written() {
    let house = House::build();
    let mut inlet = house.inlet("steps");
    let (first, second) = (attach(&mut inlet, "steps", 0), attach(&mut inlet, "steps", 1));
    let key = house.seat.look(|engine| engine.state().partitions()[first.0 as usize].key.clone());
    let lsn = house.seat.look(|engine| engine.state().lsn());
    let decided = GoOn { key, position: Some(Position::start(0)), reached: None, incident: IncidentKind::Recreated, lost: None };
    let refused = inlet.go_on(second, &decided).unwrap_err();
    assert_eq!(refused.code, Code::DecisionRefused, "{refused}");
    assert_eq!(house.seat.look(|engine| engine.state().lsn()), lsn);
    assert!(inlet.go_on(first, &decided).is_ok());
}

/// A decision was refused as long as anything waited, and what waits of a partition that stands was never read again.
#[test]
fn a_decision_about_a_partition_with_waiting_rows_keeps_what_the_log_has_and_tells_the_rest() {
    let at = |offset: i64, position: Position| Position { offset, after: -1, epoch: -1, ..position };
    let middle = |before: &ReadBefore| before.waits[before.waits.len() / 2].0 + 1;
    // The log lost its beginning.
    let (topic, mut life, before) = restarted_with_waiting();
    let low = middle(&before);
    life.decide(&before, Some(at(low, before.reached)), Some(before.reached), before.waiting(0..low));
    life.next = low as usize;
    life.read_all(&topic);
    life.assert_in_but(&topic, |offset| before.waiting(offset..offset + 1) == 1 && offset < low, "without the beginning");

    // It lost all that waits, and begins in what was read behind that: none of this counts again.
    let (topic, mut life, before) = restarted_with_waiting();
    life.decide(&before, Some(before.reached), None, before.waiting(0..before.reached.offset));
    life.next = before.reached.offset as usize;
    life.read_all(&topic);
    life.assert_in_but(&topic, |offset| before.waiting(offset..offset + 1) == 1, "without all that waited");

    // The log lost its end, and others have its offsets now: none here.
    let (mut topic, mut life, before) = restarted_with_waiting();
    let (end, read) = (middle(&before), topic.steps.clone());
    let stood = life.house.seat.look(|engine| engine.state().partitions()[life.slot.0 as usize].position);
    let lost = before.waiting(end..before.reached.offset);
    life.decide(&before, Some(stood), Some(Position { after: end, ..at(end, before.reached) }), lost);
    topic.steps.truncate(end as usize);
    life.read_all(&topic);
    assert_eq!((life.waiting(), life.offset()), (0, end));
    topic.steps = read;
    life.assert_in_but(&topic, |offset| before.waiting(offset..offset + 1) == 1 && offset >= end, "without the end");

    // Another log, or none.
    for position in [Some(Position::start(0)), None] {
        let (topic, mut life, before) = restarted_with_waiting();
        life.decide(&before, position, None, before.waiting(0..before.reached.offset));
        assert_eq!(life.waiting(), 0);
        life.assert_in_but(&topic, |offset| before.waiting(offset..offset + 1) == 1, "with nothing of what waited");
    }
}

/// A row that waits held every partition of its packet and of its source against any decision.
#[test]
fn a_partition_of_which_nothing_waits_may_be_decided_about_beside_one_that_waits() {
    let house = House::build();
    let mut inlet = house.inlet("steps");
    let (moved, waits) = (attach(&mut inlet, "steps", 0), attach(&mut inlet, "steps", 1));
    let of = |slot: Slot, offset: i64, walker: &'static str| turns::record(slot, offset, walker.as_bytes());
    offer_all(&house, &mut inlet, [of(moved, 0, r#"{"walker":"known"}"#)].into_iter());
    house.seat.with(|engine| engine.options.memory_max_bytes = 1);
    let packet = [of(moved, 1, r#"{"walker":"known"}"#), of(waits, 0, r#"{"walker":"new"}"#)];
    offer_all(&house, &mut inlet, packet.into_iter());
    let count = |walker: &str| house.steps_of(walker).map(|(count, _)| count);
    assert_eq!((count("known"), count("new")), (Some(2), None), "one row of the packet waits");
    let key_of = |slot: Slot| house.seat.look(|engine| engine.state().partitions()[slot.0 as usize].key.clone());
    let go_on = |slot: Slot, position: Option<i64>| GoOn {
        key: key_of(slot),
        position: position.map(Position::start),
        reached: None,
        incident: IncidentKind::SourceGap,
        lost: None,
    };
    for position in [Some(7), None] {
        assert_eq!(inlet.go_on(waits, &go_on(waits, position)).unwrap_err().code, Code::Overloaded, "its row waits");
    }
    // Frames of rows that wait say where each partition of their packet stands, and this one would stand nowhere.
    assert_eq!(inlet.go_on(moved, &go_on(moved, None)).unwrap_err().code, Code::Overloaded);
    // A packet of the source that is not handed over yet is none of this partition's either.
    assert_eq!(inlet.offer(&[of(waits, 1, r#"{"walker":"known"}"#)]).taken, 1);
    inlet.may_go_on(moved, &go_on(moved, Some(7))).unwrap();
    inlet.go_on(moved, &go_on(moved, Some(7))).unwrap();
    house.seat.with(|engine| {
        engine.options.memory_max_bytes = u64::MAX;
        engine.gave_back();
    });
    let mut held = house.seat.hold();
    while house.seat.step(&mut held) {}
    drop(held);
    assert_eq!(count("new"), Some(1));
    let stands = |slot: Slot| house.seat.look(|engine| engine.state().partitions()[slot.0 as usize].position.offset);
    assert_eq!((stands(moved), stands(waits)), (7, 1), "what waited moves nothing of the other");
    assert!(inlet.flush());
}

/// A table that comes while rows wait has keys of theirs that nobody knew: later rows of these keys went past.
#[test]
fn rows_of_one_key_keep_their_order_in_a_table_that_came_while_they_waited() {
    let house = House::build();
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let of = |offset: i64, walker: &'static str| turns::record(slot, offset, walker.as_bytes());
    offer_all(&house, &mut inlet, [of(0, r#"{"walker":"known"}"#)].into_iter());
    house.seat.with(|engine| engine.options.memory_max_bytes = 1);
    offer_all(&house, &mut inlet, [of(1, r#"{"walker":"new"}"#)].into_iter());
    assert_eq!(house.steps_of("new"), None, "it waits");
    // Its one row is every walker's, and shows the last of them.
    let everybody = json!({"nodes": [
        {"kind": "derivation", "name": "everybody", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": [], "agg": {"last": {"op": "last", "params": {"field": "walker"}}}}],
         "schema": {"fields": {}, "optional_fields": []}, "table_primary_key": []}
    ]});
    house.seat.with(|engine| {
        engine.options = options();
        let outcome = engine.state().registry().apply_register(&everybody.to_string(), &RegisterOptions::default());
        let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
        engine.define(outcome.next.unwrap(), outcome.effects).unwrap();
        assert!(!engine.takes_packets_of(InletId(0)), "what waits is looked at first");
    });
    offer_all(&house, &mut inlet, [of(2, r#"{"walker":"known"}"#)].into_iter());
    assert_eq!((house.steps_of("new").unwrap().0, house.steps_of("known").unwrap().0), (1, 2));
    let read = Read { table: "everybody".to_owned(), key: KeyText::Text(String::new()), options: ReadOptions::default() };
    let (row, _) = house.seat.look(|engine| engine.get(&read, crate::read::UnknownFeature::AsNotFound)).unwrap();
    assert_eq!(row.values[0].to_json(), json!("known"));
}

/// Hundreds of lists that become rings within one packet need a look that is too dear; what was assumed instead, the worst
/// of each, held the source for ever with nine tenths of the limit free.
#[test]
fn keys_that_become_rings_all_at_once_go_in_part_by_part_while_there_is_room() {
    const KEYS: usize = 400;
    const ROWS_PER_KEY: usize = 420;
    let house = House::build();
    let mut port = house.port();
    let count = |window: &str| json!({"op": "count", "params": {"window": window}});
    let features = json!({"m": count("1m"), "h": count("1h"), "d": count("1d")});
    port.call(tag(1, 0), Request::Register(walkers(&features).to_string()));
    turn(&mut port);
    house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: 24 << 20, ..options() });
    let mut inlet = house.inlet("steps");
    let slot = attach(&mut inlet, "steps", 0);
    let bodies: Vec<String> = (0..KEYS).map(|walker| format!(r#"{{"walker":"walker-{walker}"}}"#)).collect();
    let rows = (0..ROWS_PER_KEY).flat_map(|_| &bodies).zip(0..).map(|(body, offset)| turns::record(slot, offset, body.as_bytes()));
    offer_all(&house, &mut inlet, rows);
    let waits = house.facts.incidents.is_present(IncidentKind::WriteStall, &Subject::source("steps"));
    let bytes = house.seat.look(|engine| engine.state().live_bytes());
    assert!(!waits && bytes < 12 << 20, "rows wait: {waits}, {bytes} bytes");
    let position = house.seat.look(|engine| engine.state().partitions()[slot.0 as usize].position.offset);
    assert_eq!(usize::try_from(position).unwrap(), KEYS * ROWS_PER_KEY);
    assert!(house.steps_of("walker-399").is_some_and(|(n, _)| n == 420));
    let grown = house.seat.look(|engine| {
        let mut slabs = engine.state().table("walkers").unwrap().slabs.iter();
        let slab = slabs.find(|slab| slab.plan.is_windowed()).unwrap();
        (0..400).filter(|&number| slab.is_grown(number)).count()
    });
    assert_eq!(grown, KEYS, "lists became rings");
}
