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
