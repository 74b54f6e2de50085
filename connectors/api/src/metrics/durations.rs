//! Histograms of durations: fixed bounds, relaxed adds, one call per batch.
//!
//! The histogram of the `prometheus` crate takes one observation per call; a batch of rows that became visible together is one call here
//! ([`Durations::record_many`]). Handles are shared by `Arc` and may be recorded to from any thread; a reader may see the bucket of an observation before its
//! sum, never a bucket that shrinks.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use prometheus::core::{Collector, Desc};
use prometheus::proto;

use super::exposition::{family, label};

/// Upper bounds for what takes microseconds to seconds.
pub(super) const SHORT_SECONDS: &[f64] = &[
    0.000_005, 0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0,
    2.5, 5.0, 10.0,
];

/// Upper bounds for what takes milliseconds to an hour: records on their way, snapshots, recovery.
pub(super) const LONG_SECONDS: &[f64] =
    &[0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0];

/// One series of a histogram.
#[derive(Debug)]
pub struct Durations {
    bounds: &'static [f64],
    /// One count per bound and one beyond the last.
    counts: Box<[AtomicU64]>,
    /// Bits of an `f64` in seconds: a sum of nanoseconds in 64 bits would overflow when a month of old records is read.
    sum: AtomicU64,
}

impl Durations {
    fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(), sum: AtomicU64::new(0f64.to_bits()) }
    }

    /// Records one duration.
    pub fn record(&self, duration: Duration) {
        self.record_many(duration, 1);
    }

    /// Records `n` equal durations: a batch whose rows took the same time. Nothing for `n = 0`.
    pub fn record_many(&self, duration: Duration, n: u64) {
        if n == 0 {
            return;
        }
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.partition_point(|bound| *bound < seconds);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(n, Ordering::Relaxed);
        }
        #[expect(clippy::cast_precision_loss, reason = "a sum of seconds is approximate")]
        let added = seconds * n as f64;
        let _ = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |bits| Some((f64::from_bits(bits) + added).to_bits()));
    }

    /// Observations so far.
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }

    fn to_proto(&self) -> proto::Histogram {
        let mut cumulative = 0;
        let mut buckets = Vec::with_capacity(self.bounds.len());
        for (bound, count) in self.bounds.iter().zip(&self.counts) {
            cumulative += count.load(Ordering::Relaxed);
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(*bound);
            bucket.set_cumulative_count(cumulative);
            buckets.push(bucket);
        }
        let beyond = self.counts.last().map_or(0, |count| count.load(Ordering::Relaxed));
        let mut histogram = proto::Histogram::default();
        histogram.set_bucket(buckets);
        histogram.set_sample_count(cumulative + beyond);
        histogram.set_sample_sum(f64::from_bits(self.sum.load(Ordering::Relaxed)));
        histogram
    }
}

/// All series of one histogram family, by label values.
#[derive(Clone)]
pub(super) struct DurationFamily {
    desc: Desc,
    bounds: &'static [f64],
    series: Arc<RwLock<BTreeMap<Vec<String>, Arc<Durations>>>>,
}

impl DurationFamily {
    pub(super) fn new(desc: Desc, bounds: &'static [f64]) -> Self {
        Self { desc, bounds, series: Arc::default() }
    }

    /// The series of these label values, made at its first use.
    pub(super) fn series(&self, labels: &[&str]) -> Arc<Durations> {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(series.entry(labels).or_insert_with(|| Arc::new(Durations::new(self.bounds))))
    }
}

impl Collector for DurationFamily {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<proto::MetricFamily> {
        let series = self.series.read().unwrap_or_else(PoisonError::into_inner);
        let metrics = series.iter().map(|(values, durations)| {
            let labels = self.desc.variable_labels.iter().zip(values).map(|(name, value)| label(name, value)).collect();
            let mut metric = proto::Metric::from_label(labels);
            metric.set_histogram(durations.to_proto());
            metric
        });
        vec![family(&self.desc.fq_name, &self.desc.help, proto::MetricType::HISTOGRAM, metrics.collect())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_counts_in_every_bucket_from_its_bound_upwards() {
        let durations = Durations::new(&[0.001, 0.01, 0.1]);
        durations.record(Duration::from_millis(1));
        durations.record_many(Duration::from_millis(50), 3);
        durations.record(Duration::from_secs(9));
        durations.record_many(Duration::from_secs(9), 0);
        let histogram = durations.to_proto();
        let cumulative: Vec<u64> = histogram.get_bucket().iter().map(proto::Bucket::cumulative_count).collect();
        assert_eq!(cumulative, [1, 1, 4]);
        assert_eq!((histogram.get_sample_count(), durations.count()), (5, 5));
        assert!((histogram.get_sample_sum() - 9.151).abs() < 1e-9);
    }

    #[test]
    fn bounds_are_sorted() {
        for bounds in [SHORT_SECONDS, LONG_SECONDS] {
            assert!(bounds.is_sorted());
        }
    }
}
