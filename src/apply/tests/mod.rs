//! The engine behind its doors: a seat over a log in memory, driven as connectors drive it.
//!
//! Promises count turns and states here, never milliseconds: the clock stands still unless a test moves it,
//! and the apply thread's events are done one at a time by the test, which holds the seat.
#![allow(clippy::unwrap_used, reason = "tests")]

mod clock;
mod counts;
mod full_disk;
mod house_keeping;
mod inlets;
mod near_limit;
mod panic;
mod reads;
mod shedding;
mod snapshots;
mod sweeps;
mod told;
mod turns;
mod waiting;

use super::{Engine, EngineClock, EngineInlet, EngineOptions, EnginePort, Facts, OnBadRecord, Parts, Seat, SeatSlot, SourceSetup};
use crate::decode::{CsvLines, DebeziumMode, FieldSource, Format, Framing, KeyFormat, SourceFormat, Tombstone};
use crate::pipeline::{RegisterOptions, Registry};
use crate::state::{Frozen, State};
use crate::storage::Disk;
use crate::wal::{FIRST_LSN, WalHandle, WalOptions, WalWriter};
use serde_json::{Value as Json, json};
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::metrics::Metrics;
use streamgauge_api::port::{KeyText, Read, ReadOptions};
use streamgauge_api::source::SourceBoard;
use streamgauge_api::{Clock, ManualClock, Port, Reply, Tag};

/// Where the clock of these tests begins.
const NOW_US: i64 = 1_700_000_000_000_000;

/// An engine with what it shares, and the seat it sits behind.
struct House {
    seat: Arc<Seat>,
    facts: Arc<Facts>,
    /// The host's clocks.
    clock: Arc<ManualClock>,
    /// What everybody is given.
    given: Arc<EngineClock>,
    metrics: Arc<Metrics>,
    board: Arc<SourceBoard>,
}

fn options() -> EngineOptions {
    EngineOptions {
        memory_max_bytes: 1 << 30,
        pause_on_memory: true,
        push_synced: false,
        test_mode: true,
        snapshot_every: Duration::ZERO,
        lifetime_bound: false,
        ignore_velocity_windows: false,
        histories: None,
    }
}

impl House {
    fn build() -> Self {
        Self::with(options())
    }

    fn with(options: EngineOptions) -> Self {
        let house = Self::at(NOW_US, State::new(1), options);
        house.seat.with(declare);
        house
    }

    /// With a snapshot thread whose part the test plays.
    fn with_snapshots(options: EngineOptions) -> (Self, crossbeam_channel::Receiver<Arc<Frozen>>) {
        let (sender, receiver) = crossbeam_channel::bounded(1);
        let house = Self::build_over(NOW_US, State::new(1), options, Some(sender));
        house.seat.with(declare);
        (house, receiver)
    }

    /// Over a recovered state.
    fn over(state: State) -> Self {
        Self::at(NOW_US, state, options())
    }

    /// Over a recovered state, when the wall clock says this.
    fn at(wall_us: i64, state: State, options: EngineOptions) -> Self {
        Self::build_over(wall_us, state, options, None)
    }

    fn build_over(wall_us: i64, state: State, options: EngineOptions, snapshots: Option<crossbeam_channel::Sender<Arc<Frozen>>>) -> Self {
        let log = WalWriter::memory(FIRST_LSN + state.lsn(), WalOptions::default());
        Self::over_log(wall_us, state, options, snapshots, log)
    }

    /// The same with this log.
    fn over_log(
        wall_us: i64,
        state: State,
        options: EngineOptions,
        snapshots: Option<crossbeam_channel::Sender<Arc<Frozen>>>,
        log: (WalWriter<Disk>, WalHandle<Disk>),
    ) -> Self {
        let (clock, facts) = (Arc::new(ManualClock::at(wall_us)), Arc::new(Facts::default()));
        let given = EngineClock::over(Arc::clone(&clock) as Arc<dyn Clock>);
        let (metrics, board) = (Arc::new(Metrics::new("test", "test")), Arc::new(SourceBoard::default()));
        let (writer, handle) = log;
        facts.set_phase(super::Phase::Ready);
        let engine = Engine::new(Parts {
            state,
            writer,
            handle,
            clock: Arc::clone(&given),
            facts: Arc::clone(&facts),
            metrics: Arc::clone(&metrics),
            board: Arc::clone(&board),
            options,
            snapshots,
        });
        Self { seat: Seat::new(engine, Arc::clone(&facts)), facts, clock, given, metrics, board }
    }

    fn port(&self) -> EnginePort {
        let slot = SeatSlot::default();
        let _first = slot.set(Arc::clone(&self.seat));
        let clock = Arc::clone(&self.given) as Arc<dyn Clock>;
        EnginePort::new(slot, Arc::clone(&self.facts), clock, Arc::clone(&self.metrics), true)
    }

    /// An inlet of a JSON source of `Step`.
    fn inlet(&self, name: &str) -> EngineInlet {
        self.inlet_with(name, Vec::new(), Tombstone::Reject)
    }

    /// One whose walkers are the records' keys, and whose records without a value forget them.
    fn keyed_inlet(&self, name: &str) -> EngineInlet {
        self.inlet_with(name, vec![("walker".into(), FieldSource::Key)], Tombstone::DeleteKey)
    }

    /// An inlet of an Avro source of `Step` that reads by schema id.
    fn avro_inlet(&self, name: &str, on_bad_record: OnBadRecord) -> EngineInlet {
        let format = SourceFormat {
            format: Format::Avro,
            framing: Framing::Confluent,
            fields: Vec::new(),
            readings: Vec::new(),
            tombstone: Tombstone::Reject,
            key_format: KeyFormat::Raw,
            schema: None,
            message: None,
            csv: CsvLines::default(),
            mode: DebeziumMode::default(),
        };
        let (name, event) = (name.to_owned(), "Step".to_owned());
        let setup = SourceSetup { name, event, format, on_bad_record, registry_urls: vec!["http://r".to_owned()] };
        let clock = Arc::clone(&self.given) as Arc<dyn Clock>;
        EngineInlet::new(Arc::clone(&self.seat), Arc::clone(&self.board), clock, Arc::clone(&self.metrics), vec![setup])
    }

    fn inlet_with(&self, name: &str, fields: Vec<(Box<str>, FieldSource)>, tombstone: Tombstone) -> EngineInlet {
        let format = SourceFormat {
            format: Format::Json,
            framing: Framing::None,
            fields,
            readings: Vec::new(),
            tombstone,
            key_format: KeyFormat::Raw,
            schema: None,
            message: None,
            csv: CsvLines::default(),
            mode: DebeziumMode::default(),
        };
        let (name, event) = (name.to_owned(), "Step".to_owned());
        let setup = SourceSetup { name, event, format, on_bad_record: OnBadRecord::Keep, registry_urls: Vec::new() };
        let clock = Arc::clone(&self.given) as Arc<dyn Clock>;
        EngineInlet::new(Arc::clone(&self.seat), Arc::clone(&self.board), clock, Arc::clone(&self.metrics), vec![setup])
    }

    /// Steps of a walker that are applied, and the LSN that the answer was read at.
    fn steps_of(&self, walker: &str) -> Option<(i64, u64)> {
        let read = get(walker);
        let (row, freshness) = self.seat.look(|engine| engine.get(&read, crate::read::UnknownFeature::AsNotFound)).unwrap();
        row.present.then(|| (count(&row), freshness.lsn))
    }
}

fn declare(engine: &mut Engine) {
    declare_with(engine, &json!({}));
}

/// With more features than a count.
fn declare_with(engine: &mut Engine, features: &Json) {
    let registry = Registry::clone(engine.state().registry());
    let outcome = registry.apply_register(&walkers(features).to_string(), &RegisterOptions::default());
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
    engine.define(outcome.next.unwrap(), outcome.effects).unwrap();
}

/// One event `Step` with a table `walkers` that counts, and more features of it.
fn walkers(more: &Json) -> Json {
    let mut features = json!({"n": {"op": "count", "params": {}}});
    features.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"nodes": [
        {"kind": "event", "name": "Step", "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "event_time_field": null},
        {"kind": "derivation", "name": "walkers", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": ["walker"], "agg": features}],
         "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "table_primary_key": ["walker"]}
    ]})
}

fn get(walker: &str) -> Read {
    Read { table: "walkers".to_owned(), key: KeyText::Text(walker.to_owned()), options: ReadOptions::default() }
}

fn count(row: &streamgauge_api::port::Row) -> i64 {
    let at = row.names.iter().position(|name| &**name == "n").unwrap();
    row.values[at].to_json().as_i64().unwrap()
}

/// A request of a connection.
fn tag(connection: u64, number: u16) -> Tag {
    let tag = Tag(connection << 16 | u64::from(number));
    assert_eq!(tag.connection(), connection);
    tag
}

/// Hands over what the port was given, and picks up its replies.
fn turn(port: &mut EnginePort) -> Vec<(Tag, Reply)> {
    let mut replies = Vec::new();
    port.turn(&mut replies);
    replies
}

/// The same, with all that the apply thread has to do until there is a reply to everything.
fn turn_to_end(house: &House, port: &mut EnginePort) -> Vec<(Tag, Reply)> {
    let mut replies = turn(port);
    inlets::apply_all(house);
    replies.extend(turn(port));
    replies
}
