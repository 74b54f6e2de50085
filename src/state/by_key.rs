//! What rows take in all, reckoned before they are applied: by their numbers, then key by key.
//!
//! Three sums, each above what applying takes at any moment on the way, each nearer to it and dearer
//! than the one before. [`Numbers`]: each row may make a key, or turn a list into rings; a few
//! divisions a batch. [`Weighing`] as a *bound*: rows are sorted by key, and the heads of lists and
//! rings say what the rows of each can make of it. Most keys of a packet have a list with room left, and need
//! an entry; a list turns into rings once in as many rows as it holds. *Exact*: a key of which that is not
//! told by its head is copied ([`Shadow`]), one at a time, and fed with its rows. Nothing is assumed
//! then, whatever the rows are. Which rows lack room is asked of [`growth`](super::growth), when
//! these do not fit in all.
//!
//! Cost of a bound, per row and table: the key, its hash and a look-up, which apply does again with
//! everything in cache; 16 bytes that are sorted; per slab one comparison, and for rings one search
//! among the newest buckets. Cells are looked at only where objects hang on them. A weighing goes on
//! in steps of a bounded number of rows, also of one key: nothing may be applied in between. A step may
//! copy one key; how long that is hangs on what its table declares.

use super::accumulator::{Input, LIFTED_ROWS_MAX, words_of_bytes};
use super::arena::{self, Arena};
use super::chunk::CHUNK_WORDS;
use super::demand::{Demand, Tally, spread_bytes};
use super::expiry;
use super::form::Form;
use super::frame::WORDS_PER_ROW;
use super::growth::{as_row, of_accumulator};
use super::head::Head;
use super::list;
use super::plan::{SlabPlan, SlabRow, WindowPlan};
use super::retire::RowWords;
use super::ring;
use super::shadow::Shadow;
use super::slab::Slab;
use super::sorting::Sorting;
use super::state::State;
use super::table::{GROUP, Table, key_of};
use crate::pipeline::{Derived, RowEnv};
use crate::row::{EventId, EventSchema, Key, Rows};
use std::collections::HashSet;
use std::sync::Arc;

/// No text is kept that is longer.
const TEXT_WORDS_MAX: usize = (1 << 20) / 8;

/// How many rows of each event there are, and the words that they take.
#[derive(Debug, Clone, Default)]
pub struct Numbers(smallvec::SmallVec<[(EventId, usize, usize); 4]>);

impl Numbers {
    /// Of some batches.
    pub fn of(batches: &[Rows]) -> Self {
        let mut numbers = Self::default();
        numbers.add(batches);
        numbers
    }

    /// With more batches.
    pub fn add(&mut self, batches: &[Rows]) {
        for batch in batches {
            let (rows, words) = (batch.len(), batch.words().len());
            match self.0.iter_mut().find(|known| known.0 == batch.event()) {
                Some(known) => (known.1, known.2) = (known.1 + rows, known.2 + words),
                None => self.0.push((batch.event(), rows, words)),
            }
        }
    }
}

impl State {
    /// At least as many bytes as applying so many rows can add, whatever they are.
    pub fn growth_bytes(&self, numbers: &Numbers) -> usize {
        let tables = |event: EventId| self.by_event.get(&event).into_iter().flatten().filter_map(|id| self.tables.get(id));
        numbers.0.iter().flat_map(|&(event, rows, words)| tables(event).map(move |table| table.growth_bytes(rows, words))).sum()
    }

    /// Begins to reckon what rows take, key by key; `exact` with copies of keys where their heads do not tell.
    pub fn weigh(&self, batches: &[Rows], exact: bool) -> Weighing {
        let mut tables: Vec<u32> = batches.iter().flat_map(|batch| self.fed_by(batch).map(|table| table.def.id)).collect();
        tables.sort_unstable();
        tables.dedup();
        Weighing { exact, tables, table: None, bytes: 0, makes_keys: false }
    }
}

impl Table {
    /// At least as many bytes as applying these rows can take, whatever their keys hold: each may make a key, and need of
    /// each slab the most that a row can.
    fn growth_bytes(&self, count: usize, row_words: usize) -> usize {
        let slabs = self.slabs.iter().map(|slab| {
            let most = slab.plan.growth;
            // What stands in lists already may be written once more for each accumulator that keeps texts.
            let lifted = slab.arena.used_bytes().saturating_mul(most.lifts) / 8;
            // A key grows to its largest once; one that is not there yet needs as many rows for it as a list holds.
            let keys = count.min(self.keys.held() + count / slab.plan.entries_max.max(1));
            let words = count.saturating_mul(most.row) + keys.saturating_mul(most.key);
            let (lacking, shed) = slab.lacking_most(self.keys.rows(), count);
            let words = words.saturating_add(lifted).saturating_add(most.texts * row_words).saturating_add(shed);
            let largest = if most.texts > 0 { most.largest.max(TEXT_WORDS_MAX) } else { most.largest };
            let largest = if shed > 0 { Arena::OBJECT_WORDS_MAX } else { largest };
            lacking.saturating_add(spread_bytes(words, largest.min(words)))
        });
        let keys = self.keys.words().lacking_most(self.keys.rows(), count) + spread_bytes(row_words, CHUNK_WORDS);
        slabs.fold(keys + self.keys.index_growth_most(count), usize::saturating_add)
    }
}

/// What rows take, reckoned key by key, as far as it has come. See the module's head.
#[derive(Debug)]
pub struct Weighing {
    exact: bool,
    /// Tables that are to be looked at.
    tables: Vec<u32>,
    table: Option<OfTable>,
    bytes: usize,
    makes_keys: bool,
}

/// Reckoning of one table.
#[derive(Debug)]
struct OfTable {
    id: u32,
    /// The next row whose key is looked for.
    batch: usize,
    row: usize,
    /// Rows with their keys, sorted by key once all are there.
    rows: Sorting<KeyRow>,
    is_sorted: bool,
    /// Keys that deletes of these rows forget.
    deleted: HashSet<u32>,
    /// Rows of keys that are not there, what they add to the index, to which parts of it, and to long keys.
    new: usize,
    index_bytes: usize,
    parts: Vec<usize>,
    long: Tally,
    /// The next slab, and the next of the rows in it.
    slab: usize,
    at: usize,
    span: Option<Span>,
    group: Option<Group>,
    tally: Tally,
    /// The last chunk of words that was found lacking.
    chunks: [Option<usize>; 2],
    bytes: usize,
}

/// A row and its key: a row number, or [`NEW`] with most of a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct KeyRow {
    id: u64,
    batch: u32,
    row: u32,
}

const NEW: u64 = 1 << 63;

/// Rows of one key that are looked through for one effort, and whose buckets are looked for.
const LOOKED_THROUGH_PER_EFFORT: usize = 16;
const COUNTED_PER_EFFORT: usize = 4;

/// Rows of one key, as far as they were looked through.
#[derive(Debug, Clone, Copy)]
struct Span {
    begin: usize,
    end: usize,
    next: usize,
    /// The least and the largest edge, and time.
    edges_us: (i64, i64),
    times_us: (i64, i64),
}

/// Buckets that rows of one key lack in its rings, as far as they were counted: window by window, row by row.
#[derive(Debug, Default)]
struct Lacks {
    window: usize,
    /// Rows of this window that were looked at, the last epoch among them, and how many buckets they lack.
    rows: usize,
    last: Option<i64>,
    missing: usize,
}

/// Rows of one key, in a slab.
#[derive(Debug)]
struct Group {
    begin: usize,
    end: usize,
    /// Buckets that are being counted.
    lacks: Option<Lacks>,
    number: Option<u32>,
    /// What the key has once it left the layout of a larger plan, if it stands there.
    shed: Option<Arc<(RowWords, Arena)>>,
    /// A copy that takes the rows.
    copy: Option<Shadow>,
    /// Rows go to a list, which may be one that begins anew,
    to_list: bool,
    /// and that may become rings.
    to_lifted: bool,
    to_rings: bool,
    /// The largest edge of these rows.
    edge_us: i64,
}

/// What is weighed.
#[derive(Clone, Copy)]
struct Load<'w> {
    table: &'w Table,
    schema: &'w EventSchema,
    batches: &'w [Rows],
    exact: bool,
}

impl Weighing {
    /// Goes on with rows that are not `left_out`, for so much effort: one for a row of a table, or of a slab, or one that a
    /// copy is fed with. True when all was weighed.
    pub fn go_on(&mut self, state: &State, batches: &[Rows], left_out: &[Vec<bool>], effort: &mut usize) -> bool {
        loop {
            let Some(mut of) = self.table.take().or_else(|| self.tables.pop().map(OfTable::new)) else { return true };
            let Some(table) = state.tables.get(&of.id) else { unreachable!("nothing is applied while rows are weighed") };
            let Some(event) = state.registry.event_by_id(table.def.event) else { continue };
            let load = Load { table, schema: &event.schema, batches, exact: self.exact };
            if !of.go_on(load, left_out, effort) {
                self.table = Some(of);
                return false;
            }
            self.bytes += of.bytes;
            self.makes_keys |= of.new > 0;
        }
    }

    /// At least as many bytes as the rows take, once all were weighed.
    pub fn bytes(&self) -> usize {
        assert!(self.tables.is_empty() && self.table.is_none(), "all rows were weighed");
        self.bytes
    }

    /// Whether some of them may make a key.
    pub fn makes_keys(&self) -> bool {
        self.makes_keys
    }
}

impl OfTable {
    fn new(id: u32) -> Self {
        Self {
            id,
            batch: 0,
            row: 0,
            rows: Sorting::default(),
            is_sorted: false,
            deleted: HashSet::new(),
            new: 0,
            index_bytes: 0,
            parts: Vec::new(),
            long: Tally::default(),
            slab: 0,
            at: 0,
            span: None,
            group: None,
            tally: Tally::default(),
            chunks: [None; 2],
            bytes: 0,
        }
    }

    fn go_on(&mut self, load: Load<'_>, left_out: &[Vec<bool>], effort: &mut usize) -> bool {
        while let Some(batch) = load.batches.get(self.batch) {
            if self.row == batch.len() || batch.event() != load.table.def.event {
                (self.batch, self.row) = (self.batch + 1, 0);
                continue;
            }
            if *effort == 0 {
                return false;
            }
            let to = (self.row + GROUP).min(batch.len());
            self.find_keys(load, self.row..to, left_out.get(self.batch).map_or(&[][..], Vec::as_slice));
            *effort = effort.saturating_sub(to - self.row);
            self.row = to;
        }
        if !self.is_sorted {
            if !self.rows.go_on(effort) {
                return false;
            }
            self.is_sorted = true;
            self.weigh_keys(load.table);
        }
        while let Some(slab) = load.table.slabs.get(self.slab) {
            while self.at < self.rows.sorted().len() && slab.plan.stride > 0 {
                if *effort == 0 {
                    return false;
                }
                self.weigh_row(load, slab, effort);
            }
            if self.new > 0 && slab.plan.stride > 0 {
                self.bytes += slab.lacking_most(load.table.keys.rows(), self.new).0;
            }
            self.bytes += std::mem::take(&mut self.tally).bytes(&slab.arena);
            (self.slab, self.at, self.chunks) = (self.slab + 1, 0, [None; 2]);
        }
        assert!(self.group.is_none(), "what was begun is done");
        true
    }

    /// Finds the keys of a group of rows; look-ups of a group miss the cache together.
    fn find_keys(&mut self, load: Load<'_>, rows: std::ops::Range<usize>, left_out: &[bool]) {
        let (table, batch, def) = (load.table, &load.batches[self.batch], &load.table.def);
        let (mut derived, mut seen) = (Derived::default(), 0);
        let mut found: smallvec::SmallVec<[(usize, Key); GROUP]> = smallvec::SmallVec::new();
        for row in rows.filter(|row| !left_out.get(*row).is_some_and(|left| *left)) {
            if batch.is_delete(row) {
                def.chain.derive(batch, row, load.schema, &mut derived);
            } else if !def.chain.run(batch, row, load.schema, &mut derived) {
                continue;
            }
            let mut key = Key::default();
            if key_of(&def.keys, &RowEnv { rows: batch, row, schema: load.schema, derived: &derived }, &mut key) {
                seen ^= table.keys.touch(&table.keys.probe(&key));
                found.push((row, key));
            }
        }
        std::hint::black_box(seen);
        for (row, key) in found {
            let probe = table.keys.probe(&key);
            let number = table.keys.find(&probe, &key).filter(|number| self.deleted.is_empty() || !self.deleted.contains(number));
            if batch.is_delete(row) {
                // What comes of the key behind it comes of a key that is not there.
                if let Some(number) = number.filter(|_| !def.keys.is_empty()) {
                    self.deleted.insert(number);
                }
                continue;
            }
            if number.is_none() {
                self.makes_key(table, &probe, &key);
            }
            let id = number.map_or(NEW | probe.hash() >> 1, u64::from);
            let (Ok(batch), Ok(row)) = (u32::try_from(self.batch), u32::try_from(row)) else { unreachable!("rows have 32 bits") };
            self.rows.push(KeyRow { id, batch, row });
        }
    }

    fn makes_key(&mut self, table: &Table, probe: &super::keys::Probe, key: &Key) {
        self.new += 1;
        self.parts.resize(256, 0);
        let (part, more) = table.keys.index_growth(probe, |part| self.parts[part]);
        self.parts[part] += 1;
        self.index_bytes += more;
        if probe.needs_bytes() {
            let mut long = Demand::default();
            long.bytes(key.len());
            self.long.take(&long);
        }
    }

    fn weigh_keys(&mut self, table: &Table) {
        if self.new > 0 {
            self.bytes += self.index_bytes + self.long.bytes(table.keys.long());
            self.bytes += table.keys.words().lacking_most(table.keys.rows(), self.new);
        }
    }

    /// Goes on with the rows of a slab: looks through some of a key's, begins with them, or weighs the next row. Rows of
    /// one key follow each other.
    fn weigh_row(&mut self, load: Load<'_>, slab: &Slab, effort: &mut usize) {
        let mut demand = Demand::default();
        let mut group = match self.group.take() {
            Some(group) => group,
            None => match self.look_through(load, slab, effort) {
                Some(span) => self.begin_group(load, slab, span, &mut demand, effort),
                None => return,
            },
        };
        if self.count_lacks(load, slab, &mut group, &mut demand, effort) {
            self.weigh_next(load, slab, &mut group, &mut demand, effort);
        }
        self.tally.take(&demand);
        if self.at < group.end {
            self.group = Some(group);
        }
    }

    fn weigh_next(&mut self, load: Load<'_>, slab: &Slab, group: &mut Group, demand: &mut Demand, effort: &mut usize) {
        let KeyRow { batch, row, .. } = self.rows.sorted()[self.at];
        let (rows, row) = (&load.batches[batch as usize], row as usize);
        if group.needs_cells(&slab.plan) {
            // That its filters pass was found with its key.
            let mut derived = Derived::default();
            load.table.def.chain.derive(rows, row, load.schema, &mut derived);
            let env = RowEnv { rows, row, schema: load.schema, derived: &derived };
            group.of_cells(slab, self.at - group.begin, &env, demand);
        }
        self.at += 1;
        *effort = effort.saturating_sub(1);
        if let Some(copy) = &mut group.copy {
            *effort = effort.saturating_sub(copy.take_work() / WORDS_PER_ROW);
            if self.at == group.end {
                copy.made(demand);
            }
        }
    }

    /// Finds the rows of the next key, and between which edges and times they are; none while that goes on.
    fn look_through(&mut self, load: Load<'_>, slab: &Slab, effort: &mut usize) -> Option<Span> {
        let rows = self.rows.sorted();
        let mut span = self.span.take().unwrap_or_else(|| {
            let (begin, none) = (self.at, (i64::MAX, i64::MIN));
            let end = begin + rows[begin..].partition_point(|row| row.id == rows[begin].id);
            Span { begin, end, next: begin, edges_us: none, times_us: none }
        });
        if slab.plan.is_windowed() {
            let to = span.end.min(span.next.saturating_add(effort.saturating_mul(LOOKED_THROUGH_PER_EFFORT)));
            for row in &rows[span.next..to] {
                let (rows, row) = (&load.batches[row.batch as usize], row.row as usize);
                let with = |(least, most): (i64, i64), us: i64| (least.min(us), most.max(us));
                span.edges_us = with(span.edges_us, rows.edge_us(row));
                span.times_us = with(span.times_us, rows.time_us(row));
            }
            *effort = effort.saturating_sub((to - span.next) / LOOKED_THROUGH_PER_EFFORT);
            span.next = to;
            if to < span.end {
                self.span = Some(span);
                *effort = 0;
                return None;
            }
        }
        Some(span)
    }

    /// What the rows of a key need of its list or rings, as their heads say it, or a copy of these.
    fn begin_group(&mut self, load: Load<'_>, slab: &Slab, span: Span, demand: &mut Demand, effort: &mut usize) -> Group {
        let Span { begin, end, .. } = span;
        let id = self.rows.sorted()[begin].id;
        let (plan, arena) = (&*slab.plan, &slab.arena);
        let number = (id & NEW == 0).then(|| match u32::try_from(id) {
            Ok(number) => number,
            Err(_) => unreachable!("a row number has 32 bits"),
        });
        for (chunk, more) in number.into_iter().flat_map(|number| slab.lacking(number)) {
            // Rows come in the order of their numbers, and there are at most two kinds of chunks.
            if !self.chunks.contains(&Some(chunk)) {
                self.chunks = [self.chunks[1], Some(chunk)];
                self.bytes += more;
            }
        }
        let shed = number.and_then(|number| slab.copied(number)).map(Arc::new);
        number.inspect(|&number| slab.demand_of_shedding(number, demand));
        // Words are copied some sixteen in the time of a row.
        *effort = effort.saturating_sub(shed.as_ref().map_or(0, |shed| shed.1.used_bytes() / 128));
        let mut group = Group {
            begin,
            end,
            lacks: None,
            number,
            shed: shed.clone(),
            copy: None,
            to_list: false,
            to_lifted: false,
            to_rings: false,
            edge_us: i64::MIN,
        };
        let keeps_objects = plan.lifetime.iter().any(|plan| !plan.accumulator.handles().is_empty());
        if !plan.is_windowed() && !keeps_objects {
            return group;
        }
        let zeroes = vec![0; plan.stride];
        let (words, arena) = match shed.as_deref() {
            Some((words, arena)) => (&words[..], arena),
            None => (number.and_then(|number| slab.settled(number)).unwrap_or(&zeroes), arena),
        };
        if load.exact && keeps_objects && end - begin > 1 {
            // Of many rows of one key any may be the one for which a sketch grows.
            let copy = Shadow::whole(plan, arena, words);
            *effort = effort.saturating_sub(copy.bytes() / 128);
            group.copy = Some(copy);
            return group;
        }
        if !plan.is_windowed() {
            return group;
        }
        let (count, form) = (end - begin, Form::of(words[0]));
        let (least_us, most_us) = span.edges_us;
        group.edge_us = most_us;
        let (is_fresh, held) = match form {
            Form::List(0) | Form::Expired(_) => (true, 0),
            Form::List(handle) => (false, Head::of(arena.get(handle)).count()),
            Form::Rings => (false, 0),
        };
        // Whether some row may find all before it expired, those of this batch included.
        let expires = match is_fresh {
            true => most_us.saturating_sub(least_us) >= plan.keep_us,
            false => expiry::may_expire(plan, arena, words, most_us),
        };
        group.to_rings = form == Form::Rings;
        group.to_list = !group.to_rings || expires;
        let anew = if is_fresh || expires { count / (plan.entries_max + 1) } else { 0 };
        let is_full = !group.to_rings && held + count > plan.entries_max;
        group.to_lifted = is_full || anew > 0;
        if load.exact && (expires || group.to_lifted || (group.to_rings && count > 1)) {
            let copy = Shadow::of(plan, arena, words);
            *effort = effort.saturating_sub(copy.bytes() / 128);
            group.copy = Some(copy);
            return group;
        }
        let most = plan.growth;
        if expires {
            demand.objects(count * most.entry, 1 + plan.entries_max * plan.entry_words);
        }
        if anew > 0 || (is_full && held + count > LIFTED_ROWS_MAX) {
            let words = (anew + usize::from(is_full && !is_fresh)) * most.key + count * (most.entry + most.windowed);
            demand.objects(words, most.largest);
        } else if let (Form::List(handle), true) = (form, is_full) {
            of_list(plan, Arena::capacity(handle), plan.entries_max, demand);
            demand.objects(lifted_words((plan, arena.get(handle)), end - begin, span.times_us), most.largest);
        }
        if let (Form::List(handle), true) = (form, is_full) {
            let texts = list::text_words(plan, arena, handle);
            demand.objects(texts * most.lifts, texts);
        }
        match form {
            Form::Rings => group.lacks = Some(Lacks::default()),
            Form::List(handle) if !group.to_lifted => of_list(plan, Arena::capacity(handle), held + count, demand),
            Form::Expired(_) if !group.to_lifted => of_list(plan, 0, count, demand),
            Form::List(_) | Form::Expired(_) => {}
        }
        group
    }

    /// Goes on with counting the buckets that the rows of a key lack in its rings, and says what those need; true when that
    /// is done, or nobody has to know.
    fn count_lacks(&self, load: Load<'_>, slab: &Slab, group: &mut Group, demand: &mut Demand, effort: &mut usize) -> bool {
        let Some(mut lacks) = group.lacks.take() else { return true };
        let shed = group.shed.clone();
        let (words, arena) = match shed.as_deref() {
            Some((words, arena)) => (Some(&words[..]), arena),
            None => (group.number.and_then(|number| slab.settled(number)), &slab.arena),
        };
        let Some(words) = words else { unreachable!("a key that has rings has a row") };
        while let Some(plan) = slab.plan.windows.get(lacks.window) {
            let object = arena.get(words[plan.at]);
            let from = group.begin + lacks.rows;
            let to = group.end.min(from.saturating_add(effort.saturating_mul(COUNTED_PER_EFFORT)));
            for row in &self.rows.sorted()[from..to] {
                let epoch = ring::epoch_of(plan, load.batches[row.batch as usize].time_us(row.row as usize));
                if lacks.last.replace(epoch) != Some(epoch) && group.bucket(plan, object, epoch).1 {
                    lacks.missing += 1;
                }
            }
            *effort = effort.saturating_sub((to - from) / COUNTED_PER_EFFORT);
            lacks.rows += to - from;
            if to < group.end {
                *effort = 0;
                group.lacks = Some(lacks);
                return false;
            }
            of_ring(plan, (object, words[plan.at]), lacks.missing, demand);
            lacks = Lacks { window: lacks.window + 1, ..Lacks::default() };
        }
        true
    }
}

/// Words of the rings that a full list becomes with so many rows, which have as many buckets as there are rows, and as the
/// time between the first and the last of them asks for.
fn lifted_words((plan, object): (&SlabPlan, &[u64]), rows: usize, (least_us, most_us): (i64, i64)) -> usize {
    let entries = list::len(object) + rows;
    let least_us = list::oldest_us(plan, object).map_or(least_us, |oldest_us| oldest_us.min(least_us));
    let most_us = list::newest_us(plan, object).map_or(most_us, |newest_us| newest_us.max(most_us));
    let ring = |window: &WindowPlan| {
        let spanned = most_us.saturating_sub(least_us) / window.bucket_us + 2;
        let buckets = usize::try_from(spanned).unwrap_or(usize::MAX).min(entries).min(window.buckets);
        // An object that grows by half each time leaves twice its words behind it at most.
        3 * (ring::HEAD_WORDS + (buckets + 1) * window.stride)
    };
    plan.windows.iter().map(ring).sum::<usize>() + entries * plan.growth.lifted
}

/// What a ring needs that takes rows of which so many lack a bucket: objects that it moves into.
fn of_ring(plan: &WindowPlan, (object, handle): (&[u64], u64), missing: usize, demand: &mut Demand) {
    if handle == 0 {
        demand.object(ring::HEAD_WORDS);
    }
    let most = (ring::len(object) + missing).min(plan.buckets);
    let mut room = ring::room(plan, Arena::capacity(handle));
    while room < most {
        let words = ring::grown_words(plan, room);
        demand.object(words);
        room = ring::room(plan, arena::class_words(arena::class_of(words)));
    }
}

/// What a list needs that comes to so many entries and stays one: the objects that it moves into.
fn of_list(plan: &SlabPlan, capacity: usize, entries: usize, demand: &mut Demand) {
    debug_assert!(entries <= plan.entries_max, "a list of {entries} entries becomes rings");
    let mut room = list::room(plan, capacity);
    while room < entries {
        let words = list::grown_words(plan, room);
        demand.object(words);
        room = list::room(plan, arena::class_words(arena::class_of(words)));
    }
}

impl Group {
    /// The bucket of an epoch, and whether a row of it may make one: also where the edges of these rows leave it behind.
    fn bucket(&self, plan: &WindowPlan, object: &[u64], epoch: i64) -> (Option<usize>, bool) {
        let bucket = ring::find(plan, object, ring::len(object), epoch).ok();
        let edge_us = Head::of(object).with_edge(self.edge_us).edge_us();
        let stays = bucket.is_some_and(|bucket| ring::newest_at(plan, object, bucket) > edge_us.saturating_sub(plan.keep_us));
        (bucket, !stays)
    }

    /// Whether what the rows need hangs on what is in them.
    fn needs_cells(&self, plan: &SlabPlan) -> bool {
        self.copy.is_some()
            || plan.lifetime.iter().any(|plan| !plan.accumulator.handles().is_empty())
            || (self.to_list && plan.lists_values())
            || (self.to_rings && plan.windows.iter().any(|window| window.has_leaves))
    }

    /// What the row needs that hangs on its cells. `before` rows of the key came first.
    fn of_cells(&mut self, slab: &Slab, before: usize, env: &RowEnv<'_>, demand: &mut Demand) {
        let plan = &*slab.plan;
        let shed = self.shed.clone();
        let (words, arena) = match shed.as_deref() {
            Some((words, arena)) => (Some(&words[..]), arena),
            None => (self.number.and_then(|number| slab.settled(number)), &slab.arena),
        };
        if self.copy.is_none() && self.to_list {
            for &column in plan.listed.iter().filter(|_| plan.lists_values()) {
                let input = Input { cell: env.cell(plan.columns[column].column), ..Input::bare(0, 0) };
                if let Some(bytes) = list::text_bytes(plan, column, &input) {
                    demand.bytes(bytes);
                    if self.to_lifted {
                        let words = words_of_bytes(bytes);
                        demand.objects(words * plan.growth.lifts, words);
                    }
                }
            }
        }
        let has_lifetime = plan.lifetime.iter().any(|plan| !plan.accumulator.handles().is_empty());
        if !has_lifetime && !self.to_rings && self.copy.is_none() {
            return;
        }
        as_row(plan, env, |row| {
            let zeroes: smallvec::SmallVec<[u64; 32]> = smallvec::smallvec![0; plan.stride];
            let words = words.unwrap_or(&zeroes);
            let lifetime = if self.copy.as_ref().is_some_and(Shadow::is_whole) { &[][..] } else { &plan.lifetime[..] };
            for accumulator in lifetime {
                let slot = &words[accumulator.at..accumulator.at + accumulator.words];
                of_accumulator(accumulator, slot, arena, row, before, demand);
            }
            match &mut self.copy {
                Some(copy) => copy.feed(plan, row),
                None if self.to_rings => self.of_buckets(plan, arena, words, (row, before), demand),
                None => {}
            }
        });
    }

    fn of_buckets(&self, plan: &SlabPlan, arena: &Arena, words: &[u64], (row, before): (SlabRow<'_, '_>, usize), demand: &mut Demand) {
        for window in plan.windows.iter().filter(|window| window.has_leaves) {
            let object = arena.get(words[window.at]);
            let (bucket, is_made) = self.bucket(window, object, ring::epoch_of(window, row.bare.time_us));
            let zeroes: smallvec::SmallVec<[u64; 24]> = smallvec::smallvec![0; window.stride];
            let known = bucket.map(|bucket| &object[ring::bucket_words(window, bucket)]);
            for slot in known.into_iter().chain(is_made.then_some(&zeroes[..])) {
                for accumulator in &window.accumulators {
                    let slot = &slot[accumulator.at..accumulator.at + accumulator.words];
                    of_accumulator(accumulator, slot, arena, row, before, demand);
                }
            }
        }
    }
}
