//! The families of the table as objects of the `prometheus` crate, by name.
//!
//! Names and label counts are constants of this crate: a family that is asked for but not declared, or asked for with a wrong number of labels, is a bug that
//! the tests of `metrics` find, so the accessors panic on it.

use std::collections::BTreeMap;
use std::sync::Arc;

use prometheus::core::Desc;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, Opts, Registry, proto};

use super::durations::{self, Durations};
use super::table::{MetricKind, Origin, TABLE};

/// The families, by name.
pub(super) struct Families {
    registry: Registry,
    counters: BTreeMap<&'static str, IntCounterVec>,
    gauges: BTreeMap<&'static str, GaugeVec>,
    durations: BTreeMap<&'static str, durations::DurationFamily>,
}

impl Families {
    pub(super) fn build() -> Self {
        let registry = Registry::new();
        let (mut counters, mut gauges, mut durations) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for spec in TABLE.iter().filter(|spec| spec.origin == Origin::Own) {
            match spec.kind {
                MetricKind::Counter => {
                    let family = sound(IntCounterVec::new(Opts::new(spec.name, spec.help), spec.labels));
                    sound(registry.register(Box::new(family.clone())));
                    counters.insert(spec.name, family);
                }
                MetricKind::Gauge => {
                    let family = sound(GaugeVec::new(Opts::new(spec.name, spec.help), spec.labels));
                    sound(registry.register(Box::new(family.clone())));
                    gauges.insert(spec.name, family);
                }
                MetricKind::Histogram => {
                    let labels = spec.labels.iter().map(|label| (*label).to_owned()).collect();
                    let desc = sound(Desc::new(spec.name.to_owned(), spec.help.to_owned(), labels, Default::default()));
                    let family = durations::DurationFamily::new(desc, bounds(spec.name));
                    sound(registry.register(Box::new(family.clone())));
                    durations.insert(spec.name, family);
                }
            }
        }
        Self { registry, counters, gauges, durations }
    }

    pub(super) fn counter(&self, name: &str, labels: &[&str]) -> IntCounter {
        sound(found(self.counters.get(name)).get_metric_with_label_values(labels))
    }

    pub(super) fn gauge(&self, name: &str, labels: &[&str]) -> Gauge {
        sound(found(self.gauges.get(name)).get_metric_with_label_values(labels))
    }

    pub(super) fn counter_family(&self, name: &str) -> IntCounterVec {
        found(self.counters.get(name)).clone()
    }

    /// Replaces all series of a gauge.
    pub(super) fn replace<'a>(&self, name: &str, levels: impl Iterator<Item = (&'a Vec<String>, f64)>) {
        let family = found(self.gauges.get(name));
        family.reset();
        for (labels, level) in levels {
            sound(family.get_metric_with_label_values(labels)).set(level);
        }
    }

    pub(super) fn gather(&self) -> Vec<proto::MetricFamily> {
        self.registry.gather()
    }

    pub(super) fn duration(&self, name: &str, labels: &[&str]) -> Arc<Durations> {
        found(self.durations.get(name)).series(labels)
    }
}

fn bounds(name: &str) -> &'static [f64] {
    match name {
        "streamgauge_event_to_visible_seconds" | "streamgauge_snapshot_seconds" | "streamgauge_recovery_seconds" => durations::LONG_SECONDS,
        _ => durations::SHORT_SECONDS,
    }
}

/// A family or series built from the constant table; anything else is a bug in this file, found by its tests.
pub(super) fn sound<T>(built: prometheus::Result<T>) -> T {
    match built {
        Ok(built) => built,
        Err(error) => panic!("the table of metrics contradicts itself: {error}"),
    }
}

fn found<T>(family: Option<T>) -> T {
    match family {
        Some(family) => family,
        None => panic!("a family is used that the table of metrics does not declare"),
    }
}
