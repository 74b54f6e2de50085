//! The counters behind `top_k`: exact while there are few distinct values, space-saving beyond.
//!
//! Up to 1,024 distinct values each has its exact count. Then a value that comes anew takes over the counter of a rarest one and starts from that count, which
//! becomes its error (A. Metwally, D. Agrawal, A. El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005). So a true count lies
//! within `count - error ..= count`, and a value without a counter came at most `floor` times; in one stream `floor <= rows / 1024`. Merge adds, with the other
//! side's floor for a value that it has no counter for, and keeps the 1,024 largest: the bounds hold for every order of merges, the counts may differ with it. While the
//! union has at most 1,024 distinct values, merge is exact, associative and commutative.
//!
//! One slot word: the handle of a counter table. Called by apply, row by row.

use super::Slot;
use super::counter_table;
use super::counter_table::{
    CAPACITY_MAX, COUNTERS_MAX, Head, Hitter, Item, OBJECT_WORDS_MAX, TAG_BITS, Table, demand_room, insert, make_room, rank, rebuild,
    remove,
};
use super::reading::{Part, with_shares};
use crate::state::{Accumulator, Arena, Demand, Input, Need};

/// Counts of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeavyHitters;

/// A value that was counted, and between which counts the truth lies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counted<'a> {
    /// The value with its count, and by how much that may be wrong.
    pub(super) hitter: Hitter<'a>,
    /// Least count.
    pub(super) low: u64,
    /// Largest count.
    pub(super) high: u64,
}

impl HeavyHitters {
    /// The `k` values with the highest counts, highest first, equal counts by value. Counts of cut
    /// buckets enter with their share, rounded.
    pub(super) fn top<'a>(slot: &Slot<'a>, k: usize) -> Vec<Counted<'a>> {
        let mut counted = if slot.edges().any(|edge| Self::table(edge.part).is_some()) { weighted(slot) } else { whole(slot.core) };
        let rank = |left: &Counted<'_>, right: &Counted<'_>| rank(&left.hitter, &right.hitter);
        if k > 0 && k < counted.len() {
            counted.select_nth_unstable_by(k - 1, rank);
        }
        counted.truncate(k);
        counted.sort_unstable_by(rank);
        counted
    }

    /// Whether every count and the choice of values are the truth.
    pub(super) fn exact(slot: &Slot<'_>) -> bool {
        slot.edges().all(|edge| Self::table(edge.part).is_none()) && Self::table(slot.core).is_none_or(|table| !table.head.approximate)
    }

    fn table(part: Part<'_>) -> Option<Table<'_>> {
        Table::over(part.arena.get(part.words[0]))
    }
}

/// The counters of a slot without cut buckets.
fn whole(core: Part<'_>) -> Vec<Counted<'_>> {
    let hitters = HeavyHitters::table(core).into_iter().flat_map(Table::hitters);
    hitters.map(|hitter| Counted { low: hitter.count - hitter.error, high: hitter.count, hitter }).collect()
}

/// The counters of all parts by value. A value that a part has no counter for came there at most as
/// often as its floor.
fn weighted<'a>(slot: &Slot<'a>) -> Vec<Counted<'a>> {
    let core = HeavyHitters::table(slot.core);
    let edges: smallvec::SmallVec<[(Table<'a>, f64); 2]> =
        slot.edges().filter_map(|edge| HeavyHitters::table(edge.part).map(|table| (table, edge.share))).collect();
    let most = |table: &Table<'_>, item: &Item<'_>| table.hitter_of(item).map_or(table.floor(), |hitter| hitter.count);
    let mut counted: Vec<Counted<'a>> = Vec::new();
    let mut add = |item: Item<'a>, hitter: Hitter<'a>| {
        let least = core.and_then(|table| table.hitter_of(&item)).map_or(0, |hitter| hitter.count - hitter.error);
        let inside = core.map_or(0, |table| most(&table, &item));
        let count = with_shares(inside, edges.iter().map(|(table, share)| (most(table, &item), *share)));
        let high = inside + edges.iter().map(|(table, _)| most(table, &item)).sum::<u64>();
        debug_assert!((least..=high).contains(&count), "{count} is not within {least} to {high}");
        if count > 0 {
            counted.push(Counted { hitter: Hitter { count, error: (count - least).max(high - count), ..hitter }, low: least, high });
        }
    };
    core.into_iter().flat_map(Table::items).for_each(|(item, hitter)| add(item, hitter));
    for (number, (table, _)) in edges.iter().enumerate() {
        let earlier = || core.iter().chain(edges[..number].iter().map(|(table, _)| table));
        for (item, hitter) in table.items() {
            if earlier().all(|table| table.find(&item).is_none()) {
                add(item, hitter);
            }
        }
    }
    counted
}

impl Accumulator for HeavyHitters {
    fn identity(&self) -> String {
        "heavy hitters".into()
    }

    fn words(&self) -> usize {
        1
    }

    fn handles(&self) -> &'static [usize] {
        &[0]
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        let Some(item) = Item::of(input.cell, input.hash) else { return };
        if let Some(table) = Table::over(arena.get(slot[0])) {
            if let Some(at) = table.find(&item) {
                arena.get_mut(slot[0])[at] += 1 << TAG_BITS;
                return;
            }
            let floor = if table.head.counters < COUNTERS_MAX { table.floor() } else { evict(slot, arena) };
            insert(slot, arena, &item, floor + 1, floor);
        } else {
            insert(slot, arena, &item, 1, 0);
        }
    }

    fn demand_words_max(&self) -> usize {
        2 * OBJECT_WORDS_MAX
    }

    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        let Some(item) = Item::of(input.cell, input.hash) else { return };
        let table = Table::over(arena.get(slot[0]));
        let counters = table.map_or(0, |table| table.head.counters) + before;
        // While no counter is taken over, one that is there stays.
        if counters < COUNTERS_MAX && table.is_some_and(|table| table.find(&item).is_some()) {
            return;
        }
        demand_room(table, Arena::capacity(slot[0]), &item, before, demand);
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        if slot[0] == 0 { Ok(()) } else { counter_table::verify(arena.get(slot[0])) }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        let Some(there) = Table::over(from.get(other[0])) else { return };
        let Some((counters, floor)) = Table::over(arena.get(slot[0])).map(|here| (here.head.counters, here.floor())) else {
            let used = there.used();
            slot[0] = arena.alloc(used.len());
            arena.get_mut(slot[0])[..used.len()].copy_from_slice(used);
            return;
        };
        if floor == 0 && there.floor() == 0 && counters + there.head.counters <= COUNTERS_MAX {
            make_room(slot, arena, there.head.counters, 0);
            for (item, hitter) in there.items() {
                match Table::over(arena.get(slot[0])).and_then(|here| here.find(&item)) {
                    Some(at) => arena.get_mut(slot[0])[at] += hitter.count << TAG_BITS,
                    None => insert(slot, arena, &item, hitter.count, 0),
                }
            }
            return;
        }
        unite(slot, arena, &there);
    }
}

/// Takes away a counter with the lowest count, which becomes the floor.
///
/// Counts below the floor do not exist, so a counter at the floor is a lowest one; the cursor goes round over them. Only when a round finds none the floor rises.
fn evict(slot: &mut [u64], arena: &mut Arena) -> u64 {
    if !Head::of(arena.get(slot[0])[0]).approximate {
        rebuild(slot, arena, CAPACITY_MAX, true, 0);
    }
    let object = arena.get_mut(slot[0]);
    let head = Head::of(object[0]);
    let count = |object: &[u64], position: usize| object[head.counter_at(position)] >> TAG_BITS;
    let start = index(object[2]).min(head.capacity - 1);
    let round = || (start..head.capacity).chain(0..start);
    let at_floor = round().find(|&position| (1..=object[1]).contains(&count(object, position)));
    let victim =
        at_floor.or_else(|| round().filter(|&position| count(object, position) > 0).min_by_key(|&position| count(object, position)));
    let Some(victim) = victim else { return object[1] };
    object[1] = object[1].max(count(object, victim));
    object[2] = victim as u64;
    remove(object, victim);
    object[1]
}

/// Adds a table where either is approximate or both together may have too many counters.
fn unite(slot: &mut [u64], arena: &mut Arena, there: &Table<'_>) {
    let words = arena.get(slot[0]).to_vec();
    let here = Table::over(&words);
    let (floor_here, floor_there) = (here.map_or(0, |here| here.floor()), there.floor());
    let mut union: Vec<(Item<'_>, Hitter<'_>)> = Vec::with_capacity(2 * COUNTERS_MAX);
    for (item, hitter) in here.iter().flat_map(|here| here.items()) {
        let (count, error) = match there.hitter_of(&item) {
            Some(other) => (other.count, other.error),
            None => (floor_there, floor_there),
        };
        union.push((item, Hitter { count: hitter.count + count, error: hitter.error + error, ..hitter }));
    }
    for (item, hitter) in there.items() {
        if here.is_none_or(|here| here.find(&item).is_none()) {
            union.push((item, Hitter { count: hitter.count + floor_here, error: hitter.error + floor_here, ..hitter }));
        }
    }
    union.sort_unstable_by(|left, right| rank(&left.1, &right.1));
    let cut = union.get(COUNTERS_MAX).map_or(0, |(_, hitter)| hitter.count);
    union.truncate(COUNTERS_MAX);

    let floor = cut.max(floor_here + floor_there);
    let text_bytes: usize = union.iter().map(|(item, _)| item.text.len()).sum();
    let head = Head { capacity: Head::capacity_for(union.len()), counters: 0, text_bytes: 0, approximate: floor > 0 };
    arena.free(slot[0]);
    slot[0] = arena.alloc(head.words(text_bytes));
    let object = arena.get_mut(slot[0]);
    object[0] = head.word();
    if head.approximate {
        object[1] = floor;
    }
    for (item, hitter) in &union {
        insert(slot, arena, item, hitter.count, hitter.error);
    }
}

/// A table position that this file wrote into a word.
#[expect(clippy::cast_possible_truncation, reason = "below the capacity")]
fn index(word: u64) -> usize {
    word as usize
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::{Datum, ID_SHAPES, Row, State, Stream, check_laws, rows};
    use super::super::value_slot::value_of;
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use streamgauge_api::Value;

    type Counts = Vec<(Value, u64, u64)>;

    fn top(state: &State, k: usize) -> Counts {
        let hitters = HeavyHitters::top(&state.slot(), k);
        hitters.iter().map(|Counted { hitter, .. }| (hitter.value(), hitter.count, hitter.error)).collect()
    }

    fn floor(state: &State) -> u64 {
        Table::over(state.arena.get(state.words[0])).map_or(0, |table| table.floor())
    }

    /// True counts by the text of the value.
    fn oracle(rows: &[Row]) -> HashMap<String, u64> {
        let mut counts = HashMap::new();
        for row in rows {
            *counts.entry(format!("{:?}", value_of(row.datum.cell()))).or_insert(0) += 1;
        }
        counts
    }

    /// Every count lies within its bounds, and what has no counter came at most `floor` times.
    fn within_bounds(state: &State, counts: &HashMap<String, u64>) -> bool {
        let hitters = top(state, COUNTERS_MAX);
        let known: HashMap<String, (u64, u64)> =
            hitters.iter().map(|(value, count, error)| (format!("{value:?}"), (*count, *error))).collect();
        counts.iter().all(|(value, &exact)| match known.get(value) {
            Some(&(count, error)) => (count - error..=count).contains(&exact),
            None => exact <= floor(state),
        })
    }

    #[test]
    fn counts_are_listed_highest_first_then_by_type_and_value() {
        let text = |text: &str| Datum::Str(text.into());
        let data = [
            Datum::Bool(true),
            text("b"),
            Datum::F64(0.5),
            Datum::I64(2),
            text("a"),
            Datum::Datetime(0),
            Datum::I64(-1),
            text("z"),
            text("z"),
            Datum::Null,
            Datum::Bytes(vec![1]),
            Datum::Json("{}".into()),
            Datum::F64(-0.0),
            Datum::F64(0.0),
        ];
        let listed: Vec<(Value, u64, u64)> = [
            (text("z"), 2),
            (Datum::F64(0.0), 2),
            (text("a"), 1),
            (text("b"), 1),
            (Datum::I64(-1), 1),
            (Datum::I64(2), 1),
            (Datum::F64(0.5), 1),
            (Datum::Bool(true), 1),
            (Datum::Datetime(0), 1),
        ]
        .iter()
        .map(|(datum, count)| (value_of(datum.cell()), *count, 0))
        .collect();
        let state = State::fed(&HeavyHitters, &rows(data));
        assert_eq!(top(&state, 100), listed);
        assert_eq!(top(&state, 3), listed[..3]);
        assert_eq!(top(&State::empty(&HeavyHitters), 3), []);
    }

    #[test]
    fn a_first_value_takes_few_bytes_and_long_texts_are_passed_over() {
        for (datum, bytes) in [(Datum::I64(7), 24), (Datum::Str("eight by".into()), 32), (Datum::Str("x".repeat(481)), 0)] {
            assert_eq!(State::fed(&HeavyHitters, &rows([datum])).arena.used_bytes(), bytes);
        }
        let longest = State::fed(&HeavyHitters, &rows([Datum::Str("x".repeat(480)), Datum::Str("x".repeat(480))]));
        assert_eq!(top(&longest, 1)[0].1, 2);
    }

    #[test]
    fn a_thousand_distinct_values_are_exact() {
        for (shape, id) in ID_SHAPES {
            let mut stream = Stream(9);
            let rows = rows((0..6000).map(|_| id(stream.zipf(1024))));
            let counts = oracle(&rows);
            let state = State::fed(&HeavyHitters, &rows);
            let got = top(&state, COUNTERS_MAX);
            assert_eq!((got.len(), floor(&state)), (counts.len(), 0), "{shape}");
            assert!(got.iter().all(|(value, count, error)| counts[&format!("{value:?}")] == *count && *error == 0));
        }
    }

    #[test]
    fn beyond_that_counts_have_bounds_and_the_heavy_ones_are_found() {
        for (shape, id) in ID_SHAPES {
            let mut stream = Stream(11);
            let rows = rows((0..30_000).map(|_| id(stream.zipf(20_000))));
            let counts = oracle(&rows);
            let state = State::fed(&HeavyHitters, &rows);
            assert!(within_bounds(&state, &counts), "{shape}");
            assert!(floor(&state) <= rows.len() as u64 / COUNTERS_MAX as u64, "{shape}: {}", floor(&state));
            let mut heaviest: Vec<u64> = counts.values().copied().collect();
            heaviest.sort_unstable_by_key(|&count| std::cmp::Reverse(count));
            let found: Vec<u64> = top(&state, 10).iter().map(|(value, ..)| counts[&format!("{value:?}")]).collect();
            assert_eq!(found, heaviest[..10], "{shape}");
        }
    }

    #[test]
    fn values_without_end_keep_the_object_within_its_bound() {
        let mut state = State::empty(&HeavyHitters);
        let mut stream = Stream(13);
        for n in 0..8_000u64 {
            let length = (stream.word() % 400) as usize;
            state.feed(&HeavyHitters, &Row::of(Datum::Str(format!("{n}{}", "x".repeat(length))), 0, n));
        }
        assert!(state.arena.used_bytes() <= 1 << 20, "{}", state.arena.used_bytes());
        assert_eq!(top(&state, COUNTERS_MAX).len(), COUNTERS_MAX);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn few_values_obey_the_laws(data in prop::collection::vec(prop_oneof!["[a-c]{0,3}".prop_map(Datum::Str), (0i64..20).prop_map(Datum::I64)], 0..80), cuts in (0usize..80, 0usize..80)) {
            let rows = rows(data);
            check_laws(&HeavyHitters, &rows, cuts, &|left, right| top(left, COUNTERS_MAX) == top(right, COUNTERS_MAX))?;
            let counts = oracle(&rows);
            let got = top(&State::fed(&HeavyHitters, &rows), COUNTERS_MAX);
            prop_assert_eq!(got.len(), counts.len());
            let exact = got.iter().all(|(value, count, _)| counts[&format!("{value:?}")] == *count);
            prop_assert!(exact);
        }

        #[test]
        fn merged_parts_keep_the_bounds(seed in any::<u64>(), range in prop::sample::select(vec![700u64, 1024, 1500, 6000]), cuts in (0usize..4000, 0usize..4000)) {
            let mut stream = Stream(seed);
            let rows = rows((0..4000).map(|_| ID_SHAPES[1].1(stream.zipf(range))));
            let counts = oracle(&rows);
            check_laws(&HeavyHitters, &rows, cuts, &|left, right| {
                let exact = counts.len() > COUNTERS_MAX || top(left, COUNTERS_MAX) == top(right, COUNTERS_MAX);
                exact && within_bounds(left, &counts) && within_bounds(right, &counts)
            })?;
        }
    }
}
