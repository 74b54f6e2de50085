//! Keys of a table: key -> row number, and back.
//!
//! ```text
//! key words of a row     up to 15 bytes inline, byte 15 = length | 0x80
//!                        longer: handle of the bytes in the arena of long keys | LONG
//!                        free row number: the next free one + 1, or 0, and in the upper half the one before it + 1 | 0
//! ```
//! One value with everything that belongs to keys: index, key words, numbers handed out, freed numbers, the bytes of
//! long keys. Slabs hold features under the same row numbers and know no keys. A number that was freed is handed out
//! again before a new one is made, the last freed first; freed numbers are chained through their key words, so that
//! forgetting a key never takes memory. The chain goes both ways, so that the last number can leave it from wherever it
//! stands; nobody is before the first, whatever its words say. Called by apply only; a frozen copy has no index.

use super::account::Account;
use super::accumulator::{holds_bytes, load_bytes, store_bytes};
use super::arena::Arena;
use super::chunk::Chunk;
use super::index::{Index, IndexParts, KeyHash};
use super::verify::Unclaimed;
use super::words::Words;
use crate::row::{KEY_BYTES_MAX, Key};

/// Words of a key.
pub(crate) const KEY_WORDS: usize = 2;
const INLINE_BYTES_MAX: usize = 15;
const LONG: u64 = 0xFF << 56;
/// High key word of a free row number.
const VACANT: u64 = 0;

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Keys {
    index: Index,
    words: Words,
    /// Bytes of keys that are too long to stand inline.
    long: Arena,
    /// Row numbers handed out, freed ones included.
    rows: u32,
    free: Free,
}

/// Freed row numbers, a chain through their key words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Free {
    /// The last freed + 1; 0 is none.
    last: u32,
    /// How many there are.
    count: u32,
}

/// A key made ready for look-ups.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe {
    hash: KeyHash,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Inline([u64; KEY_WORDS]),
    Long,
}

impl Form {
    fn of(key: &[u8]) -> Self {
        if key.len() > INLINE_BYTES_MAX {
            return Self::Long;
        }
        let mut bytes = [0u8; 16];
        bytes[..key.len()].copy_from_slice(key);
        // A length of 0 must differ from a vacant row.
        bytes[15] = key.len() as u8 | 0x80;
        let word = u128::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of a word of 128 bits")]
        Self::Inline([word as u64, (word >> 64) as u64])
    }
}

impl Probe {
    /// Whether look-ups need the key's bytes besides the probe.
    pub(crate) fn needs_bytes(&self) -> bool {
        self.form == Form::Long
    }

    /// The key's hash: two keys that share one are taken for one by whoever only counts.
    pub(crate) fn hash(&self) -> u64 {
        self.hash.word()
    }
}

/// The key of key words that a file brought, when they are the words of one.
fn sound_key(arena: &Arena, long: &mut Unclaimed, low: u64, high: u64) -> Option<Key> {
    if high == LONG {
        let object = long.claim(arena, low).ok()?;
        let key = holds_bytes(object).then(|| load_bytes(arena, low))?;
        return (INLINE_BYTES_MAX < key.len() && key.len() <= KEY_BYTES_MAX).then(|| Key::from_slice(key));
    }
    let bytes = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
    let key = bytes.get(..usize::from(bytes[15] & 0x7F)).filter(|key| key.len() <= INLINE_BYTES_MAX)?;
    (Form::of(key) == Form::Inline([low, high])).then(|| Key::from_slice(key))
}

impl Keys {
    /// No keys. The seed of hashes belongs to the log and never changes.
    pub(crate) fn new(hash_seed: u64, account: &Account) -> Self {
        Self {
            index: Index::new(hash_seed, account),
            words: Words::new(KEY_WORDS, account),
            long: Arena::new(account),
            rows: 0,
            free: Free::default(),
        }
    }

    /// The keys that a snapshot described; the index is built from the key words.
    ///
    /// # Errors
    /// What contradicts itself.
    pub(crate) fn restored(mut self, words: Words, long: Arena, rows: u32, free: Free) -> Result<Self, String> {
        assert_eq!(self.rows, 0, "keys are restored into none");
        (self.words, self.long, self.rows, self.free) = (words, long, rows, free);
        let chunks = self.words.chunks();
        if chunks.len() != self.words.chunks_of(rows) || chunks.iter().any(Option::is_none) {
            return Err(format!("{rows} row numbers were handed out, {} chunks of keys are there", chunks.len()));
        }
        let mut before = None;
        let goes_back =
            |number: &u32| before.replace(*number).is_none_or(|before| self.chained(*number).is_some_and(|links| links.1 == Some(before)));
        let chained = self.freed().take(rows as usize + 1).take_while(|&number| number < rows).take_while(goes_back).count();
        if free.count > rows || chained != free.count as usize {
            return Err(format!("{} of {rows} row numbers are said to be free, {chained} are chained", free.count));
        }
        let expected = self.held();
        self.index.reserve(expected);
        let mut long = Unclaimed::of(&self.long)?;
        for number in 0..self.words.chunks_of(rows) as u64 * self.words.rows_per_chunk() {
            let Ok(number) = u32::try_from(number) else { break };
            let Some(&[low, high]) = self.words.row(number).and_then(|words| <&[u64; 2]>::try_from(words).ok()) else { break };
            if number >= rows && (low, high) != (0, 0) {
                return Err(format!("row number {number} of {rows} has key words"));
            } else if high == VACANT {
                continue;
            }
            let Some(key) = sound_key(&self.long, &mut long, low, high) else {
                return Err(format!("the key words of row {number} are none"));
            };
            let probe = self.probe(&key);
            if self.find(&probe, &key).is_some() {
                return Err(format!("row {number} has the key of an earlier one"));
            }
            self.index.insert(probe.hash, number);
        }
        long.all_claimed()?;
        if self.len() != expected {
            return Err(format!("{} row numbers have keys, {expected} are not free", self.len()));
        }
        Ok(self)
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Row numbers handed out, freed ones included.
    pub(crate) fn rows(&self) -> u32 {
        self.rows
    }

    /// Where the chain of freed row numbers begins, for snapshots.
    pub(crate) fn free(&self) -> Free {
        self.free
    }

    /// Freed row numbers in the order in which they will be handed out.
    pub(crate) fn freed(&self) -> impl Iterator<Item = u32> {
        std::iter::successors(self.free.last.checked_sub(1), |&number| self.next_free(number))
    }

    /// The freed number behind a freed one; none when the chain ends there or is none.
    pub(crate) fn next_free(&self, number: u32) -> Option<u32> {
        self.chained(number)?.0
    }

    /// The freed numbers behind and before a freed one; none when it is not free.
    #[expect(clippy::cast_possible_truncation, reason = "two halves of 32 bits")]
    fn chained(&self, number: u32) -> Option<(Option<u32>, Option<u32>)> {
        match self.words.row(number)? {
            &[links, VACANT] => Some(((links as u32).checked_sub(1), ((links >> 32) as u32).checked_sub(1))),
            _ => None,
        }
    }

    /// Whether a row number that was handed out has no key.
    pub(crate) fn is_free(&self, number: u32) -> bool {
        self.words.row(number).is_none_or(|words| words[1] == VACANT)
    }

    fn chain(&mut self, number: u32, next: Option<u32>, before: Option<u32>) {
        let half = |number: Option<u32>| u64::from(number.map_or(0, |number| number + 1));
        self.words.row_mut(number).copy_from_slice(&[half(next) | half(before) << 32, VACANT]);
    }

    /// Takes a freed number out of the chain, wherever it stands there.
    fn unchain(&mut self, number: u32) {
        let Some((next, before)) = self.chained(number) else { unreachable!("row number {number} is free") };
        let is_first = self.free.last == number + 1;
        if is_first {
            self.free.last = next.map_or(0, |next| next + 1);
        } else {
            let Some((before, (Some(known), above))) = before.and_then(|before| Some((before, self.chained(before)?))) else {
                unreachable!("only the first freed number has none before it")
            };
            assert_eq!(known, number, "the chain goes both ways");
            self.chain(before, next, above);
            if let Some((next, (below, _))) = next.and_then(|next| Some((next, self.chained(next)?))) {
                self.chain(next, below, Some(before));
            }
        }
        self.free.count -= 1;
        debug_assert_eq!(self.free.last == 0, self.free.count == 0, "the chain ends with the last freed number");
    }

    /// Gives the last row number back while one is free: whoever has it moves into a free one. Both numbers, the second
    /// when somebody moved.
    pub(crate) fn give_back_last(&mut self) -> (u32, Option<u32>) {
        assert!(self.free.count > 0, "a row number is given back for a free one");
        let last = self.rows - 1;
        let key = self.get(last);
        let to = match &key {
            None => last,
            Some(_) => self.free.last - 1,
        };
        self.unchain(to);
        if let Some(key) = key {
            assert!(to < last, "free numbers are among those handed out");
            let hash = self.index.hash(&key);
            assert!(self.index.renumber(hash, last, to), "the key of row {last} is in the index");
            let Some(&[low, high]) = self.words.row(last).and_then(|words| <&[u64; 2]>::try_from(words).ok()) else {
                unreachable!("row {last} has a key")
            };
            self.words.row_mut(to).copy_from_slice(&[low, high]);
        }
        self.words.row_mut(last).fill(0);
        self.rows = last;
        self.words.truncate(last);
        (last, (to != last).then_some(to))
    }

    /// Moves the bytes of a row's key out of a marked chunk.
    pub(crate) fn move_out(&mut self, number: u32) {
        if let Some(&[low, LONG]) = self.words.row(number).and_then(|words| <&[u64; 2]>::try_from(words).ok()) {
            let moved = self.long.move_out(low);
            if moved != low {
                self.words.row_mut(number)[0] = moved;
            }
        }
    }

    /// Number of keys, of a frozen copy too.
    pub(crate) fn held(&self) -> usize {
        self.rows as usize - self.free.count as usize
    }

    /// A key made ready for look-ups.
    #[inline]
    pub(crate) fn probe(&self, key: &[u8]) -> Probe {
        Probe { hash: self.index.hash(key), form: Form::of(key) }
    }

    /// The part of the index that a key belongs to, and at least as many bytes as one more key adds to it after `added`
    /// others.
    pub(crate) fn index_growth(&self, probe: &Probe, added: impl Fn(usize) -> usize) -> (usize, usize) {
        self.index.growth_bytes(probe.hash, added)
    }

    /// At least as many bytes as this many keys add to the index.
    pub(crate) fn index_growth_most(&self, keys: usize) -> usize {
        self.index.growth_bytes_most(keys)
    }

    /// Reads what [`Keys::find`] will read, so that many misses are under way at once.
    #[inline]
    pub(crate) fn touch(&self, probe: &Probe) -> u64 {
        let mut seen = 0;
        let _never = self.index.find(probe.hash, |row| {
            seen ^= self.words.row(row).map_or(0, |words| words[0]);
            false
        });
        seen
    }

    /// The row number of a key. `key` is looked at only when the probe is not the whole key.
    #[inline]
    pub(crate) fn find(&self, probe: &Probe, key: &[u8]) -> Option<u32> {
        self.index.find(probe.hash, |row| {
            let Some(&[low, high]) = self.words.row(row).and_then(|words| <&[u64; 2]>::try_from(words).ok()) else {
                return false;
            };
            match probe.form {
                Form::Inline(words) => words == [low, high],
                Form::Long => high == LONG && load_bytes(&self.long, low) == key,
            }
        })
    }

    /// The row number of a key, another one when the key is not there.
    #[inline]
    pub(crate) fn resolve(&mut self, probe: &Probe, key: &[u8]) -> u32 {
        if let Some(number) = self.find(probe, key) {
            return number;
        }
        let number = self.take_number();
        let words = match probe.form {
            Form::Inline(words) => words,
            Form::Long => [store_bytes(&mut self.long, key), LONG],
        };
        let place = self.words.row_mut(number);
        debug_assert_eq!(place[1], VACANT, "row number {number} was free");
        place.copy_from_slice(&words);
        self.index.insert(probe.hash, number);
        number
    }

    fn take_number(&mut self) -> u32 {
        let Some(number) = self.free.last.checked_sub(1) else {
            assert!(self.rows < u32::MAX, "row numbers have 32 bits");
            self.rows += 1;
            return self.rows - 1;
        };
        self.free = Free { last: self.next_free(number).map_or(0, |next| next + 1), count: self.free.count - 1 };
        debug_assert_eq!(self.free.last == 0, self.free.count == 0, "the chain ends with the last freed number");
        number
    }

    /// Forgets a key; its row number is free then.
    pub(crate) fn remove(&mut self, number: u32) {
        let Some(key) = self.get(number) else { unreachable!("row {number} has a key") };
        assert!(self.index.remove(self.index.hash(&key), number), "the key of row {number} is in the index");
        let words = self.words.row_mut(number);
        if words[1] == LONG {
            self.long.free(words[0]);
        }
        let next = self.free.last.checked_sub(1);
        self.chain(number, next, None);
        if let Some((next, (below, _))) = next.and_then(|next| Some((next, self.chained(next)?))) {
            self.chain(next, below, Some(number));
        }
        self.free = Free { last: number + 1, count: self.free.count + 1 };
    }

    /// Canonical bytes of a row's key; none for a free row number.
    pub(crate) fn get(&self, number: u32) -> Option<Key> {
        let &[low, high] = <&[u64; 2]>::try_from(self.words.row(number)?).ok()?;
        if high == LONG {
            return Some(Key::from_slice(load_bytes(&self.long, low)));
        }
        if high == VACANT {
            return None;
        }
        let bytes = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
        Some(Key::from_slice(&bytes[..usize::from(bytes[15] & 0x7F)]))
    }

    /// The same keys without their index: what snapshots and fingerprints read.
    pub(crate) fn freeze(&self) -> Self {
        let (words, long) = (self.words.clone(), self.long.freeze());
        Self { index: Index::absent(), words, long, rows: self.rows, free: self.free }
    }

    /// Every chunk of key words and long keys.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.words.chunks().iter().flatten().chain(self.long.chunks())
    }

    /// What it consists of, for who drops it.
    pub(super) fn into_chunks(self) -> (IndexParts, impl Iterator<Item = Vec<Option<Chunk>>>) {
        (self.index.into_parts(), std::iter::once(self.words.into_chunks()).chain(self.long.into_chunks()))
    }

    /// Bytes charged besides chunks: the index.
    #[cfg(test)]
    pub(crate) fn bytes_besides_chunks(&self) -> usize {
        self.index.bytes()
    }

    /// Bytes in live objects of long keys.
    #[cfg(test)]
    pub(crate) fn used_bytes(&self) -> usize {
        self.long.used_bytes()
    }

    /// Key words by row, for snapshots.
    pub(crate) fn words(&self) -> &Words {
        &self.words
    }

    /// The arena of long keys, for what moves in it.
    pub(crate) fn long_mut(&mut self) -> &mut Arena {
        &mut self.long
    }

    /// The arena of long keys, for snapshots.
    pub(crate) fn long(&self) -> &Arena {
        &self.long
    }
}
