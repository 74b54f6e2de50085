//! The latest number by (row time, LSN): what `z_score` and `trend_residual` compare with the others.

use super::reading::Part;
use crate::state::{Accumulator, Arena, Input, Need, Order, f64_of};

/// Slot: `[LSN << 1 | 1] [time, us] [number]`; zeroes without any. Merge is exact, associative and commutative.
#[derive(Debug, Clone, Copy)]
pub(super) struct LatestNumber;

impl LatestNumber {
    /// The latest of all parts with its time, microseconds.
    pub(super) fn of<'a>(parts: impl Iterator<Item = Part<'a>>) -> Option<(i64, f64)> {
        let latest = parts.filter(|part| part.words[0] != 0).max_by_key(|part| Self::order_of(part.words))?;
        Some((latest.words[1].cast_signed(), f64_of(latest.words[2])))
    }

    fn order_of(slot: &[u64]) -> (i64, u64) {
        (slot[1].cast_signed(), slot[0])
    }

    fn take(slot: &mut [u64], other: &[u64]) {
        if other[0] != 0 && (slot[0] == 0 || Self::order_of(other) >= Self::order_of(slot)) {
            slot.copy_from_slice(other);
        }
    }
}

impl Accumulator for LatestNumber {
    fn identity(&self) -> String {
        "latest number".into()
    }

    fn words(&self) -> usize {
        3
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::TimeLsn
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        if let Some(number) = input.cell.number() {
            Self::take(slot, &[input.lsn << 1 | 1, input.time_us.cast_unsigned(), number.to_bits()]);
        }
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        Self::take(slot, other);
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        let &[lsn, ..] = slot else { unreachable!("a slot of a latest number has three words") };
        if lsn & 1 == 1 || slot.iter().all(|&word| word == 0) { Ok(()) } else { Err("it holds a number of no row") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{Datum, Row, State, check_any_order, check_exact_laws, numbers};
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_latest_number_stays_in_any_order(data in prop::collection::vec((numbers(), -4i64..4), 0..20), cuts in (0usize..20, 0usize..20)) {
            let rows: Vec<Row> = data.into_iter().zip(1..).map(|((datum, time_us), lsn)| Row::of(datum, time_us, lsn)).collect();
            check_exact_laws(&LatestNumber, &rows, cuts)?;
            check_any_order(&LatestNumber, &rows, &|left, right| left.words == right.words)?;
            let state = State::fed(&LatestNumber, &rows);
            prop_assert_eq!(LatestNumber.verify(&state.words, &state.arena), Ok(()));
            let numbered = rows.iter().filter(|row| row.datum != Datum::Null).max_by_key(|row| (row.time_us, row.lsn));
            prop_assert_eq!(LatestNumber::of([state.slot().core].into_iter()), numbered.map(|row| (row.time_us, row.datum.cell().number().unwrap_or(f64::NAN))));
        }
    }
}
