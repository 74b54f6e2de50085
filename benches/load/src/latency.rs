//! Latencies as the benchmarks report them.

use serde_json::{Value as Json, json};
use std::time::Duration;

/// Nearest-rank percentiles in microseconds, over every sample.
pub fn summary(samples: &mut [Duration]) -> Json {
    samples.sort_unstable();
    let at = |fraction: f64| -> f64 {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within the samples"
        )]
        let index = (samples.len() as f64 * fraction).ceil() as usize;
        samples.get(index.saturating_sub(1)).map_or(f64::NAN, |sample| (sample.as_secs_f64() * 1e7).round() / 10.0)
    };
    json!({ "samples": samples.len(), "p50_us": at(0.5), "p90_us": at(0.9), "p99_us": at(0.99), "p999_us": at(0.999), "max_us": at(1.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_nearest_ranks() {
        let mut samples: Vec<Duration> = (1..=1000).rev().map(Duration::from_micros).collect();
        let told = summary(&mut samples);
        assert_eq!(
            (&told["p50_us"], &told["p99_us"], &told["p999_us"], &told["max_us"]),
            (&json!(500.0), &json!(990.0), &json!(999.0), &json!(1000.0))
        );
    }
}
