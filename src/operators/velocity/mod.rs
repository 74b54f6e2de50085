//! How fast things change: gaps between rows, differences, rates, trends, and how far the latest value is from the others.
//!
//! A window's rows are the whole input: what a feature reads is what its rule gives for the rows of the window alone. Where
//! an edge of the window cuts a bucket of a grown key, the bucket counts as a whole when half of it or more is inside, and
//! nothing is known of how far the value is off.

mod burst_count;
mod bursts;
mod changes;
mod delta_from_prev;
mod inter_arrival_stats;
mod line;
mod outlier_count;
mod outliers;
mod rate_of_change;
mod steps;
mod trend;
mod trend_residual;
mod value_change_count;
mod z_score;

pub(super) use burst_count::BurstCount;
pub(super) use delta_from_prev::DeltaFromPrev;
pub(super) use inter_arrival_stats::InterArrivalStats;
pub(super) use outlier_count::OutlierCount;
pub(super) use rate_of_change::RateOfChange;
pub(super) use trend::Trend;
pub(super) use trend_residual::TrendResidual;
pub(super) use value_change_count::ValueChangeCount;
pub(super) use z_score::ZScore;

use super::{Accuracy, Family, FieldRule, Output, Reads, Signature, Slot, WindowRule};
use crate::row::FieldType;
use streamgauge_api::Value;

/// What `grown` says of every operator here.
const GROWN: &str = "A cut bucket counts as a whole when half of it or more is inside; no bound is known.";

/// A signature of the family.
const fn signature(name: &'static str, asks: &'static str, help: &'static str, reads: Reads, output: FieldType) -> Signature {
    Signature {
        name,
        aliases: &[],
        family: Family::Velocity,
        asks,
        help,
        field: FieldRule::Optional,
        reads,
        window: WindowRule::Allowed,
        params: &[],
        lifetime_bound: None,
        grown: GROWN,
        output: Output::Is(output),
    }
}

/// Exact where no bucket is cut.
fn accuracy(slot: &Slot<'_>) -> Accuracy {
    if slot.edges().next().is_none() { Accuracy::Exact } else { Accuracy::Unknown }
}

/// A number as readers see it: null where it leaves the doubles.
fn finite(number: f64) -> Value {
    if number.is_finite() { Value::F64(number) } else { Value::Null }
}

/// Milliseconds between two times in microseconds.
#[expect(clippy::cast_precision_loss, reason = "a distance of times needs no last digit beyond 2^53 us, 285 years")]
fn ms(from_us: i64, to_us: i64) -> f64 {
    to_us.saturating_sub(from_us) as f64 / 1000.0
}
