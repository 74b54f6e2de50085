//! Reference-counted blocks of words: the unit of snapshots, and of what tables are charged for.
//!
//! ```text
//! count of references | charge: account, bytes | words          24 bytes before the words
//! ```
//! A snapshot clones lists of chunks; apply copies a chunk on its first write after that, or lets the snapshot go when
//! there is no room for the copy. Nobody else ever writes a chunk, so a frozen list stays as it was. An ordinary chunk fills 16 KiB of the allocator to the last byte, whatever
//! it holds: what one table gives back fits every other. The charge is dropped with the last reference, on whichever
//! thread that is, and the block of an ordinary chunk is kept by the account for the next one: an allocator that has a heap
//! per thread would not give what one thread freed to another.

use super::account::{Account, Charge, allocated};
use std::sync::OnceLock;
use triomphe::{Arc, HeaderSlice};

/// Bytes of a block before its words.
const HEADER_BYTES: usize = 8 + size_of::<Charge>();

/// Words of an ordinary chunk.
pub(crate) const CHUNK_WORDS: usize = words_within(16 << 10);

/// Bytes that a list of chunks takes for each, at its largest: right after it has doubled.
const PLACE_BYTES: usize = 2 * size_of::<Option<Chunk>>();

static ZEROES: [u64; CHUNK_WORDS] = [0; CHUNK_WORDS];

const _: () = assert!(HEADER_BYTES == 24 && allocated(CHUNK_WORDS * 8 + HEADER_BYTES) == 16 << 10);

/// Words of a chunk that takes this many bytes of memory.
pub(crate) const fn words_within(bytes: usize) -> usize {
    (bytes - HEADER_BYTES) / 8
}

/// Words of the smallest chunk that has at least this many and leaves nothing of its memory unused.
pub(crate) const fn words_for(words: usize) -> usize {
    if words <= CHUNK_WORDS { CHUNK_WORDS } else { words_within(allocated(words * 8 + HEADER_BYTES)) }
}

/// Bytes that a chunk of this many words is charged for.
pub(crate) const fn chunk_bytes(words: usize) -> usize {
    allocated(words * 8 + HEADER_BYTES) + PLACE_BYTES
}

/// Memory of a chunk.
pub(super) type Block = Arc<HeaderSlice<Charge, [u64]>>;

/// Chunks whose heads are read together.
const HEADS: usize = 32;

/// A list of the same chunks. To count a reference waits for the chunk's head, which is in no cache; plain loads of many
/// heads overlap, so that these come first. A state of a hundred thousand chunks is frozen in a few milliseconds.
pub(super) fn share(chunks: &[Option<Chunk>]) -> Vec<Option<Chunk>> {
    let mut shared = Vec::with_capacity(chunks.len());
    for group in chunks.chunks(HEADS) {
        touch(group.iter().flatten());
        shared.extend(group.iter().cloned());
    }
    shared
}

/// Reads the heads of chunks whose references are counted next.
pub(super) fn touch<'c>(chunks: impl Iterator<Item = &'c Chunk>) {
    std::hint::black_box(chunks.fold(0, |seen, chunk| seen ^ chunk.0.header.bytes()));
}

/// A block of words, shared with frozen clones or owned alone.
#[derive(Debug, Clone)]
pub(crate) struct Chunk(Block);

/// The block of a chunk that has given its own back.
fn nothing() -> Block {
    static NOTHING: OnceLock<Block> = OnceLock::new();
    NOTHING.get_or_init(|| Arc::from_header_and_slice(Charge::default(), &[])).clone()
}

impl Drop for Chunk {
    fn drop(&mut self) {
        // Two threads that drop the last two references at once leave the block to the allocator.
        if self.0.slice.len() == CHUNK_WORDS && Arc::is_unique(&self.0) {
            let account = self.0.header.account().clone();
            let mut block = std::mem::replace(&mut self.0, nothing());
            let Some(alone) = Arc::get_mut(&mut block) else { unreachable!("nobody else held it") };
            alone.header = Charge::default();
            account.keep(block);
        }
    }
}

impl Chunk {
    /// A block of zeroes.
    pub(crate) fn zeroed(account: &Account, words: usize) -> Self {
        match ZEROES.get(..words) {
            Some(zeroes) => Self::from_words(account, zeroes),
            None => Self::from_words(account, &vec![0; words]),
        }
    }

    /// A block with this content.
    pub(crate) fn from_words(account: &Account, words: &[u64]) -> Self {
        let kept = if words.len() == CHUNK_WORDS { account.take_kept() } else { None };
        Self::made(kept, account.charge(chunk_bytes(words.len())), words)
    }

    /// In a block that was kept, or in a new one.
    fn made(kept: Option<Block>, charge: Charge, words: &[u64]) -> Self {
        let Some(mut block) = kept else { return Self(Arc::from_header_and_slice(charge, words)) };
        let Some(alone) = Arc::get_mut(&mut block) else { unreachable!("a block that is kept is nobody's") };
        alone.header = charge;
        alone.slice.copy_from_slice(words);
        Self(block)
    }

    /// The words.
    #[inline]
    pub(crate) fn words(&self) -> &[u64] {
        &self.0.slice
    }

    /// The words for writing; a frozen block is copied first.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        if !Arc::is_unique(&self.0) {
            self.copy();
        }
        match Arc::get_mut(&mut self.0) {
            Some(block) => &mut block.slice,
            None => unreachable!("only the apply thread clones chunks, so a unique one stays unique"),
        }
    }

    #[cold]
    fn copy(&mut self) {
        let charge = &self.0.header;
        let kept = if self.0.slice.len() == CHUNK_WORDS { charge.account().take_kept() } else { None };
        charge.account().make_room(charge.bytes());
        if Arc::is_unique(&self.0) {
            // There was no room for a copy, so that the frozen state was let go.
            kept.into_iter().for_each(|block| charge.account().keep(block));
            return;
        }
        let copy = Self::made(kept, charge.again(), &self.0.slice);
        charge.leave();
        *self = copy;
    }

    /// Apply drops it: when somebody else holds it, that is a frozen state.
    pub(crate) fn leave(&self) {
        if !Arc::is_unique(&self.0) {
            self.0.header.leave();
        }
    }

    /// Bytes that it is charged for.
    #[cfg(test)]
    pub(crate) fn bytes(&self) -> usize {
        self.0.header.bytes()
    }

    /// What tells it from every other chunk as long as it lives.
    #[cfg(test)]
    pub(crate) fn identity(&self) -> usize {
        self.0.slice.as_ptr().addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_on_write_is_charged_until_the_frozen_block_goes() {
        let account = Account::open();
        let mut chunk = Chunk::zeroed(&account, CHUNK_WORDS);
        let alone = account.bytes();
        assert_eq!(alone, chunk_bytes(CHUNK_WORDS));
        let frozen = chunk.clone();
        assert_eq!((account.bytes(), Arc::is_unique(&chunk.0)), (alone, false));
        chunk.words_mut()[7] = 1;
        assert_eq!((account.bytes(), Arc::is_unique(&chunk.0)), (2 * alone, true));
        chunk.words_mut()[7] = 2;
        assert_eq!((account.bytes(), frozen.words()[7]), (2 * alone, 0));
        drop(frozen);
        assert_eq!((account.bytes(), chunk.words()[7]), (alone, 2));
        drop(chunk);
        assert_eq!(account.bytes(), 0);
    }

    #[test]
    fn no_chunk_leaves_memory_unused() {
        for words in (1..CHUNK_WORDS * 9).step_by(7).chain([1 << 20, (1 << 23) - 3]) {
            let room = words_for(words);
            assert!(room >= words && words_for(room) == room, "{words} words: {room}");
            assert!(allocated(room * 8 + HEADER_BYTES) - (room * 8 + HEADER_BYTES) < 8, "{words} words: {room}");
        }
    }
}
