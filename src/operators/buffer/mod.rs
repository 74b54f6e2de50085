//! Values of some rows, and how often values fell where: `first_n`, `last_n`, `most_recent_n`, `lag`, and the histograms.

mod cells;
mod dow_hour_histogram;
mod first_n;
mod histogram;
mod hour_of_day_histogram;
mod hourly;
mod kept;
mod lag;
mod last_n;
mod most_recent_n;
mod reservoir_sample;
mod seasonal_deviation;

pub(super) use dow_hour_histogram::DowHourHistogram;
pub(super) use first_n::FirstN;
pub(super) use histogram::Histogram;
pub(super) use hour_of_day_histogram::HourOfDayHistogram;
use kept::kept;
pub(super) use kept::{Keep, KeptRows, kept_numbers};
pub(super) use lag::Lag;
pub(super) use last_n::LastN;
pub(super) use most_recent_n::MostRecentN;
pub(super) use reservoir_sample::ReservoirSample;
pub(super) use seasonal_deviation::SeasonalDeviation;

use super::{Accuracy, Compiled, Family, FeatureParams, FieldRule, Output, Param, ParamKind, Reads, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::{Code, Value};

/// A signature of the family: no window.
const fn signature(
    name: &'static str,
    asks: &'static str,
    help: &'static str,
    field: FieldRule,
    reads: Reads,
    output: Output,
) -> Signature {
    Signature {
        name,
        aliases: &[],
        family: Family::Buffer,
        asks,
        help,
        field,
        reads,
        window: WindowRule::Refused(Code::AggregationInvalidWindow),
        params: &[],
        lifetime_bound: None,
        grown: "",
        output,
    }
}

/// How many values are kept.
const fn n(default: Option<i64>, code: Code, help: &'static str) -> Param {
    Param { name: "n", aliases: &[], kind: ParamKind::Int { min: 1, max: 1024, default }, code, help }
}

/// A list of kept values.
const LIST: Output = Output::Is(FieldType::Json);

/// A feature that reads values off the rows that are kept.
fn compiled(
    feature: &FeatureParams<'_>,
    keep: Keep,
    count: usize,
    value: impl Fn(Vec<Value>) -> Value + Send + Sync + 'static,
) -> Compiled {
    let rows = KeptRows::of(feature, keep, count);
    Compiled::of_one(Arc::new(rows), move |slot| value(kept(rows, slot.core)), |_| Accuracy::Exact)
}
