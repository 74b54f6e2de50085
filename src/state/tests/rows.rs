//! Random rows of one event: late ones, equal times, nulls, absent and escaped values, deletes, short and long keys.

use crate::row::{Cell, RowTime, RowsBuilder};
use proptest::prelude::*;

/// The first row's time.
pub(super) const START_US: i64 = 1_700_000_000_000_000;

const SECOND_US: i64 = 1_000_000;

/// A cell that owns its text.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Datum {
    Absent,
    Null,
    Bool(bool),
    I64(i64),
    F64(f64),
    Str(String),
    Datetime(i64),
}

impl Datum {
    pub(super) fn is_value(&self) -> bool {
        !matches!(self, Self::Absent | Self::Null)
    }

    pub(super) fn number(&self) -> Option<f64> {
        match self {
            Self::I64(number) => Some(*number as f64),
            Self::F64(number) => Some(*number),
            _ => None,
        }
    }

    pub(super) fn cell(&self) -> Cell<'_> {
        match self {
            Self::Absent => Cell::Absent,
            Self::Null => Cell::Null,
            Self::Bool(truth) => Cell::Bool(*truth),
            Self::I64(number) => Cell::I64(*number),
            Self::F64(number) => Cell::F64(*number),
            Self::Str(text) => Cell::Str(text.as_bytes()),
            Self::Datetime(ms) => Cell::Datetime(*ms),
        }
    }
}

/// Fields of the event.
pub(super) const FIELDS: [(&str, &str); 8] = [
    ("user", "str"),
    ("region", "i64"),
    ("flag", "bool"),
    ("at", "datetime"),
    ("amount", "f64"),
    ("n", "i64"),
    ("label", "str"),
    ("extra", "json"),
];

/// A row of the event.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) time_us: i64,
    /// How far it is ahead of the clock that it was taken by.
    pub(super) ahead_us: i64,
    pub(super) delete: bool,
    pub(super) data: Vec<Datum>,
}

impl Row {
    pub(super) fn get(&self, field: &str) -> &Datum {
        let index = FIELDS.iter().position(|(name, _)| *name == field).unwrap();
        &self.data[index]
    }

    pub(super) fn write(&self, builder: &mut RowsBuilder) {
        builder.begin();
        for ((name, _), datum) in FIELDS.iter().zip(&self.data) {
            // A field that the event has given up is not written.
            let Some(field) = builder.schema().field(name) else { continue };
            match datum {
                Datum::Absent => {}
                Datum::Null => builder.null(field),
                Datum::Bool(truth) => builder.bool(field, *truth).unwrap(),
                Datum::I64(number) | Datum::Datetime(number) => builder.int(field, *number).unwrap(),
                Datum::F64(number) => builder.float(field, *number).unwrap(),
                Datum::Str(text) => builder.str(field, text).unwrap(),
            }
        }
        builder.commit(RowTime { time_us: self.time_us, ahead_us: self.ahead_us }, None, self.delete).unwrap();
    }
}

fn maybe(value: impl Strategy<Value = Datum> + 'static) -> impl Strategy<Value = Datum> {
    prop_oneof![8 => value.boxed(), 1 => Just(Datum::Null), 1 => Just(Datum::Absent)]
}

fn user() -> impl Strategy<Value = Datum> {
    prop_oneof![
        20 => Just(Datum::Str("hot".into())),
        6 => prop::sample::select(vec!["", "b", "fifteen-bytes-ab", "a key that is longer than fifteen bytes", "ein Schlüssel mit Umlaut"])
            .prop_map(|text| Datum::Str(text.into())),
        1 => Just(Datum::Null),
        1 => Just(Datum::Absent),
    ]
}

/// A whole number of halves in an i64 field: odd ones are fractions that escape the declared type.
fn halves() -> impl Strategy<Value = Datum> {
    (-40i64..40).prop_map(|halves| if halves % 2 == 0 { Datum::I64(halves / 2) } else { Datum::F64(halves as f64 / 2.0) })
}

/// Quarters add up exactly in doubles, in any order.
fn quarters() -> impl Strategy<Value = Datum> {
    (-4000i64..4000).prop_map(|quarters| Datum::F64(quarters as f64 / 4.0))
}

fn label() -> impl Strategy<Value = Datum> {
    prop::sample::select(vec!["a", "b", "c", "", "a label that is longer than a word or two"]).prop_map(|text| Datum::Str(text.into()))
}

fn extra() -> impl Strategy<Value = Datum> {
    prop_oneof![any::<bool>().prop_map(Datum::Bool), (0i64..6).prop_map(Datum::I64), label()]
}

/// How far the clock of the rows moves on before this one, and how late or how far ahead of it the row is.
fn times() -> impl Strategy<Value = (i64, i64, i64)> {
    let step = prop_oneof![4 => Just(0), 8 => 0..2 * SECOND_US, 2 => 0..90 * SECOND_US, 1 => 0..5000 * SECOND_US];
    let late = prop_oneof![12 => Just(0), 3 => 0..5 * SECOND_US, 2 => 0..120 * SECOND_US, 1 => 0..9000 * SECOND_US];
    let ahead = prop_oneof![40 => Just(0), 1 => 0..5 * SECOND_US, 1 => 0..4000 * SECOND_US];
    (step, late, ahead)
}

fn row() -> impl Strategy<Value = (Vec<Datum>, (i64, i64, i64), bool)> {
    let data = (
        user(),
        maybe((0i64..3).prop_map(Datum::I64)),
        maybe(any::<bool>().prop_map(Datum::Bool)),
        maybe((0i64..4).prop_map(|day| Datum::Datetime(day * 86_400_000))),
        maybe(quarters()),
        maybe(halves()),
        maybe(label()),
        maybe(extra()),
    )
        .prop_map(|data| vec![data.0, data.1, data.2, data.3, data.4, data.5, data.6, data.7]);
    (data, times(), prop::bool::weighted(0.01))
}

/// Rows in order of arrival.
pub(super) fn rows(most: usize) -> impl Strategy<Value = Vec<Row>> {
    prop::collection::vec(row(), 0..most).prop_map(|rows| {
        let mut clock_us = START_US;
        rows.into_iter()
            .map(|(data, (step_us, late_us, ahead_us), delete)| {
                clock_us += step_us;
                // A row is behind the clock or ahead of it.
                let late_us = if ahead_us > 0 { 0 } else { late_us };
                Row { time_us: clock_us - late_us + ahead_us, ahead_us, delete, data }
            })
            .collect()
    })
}

/// Places where batches end.
pub(super) fn ends() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(0usize..400, 0..6)
}

/// The rows cut at these places.
pub(super) fn split<'r>(rows: &'r [Row], ends: &[usize]) -> Vec<&'r [Row]> {
    let mut ends: Vec<usize> = ends.iter().map(|end| (*end).min(rows.len())).chain([rows.len()]).collect();
    ends.sort_unstable();
    let mut from = 0;
    // A frame without rows takes an LSN, which `first` and `last` would show.
    ends.into_iter().map(|to| &rows[std::mem::replace(&mut from, to)..to]).filter(|batch| !batch.is_empty()).collect()
}

/// How far the rows have come in time.
pub(super) fn newest_us(rows: &[Row]) -> i64 {
    rows.iter().map(|row| row.time_us - row.ahead_us).max().unwrap_or(START_US)
}
