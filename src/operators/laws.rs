//! The laws of accumulators as checks, for the tests of the files beside it. Not part of the product.
//!
//! A file brings rows, cuts and a notion of "the same" (equal content, or a bound for doubles); the checks here feed, split, merge and compare.

use super::{Accuracy, Compiled, Edge, FeatureParams, Operator, ParamValue, ParamValues, Reading, Slot};
use crate::row::{Cell, FieldType};
use crate::state::{Accumulator, Arena, Demand, Input, Order, f64_of, hash_cell};
use proptest::prelude::*;
use proptest::test_runner::TestCaseError;
use streamgauge_api::Value;

/// An owned cell.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Datum {
    Absent,
    Null,
    Bool(bool),
    I64(i64),
    F64(f64),
    Str(String),
    Bytes(Vec<u8>),
    Datetime(i64),
    Json(String),
}

impl Datum {
    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Self::Absent => Cell::Absent,
            Self::Null => Cell::Null,
            Self::Bool(truth) => Cell::Bool(*truth),
            Self::I64(number) => Cell::I64(*number),
            Self::F64(number) => Cell::F64(*number),
            Self::Str(text) => Cell::Str(text.as_bytes()),
            Self::Bytes(bytes) => Cell::Bytes(bytes),
            Self::Datetime(ms) => Cell::Datetime(*ms),
            Self::Json(text) => Cell::Json(text.as_bytes()),
        }
    }
}

/// A row as accumulators see it.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) datum: Datum,
    /// Values of further fields.
    pub(super) more: Vec<Datum>,
    pub(super) time_us: i64,
    pub(super) lsn: u64,
    /// Whether `where` takes it.
    pub(super) matched: bool,
}

impl Row {
    /// A row of one field that matches.
    pub(super) fn of(datum: Datum, time_us: i64, lsn: u64) -> Self {
        Self { datum, more: Vec::new(), time_us, lsn, matched: true }
    }

    fn with_input(&self, then: impl FnOnce(&Input<'_>)) {
        let cell = self.datum.cell();
        let more: Vec<Cell<'_>> = self.more.iter().map(Datum::cell).collect();
        then(&Input { cell, more: &more, hash: hash_cell(cell), matched: self.matched, ..Input::bare(self.time_us, self.lsn) });
    }
}

/// Numbers of both kinds, small and huge, whole and not, and missing ones.
pub(super) fn numbers() -> impl Strategy<Value = Datum> {
    prop_oneof![
        4 => (-50i64..50).prop_map(Datum::I64),
        2 => (-4000i64..4000).prop_map(|quarters| Datum::F64(quarters as f64 / 4.0)),
        1 => any::<i64>().prop_map(Datum::I64),
        1 => (-1.0f64..1.0).prop_map(Datum::F64),
        1 => Just(Datum::Null),
    ]
}

/// Amounts of both kinds, and what is none.
pub(super) fn amounts() -> impl Strategy<Value = Datum> {
    prop_oneof![
        4 => (-50i64..50).prop_map(Datum::I64),
        4 => (-4000i64..4000).prop_map(|quarters| Datum::F64(quarters as f64 / 4.0)),
        1 => Just(Datum::Null),
        1 => prop::sample::select(vec![Datum::Absent, Datum::Bool(true), Datum::Str("7".into()), Datum::Datetime(7)]),
    ]
}

/// Rows in order of time: some at the same, most some seconds apart, some hours.
pub(super) fn in_time(datum: impl Strategy<Value = Datum>, most: usize) -> impl Strategy<Value = Vec<Row>> {
    timed(datum, prop_oneof![2 => Just(0i64), 8 => 0i64..3_000_000, 1 => 0i64..7_200_000_000].boxed(), most)
}

/// Rows of which some come late.
pub(super) fn out_of_time(datum: impl Strategy<Value = Datum>, most: usize) -> impl Strategy<Value = Vec<Row>> {
    timed(datum, prop_oneof![2 => Just(0i64), 8 => 0i64..3_000_000, 2 => -5_000_000i64..0].boxed(), most)
}

fn timed(datum: impl Strategy<Value = Datum>, step_us: BoxedStrategy<i64>, most: usize) -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec((datum, step_us), 0..most).prop_map(|data| {
        let mut time_us = 1_700_000_000_000_000;
        let row = |((datum, step_us), lsn)| {
            time_us += step_us;
            Row::of(datum, time_us, lsn)
        };
        data.into_iter().zip(1u64..).map(row).collect()
    })
}

/// The rows that have numbers, and their times.
pub(super) fn numbered(rows: &[Row]) -> Vec<(f64, i64)> {
    rows.iter().filter_map(|row| Some((row.datum.cell().number()?, row.time_us))).collect()
}

/// Rows of these values, one after the other.
pub(super) fn rows(data: impl IntoIterator<Item = Datum>) -> Vec<Row> {
    data.into_iter().zip(1u64..).map(|(datum, lsn)| Row::of(datum, lsn.cast_signed() * 1000, lsn)).collect()
}

/// A slot with its arena.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) words: Vec<u64>,
    pub(super) arena: Arena,
}

impl State {
    pub(super) fn empty(accumulator: &dyn Accumulator) -> Self {
        Self { words: vec![0; accumulator.words()], arena: Arena::default() }
    }

    pub(super) fn fed<'a>(accumulator: &dyn Accumulator, rows: impl IntoIterator<Item = &'a Row>) -> Self {
        Self::resumed(accumulator, Self::empty(accumulator), rows)
    }

    /// A state that rows were fed to before.
    pub(super) fn resumed<'a>(accumulator: &dyn Accumulator, mut state: Self, rows: impl IntoIterator<Item = &'a Row>) -> Self {
        rows.into_iter().for_each(|row| state.feed(accumulator, row));
        state
    }

    pub(super) fn feed(&mut self, accumulator: &dyn Accumulator, row: &Row) {
        row.with_input(|input| accumulator.update(&mut self.words, &mut self.arena, input));
    }

    pub(super) fn merged(mut self, accumulator: &dyn Accumulator, other: &Self) -> Self {
        accumulator.merge(&mut self.words, &mut self.arena, &other.words, &other.arena);
        self
    }

    pub(super) fn slot(&self) -> Slot<'_> {
        Slot::whole(&self.words, &self.arena)
    }

    /// The slot with its objects in place of their handles, without the room at their ends.
    pub(super) fn content(&self, accumulator: &dyn Accumulator) -> Vec<u64> {
        let mut content = Vec::new();
        for (at, &word) in self.words.iter().enumerate() {
            if accumulator.handles().contains(&at) {
                let object = self.arena.get(word);
                let used = object.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
                content.push(used as u64);
                content.extend(&object[..used]);
            } else {
                content.push(word);
            }
        }
        content
    }
}

/// What two states are compared by.
pub(super) type Same<'a> = &'a dyn Fn(&State, &State) -> bool;

/// Checks every law of an accumulator on these rows, cut into three parts.
pub(super) fn check_laws(accumulator: &dyn Accumulator, rows: &[Row], cuts: (usize, usize), same: Same<'_>) -> Result<(), TestCaseError> {
    let (first, second) = (cuts.0.min(cuts.1).min(rows.len()), cuts.0.max(cuts.1).min(rows.len()));
    let whole = State::fed(accumulator, rows);
    let again = State::fed(accumulator, rows);
    let fails = |law: &str| Err(TestCaseError::fail(law.to_owned()));
    if whole.content(accumulator) != again.content(accumulator) || whole.words != again.words {
        return fails("equal input gives equal bytes");
    }
    let part = |rows: &[Row]| State::fed(accumulator, rows);
    let (a, b, c) = (part(&rows[..first]), part(&rows[first..second]), part(&rows[second..]));
    let left = a.clone().merged(accumulator, &b).merged(accumulator, &c);
    let right = a.clone().merged(accumulator, &b.clone().merged(accumulator, &c));
    for state in [&whole, &a, &b, &c, &left, &right] {
        check_sound(accumulator, state)?;
    }
    if !same(&whole, &left) {
        return fails("merging the parts of a split equals feeding the whole");
    }
    if !same(&left, &right) {
        return fails("merge is associative");
    }
    let from_empty = State::empty(accumulator).merged(accumulator, &whole);
    let with_empty = whole.clone().merged(accumulator, &State::empty(accumulator));
    if !same(&whole, &from_empty) || !same(&whole, &with_empty) {
        return fails("the zero slot is the empty state");
    }
    if b.content(accumulator) != part(&rows[first..second]).content(accumulator) {
        return fails("merge does not change the other side");
    }
    let mut continued = a;
    rows[first..].iter().for_each(|row| continued.feed(accumulator, row));
    if continued.content(accumulator) != whole.content(accumulator) {
        return fails("a clone goes on as the original");
    }
    check_demand(accumulator, rows)?;
    let mut released = left;
    accumulator.release(&mut released.words, &mut released.arena);
    if released.words.iter().any(|&word| word != 0) || released.arena.used_bytes() != 0 {
        return fails("release gives everything back");
    }
    Ok(())
}

/// Checks the laws of an accumulator that stands in lifetimes only, whose slots are never merged.
pub(super) fn check_lifetime_laws(accumulator: &dyn Accumulator, rows: &[Row], cut: usize) -> Result<(), TestCaseError> {
    let (first, rest) = rows.split_at(cut.min(rows.len()));
    let whole = State::fed(accumulator, rows);
    let mut continued = State::fed(accumulator, first).clone();
    check_sound(accumulator, &State::empty(accumulator))?;
    check_sound(accumulator, &continued)?;
    rest.iter().for_each(|row| continued.feed(accumulator, row));
    prop_assert_eq!(&continued.words, &whole.words, "equal input gives equal bytes, and a clone goes on as the original");
    check_sound(accumulator, &whole)?;
    check_demand(accumulator, rows)
}

/// Checks that a state is one that a file may bring.
fn check_sound(accumulator: &dyn Accumulator, state: &State) -> Result<(), TestCaseError> {
    let found = accumulator.verify(&state.words, &state.arena);
    prop_assert_eq!(found, Ok(()), "{} left {:?}", accumulator.identity(), &state.words);
    Ok(())
}

/// Checks that an update makes no object that was not named before it: looked at right before the row, and some rows ahead.
pub(super) fn check_demand(accumulator: &dyn Accumulator, rows: &[Row]) -> Result<(), TestCaseError> {
    const AHEAD: usize = 3;
    let mut state = State::empty(accumulator);
    let mut looked_at: Vec<[Demand; AHEAD + 1]> = vec![Default::default(); rows.len() + AHEAD];
    for (at, row) in rows.iter().enumerate() {
        for before in 0..=AHEAD {
            let Some(row) = rows.get(at + before) else { continue };
            row.with_input(|input| accumulator.demand(&state.words, &state.arena, input, before, &mut looked_at[at + before][before]));
        }
        // Rows before it may be rows that the slot is not fed with.
        let besides: Vec<(usize, Demand)> = [1, 7, 100, 5_000]
            .map(|before| {
                let mut demand = Demand::default();
                row.with_input(|input| accumulator.demand(&state.words, &state.arena, input, before, &mut demand));
                (before, demand)
            })
            .into();
        state.arena.made.clear();
        state.feed(accumulator, row);
        for (before, demand) in besides {
            if !demand.covers(&state.arena.made) {
                let message = format!("row {at} made objects of classes {:?}; behind {before} others {demand:?}", state.arena.made);
                return Err(TestCaseError::fail(format!("an update makes no object that was not named: {message}")));
            }
        }
        for (before, demand) in looked_at[at].iter().enumerate().take(at + 1) {
            if !demand.covers(&state.arena.made) {
                let message = format!("row {at} made objects of classes {:?}; {before} rows before {demand:?}", state.arena.made);
                return Err(TestCaseError::fail(format!("an update makes no object that was not named: {message}")));
            }
        }
    }
    Ok(())
}

/// Checks that an accumulator of rows in any order leaves the same whatever the order in which they
/// come, and wherever they are cut and merged.
pub(super) fn check_any_order(accumulator: &dyn Accumulator, rows: &[Row], same: Same<'_>) -> Result<(), TestCaseError> {
    prop_assert_ne!(accumulator.order(), Order::Ends, "{} depends on the order in which rows come", accumulator.identity());
    let whole = State::fed(accumulator, rows);
    let mut shuffled: Vec<&Row> = rows.iter().collect();
    for turn in 0..3 {
        shuffled.sort_by_key(|row| Stream(row.lsn ^ turn << 40).word());
        prop_assert!(same(&whole, &State::fed(accumulator, shuffled.iter().copied())), "another order, another state");
        let (left, right) = shuffled.split_at(shuffled.len() / 3);
        let merged = State::fed(accumulator, right.iter().copied()).merged(accumulator, &State::fed(accumulator, left.iter().copied()));
        prop_assert!(same(&whole, &merged), "merged in another order, another state");
    }
    Ok(())
}

/// Equal content.
pub(super) fn check_exact_laws(accumulator: &dyn Accumulator, rows: &[Row], cuts: (usize, usize)) -> Result<(), TestCaseError> {
    check_laws(accumulator, rows, cuts, &|left, right| left.content(accumulator) == right.content(accumulator))
}

/// Checked parameters as registration hands them over: the signature's defaults, a minute for
/// durations that must be given, then these.
pub(super) fn params(operator: &dyn Operator, given: &[(&'static str, ParamValue)]) -> ParamValues {
    let mut values = ParamValues::default();
    for param in operator.signature().params {
        let default = match param.kind {
            super::ParamKind::Int { default, .. } => default.map(ParamValue::Int),
            super::ParamKind::Float { default, .. } => default.map(ParamValue::Float),
            super::ParamKind::Bool { default } => Some(ParamValue::Bool(default)),
            super::ParamKind::FieldName { default } => Some(ParamValue::FieldName(default.to_owned())),
            super::ParamKind::Duration { required: true } => Some(ParamValue::DurationUs(60_000_000)),
            _ => None,
        };
        if let Some(default) = default {
            values.0.insert(param.name, default);
        }
    }
    values.0.extend(given.iter().cloned());
    values
}

/// A windowed feature over a field of this type.
pub(super) fn compiled(operator: &dyn Operator, kind: FieldType, given: &[(&'static str, ParamValue)]) -> Compiled {
    compiled_over(operator, kind, given, Some(60_000_000))
}

/// A feature over a field of this type, with this window or none.
fn compiled_over(operator: &dyn Operator, kind: FieldType, given: &[(&'static str, ParamValue)], window_us: Option<i64>) -> Compiled {
    operator.compile(&FeatureParams { field_kind: Some(kind), params: &params(operator, given), window_us })
}

/// The feature's reading after these rows, all of which match.
pub(super) fn reading(operator: &dyn Operator, kind: FieldType, given: &[(&'static str, ParamValue)], rows: &[Row]) -> Reading {
    read_rows(&compiled(operator, kind, given), rows, 0)
}

fn read_rows(compiled: &Compiled, rows: &[Row], now_us: i64) -> Reading {
    let states: Vec<State> = compiled.needs.iter().map(|need| State::fed(&*need.accumulator, rows)).collect();
    read(compiled, &states.iter().map(State::slot).collect::<Vec<_>>(), now_us)
}

fn read(compiled: &Compiled, slots: &[Slot<'_>], now_us: i64) -> Reading {
    Reading { value: (compiled.value)(slots, now_us), accuracy: (compiled.accuracy)(slots, now_us) }
}

/// A reading that leaves nothing open.
pub(super) fn exactly(value: Value) -> Reading {
    Reading { value, accuracy: Accuracy::Exact }
}

/// The rows of a window that cuts a bucket at its old edge, and one at the time of the read.
#[derive(Debug, Clone, Default)]
pub(super) struct Cut {
    pub(super) before: Vec<Row>,
    pub(super) core: Vec<Row>,
    pub(super) after: Vec<Row>,
    /// Share of both cut buckets.
    pub(super) share: f64,
}

impl Cut {
    /// The feature's reading; a bucket without rows is not there.
    pub(super) fn read(&self, operator: &dyn Operator, kind: FieldType, given: &[(&'static str, ParamValue)]) -> Reading {
        self.read_at(operator, kind, given, 0)
    }

    /// The same at a time.
    pub(super) fn read_at(&self, operator: &dyn Operator, kind: FieldType, given: &[(&'static str, ParamValue)], now_us: i64) -> Reading {
        let compiled = compiled(operator, kind, given);
        let fed = |rows: &[Row]| compiled.needs.iter().map(|need| State::fed(&*need.accumulator, rows)).collect::<Vec<_>>();
        let (before, core, after) = (fed(&self.before), fed(&self.core), fed(&self.after));
        let slots: Vec<Slot<'_>> = (0..core.len())
            .map(|need| Slot {
                before: (!self.before.is_empty()).then(|| Edge { part: before[need].slot().core, share: self.share }),
                core: core[need].slot().core,
                after: (!self.after.is_empty()).then(|| Edge { part: after[need].slot().core, share: self.share }),
                bucketed: true,
                lacks_rows: false,
            })
            .collect();
        read(&compiled, &slots, now_us)
    }
}

/// Checks that a window's reading allows the answer of every window that cuts the same buckets
/// elsewhere. Rows of a bucket come in any order.
pub(super) fn check_edges(
    operator: &dyn Operator,
    kind: FieldType,
    given: &[(&'static str, ParamValue)],
    rows: &[Row],
    cuts: (usize, usize),
    share: f64,
) -> Result<(), TestCaseError> {
    let (first, second) = (cuts.0.min(cuts.1).min(rows.len()), cuts.0.max(cuts.1).min(rows.len()));
    let shuffled = |rows: &[Row]| {
        let mut rows = rows.to_vec();
        rows.sort_by_key(|row| Stream(row.lsn).word());
        rows
    };
    let (before, core, after) = (shuffled(&rows[..first]), shuffled(&rows[first..second]), shuffled(&rows[second..]));
    let reading = Cut { before, core, after, share }.read(operator, kind, given);
    let all = [("k", ParamValue::Int(1024))];
    let asked = if operator.signature().name == "top_k" { &all[..] } else { given };
    // Of many windows some, both ends among them.
    let some = |range: std::ops::RangeInclusive<usize>| {
        let (start, end) = range.into_inner();
        (start..=end).step_by((end - start) / 8 + 1).chain([end])
    };
    for from in some(0..=first) {
        for to in some(second..=rows.len()) {
            let answer = self::reading(operator, kind, asked, &rows[from..to]).value;
            if !reading.admits(&answer, 1e-9) {
                return Err(TestCaseError::fail(format!("{answer:?} of rows {from} to {to}, cut at {first} and {second}: {reading:?}")));
            }
        }
    }
    Ok(())
}

/// The double of a value that is one or null.
pub(super) fn double(value: &Value) -> Option<f64> {
    match value {
        Value::F64(number) => Some(*number),
        Value::Null => None,
        other => panic!("{other:?} is no double"),
    }
}

/// Whether two doubles are no further apart than this; or both are none.
pub(super) fn near(left: Option<f64>, right: Option<f64>, bound: f64) -> bool {
    match (left, right) {
        (Some(left), Some(right)) => (left - right).abs() <= bound,
        (left, right) => left == right,
    }
}

/// Whether states are equal but for these words, which hold doubles no further apart than this.
pub(super) fn near_words(doubles: &'static [usize], bound: f64) -> impl Fn(&State, &State) -> bool {
    move |left, right| {
        let near = |at: usize| near(Some(f64_of(left.words[at])), Some(f64_of(right.words[at])), bound);
        (0..left.words.len()).all(|at| left.words[at] == right.words[at] || doubles.contains(&at) && near(at))
    }
}

/// Checks what a feature reads after these rows, over a lifetime and in a window.
pub(super) fn check_answer(
    operator: &dyn Operator,
    given: &[(&'static str, ParamValue)],
    rows: &[Row],
    now_us: i64,
    (answer, bound): (Option<f64>, f64),
    accuracy: Accuracy,
) -> Result<(), TestCaseError> {
    let windows: &[Option<i64>] =
        if matches!(operator.signature().window, super::WindowRule::Refused(_)) { &[None] } else { &[None, Some(60_000_000)] };
    for window_us in windows {
        let reading = read_rows(&compiled_over(operator, FieldType::F64, given, *window_us), rows, now_us);
        prop_assert!(near(double(&reading.value), answer, bound), "{:?} expected: {:?}", answer, reading);
        prop_assert_eq!(&reading.accuracy, &accuracy);
    }
    Ok(())
}

/// Checks that an operator which takes the nearest whole of a window reads as if a cut bucket were
/// inside or not there, and says nothing of how far off that may be.
pub(super) fn check_nearest(
    operator: &dyn Operator,
    given: &[(&'static str, ParamValue)],
    rows: &[Row],
    cuts: (usize, usize),
    bound: f64,
) -> Result<(), TestCaseError> {
    let (first, second) = (cuts.0.min(cuts.1).min(rows.len()), cuts.0.max(cuts.1).min(rows.len()));
    let (before, core, after) = (&rows[..first], &rows[first..second], &rows[second..]);
    let holds = |rows: &[Row]| !numbered(rows).is_empty();
    for (share, inside) in [(0.25, core), (0.5, rows), (1.0, rows)] {
        let cut = Cut { before: before.to_vec(), core: core.to_vec(), after: after.to_vec(), share };
        let (found, expected) = (cut.read(operator, FieldType::F64, given), reading(operator, FieldType::F64, given, inside));
        prop_assert!(near(double(&found.value), double(&expected.value), bound), "{:?} expected: {:?}", expected, found);
        let accuracy = if holds(before) || holds(after) { Accuracy::Unknown } else { expected.accuracy };
        prop_assert_eq!(found.accuracy, accuracy);
    }
    Ok(())
}

/// Numbers and times at the ends of what rows may hold.
fn extreme_rows(stream: &mut Stream) -> Vec<Row> {
    const NUMBERS: [f64; 10] = [f64::MAX, f64::MIN, 1e308, -1e308, 1e-308, 5e-324, -0.0, 0.0, 1.0, 1e200];
    const YEAR_9999: i64 = 253_402_300_799_999_999;
    const TIMES: [i64; 7] = [0, 1, 1_000, 1_700_000_000_000_000, 1_700_000_000_000_001, YEAR_9999, -YEAR_9999];
    let mut pick = |most: usize| usize::try_from(stream.word() % most as u64).unwrap_or(0);
    let (length, sorted) = (pick(8), pick(2) == 0);
    let mut rows = rows((0..length).map(|_| Datum::F64(NUMBERS[pick(NUMBERS.len())])));
    let mut times: Vec<i64> = rows.iter().map(|_| TIMES[pick(TIMES.len())]).collect();
    if sorted {
        times.sort_unstable();
    }
    rows.iter_mut().zip(times).for_each(|(row, time_us)| {
        row.time_us = time_us;
        row.more = vec![Datum::F64(NUMBERS[pick(NUMBERS.len())])];
    });
    rows
}

/// Checks that whatever numbers come, at whatever times, slots stay sound and values are finite
/// doubles or null; also where windows are cut.
pub(super) fn check_extremes(operator: &dyn Operator, given: &[(&'static str, ParamValue)]) {
    let check = |reading: Reading| {
        let finite = |value: &Value| double(value).is_none_or(f64::is_finite);
        let open = match &reading.accuracy {
            Accuracy::Within(bound) => finite(&bound.low) && finite(&bound.high),
            Accuracy::Exact | Accuracy::Unknown => true,
        };
        assert!(open && finite(&reading.value), "{reading:?}");
    };
    let sound = |accumulator: &dyn Accumulator, state: &State| {
        assert_eq!(accumulator.verify(&state.words, &state.arena), Ok(()), "{} left {:?}", accumulator.identity(), state.words);
    };
    let lifetime_only = matches!(operator.signature().window, super::WindowRule::Refused(_));
    let mut stream = Stream(7);
    for _ in 0..400 {
        let rows = extreme_rows(&mut stream);
        let now_us = extreme_rows(&mut stream).first().map_or(i64::MAX, |row| row.time_us);
        let lifetime = compiled_over(operator, FieldType::F64, given, None);
        let accumulator = &*lifetime.needs[0].accumulator;
        for length in 0..=rows.len() {
            sound(accumulator, &State::fed(accumulator, &rows[..length]));
        }
        check(read_rows(&lifetime, &rows, now_us));
        if lifetime_only {
            continue;
        }
        let windowed = compiled(operator, FieldType::F64, given);
        let accumulator = &*windowed.needs[0].accumulator;
        for (first, second) in [(0, rows.len() / 2), (rows.len() / 3, rows.len() * 2 / 3)] {
            let parts = [&rows[..first], &rows[first..second], &rows[second..]];
            let [a, b, c] = parts.map(|rows| State::fed(accumulator, rows));
            [&a, &b, &c].into_iter().for_each(|state| sound(accumulator, state));
            let merged = a.merged(accumulator, &b).merged(accumulator, &c);
            sound(accumulator, &merged);
            check(read(&windowed, &[merged.slot()], now_us));
            for share in [0.01, 0.99] {
                let [before, core, after] = parts.map(<[Row]>::to_vec);
                check(Cut { before, core, after, share }.read_at(operator, FieldType::F64, given, now_us));
            }
        }
    }
}

/// A fixed stream of pseudo-random words (splitmix64).
#[derive(Debug, Clone)]
pub(super) struct Stream(pub(super) u64);

impl Stream {
    pub(super) fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    /// In (0, 1).
    pub(super) fn share(&mut self) -> f64 {
        ((self.word() >> 12) as f64 + 0.5) / (1u64 << 52) as f64
    }

    /// Standard normal (Box and Muller).
    pub(super) fn normal(&mut self) -> f64 {
        (-2.0 * self.share().ln()).sqrt() * (std::f64::consts::TAU * self.share()).cos()
    }

    /// Rank in `1..=n` with probability about proportional to 1 / rank.
    pub(super) fn zipf(&mut self, n: u64) -> u64 {
        ((n as f64).powf(self.share()) as u64).clamp(1, n)
    }
}

/// Makes identifier number `n`.
type IdShape = fn(u64) -> Datum;

/// Identifiers as they come in practice: number `n` in each of five shapes.
pub(super) const ID_SHAPES: [(&str, IdShape); 5] = [
    ("sequential", |n| Datum::I64(1_000_000 + n.cast_signed())),
    ("e-mail", |n| Datum::Str(format!("user{n}@example.com"))),
    ("IPv4", |n| Datum::Str(format!("10.{}.{}.{}", n >> 16 & 255, n >> 8 & 255, n & 255))),
    ("UUID", |n| {
        let mut stream = Stream(n);
        Datum::Str(format!("{:016x}-{:016x}", stream.word(), stream.word()))
    }),
    ("zipf", |n| Datum::Str(format!("m{}", Stream(n).zipf(100_000)))),
];
