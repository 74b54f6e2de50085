//! From gathered families to text: adds the derived and the process families, sorts, encodes.

use std::collections::BTreeMap;

use prometheus::TextEncoder;
use prometheus::proto::{self, MetricType};

use super::process;
use super::table::{self, MetricKind, MetricSpec, Origin};

/// The text format 0.0.4 of the own families and everything that follows from them.
pub(super) fn text(mut families: Vec<proto::MetricFamily>) -> String {
    let derived: Vec<_> = table::TABLE.iter().filter_map(|spec| derive(spec, &families)).collect();
    families.extend(derived);
    families.extend(process::read().into_iter().filter_map(|(name, value)| {
        let spec = table::spec(name)?;
        Some(family(name, spec.help, kind(spec.kind), vec![scalar(spec.kind, Vec::new(), value)]))
    }));
    families.retain(|family| !family.get_metric().is_empty());
    families.sort_by(|a, b| a.name().cmp(b.name()));
    let mut text = String::with_capacity(64 * 1024);
    if let Err(error) = TextEncoder::new().encode_utf8(&families, &mut text) {
        // A half-written exposition must not parse: the scraper reports the line and the operator reads the reason.
        text.push_str(&format!("\nstreamgauge cannot write its metrics: {error}\n"));
    }
    text
}

/// A derived family from the gathered ones; `None` for a family that is not derived, or when its original has no series.
fn derive(spec: &MetricSpec, families: &[proto::MetricFamily]) -> Option<proto::MetricFamily> {
    let Origin::Derived { family: original, only } = spec.origin else { return None };
    let mut sums: BTreeMap<Vec<(String, String)>, f64> = BTreeMap::new();
    if spec.labels.is_empty() {
        // An unlabelled alias exists from the start, even while its original has no series.
        sums.insert(Vec::new(), 0.0);
    }
    for metric in families.iter().filter(|family| family.name() == original).flat_map(proto::MetricFamily::get_metric) {
        let pairs = metric.get_label();
        if !only.is_none_or(|(name, value)| pairs.iter().any(|pair| pair.name() == name && pair.value() == value)) {
            continue;
        }
        let kept = pairs.iter().filter(|pair| spec.labels.contains(&pair.name()));
        let labels = kept.map(|pair| (pair.name().to_owned(), pair.value().to_owned())).collect();
        *sums.entry(labels).or_default() += match spec.kind {
            MetricKind::Counter => metric.get_counter().get_value(),
            MetricKind::Gauge | MetricKind::Histogram => metric.get_gauge().get_value(),
        };
    }
    let metrics = sums.into_iter().map(|(labels, sum)| {
        let labels = labels.iter().map(|(name, value)| label(name, value)).collect();
        scalar(spec.kind, labels, sum)
    });
    Some(family(spec.name, spec.help, kind(spec.kind), metrics.collect()))
}

fn kind(kind: MetricKind) -> MetricType {
    match kind {
        MetricKind::Counter => MetricType::COUNTER,
        MetricKind::Gauge => MetricType::GAUGE,
        MetricKind::Histogram => MetricType::HISTOGRAM,
    }
}

fn scalar(kind: MetricKind, labels: Vec<proto::LabelPair>, value: f64) -> proto::Metric {
    let mut metric = proto::Metric::from_label(labels);
    if kind == MetricKind::Counter {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

pub(super) fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<proto::Metric>) -> proto::MetricFamily {
    let mut family = proto::MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

pub(super) fn label(name: &str, value: &str) -> proto::LabelPair {
    let mut pair = proto::LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}
