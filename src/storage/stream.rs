//! Reading a file front to back as 8-byte words, in large reads, without copying what was read.
//!
//! ```text
//! buffer  | consumed | window: words not yet consumed | free |
//!                    start                            end
//! ```
//! The window is refilled with one read of at least [`READ_BYTES`] (less at the end of the file); only the unconsumed rest, less than one frame or
//! section, moves to the front before. A file whose length is no multiple of eight reads as if it were padded with zeroes.
//!
//! Used by the WAL reader and the snapshot reader on the start-up thread, and by the snapshot thread to read back what it wrote.

use super::{IoError, Storage, StorageFile};

/// Bytes asked for in one read.
pub const READ_BYTES: usize = 2 << 20;

/// A file as words.
#[derive(Debug)]
pub struct WordStream<F> {
    file: F,
    file_bytes: u64,
    read_bytes: u64,
    buffer: Vec<u64>,
    start: usize,
    end: usize,
}

impl<F: StorageFile> WordStream<F> {
    /// Begins at the head of `file`. `buffer` is reused; give an empty one the first time.
    ///
    /// # Errors
    /// When the length cannot be asked for.
    pub fn new(file: F, buffer: Vec<u64>) -> Result<Self, IoError> {
        let file_bytes = file.size_bytes()?;
        Ok(Self { file, file_bytes, read_bytes: 0, buffer, start: 0, end: 0 })
    }

    /// Goes to a place of the file, a multiple of eight, and forgets what was read: it is read again
    /// as it is by then. The length is asked for anew.
    ///
    /// # Errors
    /// When the length cannot be asked for.
    pub fn restart_at(&mut self, offset: u64) -> Result<(), IoError> {
        assert!(offset.is_multiple_of(8), "a stream goes by words, not to byte {offset}");
        self.file_bytes = self.file.size_bytes()?;
        self.read_bytes = offset.min(self.file_bytes);
        (self.start, self.end) = (0, 0);
        Ok(())
    }

    /// Length of the file in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Offset of the window's first byte.
    pub fn offset(&self) -> u64 {
        self.words_end() - ((self.end - self.start) as u64) * 8
    }

    fn words_end(&self) -> u64 {
        self.read_bytes.next_multiple_of(8)
    }

    /// The words read and not consumed.
    pub fn window(&self) -> &[u64] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Consumes words of the window.
    pub fn consume(&mut self, words: usize) {
        debug_assert!(words <= self.end - self.start);
        self.start = (self.start + words).min(self.end);
    }

    /// Makes the window at least `words` long; `false` when the file ends before.
    ///
    /// # Errors
    /// When reading fails.
    pub fn fill(&mut self, words: usize) -> Result<bool, IoError> {
        if self.end - self.start >= words {
            return Ok(true);
        }
        let left_bytes = self.file_bytes - self.read_bytes;
        let missing = (words - (self.end - self.start)) as u64;
        if left_bytes.div_ceil(8) < missing {
            return Ok(false);
        }
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let wanted_bytes = left_bytes.min((READ_BYTES as u64).max(missing.saturating_mul(8)));
        let wanted_words = usize::try_from(wanted_bytes.div_ceil(8)).unwrap_or(usize::MAX);
        if self.buffer.len() < self.end + wanted_words {
            self.buffer.resize(self.end + wanted_words, 0);
        }
        let Some(free) = self.buffer.get_mut(self.end..self.end + wanted_words) else { return Ok(false) };
        let bytes = bytemuck::cast_slice_mut::<u64, u8>(free);
        let wanted = usize::try_from(wanted_bytes).unwrap_or(bytes.len()).min(bytes.len());
        let got = self.file.read_at(bytes.get_mut(..wanted).unwrap_or_default(), self.read_bytes)?;
        bytes.get_mut(got..got.next_multiple_of(8)).unwrap_or_default().fill(0);
        self.read_bytes += got as u64;
        self.end += got.div_ceil(8);
        if got < wanted {
            // The file became shorter while it was read: what is gone reads as the end.
            self.file_bytes = self.read_bytes;
        }
        Ok(self.end - self.start >= words)
    }

    /// Whether nothing but zeroes stands from the window's first word to the end of the file. Consumes the file.
    ///
    /// # Errors
    /// When reading fails.
    pub fn only_zeroes_follow(&mut self) -> Result<bool, IoError> {
        loop {
            if self.window().iter().any(|word| *word != 0) {
                return Ok(false);
            }
            self.consume(self.end - self.start);
            if !self.fill(1)? {
                return Ok(true);
            }
        }
    }

    /// Gives the buffer back for the next file.
    pub fn into_buffer(self) -> Vec<u64> {
        self.buffer
    }
}

/// The first `words` words of a file, fewer when it is shorter.
///
/// # Errors
/// When opening or reading fails.
pub fn read_head<S: Storage>(storage: &S, path: &std::path::Path, words: usize) -> Result<Vec<u64>, IoError> {
    let file = storage.open_read(path)?;
    let mut head = vec![0_u64; words];
    let got = file.read_at(bytemuck::cast_slice_mut(&mut head), 0)?;
    head.truncate(got / 8);
    Ok(head)
}
