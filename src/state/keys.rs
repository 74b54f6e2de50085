//! Keys of a table: key -> row number, and back.
//!
//! ```text
//! key words of a row     up to 15 bytes inline, byte 15 = length | 0x80
//!                        longer: handle of the bytes in the arena of long keys | LONG
//!                        free row number: 0 | 0
//! ```
//! One value with everything that belongs to keys: index, key words, numbers handed out, freed numbers, the bytes of
//! long keys. Slabs hold features under the same row numbers and know no keys. A number that was freed is handed out
//! again before a new one is made, the last freed first. Called by apply only; a frozen copy has no index.

use super::account::{Account, Charge, allocated};
use super::accumulator::{load_bytes, store_bytes};
use super::arena::Arena;
use super::chunk::Chunk;
use super::index::{Index, KeyHash};
use super::words::Words;
use crate::row::Key;

/// Words of a key.
pub(crate) const KEY_WORDS: usize = 2;
const INLINE_BYTES_MAX: usize = 15;
const LONG: u64 = 0xFF << 56;
const VACANT: [u64; KEY_WORDS] = [0; KEY_WORDS];

/// See the module's head.
#[derive(Debug)]
pub(crate) struct Keys {
    index: Index,
    words: Words,
    /// Bytes of keys that are too long to stand inline.
    long: Arena,
    /// Row numbers handed out, freed ones included.
    rows: u32,
    free: Vec<u32>,
    /// What `free` takes.
    charge: Charge,
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
}

impl Keys {
    /// No keys. The seed of hashes belongs to the log and never changes.
    pub(crate) fn new(hash_seed: u64, account: &Account) -> Self {
        Self {
            index: Index::new(hash_seed, account),
            words: Words::new(KEY_WORDS, account),
            long: Arena::new(account),
            rows: 0,
            free: Vec::new(),
            charge: account.charge(0),
        }
    }

    /// The keys that a snapshot described; the index is built from the key words.
    ///
    /// # Errors
    /// What contradicts itself.
    pub(crate) fn restored(mut self, words: Words, long: Arena, rows: u32, free: Vec<u32>) -> Result<Self, String> {
        assert_eq!(self.rows, 0, "keys are restored into none");
        if free.len() > rows as usize || free.iter().any(|&number| number >= rows) {
            return Err(format!("{} of {rows} row numbers are free, or one beyond them", free.len()));
        }
        self.charge.set(allocated(free.capacity() * 4));
        (self.words, self.long, self.rows, self.free) = (words, long, rows, free);
        let expected = self.held();
        self.index.reserve(expected);
        for number in 0..rows {
            if let Some(key) = self.get(number) {
                self.index.insert(self.index.hash(&key), number);
            }
        }
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

    /// Freed row numbers, the last freed last.
    pub(crate) fn free(&self) -> &[u32] {
        &self.free
    }

    /// Number of keys, of a frozen copy too.
    pub(crate) fn held(&self) -> usize {
        self.rows as usize - self.free.len()
    }

    /// A key made ready for look-ups.
    #[inline]
    pub(crate) fn probe(&self, key: &[u8]) -> Probe {
        Probe { hash: self.index.hash(key), form: Form::of(key) }
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
        let number = self.free.pop().unwrap_or_else(|| {
            self.rows += 1;
            self.rows - 1
        });
        let words = match probe.form {
            Form::Inline(words) => words,
            Form::Long => [store_bytes(&mut self.long, key), LONG],
        };
        let place = self.words.row_mut(number);
        debug_assert_eq!(*place, VACANT, "row number {number} was free");
        place.copy_from_slice(&words);
        self.index.insert(probe.hash, number);
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
        words.copy_from_slice(&VACANT);
        let room = self.free.capacity();
        self.free.push(number);
        if self.free.capacity() != room {
            self.charge.set(allocated(self.free.capacity() * 4));
        }
    }

    /// Canonical bytes of a row's key; none for a free row number.
    pub(crate) fn get(&self, number: u32) -> Option<Key> {
        let &[low, high] = <&[u64; 2]>::try_from(self.words.row(number)?).ok()?;
        if high == LONG {
            return Some(Key::from_slice(load_bytes(&self.long, low)));
        }
        if [low, high] == VACANT {
            return None;
        }
        let bytes = (u128::from(low) | u128::from(high) << 64).to_le_bytes();
        Some(Key::from_slice(&bytes[..usize::from(bytes[15] & 0x7F)]))
    }

    /// The same keys without their index: what snapshots and fingerprints read.
    pub(crate) fn freeze(&self) -> Self {
        let charge = self.charge.again();
        let (words, long) = (self.words.clone(), self.long.freeze());
        Self { index: Index::absent(), words, long, rows: self.rows, free: self.free.clone(), charge }
    }

    /// Every chunk of key words and long keys.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.words.chunks().iter().flatten().chain(self.long.chunks())
    }

    /// Bytes charged besides chunks: the index and the free row numbers.
    #[cfg(test)]
    pub(crate) fn bytes_besides_chunks(&self) -> usize {
        self.index.bytes() + self.charge.bytes()
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

    /// The arena of long keys, for snapshots.
    pub(crate) fn long(&self) -> &Arena {
        &self.long
    }
}
