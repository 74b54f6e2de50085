//! Variable-size state: one arena per slab, objects in size classes, reached by handle.
//!
//! A handle is one word; 0 is "none". Objects are zeroed when handed out, so equal histories give equal bytes. An arena knows nothing of what its objects
//! mean: the plan marks which words are handles. Called by apply only; a frozen clone serves snapshots and fingerprints.

use super::chunk::{CHUNK_WORDS, Chunk};

/// Size classes are 2, 3, 4, 6, 8, 12, ... words; the largest object has 2^23 words (64 MiB, the largest section of a snapshot).
const CLASSES: usize = 45;

/// A reference to an object; 0 is none.
pub type Handle = u64;

/// Objects of one slab.
#[derive(Debug, Clone, Default)]
pub struct Arena {
    classes: Vec<Class>,
    used_words: usize,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Class {
    /// Blocks; each holds `slots_per_chunk` objects.
    pub(crate) chunks: Vec<Chunk>,
    /// Slots handed out so far, freed ones included.
    pub(crate) slots: u32,
    /// Freed slots, last freed first out.
    pub(crate) free: Vec<u32>,
}

/// Words of an object of this class.
pub(crate) const fn class_words(class: usize) -> usize {
    if class.is_multiple_of(2) { 2 << (class / 2) } else { 3 << (class / 2) }
}

/// Words of a block of this class.
pub(crate) const fn chunk_words(class: usize) -> usize {
    class_words(class) << slots_shift(class)
}

/// A block has 2^this many slots, as many as fit [`CHUNK_WORDS`] and at least one: a slot is found with shifts, where a division would take longer than the rest.
const fn slots_shift(class: usize) -> usize {
    (CHUNK_WORDS.ilog2() as usize - 1).saturating_sub(class.div_ceil(2))
}

/// The smallest class with room for this many words.
#[inline]
fn class_of(words: usize) -> usize {
    let power = (words.max(2) - 1).ilog2() as usize;
    if power > 0 && 3 << (power - 1) >= words { power * 2 - 1 } else { power * 2 }
}

#[expect(clippy::cast_possible_truncation, reason = "a handle is class << 32 | slot + 1 by construction")]
fn split(handle: Handle) -> (usize, usize) {
    ((handle >> 32) as usize, (handle as u32) as usize - 1)
}

/// Words and shift of each class.
const SHAPES: [(u32, u32); CLASSES] = {
    let mut shapes = [(0, 0); CLASSES];
    let mut class = 0;
    while class < CLASSES {
        shapes[class] = (class_words(class) as u32, slots_shift(class) as u32);
        class += 1;
    }
    shapes
};

/// The block of a slot, and where in it the slot's words are.
#[inline]
fn place(class: usize, slot: usize) -> (usize, std::ops::Range<usize>) {
    let (words, shift) = SHAPES[class];
    let words = words as usize;
    let at = (slot & ((1 << shift) - 1)) * words;
    (slot >> shift, at..at + words)
}

impl Arena {
    /// The most words that one object can have.
    pub const OBJECT_WORDS_MAX: usize = class_words(CLASSES - 1);

    /// A zeroed object of at least `words` words. `words` beyond [`Arena::OBJECT_WORDS_MAX`] is a bug of the caller.
    pub fn alloc(&mut self, words: usize) -> Handle {
        assert!(words <= Self::OBJECT_WORDS_MAX, "an object of {words} words is beyond the largest size class");
        let number = class_of(words);
        if self.classes.len() <= number {
            self.classes.resize_with(number + 1, Class::default);
        }
        let class = &mut self.classes[number];
        self.used_words += class_words(number);
        let slot = if let Some(slot) = class.free.pop() {
            let (chunk, words) = place(number, slot as usize);
            class.chunks[chunk].words_mut()[words].fill(0);
            slot
        } else {
            let slot = class.slots;
            class.slots += 1;
            if place(number, slot as usize).0 == class.chunks.len() {
                class.chunks.push(Chunk::zeroed(chunk_words(number)));
            }
            slot
        };
        (number as u64) << 32 | u64::from(slot + 1)
    }

    /// Gives an object back; none is nothing.
    pub fn free(&mut self, handle: Handle) {
        if handle == 0 {
            return;
        }
        let (class, slot) = split(handle);
        self.used_words -= class_words(class);
        if let Ok(slot) = u32::try_from(slot) {
            self.classes[class].free.push(slot);
        }
    }

    /// Words that the object has room for.
    #[inline]
    pub fn capacity(handle: Handle) -> usize {
        if handle == 0 { 0 } else { class_words(split(handle).0) }
    }

    /// The object's words; empty for none.
    #[inline]
    pub fn get(&self, handle: Handle) -> &[u64] {
        if handle == 0 {
            return &[];
        }
        let (class, slot) = split(handle);
        let (chunk, words) = place(class, slot);
        &self.classes[class].chunks[chunk].words()[words]
    }

    /// The object's words for writing; empty for none.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle) -> &mut [u64] {
        if handle == 0 {
            return &mut [];
        }
        let (class, slot) = split(handle);
        let (chunk, words) = place(class, slot);
        &mut self.classes[class].chunks[chunk].words_mut()[words]
    }

    /// The same object with room for at least `words`, moved when it must grow; content is kept, new words are zero.
    #[must_use]
    pub fn grow(&mut self, handle: Handle, words: usize) -> Handle {
        if Self::capacity(handle) >= words && handle != 0 {
            return handle;
        }
        let moved = self.alloc(words);
        if handle != 0 {
            let ((from, from_slot), (to, to_slot)) = (split(handle), split(moved));
            // More words than the old object had room for are of a higher class.
            let (lower, higher) = self.classes.split_at_mut(to);
            let ((from_chunk, old), (to_chunk, new)) = (place(from, from_slot), place(to, to_slot));
            let old = &lower[from].chunks[from_chunk].words()[old];
            higher[0].chunks[to_chunk].words_mut()[new][..old.len()].copy_from_slice(old);
            self.free(handle);
        }
        moved
    }

    /// Bytes in live objects, size-class rounding included.
    pub fn used_bytes(&self) -> usize {
        self.used_words * 8
    }

    /// Bytes of all blocks, freed slots included.
    pub fn resident_bytes(&self) -> usize {
        self.classes.iter().enumerate().map(|(number, class)| class.chunks.len() * chunk_words(number) * 8).sum()
    }

    /// Forgets every object and keeps nothing; for scratch arenas between reads.
    pub fn clear(&mut self) {
        for class in &mut self.classes {
            class.slots = 0;
            class.free.clear();
            for chunk in &mut class.chunks {
                chunk.words_mut().fill(0);
            }
        }
        self.used_words = 0;
    }

    /// The size classes, for snapshots.
    pub(crate) fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// Whether a class read from a snapshot is sound.
    pub(crate) fn check_class(number: usize, class: &Class) -> Result<(), String> {
        if number >= CLASSES {
            return Err(format!("arena class {number} does not exist"));
        }
        let room = class.chunks.len() << slots_shift(number);
        if class.slots as usize > room || class.chunks.iter().any(|chunk| chunk.words().len() != chunk_words(number)) {
            return Err(format!("arena class {number} has chunks of another size"));
        }
        if class.free.iter().any(|slot| *slot >= class.slots) {
            return Err(format!("arena class {number} frees a slot that it never gave out"));
        }
        Ok(())
    }

    /// An arena as a snapshot described it.
    pub(crate) fn from_classes(classes: Vec<Class>) -> Self {
        let used_words =
            classes.iter().enumerate().map(|(number, class)| (class.slots as usize - class.free.len()) * class_words(number)).sum();
        Self { classes, used_words }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_keep_their_words_and_freed_ones_come_back_zeroed() {
        let mut arena = Arena::default();
        let mut model: Vec<(Handle, usize, u64)> = Vec::new();
        let mut seed = 12345u64;
        for step in 0..20_000u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let pick = (seed >> 33) as usize;
            if pick.is_multiple_of(3) && !model.is_empty() {
                let (handle, words, mark) = model.swap_remove(pick % model.len());
                assert!(arena.get(handle)[..words].iter().all(|&word| word == mark));
                arena.free(handle);
            } else if pick.is_multiple_of(5) && !model.is_empty() {
                let at = pick % model.len();
                let (handle, words, mark) = model[at];
                let grown = arena.grow(handle, words * 2);
                assert!(arena.get(grown)[words..words * 2].iter().all(|&word| word == 0 || word == mark));
                arena.get_mut(grown)[..words * 2].fill(mark);
                model[at] = (grown, words * 2, mark);
                if words * 2 > 40_000 {
                    arena.free(grown);
                    model.swap_remove(at);
                }
            } else {
                let words = pick % 70 + 1;
                let handle = arena.alloc(words);
                assert!(arena.get(handle).iter().all(|&word| word == 0));
                arena.get_mut(handle)[..words].fill(step + 1);
                model.push((handle, words, step + 1));
            }
        }
        for (handle, words, mark) in model {
            assert!(arena.get(handle)[..words].iter().all(|&word| word == mark));
        }
    }

    #[test]
    fn every_size_has_the_smallest_class_with_room_for_it() {
        let sizes = (0..5000).chain((0..CLASSES).flat_map(|class| [class_words(class) - 1, class_words(class)]));
        for words in sizes {
            assert_eq!(Some(class_of(words)), (0..CLASSES).find(|&class| class_words(class) >= words), "{words} words");
        }
    }

    #[test]
    fn a_frozen_clone_does_not_see_later_writes() {
        let mut arena = Arena::default();
        let handle = arena.alloc(2);
        arena.get_mut(handle)[0] = 1;
        let frozen = arena.clone();
        arena.get_mut(handle)[0] = 2;
        assert_eq!((frozen.get(handle)[0], arena.get(handle)[0]), (1, 2));
    }
}
