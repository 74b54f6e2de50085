//! A slab: the features that one registration added to a table: their words, under the table's row
//! numbers, and an arena for what does not fit. Nothing outside of a slab holds a handle into its
//! arena, so a slab goes or moves as a whole. While features leave it, rows whose turn has not come stand in the layout of
//! a larger plan ([`Older`]); nobody who asks the slab for a row sees that.

use super::account::Account;
use super::arena::Arena;
use super::chunk::Chunk;
use super::demand::{Demand, Tally};
use super::expiry;
use super::form::Form;
use super::head::Head;
use super::list::{self, Inserted};
use super::older::{Older, Passed};
use super::plan::{FeaturePlan, SlabPlan, SlabRow, SlotRef, WindowPlan};
use super::retire::{Moves, RowWords};
use super::ring::{self, Cut, Kept};
use super::shedding::Gone;
use super::table::GROUP;
use super::unseen::Unseen;
use super::walk::Walk;
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
    /// Work of rows that hung on what their keys held, in words, since somebody asked; not part of the state.
    pub(super) worked: usize,
    /// Rows in the layout of a larger plan, while features leave.
    pub(super) older: Option<Box<Older>>,
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
        Self { plan, words, arena: Arena::new(account), unseen: None, missed, worked: 0, older: None }
    }

    /// The same words and objects for reading: what snapshots and fingerprints look at.
    pub(crate) fn freeze(&self) -> Self {
        let (plan, missed) = (Arc::clone(&self.plan), self.missed.clone());
        let (words, older) = (self.words.clone(), self.older.clone());
        Self { plan, words, arena: self.arena.freeze(), unseen: self.unseen, missed, worked: 0, older }
    }

    /// Every chunk of words and objects.
    pub(crate) fn chunks(&self) -> impl Iterator<Item = &Chunk> {
        let older = self.older.iter().flat_map(|older| older.chunks());
        self.words.chunks().iter().flatten().chain(older).chain(self.arena.chunks())
    }

    /// What it consists of, for who drops it.
    pub(super) fn into_chunks(self) -> impl Iterator<Item = Vec<Option<Chunk>>> {
        let older = self.older.into_iter().flat_map(|older| older.into_chunks());
        older.chain([self.words.into_chunks()]).chain(self.arena.into_chunks())
    }

    /// Takes a smaller plan: features that it does not have are gone. Of the first `rows` rows that have something nothing
    /// is moved yet. `gone` says which they are.
    pub(super) fn retire(&mut self, plan: Arc<SlabPlan>, rows: u32, gone: Gone, account: &Account) {
        assert!(self.older.is_none(), "features leave a slab when those that left before are gone");
        let moves = Moves::between(&self.plan, &plan);
        self.missed = moves.missed(&self.missed);
        if !moves.are_none() {
            let words = std::mem::replace(&mut self.words, Words::new(plan.stride, account));
            self.older = Some(Box::new(Older::of(moves, words, rows, gone, account)));
        }
        self.plan = plan;
    }

    /// Whether rows stand in the layout of a larger plan.
    pub(super) fn is_shedding(&self) -> bool {
        self.older.is_some()
    }

    /// Brings the next row out of the larger plan's layout; `within` as in [`Older::pass`].
    pub(super) fn shed(&mut self, within: Option<&Account>) -> Passed {
        let Some(older) = &mut self.older else { return Passed::Over };
        let passed = older.pass(&self.plan, &mut self.words, &mut self.arena, within);
        if passed == Passed::Over
            && let Some(older) = self.older.take()
        {
            older.chunks().for_each(Chunk::leave);
        }
        passed
    }

    /// A row's words as the plan lays them out; none when nothing was ever written near it, or while they stand in the
    /// layout of a larger plan.
    #[inline]
    pub(super) fn settled(&self, row: u32) -> Option<&[u64]> {
        match &self.older {
            Some(older) if older.holds(row) => older.settled(row, self.plan.stride),
            _ => self.words.row(row),
        }
    }

    /// A row that stands in the layout of a larger plan, as it will be: a copy, with an arena of its own.
    pub(super) fn copied(&self, row: u32) -> Option<(RowWords, Arena)> {
        self.older.as_ref()?.copy(row, &self.arena)
    }

    /// The objects that a change of a row makes only because it stands in the layout of a larger plan.
    pub(super) fn demand_of_shedding(&self, row: u32, demand: &mut Demand) {
        if let Some(older) = &self.older {
            older.demand(row, &self.arena, demand);
        }
    }

    /// The chunks of words that a change of a row makes, and their bytes.
    pub(super) fn lacking(&self, row: u32) -> smallvec::SmallVec<[(usize, usize); 2]> {
        match &self.older {
            Some(older) if older.holds(row) => older.lacking(row).collect(),
            _ => self.words.lacking(row).into_iter().collect(),
        }
    }

    /// At least as many bytes of chunks of words as changing so many rows makes, whichever of the first `known` they are, or
    /// further ones; and words of objects that it makes only because they stand in the layout of a larger plan.
    pub(super) fn lacking_most(&self, known: u32, rows: usize) -> (usize, usize) {
        let Some(older) = &self.older else { return (self.words.lacking_most(known, rows), 0) };
        let here = older.rows();
        let words = self.words.lacking_within(0..here.start, rows) + self.words.lacking_within(here.end..known.max(here.end), rows);
        (words + older.lacking_most(rows), older.demand_words_most(rows))
    }

    /// Bytes of chunks that [`Slab::move_row`] may make.
    pub(super) fn lacking_to_move(&self, from: u32, to: u32) -> usize {
        let words = |row| self.lacking(row).iter().map(|(_, bytes)| bytes).sum::<usize>();
        if self.older.is_none() {
            return words(to);
        }
        let mut demand = Demand::default();
        self.demand_of_shedding(from, &mut demand);
        words(from) + words(to) + Tally::default().cost(&self.arena, &demand)
    }

    /// Moves a row's words to a row number that has none.
    pub(super) fn move_row(&mut self, from: u32, to: u32) {
        if self.older.is_none() {
            return self.words.move_row(from, to);
        }
        if self.settled(from).is_some_and(|words| words.iter().all(|&word| word == 0)) {
            return;
        }
        let Self { plan, words, arena, worked, older, .. } = self;
        let place = place_mut(older, words, arena, plan.stride, from, worked);
        let moved = RowWords::from_slice(place);
        place.fill(0);
        if moved.iter().any(|&word| word != 0) {
            let place = place_mut(older, words, arena, plan.stride, to, worked);
            debug_assert!(place.iter().all(|&word| word == 0), "row {to} is free");
            place.copy_from_slice(&moved);
        }
    }

    /// Drops what there is of row numbers from here on, which have no keys.
    pub(super) fn truncate(&mut self, rows: u32) {
        self.words.truncate(rows);
        if let Some(older) = &mut self.older {
            older.truncate(rows);
        }
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
        let Self { plan, words, arena, missed, worked, older, .. } = self;
        let plan = &**plan;
        if plan.stride == 0 {
            return true;
        }
        let words = place_mut(older, words, arena, plan.stride, number, worked);
        for accumulator in &plan.lifetime {
            accumulator.update(&mut words[accumulator.at..accumulator.at + accumulator.words], arena, row);
        }
        !plan.is_windowed() || update_windows(plan, arena, words, row, (missed, worked))
    }

    /// Whether a row's key has rings.
    #[cfg(test)]
    pub(crate) fn is_grown(&self, number: u32) -> bool {
        let copied = self.copied(number);
        let words = copied.as_ref().map(|copied| &copied.0[..]).or_else(|| self.settled(number));
        self.plan.is_windowed() && words.is_some_and(|words| Form::of(words[0]) == Form::Rings)
    }

    /// Turns a list into rings though it has room left.
    #[cfg(test)]
    pub(crate) fn grow_early(&mut self, number: u32) {
        if self.plan.is_windowed() && !self.is_grown(number) {
            let Self { plan, words, arena, missed, worked, older, .. } = self;
            let words = place_mut(older, words, arena, plan.stride, number, worked);
            grow(plan, arena, words, i64::MIN, (missed, worked));
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
            if let Some(words @ [first, ..]) = self.settled(*number) {
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
    /// when it has not, or while the row stands in the layout of a larger plan.
    pub(crate) fn expired_weight(&self, row: u32, now_us: i64) -> Option<usize> {
        if !self.plan.is_windowed() {
            return None;
        }
        let words = self.settled(row)?;
        let expired = expiry::expired(&self.plan, &self.arena, words, now_us).is_some();
        expired.then(|| expiry::weight(&self.plan, &self.arena, words))
    }

    /// What giving back all that a row has takes, in words.
    pub(super) fn weight(&self, row: u32) -> usize {
        let words = self.settled(row).unwrap_or_default();
        let windows = if self.plan.is_windowed() && !words.is_empty() { expiry::weight(&self.plan, &self.arena, words) } else { 0 };
        windows + self.plan.stride
    }

    /// Gives a row's list or rings back when all that is in them has expired by this time.
    pub(crate) fn give_back(&mut self, row: u32, now_us: i64) {
        if !self.plan.is_windowed() {
            return;
        }
        let Self { plan, arena, older, .. } = self;
        // A sweep takes no memory, so that a row of the larger plan's layout keeps that.
        if let Some((older, (copy, lifted))) = older.as_mut().and_then(|older| older.copy(row, arena).map(|copy| (older, copy))) {
            if let Some(left) = expiry::expired(plan, &lifted, &copy, now_us) {
                older.expire(row, arena, left);
            }
            return;
        }
        // Looked at first: a chunk is copied for writing while a frozen state holds it.
        if self.settled(row).is_some_and(|words| expiry::expired(&self.plan, &self.arena, words, now_us).is_some()) {
            let Self { plan, words, arena, older, .. } = self;
            expiry::give_back(plan, arena, standing(older, words, plan, row).1.row_mut(row), now_us);
        }
    }

    /// Forgets a row.
    pub(crate) fn clear(&mut self, row: u32) {
        let Self { plan, words, arena, worked, older, .. } = self;
        let (plan, words) = standing(older, words, plan, row);
        if words.row(row).is_none() || plan.stride == 0 {
            return;
        }
        let words = words.row_mut(row);
        if plan.is_windowed() {
            *worked += expiry::weight(plan, arena, words);
            expiry::release(plan, arena, words);
        }
        for accumulator in &plan.lifetime {
            accumulator.accumulator.release(&mut words[accumulator.at..accumulator.at + accumulator.words], arena);
        }
        words.fill(0);
    }

    /// The plan by which a row stands, its words, and where that plan has a feature of this slab's.
    fn standing(&self, row: u32) -> (&SlabPlan, Option<&[u64]>, impl Fn(usize) -> usize) {
        let larger = self.older.as_ref().and_then(|older| Some((older, older.untouched(row)?)));
        let (plan, words) = match larger {
            Some((older, words)) => (older.plan(), Some(words)),
            None => (&*self.plan, self.settled(row)),
        };
        (plan, words, move |feature| larger.map_or(feature, |(older, _)| older.feature(feature)))
    }

    /// The earliest time at which all rows that these features would have seen are still here, and
    /// none that came after it is counted; none when any time will do. Lifetime features answer for
    /// now only: `lifetime_us`.
    pub(crate) fn earliest_us(&self, row: u32, features: &[usize], lifetime_us: i64) -> Option<i64> {
        let arena = &self.arena;
        let (plan, words, place) = self.standing(row);
        let keep_us = self.plan.keep_us;
        // Whether something was ever written near a row that has nothing says nothing of it.
        let nothing: RowWords = smallvec::smallvec![0; plan.stride];
        let words = words.unwrap_or(&nothing);
        let slots = features.iter().flat_map(|&feature| &plan.features[place(feature)].slots);
        slots
            .filter_map(|slot| match *slot {
                SlotRef::Lifetime(index) => (!plan.lifetime[index].idle).then_some(lifetime_us),
                SlotRef::Windowed { window, accumulator } => {
                    let window = &plan.windows[window];
                    let behind_us = window.behind_us_of(accumulator);
                    // A ring has measured its rows when they came.
                    let (head, keep_us) = match Form::of(words[0]) {
                        Form::List(handle) => (Head::of(arena.get(handle)), keep_us.saturating_sub(behind_us)),
                        Form::Rings => (Head::of(arena.get(words[window.at])), window.keep_us),
                        Form::Expired(head) => (head, keep_us.saturating_sub(behind_us)),
                    };
                    head.dropped().then(|| head.edge_us().saturating_sub(keep_us).saturating_add(window.window_us))
                }
            })
            .chain(self.unseen.filter(|_| !features.is_empty()).map(|unseen| unseen.newest_us))
            .max()
    }

    /// Whether rows that came before this slab began may be in what a feature answers at a time.
    pub(crate) fn lacks_earlier_rows(&self, feature: usize, now_us: i64) -> bool {
        self.unseen.is_some_and(|unseen| unseen.may_be_in(self.plan.reach_us(feature), now_us))
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
        let arena = &self.arena;
        let (plan, words, place) = self.standing(row);
        let zeroes = vec![0u64; plan.stride];
        let words = words.unwrap_or(&zeroes);
        let mut wanted = Wanted::new(plan, features.iter().map(|&feature| place(feature)));
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
                let slots: smallvec::SmallVec<[Slot<'_>; 2]> = plan.features[place(feature)].slots.iter().map(slot).collect();
                each(&self.plan.features[feature], &slots)
            })
            .collect()
    }

    /// Feeds every byte of the row that matters into a hash.
    pub(crate) fn digest(&self, row: u32, feed: &mut dyn FnMut(&[u64])) {
        let plan = &*self.plan;
        let zeroes = vec![0u64; plan.stride];
        let copied = self.copied(row);
        let (words, arena) = match &copied {
            Some((words, arena)) => (&words[..], arena),
            None => (self.settled(row).unwrap_or(&zeroes), &self.arena),
        };
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

/// The words of a row for writing, as a plan of this stride lays them out.
#[inline]
fn place_mut<'s>(
    older: &'s mut Option<Box<Older>>,
    words: &'s mut Words,
    arena: &mut Arena,
    stride: usize,
    row: u32,
    worked: &mut usize,
) -> &'s mut [u64] {
    match older {
        Some(older) if older.holds(row) => older.place_mut(row, stride, arena, worked),
        _ => words.row_mut(row),
    }
}

/// The plan by which a row stands, and the words that it stands in.
pub(super) fn standing<'s>(
    older: &'s mut Option<Box<Older>>,
    words: &'s mut Words,
    plan: &'s SlabPlan,
    row: u32,
) -> (&'s SlabPlan, &'s mut Words) {
    match older {
        Some(older) if older.holds(row) => older.standing(row, plan),
        _ => (plan, words),
    }
}

/// Feeds one row to the windows of a key; false when one of them did not take it. Counts what they missed, and the work
/// that hangs on what the key holds.
pub(crate) fn update_windows(
    plan: &SlabPlan,
    arena: &mut Arena,
    words: &mut [u64],
    row: SlabRow<'_, '_>,
    (missed, worked): (&mut [Missed], &mut usize),
) -> bool {
    if expiry::may_expire(plan, arena, words, row.edge_us) {
        *worked += expiry::give_back(plan, arena, words, row.edge_us);
    }
    if Form::of(words[0]) != Form::Rings {
        match list::insert(plan, arena, &mut words[0], row) {
            Inserted::Taken { age_us } | Inserted::Late { age_us } => return count_late(plan, age_us, missed),
            Inserted::Full => grow(plan, arena, words, row.edge_us, (missed, worked)),
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
fn grow(plan: &SlabPlan, arena: &mut Arena, words: &mut [u64], edge_us: i64, (missed, worked): (&mut [Missed], &mut usize)) {
    let head = expiry::head(plan, arena, words).with_edge(edge_us);
    let list = match Form::of(words[0]) {
        Form::List(handle) => handle,
        Form::Expired(_) => 0,
        Form::Rings => unreachable!("a key with rings has grown"),
    };
    let mut lifted = Arena::default();
    let moved = list::lift(plan, arena, list, &mut lifted);
    *worked += plan.grow_work(list::len(lifted.get(moved))) + expiry::weight(plan, arena, words);
    let first = |window: &WindowPlan| if window.follows { Head::of(&[]) } else { head };
    let mut handles: smallvec::SmallVec<[u64; 4]> = plan.windows.iter().map(|window| ring::open(arena, first(window))).collect();
    list::visit(plan, &lifted, moved, |row| {
        for ((window, handle), missed) in plan.windows.iter().zip(&mut handles).zip(&mut *missed) {
            // What the rows of a window hang on before it comes as it came, and leaves again.
            let edge_us = if window.follows { row.edge_us.min(row.bare.time_us) } else { row.edge_us };
            // A row that is too old for a short window was counted as late when it came or has had
            // its time.
            if ring::update(window, arena, handle, SlabRow { edge_us, ..row }) == Kept::Ahead {
                missed.ahead += 1;
            }
        }
    });
    for (window, handle) in plan.windows.iter().zip(handles) {
        if let [first, ..] = arena.get_mut(handle) {
            *first = Head::of(&[*first]).with_edge(head.edge_us()).with_dropped(head.dropped()).word();
        }
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
    fn new(plan: &SlabPlan, features: impl Iterator<Item = usize>) -> Self {
        let cuts = smallvec::smallvec![None; plan.windows.len()];
        let mut wanted = Self { places: smallvec::SmallVec::new(), cuts, slots: Vec::new() };
        let mut at = 0;
        for feature in features {
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
            let follows = |place: &&Place| plan.windows[place.window].accumulators[place.accumulator].accumulator.follows().is_some();
            let mut walks: smallvec::SmallVec<[Walk<'_>; 2]> =
                places.iter().filter(follows).map(|place| Walk::new(&plan.windows[place.window], place.accumulator, now_us)).collect();
            list::visit(plan, arena, handle, |row| {
                let age = now_us.saturating_sub(row.bare.time_us);
                walks.iter_mut().for_each(|walk| walk.update(row));
                for &Place { window, accumulator, at, words } in places.iter() {
                    let window = &plan.windows[window];
                    if age < 0 || age >= window.window_us {
                        continue;
                    }
                    let accumulator = &window.accumulators[accumulator];
                    if !window.follows || accumulator.accumulator.follows().is_none() {
                        accumulator.update(&mut slots[at..at + words], scratch, row);
                    }
                }
            });
            for (walk, place) in walks.iter().zip(places.iter().filter(follows)) {
                walk.counted(&mut slots[place.at..place.at + place.words]);
            }
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
        let lacks_rows = if plan.behind_us_of(accumulator) > 0 { cut.lacks_behind } else { cut.lacks_rows };
        Slot { before: cut.before.map(edge), after: cut.after.map(edge), bucketed: true, lacks_rows, ..core }
    }
}
