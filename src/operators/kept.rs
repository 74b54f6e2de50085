//! The earliest or the latest rows that have a value, by (row time, LSN), as many as a feature asks for.
//!
//! ```text
//! slot     [handle] [first word of the last entry]
//! object   [rows << 32 | words of the entries] then entries, ascending by time and LSN:
//!          [time, us] [LSN << 3 | tag] [the value, or how many bytes it has] [bytes, zero-padded] ...
//! ```
//! Which rows are kept hangs on the set of rows only, so merge is exact, associative and commutative. All values of a
//! feature together stay within 1 MiB: a longer text than its share of that is passed over.

use super::FeatureParams;
use super::reading::Part;
use crate::row::{Cell, FieldType};
use crate::state::{Accumulator, Arena, Demand, Input, Need, Order, hash_cell};
use std::ops::Range;

/// Which rows stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Keep {
    /// The first ones.
    Earliest,
    /// The last ones.
    Latest,
    /// The last ones that hold a number.
    LatestNumbers,
    /// Those whose hash is least; it stands in place of their time.
    Sample,
}

/// Rows with their values.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeptRows {
    keep: Keep,
    /// How many, at least 1.
    count: usize,
    /// Whether values may have bytes.
    bytes: bool,
}

/// Words of an entry without the bytes of its value.
const ENTRY_WORDS: usize = 3;

/// The most words of all entries.
const WORDS_MAX: usize = 1 << 17;

/// An entry, as it stands in an object or is to stand there.
#[derive(Debug, Clone, Copy)]
struct Entry<'a> {
    time_us: i64,
    /// LSN and tag.
    lsn_tag: u64,
    /// The scalar, or how many bytes there are.
    word: u64,
    /// Words of the bytes, padded; empty for scalars.
    bytes: &'a [u8],
}

impl<'a> Entry<'a> {
    fn of(input: &Input<'a>) -> Option<Self> {
        let (tag, word, bytes): (u64, u64, &[u8]) = match input.cell {
            Cell::Absent | Cell::Null => return None,
            Cell::Bool(truth) => (1, u64::from(truth), &[]),
            Cell::I64(number) => (2, number.cast_unsigned(), &[]),
            // -0.0 and 0.0 are one value.
            Cell::F64(number) => (3, (number + 0.0).to_bits(), &[]),
            Cell::Datetime(ms) => (4, ms.cast_unsigned(), &[]),
            Cell::Str(text) => (5, text.len() as u64, text),
            Cell::Bytes(bytes) => (6, bytes.len() as u64, bytes),
            Cell::Json(text) => (7, text.len() as u64, text),
        };
        Some(Self { time_us: input.time_us, lsn_tag: input.lsn << 3 | tag, word, bytes })
    }

    fn words(&self) -> usize {
        ENTRY_WORDS + self.bytes.len().div_ceil(8)
    }

    fn is_number(&self) -> bool {
        matches!(self.lsn_tag & 7, 2 | 3)
    }

    /// By time, then LSN.
    fn order(&self) -> (i64, u64) {
        (self.time_us, self.lsn_tag >> 3)
    }

    fn write(&self, words: &mut [u64]) {
        words.fill(0);
        words[0] = self.time_us.cast_unsigned();
        words[1] = self.lsn_tag;
        words[2] = self.word;
        bytemuck::cast_slice_mut::<u64, u8>(&mut words[ENTRY_WORDS..])[..self.bytes.len()].copy_from_slice(self.bytes);
    }

    fn cell(&self) -> Cell<'a> {
        match self.lsn_tag & 7 {
            1 => Cell::Bool(self.word != 0),
            2 => Cell::I64(self.word.cast_signed()),
            3 => Cell::F64(f64::from_bits(self.word)),
            4 => Cell::Datetime(self.word.cast_signed()),
            5 => Cell::Str(self.bytes),
            6 => Cell::Bytes(self.bytes),
            7 => Cell::Json(self.bytes),
            _ => Cell::Absent,
        }
    }
}

/// The entries of an object.
#[derive(Clone, Copy)]
struct Entries<'a> {
    count: usize,
    words: &'a [u64],
}

impl<'a> Entries<'a> {
    fn of(object: &'a [u64]) -> Self {
        let Some((&head, words)) = object.split_first() else { return Self { count: 0, words: &[] } };
        let [count, used] = [head >> 32, head & u64::from(u32::MAX)].map(|part| usize::try_from(part).unwrap_or(usize::MAX));
        debug_assert!(used <= words.len(), "{used} words of entries in an object of {}", words.len());
        Self { count, words: words.get(..used).unwrap_or_default() }
    }

    /// First word behind all entries that are not after this place in the order.
    fn behind(self, order: (i64, u64)) -> usize {
        self.iter().find(|(_, held)| held.order() > order).map_or(self.words.len(), |(words, _)| words.start)
    }

    /// The entry that begins at a word.
    fn at(self, at: usize) -> Option<Entry<'a>> {
        let &[time, lsn_tag, word] = self.words.get(at..at + ENTRY_WORDS)? else { unreachable!("three words") };
        let length = if lsn_tag & 7 >= 5 { usize::try_from(word).ok()? } else { 0 };
        let bytes = bytemuck::cast_slice::<u64, u8>(self.words.get(at + ENTRY_WORDS..)?).get(..length)?;
        Some(Entry { time_us: time.cast_signed(), lsn_tag, word, bytes })
    }

    /// The same where all entries are of one size.
    fn behind_of_scalars(self, order: (i64, u64)) -> usize {
        let (mut low, mut high) = (0, self.words.len() / ENTRY_WORDS);
        while low < high {
            let middle = low + (high - low) / 2;
            let held = &self.words[middle * ENTRY_WORDS..];
            if (held[0].cast_signed(), held[1] >> 3) > order { high = middle } else { low = middle + 1 }
        }
        low * ENTRY_WORDS
    }

    /// Each with its words; ends where the words do.
    fn iter(self) -> impl Iterator<Item = (Range<usize>, Entry<'a>)> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let entry = self.at(at)?;
            let words = at..at + entry.words();
            at = words.end;
            Some((words, entry))
        })
    }
}

/// A word of a slot that counts words of an object.
fn word_index(word: u64) -> usize {
    usize::try_from(word).unwrap_or(usize::MAX)
}

fn head(count: usize, used: usize) -> u64 {
    (count as u64) << 32 | used as u64
}

impl KeptRows {
    /// Rows of this feature's field.
    pub(super) fn of(feature: &FeatureParams<'_>, keep: Keep, count: usize) -> Self {
        let may_have_bytes = matches!(feature.field_kind, None | Some(FieldType::Str | FieldType::Bytes | FieldType::Json));
        Self { keep, count, bytes: keep != Keep::LatestNumbers && may_have_bytes }
    }

    /// The most bytes of a value, so that all together stay within their bound.
    fn bytes_max(self) -> usize {
        if self.bytes { (WORDS_MAX / self.count - ENTRY_WORDS) * 8 } else { 0 }
    }

    fn takes(self, entry: &Entry<'_>) -> bool {
        entry.bytes.len() <= self.bytes_max() && (self.keep != Keep::LatestNumbers || entry.is_number())
    }

    /// The most words of an object.
    fn object_words_max(self) -> usize {
        1 + if self.bytes { WORDS_MAX } else { self.count * ENTRY_WORDS }
    }

    /// Where a further entry goes: the words of what it replaces, and its first word after that. None where it does not stay.
    fn place(self, entries: Entries<'_>, last_at: usize, entry: &Entry<'_>) -> Option<(Range<usize>, usize)> {
        let end = entries.words.len();
        // Most rows come in order: they are the last.
        let is_last = entries.at(last_at).is_none_or(|last| last.order() <= entry.order());
        let at = match self.bytes {
            _ if is_last => end,
            true => entries.behind(entry.order()),
            false => entries.behind_of_scalars(entry.order()),
        };
        if entries.count < self.count {
            return Some((end..end, at));
        }
        match self.keep {
            Keep::Earliest | Keep::Sample if at == end => None,
            Keep::Earliest | Keep::Sample => Some((last_at..end, at)),
            Keep::Latest | Keep::LatestNumbers => {
                let first = entries.at(0)?.words();
                (at > 0).then(|| (0..first, at - first))
            }
        }
    }

    /// The entry of a row that may stay.
    fn entry<'a>(self, input: &Input<'a>) -> Option<Entry<'a>> {
        let entry = Entry::of(input).filter(|entry| self.takes(entry))?;
        if self.keep != Keep::Sample {
            return Some(entry);
        }
        // With the LSN, since all rows of a push have one time: equal values of it have chances of their own.
        let row = [entry.time_us.cast_unsigned(), input.lsn];
        let hash = xxhash_rust::xxh3::xxh3_64_with_seed(bytemuck::cast_slice(&row), hash_cell(input.cell));
        Some(Entry { time_us: hash.cast_signed(), ..entry })
    }

    fn take(self, slot: &mut [u64], arena: &mut Arena, entry: &Entry<'_>) {
        if !self.takes(entry) {
            return;
        }
        let &mut [handle, last_at] = slot else { unreachable!("a slot of kept rows has two words") };
        let entries = Entries::of(arena.get(handle));
        let Some((gone, at)) = self.place(entries, word_index(last_at), entry) else { return };
        let (count, used) = (entries.count, entries.words.len());
        let left = used - gone.len();
        let needed = 1 + left + entry.words();
        if left < used {
            let object = &mut arena.get_mut(handle)[1..];
            object.copy_within(gone.end..used, gone.start);
            object[left..used].fill(0);
        }
        if needed > Arena::capacity(handle) {
            slot[0] = arena.grow(handle, self.grown_words(used, needed));
        }
        let object = arena.get_mut(slot[0]);
        object[1..].copy_within(at..left, at + entry.words());
        entry.write(&mut object[1 + at..1 + at + entry.words()]);
        object[0] = head(if left < used { count } else { count + 1 }, left + entry.words());
        let last_at = if at == left { Some(at) } else { Entries::of(object).iter().last().map(|(words, _)| words.start) };
        let Some(last_at) = last_at else { unreachable!("an entry was just written") };
        slot[1] = last_at as u64;
    }

    /// Words of the object that entries of `used` words move into when they need more room.
    fn grown_words(self, used: usize, needed: usize) -> usize {
        needed.max((1 + used + used / 2).min(self.object_words_max()))
    }
}

/// The values of a slot, in order of time.
pub(super) fn kept_cells(part: Part<'_>) -> impl Iterator<Item = Cell<'_>> {
    let [handle, _] = part.words else { unreachable!("a slot of kept rows has two words") };
    Entries::of(part.arena.get(*handle)).iter().map(|(_, entry)| entry.cell())
}

impl Accumulator for KeptRows {
    fn identity(&self) -> String {
        format!("kept/{:?}/{}/{}", self.keep, self.count, if self.bytes { "bytes" } else { "scalars" })
    }

    fn words(&self) -> usize {
        2
    }

    fn handles(&self) -> &'static [usize] {
        &[0]
    }

    fn need(&self) -> Need {
        Need::Value
    }

    fn order(&self) -> Order {
        Order::TimeLsn
    }

    fn update(&self, slot: &mut [u64], arena: &mut Arena, input: &Input<'_>) {
        if let Some(entry) = self.entry(input) {
            self.take(slot, arena, &entry);
        }
    }

    fn demand_words_max(&self) -> usize {
        self.object_words_max()
    }

    fn demand(&self, slot: &[u64], arena: &Arena, input: &Input<'_>, before: usize, demand: &mut Demand) {
        let Some(entry) = self.entry(input) else { return };
        let entries = Entries::of(arena.get(slot[0]));
        let capacity = Arena::capacity(slot[0]);
        if before > 0 {
            // Rows that were not looked at may have brought longer values, and taken out longer ones.
            if self.bytes || entries.count < self.count {
                demand.objects(self.object_words_max(), self.object_words_max());
            }
        } else if let Some((gone, _)) = self.place(entries, word_index(slot[1]), &entry) {
            let used = entries.words.len();
            let needed = 1 + used - gone.len() + entry.words();
            if needed > capacity {
                demand.object(self.grown_words(used, needed));
            }
        }
    }

    fn merge(&self, slot: &mut [u64], arena: &mut Arena, other: &[u64], from: &Arena) {
        for (_, entry) in Entries::of(from.get(other[0])).iter() {
            self.take(slot, arena, &entry);
        }
    }

    fn verify(&self, slot: &[u64], arena: &Arena) -> Result<(), &'static str> {
        let object = arena.get(slot[0]);
        let Some((&head, words)) = object.split_first() else {
            return if slot[1] == 0 { Ok(()) } else { Err("it has a last row and none") };
        };
        let (count, used) = (head >> 32, head & u64::from(u32::MAX));
        if count > self.count as u64 || used > words.len() as u64 {
            return Err("it has no room for its rows");
        }
        let entries = Entries::of(object);
        let (mut start, mut end, mut rows, mut before) = (0, 0, 0u64, None);
        for (words, entry) in entries.iter() {
            let is_value = entry.lsn_tag & 7 != 0 && (entry.lsn_tag & 7 != 1 || entry.word <= 1);
            if !is_value || !self.takes(&entry) {
                return Err("a row of it has no value of its kind");
            }
            if before.is_some_and(|before| before > entry.order()) {
                return Err("its rows are not in order of time");
            }
            (start, end, rows, before) = (words.start, words.end, rows + 1, Some(entry.order()));
        }
        if rows == count && end as u64 == used && slot[1] == start as u64 { Ok(()) } else { Err("it counts other rows than it has") }
    }
}

#[cfg(test)]
mod tests {
    use super::super::laws::{Datum, Row, State, check_any_order, check_exact_laws};
    use super::super::value_slot::value_of;
    use super::*;
    use proptest::prelude::*;
    use streamgauge_api::Value;

    fn data() -> impl Strategy<Value = Datum> {
        prop_oneof![
            3 => "[a-z]{0,30}".prop_map(Datum::Str),
            1 => Just(Datum::Null),
            1 => (-3i64..3).prop_map(Datum::I64),
            1 => prop::collection::vec(any::<u8>(), 0..20).prop_map(Datum::Bytes),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]
        #[test]
        fn the_rows_at_an_end_of_time_stay_in_any_order(
            data in prop::collection::vec((data(), -4i64..4), 0..30),
            count in prop::sample::select(vec![1usize, 2, 7, 100]),
            cuts in (0usize..30, 0usize..30),
        ) {
            let rows: Vec<Row> = data.into_iter().zip(7..).map(|((datum, time_us), lsn)| Row::of(datum, time_us, lsn)).collect();
            for keep in [Keep::Earliest, Keep::Latest, Keep::LatestNumbers, Keep::Sample] {
                let kept_rows = KeptRows { keep, count, bytes: keep != Keep::LatestNumbers };
                check_exact_laws(&kept_rows, &rows, cuts)?;
                check_any_order(&kept_rows, &rows, &|left, right| left.content(&kept_rows) == right.content(&kept_rows))?;
                let state = State::fed(&kept_rows, &rows);
                prop_assert_eq!(kept_rows.verify(&state.words, &state.arena), Ok(()));
                if keep == Keep::Sample {
                    continue;
                }
                let is_number = |row: &&Row| matches!(row.datum, Datum::I64(_) | Datum::F64(_));
                let mut oracle: Vec<&Row> =
                    rows.iter().filter(|row| row.datum != Datum::Null && (keep != Keep::LatestNumbers || is_number(row))).collect();
                oracle.sort_by_key(|row| (row.time_us, row.lsn));
                let stay = if keep == Keep::Earliest { 0..count.min(oracle.len()) } else { oracle.len().saturating_sub(count)..oracle.len() };
                let values: Vec<Value> = oracle[stay].iter().map(|row| value_of(row.datum.cell())).collect();
                prop_assert_eq!(kept_cells(state.slot().core).map(value_of).collect::<Vec<_>>(), values);
            }
        }
    }

    #[test]
    fn all_values_together_stay_within_a_mebibyte() {
        for count in [1, 10, 1024] {
            let rows = KeptRows { keep: Keep::Latest, count, bytes: true };
            let text = "x".repeat(rows.bytes_max());
            let row = |extra: &str, lsn| Row::of(Datum::Str(format!("{text}{extra}")), 1, lsn);
            let mut state = State::fed(&rows, &(1..=2 * count as u64).map(|lsn| row("", lsn)).collect::<Vec<_>>());
            let held = state.content(&rows);
            let entries = Entries::of(state.arena.get(state.words[0]));
            assert!(entries.count == count && entries.words.len() <= WORDS_MAX, "{count}");
            state.feed(&rows, &row("y", u64::MAX >> 3));
            assert_eq!(state.content(&rows), held, "a longer text is passed over");
        }
    }
}
