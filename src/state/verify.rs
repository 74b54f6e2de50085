//! Whether the words of an image are those of a state.
//!
//! Checksums say that a file's bytes are what somebody wrote, not that it was this program. Apply, reads,
//! fingerprints and snapshots follow handles and counts without looking twice; here, once, where a snapshot comes
//! in, everything that they rely on is looked at: every handle leads to an object of its own slab, every object has
//! one owner, heads count no more than their objects hold, times ascend, what is free is zeroes, and each
//! accumulator judges its own slots. What is refused here is damage (`snapshot_damaged`), said with table, slab and
//! row.
//!
//! Called by `image.rs` on the start-up thread, once per snapshot; the cost is one pass over all words and one bit
//! per object that is there. Frames are looked at in `accepts.rs`. What a value *is* cannot be judged: a wrong sum is a sum.

use super::accumulator::holds_bytes;
use super::arena::{self, Arena, Handle};
use super::chunk::Chunk;
use super::form::Form;
use super::head::Head;
use super::keys::Keys;
use super::list;
use super::plan::{AccumulatorPlan, SlabPlan, SlotRef, WindowPlan};
use super::ring;
use super::slab::Slab;

/// Objects of an arena that no handle has led to yet.
pub(super) struct Unclaimed {
    classes: Vec<Slots>,
    left: usize,
}

/// The slots of one class.
#[derive(Default)]
struct Slots {
    /// By chunk, how many chunks that are there come before it; none for one that is not. Bits of chunks that
    /// are not there would be the most of a sparse arena.
    chunks: Vec<Option<u32>>,
    /// A bit per slot of these.
    bits: Vec<u64>,
}

impl Slots {
    fn of(class: usize, chunks: &[Option<Chunk>]) -> Self {
        let mut there = 0;
        let mut number = |chunk: &Option<Chunk>| {
            chunk.as_ref().map(|_| {
                there += 1;
                there - 1
            })
        };
        let chunks = chunks.iter().map(&mut number).collect();
        Self { chunks, bits: vec![0; (there as usize * arena::slots(class)).div_ceil(64)] }
    }

    /// The word of a slot's bit, and the bit in it.
    fn bit(&mut self, class: usize, chunk: usize, slot: usize) -> Option<(&mut u64, usize)> {
        let at = (*self.chunks.get(chunk)?)? as usize * arena::slots(class) + slot;
        Some((self.bits.get_mut(at / 64)?, at % 64))
    }
}

impl Unclaimed {
    /// Every object. What the arena has free must be zeroes, since objects are made of it as it is.
    pub(super) fn of(arena: &Arena) -> Result<Self, String> {
        let (mut classes, mut left) = (Vec::new(), 0);
        for (class, chunks) in arena.classes().enumerate() {
            let mut slots = Slots::of(class, chunks);
            for (number, chunk) in chunks.iter().enumerate() {
                let Some(chunk) = chunk else { continue };
                let mut flip = |slot: usize, taken: bool| {
                    let Some((word, bit)) = slots.bit(class, number, slot) else { unreachable!("a chunk that is there has bits") };
                    assert!((*word >> bit & 1 == 1) != taken, "a sound chunk has each slot free once");
                    *word ^= 1 << bit;
                };
                (0..arena::slots(class)).for_each(|slot| flip(slot, true));
                left += arena::slots(class);
                for (slot, free) in arena::unused_slots(class, chunk.words()) {
                    if free.iter().any(|&word| word != 0) {
                        return Err(format!("slot {slot} of chunk {number} of arena class {class} is free and not empty"));
                    }
                    flip(slot, false);
                    left -= 1;
                }
            }
            classes.push(slots);
        }
        Ok(Self { classes, left })
    }

    /// The object of a handle, for its one owner; none is an empty one.
    pub(super) fn claim<'a>(&mut self, arena: &'a Arena, handle: Handle) -> Result<&'a [u64], String> {
        if handle == 0 {
            return Ok(&[]);
        }
        let word = arena::checked(handle).and_then(|(class, chunk, slot)| self.classes.get_mut(class)?.bit(class, chunk, slot));
        match word {
            Some((word, bit)) if *word >> bit & 1 == 1 => {
                *word &= !(1 << bit);
                self.left -= 1;
                Ok(arena.get(handle))
            }
            _ => Err(format!("handle {handle:x} leads to no object, or to that of another")),
        }
    }

    /// Every object has an owner.
    pub(super) fn all_claimed(&self) -> Result<(), String> {
        if self.left == 0 { Ok(()) } else { Err(format!("{} objects have no owner", self.left)) }
    }
}

/// Whether a restored slab's words and objects are those of the rows that have keys.
pub(super) fn slab(slab: &Slab, keys: &Keys) -> Result<(), String> {
    let (plan, rows) = (&*slab.plan, keys.rows());
    let chunks = slab.words.chunks();
    if chunks.len() > slab.words.chunks_of(rows) {
        return Err(format!("{} chunks of words for {rows} rows", chunks.len()));
    }
    let mut row = Row { plan, arena: &slab.arena, objects: Unclaimed::of(&slab.arena)? };
    if plan.stride > 0 {
        for (number, _) in (0u64..).zip(chunks).filter(|(_, chunk)| chunk.is_some()) {
            let first = number * slab.words.rows_per_chunk();
            for number in first..first + slab.words.rows_per_chunk() {
                let Ok(number) = u32::try_from(number) else { break };
                let Some(words) = slab.words.row(number) else { unreachable!("a row of a chunk that is there") };
                if words.iter().all(|&word| word == 0) {
                    continue;
                }
                if number >= rows || keys.is_free(number) {
                    return Err(format!("row {number} has words and no key"));
                }
                row.verify(words).map_err(|reason| format!("row {number}: {reason}"))?;
            }
        }
    }
    row.objects.all_claimed()
}

/// What a row is held against.
struct Row<'s> {
    plan: &'s SlabPlan,
    arena: &'s Arena,
    objects: Unclaimed,
}

impl Row<'_> {
    fn verify(&mut self, words: &[u64]) -> Result<(), String> {
        let plan = self.plan;
        if plan.is_windowed() {
            let form = Form::of(words[0]);
            if form != Form::Rings && plan.windows.iter().any(|window| words[window.at] != 0) {
                return Err("it has rings and says that it has none".into());
            }
            match form {
                Form::List(handle) => self.list(handle).map_err(|reason| format!("list: {reason}"))?,
                Form::Rings => {
                    for (number, window) in plan.windows.iter().enumerate() {
                        self.ring(window, words[window.at]).map_err(|reason| format!("ring of {} us: {reason}", window.window_us))?;
                        self.agree_in_ring(number, words[window.at])?;
                    }
                }
                Form::Expired(_) if form.word() != words[0] => return Err(format!("{:x} is no edge of what has expired", words[0])),
                Form::Expired(_) => {}
            }
        }
        for accumulator in &plan.lifetime {
            self.slot(accumulator, &words[accumulator.at..accumulator.at + accumulator.words])?;
        }
        for feature in &plan.features {
            let slots: smallvec::SmallVec<[&[u64]; 2]> = feature
                .slots
                .iter()
                .filter_map(|slot| match *slot {
                    SlotRef::Lifetime(index) => Some(&words[plan.lifetime[index].at..plan.lifetime[index].at + plan.lifetime[index].words]),
                    SlotRef::Windowed { .. } => None,
                })
                .collect();
            if slots.len() == feature.slots.len() && !feature.def.op.agree(&slots) {
                return Err(format!("the slots of {} contradict each other", feature.def.name));
            }
        }
        Ok(())
    }

    fn list(&mut self, handle: Handle) -> Result<(), String> {
        let plan = self.plan;
        let object = self.objects.claim(self.arena, handle)?;
        if object.is_empty() {
            return Ok(());
        }
        let count = Head::of(object).count();
        // Whatever room the plan has for entries: a list that had more room before features left is cut when it grows.
        if 1 + count * plan.entry_words > object.len() {
            return Err(format!("{count} entries in an object of {} words", object.len()));
        }
        let mut before = i64::MIN;
        for index in 0..count {
            let entry = &object[list::entry(plan, object, index)];
            if entry[0].cast_signed() < before {
                return Err(format!("entry {index} is earlier than the one before it"));
            }
            before = entry[0].cast_signed();
            for cell in 0..plan.listed.len() {
                let tag = list::tag_of(plan, entry, cell);
                if !list::is_tag(tag) {
                    return Err(format!("entry {index} has a cell of no type"));
                }
                if list::in_heap(tag) && !holds_bytes(self.objects.claim(self.arena, entry[list::cell_at(plan, cell)])?) {
                    return Err(format!("a text of entry {index} is longer than its object"));
                }
            }
        }
        Ok(())
    }

    fn ring(&mut self, window: &WindowPlan, handle: Handle) -> Result<(), String> {
        let object = self.objects.claim(self.arena, handle)?;
        if object.is_empty() {
            return Ok(());
        }
        let (count, edge_us) = (Head::of(object).count(), Head::of(object).edge_us());
        if count > window.buckets || ring::HEAD_WORDS + count * window.stride > object.len() {
            return Err(format!("{count} buckets in an object of {} words", object.len()));
        }
        if !ring::refused_in_order(object) {
            return Err("rows were refused that came before the first of them".into());
        }
        let mut before = None;
        for index in 0..count {
            let epoch = ring::epoch_of(window, ring::newest_at(window, object, index));
            if before.is_some_and(|before| epoch <= before) {
                return Err(format!("bucket {index} is not later than the one before it"));
            }
            if ring::is_ahead(window, epoch, edge_us) {
                return Err(format!("bucket {index} is further beyond the key's edge than a ring reaches"));
            }
            before = Some(epoch);
            for (number, accumulator) in window.accumulators.iter().enumerate() {
                self.slot(accumulator, ring::slot(window, number, object, index))?;
            }
        }
        Ok(())
    }

    fn agree_in_ring(&self, window: usize, handle: Handle) -> Result<(), String> {
        let (plan, object) = (&self.plan.windows[window], self.arena.get(handle));
        for feature in self.plan.features.iter().filter(|feature| feature.slots.len() > 1) {
            for index in 0..ring::len(object) {
                let slots: smallvec::SmallVec<[&[u64]; 2]> = feature
                    .slots
                    .iter()
                    .filter_map(|slot| match *slot {
                        SlotRef::Windowed { window: of, accumulator } if of == window => Some(ring::slot(plan, accumulator, object, index)),
                        _ => None,
                    })
                    .collect();
                if slots.len() == feature.slots.len() && !feature.def.op.agree(&slots) {
                    return Err(format!("the slots of {} contradict each other", feature.def.name));
                }
            }
        }
        Ok(())
    }

    fn slot(&mut self, plan: &AccumulatorPlan, slot: &[u64]) -> Result<(), String> {
        if plan.idle && slot.iter().any(|&word| word != 0) {
            return Err(format!("{} takes no rows and has words", plan.accumulator.identity()));
        }
        for &word in plan.accumulator.handles() {
            self.objects.claim(self.arena, slot[word])?;
        }
        plan.accumulator.verify(slot, self.arena).map_err(|reason| format!("{}: {reason}", plan.accumulator.identity()))
    }
}
