//! How often a value differed from the one before it, in order of time. Behind `value_change_count`.

use crate::state::{Accumulator, Arena, Input, Need, Order, SLOT_ROWS_MAX};

/// What a slot says.
///
/// ```text
/// [values << 1 | disordered] [time of the first, us] [of the last] [hash of the first] [of the last] [changes]
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Changes {
    values: u64,
    /// Whether a value came after a later one: it was taken as the latest.
    pub(super) disordered: bool,
    first_us: i64,
    last_us: i64,
    first: u64,
    last: u64,
    /// Values that were not the one before them.
    pub(super) changes: u64,
}

impl Changes {
    /// What the words of a slot say.
    pub(super) fn of(words: &[u64]) -> Self {
        let &[values, first_us, last_us, first, last, changes] = words else { unreachable!("a slot of changes has six words") };
        Self {
            values: values >> 1,
            disordered: values & 1 == 1,
            first_us: first_us.cast_signed(),
            last_us: last_us.cast_signed(),
            first,
            last,
            changes,
        }
    }

    fn words(self) -> [u64; 6] {
        let [first_us, last_us] = [self.first_us, self.last_us].map(i64::cast_unsigned);
        [self.values << 1 | u64::from(self.disordered), first_us, last_us, self.first, self.last, self.changes]
    }

    /// These values and then the others.
    pub(super) fn then(self, later: Self) -> Self {
        if self.values == 0 || later.values == 0 {
            return if self.values == 0 { later } else { self };
        }
        Self {
            values: self.values + later.values,
            disordered: self.disordered || later.disordered || later.first_us < self.last_us,
            first_us: self.first_us.min(later.first_us),
            last_us: self.last_us.max(later.last_us),
            first: self.first,
            last: later.last,
            changes: self.changes + later.changes + u64::from(self.last != later.first),
        }
    }
}

/// Counts changes. Values are told apart by their 64-bit hashes (XXH3), types included.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeCount;

impl Accumulator for ChangeCount {
    fn identity(&self) -> String {
        "changes".into()
    }

    fn words(&self) -> usize {
        6
    }

    fn need(&self) -> Need {
        Need::Hash
    }

    fn order(&self) -> Order {
        Order::Ends
    }

    fn update(&self, slot: &mut [u64], _arena: &mut Arena, input: &Input<'_>) {
        if input.hash == 0 {
            return;
        }
        let (hash, time_us) = (input.hash, input.time_us);
        let one = Changes { values: 1, disordered: false, first_us: time_us, last_us: time_us, first: hash, last: hash, changes: 0 };
        slot.copy_from_slice(&Changes::of(slot).then(one).words());
    }

    fn merge(&self, slot: &mut [u64], _arena: &mut Arena, other: &[u64], _from: &Arena) {
        slot.copy_from_slice(&Changes::of(slot).then(Changes::of(other)).words());
    }

    fn verify(&self, slot: &[u64], _arena: &Arena) -> Result<(), &'static str> {
        let changes = Changes::of(slot);
        if changes.values == 0 {
            return if slot.iter().all(|&word| word == 0) { Ok(()) } else { Err("it has changes and no values") };
        }
        if changes.values > SLOT_ROWS_MAX || changes.changes >= changes.values {
            Err("it counts more changes than there are")
        } else if changes.first == 0 || changes.last == 0 || changes.first_us > changes.last_us {
            Err("its ends are not those of its values")
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::laws::{Datum, Row, State, check_exact_laws};
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn changes_are_those_of_a_walk_over_all_values(
            data in prop::collection::vec(prop_oneof![3 => (0i64..3).prop_map(Datum::I64), 1 => Just(Datum::F64(1.0)), 1 => Just(Datum::Null)], 0..30),
            cuts in (0usize..30, 0usize..30),
        ) {
            let rows: Vec<Row> = data.iter().zip(1u64..).map(|(datum, lsn)| Row::of(datum.clone(), lsn.cast_signed() / 2, lsn)).collect();
            check_exact_laws(&ChangeCount, &rows, cuts)?;
            let state = State::fed(&ChangeCount, &rows);
            prop_assert_eq!(ChangeCount.verify(&state.words, &state.arena), Ok(()));
            let values: Vec<&Datum> = data.iter().filter(|datum| **datum != Datum::Null).collect();
            let oracle = values.windows(2).filter(|pair| pair[0] != pair[1]).count() as u64;
            let changes = Changes::of(&state.words);
            prop_assert_eq!((changes.changes, changes.disordered), (oracle, false));
        }
    }
}
