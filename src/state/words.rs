//! Fixed-stride rows of words in reference-counted chunks, allocated lazily: a row that was never written reads as zeroes.

use super::chunk::{CHUNK_WORDS, Chunk};

/// Rows of one stride.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    stride: usize,
    /// A chunk has 2^this many rows, so that a row is found with shifts.
    rows_shift: u32,
    chunks: Vec<Option<Chunk>>,
    allocated: usize,
}

impl Words {
    /// No rows yet.
    pub(crate) fn new(stride: usize) -> Self {
        Self { stride, rows_shift: (CHUNK_WORDS / stride.max(1)).max(1).ilog2(), chunks: Vec::new(), allocated: 0 }
    }

    /// Rows as a snapshot described them.
    pub(crate) fn from_chunks(stride: usize, chunks: Vec<Option<Chunk>>) -> Self {
        let allocated = chunks.iter().flatten().count();
        Self { chunks, allocated, ..Self::new(stride) }
    }

    /// Words of one chunk.
    pub(crate) fn chunk_words(&self) -> usize {
        self.stride << self.rows_shift
    }

    /// Whether every chunk has the size that the stride asks for.
    pub(crate) fn is_sound(&self) -> bool {
        self.chunks.iter().flatten().all(|chunk| chunk.words().len() == self.chunk_words())
    }

    /// The row's chunk, and where in it the row begins.
    #[inline]
    fn place(&self, row: u32) -> (usize, usize) {
        let row = row as usize;
        (row >> self.rows_shift, (row & ((1 << self.rows_shift) - 1)) * self.stride)
    }

    /// The row's words; none when nothing was ever written near it.
    #[inline]
    pub(crate) fn row(&self, row: u32) -> Option<&[u64]> {
        let (number, at) = self.place(row);
        self.chunks.get(number)?.as_ref().map(|chunk| &chunk.words()[at..at + self.stride])
    }

    /// The row's words for writing.
    #[inline]
    pub(crate) fn row_mut(&mut self, row: u32) -> &mut [u64] {
        let (number, at) = self.place(row);
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        let words = self.chunk_words();
        let chunk = self.chunks[number].get_or_insert_with(|| {
            self.allocated += 1;
            Chunk::zeroed(words)
        });
        &mut chunk.words_mut()[at..at + self.stride]
    }

    /// Bytes of all chunks.
    pub(crate) fn bytes(&self) -> usize {
        self.allocated * self.chunk_words() * 8
    }

    /// The chunks, for snapshots.
    pub(crate) fn chunks(&self) -> &[Option<Chunk>] {
        &self.chunks
    }
}
