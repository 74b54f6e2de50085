//! A row as features see it: the event's cells plus the columns that a table's chain derived from them.
//!
//! Runs on the apply thread once per row and table. Derived values live in one reused buffer; nothing is allocated per row once it has grown.

use super::expression::Program;
use crate::row::{Cell, EventSchema, FieldIndex, Rows};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

/// Where a feature, a key or an expression reads from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Column {
    /// A declared field of the event.
    Field(FieldIndex),
    /// A value that the table's chain computed, evaluated once per row.
    Derived(u16),
}

/// Values of derived columns of one row, reused from row to row.
#[derive(Debug, Default)]
pub struct Derived {
    slots: Vec<Slot>,
    heap: Vec<u8>,
    spare: Vec<u8>,
}

/// A derived value; text is (offset, length) into the heap.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Absent,
    Null,
    Bool(bool),
    I64(i64),
    F64(f64),
    Datetime(i64),
    Str(usize, usize),
    Bytes(usize, usize),
    Json(usize, usize),
}

impl Derived {
    fn clear(&mut self) {
        self.slots.clear();
        self.heap.clear();
    }

    #[inline]
    fn value(&self, index: u16) -> Cell<'_> {
        let bytes = |start: usize, len: usize| self.heap.get(start..start + len).unwrap_or_default();
        match self.slots.get(usize::from(index)) {
            None | Some(Slot::Absent) => Cell::Absent,
            Some(Slot::Null) => Cell::Null,
            Some(&Slot::Bool(truth)) => Cell::Bool(truth),
            Some(&Slot::I64(number)) => Cell::I64(number),
            Some(&Slot::F64(number)) => Cell::F64(number),
            Some(&Slot::Datetime(number)) => Cell::Datetime(number),
            Some(&Slot::Str(start, len)) => Cell::Str(bytes(start, len)),
            Some(&Slot::Bytes(start, len)) => Cell::Bytes(bytes(start, len)),
            Some(&Slot::Json(start, len)) => Cell::Json(bytes(start, len)),
        }
    }
}

/// One row and everything that may be read about it.
#[derive(Debug, Clone, Copy)]
pub struct RowEnv<'r> {
    /// The batch.
    pub rows: &'r Rows,
    /// Index of the row in it.
    pub row: usize,
    /// The event's declaration, at the batch's version or a later one.
    pub schema: &'r EventSchema,
    /// What the table's chain computed for this row.
    pub derived: &'r Derived,
}

impl<'r> RowEnv<'r> {
    /// A cell as operators and keys take it: never a double that is not finite.
    #[inline]
    pub fn cell(&self, column: Column) -> Cell<'r> {
        match self.value(column) {
            Cell::F64(number) if !number.is_finite() => Cell::Null,
            cell => cell,
        }
    }

    /// A cell as expressions take it.
    #[inline]
    pub(crate) fn value(&self, column: Column) -> Cell<'r> {
        match column {
            Column::Field(FieldIndex(index)) => match self.schema.fields.get(usize::from(index)) {
                Some(field) => self.rows.cell(usize::from(index), field.kind, self.row),
                None => Cell::Absent,
            },
            Column::Derived(index) => self.derived.value(index),
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Filters of chains that were tested by this thread.
    pub(crate) static FILTERS_TESTED: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// One step of a compiled chain.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Step {
    /// Rows for which the program is not exactly true stop here.
    Filter(Arc<Program>),
    /// The next derived column.
    Derive(Arc<Program>),
}

/// What happens to a row before a table's features see it. Derived columns are numbered in step order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chain {
    pub(crate) steps: Vec<Step>,
}

impl Chain {
    /// Whether every row passes untouched.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Number of derived columns.
    pub fn derived_columns(&self) -> usize {
        self.steps.iter().filter(|step| matches!(step, Step::Derive(_))).count()
    }

    /// The declared fields that a column is made of.
    pub fn fields_of(&self, column: Column) -> BTreeSet<FieldIndex> {
        let number = match column {
            Column::Field(field) => return BTreeSet::from([field]),
            Column::Derived(number) => usize::from(number),
        };
        let mut derived = self.steps.iter().filter_map(|step| match step {
            Step::Derive(program) => Some(program),
            Step::Filter(_) => None,
        });
        let Some(program) = derived.nth(number) else { unreachable!("derived column {number} is made by the chain that it is of") };
        let earlier = |of: &Column| !matches!(of, Column::Derived(other) if usize::from(*other) >= number);
        assert!(program.columns().all(|of| earlier(&of)), "a derived column reads those before it");
        program.columns().flat_map(|of| self.fields_of(of)).collect()
    }

    /// Runs the chain for one row and leaves its derived columns in `derived`; false when a filter drops the row.
    #[inline]
    pub fn run(&self, rows: &Rows, row: usize, schema: &EventSchema, derived: &mut Derived) -> bool {
        self.is_empty() || self.run_steps(rows, row, schema, derived, true)
    }

    /// Leaves the derived columns of a row in `derived` whatever filters say: for a row that has a key and nothing else, or
    /// that passed them before.
    pub fn derive(&self, rows: &Rows, row: usize, schema: &EventSchema, derived: &mut Derived) {
        self.run_steps(rows, row, schema, derived, false);
    }

    fn run_steps(&self, rows: &Rows, row: usize, schema: &EventSchema, derived: &mut Derived, filtered: bool) -> bool {
        derived.clear();
        for step in &self.steps {
            match step {
                Step::Filter(program) => {
                    #[cfg(test)]
                    FILTERS_TESTED.set(FILTERS_TESTED.get() + usize::from(filtered));
                    if filtered && !program.test(&RowEnv { rows, row, schema, derived }) {
                        return false;
                    }
                }
                Step::Derive(program) => {
                    let slot = derive(program, rows, row, schema, derived);
                    derived.slots.push(slot);
                }
            }
        }
        true
    }

    /// The chain in normal form; chains of one event with equal text do the same.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let (word, program) = match step {
                Step::Filter(program) => ("filter", program),
                Step::Derive(program) => ("derive", program),
            };
            // Writing into a String cannot fail.
            let _written = writeln!(text, "{word} {}", program.text()).is_ok();
        }
        text
    }
}

/// Evaluates one derived column. Text goes through `spare`, since it may be borrowed from the heap it is appended to.
fn derive(program: &Program, rows: &Rows, row: usize, schema: &EventSchema, derived: &mut Derived) -> Slot {
    let mut spare = std::mem::take(&mut derived.spare);
    spare.clear();
    let slot = match program.eval(&RowEnv { rows, row, schema, derived }).raw() {
        Cell::Absent => Slot::Absent,
        Cell::Null => Slot::Null,
        Cell::Bool(truth) => Slot::Bool(truth),
        Cell::I64(number) => Slot::I64(number),
        Cell::F64(number) => Slot::F64(number),
        Cell::Datetime(number) => Slot::Datetime(number),
        Cell::Str(bytes) => Slot::Str(derived.heap.len(), store(&mut spare, bytes)),
        Cell::Bytes(bytes) => Slot::Bytes(derived.heap.len(), store(&mut spare, bytes)),
        Cell::Json(bytes) => Slot::Json(derived.heap.len(), store(&mut spare, bytes)),
    };
    derived.heap.extend_from_slice(&spare);
    derived.spare = spare;
    slot
}

fn store(spare: &mut Vec<u8>, bytes: &[u8]) -> usize {
    spare.extend_from_slice(bytes);
    bytes.len()
}
