//! A slab: the features that one registration added to a table: their words, under the table's row
//! numbers, and an arena for what does not fit. Nothing outside of a slab holds a handle into its
//! arena, so a slab goes or moves as a whole.

use super::account::Account;
use super::arena::Arena;
use super::chunk::Chunk;
use super::expiry;
use super::form::Form;
use super::head::Head;
use super::list::{self, Inserted};
use super::plan::{FeaturePlan, SlabPlan, SlabRow, SlotRef};
use super::ring::{self, Cut, Kept};
use super::table::GROUP;
use super::unseen::Unseen;
use super::words::Words;
use crate::operators::{Edge, Part, Slot};
use crate::pipeline::{FeatureDef, TableDef};
use std::sync::Arc;

/// Features, their words and their objects.
#[derive(Debug)]
pub(crate) struct Slab {
    pub(crate) plan: Arc<SlabPlan>,
    pub(crate) words: Words,
    pub(crate) arena: Arena,
    /// How far rows had come when it began; none where there were none.
    pub(crate) unseen: Option<Unseen>,
    /// By window of the plan; of this process, not part of the state.
    pub(crate) missed: Vec<Missed>,
}

/// Rows that one window did not take.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Missed {
    /// Too old by their key's edge.
    pub late: u64,
    /// Too far ahead of their key's edge.
    pub ahead: u64,
}

impl Slab {
    /// A slab without rows.
    pub(crate) fn new(plan: Arc<SlabPlan>, account: &Account) -> Self {
        assert_eq!(plan.oversized_ring(), None, "registration refuses a ring beyond the largest object");
        let words = Words::new(plan.stride, account);
        let missed = vec![Missed::default(); plan.windows.len()];
        Self { plan, words, arena: Arena::new(account), unseen: None, missed }
    }

    /// The same words and objects for reading: what snapshots and fingerprints look at.
    pub(crate) fn freeze(&self) -> Self {
        let (plan, missed) = (Arc::clone(&self.plan), self.missed.clone());
        Self { plan, words: self.words.clone(), arena: self.arena.freeze(), unseen: self.unseen, missed }
    }

    /// Every chunk of words and objects.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        self.words.chunks().iter().flatten().chain(self.arena.chunks())
    }

    /// Reads through the features of another declaration, which compute the same though the chain may number its columns otherwise.
    pub(crate) fn adopt(&mut self, def: &TableDef) {
        let features: Vec<Arc<FeatureDef>> =
            self.plan.features.iter().map(|feature| def.feature(&feature.def.name).unwrap_or(&feature.def).clone()).collect();
        if features.iter().zip(&self.plan.features).any(|(now, before)| **now != *before.def) {
            let plan = SlabPlan::compile(&features);
            assert!(plan.has_layout_of(&self.plan), "features of {} compile to another layout", def.name);
            self.plan = Arc::new(plan);
        }
    }

    /// Feeds one row; false when one of its windows did not take it.
    #[inline]
    pub(crate) fn update(&mut self, number: u32, row: SlabRow<'_, '_>) -> bool {
        let Self { plan, words, arena, missed, .. } = self;
        let plan = &**plan;
        if plan.stride == 0 {
            return true;
        }
        let words = words.row_mut(number);
        for accumulator in &plan.lifetime {
            accumulator.update(&mut words[accumulator.at..accumulator.at + accumulator.words], arena, row);
        }
        !plan.is_windowed() || update_windows(plan, arena, words, row, missed)
    }

    /// Whether a row's key has rings.
    #[cfg(test)]
    pub(crate) fn is_grown(&self, number: u32) -> bool {
        self.plan.is_windowed() && self.words.row(number).is_some_and(|words| Form::of(words[0]) == Form::Rings)
    }

    /// Turns a list into rings though it has room left.
    #[cfg(test)]
    pub(crate) fn grow_early(&mut self, number: u32) {
        if self.plan.is_windowed() && !self.is_grown(number) {
            grow(&self.plan, &mut self.arena, self.words.row_mut(number), i64::MIN, &mut self.missed);
        }
    }

    /// Reads what the updates of a group's rows will touch, level by level: the rows, then the heads of the lists and rings that they lead to, then the newest
    /// entries and buckets. Within a level no read waits for another, so that the processor has many misses under way at once.
    #[inline]
    pub(crate) fn touch(&self, group: &[(usize, u32)]) -> u64 {
        let (plan, arena) = (&*self.plan, &self.arena);
        let mut rows: smallvec::SmallVec<[&[u64]; GROUP]> = smallvec::SmallVec::new();
        let mut seen = 0;
        for (_, number) in group {
            if let Some(words @ [first, ..]) = self.words.row(*number) {
                seen ^= first;
                rows.push(words);
            }
        }
        if !plan.is_windowed() {
            return seen;
        }
        let mut objects: smallvec::SmallVec<[(&[u64], usize, usize); 4 * GROUP]> = smallvec::SmallVec::new();
        for words in rows {
            match Form::of(words[0]) {
                Form::List(handle) => objects.push((arena.get(handle), 1, plan.entry_words)),
                Form::Rings => {
                    for window in &plan.windows {
                        objects.push((arena.get(words[window.at]), ring::HEAD_WORDS, window.stride));
                    }
                }
                Form::Expired(_) => {}
            }
        }
        for (object, ..) in &objects {
            seen ^= object.first().copied().unwrap_or(0);
        }
        for (object, head, stride) in objects {
            seen ^= object.get((ring::len(object) * stride + head).saturating_sub(stride)).copied().unwrap_or(0);
        }
        seen
    }

    /// What giving back a row's list or rings takes, in words, when all that is in them has expired by this time; none
    /// when it has not.
    pub(crate) fn expired_weight(&self, row: u32, now_us: i64) -> Option<usize> {
        if !self.plan.is_windowed() {
            return None;
        }
        let words = self.words.row(row)?;
        let expired = expiry::expired(&self.plan, &self.arena, words, now_us).is_some();
        expired.then(|| expiry::weight(&self.plan, &self.arena, words))
    }

    /// Gives a row's list or rings back when all that is in them has expired by this time.
    pub(crate) fn give_back(&mut self, row: u32, now_us: i64) {
        if !self.plan.is_windowed() {
            return;
        }
        // Looked at first: a chunk is copied for writing while a frozen state holds it.
        let expires = self.words.row(row).is_some_and(|words| expiry::expired(&self.plan, &self.arena, words, now_us).is_some());
        if expires {
            expiry::give_back(&self.plan, &mut self.arena, self.words.row_mut(row), now_us);
        }
    }

    /// Forgets a row.
    pub(crate) fn clear(&mut self, row: u32) {
        let Self { plan, words, arena, .. } = self;
        let plan = &**plan;
        if words.row(row).is_none() || plan.stride == 0 {
            return;
        }
        let words = words.row_mut(row);
        if plan.is_windowed() {
            expiry::release(plan, arena, words);
        }
        for accumulator in &plan.lifetime {
            accumulator.accumulator.release(&mut words[accumulator.at..accumulator.at + accumulator.words], arena);
        }
        words.fill(0);
    }

    /// The earliest time at which all rows that these features would have seen are still here, and
    /// none that came after it is counted; none when any time will do. Lifetime features answer for
    /// now only: `lifetime_us`.
    pub(crate) fn earliest_us(&self, row: u32, features: &[usize], lifetime_us: i64) -> Option<i64> {
        let (plan, arena) = (&*self.plan, &self.arena);
        let words = self.words.row(row)?;
        let slots = features.iter().flat_map(|&feature| &plan.features[feature].slots);
        slots
            .filter_map(|slot| match *slot {
                SlotRef::Lifetime(index) => (!plan.lifetime[index].idle).then_some(lifetime_us),
                SlotRef::Windowed { window, .. } => {
                    let window = &plan.windows[window];
                    let (head, keep_us) = match Form::of(words[0]) {
                        Form::List(handle) => (Head::of(arena.get(handle)), plan.keep_us),
                        Form::Rings => (Head::of(arena.get(words[window.at])), window.keep_us),
                        Form::Expired(head) => (head, plan.keep_us),
                    };
                    head.dropped().then(|| head.edge_us().saturating_sub(keep_us).saturating_add(window.window_us))
                }
            })
            .chain(self.unseen.filter(|_| !features.is_empty()).map(|unseen| unseen.newest_us))
            .max()
    }

    /// Whether rows that came before this slab began may be in what a feature answers at a time.
    pub(crate) fn lacks_earlier_rows(&self, feature: usize, now_us: i64) -> bool {
        self.unseen.is_some_and(|unseen| unseen.may_be_in(self.plan.features[feature].def.window_us, now_us))
    }

    /// Reads features (indices into the plan) of one row at a time: `each` makes of a feature's
    /// slots what the reader wants to know.
    pub(crate) fn read<R>(
        &self,
        row: u32,
        features: &[usize],
        now_us: i64,
        scratch: &mut Arena,
        each: impl Fn(&FeaturePlan, &[Slot<'_>]) -> R,
    ) -> Vec<R> {
        let (plan, arena) = (&*self.plan, &self.arena);
        let zeroes = vec![0u64; plan.stride];
        let words = self.words.row(row).unwrap_or(&zeroes);
        let mut wanted = Wanted::new(plan, features);
        scratch.clear();
        wanted.fill(plan, arena, words, now_us, scratch);
        let slot = |slot: &SlotRef| match *slot {
            SlotRef::Lifetime(index) => {
                let at = &plan.lifetime[index];
                Slot::whole(&words[at.at..at.at + at.words], arena)
            }
            SlotRef::Windowed { window, accumulator } => wanted.slot(plan, arena, words, scratch, window, accumulator),
        };
        features
            .iter()
            .map(|&feature| {
                let feature = &plan.features[feature];
                let slots: smallvec::SmallVec<[Slot<'_>; 2]> = feature.slots.iter().map(slot).collect();
                each(feature, &slots)
            })
            .collect()
    }

    /// Feeds every byte of the row that matters into a hash.
    pub(crate) fn digest(&self, row: u32, feed: &mut dyn FnMut(&[u64])) {
        let (plan, arena) = (&*self.plan, &self.arena);
        let zeroes = vec![0u64; plan.stride];
        let words = self.words.row(row).unwrap_or(&zeroes);
        if let Some(Unseen { newest_us, latest_us }) = self.unseen {
            feed(&[newest_us.cast_unsigned(), latest_us.cast_unsigned()]);
        }
        if plan.is_windowed() {
            match Form::of(words[0]) {
                Form::List(handle) => list::digest(plan, arena, handle, feed),
                Form::Rings => {
                    feed(&words[..1]);
                    for window in &plan.windows {
                        ring::digest(window, arena, words[window.at], feed);
                    }
                }
                Form::Expired(_) => feed(&words[..1]),
            }
        }
        for accumulator in &plan.lifetime {
            ring::digest_slot(accumulator, &words[accumulator.at..accumulator.at + accumulator.words], arena, feed);
        }
    }
}

pub(crate) fn update_windows(plan: &SlabPlan, arena: &mut Arena, words: &mut [u64], row: SlabRow<'_, '_>, missed: &mut [Missed]) -> bool {
    if expiry::may_expire(plan, arena, words, row.edge_us) {
        expiry::give_back(plan, arena, words, row.edge_us);
    }
    if Form::of(words[0]) != Form::Rings {
        match list::insert(plan, arena, &mut words[0], row) {
            Inserted::Taken { age_us } | Inserted::Late { age_us } => return count_late(plan, age_us, missed),
            Inserted::Full => grow(plan, arena, words, row.edge_us, missed),
        }
    }
    let mut taken = true;
    for (window, missed) in plan.windows.iter().zip(missed) {
        match ring::update(window, arena, &mut words[window.at], row) {
            Kept::Taken => continue,
            Kept::Late => missed.late += 1,
            Kept::Ahead => missed.ahead += 1,
        }
        taken = false;
    }
    taken
}

/// Counts a row of this age for the windows that it is too old for; false when there are any.
#[inline]
fn count_late(plan: &SlabPlan, age_us: i64, missed: &mut [Missed]) -> bool {
    let mut in_time = true;
    for (window, missed) in plan.windows.iter().zip(missed) {
        if age_us >= window.window_us {
            missed.late += 1;
            in_time = false;
        }
    }
    in_time
}

/// Turns the list into rings by feeding its rows in time order, all under the edge that the key has reached with
/// the row that did not fit. The list's inputs borrow the arena that rings grow in, so it is lifted out first.
fn grow(plan: &SlabPlan, arena: &mut Arena, words: &mut [u64], edge_us: i64, missed: &mut [Missed]) {
    let head = expiry::head(plan, arena, words).with_edge(edge_us);
    let list = match Form::of(words[0]) {
        Form::List(handle) => handle,
        Form::Expired(_) => 0,
        Form::Rings => unreachable!("a key with rings has grown"),
    };
    let mut lifted = Arena::default();
    let moved = list::lift(plan, arena, list, &mut lifted);
    let mut handles: smallvec::SmallVec<[u64; 4]> = plan.windows.iter().map(|_| ring::open(arena, head)).collect();
    list::visit(plan, &lifted, moved, |row| {
        for ((window, handle), missed) in plan.windows.iter().zip(&mut handles).zip(&mut *missed) {
            // A row that is too old for a short window was counted as late when it came or has had
            // its time.
            if ring::update(window, arena, handle, row) == Kept::Ahead {
                missed.ahead += 1;
            }
        }
    });
    for (window, handle) in plan.windows.iter().zip(handles) {
        words[window.at] = handle;
    }
    list::release(plan, arena, list);
    words[0] = Form::Rings.word();
}

/// The windowed accumulators that a read needs, each once.
struct Wanted {
    places: smallvec::SmallVec<[Place; 16]>,
    /// Where each window cuts its ring; none while the entity is a list.
    cuts: smallvec::SmallVec<[Option<Cut>; 8]>,
    /// The slots, one after the other.
    slots: Vec<u64>,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
struct Place {
    window: usize,
    accumulator: usize,
    /// First word of its slot.
    at: usize,
    words: usize,
}

impl Wanted {
    fn new(plan: &SlabPlan, features: &[usize]) -> Self {
        let cuts = smallvec::smallvec![None; plan.windows.len()];
        let mut wanted = Self { places: smallvec::SmallVec::new(), cuts, slots: Vec::new() };
        let mut at = 0;
        for &feature in features {
            for slot in &plan.features[feature].slots {
                if let SlotRef::Windowed { window, accumulator } = *slot
                    && !wanted.places.iter().any(|place| (place.window, place.accumulator) == (window, accumulator))
                {
                    let words = plan.windows[window].accumulators[accumulator].words;
                    wanted.places.push(Place { window, accumulator, at, words });
                    at += words;
                }
            }
        }
        wanted.slots = vec![0; at];
        wanted
    }

    /// Merges what is surely inside each window.
    fn fill(&mut self, plan: &SlabPlan, arena: &Arena, words: &[u64], now_us: i64, scratch: &mut Arena) {
        let Self { places, cuts, slots } = self;
        if places.is_empty() {
            return;
        }
        if Form::of(words[0]) == Form::Rings {
            for &Place { window, accumulator, at, words: len } in places.iter() {
                let plan = &plan.windows[window];
                let object = arena.get(words[plan.at]);
                let cut = cuts[window].get_or_insert_with(|| ring::cut(plan, object, now_us));
                ring::merge(plan, accumulator, arena, object, cut.core.clone(), &mut slots[at..at + len], scratch);
            }
        } else if let Form::List(handle) = Form::of(words[0]) {
            list::visit(plan, arena, handle, |row| {
                let age = now_us.saturating_sub(row.bare.time_us);
                for &Place { window, accumulator, at, words } in places.iter() {
                    let window = &plan.windows[window];
                    if age < 0 || age >= window.window_us {
                        continue;
                    }
                    window.accumulators[accumulator].update(&mut slots[at..at + words], scratch, row);
                }
            });
        }
    }

    /// One of the slots, with the buckets that its window cuts: those are read where they are.
    fn slot<'s>(
        &'s self,
        plan: &SlabPlan,
        arena: &'s Arena,
        words: &[u64],
        scratch: &'s Arena,
        window: usize,
        accumulator: usize,
    ) -> Slot<'s> {
        let place = self.places.iter().find(|place| (place.window, place.accumulator) == (window, accumulator));
        let Some(&Place { at, words: len, .. }) = place else { unreachable!("every slot of a feature that is read was asked for") };
        let core = Slot::whole(&self.slots[at..at + len], scratch);
        let Some(cut) = &self.cuts[window] else { return core };
        let plan = &plan.windows[window];
        let object = arena.get(words[plan.at]);
        let edge = |(index, share)| Edge { part: Part { words: ring::slot(plan, accumulator, object, index), arena }, share };
        Slot { before: cut.before.map(edge), after: cut.after.map(edge), bucketed: true, lacks_rows: cut.lacks_rows, ..core }
    }
}
