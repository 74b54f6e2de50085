//! Variable-size state: one arena per slab, objects in size classes, reached by handle.
//!
//! ```text
//! handle     class, 16 bits | chunk, 32 bits | slot + 1, 16 bits          0 is "none"
//! chunk      occupancy | slots of the class's size
//! occupancy  slots ever handed out, 16 bits | first freed slot + 1, 16 bits | class, 16 bits | 0
//! slot       the object; a freed one is zeroes but for its first word: the next freed slot + 1
//! ```
//! Objects are zeroed when they are given back, so nothing of them stays behind in memory or in a snapshot, and equal
//! histories without evacuation give equal bytes. A chunk whose objects are all given back is dropped, but for one per
//! class, so that a class with few objects does not take and give a chunk in turns. Sparse chunks can be *marked*: their
//! objects are moved into free slots of others (`evacuate.rs`), and the chunk is dropped with the last. Objects come from the chunk that got room last. An
//! arena knows nothing of what its objects mean: the plan marks which words are handles. Called by apply only; a frozen
//! copy serves snapshots and fingerprints.

use super::account::Account;
use super::chunk::{self, CHUNK_WORDS, Chunk, chunk_bytes, words_for};

/// Words of a chunk before its slots.
const OCCUPANCY_WORDS: usize = 1;

/// Room of an ordinary chunk.
const ROOM: usize = CHUNK_WORDS - OCCUPANCY_WORDS;

/// Sizes that share an ordinary chunk; from 136 words on they are the largest with so many slots.
const SMALL: [u32; 23] = [
    2,
    3,
    4,
    6,
    8,
    12,
    16,
    24,
    32,
    48,
    64,
    96,
    share(15),
    share(12),
    share(10),
    share(8),
    share(7),
    share(6),
    share(5),
    share(4),
    share(3),
    share(2),
    share(1),
];

/// Sizes that have a chunk of their own: four per doubling, as the allocator has them, up to the largest section of a
/// snapshot (64 MiB).
const LARGE: usize = 48;

/// Classes whose objects share ordinary chunks.
pub(crate) const SMALL_CLASSES: usize = SMALL.len();

/// Size classes.
const CLASSES: usize = SMALL.len() + LARGE;

/// A reference to an object; 0 is none.
pub type Handle = u64;

/// Objects of one slab.
#[derive(Debug, Clone, Default)]
pub struct Arena {
    classes: Vec<Class>,
    used_words: usize,
    account: Account,
    /// Classes of all objects that were ever made.
    #[cfg(test)]
    pub(crate) made: Vec<usize>,
}

#[derive(Debug, Clone, Default)]
struct Class {
    /// Chunks by number; none where one was dropped.
    chunks: Vec<Option<Chunk>>,
    /// Live objects by chunk.
    live: Vec<u16>,
    /// Numbers of chunks with room, each once; objects come from the last. Numbers of dropped chunks are passed over.
    open: Vec<u32>,
    /// How many of `open` are there.
    roomy: u32,
    /// Free slots of all chunks.
    room: usize,
    /// Live objects, and the most that there were.
    objects: usize,
    most: usize,
    /// Numbers of dropped chunks.
    vacant: Vec<u32>,
    /// Marked chunks, by number: objects move out of them, and into them only when no other has room. Empty when none is.
    marked: Vec<bool>,
    /// Numbers of marked chunks; those that were dropped or opened again are passed over.
    leaving: Vec<u32>,
}

/// The first word of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Occupancy {
    /// Slots from here on were never handed out.
    fresh: u16,
    /// First freed slot + 1; 0 is none.
    freed: u16,
    class: u16,
}

impl Occupancy {
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "three fields of 16 bits")]
    fn of(word: u64) -> Self {
        Self { fresh: word as u16, freed: (word >> 16) as u16, class: (word >> 32) as u16 }
    }

    #[inline]
    fn word(self) -> u64 {
        u64::from(self.fresh) | u64::from(self.freed) << 16 | u64::from(self.class) << 32
    }
}

#[expect(clippy::cast_possible_truncation, reason = "below the room of a chunk")]
const fn share(slots: usize) -> u32 {
    (ROOM / slots) as u32
}

/// Words and slots of each class.
const SHAPES: [(u32, u16); CLASSES] = {
    let mut shapes = [(0, 1); CLASSES];
    let mut class = 0;
    while class < CLASSES {
        shapes[class] = shape(class);
        class += 1;
    }
    shapes
};

#[expect(clippy::cast_possible_truncation, reason = "at most 2^23 words and 1,022 slots")]
const fn shape(class: usize) -> (u32, u16) {
    if class < SMALL.len() {
        return (SMALL[class], (ROOM / SMALL[class] as usize) as u16);
    }
    let step = class - SMALL.len();
    // The steps are 5/4, 6/4, 7/4 and 8/4 of each doubling from 16 KiB on; one word goes to the occupancy.
    let quarters = 5 + step % 4;
    let words = words_for((quarters << (step / 4 + 9)) - 8) - OCCUPANCY_WORDS;
    (words as u32, 1)
}

/// Words of an object of this class.
#[inline]
pub(crate) const fn class_words(class: usize) -> usize {
    SHAPES[class].0 as usize
}

/// Objects that a chunk of this class has room for.
pub(crate) const fn slots(class: usize) -> usize {
    SHAPES[class].1 as usize
}

/// Words of a chunk of this class.
pub(crate) const fn chunk_words(class: usize) -> usize {
    if class < SMALL.len() { CHUNK_WORDS } else { class_words(class) + OCCUPANCY_WORDS }
}

/// The smallest class of each size that shares a chunk.
static CLASS_OF: [u8; ROOM + 1] = {
    let mut classes = [0; ROOM + 1];
    let (mut class, mut words) = (0u8, 0);
    while words <= ROOM {
        if words > SMALL[class as usize] as usize {
            class += 1;
        }
        classes[words] = class;
        words += 1;
    }
    classes
};

/// The smallest class with room for this many words.
#[inline]
pub(crate) fn class_of(words: usize) -> usize {
    match CLASS_OF.get(words) {
        Some(&class) => usize::from(class),
        None => SHAPES.partition_point(|&(room, _)| (room as usize) < words),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "three fields, as the head draws them")]
#[inline]
fn split(handle: Handle) -> (usize, usize, usize) {
    debug_assert_ne!(handle & 0xFFFF, 0, "{handle:x} is no handle");
    ((handle >> 48) as usize, (handle >> 16) as u32 as usize, (handle as u16) as usize - 1)
}

/// Class, chunk and slot of a word that a file brought; none when no arena gives such a handle out.
pub(super) fn checked(handle: Handle) -> Option<(usize, usize, usize)> {
    (handle & 0xFFFF != 0).then(|| split(handle)).filter(|&(class, _, slot)| class < CLASSES && slot < slots(class))
}

/// The slots of a chunk that hold no object, freed ones first; the chunk was found sound when it was restored.
pub(super) fn unused_slots(class: usize, words: &[u64]) -> impl Iterator<Item = (usize, &[u64])> {
    let occupancy = Occupancy::of(words[0]);
    let object = move |slot: usize| &words[place(class, slot)];
    let freed = std::iter::successors(usize::from(occupancy.freed).checked_sub(1), move |&slot| {
        usize::try_from(object(slot)[0]).ok().and_then(|next| next.checked_sub(1))
    });
    // The first word of a freed slot names the next one; all others are zeroes.
    let freed = freed.map(move |slot| (slot, &object(slot)[1..]));
    freed.chain((usize::from(occupancy.fresh)..slots(class)).map(move |slot| (slot, object(slot))))
}

/// Where the words of a slot are in its chunk.
#[inline]
fn place(class: usize, slot: usize) -> std::ops::Range<usize> {
    let words = class_words(class);
    let at = OCCUPANCY_WORDS + slot * words;
    at..at + words
}

impl Class {
    /// The number of a chunk with room: the last that got some, or another one.
    #[inline]
    fn roomy(&mut self, class: usize, account: &Account) -> usize {
        while let Some(&number) = self.open.last() {
            if self.chunks[number as usize].is_some() {
                return number as usize;
            }
            self.open.pop();
        }
        self.reopen(class).unwrap_or_else(|| self.extend(class, account))
    }

    /// A marked chunk with room, which is not emptied any further: no other one has any.
    #[cold]
    fn reopen(&mut self, class: usize) -> Option<usize> {
        while let Some(number) = self.leaving.pop() {
            let at = number as usize;
            if self.is_marked(at) {
                assert!(self.chunks[at].is_some() && self.live[at] < SHAPES[class].1, "a marked chunk is there and has room");
                self.marked[at] = false;
                self.open.push(number);
                self.roomy += 1;
                return Some(at);
            }
        }
        None
    }

    fn is_marked(&self, number: usize) -> bool {
        self.marked.get(number).is_some_and(|marked| *marked)
    }

    /// Chunks that need not be there: the objects fit into the others.
    fn surplus(&self, class: usize) -> usize {
        let chunks = (self.objects + self.room) / slots(class);
        chunks - self.objects.div_ceil(slots(class))
    }

    /// Marks as many chunks as need not be there, the sparsest.
    fn mark_sparse(&mut self, class: usize) {
        self.unmark(class);
        let surplus = self.surplus(class);
        if surplus == 0 {
            return;
        }
        let mut quota = vec![0usize; slots(class) + 1];
        for number in (0..self.chunks.len()).filter(|&number| self.chunks[number].is_some()) {
            quota[usize::from(self.live[number])] += 1;
        }
        // Fewest objects first: how many of the chunks with so many objects are marked.
        let mut left = surplus;
        for chunks in &mut quota {
            *chunks = left.min(*chunks);
            left -= *chunks;
        }
        self.marked = vec![false; self.chunks.len()];
        for number in 0..self.chunks.len() {
            let quota = &mut quota[usize::from(self.live[number])];
            if self.chunks[number].is_some() && *quota > 0 {
                *quota -= 1;
                if self.live[number] == 0 { self.drop_chunk(class, number) } else { self.mark(number) }
            }
        }
        self.list_open(class);
        assert!(self.leaving.len() <= surplus, "no more is emptied than need not be there");
    }

    fn mark(&mut self, number: usize) {
        let Ok(kept) = u32::try_from(number) else { unreachable!("chunk numbers have 32 bits") };
        self.marked[number] = true;
        self.leaving.push(kept);
    }

    /// Marked chunks are like others again.
    fn unmark(&mut self, class: usize) {
        if !self.marked.is_empty() {
            (self.marked, self.leaving) = (Vec::new(), Vec::new());
            self.list_open(class);
        }
    }

    /// Finds the chunks with room that are not marked.
    fn list_open(&mut self, class: usize) {
        self.open.clear();
        for (number, at) in (0u32..).zip(0..self.chunks.len()) {
            if self.chunks[at].is_some() && self.live[at] < SHAPES[class].1 && !self.is_marked(at) {
                self.open.push(number);
            }
        }
        let Ok(roomy) = u32::try_from(self.open.len()) else { unreachable!("chunk numbers have 32 bits") };
        self.roomy = roomy;
    }

    #[cold]
    fn extend(&mut self, class: usize, account: &Account) -> usize {
        let mut chunk = Chunk::zeroed(account, chunk_words(class));
        let Ok(kept) = u16::try_from(class) else { unreachable!("there are {CLASSES} classes") };
        chunk.words_mut()[0] = Occupancy { fresh: 0, freed: 0, class: kept }.word();
        let number = self.vacant.pop().unwrap_or_else(|| {
            let Ok(number) = u32::try_from(self.chunks.len()) else { unreachable!("2^32 chunks are 64 TiB") };
            self.chunks.push(None);
            self.live.push(0);
            number
        });
        let place = &mut self.chunks[number as usize];
        assert!(place.is_none() && self.roomy == 0, "a chunk is made in a free place when no other has room");
        *place = Some(chunk);
        self.open.push(number);
        self.roomy = 1;
        self.room += slots(class);
        number as usize
    }

    #[inline]
    fn chunk(&self, number: usize) -> &Chunk {
        match &self.chunks[number] {
            Some(chunk) => chunk,
            None => unreachable!("a chunk with an object is there"),
        }
    }

    #[inline]
    fn chunk_mut(&mut self, number: usize) -> &mut Chunk {
        match &mut self.chunks[number] {
            Some(chunk) => chunk,
            None => unreachable!("a chunk with an object is there"),
        }
    }

    fn drop_chunk(&mut self, class: usize, number: usize) {
        let Some(chunk) = self.chunks[number].take() else { unreachable!("a chunk is dropped once") };
        assert_eq!(self.live[number], 0, "a chunk that is dropped is empty");
        chunk.leave();
        if let Some(marked) = self.marked.get_mut(number) {
            *marked = false;
        }
        self.room -= slots(class);
        let Ok(number) = u32::try_from(number) else { unreachable!("chunk numbers have 32 bits") };
        self.vacant.push(number);
    }
}

impl Arena {
    /// The most words that one object can have.
    pub const OBJECT_WORDS_MAX: usize = class_words(CLASSES - 1);

    /// An arena whose chunks are charged to an account.
    pub(crate) fn new(account: &Account) -> Self {
        Self { account: account.clone(), ..Self::default() }
    }

    /// A zeroed object of at least `words` words. `words` beyond [`Arena::OBJECT_WORDS_MAX`] is a bug of the caller.
    pub fn alloc(&mut self, words: usize) -> Handle {
        assert!(words <= Self::OBJECT_WORDS_MAX, "an object of {words} words is beyond the largest size class");
        let class = class_of(words);
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, Class::default);
        }
        self.used_words += class_words(class);
        #[cfg(test)]
        self.made.push(class);
        let kept = &mut self.classes[class];
        let number = kept.roomy(class, &self.account);
        let words = kept.chunk_mut(number).words_mut();
        let mut occupancy = Occupancy::of(words[0]);
        let slot = if occupancy.freed == 0 {
            occupancy.fresh += 1;
            occupancy.fresh - 1
        } else {
            let slot = occupancy.freed - 1;
            let first = &mut words[place(class, usize::from(slot)).start];
            let Ok(next) = u16::try_from(std::mem::take(first)) else { unreachable!("a freed slot names a slot") };
            occupancy.freed = next;
            slot
        };
        words[0] = occupancy.word();
        debug_assert!(words[place(class, usize::from(slot))].iter().all(|&word| word == 0), "what is free is zeroes");
        kept.live[number] += 1;
        kept.room -= 1;
        kept.objects += 1;
        kept.most = kept.most.max(kept.objects);
        debug_assert!(kept.live[number] <= occupancy.fresh && occupancy.fresh <= SHAPES[class].1);
        if kept.live[number] == SHAPES[class].1 {
            kept.open.pop();
            kept.roomy -= 1;
        }
        (class as u64) << 48 | (number as u64) << 16 | u64::from(slot + 1)
    }

    /// Gives an object back; none is nothing.
    pub fn free(&mut self, handle: Handle) {
        if handle == 0 {
            return;
        }
        let (class, number, slot) = split(handle);
        self.used_words -= class_words(class);
        let kept = &mut self.classes[class];
        let (live, slots) = (kept.live[number], SHAPES[class].1);
        assert!(live > 0 && live <= slots, "an object is given back once");
        let is_marked = kept.is_marked(number);
        let has_room = u32::from(live < slots && !is_marked);
        kept.live[number] -= 1;
        kept.room += 1;
        kept.objects -= 1;
        if live == 1 && (kept.roomy > has_room || is_marked) {
            kept.roomy -= has_room;
            kept.drop_chunk(class, number);
            return;
        }
        let words = kept.chunk_mut(number).words_mut();
        let mut occupancy = Occupancy::of(words[0]);
        let place = place(class, slot);
        words[place.clone()].fill(0);
        words[place.start] = u64::from(occupancy.freed);
        occupancy.freed = (handle & 0xFFFF) as u16;
        words[0] = occupancy.word();
        if has_room == 0 && !is_marked {
            #[expect(clippy::cast_possible_truncation, reason = "chunk numbers have 32 bits")]
            kept.open.push(number as u32);
            kept.roomy += 1;
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
        let (class, number, slot) = split(handle);
        &self.classes[class].chunk(number).words()[place(class, slot)]
    }

    /// The object's words for writing; empty for none.
    #[inline]
    pub fn get_mut(&mut self, handle: Handle) -> &mut [u64] {
        if handle == 0 {
            return &mut [];
        }
        let (class, number, slot) = split(handle);
        &mut self.classes[class].chunk_mut(number).words_mut()[place(class, slot)]
    }

    /// The same object with room for at least `words`, moved when it must grow; content is kept, new words are zero.
    #[must_use]
    pub fn grow(&mut self, handle: Handle, words: usize) -> Handle {
        if Self::capacity(handle) >= words && handle != 0 {
            return handle;
        }
        let moved = self.alloc(words);
        if handle != 0 {
            let ((from, from_chunk, from_slot), (to, to_chunk, to_slot)) = (split(handle), split(moved));
            // More words than the old object had room for are of a higher class.
            let (lower, higher) = self.classes.split_at_mut(to);
            let old = &lower[from].chunk(from_chunk).words()[place(from, from_slot)];
            higher[0].chunk_mut(to_chunk).words_mut()[place(to, to_slot)][..old.len()].copy_from_slice(old);
            self.free(handle);
        }
        moved
    }

    /// Bytes of chunks that need not be there: their objects fit into free slots of others.
    pub(crate) fn sparse_bytes(&self) -> usize {
        let of_class = |(number, class): (usize, &Class)| class.surplus(number) * chunk_bytes(chunk_words(number));
        self.classes.iter().enumerate().map(of_class).sum()
    }

    /// Marks the sparsest chunks of each class, as many as need not be there: [`Arena::move_out`] empties them.
    pub(crate) fn mark_sparse(&mut self) {
        self.classes.iter_mut().enumerate().for_each(|(number, class)| class.mark_sparse(number));
    }

    /// Ends what [`Arena::mark_sparse`] began.
    pub(crate) fn unmark(&mut self) {
        self.classes.iter_mut().enumerate().for_each(|(number, class)| class.unmark(number));
    }

    /// Whether a chunk is to be emptied.
    pub(crate) fn is_marked(&self) -> bool {
        self.classes.iter().any(|class| !class.leaving.is_empty())
    }

    /// Where the object stands after it left a marked chunk; the same when its chunk is not marked or no other has room.
    pub(crate) fn move_out(&mut self, handle: Handle) -> Handle {
        if handle == 0 {
            return 0;
        }
        let (class, number, slot) = split(handle);
        let kept = &self.classes[class];
        if !kept.is_marked(number) || kept.roomy == 0 {
            return handle;
        }
        let words: smallvec::SmallVec<[u64; 64]> = smallvec::SmallVec::from_slice(&kept.chunk(number).words()[place(class, slot)]);
        let moved = self.alloc(words.len());
        assert!(split(moved).0 == class && !self.classes[class].is_marked(split(moved).1), "an object moves into a chunk that stays");
        self.get_mut(moved).copy_from_slice(&words);
        self.free(handle);
        moved
    }

    /// Bytes in live objects, size-class rounding included.
    pub fn used_bytes(&self) -> usize {
        self.used_words * 8
    }

    /// Objects of a class that need no further chunk.
    pub(crate) fn free_slots(&self, class: usize) -> usize {
        self.classes.get(class).map_or(0, |class| class.room)
    }

    /// The most objects of each class that there were at one time.
    pub(crate) fn most_objects(&self) -> impl Iterator<Item = (usize, usize)> {
        self.classes.iter().enumerate().map(|(number, class)| (number, class.most))
    }

    /// Classes of the objects that there were at one time beyond those of [`Arena::begin`].
    #[cfg(test)]
    pub(crate) fn exceeding(&self, begun: &[usize]) -> Vec<usize> {
        let more = |(number, class): (usize, &Class)| std::iter::repeat_n(number, class.most - begun.get(number).copied().unwrap_or(0));
        self.classes.iter().enumerate().flat_map(more).collect()
    }

    /// Objects by class now; the most at one time is counted from here on.
    #[cfg(test)]
    pub(crate) fn begin(&mut self) -> Vec<usize> {
        self.classes.iter_mut().for_each(|class| class.most = class.objects);
        self.classes.iter().map(|class| class.objects).collect()
    }

    /// Forgets every object; for scratch arenas between reads. One ordinary chunk of each class is kept.
    pub fn clear(&mut self) {
        for (number, class) in self.classes.iter_mut().enumerate() {
            let kept = class.chunks.drain(..).flatten().next().filter(|_| number < SMALL.len());
            *class = Class::default();
            let Some(mut chunk) = kept else { continue };
            let words = chunk.words_mut();
            let occupancy = Occupancy::of(words[0]);
            words[OCCUPANCY_WORDS..place(number, usize::from(occupancy.fresh)).start].fill(0);
            words[0] = Occupancy { fresh: 0, freed: 0, ..occupancy }.word();
            let (chunks, room) = (vec![Some(chunk)], slots(number));
            *class = Class { chunks, live: vec![0], open: vec![0], roomy: 1, room, ..Class::default() };
        }
        self.used_words = 0;
    }

    /// The same objects for reading: what snapshots and fingerprints look at.
    pub(crate) fn freeze(&self) -> Self {
        let frozen = |class: &Class| Class { chunks: chunk::share(&class.chunks), ..Class::default() };
        Self { classes: self.classes.iter().map(frozen).collect(), used_words: self.used_words, ..Self::default() }
    }

    /// The chunks of each class, for snapshots.
    pub(crate) fn classes(&self) -> impl Iterator<Item = &[Option<Chunk>]> {
        self.classes.iter().map(|class| &class.chunks[..])
    }

    /// The chunks of each class, for who drops them.
    pub(crate) fn into_chunks(self) -> impl Iterator<Item = Vec<Option<Chunk>>> {
        self.classes.into_iter().map(|class| class.chunks)
    }

    /// Chunks of all classes.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.classes.iter().flat_map(|class| class.chunks.iter().flatten())
    }

    /// An arena as a snapshot described it: chunks by class.
    ///
    /// # Errors
    /// What contradicts itself.
    pub(crate) fn from_classes(account: &Account, classes: Vec<Vec<Option<Chunk>>>) -> Result<Self, String> {
        if classes.len() > CLASSES {
            return Err(format!("arena class {} does not exist", classes.len() - 1));
        }
        let mut arena = Self::new(account);
        for (number, chunks) in classes.into_iter().enumerate() {
            let class = Class::restored(number, chunks)?;
            arena.used_words += class.live.iter().map(|&live| usize::from(live)).sum::<usize>() * class_words(number);
            arena.classes.push(class);
        }
        Ok(arena)
    }
}

impl Class {
    fn restored(class: usize, chunks: Vec<Option<Chunk>>) -> Result<Self, String> {
        let mut restored = Self { chunks, ..Self::default() };
        for (number, chunk) in (0u32..).zip(&restored.chunks) {
            let live = chunk.as_ref().map_or(Ok(0), |chunk| live_slots(class, chunk.words()));
            let live = live.map_err(|reason| format!("chunk {number} of arena class {class}: {reason}"))?;
            restored.live.push(live);
            restored.objects += usize::from(live);
            restored.room += chunk.as_ref().map_or(0, |_| slots(class) - usize::from(live));
            if chunk.is_none() {
                restored.vacant.push(number);
            } else if live < SHAPES[class].1 {
                restored.open.push(number);
                restored.roomy += 1;
            }
        }
        restored.most = restored.objects;
        Ok(restored)
    }
}

/// Counts the live slots of a chunk by following its freed ones.
fn live_slots(class: usize, words: &[u64]) -> Result<u16, String> {
    if words.len() != chunk_words(class) {
        return Err(format!("it has {} words instead of {}", words.len(), chunk_words(class)));
    }
    let occupancy = Occupancy::of(words[0]);
    if usize::from(occupancy.class) != class || occupancy.word() != words[0] || occupancy.fresh > SHAPES[class].1 {
        return Err(format!("its first word says {occupancy:?}"));
    }
    let (mut live, mut freed) = (occupancy.fresh, occupancy.freed);
    while freed != 0 {
        if freed > occupancy.fresh || live == 0 {
            return Err("its freed slots go round or beyond those handed out".into());
        }
        live -= 1;
        let next = words[place(class, usize::from(freed) - 1).start];
        freed = u16::try_from(next).map_err(|_| "a freed slot names none".to_owned())?;
    }
    Ok(live)
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
        let frozen = arena.freeze();
        arena.get_mut(handle)[0] = 2;
        assert_eq!((frozen.get(handle)[0], arena.get(handle)[0]), (1, 2));
    }
}
