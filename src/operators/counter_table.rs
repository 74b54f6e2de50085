//! A table of values with their counts in one object of the arena; the machinery under `heavy_hitters`, which decides who has a counter.
//!
//! A head, an open-addressing table of counters, then the bytes of texts. Small first: one integer takes three words. Texts of counters that were removed stay behind until
//! the object is full; then it is written anew. Texts beyond 480 bytes, bytes and json have no counters. The same calls give the same bytes.
//!
//! ```text
//! exact         [head]                     capacity * ([count << 3 | tag] [payload])             text bytes
//! approximate   [head] [floor] [cursor]    capacity * ([count << 3 | tag] [payload] [error])     text bytes
//! head          capacity, 16 bits | counters, 16 bits | text bytes, 31 bits | approximate, 1 bit
//! payload       the scalar itself, or of a text: hash, upper 32 bits | offset, 21 bits | length, 11 bits
//! ```

use super::value_slot::value_of;
use crate::row::Cell;
use crate::state::{Arena, Demand, hash_cell};
use std::cmp::Ordering;
use streamgauge_api::Value;

/// Most counters.
pub(super) const COUNTERS_MAX: usize = 1024;

/// Longest text that is counted, bytes.
const TEXT_BYTES_MAX: usize = 480;

/// Bits of a text's payload.
const LENGTH_BITS: u32 = 11;
const OFFSET_BITS: u32 = 21;

/// Texts of counters and those left behind are no longer than this: beyond twice the live ones they are left out.
const TEXTS_BYTES_MAX: usize = (2 * COUNTERS_MAX + 1) * TEXT_BYTES_MAX;

/// No value is counted higher, so that counts of merged buckets stay within their word.
const COUNT_MAX: u64 = 1 << 50;

/// Capacity of the table when it holds all counters.
pub(super) const CAPACITY_MAX: usize = COUNTERS_MAX + COUNTERS_MAX / 2;

/// A full table of longest texts, as much again left behind by values that lost their counter.
pub(super) const OBJECT_WORDS_MAX: usize = 2 * COUNTERS_MAX * TEXT_BYTES_MAX / 8 + 3 + 3 * CAPACITY_MAX;

// It stays within 1 MiB: then 21-bit offsets do.
const _: () = assert!(OBJECT_WORDS_MAX * 8 <= 1 << 20);
const _: () = assert!(TEXT_BYTES_MAX < 1 << LENGTH_BITS && CAPACITY_MAX < 1 << 16);

/// One value with its count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hitter<'a> {
    pub(super) cell: Cell<'a>,
    /// Upper bound of how often it came.
    pub(super) count: u64,
    /// By how much the count may be too high; beside a cut bucket, or too low.
    pub(super) error: u64,
}

impl Hitter<'_> {
    /// The value as readers see it.
    pub(super) fn value(&self) -> Value {
        value_of(self.cell)
    }
}

/// Type tags, in the order in which equal counts are listed.
const TAG_STR: u64 = 1;
const TAG_I64: u64 = 2;
const TAG_F64: u64 = 3;
const TAG_BOOL: u64 = 4;
const TAG_DATETIME: u64 = 5;
pub(super) const TAG_BITS: u32 = 3;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

/// A value that can be counted, with its hash.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item<'a> {
    tag: u64,
    /// The payload of a scalar; 0 of a text.
    scalar: u64,
    pub(super) text: &'a [u8],
    hash: u64,
}

impl<'a> Item<'a> {
    /// `None` for what has no counters. `hash` is the cell's hash, or 0 when it was not computed.
    #[inline]
    pub(super) fn of(cell: Cell<'a>, hash: u64) -> Option<Self> {
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
pub(super) struct Head {
    pub(super) capacity: usize,
    pub(super) counters: usize,
    pub(super) text_bytes: usize,
    pub(super) approximate: bool,
}

impl Head {
    /// The head of an object.
    pub(super) fn of(word: u64) -> Self {
        Self {
            capacity: (word & 0xFFFF) as usize,
            counters: (word >> 16 & 0xFFFF) as usize,
            text_bytes: (word >> 32 & 0x7FFF_FFFF) as usize,
            approximate: word >> 63 == 1,
        }
    }

    /// The head as its word.
    pub(super) fn word(self) -> u64 {
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
    pub(super) fn counter_at(self, position: usize) -> usize {
        self.table_at() + position * self.counter_words()
    }

    /// Words of an object with room for its table and this much text.
    pub(super) fn words(self, text_bytes: usize) -> usize {
        self.text_at() + text_bytes.div_ceil(8)
    }

    /// Where a hash belongs.
    #[inline]
    fn home(self, hash: u64) -> usize {
        (((hash >> 32) * self.capacity as u64) >> 32) as usize
    }

    /// The smallest capacity for this many counters: small tables may be full, larger ones are at most two thirds full.
    pub(super) fn capacity_for(counters: usize) -> usize {
        match counters {
            0..=8 => counters.next_power_of_two(),
            _ => (counters + counters / 2 + 1).next_power_of_two().min(CAPACITY_MAX),
        }
    }
}

/// Offset and length of a text, from its payload.
#[expect(clippy::cast_possible_truncation, reason = "21 and 11 bits")]
fn text_place(payload: u64) -> (usize, usize) {
    ((payload >> LENGTH_BITS) as usize & ((1 << OFFSET_BITS) - 1), payload as usize & ((1 << LENGTH_BITS) - 1))
}

/// An object, read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table<'a> {
    words: &'a [u64],
    pub(super) head: Head,
}

impl<'a> Table<'a> {
    /// `None` for the empty state.
    #[inline]
    pub(super) fn over(words: &'a [u64]) -> Option<Self> {
        words.first().map(|&word| Self { words, head: Head::of(word) })
    }

    /// How often a value without a counter may have come.
    pub(super) fn floor(&self) -> u64 {
        if self.head.approximate { self.words[1] } else { 0 }
    }

    /// The word of the item's counter.
    #[inline]
    pub(super) fn find(&self, item: &Item<'_>) -> Option<usize> {
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

    fn text(&self, payload: u64) -> &'a [u8] {
        let (offset, length) = text_place(payload);
        let bytes: &[u8] = bytemuck::cast_slice(&self.words[self.head.text_at()..]);
        &bytes[offset..offset + length]
    }

    /// The counter at a table position.
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

    /// The item's count and error.
    pub(super) fn hitter_of(&self, item: &Item<'_>) -> Option<Hitter<'a>> {
        let at = self.find(item)?;
        self.hitter((at - self.head.table_at()) / self.head.counter_words())
    }

    /// The words in use.
    pub(super) fn used(&self) -> &'a [u64] {
        &self.words[..self.head.words(self.head.text_bytes)]
    }

    /// Counters in table order.
    pub(super) fn hitters(self) -> impl Iterator<Item = Hitter<'a>> {
        (0..self.head.capacity).filter_map(move |position| self.hitter(position))
    }

    /// Counters in table order, each with what finds it in another table.
    pub(super) fn items(self) -> impl Iterator<Item = (Item<'a>, Hitter<'a>)> {
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

/// Whether an object that a file brought is a table that these functions can have left.
pub(super) fn verify(words: &[u64]) -> Result<(), &'static str> {
    let head = match words.first() {
        Some(&word) => Head::of(word),
        None => return Err("it has no counters"),
    };
    let table = Table { words, head };
    if !(1..=CAPACITY_MAX).contains(&head.capacity) || head.counters > head.capacity.min(COUNTERS_MAX) {
        return Err("it has more counters than a table");
    }
    if head.text_bytes > TEXTS_BYTES_MAX || head.words(head.text_bytes) > words.len() {
        return Err("its object has no room for its counters and texts");
    }
    if table.floor() > COUNT_MAX {
        return Err("it counts more rows than there are");
    }
    let mut counters = 0;
    for position in (0..head.capacity).filter(|&position| words[head.counter_at(position)] != 0) {
        let (at, payload) = (head.counter_at(position), words[head.counter_at(position) + 1]);
        counters += 1;
        if words[at] & TAG_MASK == TAG_STR {
            let (offset, length) = text_place(payload);
            if offset + length > head.text_bytes || length > TEXT_BYTES_MAX {
                return Err("a text is beyond its object");
            }
        }
        let Some(hitter) = table.hitter(position) else { return Err("a counter is of no type") };
        if !(1..=COUNT_MAX).contains(&hitter.count) || hitter.error > hitter.count {
            return Err("a count is not within its error");
        }
        if Item::of(hitter.cell, 0).and_then(|item| table.find(&item)) != Some(at) {
            return Err("a counter is not where it is looked for");
        }
    }
    if counters == head.counters { Ok(()) } else { Err("it has other counters than it says") }
}

/// Highest count first, then by type (text, integers, doubles, booleans, datetimes), then by value.
pub(super) fn rank(left: &Hitter<'_>, right: &Hitter<'_>) -> Ordering {
    right.count.cmp(&left.count).then_with(|| match (left.cell, right.cell) {
        (Cell::Str(left), Cell::Str(right)) => left.cmp(right),
        (Cell::I64(left), Cell::I64(right)) | (Cell::Datetime(left), Cell::Datetime(right)) => left.cmp(&right),
        (Cell::F64(left), Cell::F64(right)) => left.total_cmp(&right),
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(&right),
        (left, right) => Item::of(left, 1).map(|item| item.tag).cmp(&Item::of(right, 1).map(|item| item.tag)),
    })
}

/// Adds a counter; the item has none yet and there is one left.
pub(super) fn insert(slot: &mut [u64], arena: &mut Arena, item: &Item<'_>, count: u64, error: u64) {
    make_room(slot, arena, 1, item.text.len());
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

/// Makes room for this many more counters and this much more text.
///
/// Who inserts many counters in table order makes room for all of them first: a table keeps the order of hashes, so that they would crowd at the head of a smaller one.
pub(super) fn make_room(slot: &mut [u64], arena: &mut Arena, counters: usize, text_bytes: usize) {
    let Some(table) = Table::over(arena.get(slot[0])) else {
        let head = Head { capacity: Head::capacity_for(counters), counters: 0, text_bytes: 0, approximate: false };
        slot[0] = arena.alloc(head.words(text_bytes));
        arena.get_mut(slot[0])[0] = head.word();
        return;
    };
    let head = table.head;
    let capacity = Head::capacity_for(head.counters + counters).max(head.capacity);
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

/// Names what inserting an item may make after `before` items that were not looked at: an object of another capacity, one
/// with more room for texts, or both in turn. `room` is what the table's object has.
pub(super) fn demand_room(table: Option<Table<'_>>, room: usize, item: &Item<'_>, before: usize, demand: &mut Demand) {
    let head = table.map_or(Head::of(0), |table| table.head);
    let counters = (head.counters + before + 1).min(COUNTERS_MAX);
    let text_bytes = (head.text_bytes + before * TEXT_BYTES_MAX + item.text.len()).min(2 * COUNTERS_MAX * TEXT_BYTES_MAX);
    let approximate = head.approximate || head.counters + before >= COUNTERS_MAX;
    let capacity = if approximate { CAPACITY_MAX } else { Head::capacity_for(counters).max(head.capacity) };
    let most = Head { capacity, approximate, ..head }.words(text_bytes);
    if table.is_none() && before == 0 {
        demand.object(most);
    } else if capacity > head.capacity || approximate != head.approximate || most > room {
        demand.objects(2 * most, most);
    }
}

/// Writes the object anew, without texts that no counter names, with room for this much more text.
#[cold]
pub(super) fn rebuild(slot: &mut [u64], arena: &mut Arena, capacity: usize, approximate: bool, text_bytes: usize) {
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

/// Removes a counter and closes the gap, so that every search still ends at the first free counter.
pub(super) fn remove(object: &mut [u64], position: usize) {
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
