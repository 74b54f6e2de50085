//! The set behind `n_unique`: exact while it is small, a HyperLogLog beyond.
//!
//! Up to 1,024 distinct values it is the sorted list of their 64-bit hashes; then 2^12 six-bit registers (P. Flajolet et al., "HyperLogLog", 2007), read with the
//! estimator of O. Ertl ("New cardinality estimation algorithms for HyperLogLog sketches", 2017), which needs no bias tables. Standard error 1.6 %. The state depends on
//! the set of values only, neither on their order nor on how they were split: merge is exact, associative and commutative.
//!
//! ```text
//! empty     [0]       [0]
//! one       [hash]    [0]
//! list      [length]  [handle -> length hashes, ascending]
//! registers [DENSE]   [handle -> 384 words, register r in bits 6r..6r+6]
//! ```

use super::Slot;
use super::reading::{Accuracy, Bound, CONFIDENCE, DEVIATIONS, Part};
use crate::state::{Accumulator, Arena, Demand, Input, Need};

/// Most hashes of the exact list.
const LIST_MAX: usize = 1024;

/// Bits of a hash that choose its register.
const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;
const REGISTER_BITS: usize = 6;
const REGISTER_WORDS: usize = REGISTERS * REGISTER_BITS / 64;

/// Highest rank: one more than the bits that are left.
const RANK_MAX: usize = 64 - PRECISION as usize + 1;

/// The first word of a slot of registers.
const DENSE: u64 = u64::MAX;

/// Standard error of the registers' estimate, 1.04 / sqrt(2^12).
const STANDARD_ERROR: f64 = 0.01625;

/// The set of hashes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Distinct;

impl Distinct {
    /// How many distinct values there are: between those without and with each cut bucket by its
    /// share.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count below 2^53")]
    pub(super) fn value(slot: &Slot<'_>) -> u64 {
        let mut parts: Parts<'_> = smallvec::smallvec![slot.core];
        let mut known = Counted::of(&parts).distinct;
        let mut value = known as f64;
        for edge in slot.edges().filter(|edge| edge.part.words[0] != 0) {
            parts.push(edge.part);
            let with = Counted::of(&parts).distinct.max(known);
            value += edge.share * (with - known) as f64;
            known = with;
        }
        value.round() as u64
    }

    /// Without the cut buckets, and with them.
    pub(super) fn accuracy(slot: &Slot<'_>) -> Accuracy {
        let parts: Parts<'_> = slot.parts().map(|(part, _)| part).collect();
        let (without, with) = (Counted::of(&[slot.core]), Counted::of(&parts));
        let low = without.least();
        let bound = Bound::counts(low, with.most().max(low));
        Bound { confidence: (without.estimated || with.estimated).then_some(CONFIDENCE), ..bound }.into()
    }
}

type Parts<'a> = smallvec::SmallVec<[Part<'a>; 3]>;

/// A number of distinct values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Counted {
    distinct: u64,
    /// Whether the registers said so.
    estimated: bool,
}

impl Counted {
    /// The distinct values of all parts together.
    fn of(parts: &[Part<'_>]) -> Self {
        let exactly = |distinct| Self { distinct, estimated: false };
        if let [part] = parts {
            return match (part.words[0], part.words[1]) {
                (0, 0) => exactly(0),
                (_, 0) => exactly(1),
                (DENSE, handle) => Self { distinct: estimate(part.arena.get(handle)), estimated: true },
                (length, _) => exactly(length),
            };
        }
        if !parts.iter().any(|part| dense(part.words)) {
            let mut hashes: Vec<u64> = parts.iter().flat_map(|part| held(part.words, part.arena)).copied().collect();
            hashes.sort_unstable();
            hashes.dedup();
            return exactly(hashes.len() as u64);
        }
        let mut registers = [0u64; REGISTER_WORDS];
        for part in parts {
            if dense(part.words) {
                unite_registers(&mut registers, part.arena.get(part.words[1]));
            } else {
                held(part.words, part.arena).iter().for_each(|&hash| raise(&mut registers, hash));
            }
        }
        Self { distinct: estimate(&registers), estimated: true }
    }

    /// The fewest that it stands for, with the confidence of all statistical bounds.
    fn least(self) -> u64 {
        if self.estimated { scaled(self.distinct, 1.0 + DEVIATIONS * STANDARD_ERROR).0 } else { self.distinct }
    }

    fn most(self) -> u64 {
        if self.estimated { scaled(self.distinct, 1.0 - DEVIATIONS * STANDARD_ERROR).1 } else { self.distinct }
    }
}

/// A count divided, rounded down and up.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an estimate needs no last digit")]
fn scaled(count: u64, divisor: f64) -> (u64, u64) {
    let quotient = count as f64 / divisor;
    (quotient.floor() as u64, quotient.ceil() as u64)
}

impl Accumulator for Distinct {
    fn identity(&self) -> String {
        "distinct".into()
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

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        if input.hash != 0 {
            insert(slot, arena, input.hash);
        }
    }

    fn demand_words_max(&self) -> usize {
        LIST_MAX
    }

    fn lifted_words_max(&self) -> usize {
        // A list that moves each time it has grown by a third leaves less than three times its words behind it.
        4
    }

    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        if input.hash == 0 || dense(slot) || held(slot, arena).binary_search(&input.hash).is_ok() {
            return;
        }
        let length = held(slot, arena).len();
        let most = length + before + 1;
        if length == LIST_MAX && before == 0 {
            demand.object(REGISTER_WORDS);
        } else if most > LIST_MAX {
            demand.objects(LIST_MAX, LIST_MAX);
        } else if most > Arena::capacity(slot[1]).max(1) {
            demand.object_within(length + 1, most);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[1]);
        match (slot[0], slot[1]) {
            (_, 0) => Ok(()),
            (DENSE, _) if object.len() < REGISTER_WORDS => Err("its object has no room for the registers"),
            (DENSE, _) if (0..REGISTERS).any(|number| register(object, number) > RANK_MAX as u64) => Err("a register is beyond its rank"),
            (DENSE, _) => Ok(()),
            (length, _) if !(2..=LIST_MAX.min(object.len()) as u64).contains(&length) => Err("its object has no room for the list"),
            (length, _) => {
                let list = &object[..index(length)];
                let ascends = list[0] != 0 && list.is_sorted_by(|one, other| one < other);
                if ascends { Ok(()) } else { Err("its hashes do not ascend") }
            }
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        match (other[0], other[1]) {
            (0, 0) => {}
            (hash, 0) => insert(slot, arena, hash),
            (DENSE, handle) => {
                if !dense(slot) {
                    densify(slot, arena);
                }
                unite_registers(arena.get_mut(slot[1]), from.get(handle));
            }
            (length, handle) => unite_list(slot, arena, &from.get(handle)[..index(length)]),
        }
    }
}

fn dense(slot: &[u64]) -> bool {
    slot[0] == DENSE && slot[1] != 0
}

fn insert(slot: &mut [u64], arena: &mut Arena, hash: u64) {
    match (slot[0], slot[1]) {
        (0, 0) => slot[0] = hash,
        (one, 0) if one == hash => {}
        (one, 0) => {
            slot[1] = arena.alloc(2);
            slot[0] = 2;
            arena.get_mut(slot[1])[..2].copy_from_slice(&[one.min(hash), one.max(hash)]);
        }
        (DENSE, handle) => raise(arena.get_mut(handle), hash),
        (length, handle) => {
            let length = index(length);
            let Err(at) = search(&arena.get(handle)[..length], hash) else { return };
            if length == LIST_MAX {
                densify(slot, arena);
                raise(arena.get_mut(slot[1]), hash);
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

/// Where a hash is in an ascending list, or where it belongs. Hashes are spread evenly, so that a hash stands near its share of the list (interpolation search:
/// W. W. Peterson, 1957): one or two cache lines are read, where halving would read ten.
pub(super) fn search(list: &[u64], hash: u64) -> Result<usize, usize> {
    let share = (u128::from(hash) * list.len() as u128) >> 64;
    let mut at = index(share as u64);
    while at > 0 && list[at - 1] >= hash {
        at -= 1;
    }
    while at < list.len() && list[at] < hash {
        at += 1;
    }
    if list.get(at) == Some(&hash) { Ok(at) } else { Err(at) }
}

/// Adds an ascending list of at least two hashes.
fn unite_list(slot: &mut [u64], arena: &mut Arena, more: &[u64]) {
    if dense(slot) {
        let registers = arena.get_mut(slot[1]);
        more.iter().for_each(|&hash| raise(registers, hash));
        return;
    }
    let held = held(slot, arena);
    let mut union = Vec::with_capacity(held.len() + more.len());
    let (mut left, mut right) = (held.iter().peekable(), more.iter().peekable());
    while let (Some(&&here), Some(&&there)) = (left.peek(), right.peek()) {
        union.push(here.min(there));
        if here <= there {
            left.next();
        }
        if there <= here {
            right.next();
        }
    }
    union.extend(left);
    union.extend(right);
    if union.len() > LIST_MAX {
        densify(slot, arena);
        let registers = arena.get_mut(slot[1]);
        more.iter().for_each(|&hash| raise(registers, hash));
        return;
    }
    slot[1] = arena.grow(slot[1], union.len());
    slot[0] = union.len() as u64;
    arena.get_mut(slot[1])[..union.len()].copy_from_slice(&union);
}

/// The hashes of a slot that has no registers.
fn held<'a>(slot: &'a [u64], arena: &'a Arena) -> &'a [u64] {
    match (slot[0], slot[1]) {
        (0, 0) => &[],
        (_, 0) => &slot[..1],
        (length, handle) => &arena.get(handle)[..index(length)],
    }
}

/// Turns the list into registers.
fn densify(slot: &mut [u64], arena: &mut Arena) {
    let mut registers = [0u64; REGISTER_WORDS];
    held(slot, arena).iter().for_each(|&hash| raise(&mut registers, hash));
    arena.free(slot[1]);
    slot[0] = DENSE;
    slot[1] = arena.alloc(REGISTER_WORDS);
    arena.get_mut(slot[1])[..REGISTER_WORDS].copy_from_slice(&registers);
}

/// Raises the hash's register to its rank: leading zeroes of the bits after the index, plus one.
#[inline]
fn raise(registers: &mut [u64], hash: u64) {
    let number = index(hash >> (64 - PRECISION));
    // The bit below the last stops the count where the bits end.
    let rank = u64::from((hash << PRECISION | 1 << (PRECISION - 1)).leading_zeros()) + 1;
    raise_to(registers, number, rank);
}

#[inline]
fn raise_to(registers: &mut [u64], number: usize, rank: u64) {
    if register(registers, number) >= rank {
        return;
    }
    let (word, shift) = (number * REGISTER_BITS / 64, number * REGISTER_BITS % 64);
    registers[word] = registers[word] & !(0x3F << shift) | rank << shift;
    if shift > 64 - REGISTER_BITS {
        let back = 64 - shift;
        registers[word + 1] = registers[word + 1] & !(0x3F >> back) | rank >> back;
    }
}

#[inline]
fn register(registers: &[u64], number: usize) -> u64 {
    let (word, shift) = (number * REGISTER_BITS / 64, number * REGISTER_BITS % 64);
    let low = registers[word] >> shift;
    let high = if shift > 64 - REGISTER_BITS { registers[word + 1] << (64 - shift) } else { 0 };
    (low | high) & 0x3F
}

fn unite_registers(registers: &mut [u64], others: &[u64]) {
    for number in 0..REGISTERS {
        raise_to(registers, number, register(others, number));
    }
}

/// Ertl's improved raw estimator over the histogram of ranks.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the estimate is not negative; a cast beyond u64 saturates")]
fn estimate(registers: &[u64]) -> u64 {
    let mut histogram = [0.0f64; RANK_MAX + 1];
    for number in 0..REGISTERS {
        histogram[index(register(registers, number)).min(RANK_MAX)] += 1.0;
    }
    let count = REGISTERS as f64;
    let mut sum = count * tau(1.0 - histogram[RANK_MAX] / count);
    for ranks in histogram[1..RANK_MAX].iter().rev() {
        sum = 0.5 * (sum + ranks);
    }
    sum += count * sigma(histogram[0] / count);
    (count * count / (2.0 * std::f64::consts::LN_2 * sum)).round() as u64
}

/// Ertl's sigma: x + sum over k of x^(2^k) * 2^(k-1); infinite at 1, where every register is empty.
fn sigma(mut x: f64) -> f64 {
    if x >= 1.0 {
        return f64::INFINITY;
    }
    let (mut power, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * power;
        power += power;
        if sum <= before {
            return sum;
        }
    }
}

/// Ertl's tau: (1 - x - sum over k of (1 - x^(2^-k))^2 * 2^-k) / 3.
fn tau(mut x: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return 0.0;
    }
    let (mut power, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        power *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * power;
        if sum >= before {
            return sum / 3.0;
        }
    }
}

/// A length or register number that this file wrote into a word.
#[expect(clippy::cast_possible_truncation, reason = "at most 4,096")]
#[inline]
fn index(word: u64) -> usize {
    word as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, ID_SHAPES, Row, State, Stream, check_exact_laws, rows};
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn count(state: &State) -> (u64, bool) {
        let counted = Counted::of(&[state.slot().core]);
        (counted.distinct, counted.estimated)
    }

    #[test]
    fn small_sets_are_exact_and_take_few_bytes() {
        for (distinct, object_bytes) in [(0u64, 0), (1, 0), (2, 16), (3, 24), (5, 48), (1022, 8176), (1024, 16_352)] {
            let state = State::fed(&Distinct, &rows((0..distinct * 3).map(|n| Datum::I64((n % distinct).cast_signed()))));
            assert_eq!(count(&state), (distinct, false));
            assert_eq!(state.arena.used_bytes(), object_bytes, "{distinct} values");
        }
        let dense = State::fed(&Distinct, &rows((0..1025).map(Datum::I64)));
        assert_eq!((count(&dense).1, dense.arena.used_bytes()), (true, 3264));
    }

    #[test]
    fn types_are_told_apart_and_null_is_no_value() {
        let state = State::fed(
            &Distinct,
            &rows([
                Datum::I64(1),
                Datum::F64(1.0),
                Datum::Str("1".into()),
                Datum::Bool(true),
                Datum::Datetime(1),
                Datum::Null,
                Datum::Absent,
            ]),
        );
        assert_eq!(count(&state), (5, false));
    }

    #[test]
    fn registers_keep_every_rank_beside_their_neighbours() {
        let mut registers = [0u64; REGISTER_WORDS];
        let mut oracle = [0u64; REGISTERS];
        let mut stream = Stream(7);
        for _ in 0..20_000 {
            let (number, rank) = (index(stream.word() >> 52), stream.word() % 54);
            raise_to(&mut registers, number, rank);
            oracle[number] = oracle[number].max(rank);
        }
        assert!((0..REGISTERS).all(|number| register(&registers, number) == oracle[number]));
        let mut ranks = [0u64; REGISTER_WORDS];
        raise(&mut ranks, 0);
        raise(&mut ranks, u64::MAX);
        assert_eq!((register(&ranks, 0), register(&ranks, REGISTERS - 1)), (RANK_MAX as u64, 1));
    }

    #[test]
    fn estimates_stay_within_their_error_on_ids_of_every_shape() {
        let mut squares = Vec::new();
        for (shape, id) in ID_SHAPES {
            let mut state = State::empty(&Distinct);
            let mut seen = HashSet::new();
            for n in 0..40_000u64 {
                let row = Row::of(id(n), 0, n);
                seen.insert(format!("{:?}", row.datum));
                state.feed(&Distinct, &row);
                if [1_100, 2_000, 5_000, 10_000, 20_000, 40_000].contains(&(n + 1)) && seen.len() > LIST_MAX {
                    let error = count(&state).0 as f64 / seen.len() as f64 - 1.0;
                    assert!(error.abs() < 4.0 * STANDARD_ERROR, "{shape} after {n}: {error}");
                    squares.push(error * error);
                }
            }
        }
        let root_mean_square = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
        assert!(root_mean_square < 1.5 * STANDARD_ERROR, "{root_mean_square}");
    }

    #[test]
    fn the_estimator_has_no_bias_from_the_first_dense_set_to_millions() {
        for distinct in [1_025u64, 3_000, 10_000, 1_000_000] {
            let trials = if distinct > 100_000 { 2 } else { 12 };
            let mut sum = 0.0;
            for trial in 0..trials {
                let mut registers = [0u64; REGISTER_WORDS];
                let mut stream = Stream(trial << 40);
                (0..distinct).for_each(|_| raise(&mut registers, stream.word()));
                sum += estimate(&registers) as f64 / distinct as f64 - 1.0;
            }
            let mean = sum / trials as f64;
            assert!(mean.abs() < 3.0 * STANDARD_ERROR / (trials as f64).sqrt(), "{distinct}: {mean}");
        }
    }

    #[test]
    fn the_state_depends_on_the_set_only() {
        for length in [2usize, 700, 1024, 1025, 3000] {
            let forward = rows((0..length).map(|n| Datum::I64((n * 7919 % length) as i64)));
            let mut backward = forward.clone();
            backward.reverse();
            backward.extend(forward.iter().take(length / 2).cloned());
            let content = |rows: &[Row]| State::fed(&Distinct, rows).content(&Distinct);
            assert_eq!(content(&forward), content(&backward), "{length}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn small_sets_obey_the_laws(data in prop::collection::vec(0i64..40, 0..60), cuts in (0usize..60, 0usize..60)) {
            let rows = rows(data.iter().copied().map(Datum::I64));
            check_exact_laws(&Distinct, &rows, cuts)?;
            prop_assert_eq!(count(&State::fed(&Distinct, &rows)).0, data.iter().collect::<HashSet<_>>().len() as u64);
        }

        #[test]
        fn large_sets_obey_the_laws(seed in any::<u64>(), range in prop::sample::select(vec![900u64, 1024, 1025, 4000]), cuts in (0usize..2500, 0usize..2500)) {
            let mut stream = Stream(seed);
            check_exact_laws(&Distinct, &rows((0..2500).map(|_| Datum::I64((stream.word() % range).cast_signed()))), cuts)?;
        }
    }
}
