//! `ratio`: the share of the rows reaching the table that matched the feature's `where`.
//!
//! Two row counts, one fed with the matching rows and one with every row; the second is shared with any unfiltered `count` of the same window.

use super::count::Rows;
use super::{AccumulatorNeed, Compiled, FeatureParams, FieldRule, Operator, Output, Signature, WindowRule};
use crate::row::FieldType;
use std::sync::Arc;
use streamgauge_api::Value;

/// The operator.
pub(super) struct Ratio;

static SIGNATURE: Signature = Signature {
    name: "ratio",
    aliases: &[],
    help: "Matching rows divided by all rows that reached the table; 1.0 without `where`. Exact counts, one rounding; 16 bytes. Empty: null.",
    field: FieldRule::None,
    window: WindowRule::Allowed,
    params: &[],
    lifetime_bound: None,
    output: Output::Is(FieldType::F64),
};

impl Operator for Ratio {
    fn signature(&self) -> &'static Signature {
        &SIGNATURE
    }

    fn compile(&self, _feature: &FeatureParams<'_>) -> Compiled {
        let need = |filtered| AccumulatorNeed { accumulator: Arc::new(Rows), filtered };
        Compiled {
            needs: vec![need(true), need(false)],
            read: Box::new(|slots, _now_us| match slots {
                [matching, all] => share(matching.words[0], all.words[0]).into(),
                _ => Value::Null.into(),
            }),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "row counts stay below 2^53")]
fn share(matching: u64, all: u64) -> Value {
    if all == 0 { Value::Null } else { Value::F64(matching as f64 / all as f64) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::Slot;
    use super::super::laws::compiled;
    use super::*;
    use crate::state::Arena;

    #[test]
    fn the_second_count_takes_every_row() {
        let ratio = compiled(&Ratio, FieldType::I64, &[]);
        assert_eq!(ratio.needs.iter().map(|need| need.filtered).collect::<Vec<_>>(), [true, false]);
        let arena = Arena::default();
        for (matching, all, expected) in [(0, 0, Value::Null), (0, 4, Value::F64(0.0)), (1, 4, Value::F64(0.25)), (4, 4, Value::F64(1.0))] {
            let slots = [Slot { words: &[matching], arena: &arena }, Slot { words: &[all], arena: &arena }];
            assert_eq!((ratio.read)(&slots, 0), expected.into());
        }
    }
}
