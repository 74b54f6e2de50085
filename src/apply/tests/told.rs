//! What is told of rows that the memory limit keeps out: in incidents, in `/ready` and in `/status`, as turns go by on a
//! clock that stands still between them.

use super::inlets::{apply_all, attach, offer_all};
use super::turns::record;
use super::{House, NOW_US, options};
use crate::apply::incidents::Subject;
use crate::apply::{EngineControl, EngineInlet, EngineOptions, SeatSlot, Settings};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use streamgauge_api::control::Control;
use streamgauge_api::source::IncidentKind;
use streamgauge_api::{Clock, Slot};

/// A house at its memory limit, with one walker that is known.
struct Full {
    house: House,
    inlet: EngineInlet,
    slot: Slot,
    next: i64,
}

impl Full {
    fn with(options: EngineOptions) -> Self {
        let house = House::build();
        let mut inlet = house.inlet("steps");
        let slot = attach(&mut inlet, "steps", 0);
        let mut full = Self { house, inlet, slot, next: 0 };
        full.house.board.get(slot.0).unwrap().reading.store(true, Ordering::Relaxed);
        full.offer("known");
        full.house.seat.with(|engine| engine.options = EngineOptions { memory_max_bytes: 1, ..options });
        full
    }

    fn offer(&mut self, walker: &str) {
        let body = format!(r#"{{"walker":"{walker}"}}"#);
        offer_all(&self.house, &mut self.inlet, [record(self.slot, self.next, body.as_bytes())].into_iter());
        self.next += 1;
    }

    /// Half a second passes.
    fn pass(&self) {
        self.house.clock.set(self.house.clock.now_us() + 500_000);
        self.house.seat.with(|engine| engine.tick());
        apply_all(&self.house);
    }

    /// Tables may hold so many bytes.
    fn limit(&self, bytes: u64) {
        self.house.seat.with(|engine| engine.options.memory_max_bytes = bytes);
    }

    fn control(&self) -> EngineControl {
        let seat = SeatSlot::default();
        let _first = seat.set(Arc::clone(&self.house.seat));
        let House { facts, board, given, metrics, .. } = &self.house;
        let clock = Arc::clone(given) as Arc<dyn Clock>;
        let (facts, board, metrics) = (Arc::clone(facts), Arc::clone(board), Arc::clone(metrics));
        EngineControl::new(seat, facts, board, clock, metrics, Arc::default(), Settings::default())
    }
}

/// The number of rows that were left out was one try behind: 0 at first.
#[test]
fn what_is_left_out_for_good_is_counted_when_it_is_told() {
    let mut full = Full::with(EngineOptions { pause_on_memory: false, ..options() });
    let lost = |full: &Full| full.house.facts.incidents.get(IncidentKind::MemoryLimit, &Subject::table("walkers")).unwrap().lost;
    full.offer("first");
    assert!(lost(&full).contains("left out for good: 1 since the start"), "{}", lost(&full));
    full.house.clock.set(NOW_US + 2_000_000);
    full.offer("second");
    assert!(lost(&full).contains("left out for good: 2 since the start"), "{}", lost(&full));
}

/// `/ready` was 503 for ten seconds after the last row that waited was applied.
#[test]
fn a_server_is_ready_in_the_turn_in_which_the_last_row_that_waited_is_applied() {
    let mut full = Full::with(options());
    let control = full.control();
    let (ready, kind, table) = (|| control.readiness().ready, IncidentKind::MemoryLimit, Subject::table("walkers"));
    assert!(ready());
    full.offer("new");
    assert_eq!(control.readiness().reasons, ["memory_limit"]);
    full.pass();
    assert!(!ready() && full.house.facts.incidents.is_present(kind, &table));
    full.limit(1 << 30);
    full.pass();
    assert_eq!(full.house.steps_of("new").map(|(n, _)| n), Some(1));
    assert!(ready(), "{:?}", control.readiness());
    // The incident lingers as a warning, for those that come and go.
    assert!(full.house.facts.incidents.is_open(kind, &table) && !full.house.facts.incidents.is_present(kind, &table));
    for _ in 0..22 {
        full.pass();
        assert!(ready());
    }
    assert!(!full.house.facts.incidents.is_open(kind, &table));
}

#[test]
fn a_server_that_left_rows_out_is_ready_when_there_is_room_again() {
    let mut full = Full::with(EngineOptions { pause_on_memory: false, ..options() });
    let control = full.control();
    full.offer("new");
    for _ in 0..60 {
        full.pass();
        assert_eq!(control.readiness().reasons, ["memory_limit"], "the next one would be left out too");
    }
    full.limit(1 << 30);
    full.offer("known");
    assert!(control.readiness().ready);
}

/// Rows that wait are in no queue, so it was the fetching that was said to be slow.
#[test]
fn what_holds_up_a_source_whose_rows_wait_is_memory() {
    let mut full = Full::with(options());
    let control = full.control();
    let bottleneck = || control.status()["bottleneck"].clone();
    full.offer("new");
    full.house.board.get(full.slot.0).unwrap().saw_end(1_000_000, NOW_US);
    for _ in 0..10 {
        full.pass();
        assert_eq!(bottleneck(), "memory");
    }
    full.limit(1 << 30);
    full.pass();
    assert_eq!(bottleneck(), "fetch_or_decode");
}

#[test]
fn a_stall_that_comes_and_goes_is_one_incident_and_closes_when_nothing_waited_for_half_a_minute() {
    let mut full = Full::with(options());
    let (kind, source) = (IncidentKind::WriteStall, Subject::source("steps"));
    let control = full.control();
    let incidents = Arc::clone(&full.house.facts);
    for round in 0..10 {
        full.limit(1);
        full.offer(&format!("new-{round}"));
        assert!(incidents.incidents.is_present(kind, &source), "round {round}");
        assert_eq!(control.sources()[0].state, "waiting");
        full.limit(1 << 30);
        full.pass();
        assert!(!incidents.incidents.is_present(kind, &source), "round {round}");
        // The first closes at once; the second came soon after it.
        assert_eq!(incidents.incidents.is_open(kind, &source), round > 0, "round {round}");
        assert_ne!(control.sources()[0].state, "waiting");
    }
    assert_eq!(incidents.incidents.take_opened()[&kind], 2);
    // Half a minute is sixty passes; the last one is over.
    for passes in 1..60 {
        full.pass();
        assert!(incidents.incidents.is_open(kind, &source), "after {passes} passes");
    }
    full.pass();
    assert!(!incidents.incidents.is_open(kind, &source));
}
