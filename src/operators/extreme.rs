//! The smallest or the largest value of a field, kept verbatim: what `min` and `max` read.
//!
//! Numbers compare numerically, an integer with a double exactly (no rounding); text, bytes and json compare bytewise, false before true. Values of different kinds do
//! not compare: the kind that came first stays. Of equal values the first one stays.

use super::value_slot::{ValueSlot, value_of};
use super::{FeatureParams, Slot};
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Input, Need};
use std::cmp::Ordering;
use streamgauge_api::Value;

/// Slot: `[tag] [payload]`, see [`ValueSlot`]. Merge is exact and associative; commutative too where all values are of one kind.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extreme {
    layout: ValueSlot,
    replace_on: Ordering,
}

impl Extreme {
    /// The smallest value.
    pub(super) fn smallest(feature: &FeatureParams<'_>) -> Self {
        Self { layout: ValueSlot::of(feature.field_kind), replace_on: Ordering::Less }
    }

    /// The largest value.
    pub(super) fn largest(feature: &FeatureParams<'_>) -> Self {
        Self { layout: ValueSlot::of(feature.field_kind), replace_on: Ordering::Greater }
    }

    /// The value; null before the first.
    pub(super) fn read(self, slot: &Slot<'_>) -> Value {
        value_of(self.layout.load(slot.words[0], slot.words[1], slot.arena))
    }

    #[inline]
    fn take(self, slot: &mut [u64], arena: &mut Arena, cell: Cell<'_>) {
        if self.layout.takes(cell) && (slot[0] == 0 || compare(cell, self.layout.load(slot[0], slot[1], arena)) == Some(self.replace_on)) {
            slot[0] = self.layout.store(&mut slot[1], arena, cell);
        }
    }
}

impl Accumulator for Extreme {
    fn identity(&self) -> String {
        let end = if self.replace_on == Ordering::Less { "smallest" } else { "largest" };
        format!("{end}/{}", self.layout.name())
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        if self.layout == ValueSlot::Object { &[1] } else { &[] }
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        self.take(slot, arena, input.cell);
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        self.take(slot, arena, self.layout.load(other[0], other[1], from));
    }
}

/// Order of two values of one kind; `None` for different kinds.
#[inline]
fn compare(left: Cell<'_>, right: Cell<'_>) -> Option<Ordering> {
    match (left, right) {
        (Cell::I64(left), Cell::I64(right)) | (Cell::Datetime(left), Cell::Datetime(right)) => Some(left.cmp(&right)),
        (Cell::F64(left), Cell::F64(right)) => left.partial_cmp(&right),
        (Cell::I64(left), Cell::F64(right)) => compare_mixed(left, right),
        (Cell::F64(left), Cell::I64(right)) => compare_mixed(right, left).map(Ordering::reverse),
        (Cell::Bool(left), Cell::Bool(right)) => Some(left.cmp(&right)),
        (Cell::Str(left), Cell::Str(right)) | (Cell::Bytes(left), Cell::Bytes(right)) | (Cell::Json(left), Cell::Json(right)) => {
            Some(left.cmp(right))
        }
        _ => None,
    }
}

/// An integer against a double, without rounding either.
#[expect(clippy::cast_possible_truncation, reason = "the double is whole and within i64 there")]
fn compare_mixed(left: i64, right: f64) -> Option<Ordering> {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if right.is_nan() {
        None
    } else if right >= TWO_TO_63 {
        Some(Ordering::Less)
    } else if right < -TWO_TO_63 {
        Some(Ordering::Greater)
    } else {
        let floor = right.floor();
        Some(left.cmp(&(floor as i64)).then(if right > floor { Ordering::Less } else { Ordering::Equal }))
    }
}
