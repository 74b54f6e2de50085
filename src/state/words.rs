//! Fixed-stride rows of words in reference-counted chunks, allocated lazily: a row that was never written reads as zeroes.

use super::chunk::{CHUNK_WORDS, Chunk};

/// Rows of one stride.
#[derive(Debug, Clone)]
pub(crate) struct Words {
    stride: usize,
    rows_per_chunk: usize,
    chunks: Vec<Option<Chunk>>,
    allocated: usize,
}

impl Words {
    /// No rows yet.
    pub(crate) fn new(stride: usize) -> Self {
        Self { stride, rows_per_chunk: (CHUNK_WORDS / stride.max(1)).max(1), chunks: Vec::new(), allocated: 0 }
    }

    /// Rows as a snapshot described them.
    pub(crate) fn from_chunks(stride: usize, chunks: Vec<Option<Chunk>>) -> Self {
        let allocated = chunks.iter().flatten().count();
        Self { chunks, allocated, ..Self::new(stride) }
    }

    /// Words of one chunk.
    pub(crate) fn chunk_words(&self) -> usize {
        self.rows_per_chunk * self.stride
    }

    /// The row's words; none when nothing was ever written near it.
    #[inline]
    pub(crate) fn row(&self, row: u32) -> Option<&[u64]> {
        let row = row as usize;
        let at = row % self.rows_per_chunk * self.stride;
        self.chunks.get(row / self.rows_per_chunk)?.as_ref().map(|chunk| &chunk.words()[at..at + self.stride])
    }

    /// The row's words for writing.
    #[inline]
    pub(crate) fn row_mut(&mut self, row: u32) -> &mut [u64] {
        let row = row as usize;
        let (number, at) = (row / self.rows_per_chunk, row % self.rows_per_chunk * self.stride);
        if self.chunks.len() <= number {
            self.chunks.resize_with(number + 1, || None);
        }
        let words = self.rows_per_chunk * self.stride;
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
