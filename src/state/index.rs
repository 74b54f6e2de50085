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

/// Control bytes behind those of the buckets, as hashbrown has them.
const GROUP_BYTES: usize = 16;

const PARTS_BYTES: usize = allocated(PARTS * size_of::<HashTable<Entry>>());

/// Row numbers by key hash.
#[derive(Debug)]
pub(crate) struct Index {
    seed: u64,
    parts: Vec<HashTable<Entry>>,
    len: usize,
    charge: Charge,
}

/// Parts of an index that is gone.
#[derive(Debug)]
pub(super) struct IndexParts {
    parts: Vec<HashTable<Entry>>,
    charge: Charge,
}

impl IndexParts {
    /// How many are left.
    pub(super) fn len(&self) -> usize {
        self.parts.len()
    }

    /// Bytes that are charged.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// Drops one; false when there is none.
    pub(super) fn drop_next(&mut self) -> bool {
        let Some(part) = self.parts.pop() else { return false };
        self.charge.set(self.charge.bytes() - allocated(part.allocation_size()));
        true
    }
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
    /// All of it.
    pub(crate) fn word(self) -> u64 {
        self.0
    }

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

/// At least as many bytes as a part takes more for `more` keys after `added`. It doubles when it is full; marks of removed
/// keys may make that sooner than its size says, or have it tidied up and double later: both are counted.
fn doublings(part: &HashTable<Entry>, added: usize, more: usize) -> usize {
    let keys = part.len() + added..part.len() + added + more;
    let size = |buckets: usize| allocated(buckets * (size_of::<Entry>() + 1) + 2 * GROUP_BYTES);
    let mut buckets = (part.allocation_size().saturating_sub(GROUP_BYTES) / (size_of::<Entry>() + 1)).next_power_of_two();
    let mut bytes = if keys.contains(&part.capacity()) { size(buckets.max(2) * 2) } else { 0 };
    loop {
        let full = if buckets <= 8 { buckets - 1 } else { buckets / 8 * 7 };
        if full >= keys.end {
            return bytes;
        }
        buckets *= 2;
        if full > part.capacity() && keys.contains(&full) {
            bytes += size(buckets);
        }
    }
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

    /// A key's row moved; false when the key was not there.
    pub(crate) fn renumber(&mut self, hash: KeyHash, from: u32, to: u32) -> bool {
        let found = self.parts[hash.part()].find_mut(spread(hash.kept()), |entry| entry.row == from);
        found.map(|entry| entry.row = to).is_some()
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

    /// The part of a key, and at least as many bytes as one more key adds there after `added` others.
    pub(crate) fn growth_bytes(&self, hash: KeyHash, added: impl Fn(usize) -> usize) -> (usize, usize) {
        let part = &self.parts[hash.part()];
        (hash.part(), doublings(part, added(hash.part()), 1))
    }

    /// At least as many bytes as this many keys add, whichever they are.
    pub(crate) fn growth_bytes_most(&self, keys: usize) -> usize {
        let parts = self.parts.iter().map(|part| doublings(part, 0, keys));
        // No more parts than keys can grow.
        if keys >= PARTS { parts.sum() } else { keys * parts.max().unwrap_or(0) }
    }

    /// Bytes of all parts.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// The parts of an index that nobody asks any longer, for who drops them one by one.
    pub(super) fn into_parts(self) -> IndexParts {
        IndexParts { parts: self.parts, charge: self.charge }
    }

    /// An index that finds nothing: that of a frozen copy.
    pub(crate) fn absent() -> Self {
        Self { seed: 0, parts: Vec::new(), len: 0, charge: Charge::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn growth_is_never_more_than_was_said(
            steps in prop::collection::vec((0u8..3, 1usize..600), 1..30), batch in 1usize..400,
        ) {
            let account = Account::open();
            let mut index = Index::new(7, &account);
            let (mut next, mut held) = (0u32, Vec::new());
            for (what, count) in steps {
                if what == 0 {
                    for number in held.drain(..count.min(held.len())) {
                        prop_assert!(index.remove(index.hash(&u32::to_le_bytes(number)), number));
                    }
                    continue;
                }
                let count = count.min(batch);
                let (before, most) = (account.bytes(), index.growth_bytes_most(count));
                let mut said = 0;
                let mut added = [0; PARTS];
                for number in next..next + u32::try_from(count).unwrap_or(0) {
                    let (part, bytes) = index.growth_bytes(index.hash(&u32::to_le_bytes(number)), |part| added[part]);
                    added[part] += 1;
                    said += bytes;
                }
                for number in next..next + u32::try_from(count).unwrap_or(0) {
                    index.insert(index.hash(&u32::to_le_bytes(number)), number);
                    held.push(number);
                }
                next += u32::try_from(count).unwrap_or(0);
                let grown = account.bytes().saturating_sub(before);
                prop_assert!(grown <= said && said <= most, "{grown} bytes, {said} were said, {most} at most");
            }
        }
    }
}
