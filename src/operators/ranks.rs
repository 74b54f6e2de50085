//! Numbers by rank: how a quantile is read from slots of [`Quantiles`].
//!
//! Without a cut bucket the answer comes from one list or one sketch. With cut buckets their
//! numbers stand among the others with their share as weight. Which of the `n_b` numbers of cut
//! buckets are inside is not known, but each that is outside moves a number of the answer down by
//! one rank at most: with `n_c` numbers surely inside, the answer is between the numbers of rank
//! `floor(q * (n_c - 1))` and `ceil(q * (n_c - 1)) + n_b` of all. The weighted quantile is always
//! among those. A sketch knows a number as its bucket only, so that the bound goes from the lower
//! edge of the one to the upper edge of the other.

use super::Slot;
use super::quantiles::{Held, NUMBER_OFFSET, Quantiles, ZERO, code_of, codes_of, collapse, factor_ln, number_of};
use super::reading::{Accuracy, Bound, Part};

impl Quantiles {
    /// The `q`-quantile, with the numbers of cut buckets weighted by their share; `None` without a
    /// number.
    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    pub(super) fn value(slot: &Slot<'_>, q: f64) -> Option<f64> {
        if slot.edges().any(|edge| edge.part.words[0] != 0) {
            return Ranks::of(slot.parts()).quantile(q);
        }
        match Held::by(slot.core) {
            Held::List([]) => None,
            Held::List(list) => Some(interpolate(list, q)),
            held @ Held::Sketch { object, .. } => {
                let runs = codes_of(object).map(|(key, count)| Run { key, count, share: 1.0 });
                reached(runs, position(q, held.numbers() as f64)).map(|key| Scale::Numbers.with(&held).spanning(&held).middle(key))
            }
        }
    }

    /// Which numbers the `q`-quantile may be.
    pub(super) fn accuracy(slot: &Slot<'_>, q: f64) -> Accuracy {
        let cut: u64 = slot.edges().map(|edge| Held::by(edge.part).numbers()).sum();
        let core = Held::by(slot.core);
        if cut == 0 && matches!(core, Held::List(_)) {
            return Accuracy::Exact;
        }
        let (low, high) = Ranks::of(slot.parts()).between(q, core.numbers(), cut);
        Bound::numbers(low, high).or_null(core.numbers() == 0).into()
    }
}

/// Equal numbers, or those of one bucket of a sketch.
#[derive(Debug, Clone, Copy)]
struct Run {
    /// A word or a code, as [`Scale`] says; ascends with the numbers.
    key: u64,
    count: u64,
    /// Weight of each number.
    share: f64,
}

/// What the keys of runs mean.
#[derive(Debug, Clone, Copy)]
enum Scale {
    /// Words of numbers.
    Numbers,
    /// Codes of buckets, between the exact smallest and largest number.
    Buckets { collapses: u32, smallest: f64, largest: f64 },
}

/// The numbers of some parts in ascending order.
struct Ranks {
    runs: Vec<Run>,
    scale: Scale,
}

impl Ranks {
    fn of<'a>(parts: impl Iterator<Item = (Part<'a>, f64)>) -> Self {
        let held: smallvec::SmallVec<[(Held<'a>, f64); 3]> =
            parts.map(|(part, share)| (Held::by(part), share)).filter(|(held, _)| held.numbers() > 0).collect();
        let scale = held.iter().fold(Scale::Numbers, |scale, (held, _)| scale.with(held));
        let scale = held.iter().fold(scale, |scale, (held, _)| scale.spanning(held));
        let mut runs = Vec::new();
        for (held, share) in &held {
            let run = |(key, count)| Run { key, count, share: *share };
            match (held, scale) {
                (Held::List(list), Scale::Numbers) => runs.extend(list.iter().map(|&word| run((word, 1)))),
                (Held::List(list), Scale::Buckets { collapses, .. }) => {
                    runs.extend(list.iter().map(|&word| run((collapse(code_of(number_of(word)), collapses), 1))));
                }
                (Held::Sketch { object, collapses: held }, Scale::Buckets { collapses, .. }) => {
                    runs.extend(codes_of(object).map(|(code, count)| run((collapse(code, collapses - held), count))));
                }
                (Held::Sketch { .. }, Scale::Numbers) => unreachable!("a sketch makes the scale one of buckets"),
            }
        }
        // Each part is ascending already, which a stable sort makes use of.
        runs.sort_by_key(|run| run.key);
        Self { runs, scale }
    }

    #[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
    fn quantile(&self, q: f64) -> Option<f64> {
        let target = position(q, self.runs.iter().map(|run| run.count as f64 * run.share).sum());
        match self.scale {
            Scale::Numbers => self.interpolated(target),
            Scale::Buckets { .. } => reached(self.runs.iter().copied(), target).map(|key| self.scale.middle(key)),
        }
    }

    /// The number at a position, where a number of weight w takes up w and stands in the middle of
    /// it. Without weights these are the positions 0, 1, 2, ... of a list.
    fn interpolated(&self, target: f64) -> Option<f64> {
        let (mut below, mut before) = (0.0, None);
        for run in &self.runs {
            debug_assert_eq!(run.count, 1, "a list counts each number");
            let (position, number) = (below + (run.share - 1.0) / 2.0, number_of(run.key));
            match before {
                _ if position < target => {}
                None => return Some(number),
                Some((earlier, smaller)) => return Some(weighted(smaller, number, (target - earlier) / (position - earlier))),
            }
            before = Some((position, number));
            below += run.share;
        }
        before.map(|(_, number)| number)
    }

    /// The least and the largest number that the quantile may be with any of `cut` numbers beside
    /// `inside` others.
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "ranks below 2^53")]
    fn between(&self, q: f64, inside: u64, cut: u64) -> (f64, f64) {
        let position = position(q, inside.max(1) as f64);
        let (first, last) = (position.floor() as u64, (position.ceil() as u64 + cut).min((inside + cut).saturating_sub(1)));
        (self.scale.ends(self.at(first).key).0, self.scale.ends(self.at(last).key).1)
    }

    /// The run that holds a rank.
    fn at(&self, rank: u64) -> &Run {
        let mut below = 0;
        let reaches = |run: &&Run| {
            below += run.count;
            below > rank
        };
        let Some(run) = self.runs.iter().find(reaches) else { unreachable!("rank {rank} of {below} numbers") };
        run
    }
}

/// Where the `q`-quantile of numbers of this weight stands, counted from 0.
fn position(q: f64, weight: f64) -> f64 {
    q * (weight - 1.0)
}

/// The key of the run that a position falls into: the first that ends beyond it.
#[expect(clippy::cast_precision_loss, reason = "counts below 2^53")]
fn reached(runs: impl Iterator<Item = Run>, position: f64) -> Option<u64> {
    let (mut below, mut last) = (0.0, None);
    for run in runs {
        last = Some(run.key);
        below += run.count as f64 * run.share;
        if below > position {
            break;
        }
    }
    last
}

impl Scale {
    /// Wide enough for this part too.
    fn with(self, held: &Held<'_>) -> Self {
        match (*held, self) {
            (Held::List(_), _) => self,
            (Held::Sketch { collapses, .. }, Self::Numbers) => {
                Self::Buckets { collapses, smallest: f64::INFINITY, largest: f64::NEG_INFINITY }
            }
            (Held::Sketch { collapses: more, .. }, Self::Buckets { collapses, smallest, largest }) => {
                Self::Buckets { collapses: collapses.max(more), smallest, largest }
            }
        }
    }

    /// With the smallest and largest number of this part.
    fn spanning(self, held: &Held<'_>) -> Self {
        let Self::Buckets { collapses, smallest, largest } = self else { return self };
        let (least, most) = held.ends();
        Self::Buckets { collapses, smallest: smallest.min(least), largest: largest.max(most) }
    }

    /// The best guess at a number of this key.
    fn middle(self, key: u64) -> f64 {
        match self {
            Self::Numbers => number_of(key),
            Self::Buckets { collapses, smallest, largest } => middle(key.cast_signed(), collapses).clamp(smallest, largest),
        }
    }

    /// The least and the largest number of this key.
    fn ends(self, key: u64) -> (f64, f64) {
        match self {
            Self::Numbers => (number_of(key), number_of(key)),
            Self::Buckets { collapses, smallest, largest } => {
                let (low, high) = ends(key.cast_signed(), collapses);
                (low.clamp(smallest, largest), high.clamp(smallest, largest))
            }
        }
    }
}

/// Linear interpolation at position q * (n - 1) of an ascending list.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a position within a short list")]
fn interpolate(list: &[u64], q: f64) -> f64 {
    let position = position(q, list.len() as f64);
    let at = (position as usize).min(list.len() - 1);
    let (low, high) = (number_of(list[at]), number_of(list[(at + 1).min(list.len() - 1)]));
    weighted(low, high, position - at as f64)
}

/// Between two numbers: weighted ends, not a difference, which could overflow.
fn weighted(low: f64, high: f64, share: f64) -> f64 {
    if low == high { low } else { low * (1.0 - share) + high * share }
}

/// The point of a bucket whose relative distance to both edges is the bound: 2 g^(k+1) / (g + 1).
pub(super) fn middle(code: i64, collapses: u32) -> f64 {
    let factor_ln = factor_ln(collapses);
    magnitude(code, |number| (number * factor_ln).exp() * (2.0 / (1.0 + (-factor_ln).exp())))
}

/// The edges of a bucket, lower one first. Logarithms round, so that a number may be beyond its
/// bucket's edge by a little.
pub(super) fn ends(code: i64, collapses: u32) -> (f64, f64) {
    const ROUNDING: f64 = 1e-11;
    let factor_ln = factor_ln(collapses);
    let inner = magnitude(code, |number| (number * factor_ln).exp() * (1.0 - ROUNDING));
    let outer = magnitude(code, |number| ((number + 1.0) * factor_ln).exp() * (1.0 + ROUNDING));
    (inner.min(outer), inner.max(outer))
}

/// A number of a code from its bucket's number k, with its sign.
#[expect(clippy::cast_precision_loss, reason = "a bucket's number is small")]
fn magnitude(code: i64, of: impl Fn(f64) -> f64) -> f64 {
    match code - ZERO {
        0 => 0.0,
        distance => of((distance.abs() - 1 - NUMBER_OFFSET) as f64) * distance.signum() as f64,
    }
}
