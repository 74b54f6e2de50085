//! What the tests of this module share: events written as text, rows read back as text.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::projection::{Projection, Taking};
use crate::row::{Cell, EventId, EventSchema, Field, FieldIndex, FieldType, Rows, RowsBuilder, Strictness, TimeSource};
use std::sync::Arc;

/// An event from `name:type` words; `?` behind the type makes the field optional.
pub(super) fn event(fields: &str) -> Arc<EventSchema> {
    let fields = fields
        .split_whitespace()
        .map(|word| {
            let (name, kind) = word.split_once(':').unwrap();
            let optional = kind.ends_with('?');
            Field { name: name.into(), kind: FieldType::parse(kind.trim_end_matches('?')).unwrap(), optional }
        })
        .collect();
    let (time, max_future_us, cold_after_us) = (TimeSource::Arrival, 3_600_000_000, None);
    Arc::new(EventSchema { id: EventId(1), version: 1, name: "E".into(), fields, time, max_future_us, cold_after_us, dedupe: None })
}

/// The projection that takes field by field from these paths.
pub(super) fn projection(paths: &[&str]) -> Arc<Projection> {
    let takings = paths.iter().zip(0..).map(|(&path, field)| Taking { field: FieldIndex(field), path, aliases: &[] });
    Arc::new(Projection::of_paths(takings).unwrap())
}

/// The projection that takes each field from the first of its paths that has a value.
pub(super) fn choices(fields: &[Vec<String>]) -> Arc<Projection> {
    let boxed: Vec<Vec<Box<str>>> = fields.iter().map(|paths| paths.iter().map(|path| path.as_str().into()).collect()).collect();
    let takings = boxed.iter().zip(0..).map(|(paths, field)| {
        let (path, aliases) = paths.split_first().unwrap();
        Taking { field: FieldIndex(field), path, aliases }
    });
    Arc::new(Projection::of_paths(takings).unwrap())
}

pub(super) fn builder(schema: &Arc<EventSchema>, strictness: Strictness) -> RowsBuilder {
    RowsBuilder::new(Arc::clone(schema), strictness)
}

/// A cell as text: `-` absent, `null`, and the type's letter before a value that is not of the declared type.
pub(super) fn show(cell: Cell<'_>) -> String {
    match cell {
        Cell::Absent => "-".into(),
        Cell::Null => "null".into(),
        Cell::Bool(truth) => truth.to_string(),
        Cell::I64(number) => number.to_string(),
        Cell::F64(number) => format!("{number:?}"),
        Cell::Str(text) => format!("{:?}", std::str::from_utf8(text).unwrap()),
        Cell::Bytes(bytes) => format!("b{bytes:?}"),
        Cell::Datetime(millis) => format!("t{millis}"),
        Cell::Json(text) => std::str::from_utf8(text).unwrap().to_owned(),
    }
}

/// The cells of one row, joined by spaces.
pub(super) fn show_row(rows: &Rows, schema: &EventSchema, row: usize) -> String {
    let cells = schema.fields.iter().enumerate().map(|(index, field)| show(rows.cell(index, field.kind, row)));
    cells.collect::<Vec<_>>().join(" ")
}

/// Commits the row that was begun and shows it.
pub(super) fn commit_and_show(into: &mut RowsBuilder) -> String {
    into.commit(0, None, false).unwrap();
    let schema = Arc::clone(into.schema());
    show_row(&into.finish(), &schema, 0)
}
