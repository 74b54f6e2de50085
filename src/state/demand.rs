//! What rows may need before they are applied: objects of an arena, and the memory that they take.
//!
//! Near the memory limit a batch is looked at row by row. Each row's [`Demand`] names the objects that applying it may
//! make; a [`Tally`] turns demands into bytes of chunks, one arena's for one batch: an object needs a chunk only when
//! every slot of its class is taken, by the objects that are there and by those that the batch's earlier rows need.
//! Invariant: the bytes of a tally are at least what applying its rows adds to the account, at any moment on the way;
//! objects that the rows give back are no credit. Called by [`growth`](super::growth) and [`by_key`](super::by_key), cold.

use super::accumulator::words_of_bytes;
use super::arena::{self, Arena};
use super::chunk::chunk_bytes;
use smallvec::SmallVec;

/// Objects that a row may make.
#[derive(Debug, Clone, Default)]
pub struct Demand {
    /// Size classes with how many objects of each.
    classes: SmallVec<[(u8, u32); 8]>,
    /// Words of objects whose sizes are not known one by one,
    words: usize,
    /// and of the largest of them.
    largest: usize,
}

impl Demand {
    /// One object of this many words, no more and no fewer.
    pub fn object(&mut self, words: usize) {
        let Ok(class) = u8::try_from(arena::class_of(words)) else { unreachable!("classes have 8 bits") };
        self.add(class, 1);
    }

    fn add(&mut self, class: u8, count: u32) {
        match self.classes.iter_mut().find(|known| known.0 == class) {
            Some(known) => known.1 += count,
            None => self.classes.push((class, count)),
        }
    }

    /// One object of at least and at most this many words.
    pub fn object_within(&mut self, least: usize, most: usize) {
        if arena::class_of(least) == arena::class_of(most) {
            self.object(most);
        } else {
            self.objects(most, most);
        }
    }

    /// Objects of sizes up to `largest` words that together have at most this many.
    pub fn objects(&mut self, words: usize, largest: usize) {
        self.words += words;
        self.largest = self.largest.max(largest);
    }

    /// The object with this many bytes in it.
    pub fn bytes(&mut self, bytes: usize) {
        self.object(words_of_bytes(bytes));
    }

    /// So many objects of a size class.
    pub(crate) fn of_class(&mut self, class: usize, count: usize) {
        let (Ok(class), Ok(count)) = (u8::try_from(class), u32::try_from(count)) else {
            unreachable!("classes have 8 bits, one key has few objects")
        };
        if count > 0 {
            self.add(class, count);
        }
    }

    /// As at first.
    pub(crate) fn clear(&mut self) {
        self.classes.clear();
        (self.words, self.largest) = (0, 0);
    }
}

/// What the rows of a batch need of one arena so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Objects by class.
    objects: Vec<u32>,
    words: usize,
    largest: usize,
}

impl Tally {
    /// Bytes of chunks that a further demand adds.
    pub(crate) fn cost(&self, arena: &Arena, demand: &Demand) -> usize {
        let mut bytes = 0;
        for &(class, count) in &demand.classes {
            let class = usize::from(class);
            let (room, slots) = (arena.free_slots(class), arena::slots(class));
            let chunks = |objects: u32| (objects as usize).saturating_sub(room).div_ceil(slots);
            let taken = self.objects.get(class).copied().unwrap_or(0);
            bytes += (chunks(taken + count) - chunks(taken)) * chunk_bytes(arena::chunk_words(class));
        }
        let largest = self.largest.max(demand.largest);
        bytes + spread_bytes(self.words + demand.words, largest) - spread_bytes(self.words, self.largest)
    }

    /// Bytes of chunks that everything counted so far adds.
    pub(crate) fn bytes(&self, arena: &Arena) -> usize {
        let of_class = |(class, &count): (usize, &u32)| {
            let chunks = (count as usize).saturating_sub(arena.free_slots(class)).div_ceil(arena::slots(class));
            chunks * chunk_bytes(arena::chunk_words(class))
        };
        self.objects.iter().enumerate().map(of_class).sum::<usize>() + spread_bytes(self.words, self.largest)
    }

    /// Counts a demand as met.
    pub(crate) fn take(&mut self, demand: &Demand) {
        for &(class, count) in &demand.classes {
            let class = usize::from(class);
            if self.objects.len() <= class {
                self.objects.resize(class + 1, 0);
            }
            self.objects[class] += count;
        }
        self.words += demand.words;
        self.largest = self.largest.max(demand.largest);
    }
}

/// Bytes of the chunks that objects of unknown sizes take: one of each class that they may be of, which may stay nearly
/// empty, and their own words, which size classes round up by half at most and chunks by a quarter.
pub(crate) fn spread_bytes(words: usize, largest: usize) -> usize {
    if words == 0 {
        return 0;
    }
    let class = arena::class_of(largest);
    let ordinary = (class + 1).min(arena::SMALL_CLASSES) * chunk_bytes(arena::chunk_words(0));
    let large = if class < arena::SMALL_CLASSES { 0 } else { chunk_bytes(arena::chunk_words(class)) };
    ordinary + large + words * 8 * 2
}

#[cfg(test)]
impl Tally {
    /// Whether objects of these classes, in any order, are among those that were counted.
    pub(crate) fn covers(&self, made: &[usize]) -> bool {
        let classes = (0u8..).zip(&self.objects).filter(|(_, count)| **count > 0).map(|(class, &count)| (class, count)).collect();
        Demand { classes, words: self.words, largest: self.largest }.covers(made)
    }
}

#[cfg(test)]
impl Demand {
    /// Whether objects of these classes, in any order, are among those named.
    pub(crate) fn covers(&self, made: &[usize]) -> bool {
        let named = self.classes.iter().flat_map(|&(class, count)| std::iter::repeat_n(usize::from(class), count as usize));
        let mut named: Vec<usize> = named.collect();
        let mut words = self.words;
        made.iter().all(|class| {
            if let Some(at) = named.iter().position(|known| known == class) {
                named.swap_remove(at);
                return true;
            }
            let least = if *class == 0 { 1 } else { arena::class_words(class - 1) + 1 };
            let fits = self.words > 0 && *class <= arena::class_of(self.largest) && least <= words;
            words -= least.min(words);
            fits
        })
    }
}
