//! The distribution behind `quantile`: exact while it is small, a UDDSketch beyond.
//!
//! Up to 512 numbers it is their sorted list. Then numbers fall into buckets whose edges grow by a factor (I. Epicoco et al., "UDDSketch: Accurate Tracking of
//! Quantiles in Data Streams", 2020): bucket k of the positive numbers is [g^k, g^(k+1)) with g = (1 + a) / (1 - a), a = 0.01 at first; negative numbers mirror it, zero has
//! its own. When a further bucket would not fit, pairs of buckets collapse and a becomes 2a / (1 + a^2). Any quantile is within a of a number of its rank, and within
//! the exact smallest and largest number, which are kept. The state depends on the numbers only, neither on their order nor on how they were split: a bucket's number is
//! that of the first factor shifted by the collapses, and the collapses are the least that fit. Merge is exact, associative and commutative.
//!
//! ```text
//! empty     [0]                                    [0]
//! one       [number]                               [0]
//! list      [length]                               [handle -> numbers, ascending]
//! sketch    [SKETCH | buckets << 8 | collapses]    [handle -> smallest, largest, buckets ascending: code << 46 | count]
//! ```
//!
//! Numbers are stored as words that sort as they do ([`word_of`]); 0 is none of them. How a
//! quantile is read is in `ranks`.

use super::reading::Part;
use crate::state::{Accumulator, Arena, Demand, Input, Need};

/// Most numbers of the exact list.
///
/// As many as the list of a key that has not grown, so that its quantiles are exact.
const LIST_MAX: usize = 512;

/// Relative error of the first factor.
const ALPHA: f64 = 0.01;

/// Most buckets: with the two extremes an object of 2,048 words.
const BUCKETS_MAX: usize = 2046;

/// Most collapses: after seven all doubles have a bucket.
const COLLAPSES_MAX: u32 = 7;

/// Words of a sketch's object before its buckets.
pub(super) const HEAD_WORDS: usize = 2;

/// Words of all objects that a full list may make on its way to a sketch: that grows bucket by bucket, through every size
/// of objects up to one of as many buckets as the list has numbers.
const BECOMING_WORDS: usize = 7 * (HEAD_WORDS + LIST_MAX + 1);

/// Marks the first word of a slot with a sketch.
const SKETCH: u64 = 1 << 63;

/// A bucket is code and count in one word.
const COUNT_BITS: u32 = 46;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// The code of zero; codes below are negative numbers.
pub(super) const ZERO: i64 = 1 << 17;

/// Added to a bucket's number to make it positive: doubles give numbers within -37,300 and 35,500.
pub(super) const NUMBER_OFFSET: i64 = 1 << 16;

/// The distribution of numbers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Quantiles;

/// What a slot holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Held<'a> {
    /// Words of numbers, ascending.
    List(&'a [u64]),
    /// The object of a sketch, as far as it is used.
    Sketch {
        /// Its words.
        object: &'a [u64],
        /// How often its buckets have collapsed.
        collapses: u32,
    },
}

impl<'a> Held<'a> {
    /// The numbers of a slot.
    pub(super) fn by(part: Part<'a>) -> Self {
        match (part.words[0], part.words[1]) {
            (0, 0) => Self::List(&[]),
            (_, 0) => Self::List(&part.words[..1]),
            (head, handle) if head & SKETCH != 0 => {
                let shape = Shape::of(head);
                Self::Sketch { object: &part.arena.get(handle)[..HEAD_WORDS + shape.buckets], collapses: shape.collapses }
            }
            (length, handle) => Self::List(&part.arena.get(handle)[..index(length)]),
        }
    }

    /// How many numbers.
    pub(super) fn numbers(&self) -> u64 {
        match self {
            Self::List(list) => list.len() as u64,
            Self::Sketch { object, .. } => codes_of(object).map(|(_, count)| count).sum(),
        }
    }

    /// The smallest and the largest number; there is one.
    pub(super) fn ends(&self) -> (f64, f64) {
        match self {
            Self::List([smallest, .., largest]) => (number_of(*smallest), number_of(*largest)),
            Self::List(list) => (number_of(list[0]), number_of(list[0])),
            Self::Sketch { object, .. } => (number_of(object[0]), number_of(object[1])),
        }
    }
}

/// The codes of a sketch's buckets, ascending, with their counts.
pub(super) fn codes_of(object: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    object[HEAD_WORDS..].iter().map(|bucket| (bucket >> COUNT_BITS, bucket & COUNT_MAX))
}

impl Accumulator for Quantiles {
    fn identity(&self) -> String {
        "quantiles".into()
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        &[1]
    }

    fn need(&self) -> Need {
        Need::Value
    }

    #[inline]
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        if let Some(number) = input.cell.number().filter(|number| number.is_finite()) {
            insert(slot, arena, word_of(number));
        }
    }

    fn demand_words_max(&self) -> usize {
        BECOMING_WORDS.max(HEAD_WORDS + BUCKETS_MAX)
    }

    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        let Some(number) = input.cell.number().filter(|number| number.is_finite()) else { return };
        let room = Arena::capacity(slot[1]);
        let length = match (slot[0], slot[1]) {
            (0, 0) => 0,
            (_, 0) => 1,
            (head, handle) if head & SKETCH != 0 => {
                let shape = Shape::of(head);
                let buckets = &arena.get(handle)[HEAD_WORDS..HEAD_WORDS + shape.buckets];
                let code = collapse(code_of(number), shape.collapses);
                let most = HEAD_WORDS + (shape.buckets + before + 1).min(BUCKETS_MAX);
                if most > room && buckets.binary_search_by_key(&code, |bucket| bucket >> COUNT_BITS).is_err() {
                    demand.object_within(HEAD_WORDS + shape.buckets + 1, most);
                }
                return;
            }
            (length, _) => index(length),
        };
        let most = length + before + 1;
        if most > LIST_MAX {
            demand.objects(BECOMING_WORDS, HEAD_WORDS + LIST_MAX + 1);
        } else if most > room.max(1) {
            demand.object_within(length + 1, most);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[1]);
        let is_number = |word: u64| number_of(word).is_finite() && word_of(number_of(word)) == word;
        match (slot[0], slot[1]) {
            (0, 0) => Ok(()),
            (one, 0) if is_number(one) => Ok(()),
            (_, 0) => Err("its number is none"),
            (head, _) if head & SKETCH != 0 => {
                let Shape { buckets, collapses } = Shape::of(head);
                if collapses > COLLAPSES_MAX || !(1..=BUCKETS_MAX.min(object.len().saturating_sub(HEAD_WORDS))).contains(&buckets) {
                    return Err("its object has no room for the sketch");
                }
                let (ends, buckets) = (&object[..HEAD_WORDS], &object[HEAD_WORDS..HEAD_WORDS + buckets]);
                let ascend = buckets.is_sorted_by(|one, other| one >> COUNT_BITS < other >> COUNT_BITS);
                let counted = ascend && buckets.iter().all(|bucket| bucket & COUNT_MAX > 0);
                let between = ends[0] <= ends[1] && ends.iter().all(|&end| is_number(end));
                if counted && between { Ok(()) } else { Err("its buckets do not ascend between its ends") }
            }
            (length, _) if !(2..=LIST_MAX.min(object.len()) as u64).contains(&length) => Err("its object has no room for the list"),
            (length, _) => {
                let list = &object[..index(length)];
                if list.is_sorted() && list.iter().all(|&word| is_number(word)) { Ok(()) } else { Err("its numbers do not ascend") }
            }
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        match (other[0], other[1]) {
            (0, 0) => {}
            (one, 0) => insert(slot, arena, one),
            (head, handle) if head & SKETCH != 0 => {
                let shape = Shape::of(head);
                unite_sketch(slot, arena, &from.get(handle)[..HEAD_WORDS + shape.buckets], shape.collapses);
            }
            (length, handle) => from.get(handle)[..index(length)].iter().for_each(|&word| insert(slot, arena, word)),
        }
    }
}

/// What the first word of a sketch's slot says.
#[derive(Debug, Clone, Copy)]
struct Shape {
    buckets: usize,
    collapses: u32,
}

impl Shape {
    fn of(head: u64) -> Self {
        Self { buckets: index((head & !SKETCH) >> 8), collapses: (head & 0xFF) as u32 }
    }

    fn head(self) -> u64 {
        SKETCH | (self.buckets as u64) << 8 | u64::from(self.collapses)
    }
}

fn insert(slot: &mut [u64], arena: &mut Arena, word: u64) {
    match (slot[0], slot[1]) {
        (0, 0) => slot[0] = word,
        (one, 0) => {
            slot[1] = arena.alloc(2);
            slot[0] = 2;
            arena.get_mut(slot[1])[..2].copy_from_slice(&[one.min(word), one.max(word)]);
        }
        (head, _) if head & SKETCH != 0 => insert_bucket(slot, arena, word),
        (length, _) if index(length) == LIST_MAX => {
            become_sketch(slot, arena);
            insert_bucket(slot, arena, word);
        }
        (length, handle) => {
            let length = index(length);
            slot[1] = arena.grow(handle, length + 1);
            slot[0] += 1;
            let list = arena.get_mut(slot[1]);
            let at = list[..length].partition_point(|&held| held <= word);
            list.copy_within(at..length, at + 1);
            list[at] = word;
        }
    }
}

fn insert_bucket(slot: &mut [u64], arena: &mut Arena, word: u64) {
    let base = code_of(number_of(word));
    loop {
        let mut shape = Shape::of(slot[0]);
        let object = arena.get_mut(slot[1]);
        object[0] = object[0].min(word);
        object[1] = object[1].max(word);
        let buckets = &mut object[HEAD_WORDS..];
        let code = collapse(base, shape.collapses);
        let at = buckets[..shape.buckets].partition_point(|bucket| bucket >> COUNT_BITS < code);
        if at < shape.buckets && buckets[at] >> COUNT_BITS == code {
            buckets[at] = add(buckets[at], 1);
            return;
        }
        if shape.buckets < BUCKETS_MAX {
            slot[1] = arena.grow(slot[1], HEAD_WORDS + shape.buckets + 1);
            let buckets = &mut arena.get_mut(slot[1])[HEAD_WORDS..];
            buckets.copy_within(at..shape.buckets, at + 1);
            buckets[at] = code << COUNT_BITS | 1;
            shape.buckets += 1;
            slot[0] = shape.head();
            return;
        }
        collapse_once(slot, arena);
    }
}

/// Halves the resolution of a slot's sketch.
#[cold]
fn collapse_once(slot: &mut [u64], arena: &mut Arena) {
    let mut shape = Shape::of(slot[0]);
    let buckets = &mut arena.get_mut(slot[1])[HEAD_WORDS..HEAD_WORDS + shape.buckets];
    let mut kept = 0;
    for at in 0..buckets.len() {
        let (code, count) = (collapse(buckets[at] >> COUNT_BITS, 1), buckets[at] & COUNT_MAX);
        if kept > 0 && buckets[kept - 1] >> COUNT_BITS == code {
            buckets[kept - 1] = add(buckets[kept - 1], count);
        } else {
            buckets[kept] = code << COUNT_BITS | count;
            kept += 1;
        }
    }
    buckets[kept..].fill(0);
    shape = Shape { buckets: kept, collapses: shape.collapses + 1 };
    slot[0] = shape.head();
}

/// Turns the list, or nothing, into a sketch.
#[cold]
fn become_sketch(slot: &mut [u64], arena: &mut Arena) {
    let words = match (slot[0], slot[1]) {
        (0, 0) => Vec::new(),
        (one, 0) => vec![one],
        (length, handle) => arena.get(handle)[..index(length)].to_vec(),
    };
    arena.free(slot[1]);
    slot[1] = arena.alloc(HEAD_WORDS + 1);
    slot[0] = Shape { buckets: 0, collapses: 0 }.head();
    arena.get_mut(slot[1])[..HEAD_WORDS].copy_from_slice(&[u64::MAX, 0]);
    words.into_iter().for_each(|word| insert_bucket(slot, arena, word));
}

/// Adds a sketch's object, as far as it is used.
fn unite_sketch(slot: &mut [u64], arena: &mut Arena, other: &[u64], other_collapses: u32) {
    if slot[0] & SKETCH == 0 || slot[1] == 0 {
        become_sketch(slot, arena);
    }
    while Shape::of(slot[0]).collapses < other_collapses {
        collapse_once(slot, arena);
    }
    let mut shape = Shape::of(slot[0]);
    let here = &arena.get(slot[1])[..HEAD_WORDS + shape.buckets];
    let ends = [here[0].min(other[0]), here[1].max(other[1])];
    let steps = shape.collapses - other_collapses;
    let mut more = other[HEAD_WORDS..].iter().map(|bucket| (collapse(bucket >> COUNT_BITS, steps), bucket & COUNT_MAX)).peekable();
    let mut union: Vec<u64> = Vec::with_capacity(here.len() + other.len());
    let mut push = |code: u64, count: u64| match union.last_mut() {
        Some(last) if *last >> COUNT_BITS == code => *last = add(*last, count),
        _ => union.push(code << COUNT_BITS | count),
    };
    for bucket in &here[HEAD_WORDS..] {
        while let Some((code, count)) = more.next_if(|(code, _)| *code < bucket >> COUNT_BITS) {
            push(code, count);
        }
        push(bucket >> COUNT_BITS, bucket & COUNT_MAX);
    }
    more.for_each(|(code, count)| push(code, count));

    while union.len() > BUCKETS_MAX {
        shape.collapses += 1;
        let mut collapsed: Vec<u64> = Vec::with_capacity(union.len());
        for bucket in &union {
            let code = collapse(bucket >> COUNT_BITS, 1);
            match collapsed.last_mut() {
                Some(last) if *last >> COUNT_BITS == code => *last = add(*last, bucket & COUNT_MAX),
                _ => collapsed.push(code << COUNT_BITS | bucket & COUNT_MAX),
            }
        }
        union = collapsed;
    }
    let held = HEAD_WORDS + shape.buckets;
    shape.buckets = union.len();
    slot[0] = shape.head();
    slot[1] = arena.grow(slot[1], HEAD_WORDS + union.len());
    let object = arena.get_mut(slot[1]);
    object[..HEAD_WORDS].copy_from_slice(&ends);
    object[HEAD_WORDS..HEAD_WORDS + union.len()].copy_from_slice(&union);
    if held > HEAD_WORDS + union.len() {
        object[HEAD_WORDS + union.len()..held].fill(0);
    }
}

/// ln(g) after this many collapses, each of which squares g.
pub(super) fn factor_ln(collapses: u32) -> f64 {
    ((1.0 + ALPHA) / (1.0 - ALPHA)).ln() * f64::from(1u32 << collapses)
}

/// A number's bucket before any collapse; codes ascend with the numbers.
#[expect(clippy::cast_possible_truncation, reason = "the logarithm of a double is small")]
pub(super) fn code_of(number: f64) -> u64 {
    if number == 0.0 {
        return ZERO.cast_unsigned();
    }
    let size = 1 + NUMBER_OFFSET + (number.abs().ln() / factor_ln(0)).floor() as i64;
    if number < 0.0 { ZERO - size } else { ZERO + size }.cast_unsigned()
}

/// The bucket that this one falls into after `steps` collapses.
#[inline]
pub(super) fn collapse(code: u64, steps: u32) -> u64 {
    let distance = code.cast_signed() - ZERO;
    if distance == 0 || steps == 0 {
        return code;
    }
    let size = 1 + NUMBER_OFFSET + ((distance.abs() - 1 - NUMBER_OFFSET) >> steps);
    (ZERO + size * distance.signum()).cast_unsigned()
}

/// A bucket with more in it; a full count stays full.
#[inline]
fn add(bucket: u64, count: u64) -> u64 {
    bucket & !COUNT_MAX | ((bucket & COUNT_MAX) + count).min(COUNT_MAX)
}

/// A finite number as a word that sorts as it does, never 0. -0.0 is 0.0.
#[inline]
fn word_of(number: f64) -> u64 {
    let bits = (number + 0.0).to_bits();
    if bits >> 63 == 0 { bits | 1 << 63 } else { !bits }
}

#[inline]
pub(super) fn number_of(word: u64) -> f64 {
    f64::from_bits(if word >> 63 == 1 { word & !(1 << 63) } else { !word })
}

/// A length that this file wrote into a word.
#[expect(clippy::cast_possible_truncation, reason = "at most 2,048")]
#[inline]
fn index(word: u64) -> usize {
    word as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, State, Stream, check_exact_laws, rows};
    use super::super::ranks::{ends, middle};
    use super::*;
    use proptest::prelude::*;

    fn fed(numbers: &[f64]) -> State {
        State::fed(&Quantiles, &rows(numbers.iter().copied().map(Datum::F64)))
    }

    fn read(state: &State, q: f64) -> Option<f64> {
        Quantiles::value(&state.slot(), q)
    }

    /// The bound a after the collapses: tanh(ln(g) / 2), since collapsing squares g.
    fn error(state: &State) -> Option<f64> {
        match Held::by(state.slot().core) {
            Held::List(_) => None,
            Held::Sketch { collapses, .. } => Some((0.5 * factor_ln(collapses)).tanh()),
        }
    }

    #[test]
    fn few_numbers_are_interpolated_exactly() {
        for (numbers, q, expected) in [
            (&[][..], 0.5, None),
            (&[7.0], 0.9, Some(7.0)),
            (&[0.0], 0.5, Some(0.0)),
            (&[-0.0], 0.5, Some(0.0)),
            (&[3.0, 1.0], 0.5, Some(2.0)),
            (&[4.0, 1.0, 2.0, 3.0], 0.25, Some(1.75)),
            (&[-5.0, -1.0, -3.0], 0.5, Some(-3.0)),
            (&[f64::MAX, -f64::MAX], 0.5, Some(0.0)),
        ] {
            assert_eq!((read(&fed(numbers), q), error(&fed(numbers))), (expected, None), "{numbers:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_passed_over() {
        let state =
            State::fed(&Quantiles, &rows([Datum::Null, Datum::Bool(true), Datum::Str("1".into()), Datum::Datetime(1), Datum::I64(2)]));
        assert_eq!(read(&state, 0.5), Some(2.0));
    }

    #[test]
    fn memory_grows_with_the_numbers() {
        for (numbers, bytes) in [(1usize, 0), (2, 16), (3, 24), (255, 2040)] {
            let numbers: Vec<f64> = (0..numbers).map(|n| n as f64).collect();
            assert_eq!(fed(&numbers).arena.used_bytes(), bytes);
        }
        assert_eq!(fed(&[1.0; 600]).arena.used_bytes(), 24);
    }

    /// Numbers of one distribution.
    fn sample(name: &str, stream: &mut Stream) -> f64 {
        match name {
            "uniform" => stream.share() * 1000.0,
            "lognormal" => (stream.normal() * 2.0 + 3.0).exp(),
            "negative" => -(stream.normal()).exp(),
            "mixed" => match stream.word() % 10 {
                0 => 0.0,
                1..=3 => -stream.share() * 50.0,
                _ => (stream.normal() * 3.0).exp(),
            },
            "integers" => (stream.word() % 500) as f64,
            _ => 10f64.powf(stream.share() * 600.0 - 300.0) * if stream.word().is_multiple_of(2) { 1.0 } else { -1.0 },
        }
    }

    #[test]
    fn estimates_are_within_their_bound_of_the_number_of_that_rank() {
        for (name, bound_expected) in
            [("uniform", 0.01), ("lognormal", 0.01), ("negative", 0.01), ("mixed", 0.021), ("integers", 0.01), ("all magnitudes", 0.86)]
        {
            let mut stream = Stream(42);
            let mut numbers: Vec<f64> = (0..12_000).map(|_| sample(name, &mut stream)).collect();
            let state = fed(&numbers);
            numbers.sort_by(f64::total_cmp);
            for q in [1e-9, 0.001, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.99, 0.999, 0.999_999_999] {
                let exact = numbers[(q * (numbers.len() - 1) as f64) as usize];
                let (estimate, bound) = (read(&state, q).unwrap(), error(&state).unwrap());
                assert!(bound <= bound_expected * (1.0 + 1e-9), "{name}: bound {bound}");
                assert!(
                    (estimate - exact).abs() <= bound * exact.abs() * (1.0 + 1e-9),
                    "{name} q={q}: {estimate} for {exact}, bound {bound}"
                );
                assert!((numbers[0]..=numbers[numbers.len() - 1]).contains(&estimate));
            }
        }
    }

    #[test]
    fn the_outermost_doubles_have_buckets() {
        for number in [f64::MAX, f64::MIN_POSITIVE, 5e-324, 1.0, 0.0] {
            for number in [number, -number] {
                let state = fed(&[number; 600]);
                assert_eq!(read(&state, 0.5), Some(number + 0.0));
                assert!((error(&state).unwrap() - ALPHA).abs() < 1e-12);
                assert!(code_of(number) < 1 << (64 - COUNT_BITS));
            }
        }
    }

    #[test]
    fn codes_ascend_with_numbers_at_every_resolution() {
        let mut stream = Stream(3);
        let mut numbers: Vec<f64> = (0..2000).map(|_| sample("all magnitudes", &mut stream)).chain([0.0]).collect();
        numbers.sort_by(f64::total_cmp);
        for steps in 0..9 {
            let codes: Vec<u64> = numbers.iter().map(|&number| collapse(code_of(number), steps)).collect();
            assert!(codes.is_sorted());
            for (&number, &code) in numbers.iter().zip(&codes) {
                let bound = (0.5 * factor_ln(steps)).tanh();
                let (middle, ends) = (middle(code.cast_signed(), steps), ends(code.cast_signed(), steps));
                assert!(!middle.is_finite() || (middle - number).abs() <= bound * number.abs() * (1.0 + 1e-9), "{number} {middle} {steps}");
                assert!((ends.0..=ends.1).contains(&number), "{number} {ends:?} {steps}");
            }
        }
        assert!(numbers.iter().map(|&number| word_of(number)).is_sorted());
        assert!(numbers.iter().all(|&number| number_of(word_of(number)) == number));
    }

    #[test]
    fn the_state_depends_on_the_numbers_only() {
        for name in ["mixed", "all magnitudes"] {
            let mut stream = Stream(5);
            let forward: Vec<f64> = (0..6000).map(|_| sample(name, &mut stream)).collect();
            let mut backward = forward.clone();
            backward.reverse();
            assert_eq!(fed(&forward).content(&Quantiles), fed(&backward).content(&Quantiles), "{name}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn quantiles_obey_the_laws(
            seed in any::<u64>(),
            name in prop::sample::select(vec!["uniform", "lognormal", "negative", "mixed", "integers", "all magnitudes"]),
            length in prop::sample::select(vec![0usize, 1, 2, 10, 512, 513, 800, 3000]),
            cuts in (0.0f64..1.0, 0.0f64..1.0),
        ) {
            let mut stream = Stream(seed);
            let rows = rows((0..length).map(|_| Datum::F64(sample(name, &mut stream))));
            check_exact_laws(&Quantiles, &rows, ((cuts.0 * length as f64) as usize, (cuts.1 * length as f64) as usize))?;
        }
    }
}
