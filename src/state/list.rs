//! Small first: an entity's rows as one time-sorted list, exact for every window.
//!
//! ```text
//! word 0     head: number of entries, edge (`head.rs`)
//! entry      time us | LSN, where an accumulator asks for it | tags: 4 bits a listed column, then 1 bit a filter | one word a listed column
//! ```
//! A cell word is the scalar itself, a hash, or the handle of a text object that the entry owns. Rows that are too old for every window by the key's edge
//! leave when room is needed; a list that is full of live rows grows into rings. Rows ahead of the edge stand in it like others: reads pass them over until their time has come.

use super::accumulator::{Input, Need, hash_cell, load_bytes, store_bytes};
use super::arena::{Arena, Handle};
use super::form::Form;
use super::head::Head;
use super::plan::{SlabPlan, SlabRow};
use crate::row::Cell;

/// No accumulator keeps a longer text, so a list keeps at most its hash.
const TEXT_BYTES_MAX: usize = (1 << 20) - 8;

const TAG_NONE: u64 = 0;
const TAG_BOOL: u64 = 1;
const TAG_I64: u64 = 2;
const TAG_F64: u64 = 3;
const TAG_STR: u64 = 4;
const TAG_BYTES: u64 = 5;
const TAG_DATETIME: u64 = 6;
const TAG_JSON: u64 = 7;
const TAG_HASH: u64 = 8;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Inserted {
    /// It is in the list, this long behind the edge.
    Taken { age_us: i64 },
    /// It is older than every window of this entity.
    Late { age_us: i64 },
    /// The list is full of live rows: grow into rings first.
    Full,
}

pub(crate) fn in_heap(tag: u64) -> bool {
    matches!(tag, TAG_STR | TAG_BYTES | TAG_JSON)
}

/// Whether a tag is one that entries have.
pub(crate) fn is_tag(tag: u64) -> bool {
    tag <= TAG_HASH
}

/// First word of an entry's tags and filter bits.
fn tags_at(plan: &SlabPlan) -> usize {
    1 + usize::from(plan.keeps_lsn)
}

/// Word of an entry that holds a cell.
pub(crate) fn cell_at(plan: &SlabPlan, cell: usize) -> usize {
    tags_at(plan) + plan.tag_words + cell
}

/// The LSN of an entry; 0 where lists keep none.
pub(crate) fn lsn_of(plan: &SlabPlan, entry: &[u64]) -> u64 {
    if plan.keeps_lsn { entry[1] } else { 0 }
}

/// Keeps the LSN of an entry where lists keep any.
pub(crate) fn set_lsn(plan: &SlabPlan, entry: &mut [u64], lsn: u64) {
    if plan.keeps_lsn {
        entry[1] = lsn;
    }
}

pub(crate) fn tag_of(plan: &SlabPlan, entry: &[u64], cell: usize) -> u64 {
    let bit = cell * 4;
    if plan.tag_words == 0 { TAG_NONE } else { entry[tags_at(plan) + bit / 64] >> (bit % 64) & 15 }
}

/// Whether a filter passed when the entry was made.
pub(crate) fn matched(plan: &SlabPlan, entry: &[u64], filter: usize) -> bool {
    let bit = plan.listed.len() * 4 + filter;
    entry[tags_at(plan) + bit / 64] >> (bit % 64) & 1 == 1
}

/// Sets a tag or a filter bit of an entry that has none there yet.
pub(crate) fn set_bits(plan: &SlabPlan, entry: &mut [u64], bit: usize, value: u64) {
    entry[tags_at(plan) + bit / 64] |= value << (bit % 64);
}

pub(crate) fn len(object: &[u64]) -> usize {
    Head::of(object).count()
}

pub(crate) fn entry(plan: &SlabPlan, object: &[u64], index: usize) -> std::ops::Range<usize> {
    let start = 1 + index * plan.entry_words;
    debug_assert!(start + plan.entry_words <= object.len());
    start..start + plan.entry_words
}

/// Time of the oldest row.
pub(crate) fn oldest_us(plan: &SlabPlan, object: &[u64]) -> Option<i64> {
    (len(object) > 0).then(|| object[entry(plan, object, 0).start].cast_signed())
}

/// Time of the newest row.
pub(crate) fn newest_us(plan: &SlabPlan, object: &[u64]) -> Option<i64> {
    let last = len(object).checked_sub(1)?;
    Some(object[entry(plan, object, last).start].cast_signed())
}

/// Adds a row to the list that a key's first word names, keeping time order; equal times keep arrival order. The list is
/// made when there is none.
pub(crate) fn insert(plan: &SlabPlan, arena: &mut Arena, word: &mut u64, row: SlabRow<'_, '_>) -> Inserted {
    let time_us = row.bare.time_us;
    let (mut handle, known) = match Form::of(*word) {
        Form::List(handle) => (handle, Head::of(arena.get(handle))),
        Form::Expired(head) => (0, head),
        Form::Rings => unreachable!("rows of a key with rings go there"),
    };
    let head = known.with_edge(row.edge_us);
    let mut count = head.count();
    let age_us = head.edge_us().saturating_sub(time_us);
    if age_us >= plan.keep_us {
        // A row is never older than its own edge: an older row has set this one.
        if let [first, ..] = arena.get_mut(handle) {
            *first = head.with_dropped(true).word();
        }
        return Inserted::Late { age_us };
    }
    let room = room(plan, Arena::capacity(handle));
    if count >= room.min(plan.entries_max) {
        count = drop_expired(plan, arena, handle, head.edge_us());
        if count >= plan.entries_max {
            return Inserted::Full;
        }
        if count >= room {
            let is_first = handle == 0;
            handle = arena.grow(handle, grown_words(plan, count));
            *word = Form::List(handle).word();
            if is_first {
                // An expired key's list knows from the first row on what the key lost.
                debug_assert_eq!(known.count(), 0, "where there is no list there are no entries");
                arena.get_mut(handle)[0] = known.word();
            }
        }
    }
    let object = arena.get(handle);
    let mut at = count;
    while at > 0 && object[entry(plan, object, at - 1).start].cast_signed() > time_us {
        at -= 1;
    }
    let mut cells: smallvec::SmallVec<[(u64, u64); 8]> = smallvec::SmallVec::new();
    for &column in &plan.listed {
        cells.push(encode(plan, arena, column, &row.inputs[column]));
    }
    let object = arena.get_mut(handle);
    let start = 1 + at * plan.entry_words;
    let end = 1 + count * plan.entry_words;
    object.copy_within(start..end, start + plan.entry_words);
    let slot = &mut object[start..start + plan.entry_words];
    slot.fill(0);
    slot[0] = time_us.cast_unsigned();
    set_lsn(plan, slot, row.bare.lsn);
    for (cell, &(tag, word)) in cells.iter().enumerate() {
        set_bits(plan, slot, cell * 4, tag);
        slot[cell_at(plan, cell)] = word;
    }
    for (filter, &matched) in row.matches.iter().enumerate() {
        set_bits(plan, slot, plan.listed.len() * 4 + filter, u64::from(matched));
    }
    object[0] = Head::of(object).with_edge(row.edge_us).with_count(count + 1).word();
    Inserted::Taken { age_us }
}

/// Entries that an object of this many words has room for.
pub(crate) fn room(plan: &SlabPlan, capacity: usize) -> usize {
    capacity.saturating_sub(1) / plan.entry_words
}

/// Words of the object that a full list of `count` entries moves into for one more.
pub(crate) fn grown_words(plan: &SlabPlan, count: usize) -> usize {
    let entries = if count < 4 { count + 1 } else { (count * 3 / 2).min(plan.entries_max) };
    1 + entries * plan.entry_words
}

/// Bytes of the object that an entry has for a column's cell; none when it has none.
pub(crate) fn text_bytes(plan: &SlabPlan, column: usize, input: &Input<'_>) -> Option<usize> {
    let (Cell::Str(text) | Cell::Bytes(text) | Cell::Json(text)) = input.cell else { return None };
    (plan.columns[column].listed == Need::Value && text.len() <= TEXT_BYTES_MAX).then_some(text.len())
}

/// Words of the texts that a list's entries have.
pub(crate) fn text_words(plan: &SlabPlan, arena: &Arena, handle: Handle) -> usize {
    texts(plan, arena.get(handle)).map(|text| arena.get(text).len()).sum()
}

fn encode(plan: &SlabPlan, arena: &mut Arena, column: usize, input: &Input<'_>) -> (u64, u64) {
    let too_long = matches!(input.cell, Cell::Str(text) | Cell::Bytes(text) | Cell::Json(text) if text.len() > TEXT_BYTES_MAX);
    if plan.columns[column].listed == Need::Hash || too_long {
        return if input.hash == 0 { (TAG_NONE, 0) } else { (TAG_HASH, input.hash) };
    }
    match input.cell {
        Cell::Absent | Cell::Null => (TAG_NONE, 0),
        Cell::Bool(truth) => (TAG_BOOL, u64::from(truth)),
        Cell::I64(number) => (TAG_I64, number.cast_unsigned()),
        Cell::F64(number) => (TAG_F64, number.to_bits()),
        Cell::Datetime(ms) => (TAG_DATETIME, ms.cast_unsigned()),
        Cell::Str(text) => (TAG_STR, store_bytes(arena, text)),
        Cell::Bytes(bytes) => (TAG_BYTES, store_bytes(arena, bytes)),
        Cell::Json(text) => (TAG_JSON, store_bytes(arena, text)),
    }
}

/// Removes rows that no window can reach from this edge; returns how many are left.
fn drop_expired(plan: &SlabPlan, arena: &mut Arena, handle: Handle, edge_us: i64) -> usize {
    let object = arena.get(handle);
    let count = len(object);
    let expired = (0..count)
        .take_while(|&index| edge_us.saturating_sub(object[entry(plan, object, index).start].cast_signed()) >= plan.keep_us)
        .count();
    if expired == 0 {
        return count;
    }
    for index in 0..expired {
        release_entry(plan, arena, handle, index);
    }
    let object = arena.get_mut(handle);
    let (from, to) = (1 + expired * plan.entry_words, 1 + count * plan.entry_words);
    object.copy_within(from..to, 1);
    object[1 + (count - expired) * plan.entry_words..to].fill(0);
    object[0] = Head::of(object).with_count(count - expired).with_dropped(true).word();
    count - expired
}

fn release_entry(plan: &SlabPlan, arena: &mut Arena, handle: Handle, index: usize) {
    for cell in 0..plan.listed.len() {
        let object = arena.get(handle);
        let words = &object[entry(plan, object, index)];
        if in_heap(tag_of(plan, words, cell)) {
            let text = words[cell_at(plan, cell)];
            arena.free(text);
        }
    }
}

/// The texts of its entries.
pub(crate) fn texts<'a>(plan: &'a SlabPlan, object: &'a [u64]) -> impl Iterator<Item = Handle> + 'a {
    let words = (0..len(object)).map(|index| &object[entry(plan, object, index)]);
    words.flat_map(|words| {
        let cells = (0..plan.listed.len()).filter(|&cell| in_heap(tag_of(plan, words, cell)));
        cells.map(|cell| words[cell_at(plan, cell)])
    })
}

/// Gives the list and its texts back.
pub(crate) fn release(plan: &SlabPlan, arena: &mut Arena, handle: Handle) {
    for index in 0..len(arena.get(handle)) {
        release_entry(plan, arena, handle, index);
    }
    arena.free(handle);
}

/// Visits the rows in time order; of their columns only the listed ones have cells.
pub(crate) fn visit<'a>(plan: &SlabPlan, arena: &'a Arena, handle: Handle, mut each: impl FnMut(SlabRow<'_, 'a>)) {
    let object = arena.get(handle);
    let edge_us = Head::of(object).edge_us();
    let empty = Input::bare(0, 0);
    let mut inputs: smallvec::SmallVec<[Input<'a>; 8]> = smallvec::smallvec![empty; plan.columns.len()];
    let mut matches: smallvec::SmallVec<[bool; 8]> = smallvec::smallvec![false; plan.filters.len()];
    for index in 0..len(object) {
        let words = &object[entry(plan, object, index)];
        let bare = Input::bare(words[0].cast_signed(), lsn_of(plan, words));
        for (cell, &column) in plan.listed.iter().enumerate() {
            let word = words[cell_at(plan, cell)];
            let (value, hash) = match tag_of(plan, words, cell) {
                TAG_BOOL => (Cell::Bool(word != 0), 0),
                TAG_I64 => (Cell::I64(word.cast_signed()), 0),
                TAG_F64 => (Cell::F64(f64::from_bits(word)), 0),
                TAG_DATETIME => (Cell::Datetime(word.cast_signed()), 0),
                TAG_STR => (Cell::Str(load_bytes(arena, word)), 0),
                TAG_BYTES => (Cell::Bytes(load_bytes(arena, word)), 0),
                TAG_JSON => (Cell::Json(load_bytes(arena, word)), 0),
                TAG_HASH => (Cell::Null, word),
                _ => (Cell::Null, 0),
            };
            let hash = if hash == 0 && plan.columns[column].need_hash { hash_cell(value) } else { hash };
            inputs[column] = Input { cell: value, hash, ..bare };
        }
        for (filter, matched) in matches.iter_mut().enumerate() {
            *matched = self::matched(plan, words, filter);
        }
        each(SlabRow { inputs: &inputs, matches: &matches, bare: &bare, edge_us });
    }
}

/// Feeds every byte that matters into a hash: entries with their texts.
pub(crate) fn digest(plan: &SlabPlan, arena: &Arena, handle: Handle, feed: &mut dyn FnMut(&[u64])) {
    let object = arena.get(handle);
    feed(&[Head::of(object).word()]);
    for index in 0..len(object) {
        let words = &object[entry(plan, object, index)];
        feed(&words[..cell_at(plan, 0)]);
        for cell in 0..plan.listed.len() {
            let word = words[cell_at(plan, cell)];
            if in_heap(tag_of(plan, words, cell)) { feed(arena.get(word)) } else { feed(&[word]) }
        }
    }
}

/// Copies a list with its texts into another arena and returns its handle there.
pub(crate) fn lift(plan: &SlabPlan, arena: &Arena, handle: Handle, into: &mut Arena) -> Handle {
    let object = arena.get(handle);
    let moved = into.alloc(object.len());
    into.get_mut(moved)[..object.len()].copy_from_slice(object);
    for index in 0..len(object) {
        let words = &object[entry(plan, object, index)];
        for cell in 0..plan.listed.len() {
            if in_heap(tag_of(plan, words, cell)) {
                let text = store_bytes(into, load_bytes(arena, words[cell_at(plan, cell)]));
                let at = entry(plan, object, index).start + cell_at(plan, cell);
                into.get_mut(moved)[at] = text;
            }
        }
    }
    moved
}
