//! The plan of one slab: features compiled into shared accumulators, and where their words stand in a row.
//!
//! Features that need the same accumulator over the same column, filter and window share it. Features of one window and one resolution share one ring. A row of the
//! slab is
//!
//! ```text
//! [list handle]  [ring handle] x rings       only when a feature has a window
//! [slot words] x lifetime accumulators
//! ```
//! The list handle is a [`Form`](super::form::Form): it may say as well that the entity has rings, or that all it had has expired.

use super::accumulator::{Accumulator, Input, Need, Order};
use super::arena::Arena;
use super::head::COUNT_MAX;
use super::layout::Layout;
use super::ring;
use crate::operators::{AccumulatorNeed, BUCKET_US_MIN, Compiled, FeatureParams, Fields, ReadAccuracy, ReadValue, RowsTaken};
use crate::pipeline::{Column, FeatureDef, Program};
use crate::row::Cell;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// No window is cut into more.
const RESOLUTION_ROOM: usize = 1024;

/// Words of a ring with that many buckets of `stride` words.
const fn ring_words(buckets: usize, stride: usize) -> usize {
    ring::HEAD_WORDS + buckets * stride
}

/// The most buckets that a window can be cut into while its ring still is one object.
fn resolution_fitting(stride: usize) -> usize {
    let room = (Arena::OBJECT_WORDS_MAX - ring::HEAD_WORDS) / stride;
    (1..=room.min(RESOLUTION_ROOM)).take_while(|&resolution| ring::buckets_max(resolution) <= room).last().unwrap_or(0)
}

/// A list may take as many bytes as its key's rings would, but has room for this many rows,
const ENTRIES_MIN: usize = 64;
/// and for no more than these, since a read looks at all of them.
pub(super) const ENTRIES_MAX: usize = 512;
const _: () = assert!(ENTRIES_MAX <= COUNT_MAX && ring::buckets_max(RESOLUTION_ROOM) <= COUNT_MAX);

/// Entries of a list that takes the words of its key's rings, within the bounds above. With thousands of columns a list
/// is the largest object before it is as large as the rings.
fn entries_max(ring_words: usize, entry_words: usize) -> usize {
    let entries = (ring_words / entry_words).clamp(ENTRIES_MIN, ENTRIES_MAX);
    let fitting = entries.min((Arena::OBJECT_WORDS_MAX - 1) / entry_words);
    assert!(fitting > 0, "a list has room for an entry of {entry_words} words");
    fitting
}

/// What feeding a row to one accumulator counts, in words that are written meanwhile.
const UPDATE_WORDS: usize = 4;

/// What giving back an object of a bucket counts, if it is none of the largest: to find it is most of it.
const OBJECT_WORK: usize = 128;

/// An accumulator with its inputs.
#[derive(Debug, Clone)]
pub(crate) struct AccumulatorPlan {
    pub(crate) accumulator: Arc<dyn Accumulator>,
    /// Index into [`SlabPlan::columns`].
    pub(crate) column: Option<usize>,
    /// Further columns, for an accumulator of several fields.
    pub(crate) more: Box<[usize]>,
    /// Index into [`SlabPlan::filters`].
    pub(crate) filter: Option<usize>,
    /// Whether rows come to it that its filter does not take, and it is told which those are.
    pub(crate) sees_all: bool,
    /// It wants a cell but its features name no field: never updated, always the empty state.
    pub(crate) idle: bool,
    /// First word: of the row for lifetime accumulators, of the bucket for windowed ones.
    pub(crate) at: usize,
    pub(crate) words: usize,
}

/// One row as the accumulators of a slab see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SlabRow<'r, 'a> {
    /// By index into [`SlabPlan::columns`].
    pub(crate) inputs: &'r [Input<'a>],
    /// By index into [`SlabPlan::filters`].
    pub(crate) matches: &'r [bool],
    /// What an accumulator sees that reads no column: time and LSN.
    pub(crate) bare: &'r Input<'a>,
    /// How far the row brings its key's edge: its time, less what it is ahead of its clock.
    pub(crate) edge_us: i64,
}

impl AccumulatorPlan {
    /// Feeds a row whose filter passes.
    #[inline]
    pub(crate) fn update(&self, slot: &mut [u64], arena: &mut Arena, row: SlabRow<'_, '_>) {
        self.with_input(row, |input| self.accumulator.update(slot, arena, input));
    }

    /// What the accumulator sees of a row; nothing of one that it is not fed with.
    #[inline]
    pub(crate) fn with_input(&self, row: SlabRow<'_, '_>, then: impl FnOnce(&Input<'_>)) {
        let matched = self.filter.is_none_or(|filter| row.matches[filter]);
        if self.idle || !(matched || self.sees_all) {
            return;
        }
        let input = self.column.map_or(row.bare, |column| &row.inputs[column]);
        if matched && self.more.is_empty() {
            return then(input);
        }
        let more: smallvec::SmallVec<[Cell<'_>; 2]> = self.more.iter().map(|&column| row.inputs[column].cell).collect();
        then(&Input { more: &more, matched, ..*input });
    }

    /// Every column that it reads.
    pub(crate) fn columns(&self) -> impl Iterator<Item = usize> {
        self.column.into_iter().chain(self.more.iter().copied())
    }

    /// Whether it is the one that is asked for.
    fn is(&self, wanted: &Wanted) -> bool {
        (self.column, &self.more, self.filter, self.sees_all, self.idle)
            == (wanted.column, &wanted.more, wanted.filter, wanted.sees_all, wanted.idle)
            && self.accumulator.identity() == wanted.accumulator.identity()
    }
}

/// An accumulator that a feature needs, before it has its place.
struct Wanted {
    accumulator: Arc<dyn Accumulator>,
    column: Option<usize>,
    more: Box<[usize]>,
    filter: Option<usize>,
    sees_all: bool,
    idle: bool,
}

impl Wanted {
    fn at(self, at: usize) -> AccumulatorPlan {
        let Self { accumulator, column, more, filter, sees_all, idle } = self;
        let words = accumulator.words();
        AccumulatorPlan { accumulator, column, more, filter, sees_all, idle, at, words }
    }
}

/// All accumulators of one window and resolution.
#[derive(Debug, Clone)]
pub(crate) struct WindowPlan {
    pub(crate) window_us: i64,
    pub(crate) bucket_us: i64,
    /// Buckets that the window is cut into.
    pub(crate) resolution: usize,
    /// Most buckets that the ring holds.
    pub(crate) buckets: usize,
    /// How long behind the edge rows are kept: the window and one bucket.
    pub(crate) keep_us: i64,
    /// Word of the row that holds the ring's handle.
    pub(crate) at: usize,
    pub(crate) accumulators: Vec<AccumulatorPlan>,
    /// Words of a bucket, its epoch included.
    pub(crate) stride: usize,
    /// Whether an accumulator keeps objects in the arena.
    pub(crate) has_leaves: bool,
    /// Whether what a bucket of an accumulator holds hangs on the window before it.
    pub(crate) follows: bool,
}

impl WindowPlan {
    /// How long before what an accumulator counts in the window the rows begin that decide it.
    pub(crate) fn behind_us(&self) -> i64 {
        if self.follows { self.window_us.saturating_add(self.bucket_us) } else { 0 }
    }

    /// The same of one of its accumulators.
    pub(crate) fn behind_us_of(&self, accumulator: usize) -> i64 {
        if self.accumulators[accumulator].accumulator.follows().is_some() { self.behind_us() } else { 0 }
    }

    /// How long behind the edge a list keeps rows for this window.
    fn list_keep_us(&self) -> i64 {
        self.keep_us.saturating_add(self.behind_us())
    }
}

/// A window cut into more buckets than one object holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OversizedRing {
    pub(crate) window_us: i64,
    pub(crate) resolution: usize,
    /// Words of one bucket: what all features of this window and resolution keep together.
    pub(crate) bucket_words: usize,
    /// The most buckets that fit.
    pub(crate) resolution_fitting: usize,
}

/// The ring of one table's features that would not fit, whether they come together or one by one.
pub(crate) fn oversized_ring(features: &[Arc<FeatureDef>]) -> Option<OversizedRing> {
    // Most tables are far below the bound, which the sum without any sharing shows at once.
    let mut words: BTreeMap<(i64, u32), usize> = BTreeMap::new();
    for def in features {
        let Some(window_us) = def.rows_window_us() else { continue };
        let needs = def.op.compile(&FeatureParams { field_kind: def.field_kind, params: &def.params, window_us: def.window_us }).needs;
        *words.entry((window_us, def.resolution)).or_insert(1) += needs.iter().map(|need| need.accumulator.words()).sum::<usize>();
    }
    let fits = |(&(_, resolution), &stride): (&(i64, u32), &usize)| {
        ring_words(ring::buckets_max(resolution as usize), stride) <= Arena::OBJECT_WORDS_MAX
    };
    if words.iter().all(fits) {
        return None;
    }
    SlabPlan::compile(features).oversized_ring()
}

/// A column that accumulators read, evaluated once per row.
#[derive(Debug, Clone)]
pub(crate) struct ColumnPlan {
    pub(crate) column: Column,
    pub(crate) need_hash: bool,
    /// What lists keep of it; `Nothing` when only lifetime accumulators read it.
    pub(crate) listed: Need,
}

/// The most that rows may need of a slab's arena, whatever their keys hold.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct GrowthMax {
    /// Words of objects for each row, texts aside,
    pub(crate) row: usize,
    /// and for each key whose list or rings may grow to their largest, however many rows it gets.
    pub(crate) key: usize,
    /// Of the first: words of lists that grow by one entry,
    pub(crate) entry: usize,
    /// of objects in rings,
    pub(crate) windowed: usize,
    /// and of these where a list has become rings and there was none before.
    pub(crate) lifted: usize,
    /// Words of the largest object, texts aside.
    pub(crate) largest: usize,
    /// How often a text of the row may be written.
    pub(crate) texts: usize,
    /// How often a text of an earlier row may be written once more, when its list turns into rings.
    pub(crate) lifts: usize,
}

/// Where a feature's slots are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SlotRef {
    Lifetime(usize),
    Windowed { window: usize, accumulator: usize },
}

/// One feature, compiled.
pub(crate) struct FeaturePlan {
    pub(crate) def: Arc<FeatureDef>,
    pub(crate) slots: Vec<SlotRef>,
    pub(crate) value: ReadValue,
    pub(crate) accuracy: ReadAccuracy,
}

impl SlabPlan {
    /// How far back the rows reach that decide what a feature answers; none for a lifetime.
    pub(crate) fn reach_us(&self, feature: usize) -> Option<i64> {
        let FeaturePlan { def, slots, .. } = &self.features[feature];
        let behind_us = slots.iter().map(|slot| match *slot {
            SlotRef::Windowed { window, accumulator } => self.windows[window].behind_us_of(accumulator),
            SlotRef::Lifetime(_) => 0,
        });
        let most_us = behind_us.fold(0, i64::max);
        def.window_us.map(|window_us| window_us.saturating_add(most_us))
    }
}

/// The plan of one slab.
pub(crate) struct SlabPlan {
    pub(crate) features: Vec<FeaturePlan>,
    pub(crate) columns: Vec<ColumnPlan>,
    pub(crate) filters: Vec<Arc<Program>>,
    pub(crate) lifetime: Vec<AccumulatorPlan>,
    pub(crate) windows: Vec<WindowPlan>,
    /// Words of a row.
    pub(crate) stride: usize,
    /// How long behind the edge a list keeps rows; 0 without windows.
    pub(crate) keep_us: i64,
    /// The window that makes it so long: its ring has the newest row of all until that time.
    pub(crate) longest: usize,
    /// A list with more live rows than this grows into rings.
    pub(crate) entries_max: usize,
    /// What one row may need of the arena.
    pub(crate) growth: GrowthMax,
    /// About the most work that one row may be, in words: its key's list becomes rings, or all that the key has goes back.
    pub(crate) row_work_max: usize,
    /// Words of a list entry: time, LSN, tags, cells.
    pub(crate) entry_words: usize,
    /// Whether lists keep the LSNs of their rows: an accumulator of a window asks for their order.
    pub(crate) keeps_lsn: bool,
    /// Words of a list entry that hold tags and filter bits.
    pub(crate) tag_words: usize,
    /// Columns that lists keep, as indices into `columns`, in the order of their cells.
    pub(crate) listed: Vec<usize>,
}

impl std::fmt::Debug for SlabPlan {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self.features.iter().map(|feature| &*feature.def.name).collect();
        write!(out, "SlabPlan({} words, {names:?})", self.stride)
    }
}

impl SlabPlan {
    /// Compiles features into one slab.
    pub(crate) fn compile(features: &[Arc<FeatureDef>]) -> Self {
        let mut plan = Self {
            features: Vec::new(),
            columns: Vec::new(),
            filters: Vec::new(),
            lifetime: Vec::new(),
            windows: Vec::new(),
            stride: 0,
            keep_us: 0,
            longest: 0,
            entries_max: 0,
            growth: GrowthMax::default(),
            row_work_max: 0,
            entry_words: 0,
            keeps_lsn: false,
            tag_words: 0,
            listed: Vec::new(),
        };
        for def in features {
            plan.add(def);
        }
        plan.lay_out();
        plan
    }

    fn add(&mut self, def: &Arc<FeatureDef>) {
        let params = FeatureParams { field_kind: def.field_kind, params: &def.params, window_us: def.window_us };
        let Compiled { needs, value, accuracy } = def.op.compile(&params);
        let slots = needs.into_iter().map(|need| self.place(def, need)).collect();
        self.features.push(FeaturePlan { def: Arc::clone(def), slots, value, accuracy });
    }

    fn place(&mut self, def: &FeatureDef, need: AccumulatorNeed) -> SlotRef {
        let AccumulatorNeed { accumulator, rows, fields } = need;
        let filter = if rows == RowsTaken::All { None } else { def.filter.as_ref().map(|program| self.filter(program)) };
        let named = |name: &str| def.more_fields.iter().find(|(param, _)| *param == name).map(|(_, column)| *column);
        let columns: Option<Vec<Column>> = match fields {
            _ if accumulator.need() == Need::Nothing => Some(Vec::new()),
            Fields::Field => def.field.map(|field| vec![field]),
            Fields::Named(names) => names.iter().map(|name| named(name)).collect(),
        };
        // An accumulator that wants cells but has no field never updates: it stays the empty state.
        let idle = columns.is_none();
        let mut columns = columns.unwrap_or_default().into_iter();
        let window_us = def.rows_window_us();
        let mut column = |plan: &mut Self| Some(plan.column(columns.next()?, accumulator.need(), window_us.is_some()));
        let first = column(self);
        let more = std::iter::from_fn(|| column(self)).collect();
        let sees_all = rows == RowsTaken::AllMarked && filter.is_some();
        let window = window_us.filter(|_| !idle).map(|window_us| (window_us, def.resolution as usize));
        self.slot(Wanted { accumulator, column: first, more, filter, sees_all, idle }, window)
    }

    fn filter(&mut self, program: &Arc<Program>) -> usize {
        if let Some(index) = self.filters.iter().position(|known| known.text() == program.text()) {
            return index;
        }
        self.filters.push(Arc::clone(program));
        self.filters.len() - 1
    }

    fn column(&mut self, column: Column, need: Need, windowed: bool) -> usize {
        let index = self.columns.iter().position(|known| known.column == column).unwrap_or_else(|| {
            self.columns.push(ColumnPlan { column, need_hash: false, listed: Need::Nothing });
            self.columns.len() - 1
        });
        let known = &mut self.columns[index];
        known.need_hash |= need == Need::Hash;
        if windowed {
            known.listed = known.listed.max(need);
        }
        index
    }

    fn slot(&mut self, wanted: Wanted, window: Option<(i64, usize)>) -> SlotRef {
        let Some((window_us, resolution)) = window else {
            let index = self.lifetime.iter().position(|known| known.is(&wanted)).unwrap_or_else(|| {
                self.lifetime.push(wanted.at(0));
                self.lifetime.len() - 1
            });
            return SlotRef::Lifetime(index);
        };
        self.keeps_lsn |= wanted.accumulator.order() == Order::TimeLsn;
        let window = self.windows.iter().position(|known| (known.window_us, known.resolution) == (window_us, resolution));
        let window = window.unwrap_or_else(|| {
            let cut = resolution as i64;
            self.windows.push(WindowPlan {
                window_us,
                bucket_us: (window_us.saturating_add(cut - 1) / cut).max(BUCKET_US_MIN),
                resolution,
                buckets: ring::buckets_max(resolution),
                keep_us: 0,
                at: 0,
                accumulators: Vec::new(),
                stride: 1,
                has_leaves: false,
                follows: false,
            });
            self.windows.len() - 1
        });
        let plan = &mut self.windows[window];
        let index = plan.accumulators.iter().position(|known| known.is(&wanted)).unwrap_or_else(|| {
            let placed = wanted.at(plan.stride);
            plan.stride += placed.words;
            plan.has_leaves |= !placed.accumulator.handles().is_empty();
            plan.follows |= placed.accumulator.follows().is_some();
            plan.accumulators.push(placed);
            plan.accumulators.len() - 1
        });
        SlotRef::Windowed { window, accumulator: index }
    }

    fn lay_out(&mut self) {
        let mut at = 0;
        if !self.windows.is_empty() {
            at = 1;
            for window in &mut self.windows {
                window.at = at;
                at += 1;
                window.keep_us = window.window_us.saturating_add(window.bucket_us);
            }
            let longest = (0..self.windows.len()).max_by_key(|&window| self.windows[window].list_keep_us());
            let Some(longest) = longest else { unreachable!("there are windows") };
            (self.longest, self.keep_us) = (longest, self.windows[longest].list_keep_us());
            self.listed = (0..self.columns.len()).filter(|&index| self.columns[index].listed != Need::Nothing).collect();
            self.tag_words = (self.listed.len() * 4 + self.filters.len()).div_ceil(64);
            self.entry_words = 1 + usize::from(self.keeps_lsn) + self.tag_words + self.listed.len();
            self.entries_max = entries_max(self.ring_words(), self.entry_words);
        }
        for plan in &mut self.lifetime {
            plan.at = at;
            at += plan.words;
        }
        self.stride = at;
        self.growth = self.growth();
        self.row_work_max = self.grow_work(self.entries_max) + self.release_work_max();
    }

    /// About how much work it is to turn a list of so many entries into rings, in words.
    pub(crate) fn grow_work(&self, entries: usize) -> usize {
        let updates: usize = self.windows.iter().map(|window| 1 + window.accumulators.len()).sum();
        entries * (updates * UPDATE_WORDS + self.entry_words)
    }

    /// The same for giving back the rings of a key whose every bucket is there, with objects of a usual size.
    fn release_work_max(&self) -> usize {
        let ring = |window: &WindowPlan| {
            let objects: usize = window.accumulators.iter().map(|plan| plan.accumulator.handles().len()).sum();
            ring_words(window.buckets, window.stride + objects * OBJECT_WORK)
        };
        self.windows.iter().map(ring).sum()
    }

    /// Whether words written under the other plan mean the same under this one.
    pub(crate) fn has_layout_of(&self, other: &Self) -> bool {
        Layout::of(self) == Layout::of(other)
    }

    /// The first ring that would be larger than the largest object. Registration refuses it; what is applied has none.
    pub(crate) fn oversized_ring(&self) -> Option<OversizedRing> {
        let too_large = |window: &&WindowPlan| ring_words(window.buckets, window.stride) > Arena::OBJECT_WORDS_MAX;
        let window = self.windows.iter().find(too_large)?;
        let WindowPlan { window_us, resolution, stride, .. } = *window;
        Some(OversizedRing { window_us, resolution, bucket_words: stride, resolution_fitting: resolution_fitting(stride) })
    }

    /// Whether an entity of this slab begins as a list.
    pub(crate) fn is_windowed(&self) -> bool {
        !self.windows.is_empty()
    }

    /// Whether lists keep values, of which some may be texts.
    pub(crate) fn lists_values(&self) -> bool {
        self.listed.iter().any(|&column| self.columns[column].listed == Need::Value)
    }

    /// Index of the feature of this name.
    pub(crate) fn feature(&self, name: &str) -> Option<usize> {
        self.features.iter().position(|feature| &*feature.def.name == name)
    }

    /// Bytes of one entity: at least (one row), and when all its rings are full of scalar buckets; sketches come on top of the second.
    pub(crate) fn bytes_per_key(&self) -> (usize, usize) {
        let row = self.stride * 8;
        let list = if self.is_windowed() { (1 + self.entry_words) * 8 } else { 0 };
        let rings: usize = self.windows.iter().map(|window| ring_words(window.buckets, window.stride) * 8).sum();
        (row + list, row + rings)
    }

    fn growth(&self) -> GrowthMax {
        let holds_values = |plan: &&AccumulatorPlan| plan.accumulator.need() == Need::Value && !plan.accumulator.handles().is_empty();
        let windowed = || self.windows.iter().flat_map(|window| &window.accumulators);
        let all = || self.lifetime.iter().chain(windowed());
        let objects = |plan: &AccumulatorPlan| plan.accumulator.demand_words_max();
        let largest = all().map(objects).max().unwrap_or(0);
        if self.windows.is_empty() {
            let texts = all().filter(holds_values).count();
            return GrowthMax { row: all().map(objects).sum(), largest, texts, ..GrowthMax::default() };
        }
        let list = 1 + self.entries_max * self.entry_words;
        let rings = || self.windows.iter().map(|window| ring_words(window.buckets, window.stride));
        // Sketches of lifted rows are small, but there are many.
        let lifted: usize = windowed().map(|plan| plan.accumulator.lifted_words_max()).sum();
        // An object that grows by half each time leaves twice its words behind it at most; a first one has room for one entry.
        let entry = 5 * self.entry_words + 4;
        GrowthMax {
            row: entry + 2 * all().map(objects).sum::<usize>(),
            key: 3 * (list + rings().sum::<usize>()) + self.entries_max * lifted,
            entry,
            lifted,
            windowed: 2 * windowed().map(objects).sum::<usize>(),
            largest: rings().max().unwrap_or(0).max(list).max(largest),
            texts: self.listed.len() + all().filter(holds_values).count(),
            lifts: windowed().filter(holds_values).count(),
        }
    }

    /// Words of all rings of an entity when every bucket of their windows is there; sketches come on top.
    fn ring_words(&self) -> usize {
        self.windows.iter().map(|window| ring_words(window.resolution, window.stride)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_as_large_as_the_rings_within_its_bounds_and_never_beyond_the_largest_object() {
        assert_eq!((entries_max(10, 4), entries_max(1_000, 4), entries_max(1 << 20, 4)), (ENTRIES_MIN, 250, ENTRIES_MAX));
        // 16,384 columns over three windows: 512 entries of them would be 8.9 M words.
        for entry_words in [17_409, 70_000, 1 << 20] {
            let entries = entries_max(9_437_376, entry_words);
            assert!(entries > 0 && entries * entry_words < Arena::OBJECT_WORDS_MAX, "{entries} of {entry_words} words");
        }
    }
}
