//! `decayed_count`: how many rows matched, each of which counts half as much after every half life.

use super::decayed_sum::compiled;
use super::decayed_total::{Addend, DecayedTotal};
use super::half_life::HALF_LIFE;
use crate::operators::{Compiled, Family, FeatureParams, FieldRule, Operator, Output, Reads, Signature, WindowRule};
use crate::row::FieldType;

/// The operator.
pub(in crate::operators) struct DecayedCount;

static SIGNATURE: Signature = Signature {
    name: "decayed_count",
    aliases: &[],
    family: Family::Decay,
    asks: "how many rows came lately",
    help: "Number of matching rows, each counted as `2^(-age / half_life)`: about the rows of the last 1.44 half lives \
           when they come evenly (forward decay by row time; G. Cormode and others, 2009). It fades on at a read, to the \
           read's time, but is never as of a time before the latest row. Late rows enter with what is left of them, so \
           the order of rows does not matter; exact up to rounding. 24 bytes, 32 in each bucket of a window. Empty: null.",
    field: FieldRule::None,
    reads: Reads::Any,
    window: WindowRule::Allowed,
    params: &[HALF_LIFE],
    lifetime_bound: None,
    grown: "The count of whole buckets plus the share of a cut one's; bound: without and with its rows, open above where \
            the bucket goes on for hundreds of half lives after the time of the read.",
    output: Output::Is(FieldType::F64),
};

impl Operator for DecayedCount {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, feature: &FeatureParams<'_>) -> Compiled {
        compiled(DecayedTotal::of(feature, Addend::One))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::decayed_total::oracle::{GIVEN, HALF_LIFE_US, check_cuts, total};
    use super::*;
    use crate::operators::laws::{Datum, Row, amounts, check_answer, check_extremes, in_time, out_of_time};
    use crate::operators::{Accuracy, ParamValue};
    use proptest::prelude::*;

    /// One for each row, whatever its cell.
    fn ones(rows: &[Row]) -> Vec<(f64, i64)> {
        rows.iter().map(|row| (1.0, row.time_us)).collect()
    }

    #[test]
    fn every_row_counts_and_fades() {
        let rows = [Row::of(Datum::Null, 0, 1), Row::of(Datum::Str("a".into()), HALF_LIFE_US, 2)];
        for (half_lives, expected) in [(-3, 1.5), (1, 1.5), (2, 0.75), (40, 1.5 / (1u64 << 39) as f64)] {
            check_answer(&DecayedCount, &GIVEN, &rows, half_lives * HALF_LIFE_US, (Some(expected), 0.0), Accuracy::Exact).unwrap();
        }
        check_answer(&DecayedCount, &GIVEN, &[], 7, (None, 0.0), Accuracy::Exact).unwrap();
    }

    #[test]
    fn it_holds_at_the_ends_of_times() {
        for us in [1_000, 3650 * 86_400_000_000] {
            check_extremes(&DecayedCount, &[("half_life", ParamValue::DurationUs(us))]);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_is_the_count_of_what_is_left(rows in out_of_time(amounts(), 40), wait_us in -3_000_000i64..20_000_000) {
            let now_us = rows.last().map_or(0, |row| row.time_us) + wait_us;
            check_answer(&DecayedCount, &GIVEN, &rows, now_us, (total(&ones(&rows), now_us), 1e-9), Accuracy::Exact)?;
        }

        #[test]
        fn a_bound_holds_wherever_the_bucket_is_cut(rows in in_time(amounts(), 24), cuts in (0usize..24, 0usize..24), share in 0.001f64..0.999) {
            check_cuts(&DecayedCount, ones, &rows, cuts, share)?;
        }
    }
}
