//! Reference-counted blocks of words: the unit of snapshots.
//!
//! A snapshot clones lists of chunks; apply copies a chunk on its first write after that. Nobody else ever writes a chunk, so a frozen list stays as it was.

use triomphe::Arc;

/// Words of an ordinary chunk (16 KiB).
pub(crate) const CHUNK_WORDS: usize = 2048;

/// A block of words, shared with frozen clones or owned alone.
#[derive(Debug, Clone)]
pub(crate) struct Chunk(Arc<[u64]>);

impl Chunk {
    /// A block of zeroes.
    pub(crate) fn zeroed(words: usize) -> Self {
        Self(Arc::from(vec![0u64; words]))
    }

    /// A block with this content.
    pub(crate) fn from_words(words: &[u64]) -> Self {
        Self(Arc::from(words))
    }

    /// The words.
    #[inline]
    pub(crate) fn words(&self) -> &[u64] {
        &self.0
    }

    /// The words for writing; a frozen block is copied first.
    #[inline]
    pub(crate) fn words_mut(&mut self) -> &mut [u64] {
        if !Arc::is_unique(&self.0) {
            self.0 = Arc::from(&self.0[..]);
        }
        match Arc::get_mut(&mut self.0) {
            Some(words) => words,
            None => unreachable!("only the apply thread clones chunks, so a unique one stays unique"),
        }
    }
}
