//! What an operator reads, and what it says about the value.
//!
//! A window of a grown key is a run of whole buckets and at most two that an edge of the window
//! cuts: some of the cut bucket's rows are inside, and nobody knows which. The state hands both
//! over apart, a [`Slot`] per accumulator, and decides nothing about values; each operator says in
//! its own file what it makes of a cut bucket, as a value and as an [`Accuracy`]. Lists and
//! lifetimes have no cut buckets, so one reading serves all forms. Values are read on every GET;
//! the accuracy only for `explain=1`. Runs on the seat; pure.

use crate::state::Arena;
use streamgauge_api::Value;

/// The words of one accumulator, with the arena that their handles point into.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The slot's words.
    pub words: &'a [u64],
    /// The arena of its handles.
    pub arena: &'a Arena,
}

/// A bucket that an edge of the window cuts.
#[derive(Debug, Clone, Copy)]
pub struct Edge<'a> {
    /// What the whole bucket holds.
    pub part: Part<'a>,
    /// How much of the time that its rows fill is inside the window, above 0 and at most 1.
    pub share: f64,
}

/// One accumulator at a read.
#[derive(Debug, Clone, Copy)]
pub struct Slot<'a> {
    /// The bucket at the window's old edge, earlier than the core.
    pub before: Option<Edge<'a>>,
    /// All that is surely inside: the rows of a list, the merge of whole buckets, the slot of a
    /// lifetime.
    pub core: Part<'a>,
    /// The bucket that holds the time of the read, when it has rows after that time too.
    pub after: Option<Edge<'a>>,
    /// Whether the core was merged from buckets, so that it may not know in which order its rows
    /// came.
    pub bucketed: bool,
    /// Whether rows may be missing that the window would hold, so that nothing is known of the
    /// answer.
    pub lacks_rows: bool,
}

impl<'a> Slot<'a> {
    /// A slot that no edge cuts.
    pub fn whole(words: &'a [u64], arena: &'a Arena) -> Self {
        Self { before: None, core: Part { words, arena }, after: None, bucketed: false, lacks_rows: false }
    }

    /// The cut buckets, in order of time.
    pub fn edges(&self) -> impl Iterator<Item = Edge<'a>> + use<'a> {
        self.before.into_iter().chain(self.after)
    }

    /// Everything that may be inside, in order of time, each with its share.
    pub fn parts(&self) -> impl Iterator<Item = (Part<'a>, f64)> + use<'a> {
        let edge = |edge: Edge<'a>| (edge.part, edge.share);
        self.before.map(edge).into_iter().chain([(self.core, 1.0)]).chain(self.after.map(edge))
    }

    /// The core, and cut buckets of which half or more is inside, in order of time.
    pub fn nearest(&self) -> impl Iterator<Item = Part<'a>> + use<'a> {
        self.parts().filter(|(_, share)| *share >= 0.5).map(|(part, _)| part)
    }
}

/// A value with what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: Value,
    /// How far it may be from the answer.
    pub accuracy: Accuracy,
}

/// What is known of a value.
#[derive(Debug, Clone, PartialEq)]
pub enum Accuracy {
    /// It is the answer.
    Exact,
    /// The answer is within.
    Within(Bound),
    /// The answer may be any.
    Unknown,
}

/// Where the answer is.
#[derive(Debug, Clone, PartialEq)]
pub struct Bound {
    /// Least answer; null = open below. Of a list of counts: the least of each.
    pub low: Value,
    /// Largest answer; null = open above. Of a list of counts: the largest of each.
    pub high: Value,
    /// Whether the answer may also be null.
    pub nullable: bool,
    /// How often the answer is within; none = always.
    pub confidence: Option<f64>,
}

/// The confidence of statistical bounds.
pub(super) const CONFIDENCE: f64 = 0.95;

/// Standard errors to either side of an estimate that hold with [`CONFIDENCE`].
pub(super) const DEVIATIONS: f64 = 1.96;

impl Bound {
    /// Between two doubles.
    pub(super) fn numbers(low: f64, high: f64) -> Self {
        debug_assert!(low <= high || low.is_nan() || high.is_nan(), "a bound from {low} to {high}");
        Self { low: Value::F64(low), high: Value::F64(high), nullable: false, confidence: None }
    }

    /// Between two counts.
    pub(super) fn counts(low: u64, high: u64) -> Self {
        debug_assert!(low <= high, "a bound from {low} to {high}");
        Self { low: count_value(low), high: count_value(high), nullable: false, confidence: None }
    }

    /// The same, or null.
    #[must_use]
    pub(super) fn or_null(self, nullable: bool) -> Self {
        Self { nullable, ..self }
    }
}

impl From<Bound> for Accuracy {
    /// Equal ends leave nothing open.
    fn from(bound: Bound) -> Self {
        if bound.low == bound.high && !bound.nullable { Self::Exact } else { Self::Within(bound) }
    }
}

impl Reading {
    /// The largest `|value - x| / max(1, |x|)` of all answers x within the bound; none when there
    /// is no such number: the bound is open, or its values have no distance.
    pub fn error(&self) -> Option<f64> {
        match &self.accuracy {
            Accuracy::Exact => Some(0.0),
            Accuracy::Within(bound) => error(&self.value, &bound.low, &bound.high),
            Accuracy::Unknown => None,
        }
    }
}

fn error(value: &Value, low: &Value, high: &Value) -> Option<f64> {
    if let (Value::List(items), Value::List(low), Value::List(high)) = (value, low, high) {
        debug_assert!(items.len() == low.len() && items.len() == high.len(), "a bound for each item");
        let mut errors = items.iter().zip(low.iter().zip(high)).map(|(item, (low, high))| error(count_of(item)?, low, high));
        return errors.try_fold(0.0, |most: f64, error| Some(most.max(error?)));
    }
    let finite = |value| number(value).filter(|number| number.is_finite());
    let (value, low, high) = (finite(value)?, finite(low)?, finite(high)?);
    // The error of x has its extremes at the ends of the bound, or where max(1, |x|) turns.
    let turns = [-1.0, 1.0].into_iter().filter(|turn| (low..=high).contains(turn));
    let errors = [low, high].into_iter().chain(turns).map(|x| (value - x).abs() / x.abs().max(1.0));
    Some(errors.fold(0.0, f64::max))
}

/// The count of an item of a list, which is a map with its value.
fn count_of(item: &Value) -> Option<&Value> {
    let Value::Map(entries) = item else { return Some(item) };
    entries.iter().find(|(name, _)| &**name == "count").map(|(_, count)| count)
}

#[expect(clippy::cast_precision_loss, reason = "an error needs no last digit")]
fn number(value: &Value) -> Option<f64> {
    match value {
        Value::I64(number) => Some(*number as f64),
        Value::F64(number) => Some(*number),
        _ => None,
    }
}

/// A count as readers see it.
pub(super) fn count_value(count: u64) -> Value {
    Value::I64(i64::try_from(count).unwrap_or(i64::MAX))
}

/// A count with the shares of further ones, rounded.
#[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a count is a count")]
pub(super) fn with_shares(count: u64, edges: impl Iterator<Item = (u64, f64)>) -> u64 {
    let more: f64 = edges.map(|(count, share)| count as f64 * share).sum();
    debug_assert!(more >= 0.0, "shares of counts add up to {more}");
    count.saturating_add(more.round() as u64)
}

/// What tests hold a reading against.
#[cfg(test)]
impl Reading {
    /// Whether the reading allows this answer, numbers within a rounding of `rounding` of their
    /// size. The answer of a list of counts has all of them.
    pub(crate) fn admits(&self, answer: &Value, rounding: f64) -> bool {
        let same = |left: &Value, right: &Value| at_most(left, right, rounding) && at_most(right, left, rounding);
        match (&self.accuracy, &self.value, answer) {
            (Accuracy::Unknown, ..) => true,
            (Accuracy::Exact, Value::List(items), Value::List(answers)) => answers.starts_with(items),
            (Accuracy::Exact, value, answer) => same(value, answer),
            (Accuracy::Within(bound), Value::List(items), Value::List(answers)) => {
                let (Value::List(low), Value::List(high)) = (&bound.low, &bound.high) else { return false };
                let value = |item: &Value| if let Value::Map(entries) = item { entries.last().cloned() } else { None };
                items.iter().zip(low.iter().zip(high)).all(|(item, (low, high))| {
                    let answer = answers.iter().find(|answer| value(answer) == value(item));
                    let count = answer.and_then(count_of).cloned().unwrap_or(Value::I64(0));
                    at_most(low, &count, 0.0) && at_most(&count, high, 0.0)
                })
            }
            (Accuracy::Within(bound), value, answer) => [value, answer].iter().all(|value| match value {
                Value::Null => bound.nullable,
                value => {
                    (bound.low == Value::Null || at_most(&bound.low, value, rounding))
                        && (bound.high == Value::Null || at_most(value, &bound.high, rounding))
                }
            }),
        }
    }
}

/// Whether one value is not above the other; never for values of different kinds.
#[cfg(test)]
fn at_most(low: &Value, high: &Value, rounding: f64) -> bool {
    if let (Some(low), Some(high)) = (number(low), number(high)) {
        return low <= high + rounding * high.abs().max(1.0);
    }
    match (low, high) {
        (Value::Str(low), Value::Str(high)) => low <= high,
        (Value::Bool(low), Value::Bool(high)) => low <= high,
        (Value::Datetime(low), Value::Datetime(high)) => low <= high,
        (low, high) => low == high,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(value: Value, bound: Bound, expected: Option<f64>) {
        let reading = Reading { value, accuracy: Accuracy::Within(bound) };
        assert_eq!(reading.error(), expected, "{reading:?}");
    }

    #[test]
    fn the_error_is_the_largest_over_the_bound() {
        let count = |count| Value::Map(vec![("count".into(), Value::I64(count)), ("value".into(), Value::Bool(true))]);
        let counts = |counts: [i64; 2]| Value::List(counts.map(Value::I64).into());
        let lists = |low, high| Bound { low: counts(low), high: counts(high), nullable: false, confidence: None };
        check(Value::I64(100), Bound::counts(80, 110), Some(0.25));
        check(Value::F64(100.0), Bound::numbers(90.0, 200.0), Some(0.5));
        check(Value::F64(0.25), Bound::numbers(0.0, 0.5), Some(0.25));
        // Beyond 1 the error of a negative value falls again.
        check(Value::F64(-3.0), Bound::numbers(-4.0, 40.0), Some(4.0));
        check(Value::F64(3.0), Bound::numbers(-40.0, 4.0), Some(4.0));
        check(Value::F64(1.0), Bound::numbers(f64::NEG_INFINITY, 1.0), None);
        check(Value::F64(1.0), Bound { high: Value::Null, ..Bound::numbers(0.0, 2.0) }, None);
        check(Value::Str("a".into()), Bound { low: Value::Str("a".into()), high: Value::Str("b".into()), ..Bound::counts(0, 0) }, None);
        check(Value::List(vec![count(8), count(2)]), lists([8, 1], [8, 4]), Some(1.0));
    }

    #[test]
    fn equal_ends_leave_nothing_open_unless_there_may_be_nothing() {
        assert_eq!(Accuracy::from(Bound::counts(3, 3)), Accuracy::Exact);
        assert_ne!(Accuracy::from(Bound::numbers(1.0, 1.0).or_null(true)), Accuracy::Exact);
    }

    #[test]
    fn shares_of_counts_are_rounded_once() {
        let check = |count, edges: &[(u64, f64)], expected| assert_eq!(with_shares(count, edges.iter().copied()), expected);
        check(5, &[], 5);
        check(5, &[(4, 0.5)], 7);
        check(5, &[(1, 0.49)], 5);
        check(0, &[(1, 0.25), (1, 0.25)], 1);
        check(u64::MAX, &[(9, 0.9)], u64::MAX);
    }
}
