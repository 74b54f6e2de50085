//! The counters behind `top_k`: exact while there are few distinct values, space-saving beyond.
//!
//! Up to 1,024 distinct values each has its exact count. Then a value that comes anew takes over the counter of a rarest one and starts from that count, which becomes its
//! error (A. Metwally, D. Agrawal, A. El Abbadi, "Efficient Computation of Frequent and Top-k Elements in Data Streams", 2005). So a true count lies within
//! `count - error ..= count`, a value without a counter came at most `floor` times, and `floor <= rows / 1024` of one stream. Merge adds, with the other side's floor
//! for a value that it has no counter for (P. Agarwal et al., "Mergeable Summaries", 2012), and keeps the 1,024 largest; the bounds still hold. It is exact, associative and
//! commutative while the union has at most 1,024 distinct values.
//!
//! One slot word, one object: a head, an open-addressing table of counters, then the bytes of texts. Texts beyond 480 bytes, bytes and json are passed over.
//!
//! ```text
//! slot      [handle]
//! object    [table capacity, 16 bits | counters, 16 bits | text bytes, 31 bits | approximate, 1 bit] [floor] [cursor]
//!           (floor and cursor only when approximate)
//!           capacity * counter    count << 3 | tag, payload, error (the last only when approximate); 0 = free
//!           text bytes
//! payload   the scalar itself, or of a text: hash, upper 32 bits | offset, 21 bits | length, 11 bits
//! ```

use super::Slot;
use super::value_slot::value_of;
use crate::row::Cell;
use crate::state::{Accumulator, Arena, Input, Need, hash_cell};
use std::cmp::Ordering;
use streamgauge_api::Value;

/// Most counters.
const COUNTERS_MAX: usize = 1024;

/// Longest text that is counted, bytes.
const TEXT_BYTES_MAX: usize = 480;

/// Bits of a text's payload.
const LENGTH_BITS: u32 = 11;
const OFFSET_BITS: u32 = 21;

/// Capacity of the table when it holds all counters.
const CAPACITY_MAX: usize = COUNTERS_MAX + COUNTERS_MAX / 2;

// A full table of longest texts, as much again left behind by values that lost their counter, stays within 1 MiB: then 21-bit offsets do.
const _: () = assert!(2 * COUNTERS_MAX * TEXT_BYTES_MAX + (3 + 3 * CAPACITY_MAX) * 8 <= 1 << 20);
const _: () = assert!(TEXT_BYTES_MAX < 1 << LENGTH_BITS && CAPACITY_MAX < 1 << 16);

/// Counts of values.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeavyHitters;

/// One value with its count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hitter<'a> {
    cell: Cell<'a>,
    count: u64,
    error: u64,
}

impl Hitter<'_> {
    /// The value as readers see it.
    pub(super) fn value(&self) -> Value {
        value_of(self.cell)
    }

    /// Upper bound of how often it came.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// By how much the count may be too high.
    pub(super) fn error(&self) -> u64 {
        self.error
    }
}

impl HeavyHitters {
    /// The `k` values with the highest counts, highest first, equal counts by value.
    pub(super) fn read<'a>(slot: &Slot<'a>, k: usize) -> Vec<Hitter<'a>> {
        let object = slot.arena.get(slot.words[0]);
        let mut hitters: Vec<Hitter<'a>> = Table::over(object).map(|table| table.hitters().collect()).unwrap_or_default();
        if k > 0 && k < hitters.len() {
            hitters.select_nth_unstable_by(k - 1, rank);
        }
        hitters.truncate(k);
        hitters.sort_unstable_by(rank);
        hitters
    }
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

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        let Some(there) = Table::over(from.get(other[0])) else { return };
        let (counters, floor) = Table::over(arena.get(slot[0])).map_or((0, 0), |here| (here.head.counters, here.floor()));
        if floor == 0 && there.floor() == 0 && counters + there.head.counters <= COUNTERS_MAX {
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

/// Type tags, in the order in which equal counts are listed.
const TAG_STR: u64 = 1;
const TAG_I64: u64 = 2;
const TAG_F64: u64 = 3;
const TAG_BOOL: u64 = 4;
const TAG_DATETIME: u64 = 5;
const TAG_BITS: u32 = 3;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// A value that can be counted, with its hash.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    tag: u64,
    /// The payload of a scalar; 0 of a text.
    scalar: u64,
    text: &'a [u8],
    hash: u64,
}

impl<'a> Item<'a> {
    #[inline]
    fn of(cell: Cell<'a>, hash: u64) -> Option<Self> {
        let (tag, scalar, text): (u64, u64, &[u8]) = match cell {
            Cell::Str(text) if text.len() <= TEXT_BYTES_MAX => (TAG_STR, 0, text),
            Cell::I64(number) => (TAG_I64, number.cast_unsigned(), &[]),
            // -0.0 and 0.0 are one value.
            Cell::F64(number) => (TAG_F64, (number + 0.0).to_bits(), &[]),
            Cell::Bool(truth) => (TAG_BOOL, u64::from(truth), &[]),
            Cell::Datetime(ms) => (TAG_DATETIME, ms.cast_unsigned(), &[]),
            _ => return None,
        };
        let hash = if hash == 0 { hash_cell(cell) } else { hash };
        Some(Self { tag, scalar, text, hash })
    }
}

/// The first word of an object.
#[derive(Debug, Clone, Copy)]
struct Head {
    capacity: usize,
    counters: usize,
    text_bytes: usize,
    approximate: bool,
}

#[expect(clippy::cast_possible_truncation, reason = "each part was written with its width")]
impl Head {
    fn of(word: u64) -> Self {
        Self {
            capacity: (word & 0xFFFF) as usize,
            counters: (word >> 16 & 0xFFFF) as usize,
            text_bytes: (word >> 32 & 0x7FFF_FFFF) as usize,
            approximate: word >> 63 == 1,
        }
    }

    fn word(self) -> u64 {
        self.capacity as u64 | (self.counters as u64) << 16 | (self.text_bytes as u64) << 32 | u64::from(self.approximate) << 63
    }

    fn table_at(self) -> usize {
        if self.approximate { 3 } else { 1 }
    }

    fn counter_words(self) -> usize {
        if self.approximate { 3 } else { 2 }
    }

    fn text_at(self) -> usize {
        self.table_at() + self.capacity * self.counter_words()
    }

    /// Word of the counter at a table position.
    fn counter_at(self, position: usize) -> usize {
        self.table_at() + position * self.counter_words()
    }

    /// Words of an object with room for its table and this much text.
    fn words(self, text_bytes: usize) -> usize {
        self.text_at() + text_bytes.div_ceil(8)
    }

    /// Where a hash belongs.
    #[inline]
    fn home(self, hash: u64) -> usize {
        ((hash >> 32) * self.capacity as u64 >> 32) as usize
    }

    /// The smallest capacity for this many counters: small tables may be full, larger ones are at most two thirds full.
    fn capacity_for(counters: usize) -> usize {
        match counters {
            0..=8 => counters.next_power_of_two(),
            _ => (counters + counters / 2 + 1).next_power_of_two().min(CAPACITY_MAX),
        }
    }
}

/// An object, read.
#[derive(Debug, Clone, Copy)]
struct Table<'a> {
    words: &'a [u64],
    head: Head,
}

impl<'a> Table<'a> {
    /// `None` for the empty state.
    #[inline]
    fn over(words: &'a [u64]) -> Option<Self> {
        words.first().map(|&word| Self { words, head: Head::of(word) })
    }

    /// How often a value without a counter may have come.
    fn floor(&self) -> u64 {
        if self.head.approximate { self.words[1] } else { 0 }
    }

    /// The word of the item's counter.
    #[inline]
    fn find(&self, item: &Item<'_>) -> Option<usize> {
        let mut position = self.head.home(item.hash);
        for _ in 0..self.head.capacity {
            let at = self.head.counter_at(position);
            let (count, payload) = (self.words[at], self.words[at + 1]);
            if count == 0 {
                return None;
            }
            let same = count & TAG_MASK == item.tag
                && if item.tag == TAG_STR {
                    payload >> 32 == item.hash >> 32 && self.text(payload) == item.text
                } else {
                    payload == item.scalar
                };
            if same {
                return Some(at);
            }
            position = if position + 1 == self.head.capacity { 0 } else { position + 1 };
        }
        None
    }

    #[expect(clippy::cast_possible_truncation, reason = "21 and 11 bits")]
    fn text(&self, payload: u64) -> &'a [u8] {
        let (offset, length) = ((payload >> LENGTH_BITS) as usize & ((1 << OFFSET_BITS) - 1), payload as usize & ((1 << LENGTH_BITS) - 1));
        let bytes: &[u8] = bytemuck::cast_slice(&self.words[self.head.text_at()..]);
        &bytes[offset..offset + length]
    }

    fn hitter(&self, position: usize) -> Option<Hitter<'a>> {
        let at = self.head.counter_at(position);
        let (count, payload) = (self.words[at], self.words[at + 1]);
        let cell = match count & TAG_MASK {
            TAG_STR => Cell::Str(self.text(payload)),
            TAG_I64 => Cell::I64(payload.cast_signed()),
            TAG_F64 => Cell::F64(f64::from_bits(payload)),
            TAG_BOOL => Cell::Bool(payload != 0),
            TAG_DATETIME => Cell::Datetime(payload.cast_signed()),
            _ => return None,
        };
        Some(Hitter { cell, count: count >> TAG_BITS, error: if self.head.approximate { self.words[at + 2] } else { 0 } })
    }

    /// Counters in table order.
    fn hitters(self) -> impl Iterator<Item = Hitter<'a>> {
        (0..self.head.capacity).filter_map(move |position| self.hitter(position))
    }

    fn items(self) -> impl Iterator<Item = (Item<'a>, Hitter<'a>)> {
        self.hitters().filter_map(|hitter| Item::of(hitter.cell, 0).map(|item| (item, hitter)))
    }

    /// The hash that decided where a counter lies, as far as [`Head::home`] uses it.
    fn hash(&self, position: usize) -> u64 {
        let at = self.head.counter_at(position);
        if self.words[at] & TAG_MASK == TAG_STR {
            return self.words[at + 1];
        }
        self.hitter(position).map_or(0, |hitter| hash_cell(hitter.cell))
    }
}

/// Adds a counter; the item has none yet and there is one left.
fn insert(slot: &mut [u64], arena: &mut Arena, item: &Item<'_>, count: u64, error: u64) {
    make_room(slot, arena, item.text.len());
    let object = arena.get_mut(slot[0]);
    let mut head = Head::of(object[0]);
    let mut position = head.home(item.hash);
    while object[head.counter_at(position)] != 0 {
        position = if position + 1 == head.capacity { 0 } else { position + 1 };
    }
    let at = head.counter_at(position);
    object[at] = count << TAG_BITS | item.tag;
    object[at + 1] = item.scalar;
    if head.approximate {
        object[at + 2] = error;
    }
    if item.tag == TAG_STR {
        let offset = head.text_bytes;
        object[at + 1] = item.hash >> 32 << 32 | (offset as u64) << LENGTH_BITS | item.text.len() as u64;
        let text: &mut [u8] = bytemuck::cast_slice_mut(&mut object[head.text_at()..]);
        text[offset..offset + item.text.len()].copy_from_slice(item.text);
        head.text_bytes += item.text.len();
    }
    head.counters += 1;
    object[0] = head.word();
}

/// Makes room for one more counter and this much text.
fn make_room(slot: &mut [u64], arena: &mut Arena, text_bytes: usize) {
    let Some(table) = Table::over(arena.get(slot[0])) else {
        let head = Head { capacity: 1, counters: 0, text_bytes: 0, approximate: false };
        slot[0] = arena.alloc(head.words(text_bytes));
        arena.get_mut(slot[0])[0] = head.word();
        return;
    };
    let head = table.head;
    let capacity = Head::capacity_for(head.counters + 1).max(head.capacity);
    if capacity > head.capacity {
        rebuild(slot, arena, capacity, head.approximate, text_bytes);
    } else if head.words(head.text_bytes + text_bytes) > Arena::capacity(slot[0]) {
        let live: usize = table.items().map(|(item, _)| item.text.len()).sum();
        if live * 2 <= head.text_bytes {
            rebuild(slot, arena, capacity, head.approximate, text_bytes);
        } else {
            slot[0] = arena.grow(slot[0], head.words(head.text_bytes + text_bytes));
        }
    }
}

/// Writes the object anew, without texts that no counter names, with room for this much more text.
#[cold]
fn rebuild(slot: &mut [u64], arena: &mut Arena, capacity: usize, approximate: bool, text_bytes: usize) {
    let words = arena.get(slot[0]).to_vec();
    arena.free(slot[0]);
    slot[0] = 0;
    let Some(table) = Table::over(&words) else { return };
    let live: usize = table.items().map(|(item, _)| item.text.len()).sum();
    let head = Head { capacity, counters: 0, text_bytes: 0, approximate };
    slot[0] = arena.alloc(head.words(live + text_bytes));
    let object = arena.get_mut(slot[0]);
    object[0] = head.word();
    if approximate {
        object[1] = table.floor();
    }
    for (item, hitter) in table.items() {
        insert(slot, arena, &item, hitter.count, hitter.error);
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

/// Removes a counter and closes the gap, so that every search still ends at the first free counter.
fn remove(object: &mut [u64], position: usize) {
    let mut head = Head::of(object[0]);
    head.counters -= 1;
    object[0] = head.word();
    let (mut hole, mut next) = (position, position);
    let distance = |from: usize, to: usize| if to >= from { to - from } else { to + head.capacity - from };
    for _ in 1..head.capacity {
        next = if next + 1 == head.capacity { 0 } else { next + 1 };
        if object[head.counter_at(next)] == 0 {
            break;
        }
        let home = head.home(Table { words: object, head }.hash(next));
        if distance(home, next) >= distance(hole, next) {
            let at = head.counter_at(next);
            object.copy_within(at..at + head.counter_words(), head.counter_at(hole));
            hole = next;
        }
    }
    let at = head.counter_at(hole);
    object[at..at + head.counter_words()].fill(0);
}

/// Adds a table where either is approximate or both together may have too many counters.
fn unite(slot: &mut [u64], arena: &mut Arena, there: &Table<'_>) {
    let words = arena.get(slot[0]).to_vec();
    let here = Table::over(&words);
    let (floor_here, floor_there) = (here.map_or(0, |here| here.floor()), there.floor());
    let mut union: Vec<(Item<'_>, Hitter<'_>)> = Vec::with_capacity(2 * COUNTERS_MAX);
    for (item, hitter) in here.iter().flat_map(|here| here.items()) {
        let (count, error) = match there.find(&item).and_then(|at| there.hitter((at - there.head.table_at()) / there.head.counter_words()))
        {
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

/// Highest count first, then by type (text, integers, doubles, booleans, datetimes), then by value.
fn rank(left: &Hitter<'_>, right: &Hitter<'_>) -> Ordering {
    right.count.cmp(&left.count).then_with(|| match (left.cell, right.cell) {
        (Cell::Str(left), Cell::Str(right)) => left.cmp(right),
        (Cell::I64(left), Cell::I64(right)) | (Cell::Datetime(left), Cell::Datetime(right)) => left.cmp(&right),
        (Cell::F64(left), Cell::F64(right)) => left.total_cmp(&right),
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(&right),
        (left, right) => Item::of(left, 1).map(|item| item.tag).cmp(&Item::of(right, 1).map(|item| item.tag)),
    })
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
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    type Counts = Vec<(Value, u64, u64)>;

    fn top(state: &State, k: usize) -> Counts {
        HeavyHitters::read(&state.slot(), k).iter().map(|hitter| (hitter.value(), hitter.count(), hitter.error())).collect()
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
            state.feed(&HeavyHitters, &Row { datum: Datum::Str(format!("{n}{}", "x".repeat(length))), time_us: 0, lsn: n });
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
