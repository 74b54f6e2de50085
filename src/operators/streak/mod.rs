//! Runs of rows that match or do not, in order of time: `streak`, `max_streak`, `negative_streak`. They share one accumulator.

mod max_streak;
mod negative_streak;
mod runs;
#[expect(clippy::module_inception, reason = "one file per operator, named after it")]
mod streak;

pub(super) use max_streak::MaxStreak;
pub(super) use negative_streak::NegativeStreak;
pub(super) use streak::Streak;

use super::reading::count_value;
use super::{AccumulatorNeed, Accuracy, Compiled, Family, FieldRule, Fields, Output, Reads, RowsTaken, Signature, WindowRule};
use crate::row::FieldType;
use runs::Runs;
use std::sync::Arc;
use streamgauge_api::Code;

/// A signature of the family.
const fn signature(name: &'static str, asks: &'static str, help: &'static str) -> Signature {
    Signature {
        name,
        aliases: &[],
        family: Family::Streak,
        asks,
        help,
        field: FieldRule::Condition,
        reads: Reads::Any,
        window: WindowRule::Refused(Code::AggregationInvalidWindow),
        params: &[],
        lifetime_bound: None,
        grown: "",
        output: Output::Is(FieldType::I64),
    }
}

/// A feature that reads a length off the runs of all rows.
fn compiled(length: impl Fn(Runs) -> u64 + Send + Sync + 'static) -> Compiled {
    Compiled {
        needs: vec![AccumulatorNeed { accumulator: Arc::new(runs::RunLengths), rows: RowsTaken::AllMarked, fields: Fields::Field }],
        value: Box::new(move |slots, _now_us| count_value(length(Runs::of(super::only(slots).core.words)))),
        accuracy: Box::new(
            |slots, _now_us| {
                if Runs::of(super::only(slots).core.words).disordered { Accuracy::Unknown } else { Accuracy::Exact }
            },
        ),
    }
}
