//! Accumulators: the state that one or more features share, as plain words.
//!
//! An accumulator is a set of pure functions over (its slot of fixed-size words, an arena for what does not fit, one input). It knows neither windows nor tables.
//! Laws, tested in each file: a slot of zeroes is the empty state; `merge` is associative, exact for integers and within a stated bound for floats; merging the
//! parts of any split equals feeding the whole; equal input gives equal bytes; an update makes no object that `demand` did not name.

use super::arena::{Arena, Handle};
use super::demand::Demand;
use crate::row::Cell;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// What an accumulator needs of a cell: decides what a small entity's list keeps of each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Need {
    /// Only that the row was there.
    Nothing,
    /// The 64-bit hash of the value; 0 stands for "no value".
    Hash,
    /// The value itself.
    Value,
}

/// Words of objects that a row makes on average in a slot that was empty before,
const LIFTED_WORDS: usize = 16;
/// where no more rows come to it: sketches have not grown out of their first forms then.
pub(crate) const LIFTED_ROWS_MAX: usize = 1024;

/// What an accumulator's answer hangs on besides which rows it was fed with. Parts are always
/// merged in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// On nothing: rows may come in any order.
    Any,
    /// On their order by (time, LSN), whatever the order in which they come: the slot keeps both.
    TimeLsn,
    /// On their order by (time, LSN), of which it knows the ends only. A row that comes after a
    /// later one of the same slot cannot be put where it belongs, and the slot remembers that.
    Ends,
}

/// One row's input to an accumulator.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The value; `Cell::Null` when only the hash was kept.
    pub cell: Cell<'a>,
    /// Values of the further fields of an accumulator that reads several, in their order.
    pub more: &'a [Cell<'a>],
    /// Hash of the value ([`hash_cell`]), 0 when there is none. Only set when an accumulator of the column needs it.
    pub hash: u64,
    /// Row time, microseconds.
    pub time_us: i64,
    /// The row's LSN.
    pub lsn: u64,
    /// Whether the row passed the `where` of the accumulator's features. Only accumulators that are
    /// fed with every row ever see one that did not.
    pub matched: bool,
}

impl Input<'_> {
    /// What an accumulator sees that reads no field.
    pub fn bare(time_us: i64, lsn: u64) -> Self {
        Self { cell: Cell::Null, more: &[], hash: 0, time_us, lsn, matched: true }
    }
}

/// State shared by features.
pub trait Accumulator: Send + Sync + Debug {
    /// Kind and parameters; two accumulators with equal identity, column, filter and window are one. Files name the words
    /// of a slot by it: what they mean for one identity never changes.
    fn identity(&self) -> String;

    /// Words of a slot.
    fn words(&self) -> usize;

    /// Which words of a slot hold handles of leaf objects (objects without handles in them).
    fn handles(&self) -> &'static [usize] {
        &[]
    }

    /// What it needs of each row's cell.
    fn need(&self) -> Need;

    /// What its answer hangs on besides which rows it was fed with.
    fn order(&self) -> Order {
        Order::Any
    }

    /// Whether what a bucket holds hangs on the buckets before it, and how.
    fn follows(&self) -> Option<&dyn Follows> {
        None
    }

    /// Takes one row that passed the filter.
    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>);

    /// Names the objects that taking one more row may make; whoever makes none need not say so. Of the rows since the
    /// slot was as it is, `before` were not looked at: each may have made it larger by what one row can.
    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        let _ = (slot, arena, input, before, demand);
        assert!(self.handles().is_empty(), "{} makes objects and does not say so", self.identity());
    }

    /// The most words of objects that one row makes, but for the bytes of its own texts.
    fn demand_words_max(&self) -> usize {
        assert!(self.handles().is_empty(), "{} makes objects and does not say so", self.identity());
        0
    }

    /// The same on average of at most [`LIFTED_ROWS_MAX`] rows that come to empty slots, as when a list becomes rings.
    fn lifted_words_max(&self) -> usize {
        self.demand_words_max().min(LIFTED_WORDS)
    }

    /// Adds another slot's state to this one. `other` may live in another arena; it is not changed.
    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena);

    /// Whether words that a file brought are a state that this accumulator can have left. Whatever reads, merges or updates
    /// a slot relies on it. Handles lead to objects of the arena already; what is in these is the accumulator's to judge.
    ///
    /// # Errors
    /// What contradicts itself.
    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str>;

    /// Gives the slot's objects back; the slot is empty then.
    fn release(&self, slot: &mut [u64], arena: &mut Arena) {
        for &word in self.handles() {
            arena.free(slot[word]);
        }
        slot.fill(0);
    }
}

/// What an accumulator can do whose bucket hangs on the rows of one window before it.
///
/// The window before a bucket is made of whole buckets, those that begin no longer than a window
/// before it does, so that a list and a ring measure a row by the same rows
/// (`docs/decisions/what-a-row-is-measured-by.md`).
pub trait Follows {
    /// Tells the slot of a bucket that begins what an earlier one holds; called for each in order of
    /// time, before the bucket's first row.
    fn follow(&self, slot: &mut [u64], earlier: &[u64]);

    /// Rows that the slot's are measured by are gone.
    fn lacks(&self, slot: &mut [u64]);

    /// This row came late: it belongs in front of rows that the slot has counted.
    fn overtaken(&self, slot: &mut [u64], late: &Input<'_>);

    /// Counts from here on. What rows are measured by stays.
    fn count_anew(&self, slot: &mut [u64]);
}

/// Fixed seed of value hashes: part of the state format.
const VALUE_HASH_SEED: u64 = 0x5374_7265_616D_6761;

/// The 64-bit hash of a value for sketches: XXH3 over type tag and canonical bytes, never 0 for a value, 0 for null and absent.
pub fn hash_cell(cell: Cell<'_>) -> u64 {
    use xxhash_rust::xxh3::xxh3_64_with_seed;
    let tagged = |tag: u64, bytes: &[u8]| xxh3_64_with_seed(bytes, VALUE_HASH_SEED ^ tag);
    let hash = match cell {
        Cell::Absent | Cell::Null => return 0,
        Cell::Bool(truth) => tagged(1, &[u8::from(truth)]),
        Cell::I64(number) => tagged(2, &number.to_le_bytes()),
        // -0.0 and 0.0 are one value.
        Cell::F64(number) => tagged(3, &(number + 0.0).to_bits().to_le_bytes()),
        Cell::Str(text) => tagged(4, text),
        Cell::Bytes(bytes) => tagged(5, bytes),
        Cell::Datetime(ms) => tagged(6, &ms.to_le_bytes()),
        Cell::Json(text) => tagged(7, text),
    };
    hash.max(1)
}

/// No slot counts more rows: what is merged of them stays within its word.
pub const SLOT_ROWS_MAX: u64 = 1 << 53;

/// Reads a double out of a word.
#[inline]
pub fn f64_of(word: u64) -> f64 {
    f64::from_bits(word)
}

/// Words of an object with this many bytes in it.
pub fn words_of_bytes(bytes: usize) -> usize {
    1 + bytes.div_ceil(8)
}

/// Stores bytes as an object: length in the first word, then the bytes, zero-padded.
pub fn store_bytes(arena: &mut Arena, bytes: &[u8]) -> Handle {
    let handle = arena.alloc(words_of_bytes(bytes.len()));
    let object = arena.get_mut(handle);
    object[0] = bytes.len() as u64;
    bytemuck::cast_slice_mut::<u64, u8>(&mut object[1..])[..bytes.len()].copy_from_slice(bytes);
    handle
}

/// Whether an object is one that [`store_bytes`] wrote.
pub fn holds_bytes(object: &[u64]) -> bool {
    object.split_first().is_some_and(|(&length, words)| length <= words.len() as u64 * 8)
}

/// The bytes of an object written by [`store_bytes`]; empty for none.
pub fn load_bytes(arena: &Arena, handle: Handle) -> &[u8] {
    let Some((&length, words)) = arena.get(handle).split_first() else { return &[] };
    let bytes: &[u8] = bytemuck::cast_slice(words);
    debug_assert!(length <= bytes.len() as u64, "an object of {} bytes says that it holds {length}", bytes.len());
    usize::try_from(length).ok().and_then(|length| bytes.get(..length)).unwrap_or_default()
}
