//! Values of some rows, and how often values fell where: `first_n`, `last_n`, `most_recent_n`, `lag`, and the histograms.

mod dow_hour_histogram;
mod first_n;
mod histogram;
mod hour_of_day_histogram;
mod hourly;
mod lag;
mod last_n;
mod most_recent_n;
mod reservoir_sample;
mod seasonal_deviation;

pub(super) use dow_hour_histogram::DowHourHistogram;
pub(super) use first_n::FirstN;
pub(super) use histogram::Histogram;
pub(super) use hour_of_day_histogram::HourOfDayHistogram;
pub(super) use lag::Lag;
pub(super) use last_n::LastN;
pub(super) use most_recent_n::MostRecentN;
pub(super) use reservoir_sample::ReservoirSample;
pub(super) use seasonal_deviation::SeasonalDeviation;

use super::kept::{Keep, KeptRows, kept_cells};
use super::value_slot::value_of;
use super::{Accuracy, Compiled, Family, FeatureParams, FieldRule, Output, Param, ParamKind, Reads, Signature, Slot, WindowRule};
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

/// A feature that lists the values of the rows that are kept.
fn compiled(feature: &FeatureParams<'_>, keep: Keep, count: usize) -> Compiled {
    let value = |slot: &Slot<'_>| Value::List(kept_cells(slot.core).map(value_of).collect());
    Compiled::of_one(Arc::new(KeptRows::of(feature, keep, count)), value, |_| Accuracy::Exact)
}
