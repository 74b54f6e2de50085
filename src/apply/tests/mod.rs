//! The engine behind its doors: a seat over a log in memory, driven as connectors drive it.
//!
//! Promises count turns and states here, never milliseconds: the clock stands still unless a test moves it.
#![allow(clippy::unwrap_used, reason = "tests")]

mod panic;

use super::{Engine, EngineOptions, Facts, Parts, Seat};
use crate::pipeline::{RegisterOptions, Registry};
use crate::state::State;
use crate::wal::{FIRST_LSN, WalOptions, WalWriter};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use streamgauge_api::ManualClock;
use streamgauge_api::metrics::Metrics;
use streamgauge_api::source::SourceBoard;

/// Where the clock of these tests stands.
const NOW_US: i64 = 1_700_000_000_000_000;

/// An engine with what it shares, and the seat it sits behind.
struct House {
    seat: Arc<Seat>,
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
    }
}

impl House {
    fn build() -> Self {
        let (clock, facts) = (Arc::new(ManualClock::at(NOW_US)), Arc::new(Facts::default()));
        let (metrics, board) = (Arc::new(Metrics::new("test", "test")), Arc::new(SourceBoard::default()));
        let (writer, handle) = WalWriter::memory(FIRST_LSN, WalOptions::default());
        let mut engine = Engine::new(Parts {
            state: State::new(1),
            writer,
            handle,
            clock,
            facts: Arc::clone(&facts),
            metrics,
            board,
            options: options(),
            snapshots: None,
        });
        declare(&mut engine);
        Self { seat: Seat::new(engine, facts) }
    }
}

/// One event `Step` with a table `walkers` that counts.
fn declare(engine: &mut Engine) {
    let payload = json!({"nodes": [
        {"kind": "event", "name": "Step", "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "event_time_field": null},
        {"kind": "derivation", "name": "walkers", "output_kind": "table", "upstreams": ["Step"],
         "ops": [{"op": "group_by", "keys": ["walker"], "agg": {"n": {"op": "count", "params": {}}}}],
         "schema": {"fields": {"walker": "str"}, "optional_fields": []}, "table_primary_key": ["walker"]}
    ]});
    let registry = Registry::clone(engine.state().registry());
    let outcome = registry.apply_register(&payload.to_string(), &RegisterOptions::default());
    let outcome = outcome.unwrap_or_else(|error| panic!("{}", error.to_json()));
    engine.define(outcome.next.unwrap(), outcome.effects).unwrap();
}
