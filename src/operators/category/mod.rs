//! How the values of a field spread over categories: `entropy` and `event_type_mix`. Both read the counters of `top_k`.

mod entropy;
mod event_type_mix;
mod valued;

pub(super) use entropy::Entropy;
pub(super) use event_type_mix::EventTypeMix;

use super::{AccumulatorNeed, Fields, RowsTaken};
use crate::state::Accumulator;
use std::sync::Arc;

/// An accumulator of the feature's field.
fn need(accumulator: Arc<dyn Accumulator>) -> AccumulatorNeed {
    AccumulatorNeed { accumulator, rows: RowsTaken::Matching, fields: Fields::Field }
}
