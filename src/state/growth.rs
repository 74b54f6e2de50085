//! How much memory rows may take, before they are applied: what the memory limit is decided by.
//!
//! Every bound is above what applying takes at any moment on the way. What a batch takes in all is reckoned in
//! [`by_key`](super::by_key); where that is too much, [`State::lacking`] looks at each row's key as it stands: does its
//! list have room, is its bucket there, would a sketch grow? Rows that need nothing cost nothing; rows are admitted in
//! order while the room lasts. Memory that rows give back is no credit. Copies on write are not counted here: a frozen state is let go before they
//! could pass the limit.
//!
//! A key's further rows of a frame are looked at as the key stands before all of them, so they carry which rows came
//! before and assume the worst of those. Where the worst would be far too much, at a list that may become rings and at
//! rings that many rows go to, the rows are applied to a copy instead ([`Shadow`]), and what they make of it is what they
//! need.

use super::accumulator::{Input, hash_cell};
use super::arena::{Arena, Handle};
use super::demand::{Demand, Tally};
use super::expiry;
use super::form::Form;
use super::frame::WORDS_PER_ROW;
use super::head::Head;
use super::list;
use super::plan::{AccumulatorPlan, ColumnPlan, GrowthMax, SlabPlan, SlabRow, WindowPlan};
use super::ring;
use super::shadow::Shadow;
use super::slab::Slab;
use super::state::State;
use super::table::{Table, key_of};
use crate::pipeline::{Derived, RowEnv, TableDef};
use crate::row::{EventSchema, Key, Rows};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

/// Copies of keys may take as much as new keys leave to others, and at least this: some twenty busy keys.
const COPIES_BYTES_MIN: usize = 2 << 20;

/// Rows that copies may be fed with for each row that is looked at, so that the look stays linear in them,
const FEEDS_PER_ROW: usize = 4;
/// and whatever they are.
const FEEDS_MIN: usize = 1 << 16;

/// Rows that one copy is fed with at once, and words of a key that are copied: some milliseconds.
const FEEDS_PER_COPY_MAX: usize = 4096;
const COPIED_WORDS_MAX: usize = 1 << 19;

/// Rows of one batch for which there may be no room in one table.
#[derive(Debug, Clone)]
pub struct Lacking {
    /// The table.
    pub table: Arc<TableDef>,
    /// Index of the batch.
    pub batch: usize,
    /// Rows of keys that are there, ascending.
    pub known: Vec<u32>,
    /// Rows that would make a key, ascending.
    pub new: Vec<u32>,
    /// The worst was assumed of some keys of the frame: with fewer rows, or more effort, these might not lack room.
    pub is_guess: bool,
}

impl State {
    /// The rows for which `room` more bytes may not do, by batch and table; rows that would make a key leave `reserve` of
    /// them to others. Rows that are `left_out`, by batch, are looked at as if they were not there; no flags are none.
    pub fn lacking(&self, batches: &[Rows], left_out: &[Vec<bool>], room: usize, reserve: usize) -> Vec<Lacking> {
        let mut look = self.look(batches, room, reserve, FEEDS_MIN);
        while !look.go_on(self, batches, left_out, &mut { usize::MAX }) {}
        look.lacking()
    }

    /// Begins the same in steps, with copies of keys that are fed with `feeds` rows at most, and four for each row.
    pub fn look(&self, batches: &[Rows], room: usize, reserve: usize, feeds: usize) -> Look {
        let rows: usize = batches.iter().map(Rows::len).sum();
        let room = Room {
            bytes: room,
            reserve,
            copies: reserve.max(COPIES_BYTES_MIN),
            feeds: feeds + FEEDS_PER_ROW * rows,
            words: batches.iter().map(|batch| batch.words().len()).sum(),
            ..Room::default()
        };
        Look { room, batch: 0, table: 0, row: 0, known: Vec::new(), new: Vec::new(), lacking: Vec::new() }
    }

    /// At least as many bytes as the rows take, each looked at, and their objects by table and slab; copies of keys may
    /// take so many bytes.
    #[cfg(test)]
    pub(crate) fn growth_of_rows(&self, batches: &[Rows], copies: usize) -> (usize, BTreeMap<u32, Vec<Tally>>) {
        let mut look = self.look(batches, usize::MAX, 0, FEEDS_MIN);
        look.room.copies = copies;
        while !look.go_on(self, batches, &[], &mut { 7 }) {}
        let Look { room, lacking, .. } = look;
        assert!(lacking.is_empty(), "there is room for every row where there is room for all: {lacking:?}");
        (usize::MAX - room.bytes, room.tables.into_iter().map(|(id, taken)| (id, taken.slabs)).collect())
    }

    pub(super) fn fed_by(&self, batch: &Rows) -> impl Iterator<Item = &Table> {
        self.by_event.get(&batch.event()).into_iter().flatten().filter_map(|id| self.tables.get(id))
    }
}

/// A look at rows, one by one, as far as it has come. Nothing may be applied in between.
pub struct Look {
    room: Room,
    /// The next row: its batch, which of the tables that this feeds, and its number.
    batch: usize,
    table: usize,
    row: usize,
    /// Rows of this batch and table that lack room,
    known: Vec<u32>,
    new: Vec<u32>,
    /// and those of the others.
    lacking: Vec<Lacking>,
}

impl Look {
    /// Goes on with rows that are not `left_out`, for so much effort: one for a row of a table, and for each that a copy is
    /// fed with. True when all were looked at.
    pub fn go_on(&mut self, state: &State, batches: &[Rows], left_out: &[Vec<bool>], effort: &mut usize) -> bool {
        while let Some(batch) = batches.get(self.batch) {
            let event = state.registry.event_by_id(batch.event());
            let (Some(event), Some(table)) = (event, state.fed_by(batch).nth(self.table)) else {
                (self.batch, self.table) = (self.batch + 1, 0);
                continue;
            };
            let left = left_out.get(self.batch).map_or(&[][..], Vec::as_slice);
            let mut taken = self.room.tables.remove(&table.def.id).unwrap_or_else(|| Taken::new(table));
            while *effort > 0 && self.row < batch.len() {
                let feeds = self.room.feeds;
                if !left.get(self.row).is_some_and(|left| *left) {
                    let place = Place { batches, batch: self.batch, row: self.row };
                    self.room.admit(table, &mut taken, place, &event.schema, (&mut self.known, &mut self.new));
                }
                let copied = std::mem::take(&mut self.room.copied_words) / WORDS_PER_ROW;
                *effort = effort.saturating_sub(1 + feeds - self.room.feeds + copied);
                self.row += 1;
            }
            self.room.tables.insert(table.def.id, taken);
            if self.row < batch.len() {
                return false;
            }
            let (known, new) = (std::mem::take(&mut self.known), std::mem::take(&mut self.new));
            if !known.is_empty() || !new.is_empty() {
                self.lacking.push(Lacking { table: Arc::clone(table.def()), batch: self.batch, known, new, is_guess: false });
            }
            (self.table, self.row) = (self.table + 1, 0);
        }
        true
    }

    /// The rows that lack room, once all were looked at.
    pub fn lacking(mut self) -> Vec<Lacking> {
        self.lacking.iter_mut().for_each(|lacking| lacking.is_guess = self.room.guessed);
        self.lacking
    }
}

/// What is left, and what each table's rows have taken of it.
#[derive(Default)]
struct Room {
    bytes: usize,
    /// What rows of new keys leave.
    reserve: usize,
    /// What copies of keys may take,
    copies: usize,
    /// and how many rows they may still be fed with. Beyond either the worst is assumed of lists and of rings.
    feeds: usize,
    /// Words of keys that were copied out of the layout of a larger plan, since somebody asked.
    copied_words: usize,
    /// The worst was assumed of some keys.
    guessed: bool,
    /// Words of all batches: no text of theirs is longer.
    words: usize,
    tables: BTreeMap<u32, Taken>,
    scratch: Scratch,
}

/// What the admitted rows of one table take.
struct Taken {
    long: Tally,
    slabs: Vec<Tally>,
    /// Chunks of key words (0) and of slabs' words (1 and up) that will be made.
    chunks: HashSet<(usize, usize)>,
    /// Keys that will be made, by part of the index.
    indexed: HashMap<usize, usize>,
    /// Admitted rows by row number, of those that may have changed what the key needs: batch and row.
    before: HashMap<u32, Vec<(usize, usize)>>,
    /// Copies of keys that rows were applied to, by row number and slab.
    shadows: HashMap<(u32, usize), Shadow>,
    /// Row numbers of which a row may find everything expired and begin a list anew.
    expiring: HashSet<u32>,
    /// Row numbers of which a row with a shadow was kept out: what came behind it cannot be looked at.
    shut: HashSet<u32>,
    /// Keys that will be made, with their row numbers.
    made: HashMap<Key, u32>,
    /// Row numbers that deletes of this frame free and nobody has taken, the last freed last.
    freed: Vec<u32>,
    /// Keys that deletes of this frame forget.
    deleted: HashSet<u32>,
    /// The table's freed number that is taken next, how many of them were, and numbers handed out for the first time.
    next_freed: Option<u32>,
    reused: usize,
    fresh: u32,
}

#[derive(Default)]
struct Scratch {
    derived: Derived,
    key: Key,
    demands: Vec<Demand>,
}

impl Taken {
    fn new(table: &Table) -> Self {
        Self {
            long: Tally::default(),
            slabs: vec![Tally::default(); table.slabs.len()],
            chunks: HashSet::new(),
            indexed: HashMap::new(),
            before: HashMap::new(),
            shadows: HashMap::new(),
            expiring: HashSet::new(),
            shut: HashSet::new(),
            made: HashMap::new(),
            freed: Vec::new(),
            deleted: HashSet::new(),
            next_freed: table.keys.freed().next(),
            reused: 0,
            fresh: 0,
        }
    }

    fn forget(&mut self, table: &Table, key: &Key) {
        let number = match self.made.remove(key) {
            Some(number) => Some(number),
            None => table.find(key).filter(|&number| self.deleted.insert(number)),
        };
        if let Some(number) = number {
            self.forget_rows(number);
            self.freed.push(number);
        }
    }

    /// What was seen of a row number belongs to a key that is gone.
    fn forget_rows(&mut self, number: u32) {
        if self.before.remove(&number).is_some() {
            self.expiring.remove(&number);
            self.shut.remove(&number);
            self.shadows.retain(|place, _| place.0 != number);
        }
    }

    /// The row number that the next key gets.
    fn next_number(&self, table: &Table) -> u32 {
        if let Some(&number) = self.freed.last() {
            return number;
        }
        self.next_freed.unwrap_or(table.keys.rows() + self.fresh)
    }

    fn take_number(&mut self, table: &Table) {
        if self.freed.pop().is_some() {
            return;
        }
        match self.next_freed {
            Some(number) => {
                self.next_freed = table.keys.next_free(number);
                self.reused += 1;
                let freed = table.keys.rows() as usize - table.keys.held();
                assert!(self.reused <= freed, "{} of {freed} freed numbers are taken", self.reused);
            }
            None => self.fresh += 1,
        }
    }
}

impl Room {
    /// Admits a row that there is room for; names it among others, of keys that are there or of new ones.
    fn admit(
        &mut self,
        table: &Table,
        taken: &mut Taken,
        place: Place<'_>,
        schema: &EventSchema,
        (known, new): (&mut Vec<u32>, &mut Vec<u32>),
    ) {
        let (batch, row, def) = (&place.batches[place.batch], place.row, &table.def);
        let Scratch { derived, key, .. } = &mut self.scratch;
        if batch.is_delete(row) {
            def.chain.derive(batch, row, schema, derived);
        } else if !def.chain.run(batch, row, schema, derived) {
            return;
        }
        if !key_of(&def.keys, &RowEnv { rows: batch, row, schema, derived }, key) {
            return;
        }
        if batch.is_delete(row) {
            if !def.keys.is_empty() {
                taken.forget(table, key);
            }
            return;
        }
        let found = match taken.made.get(key) {
            Some(&number) => Some((number, true)),
            None => table.find(key).filter(|number| !taken.deleted.contains(number)).map(|number| (number, false)),
        };
        let Ok(index) = u32::try_from(row) else { unreachable!("rows of a batch are counted in 32 bits") };
        match self.row(table, taken, found, place, schema) {
            Some(bytes) => self.bytes -= bytes,
            None if found.is_none() => new.push(index),
            None => known.push(index),
        }
    }

    /// Bytes that one more row takes, now counted as taken; none when there may be no room for it. `found` is the key's
    /// row number, and whether an earlier row of this frame makes it.
    fn row(
        &mut self,
        table: &Table,
        taken: &mut Taken,
        found: Option<(u32, bool)>,
        place: Place<'_>,
        schema: &EventSchema,
    ) -> Option<usize> {
        let Scratch { derived, key, demands } = &mut self.scratch;
        let env = RowEnv { rows: &place.batches[place.batch], row: place.row, schema, derived };
        let number = found.map_or_else(|| taken.next_number(table), |found| found.0);
        if taken.shut.contains(&number) {
            return None;
        }
        let history = taken.before.get(&number).map_or(&[][..], Vec::as_slice);
        let (mut bytes, mut chunks) = (0, smallvec::SmallVec::<[(usize, usize); 4]>::new());
        let mut long = Demand::default();
        if found.is_none() {
            let probe = table.keys.probe(key);
            if probe.needs_bytes() {
                long.bytes(key.len());
            }
            let (part, more) = table.keys.index_growth(&probe, |part| taken.indexed.get(&part).copied().unwrap_or(0));
            debug_assert!(part < 256, "an index has 256 parts");
            bytes += more + taken.long.cost(table.keys.long(), &long);
            if let Some((chunk, more)) = table.keys.words().lacking(number)
                && !taken.chunks.contains(&(0, chunk))
            {
                chunks.push((0, chunk));
                bytes += more;
            }
        }
        demands.resize_with(table.slabs.len(), Demand::default);
        for (at, (slab, demand)) in table.slabs.iter().zip(demands.iter_mut()).enumerate() {
            demand.clear();
            if slab.plan.stride == 0 {
                continue;
            }
            for (chunk, more) in slab.lacking(number) {
                if !taken.chunks.contains(&(at + 1, chunk)) {
                    chunks.push((at + 1, chunk));
                    bytes += more;
                }
            }
            // What a cold key has goes before the row comes: it needs what a new one does.
            let is_there = found.is_some_and(|found| !found.1) && !table.is_cold(number, place.batches[place.batch].edge_us(place.row));
            let copied = is_there.then(|| slab.copied(number)).flatten();
            self.copied_words += copied.as_ref().map_or(0, |copied| copied.1.used_bytes() / 8);
            if copied.is_some() && history.is_empty() {
                slab.demand_of_shedding(number, demand);
            }
            let (known, arena) = match &copied {
                Some((words, arena)) => (Some(&words[..]), arena),
                None => (is_there.then(|| slab.settled(number)).flatten(), &slab.arena),
            };
            let edge_us = place.batches[place.batch].edge_us(place.row);
            if known.is_some_and(|words| slab.plan.is_windowed() && expiry::may_expire(&slab.plan, arena, words, edge_us)) {
                taken.expiring.insert(number);
            }
            let expires = taken.expiring.contains(&number);
            let shadow = taken.shadows.remove(&(number, at));
            self.copies += shadow.as_ref().map_or(0, Shadow::bytes);
            let earlier = Earlier { table, batches: place.batches, schema, history, expires };
            let mut means = Means { feeds: &mut self.feeds, guessed: &mut self.guessed, words: self.words };
            let shadow = demand_of(slab, (known, arena), &earlier, shadow, &mut means, &env, demand);
            if let Some(shadow) = shadow.filter(|shadow| shadow.bytes() <= self.copies) {
                self.copies -= shadow.bytes();
                taken.shadows.insert((number, at), shadow);
            }
            bytes += taken.slabs[at].cost(&slab.arena, demand);
        }
        let reserve = if found.is_none() { self.reserve } else { 0 };
        if bytes > 0 && bytes > self.bytes.saturating_sub(reserve) {
            // The copies have taken the row already.
            if (0..table.slabs.len()).any(|at| taken.shadows.contains_key(&(number, at))) {
                taken.shut.insert(number);
            }
            return None;
        }
        if found.is_none() {
            taken.long.take(&long);
            taken.take_number(table);
            *taken.indexed.entry(table.keys.index_growth(&table.keys.probe(key), |_| 0).0).or_default() += 1;
            taken.made.insert(key.clone(), number);
        }
        for (tally, demand) in taken.slabs.iter_mut().zip(demands) {
            tally.take(demand);
        }
        taken.chunks.extend(chunks);
        taken.before.entry(number).or_default().push((place.batch, place.row));
        Some(bytes)
    }
}

/// A row of the batches that are looked at.
#[derive(Clone, Copy)]
struct Place<'b> {
    batches: &'b [Rows],
    batch: usize,
    row: usize,
}

/// Rows of the same key that were admitted before, batch and row.
struct Earlier<'b> {
    table: &'b Table,
    batches: &'b [Rows],
    schema: &'b EventSchema,
    history: &'b [(usize, usize)],
    /// One of them, or the row that is looked at, may find everything expired.
    expires: bool,
}

impl Earlier<'_> {
    /// Feeds a copy of the key's list with them.
    fn feed(&self, slab: &Slab, shadow: &mut Shadow) {
        let mut derived = Derived::default();
        for &(batch, row) in self.history {
            let rows = &self.batches[batch];
            // A row that was admitted passed the table's filters.
            self.table.def().chain.derive(rows, row, self.schema, &mut derived);
            let env = RowEnv { rows, row, schema: self.schema, derived: &derived };
            as_row(&slab.plan, &env, |row| shadow.feed(&slab.plan, row));
        }
    }
}

/// What looking at one row may use.
struct Means<'m> {
    feeds: &'m mut usize,
    guessed: &'m mut bool,
    words: usize,
}

impl Means<'_> {
    /// Whether a copy may be made of a key's windows that `before` rows go to first; counts the rows that it is fed with.
    fn allow(&mut self, plan: &SlabPlan, arena: &Arena, words: &[u64], before: usize) -> bool {
        // Rows of a list are fed to its rings; words of a ring are copied, some sixteen in the time of a row.
        let (held, words_per_feed) = match Form::of(words[0]) {
            Form::List(handle) => (arena.get(handle).len(), plan.entry_words),
            Form::Rings => (plan.windows.iter().map(|window| arena.get(words[window.at]).len()).sum::<usize>(), 16),
            Form::Expired(_) => (0, plan.entry_words),
        };
        let feeds = before + held / words_per_feed;
        // A copy that cannot be kept is made again for each row of its key, as long as that lasts; one is no long step.
        if feeds > *self.feeds || before > FEEDS_PER_COPY_MAX || held > COPIED_WORDS_MAX {
            *self.guessed = true;
            return false;
        }
        *self.feeds -= feeds;
        true
    }
}

/// A row as the accumulators of a slab see it.
pub(super) fn as_row<R>(plan: &SlabPlan, env: &RowEnv<'_>, then: impl FnOnce(SlabRow<'_, '_>) -> R) -> R {
    let time_us = env.rows.time_us(env.row);
    let bare = Input::bare(time_us, u64::MAX >> 3);
    let matches: smallvec::SmallVec<[bool; 8]> = plan.filters.iter().map(|filter| filter.test(env)).collect();
    let input = |column: &ColumnPlan| {
        let cell = env.cell(column.column);
        Input { cell, hash: if column.need_hash { hash_cell(cell) } else { 0 }, ..bare }
    };
    let inputs: smallvec::SmallVec<[Input<'_>; 6]> = plan.columns.iter().map(input).collect();
    let edge_us = env.rows.edge_us(env.row);
    then(SlabRow { inputs: &inputs, matches: &matches, bare: &bare, edge_us })
}

/// What a row needs of a slab's arena. `words` are those of the key, when it has any; `shadow` is the copy that earlier
/// rows of the key were applied to, the one that comes back has taken this row too.
fn demand_of(
    slab: &Slab,
    (words, arena): (Option<&[u64]>, &Arena),
    earlier: &Earlier<'_>,
    shadow: Option<Shadow>,
    means: &mut Means<'_>,
    env: &RowEnv<'_>,
    demand: &mut Demand,
) -> Option<Shadow> {
    let (plan, before) = (&*slab.plan, earlier.history.len());
    let zeroes = vec![0; plan.stride];
    let words = words.unwrap_or(&zeroes);
    as_row(plan, env, |row| {
        for accumulator in &plan.lifetime {
            let slot = &words[accumulator.at..accumulator.at + accumulator.words];
            of_accumulator(accumulator, slot, arena, row, before, demand);
            // What rows of the key made of it before is not known: the worst is assumed.
            *means.guessed |= before > 0 && !accumulator.idle && !accumulator.accumulator.handles().is_empty();
        }
        if !plan.is_windowed() {
            return None;
        }
        if let Some(mut shadow) = shadow {
            shadow.feed(plan, row);
            shadow.made(demand);
            return Some(shadow);
        }
        let (form, expires) = (Form::of(words[0]), earlier.expires);
        let of_rings = |demand: &mut Demand| {
            for window in &plan.windows {
                of_ring(window, arena, words[window.at], row, before, demand);
            }
        };
        if !expires {
            let is_told = match form {
                Form::List(handle) => of_list(plan, arena, (handle, Head::of(arena.get(handle))), row, before, demand),
                Form::Expired(head) => of_list(plan, arena, (0, head), row, before, demand),
                Form::Rings if before == 0 => {
                    of_rings(demand);
                    true
                }
                Form::Rings => false,
            };
            if is_told {
                return None;
            }
        }
        if !means.allow(plan, arena, words, before) {
            match form {
                Form::Rings if !expires => of_rings(demand),
                Form::List(handle) => of_full_list(plan, arena, handle, means.words, demand),
                Form::Rings | Form::Expired(_) => of_full_list(plan, arena, 0, means.words, demand),
            }
            return None;
        }
        let mut shadow = Shadow::of(plan, arena, words);
        earlier.feed(slab, &mut shadow);
        // What those needed was named when they were admitted.
        shadow.made(&mut Demand::default());
        shadow.feed(plan, row);
        shadow.made(demand);
        // Most keys have one such row in a frame; the copy is worth its room from the second one on.
        (before > 0 || expires).then_some(shadow)
    })
}

pub(super) fn of_accumulator(
    plan: &AccumulatorPlan,
    slot: &[u64],
    arena: &Arena,
    row: SlabRow<'_, '_>,
    before: usize,
    demand: &mut Demand,
) {
    if !plan.accumulator.handles().is_empty() {
        plan.with_input(row, |input| plan.accumulator.demand(slot, arena, input, before, demand));
    }
}

/// What [`list::insert`] needs; false where the list may be full.
fn of_list(
    plan: &SlabPlan,
    arena: &Arena,
    (handle, head): (Handle, Head),
    row: SlabRow<'_, '_>,
    before: usize,
    demand: &mut Demand,
) -> bool {
    let object = arena.get(handle);
    let head = head.with_edge(row.edge_us);
    if head.edge_us().saturating_sub(row.bare.time_us) >= plan.keep_us {
        return true;
    }
    let (count, room) = (head.count(), list::room(plan, Arena::capacity(handle)));
    let most = count + before;
    if most >= room.min(plan.entries_max) {
        let oldest = (count > 0).then(|| object[list::entry(plan, object, 0).start].cast_signed());
        let makes_room = oldest.is_some_and(|oldest| head.edge_us().saturating_sub(oldest) >= plan.keep_us);
        if before == 0 && makes_room {
            // A row that has expired makes room for this one.
        } else if most >= plan.entries_max {
            return false;
        } else if most >= room {
            demand.object_within(list::grown_words(plan, count.max(room).min(most)), list::grown_words(plan, most));
        }
    }
    for &column in &plan.listed {
        if let Some(bytes) = list::text_bytes(plan, column, &row.inputs[column]) {
            demand.bytes(bytes);
        }
    }
    true
}

/// The most that a row needs which finds a list that may be full, whatever the list became with the rows before it.
fn of_full_list(plan: &SlabPlan, arena: &Arena, handle: u64, frame_words: usize, demand: &mut Demand) {
    let texts = list::text_words(plan, arena, handle) + frame_words;
    let GrowthMax { row, key, texts: own, lifts, .. } = plan.growth;
    demand.objects(row + key + texts * lifts + frame_words * own, Arena::OBJECT_WORDS_MAX);
}

/// What [`ring::update`] needs.
fn of_ring(plan: &WindowPlan, arena: &Arena, handle: u64, row: SlabRow<'_, '_>, before: usize, demand: &mut Demand) {
    let object = arena.get(handle);
    let head = Head::of(object).with_edge(row.edge_us);
    let epoch = ring::epoch_of(plan, row.bare.time_us);
    if handle == 0 {
        demand.object(ring::HEAD_WORDS);
    }
    let (count, from_us) = (head.count(), head.edge_us().saturating_sub(plan.keep_us));
    let is_ahead = ring::is_ahead(plan, epoch, head.edge_us());
    if row.bare.time_us <= from_us || (is_ahead && before == 0) {
        return;
    }
    let bucket = ring::find(plan, object, count, epoch).ok();
    if bucket.is_none() {
        let room = ring::room(plan, Arena::capacity(handle));
        let most = (count + before).min(plan.buckets - 1);
        let makes_room = count > 0 && ring::newest_at(plan, object, 0) <= from_us;
        if most >= room && !(before == 0 && makes_room) {
            demand.object_within(ring::grown_words(plan, count.max(room).min(most)), ring::grown_words(plan, most));
        }
    }
    let zeroes: smallvec::SmallVec<[u64; 24]>;
    let words = match bucket {
        Some(index) => &object[ring::bucket_words(plan, index)],
        None => {
            zeroes = smallvec::smallvec![0; plan.stride];
            &zeroes[..]
        }
    };
    for accumulator in &plan.accumulators {
        of_accumulator(accumulator, &words[accumulator.at..accumulator.at + accumulator.words], arena, row, before, demand);
    }
}
