//! What a table reads: columns followed through its chain to the fields of the event, and whether two
//! compilations of one table read the same.
//!
//! The numbers of derived columns may differ between two compilations; what they compute may not. So
//! programs are compared instruction by instruction, columns by what is behind them. Called by a change
//! of definitions, on the declarations before and after it. Rows and states are not known here.

use super::definition::{FeatureDef, KeyKind, TableDef};
use super::environment::{Column, Step};
use super::expression::{Op, Program};
use crate::row::{FieldIndex, FieldType};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What of a table's state still means the same under another compilation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kept {
    /// All but these features, which read something else now. Features that only one side has do not count.
    Without(BTreeSet<String>),
    /// Nothing: other rows reach the table, or under other keys.
    Nothing,
}

/// What reads a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Readers {
    /// These features, maybe none.
    Features(Vec<String>),
    /// Its key or its filters, and so every feature.
    Table,
}

/// Compares two compilations of one table.
pub(super) fn kept(old: &TableDef, new: &TableDef) -> Kept {
    let mut meanings = Meanings::default();
    let (before, after) = (meanings.of(old), meanings.of(new));
    let same_rows = old.event == new.event && before.filters(old) == after.filters(new);
    if !same_rows || before.keys(old) != after.keys(new) {
        return Kept::Nothing;
    }
    let changed = old.features.iter().filter(|feature| match new.feature(&feature.name) {
        Some(other) => feature.declared() == other.declared() && before.feature(feature) != after.feature(other),
        None => false,
    });
    Kept::Without(changed.map(|feature| feature.name.to_string()).collect())
}

/// What of a table reads a field of its event.
pub(super) fn readers(table: &TableDef, field: FieldIndex) -> Readers {
    let derived = derived(table);
    let of_program = |program: &Arc<Program>| program.columns().any(|column| reaches(&derived, column, field));
    if table.keys.iter().any(|key| reaches(&derived, key.column, field)) || filters(table).into_iter().any(of_program) {
        return Readers::Table;
    }
    let reads = |feature: &&Arc<FeatureDef>| {
        let named = feature.more_fields.iter().map(|(_, column)| *column);
        let mut columns = feature.field.into_iter().chain(named);
        columns.any(|column| reaches(&derived, column, field)) || feature.filter.as_ref().is_some_and(of_program)
    };
    Readers::Features(table.features.iter().filter(reads).map(|feature| feature.name.to_string()).collect())
}

/// The programs of a table's derived columns, by number.
fn derived(table: &TableDef) -> Vec<Arc<Program>> {
    let steps = table.chain.steps.iter();
    steps.filter_map(|step| if let Step::Derive(program) = step { Some(Arc::clone(program)) } else { None }).collect()
}

/// The filters that decide which rows reach a table.
fn filters(table: &TableDef) -> Vec<&Arc<Program>> {
    let steps = table.chain.steps.iter();
    steps.filter_map(|step| if let Step::Filter(program) = step { Some(program) } else { None }).collect()
}

/// Whether a column is computed from a field. Each derived column is looked at once.
fn reaches(derived: &[Arc<Program>], column: Column, field: FieldIndex) -> bool {
    let mut seen = BTreeSet::new();
    let mut pending = vec![column];
    while let Some(column) = pending.pop() {
        match column {
            Column::Field(index) if index == field => return true,
            Column::Field(_) => {}
            Column::Derived(number) if seen.insert(number) => {
                let Some(program) = derived.get(usize::from(number)) else { unreachable!("derived column {number} has a program") };
                pending.extend(program.columns());
            }
            Column::Derived(_) => {}
        }
    }
    false
}

/// What a column stands for, the same number for equal computations of whichever table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meaning {
    Field(FieldIndex),
    Computed(usize),
}

/// Numbers of computations. A derived column reads only earlier ones, so one pass in their order is enough.
#[derive(Default)]
struct Meanings {
    known: BTreeMap<String, usize>,
}

/// The meaning of each derived column of one table.
struct Meant(Vec<Meaning>);

impl Meanings {
    fn of(&mut self, table: &TableDef) -> Meant {
        let mut meant = Meant(Vec::new());
        for program in derived(table) {
            let next = self.known.len();
            let number = *self.known.entry(meant.program(&program)).or_insert(next);
            meant.0.push(Meaning::Computed(number));
        }
        meant
    }
}

impl Meant {
    fn column(&self, column: Column) -> Meaning {
        match column {
            Column::Field(field) => Meaning::Field(field),
            Column::Derived(number) => match self.0.get(usize::from(number)) {
                Some(meaning) => *meaning,
                None => unreachable!("derived column {number} comes after what it reads"),
            },
        }
    }

    /// The instructions with columns by their meaning; equal text computes the same.
    fn program(&self, program: &Program) -> String {
        let instruction = |op: &Op| match op {
            Op::Load(column) => format!("Load {:?};", self.column(*column)),
            Op::LoadRaw(column) => format!("LoadRaw {:?};", self.column(*column)),
            Op::CompareColumn(column, how, constant) => format!("{how:?} {:?} {constant:?};", self.column(*column)),
            op => format!("{op:?};"),
        };
        program.ops().iter().map(instruction).collect()
    }

    fn filters(&self, table: &TableDef) -> Vec<String> {
        filters(table).into_iter().map(|program| self.program(program)).collect()
    }

    fn keys(&self, table: &TableDef) -> Vec<(Box<str>, KeyKind, Meaning)> {
        table.keys.iter().map(|key| (key.name.clone(), key.kind, self.column(key.column))).collect()
    }

    fn feature(&self, feature: &FeatureDef) -> (Vec<Meaning>, Option<FieldType>, Option<String>) {
        let named = feature.more_fields.iter().map(|(_, column)| *column);
        let columns = feature.field.into_iter().chain(named).map(|column| self.column(column)).collect();
        (columns, feature.field_kind, feature.filter.as_ref().map(|filter| self.program(filter)))
    }
}
