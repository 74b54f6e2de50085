//! The set behind `bloom_member`: exact while it is small, a Bloom filter beyond.
//!
//! Values are their 64-bit hashes. While there are no more of them than the filter has words they
//! stand in a sorted list, which takes no more room than the filter would and is never wrong (but
//! for two values in 2^64). Then the filter (B. Bloom, 1970): `m = -n ln p / ln(2)^2` bits, rounded up to
//! words, and `k = log2(1/p)` places for each value, made of the two halves of its hash (A. Kirsch and
//! M. Mitzenmacher, "Less Hashing, Same Performance", 2006). A value that came is always found; one
//! that did not is with probability `p` while at most `n` different ones came. The state depends on
//! the set of values alone. A lifetime's slot is never merged.
//!
//! ```text
//! empty     [0]       [0]
//! one       [hash]    [0]
//! list      [length]  [handle -> length hashes, ascending]
//! filter    [DENSE]   [handle -> words, bit b in word b / 64]
//! ```

use super::distinct::search;
use super::ends::never_merged;
use super::reading::Part;
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Demand, Input, Need};
use std::f64::consts::LN_2;

/// Most hashes of a list, however large the filter: a new one moves those behind it.
const LIST_MAX: usize = 1024;

/// The first word of a slot with a filter.
const DENSE: u64 = u64::MAX;

/// A set of values with room for so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bloom {
    /// Words of the filter.
    words: usize,
    /// Bits that each value sets.
    places: u32,
}

impl Bloom {
    /// A filter that is wrong about a value that never came with this probability, while no more
    /// than `expected` came.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "bounded by registration")]
    pub(super) fn new(expected: usize, false_positives: f64) -> Self {
        assert!(expected > 0 && false_positives > 0.0 && false_positives < 1.0, "checked at registration");
        let bits = (-(expected as f64) * false_positives.ln() / (LN_2 * LN_2)).ceil();
        let words = (bits / 64.0).ceil().max(1.0) as usize;
        let places = -false_positives.log2();
        let places = places.ceil().max(1.0) as u32;
        Self { words, places }
    }

    /// Bytes of the filter.
    pub(super) fn bytes(self) -> usize {
        self.words * 8
    }

    fn list_max(self) -> usize {
        self.words.clamp(2, LIST_MAX)
    }

    /// The bits of a hash.
    #[expect(clippy::cast_possible_truncation, reason = "a place is below the filter's bits")]
    fn bits(self, hash: u64) -> impl Iterator<Item = usize> {
        let (bits, step) = (self.words as u128 * 64, hash.rotate_left(32) | 1);
        (0..u64::from(self.places)).map(move |place| ((u128::from(hash.wrapping_add(place.wrapping_mul(step))) * bits) >> 64) as usize)
    }

    fn set(self, filter: &mut [u64], hash: u64) {
        self.bits(hash).for_each(|bit| filter[bit / 64] |= 1 << (bit % 64));
    }

    /// Whether a value came, as far as this can be said.
    pub(super) fn holds(self, part: Part<'_>, hash: u64) -> bool {
        if hash == 0 {
            return false;
        }
        match (part.words[0], part.words[1]) {
            (DENSE, handle) if handle != 0 => {
                let filter = part.arena.get(handle);
                self.bits(hash).all(|bit| filter[bit / 64] >> (bit % 64) & 1 == 1)
            }
            _ => search(list(part.words, part.arena), hash).is_ok(),
        }
    }

    /// Whether any value came.
    pub(super) fn holds_any(part: Part<'_>) -> bool {
        part.words[0] != 0
    }

    fn to_filter(self, slot: &mut [u64], arena: &mut Arena) {
        let hashes: smallvec::SmallVec<[u64; 256]> = list(slot, arena).iter().copied().collect();
        arena.free(slot[1]);
        slot[1] = arena.alloc(self.words);
        slot[0] = DENSE;
        let filter = arena.get_mut(slot[1]);
        hashes.iter().for_each(|&hash| self.set(filter, hash));
    }
}

/// The hashes of a slot that has no filter.
fn list<'a>(slot: &'a [u64], arena: &'a Arena) -> &'a [u64] {
    match (slot[0], slot[1]) {
        (0, 0) => &[],
        (_, 0) => &slot[..1],
        (length, handle) => &arena.get(handle)[..usize::try_from(length).unwrap_or(usize::MAX)],
    }
}

/// The hash of a value that is kept: bytes and json are not.
fn hash_of(input: &Input<'_>) -> u64 {
    if matches!(input.cell, Cell::Bytes(_) | Cell::Json(_)) { 0 } else { input.hash }
}

impl Accumulator for Bloom {
    fn identity(&self) -> String {
        format!("bloom/{}/{}", self.words, self.places)
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        &[1]
    }

    fn need(&self) -> Need {
        Need::Hash
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        let hash = hash_of(input);
        match (hash, slot[0], slot[1]) {
            (0, ..) => {}
            (_, 0, 0) => slot[0] = hash,
            (_, one, 0) if one == hash => {}
            (_, one, 0) => {
                slot[1] = arena.alloc(2);
                slot[0] = 2;
                arena.get_mut(slot[1])[..2].copy_from_slice(&[one.min(hash), one.max(hash)]);
            }
            (_, DENSE, handle) => self.set(arena.get_mut(handle), hash),
            (_, _, handle) => {
                let held = list(slot, arena);
                let length = held.len();
                let Err(at) = search(held, hash) else { return };
                if length == self.list_max() {
                    self.to_filter(slot, arena);
                    self.set(arena.get_mut(slot[1]), hash);
                    return;
                }
                slot[1] = arena.grow(handle, length + 1);
                slot[0] += 1;
                let list = arena.get_mut(slot[1]);
                list.copy_within(at..length, at + 1);
                list[at] = hash;
            }
        }
    }

    fn demand_words_max(&self) -> usize {
        self.words.max(self.list_max())
    }

    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        let hash = hash_of(input);
        let is_dense = slot[0] == DENSE && slot[1] != 0;
        if hash == 0 || is_dense || search(list(slot, arena), hash).is_ok() {
            return;
        }
        let length = list(slot, arena).len();
        let most = length + before + 1;
        if length == self.list_max() && before == 0 {
            demand.object(self.words);
        } else if most > self.list_max() {
            demand.objects(self.list_max() + self.words, self.words.max(self.list_max()));
        } else if most > Arena::capacity(slot[1]).max(1) {
            demand.object_within(length + 1, most);
        }
    }

    fn merge(&self, _slot: &mut [u64], _arena: &mut Arena, _other: &[u64], _from: &Arena) {
        never_merged()
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[1]);
        match (slot[0], slot[1]) {
            (_, 0) => Ok(()),
            (DENSE, _) if object.len() < self.words => Err("its object has no room for the filter"),
            (DENSE, _) if object[..self.words].iter().all(|&word| word == 0) => Err("its filter holds nothing"),
            (DENSE, _) => Ok(()),
            (length, _) if !(2..=self.list_max().min(object.len()) as u64).contains(&length) => Err("its object has no room for the list"),
            _ => {
                let hashes = list(slot, arena);
                let ascends = hashes[0] != 0 && hashes.is_sorted_by(|one, other| one < other);
                if ascends { Ok(()) } else { Err("its hashes do not ascend") }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, ID_SHAPES, Row, State, check_lifetime_laws, rows};
    use super::*;
    use crate::state::hash_cell;
    use proptest::prelude::*;

    fn hash(datum: &Datum) -> u64 {
        hash_cell(datum.cell())
    }

    #[test]
    fn sizes_are_those_of_the_textbook() {
        for (expected, false_positives, words, places) in
            [(1024, 0.01, 154, 7), (1, 0.4, 1, 2), (1_000, 1e-6, 450, 20), (500_000, 0.05, 48_713, 5)]
        {
            assert_eq!(Bloom::new(expected, false_positives), Bloom { words, places });
        }
    }

    #[test]
    fn what_came_is_found_and_what_did_not_is_as_rarely_as_promised() {
        for (expected, false_positives) in [(1_000, 0.01), (1_000, 0.1), (20_000, 0.001), (3, 0.01)] {
            for (shape, id) in ID_SHAPES.into_iter().filter(|(shape, _)| *shape != "zipf") {
                let bloom = Bloom::new(expected, false_positives);
                let came: Vec<Datum> = (0..expected as u64).map(id).collect();
                let state = State::fed(&bloom, &rows(came.clone()));
                let part = state.slot().core;
                assert!(came.iter().all(|datum| bloom.holds(part, hash(datum))), "{shape}");
                let others = 200_000u64;
                let wrong = (0..others).filter(|n| bloom.holds(part, hash(&id(1_000_000 + n)))).count();
                // Three standard errors, and a tenth for the halves of a hash not being two hashes.
                let most = others as f64 * false_positives;
                assert!(wrong as f64 <= most * 1.1 + 3.0 * most.sqrt() + 1.0, "{shape}: {wrong} of {others}, {most} expected");
            }
        }
    }

    #[test]
    fn a_small_set_is_never_wrong_and_no_larger_than_its_filter() {
        let bloom = Bloom::new(1024, 0.01);
        let state = State::fed(&bloom, &rows((0..154).map(Datum::I64)));
        assert!((0..154).all(|n| bloom.holds(state.slot().core, hash(&Datum::I64(n)))));
        assert!(!(154..100_000).any(|n| bloom.holds(state.slot().core, hash(&Datum::I64(n)))));
        let grown = State::fed(&bloom, &rows((0..155).map(Datum::I64)));
        assert!(grown.words[0] == DENSE && state.arena.used_bytes() <= grown.arena.used_bytes() * 5 / 4);
    }

    #[test]
    fn what_has_no_key_is_not_a_member() {
        let bloom = Bloom::new(10, 0.01);
        let state = State::fed(&bloom, &rows([Datum::Null, Datum::Absent, Datum::Json("{}".into()), Datum::Bytes(vec![1])]));
        assert!(!Bloom::holds_any(state.slot().core) && !bloom.holds(state.slot().core, 0));
        let state = State::fed(&bloom, &rows([Datum::Bool(false)]));
        assert!(Bloom::holds_any(state.slot().core) && bloom.holds(state.slot().core, hash(&Datum::Bool(false))));
        assert!(!bloom.holds(state.slot().core, hash(&Datum::I64(0))), "false and 0 are two values");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_state_is_that_of_the_set(values in prop::collection::vec(0i64..40, 0..60), expected in 1usize..40, cut in 0usize..60) {
            let bloom = Bloom::new(expected, 0.05);
            let fed: Vec<Row> = rows(values.iter().copied().map(Datum::I64));
            check_lifetime_laws(&bloom, &fed, cut)?;
            let mut sorted = values.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let (state, set) = (State::fed(&bloom, &fed), State::fed(&bloom, &rows(sorted.into_iter().map(Datum::I64))));
            prop_assert_eq!(state.content(&bloom), set.content(&bloom), "order and repeats leave no trace");
            prop_assert_eq!(bloom.verify(&state.words, &state.arena), Ok(()));
            prop_assert!(values.iter().all(|value| bloom.holds(state.slot().core, hash(&Datum::I64(*value)))));
        }
    }
}
