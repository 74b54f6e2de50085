//! Features that leave a table of many keys keep nobody waiting: reads have their turn between the steps, what stays
//! answers as ever, and what has to wait for the last step waits by itself.

use super::{House, count, get, options, tag, turn, walkers};
use super::{inlets, turns};
use crate::apply::EngineOptions;
use crate::apply::seat::Held;
use crate::apply::turn::ROWS_PER_SLICE_MAX;
use serde_json::json;
use std::time::Duration;
use streamgauge_api::control::Retirement;
use streamgauge_api::port::{Encoding, PushRow, Request, Wait};
use streamgauge_api::{Clock, Code, Inlet, Port, Reply};

const WALKERS: usize = 30_000;

/// A registration of a table with these of its features.
fn registration(names: &[&str]) -> Request {
    let all = json!({
        "hour": {"op": "count", "params": {"window": "1h"}},
        "minute": {"op": "n_unique", "params": {"field": "walker", "window": "1m"}},
        "first": {"op": "first", "params": {"field": "walker"}},
    });
    let kept = all.as_object().unwrap().iter().filter(|(name, _)| names.contains(&name.as_str()));
    let mut payload = walkers(&json!(kept.map(|(name, node)| (name.clone(), node.clone())).collect::<serde_json::Map<_, _>>()));
    payload["force"] = true.into();
    Request::Register(payload.to_string())
}

/// A table of many keys, each with two rows.
fn fill(house: &House) {
    let mut port = house.port();
    port.call(tag(1, 0), registration(&["hour", "minute", "first"]));
    assert!(matches!(&turn(&mut port)[..], [] | [(_, Reply::Registered(_))]));
    let mut held = house.seat.hold();
    while house.seat.step(&mut held) {}
    for _ in 0..2 {
        let bodies: Vec<String> = (0..WALKERS).map(|walker| format!(r#"{{"walker":"walker-{walker}"}}"#)).collect();
        let rows: Vec<PushRow<'_>> = bodies.iter().map(|body| PushRow { event: "Step", body: body.as_bytes() }).collect();
        port.push_batch(tag(1, 1), Encoding::Json, &rows, Wait::Default);
        turn(&mut port);
        while house.seat.step(&mut held) {}
        turn(&mut port);
    }
    assert_eq!(held.state().shedding_rows(), 0);
}

/// Does one event, which brings over no more rows than a slice of a turn applies; how many are left.
fn step(house: &House, held: &mut Held<'_>) -> usize {
    let before = held.state().shedding_rows();
    assert!(house.seat.step(held), "there is nothing to do");
    let left = held.state().shedding_rows();
    assert!(left >= before || before - left <= ROWS_PER_SLICE_MAX, "{} rows in one event", before - left);
    left
}

/// Does events until a registration that takes features away is in force.
fn declared(house: &House, held: &mut Held<'_>) {
    while held.state().shedding_rows() == 0 {
        assert!(house.seat.step(held), "there is nothing to do, and no row to bring over");
    }
}

/// Five million keys were rewritten by the registration, while everybody waited.
#[test]
fn reads_are_answered_between_the_steps_of_a_retirement() {
    let house = House::build();
    fill(&house);
    let (mut owner, mut reader) = (house.port(), house.port());
    let mut held = house.seat.hold();
    owner.call(tag(1, 0), registration(&["hour"]));
    turn(&mut owner);
    declared(&house, &mut held);
    assert!(held.state().shedding_rows() == WALKERS, "a declaration waits for no row");
    let mut reads = 0;
    while held.state().shedding_rows() > 0 {
        let walker = reads * 7919 % WALKERS;
        reader.call(tag(1, 0), Request::Get(get(&format!("walker-{walker}"))));
        let mut gone = get(&format!("walker-{walker}"));
        gone.options.features = Some(vec!["first".into()]);
        reader.call(tag(1, 1), Request::Get(gone));
        let (mut replies, mut events) = (turn(&mut reader), 0);
        while replies.len() < 2 {
            step(&house, &mut held);
            replies.extend(turn(&mut reader));
            events += 1;
            assert!(events < 10, "a read waits for {events} events");
        }
        let [(_, Reply::Row(row, _)), (_, Reply::Refused(error, _))] = &replies[..] else { panic!("{replies:?}") };
        assert_eq!((row.names.len(), count(row), row.values[0].to_json()), (2, 2, json!(2)));
        assert!(!error.reason.is_empty());
        step(&house, &mut held);
        reads += 1;
    }
    assert!(reads > 5, "{reads} reads");
    while house.seat.step(&mut held) {}
    assert!(!held.state().is_shedding());
}

#[test]
fn a_registration_that_takes_more_away_waits_by_itself_and_the_next_ones_behind_it() {
    let house = House::build();
    fill(&house);
    let (mut first, mut second, mut third, mut other) = (house.port(), house.port(), house.port(), house.port());
    let mut held = house.seat.hold();
    first.call(tag(1, 0), registration(&["hour", "first"]));
    turn(&mut first);
    declared(&house, &mut held);
    let version = held.state().registry().version;
    second.call(tag(1, 0), registration(&["hour"]));
    turn(&mut second);
    house.seat.step(&mut held);
    third.call(tag(1, 0), registration(&["hour", "minute"]));
    turn(&mut third);
    let (mut pushed, mut answers) = (0, Vec::new());
    while held.state().shedding_rows() > 0 {
        assert_eq!(held.state().registry().version, version, "nothing is declared before it");
        other.push(tag(1, 0), Encoding::Json, PushRow { event: "Step", body: br#"{"walker":"walker-29999"}"# }, Wait::Default);
        turn(&mut other);
        step(&house, &mut held);
        answers.extend(turn(&mut second));
        answers.extend(turn(&mut third));
        pushed += turn(&mut other).len();
    }
    assert!(pushed > 0, "pushes of others go on");
    assert!(answers.is_empty(), "{answers:?}");
    while held.state().registry().version < version + 2 {
        assert!(house.seat.step(&mut held), "two registrations are lost");
    }
    let lsn = held.state().lsn();
    held.synced(lsn);
    for port in [&mut second, &mut third] {
        let replies = turn(port);
        assert!(matches!(&replies[..], [(_, Reply::Registered(_))]), "{replies:?}");
    }
    while house.seat.step(&mut held) {}
    assert!(!held.state().is_shedding() && held.requests_in_work() == 0);
    drop(held);
    let mut read = get("walker-29999");
    read.options.features = Some(vec!["first".into()]);
    let refused = house.seat.look(|engine| engine.get(&read, crate::read::UnknownFeature::AsNotFound)).unwrap_err();
    assert_ne!(refused.code, Code::Stale);
    assert!(house.steps_of("walker-29999").is_some_and(|(n, _)| n > 2));
}

#[test]
fn a_snapshot_that_is_due_comes_when_the_last_row_is_brought_over() {
    let (house, frozen) = House::with_snapshots(EngineOptions { snapshot_every: Duration::from_micros(1), ..options() });
    fill(&house);
    while frozen.try_recv().is_ok() {
        house.seat.with(|engine| engine.hear(crate::apply::News::SnapshotDone(crate::apply::snapshotter::Outcome::Taken)));
    }
    let mut port = house.port();
    let mut held = house.seat.hold();
    port.call(tag(1, 0), registration(&["hour"]));
    turn(&mut port);
    declared(&house, &mut held);
    while frozen.try_recv().is_ok() {
        held.hear(crate::apply::News::SnapshotDone(crate::apply::snapshotter::Outcome::Taken));
    }
    let mut now_us = super::NOW_US;
    while held.state().shedding_rows() > 0 {
        now_us += 10;
        house.clock.set(now_us);
        held.tick();
        assert!(frozen.try_recv().is_err() && !held.snapshot().unwrap(), "a state in two layouts is no snapshot");
        step(&house, &mut held);
    }
    house.clock.set(now_us + 10);
    held.tick();
    assert!(frozen.try_recv().is_ok());
}

/// What a state that came out of a log in the middle of it owes is done by who goes on with it.
#[test]
fn an_engine_over_a_state_that_was_killed_in_the_middle_goes_on() {
    let house = House::build();
    fill(&house);
    let mut port = house.port();
    let mut held = house.seat.hold();
    port.call(tag(1, 0), registration(&["hour", "minute"]));
    turn(&mut port);
    declared(&house, &mut held);
    step(&house, &mut held);
    let state = std::mem::replace(&mut held.state, crate::state::State::new(1));
    let (fingerprint, left) = (state.fingerprint(), state.shedding_rows());
    assert!(left > 0);
    drop(held);
    let next = House::over(state);
    let mut held = next.seat.hold();
    while next.seat.step(&mut held) {}
    assert_eq!((held.state().is_shedding(), held.state().fingerprint()), (false, fingerprint));
}

/// Memory was full, and nothing said that it was coming back.
#[test]
fn operators_see_what_is_given_back_and_how_far_that_is() {
    let house = House::build();
    fill(&house);
    let mut port = house.port();
    let mut held = house.seat.hold();
    assert_eq!(held.retirement(), Retirement::default());
    port.call(tag(1, 0), registration(&["hour", "first"]));
    turn(&mut port);
    declared(&house, &mut held);
    let mut second = house.port();
    second.call(tag(1, 0), registration(&["hour"]));
    turn(&mut second);
    let (mut done, mut reports) = (0, 0);
    while held.state().shedding_rows() > 0 && held.parked() < 2 {
        let retirement = held.retirement();
        let [part] = &retirement.parts[..] else { panic!("{retirement:?}") };
        assert_eq!((part.table.as_str(), part.unit.as_str()), ("walkers", "rows"));
        assert_eq!((&part.features[..], part.of, part.since_ms), (&["minute".to_owned()][..], WALKERS as u64, super::NOW_US / 1000));
        assert!(part.done >= done, "{} rows after {done}", part.done);
        assert_eq!(part.done as usize, WALKERS - held.state().shedding_rows());
        (done, reports) = (part.done, reports + usize::from(retirement.registrations_waiting == 1));
        step(&house, &mut held);
    }
    assert!(done > 0 && reports > 0, "{done} rows, {reports} reports of a registration that waits");
    while house.seat.step(&mut held) {}
    // A table that goes whole.
    port.call(tag(1, 1), Request::Register(json!({"nodes": [], "remove": ["walkers"], "force": true}).to_string()));
    turn(&mut port);
    while !held.state().is_shedding() {
        assert!(house.seat.step(&mut held), "a table that is gone has memory");
    }
    let retirement = held.retirement();
    let [part] = &retirement.parts[..] else { panic!("{retirement:?}") };
    assert_eq!((part.table.as_str(), part.unit.as_str(), part.features.len()), ("walkers", "chunks", 0));
    while house.seat.step(&mut held) {}
    assert_eq!(held.retirement(), Retirement::default());
}

/// A limit that was lowered stands below what tables hold, and nothing of that is sparse.
#[test]
fn memory_comes_back_though_tables_are_above_the_limit_and_rows_that_wait_go_on() {
    let house = House::build();
    fill(&house);
    let mut inlet = house.inlet("steps");
    let slot = inlets::attach(&mut inlet, "steps", 0);
    let mut port = house.port();
    let mut held = house.seat.hold();
    let full = held.state().live_bytes();
    let limit = full * 7 / 8;
    held.options.memory_max_bytes = limit as u64;
    held.state().set_memory_limit(limit);
    assert!(!held.state().is_sparse(limit / 256), "something is sparse");
    drop(held);
    let body = |number: i64| format!(r#"{{"walker":"stranger-{number}"}}"#);
    let bodies: Vec<String> = (0..2_000).map(body).collect();
    let records: Vec<_> = (0i64..).zip(&bodies).map(|(offset, body)| turns::record(slot, offset, body.as_bytes())).collect();
    let mut held = house.seat.hold();
    assert_eq!(inlet.offer(&records).taken, records.len());
    let _kept = inlet.flush();
    while house.seat.step(&mut held) {}
    assert!(held.waits_for_room(), "there is room above the limit");
    port.call(tag(1, 0), registration(&["hour"]));
    turn(&mut port);
    declared(&house, &mut held);
    let (mut events, mut most) = (0, full);
    while held.state().is_shedding() || held.waits_for_room() {
        if !house.seat.step(&mut held) {
            house.clock.set(house.clock.now_us() + 500_000);
            held.tick();
        }
        (events, most) = (events + 1, most.max(held.state().live_bytes()));
        assert!(events < 4 * WALKERS, "{events} events, {} rows are left", held.state().shedding_rows());
    }
    while house.seat.step(&mut held) {}
    let after = held.state().live_bytes();
    assert!(after < limit, "{after} bytes after {full}, of {limit}");
    assert!(most < full + full / 64, "{most} bytes on the way, {full} before");
    drop(held);
    assert_eq!(house.steps_of("stranger-1999").map(|(n, _)| n), Some(1));
}
