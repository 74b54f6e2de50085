//! Which places of a list of chunks hold one, as a snapshot says it: a bit for each, so that what a list takes
//! when it is read back is bounded by the bytes that describe it.
//!
//! A list may be sparse: an arena that was large keeps the numbers of its chunks, since handles name them. So the
//! number of a chunk says nothing about how many there are; a number alone, in a file that somebody damaged or
//! made, would have a start reserve room for all numbers below it. Written by `image.rs`, one for each group, in
//! one form: the last word is not zero.

use super::chunk::Chunk;

/// More places than a list has: 1 TiB of chunks.
const PLACES_MAX: usize = 1 << 26;

/// Places that are still to come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Places {
    words: Vec<u64>,
    /// Words before it are done.
    at: usize,
    count: usize,
}

/// The bits of a list.
pub(super) fn bits_of(chunks: &[Option<Chunk>]) -> Vec<u64> {
    let places = chunks.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    assert!(places <= PLACES_MAX, "a list has at most {PLACES_MAX} chunks, not {places}");
    let word = |chunks: &[Option<Chunk>]| (0..).zip(chunks).fold(0, |word, (bit, chunk)| word | u64::from(chunk.is_some()) << bit);
    chunks[..places].chunks(64).map(word).collect()
}

impl Places {
    /// Reads bits back.
    ///
    /// # Errors
    /// When they are not in the form in which they are written, or more than there can be.
    pub(super) fn read(words: &[u64]) -> Result<Self, String> {
        if words.last() == Some(&0) {
            return Err("places of chunks end in a word without one".into());
        }
        let count = words.last().map_or(0, |last| words.len() * 64 - last.leading_zeros() as usize);
        if count > PLACES_MAX {
            return Err(format!("{count} places of chunks, at most {PLACES_MAX}"));
        }
        Ok(Self { words: words.to_vec(), at: 0, count })
    }

    /// Places, those without a chunk included.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The next place that has a chunk.
    pub(super) fn next(&mut self) -> Option<usize> {
        while *self.words.get(self.at)? == 0 {
            self.at += 1;
        }
        let word = &mut self.words[self.at];
        let bit = word.trailing_zeros() as usize;
        *word &= *word - 1;
        let place = self.at * 64 + bit;
        assert!(place < self.count, "place {place} of {}", self.count);
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::super::account::Account;
    use super::*;

    #[test]
    fn places_are_read_as_they_were_written() {
        let account = Account::open();
        for places in [vec![], vec![0], vec![1, 5], vec![63, 64, 65], vec![0, 127], vec![128], vec![700]] {
            let mut chunks: Vec<Option<Chunk>> = Vec::new();
            chunks.resize_with(places.last().map_or(3, |last| last + 4), || None);
            places.iter().for_each(|&place| chunks[place] = Some(Chunk::zeroed(&account, 8)));
            let mut read = Places::read(&bits_of(&chunks)).unwrap_or_else(|reason| panic!("{reason}"));
            assert_eq!(read.count(), places.last().map_or(0, |last| last + 1));
            let found: Vec<usize> = std::iter::from_fn(|| read.next()).collect();
            assert_eq!(found, places);
        }
    }

    #[test]
    fn bits_are_refused_in_any_other_form() {
        for words in [vec![0], vec![1, 0], vec![1; PLACES_MAX / 64 + 1]] {
            assert!(Places::read(&words).is_err(), "{} words", words.len());
        }
    }
}
