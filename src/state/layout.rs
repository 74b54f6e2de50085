//! What the words of a slab mean: the identity of their layout, which stands beside them in a file.
//!
//! A plan is compiled from declarations by the program that runs. Another build may compile the same declarations to
//! other words: an accumulator that keeps more, a window cut otherwise, a list entry in another form. So a snapshot
//! says of each slab how the program that wrote it had laid it out, accumulator by accumulator, and a program that
//! would lay it out otherwise refuses it by the name of what differs. Words are never read as what they are not.
//!
//! An accumulator's identity names its kind and all parameters that its words hang on. Who changes what the words of
//! an accumulator mean changes its identity; `tests/golden/layouts.json` finds who did not (`src/state/tests/layouts.rs`).

use super::accumulator::Need;
use super::plan::{AccumulatorPlan, SlabPlan, SlotRef};
use serde::{Deserialize, Serialize};

/// See the module's head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layout {
    /// Words of a row.
    row_words: usize,
    /// Accumulators of the row.
    lifetime: Vec<SlotLayout>,
    /// Accumulators of buckets.
    rings: Vec<RingLayout>,
    /// What an entry of a list is; none where the slab has no window.
    list: Option<ListLayout>,
    /// Where each feature has its slots, in the order in which features are named.
    features: Vec<Vec<SlotRef>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct SlotLayout {
    accumulator: String,
    at: usize,
    words: usize,
    /// Columns that it reads, as the plan numbers them.
    columns: Vec<usize>,
    filter: Option<usize>,
    sees_all: bool,
    idle: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RingLayout {
    window_us: i64,
    bucket_us: i64,
    /// The most buckets that the ring holds.
    buckets: usize,
    /// Words of a bucket.
    bucket_words: usize,
    /// Word of the row that holds the ring's handle.
    at: usize,
    slots: Vec<SlotLayout>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ListLayout {
    entry_words: usize,
    lsn: bool,
    tag_words: usize,
    /// Of each cell its column, as the plan numbers them, and what it keeps of it.
    cells: Vec<(usize, Need)>,
    filters: usize,
}

impl Layout {
    /// How a plan lays its slab out.
    pub(crate) fn of(plan: &SlabPlan) -> Self {
        let slots = |plans: &[AccumulatorPlan]| plans.iter().map(SlotLayout::of).collect();
        let rings = plan.windows.iter().map(|window| RingLayout {
            window_us: window.window_us,
            bucket_us: window.bucket_us,
            buckets: window.buckets,
            bucket_words: window.stride,
            at: window.at,
            slots: slots(&window.accumulators),
        });
        let list = plan.is_windowed().then(|| ListLayout {
            entry_words: plan.entry_words,
            lsn: plan.keeps_lsn,
            tag_words: plan.tag_words,
            cells: plan.listed.iter().map(|&column| (column, plan.columns[column].listed)).collect(),
            filters: plan.filters.len(),
        });
        Self {
            row_words: plan.stride,
            lifetime: slots(&plan.lifetime),
            rings: rings.collect(),
            list,
            features: plan.features.iter().map(|feature| feature.slots.clone()).collect(),
        }
    }

    /// What the words of a slab that was written so are not, to this plan; none where they are what it takes them for.
    pub(crate) fn difference(&self, plan: &SlabPlan) -> Option<String> {
        let now = Self::of(plan);
        if *self == now {
            return None;
        }
        let features = plan.features.iter().zip(self.features.iter().zip(&now.features));
        for (feature, (then, now_at)) in features {
            let (then, now) = (self.slots(then), now.slots(now_at));
            if then != now {
                return Some(format!("feature {} has {} there, and {} here", feature.def.name, told(&then), told(&now)));
            }
        }
        Some(match (self.list == now.list, self.rings.iter().zip(&now.rings).find(|(then, now)| then != now)) {
            (false, _) => format!("lists have {} there, and {} here", told_list(self.list.as_ref()), told_list(now.list.as_ref())),
            (true, Some((then, now))) => {
                format!("the windows of {} us are cut into {} there, and {} here", then.window_us, then.told(), now.told())
            }
            (true, None) if self.row_words != now.row_words => {
                format!("rows have {} words there, and {} here", self.row_words, now.row_words)
            }
            (true, None) => "the same accumulators stand in another order, or read other columns or filters".to_owned(),
        })
    }

    /// The slots of a feature, as far as they are there.
    fn slots(&self, of: &[SlotRef]) -> Vec<Option<(&str, usize)>> {
        let found = of.iter().map(|at| match *at {
            SlotRef::Lifetime(number) => self.lifetime.get(number),
            SlotRef::Windowed { window, accumulator } => self.rings.get(window)?.slots.get(accumulator),
        });
        found.map(|slot| slot.map(|slot| (&*slot.accumulator, slot.words))).collect()
    }
}

impl SlotLayout {
    fn of(plan: &AccumulatorPlan) -> Self {
        let AccumulatorPlan { at, words, filter, sees_all, idle, .. } = *plan;
        Self { accumulator: plan.accumulator.identity(), at, words, columns: plan.columns().collect(), filter, sees_all, idle }
    }
}

impl RingLayout {
    fn told(&self) -> String {
        format!("at most {} buckets of {} us and {} words", self.buckets, self.bucket_us, self.bucket_words)
    }
}

fn told(slots: &[Option<(&str, usize)>]) -> String {
    let slot = |slot: &Option<(&str, usize)>| match slot {
        Some((accumulator, words)) => format!("{accumulator:?} in {words} words"),
        None => "nothing".to_owned(),
    };
    slots.iter().map(slot).collect::<Vec<_>>().join(" and ")
}

fn told_list(list: Option<&ListLayout>) -> String {
    let entry = |list: &ListLayout| format!("entries of {} words, {} cells of them", list.entry_words, list.cells.len());
    list.map_or_else(|| "no entries".to_owned(), entry)
}
