//! Key -> row number. The doorway to hashbrown: 256 parts by hash, each with its own table, so that growth moves one part and never stalls the loop.
//!
//! Entries hold 32 bits of the hash and the row number; the key itself stands in the table's key words and is compared in full. Nothing iterates here:
//! no order escapes.

use super::account::{Account, Charge, allocated};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

const PARTS: usize = 256;
/// A part with more room than this gives some back when most of its keys have left.
const SHRINK_ABOVE: usize = 1024;

const PARTS_BYTES: usize = allocated(PARTS * size_of::<HashTable<Entry>>());

/// Row numbers by key hash.
#[derive(Debug)]
pub(crate) struct Index {
    seed: u64,
    parts: Vec<HashTable<Entry>>,
    len: usize,
    charge: Charge,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    hash: u32,
    row: u32,
}

/// A key's 64-bit hash under the instance's seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHash(u64);

impl KeyHash {
    #[inline]
    fn part(self) -> usize {
        (self.0 >> 56) as usize
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the low half is what entries keep")]
    fn kept(self) -> u32 {
        self.0 as u32
    }
}

/// hashbrown takes the bucket from the low bits and the tag from the top seven.
#[inline]
fn spread(kept: u32) -> u64 {
    u64::from(kept) | u64::from(kept) << 32
}

impl Index {
    /// An empty index. `seed` is the instance's and the same for ever.
    pub(crate) fn new(seed: u64, account: &Account) -> Self {
        Self { seed, parts: vec![HashTable::new(); PARTS], len: 0, charge: account.charge(PARTS_BYTES) }
    }

    /// Hash of canonical key bytes.
    #[inline]
    pub(crate) fn hash(&self, key: &[u8]) -> KeyHash {
        KeyHash(xxh3_64_with_seed(key, self.seed))
    }

    /// Number of keys.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The row for which `is_key` holds.
    #[inline]
    pub(crate) fn find(&self, hash: KeyHash, mut is_key: impl FnMut(u32) -> bool) -> Option<u32> {
        let kept = hash.kept();
        self.parts[hash.part()].find(spread(kept), |entry| entry.hash == kept && is_key(entry.row)).map(|entry| entry.row)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, hash: KeyHash, row: u32) {
        let kept = hash.kept();
        let part = &mut self.parts[hash.part()];
        let before = part.allocation_size();
        part.insert_unique(spread(kept), Entry { hash: kept, row }, |entry| spread(entry.hash));
        let after = part.allocation_size();
        if after != before {
            self.charge.set(self.charge.bytes() + allocated(after) - allocated(before));
        }
        self.len += 1;
    }

    /// Removes a row's key; false when it was not there.
    pub(crate) fn remove(&mut self, hash: KeyHash, row: u32) -> bool {
        let kept = hash.kept();
        let part = &mut self.parts[hash.part()];
        let Ok(found) = part.find_entry(spread(kept), |entry| entry.row == row) else { return false };
        found.remove();
        self.len -= 1;
        if part.capacity() > SHRINK_ABOVE && part.len() < part.capacity() / 8 {
            let before = part.allocation_size();
            part.shrink_to(part.len() * 2, |entry| spread(entry.hash));
            let after = part.allocation_size();
            self.charge.set(self.charge.bytes() + allocated(after) - allocated(before));
        }
        true
    }

    /// Makes room for this many keys in all, before a recovery fills the empty index.
    pub(crate) fn reserve(&mut self, keys: usize) {
        assert_eq!(self.len, 0, "room is made once");
        let per_part = keys / PARTS + keys / PARTS / 8;
        let mut bytes = PARTS_BYTES;
        for part in &mut self.parts {
            part.reserve(per_part, |entry| spread(entry.hash));
            bytes += allocated(part.allocation_size());
        }
        self.charge.set(bytes);
    }

    /// Bytes of all parts.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// An index that finds nothing: that of a frozen copy.
    pub(crate) fn absent() -> Self {
        Self { seed: 0, parts: Vec::new(), len: 0, charge: Charge::default() }
    }
}
