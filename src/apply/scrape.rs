//! What the exposition is told when it is scraped: levels that somebody else keeps, and counts that grew
//! since the last scrape.
//!
//! Counters that hot threads hold are counted where it happens; here are those that the state, the board
//! of sources and the log keep by themselves. A counter of the exposition only grows, so what is added is
//! the difference to the last look; a table that was rebuilt begins anew. Called on a thread of the admin
//! runtime; looks at the engine between two frames, without waiting for the end of one.

use super::operator::EngineControl;
use crate::state::{Funnel, Missed, Table};
use crate::storage::{Disk, Storage};
use crate::wal::WalHandle;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use streamgauge_api::metrics::{IntCounter, Metrics, TableLevel};
use streamgauge_api::source::IncidentKind;

/// What was seen at the last scrape.
#[derive(Default)]
pub(super) struct Scraped {
    tables: HashMap<String, Counted>,
    /// Of what has one number: partitions, sources, the log.
    others: HashMap<String, u64>,
}

impl Scraped {
    fn add(&mut self, what: String, counter: &IntCounter, now: u64) {
        let known = self.others.entry(what).or_default();
        counter.inc_by(now.saturating_sub(*known));
        *known = now;
    }
}

impl EngineControl {
    /// The exposition as it is now.
    pub(super) fn scrape(&self) -> String {
        let metrics = &self.metrics;
        let mut scraped = self.scraped.lock();
        self.scrape_tables(&mut scraped);
        self.scrape_sources(&mut scraped);
        for (kind, opened) in self.facts.incidents.take_opened() {
            metrics.incidents(kind).inc_by(opened);
        }
        let open: Vec<IncidentKind> = self.facts.incidents.list().iter().map(|(_, incident)| incident.kind).collect();
        metrics.set_partitions(&self.statuses(), &open);
        metrics.set_phase(self.facts.phase().as_str());
        self.scrape_log(&mut scraped);
        self.scrape_levels();
        metrics.text()
    }

    fn scrape_tables(&self, scraped: &mut Scraped) {
        let metrics = &self.metrics;
        let bad = self.facts.bad_rows();
        let looked = self.look(|engine| {
            let level = |table: &Table| {
                let level = TableLevel { table: table.def().name.to_string(), keys: table.len() as u64, bytes: table.bytes() as u64 };
                (level, table.funnel, bad.get(&*table.def().event_name).copied().unwrap_or(0), table.missed())
            };
            let state = engine.state();
            let rejects = [state.reject_bytes() as u64, state.rejects().count() as u64, state.rejects_gone()];
            (state.tables().map(level).collect::<Vec<_>>(), rejects)
        });
        // While the state is rebuilt there is nothing to look at.
        let (tables, [reject_bytes, kept, gone]) = looked.unwrap_or_default();
        for (level, funnel, bad, missed) in &tables {
            scraped.tables.entry(level.table.clone()).or_default().add_up(metrics, &level.table, *funnel, *bad, missed.clone());
        }
        metrics.set_tables(&tables.into_iter().map(|(level, ..)| level).collect::<Vec<_>>());
        metrics.memory_bytes("rejects").set(approximate(reject_bytes));
        metrics.rejects("kept").set(approximate(kept));
        metrics.rejects("gone").set(approximate(gone));
    }

    fn scrape_sources(&self, scraped: &mut Scraped) {
        let metrics = &self.metrics;
        for gauge in self.board.partitions() {
            let (topic, number) = (&gauge.key.topic, gauge.key.partition);
            let counter = metrics.kafka_records(&gauge.source, topic, number);
            scraped.add(format!("{} {topic}/{number}", gauge.source), &counter, gauge.read_records.load(Ordering::Relaxed));
        }
        let mut client_bytes = 0;
        for (source, counters) in self.board.counters() {
            let series = metrics.source_series(&source);
            scraped.add(format!("{source} connects"), &series.connects, counters.connects.load(Ordering::Relaxed));
            scraped.add(format!("{source} errors"), &series.errors, counters.client_errors.load(Ordering::Relaxed));
            client_bytes += counters.client_queue_bytes.load(Ordering::Relaxed);
        }
        metrics.memory_bytes("kafka").set(approximate(client_bytes));
    }

    fn scrape_log(&self, scraped: &mut Scraped) {
        let metrics = &self.metrics;
        let Some(wal) = self.wal.get().map(WalHandle::status) else { return };
        metrics.lsn_written.set(approximate(wal.written_lsn));
        metrics.lsn_durable.set(approximate(wal.durable_lsn));
        metrics.wal_segments.set(approximate(wal.segments as u64));
        scraped.add("wal bytes".to_owned(), &metrics.wal_bytes, wal.written_bytes);
        if let Ok(space) = Disk.space(&self.settings.data_dir) {
            metrics.disk_free_bytes.set(approximate(space.free_bytes));
        }
    }

    fn scrape_levels(&self) {
        let (metrics, facts) = (&self.metrics, &self.facts);
        let registry = facts.registry();
        metrics.registry_version.set(approximate(registry.version));
        metrics.registry_nodes.set(approximate(registry.node_count() as u64));
        metrics.memory_limit_bytes.set(approximate(self.settings.memory_max_bytes));
        metrics.memory_bytes("tables").set(approximate(facts.table_bytes.load(Ordering::Relaxed)));
        metrics.memory_bytes("queues").set(approximate(facts.queued_bytes.load(Ordering::Relaxed)));
        metrics.apply_queue_rows.set(approximate(facts.queued_rows.load(Ordering::Relaxed)));
        metrics.replay_progress_ratio.set(if facts.recovered() { 1.0 } else { self.replay_progress() });
        metrics.lsn_snapshot.set(approximate(facts.snapshot_lsn.load(Ordering::Relaxed)));
        metrics.snapshot_size_bytes.set(approximate(facts.snapshot_bytes.load(Ordering::Relaxed)));
        let snapshot_us = facts.snapshot_us.load(Ordering::Relaxed);
        if snapshot_us > 0 {
            let age_us = (self.clock.now_us() - snapshot_us).max(0);
            metrics.snapshot_age_seconds.set(approximate(age_us.unsigned_abs()) / 1e6);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus gauges are doubles")]
fn approximate(value: u64) -> f64 {
    value as f64
}

/// What of a table's funnel the counters of the exposition hold already.
#[derive(Default)]
struct Counted {
    funnel: Funnel,
    bad: u64,
    missed: BTreeMap<(i64, usize), Missed>,
}

impl Counted {
    /// Adds what came since the last scrape; a table that was rebuilt begins anew.
    fn add_up(&mut self, metrics: &Metrics, table: &str, funnel: Funnel, bad: u64, missed: BTreeMap<(i64, usize), Missed>) {
        let series = metrics.table_series(table);
        let since = |last: u64, now: u64| if now >= last { now - last } else { now };
        let bad_since = since(self.bad, bad);
        series.received.inc_by(since(self.funnel.received, funnel.received) + bad_since);
        series.decoded.inc_by(since(self.funnel.received, funnel.received));
        series.bad.inc_by(bad_since);
        series.filtered.inc_by(since(self.funnel.filtered, funnel.filtered));
        series.null_key.inc_by(since(self.funnel.null_key, funnel.null_key));
        series.late.inc_by(since(self.funnel.late, funnel.late));
        series.applied.inc_by(since(self.funnel.applied, funnel.applied));
        series.deleted.inc_by(since(self.funnel.deleted, funnel.deleted));
        series.undeleted.inc_by(since(self.funnel.undeleted, funnel.undeleted));
        for (window, now) in &missed {
            let (late, ahead) = metrics.window_series(table, window.0 / 1000, window.1);
            let known = self.missed.get(window).copied().unwrap_or_default();
            late.inc_by(since(known.late, now.late));
            ahead.inc_by(since(known.ahead, now.ahead));
        }
        *self = Self { funnel, bad, missed };
    }
}
