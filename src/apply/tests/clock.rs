//! A wall clock that jumps while the engine runs, and one that was ahead when frames were written.

use super::*;
use crate::apply::incidents::Subject;
use crate::state::Content;

use streamgauge_api::source::{Incident, IncidentKind};

const MINUTE: i64 = 60_000_000;
const YEAR: i64 = 365 * 24 * 60 * MINUTE;

/// The open incident about the clock.
fn finding(house: &House) -> Option<Incident> {
    let open = house.seat.facts.incidents.list();
    open.into_iter()
        .find(|(subject, incident)| (subject, incident.kind) == (&Subject::Server, IncidentKind::ClockJump))
        .map(|(_, incident)| incident)
}

/// Time passes, and the engine looks round.
fn pass(house: &House, us: i64) {
    house.clock.set(house.clock.now_us() + us);
    let _sleep = house.seat.with(Engine::tick);
}

fn frame_us(house: &House) -> i64 {
    house.seat.with(|engine| engine.state().frame_us())
}

/// A frame now.
fn write(house: &House) {
    house.seat.with(|engine| engine.commit(&Content::Nothing)).unwrap();
}

#[test]
fn a_jump_of_the_wall_clock_is_held_in_every_read_and_frame_and_told_until_it_is_accepted() {
    let house = House::build();
    pass(&house, MINUTE);
    house.clock.jump(YEAR);
    pass(&house, MINUTE);
    write(&house);
    assert_eq!(frame_us(&house), NOW_US + 2 * MINUTE, "two minutes have passed, not a year");
    assert_eq!(house.seat.with(|engine| engine.read_clock_us()), NOW_US + 2 * MINUTE);
    assert_eq!(house.given.now_us(), NOW_US + 2 * MINUTE, "whoever decodes rows sees the same time");
    let incident = finding(&house).unwrap();
    assert_eq!((incident.cause.as_str(), incident.lost.as_str()), ("ahead", "nothing"));
    assert!(incident.evidence.contains("365 d"), "{incident:?}");
    assert!(incident.actions.iter().any(|action| action.contains("streamgauge clock accept")), "{incident:?}");
    assert!(house.seat.with(|engine| engine.state().clock_held()), "the log says it too, for the next start");

    house.seat.with(Engine::accept_clock).unwrap();
    assert_eq!(frame_us(&house), NOW_US + YEAR + 2 * MINUTE);
    assert_eq!((finding(&house), house.seat.with(|engine| engine.state().clock_held())), (None, false));
    pass(&house, MINUTE);
    assert_eq!(finding(&house), None);
}

#[test]
fn a_jump_that_is_taken_back_leaves_nothing() {
    let house = House::build();
    house.clock.jump(YEAR);
    pass(&house, MINUTE);
    assert!(finding(&house).is_some());
    house.clock.jump(-YEAR);
    pass(&house, MINUTE);
    write(&house);
    assert_eq!((finding(&house), frame_us(&house)), (None, NOW_US + 2 * MINUTE));
    assert!(!house.seat.with(|engine| engine.state().clock_held()));
}

#[test]
fn a_stored_time_beyond_the_wall_clock_is_a_finding_and_accepting_sets_it_back() {
    let mut state = State::new(1);
    state.apply(&Content::Nothing, 1, NOW_US + YEAR);
    let house = House::over(state);
    pass(&house, 0);
    let incident = finding(&house).unwrap();
    assert_eq!(incident.cause, "behind");
    assert!(incident.evidence.contains("365 d") && incident.lost.contains("windows shorter than 365 d"), "{incident:?}");
    // It goes on, and slowly closer.
    pass(&house, 2 * MINUTE);
    write(&house);
    assert_eq!(frame_us(&house), NOW_US + YEAR + MINUTE);

    house.seat.with(Engine::accept_clock).unwrap();
    assert_eq!((frame_us(&house), finding(&house)), (NOW_US + 2 * MINUTE, None));
    pass(&house, MINUTE);
    write(&house);
    assert_eq!(frame_us(&house), NOW_US + 3 * MINUTE);
}

#[test]
fn a_jump_that_was_held_is_held_by_the_next_process_too() {
    let stored = || {
        let mut state = State::new(1);
        state.apply(&Content::Clock { now_us: NOW_US, held: true }, 1, NOW_US);
        state
    };
    let house = House::at(NOW_US + YEAR, stored(), options());
    pass(&house, MINUTE);
    write(&house);
    assert_eq!(frame_us(&house), NOW_US + MINUTE, "from the stored time on, by what has passed");
    assert_eq!(finding(&house).unwrap().cause, "ahead");
    // The host's clock was set right while nobody ran: nothing is held, and the log says so.
    let house = House::at(NOW_US + MINUTE, stored(), options());
    pass(&house, MINUTE);
    assert_eq!((finding(&house), house.seat.with(|engine| engine.state().clock_held())), (None, false));
    assert_eq!(house.given.now_us(), NOW_US + 2 * MINUTE);
}

#[test]
fn a_clock_frame_is_read_back_as_it_was_written() {
    use crate::apply::codec::{Encoded, decode, encode, kind_of};
    use crate::wal::{Frame, FrameKind};
    for (now_us, held) in [(NOW_US, true), (-5, false), (0, false)] {
        let content = Content::Clock { now_us, held };
        let mut encoded = Encoded::default();
        encode(&content, &mut encoded);
        assert_eq!(kind_of(&content), FrameKind::CLOCK);
        let frame = Frame {
            kind: FrameKind::CLOCK,
            flags: 0,
            first_lsn: 1,
            row_count: 0,
            now_us: 9,
            durable_lsn: 0,
            positions: &[],
            body: &encoded.tail,
        };
        assert!(matches!(decode(&frame), Ok(Content::Clock { now_us: read, held: still }) if (read, still) == (now_us, held)));
    }
}
