//! Fixed-stride rows of words in reference-counted chunks, allocated lazily: a row that was never written reads as
//! zeroes. As many rows to a chunk as fit; a row is found with a multiplication, never with a division.

use super::account::Account;
use super::chunk::{Chunk, chunk_bytes, share, words_for};
use std::ops::Range;

/// Rows of one stride.
#[derive(Debug)]
pub(crate) struct Words {
    stride: usize,
    chunk_words: usize,
    /// Rows of a chunk.
    rows: u32,
    /// 2^64 / `rows`, rounded up; 0 when a chunk holds one row.
    reciprocal: u64,
    chunks: Vec<Option<Chunk>>,
    /// How many of them are none.
    missing: usize,
    account: Account,
}

impl Clone for Words {
    fn clone(&self) -> Self {
        Self { chunks: share(&self.chunks), account: self.account.clone(), ..*self }
    }
}

impl Words {
    /// No rows yet.
    pub(crate) fn new(stride: usize, account: &Account) -> Self {
        let chunk_words = words_for(stride);
        let Ok(rows) = u32::try_from(chunk_words / stride.max(1)) else { unreachable!("a chunk has few rows") };
        assert!(rows > 0, "a chunk has room for a row of {stride} words");
        let reciprocal = (u64::MAX / u64::from(rows)).wrapping_add(1);
        Self { stride, chunk_words, rows, reciprocal, chunks: Vec::new(), missing: 0, account: account.clone() }
    }

    /// Rows as a snapshot described them.
    ///
    /// # Errors
    /// When a chunk has another size than the stride asks for.
    pub(crate) fn from_chunks(stride: usize, account: &Account, chunks: Vec<Option<Chunk>>) -> Result<Self, String> {
        let missing = chunks.iter().filter(|chunk| chunk.is_none()).count();
        let words = Self { chunks, missing, ..Self::new(stride, account) };
        match words.chunks.iter().flatten().find(|chunk| chunk.words().len() != words.chunk_words) {
            Some(chunk) => Err(format!("a chunk of {} words where rows have {stride}", chunk.words().len())),
            None => Ok(words),
        }
    }

    /// The row's chunk, and where in it the row begins.
    #[inline]
    fn place(&self, row: u32) -> (usize, usize) {
        let number = match self.reciprocal {
            0 => row,
            // Exact: the reciprocal is less than 1 too large, so a row of 32 bits is less than 2^-32 off, and no two
            // quotients with a divisor of 32 bits are nearer to each other.
            reciprocal => ((u128::from(row) * u128::from(reciprocal)) >> 64) as u32,
        };
        debug_assert_eq!(number, row / self.rows, "the reciprocal of {} is exact", self.rows);
        (number as usize, (row - number * self.rows) as usize * self.stride)
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
            self.missing += number + 1 - self.chunks.len();
            self.chunks.resize_with(number + 1, || None);
        }
        let chunk = self.chunks[number].get_or_insert_with(|| {
            self.missing -= 1;
            Chunk::zeroed(&self.account, self.chunk_words)
        });
        &mut chunk.words_mut()[at..at + self.stride]
    }

    /// The chunk that writing a row would make, and its bytes; none when it is there.
    pub(crate) fn lacking(&self, row: u32) -> Option<(usize, usize)> {
        let (number, _) = self.place(row);
        let is_there = self.chunks.get(number).is_some_and(Option::is_some);
        (!is_there).then(|| (number, chunk_bytes(self.chunk_words)))
    }

    /// At least as many bytes as writing this many rows makes, whichever of the first `known` they are, or further ones.
    pub(crate) fn lacking_most(&self, known: u32, rows: usize) -> usize {
        let known = (known as usize).div_ceil(self.rows as usize);
        debug_assert_eq!(self.missing, self.chunks.iter().filter(|chunk| chunk.is_none()).count(), "chunks that are none are counted");
        let missing = known.saturating_sub(self.chunks.len()) + self.missing;
        self.lacking_of(missing, rows)
    }

    /// The same, where they are all among these.
    pub(crate) fn lacking_within(&self, among: Range<u32>, rows: usize) -> usize {
        let chunks = (among.start / self.rows) as usize..(among.end as usize).div_ceil(self.rows as usize);
        self.lacking_of(chunks.filter(|number| self.chunks.get(*number).is_none_or(Option::is_none)).count(), rows)
    }

    fn lacking_of(&self, missing: usize, rows: usize) -> usize {
        (missing.min(rows) + rows.div_ceil(self.rows as usize) + 1) * chunk_bytes(self.chunk_words)
    }

    /// How many rows stand in a chunk.
    pub(crate) fn rows_per_chunk(&self) -> u64 {
        u64::from(self.rows)
    }

    /// How many chunks this many rows stand in.
    pub(crate) fn chunks_of(&self, rows: u32) -> usize {
        rows.div_ceil(self.rows) as usize
    }

    /// Bytes of the chunks that so many rows fill.
    pub(crate) fn bytes_of(&self, rows: usize) -> usize {
        let chunks = if self.stride == 0 { 0 } else { rows / self.rows as usize };
        chunks.min(self.chunks.len()) * chunk_bytes(self.chunk_words)
    }

    /// Moves a row's words to where another row stood; zeroes stay.
    pub(crate) fn move_row(&mut self, from: u32, to: u32) {
        let Some(words) = self.row(from).filter(|words| words.iter().any(|&word| word != 0)) else { return };
        let words: smallvec::SmallVec<[u64; 32]> = smallvec::SmallVec::from_slice(words);
        let place = self.row_mut(to);
        debug_assert!(place.iter().all(|&word| word == 0), "row {to} is free");
        place.copy_from_slice(&words);
        self.row_mut(from).fill(0);
    }

    /// Drops the chunks that have none of the first `rows` rows.
    pub(crate) fn truncate(&mut self, rows: u32) {
        let chunks = (rows as usize).div_ceil(self.rows as usize);
        while self.chunks.len() > chunks {
            match self.chunks.pop() {
                Some(Some(chunk)) => chunk.leave(),
                _ => self.missing -= 1,
            }
        }
    }

    /// Drops the chunk that ends where this row begins; those before it are gone.
    pub(crate) fn drop_before(&mut self, row: u32) {
        let (number, at) = self.place(row);
        if at == 0
            && let Some(place) = number.checked_sub(1).and_then(|before| self.chunks.get_mut(before))
        {
            match place.take() {
                Some(chunk) => {
                    chunk.leave();
                    self.missing += 1;
                }
                None => debug_assert!(self.missing > 0, "a chunk that is none is counted"),
            }
        }
    }

    /// The chunks, for snapshots.
    pub(crate) fn chunks(&self) -> &[Option<Chunk>] {
        &self.chunks
    }

    /// The chunks, for who drops them.
    pub(crate) fn into_chunks(self) -> Vec<Option<Chunk>> {
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_has_its_place() {
        for stride in (1..200).chain([1022, 1023, 2044, 2045, 2046, 5000]) {
            let words = Words::new(stride, &Account::default());
            let rows = words.rows;
            let near = [0, 1, 2, rows - 1, rows, rows + 1, 7 * rows - 1, 7 * rows, u32::MAX / 2, u32::MAX - 1, u32::MAX];
            for row in near.into_iter().chain((0..500_000_000).step_by(999_983)) {
                let expected = ((row / rows) as usize, (row % rows) as usize * stride);
                assert_eq!(words.place(row), expected, "row {row} of {stride} words");
            }
        }
    }

    #[test]
    fn rows_that_were_never_written_read_as_nothing_and_take_nothing() {
        let account = Account::open();
        let mut words = Words::new(5, &account);
        words.row_mut(10_000)[2] = 9;
        assert_eq!(words.row(10_000), Some(&[0, 0, 9, 0, 0][..]));
        assert_eq!((words.row(0), words.row(10_001)), (None, Some(&[0; 5][..])));
        assert_eq!(account.bytes(), super::super::chunk::chunk_bytes(2045));
    }
}
