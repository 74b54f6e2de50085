//! The ops of a plan and the loop that runs them over one body.
//!
//! An op reads exactly one value (or none) and puts it where it goes; a union jumps to its branch's ops. Arrays and map members are runs of ops of their own, called per
//! item. No allocation: text goes through buffers that are reused. The innermost loop of a source, on its connector thread.

use super::bytes::Bytes;
use super::shape::{Shape, ShapeIndex, Shapes, deeper, push_uuid, too_wide, uuid};
use crate::decode::error::BadRow;
use crate::decode::json;
use crate::decode::projection::{Choice, Found, Lists, Misfit, Place, Target};
use crate::row::{CellError, FieldIndex, RowsBuilder, TimeUnit, decimal};
use streamgauge_api::Code;

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;

/// One step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Op {
    SkipBool,
    SkipInt,
    SkipLong,
    SkipFixed(u32),
    SkipBytes,
    SkipString,
    SkipShape(ShapeIndex),
    Null(FieldIndex),
    Bool(FieldIndex),
    /// An int into an i64 field, whose cell it is.
    IntWord(FieldIndex),
    Int(FieldIndex),
    /// A long into an i64 field, whose cell it is.
    LongWord(FieldIndex),
    Long(FieldIndex),
    Time(FieldIndex, TimeUnit),
    Date(FieldIndex),
    Float(FieldIndex),
    /// A double into an f64 field.
    DoubleWord(FieldIndex),
    Double(FieldIndex),
    /// Text into a str field.
    StrHeap(FieldIndex),
    Str(FieldIndex),
    /// Text into a bytes field.
    StrBytes(FieldIndex),
    Bytes(FieldIndex),
    Fixed(FieldIndex, u32),
    Enum(FieldIndex, ShapeIndex),
    Uuid(FieldIndex),
    UuidFixed(FieldIndex),
    Decimal {
        field: FieldIndex,
        shape: ShapeIndex,
        form: DecimalTaken,
    },
    Json(FieldIndex, ShapeIndex),
    Append(u16, ShapeIndex),
    AppendNull(u16),
    /// Reads the branch and goes on at `jumps[first + branch]`.
    Union {
        first: u32,
        count: u32,
    },
    Jump(u32),
    /// Runs the following ops per item, then goes on at `end`; fills the lists `opens[first..]`.
    List {
        first: u32,
        opens: u16,
        item: ShapeIndex,
        end: u32,
    },
    /// Runs a member's ops per known key of a map, then goes on at `end`.
    Members {
        table: u32,
        value: ShapeIndex,
        end: u32,
    },
    Mark(u16),
    Rewind(u16),
    Refuse(u32),
    /// Nothing is found yet.
    Forget,
    FoundNull(u16),
    /// A candidate's value begins here; the following ops read it, later. Goes on at `end`.
    FoundAt {
        candidate: u16,
        end: u32,
    },
    FoundMisfit(u16, u32),
    /// Reads what each choice found first; the last op of a record.
    Choose,
    Return,
}

/// What a decimal becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalTaken {
    Double,
    Text,
    /// What the field's reading makes of it.
    Exact,
}

/// The keys of a map that something is taken of, each with where its ops begin.
pub(super) type MapMembers = Box<[(Box<str>, u32)]>;

/// Everything a body is decoded by.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) ops: Vec<Op>,
    pub(super) jumps: Vec<u32>,
    pub(super) opens: Vec<(u16, Target)>,
    pub(super) members: Vec<MapMembers>,
    pub(super) refusals: Vec<(String, String)>,
    pub(super) misfits: Vec<Misfit>,
    pub(super) choices: Vec<Choice>,
    pub(super) candidates: usize,
    pub(super) shapes: Shapes,
    pub(super) marks: usize,
    pub(super) list_slots: usize,
    /// Fields whose paths the writer schema does not have.
    pub(super) led_nowhere: Vec<FieldIndex>,
}

/// Buffers of one thread, reused from record to record.
#[derive(Debug, Default)]
pub struct AvroScratch {
    pub(super) text: String,
    pub(super) lists: Lists,
    pub(super) found: Vec<Found>,
    pub(super) marks: Vec<usize>,
}

/// One body on its way into one row.
pub(super) struct Run<'r> {
    pub(super) plan: &'r Plan,
    pub(super) into: &'r mut RowsBuilder,
    pub(super) scratch: &'r mut AvroScratch,
}

impl Run<'_> {
    #[cold]
    fn cell(&self, error: CellError) -> Box<BadRow> {
        BadRow::cell(error, self.into.schema())
    }

    /// Runs ops from `at` to the next return.
    pub(super) fn ops(&mut self, at: usize, from: &mut Bytes<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        let plan = self.plan;
        let mut next = at;
        while let Some(&op) = plan.ops.get(next) {
            next += 1;
            match op {
                Op::SkipBool => drop(from.bool()?),
                Op::SkipInt => drop(from.int()?),
                Op::SkipLong => drop(from.long()?),
                Op::SkipFixed(size) => drop(from.take(size as usize)?),
                Op::SkipBytes => drop(from.bytes()?),
                Op::SkipString => drop(from.utf8()?),
                Op::SkipShape(shape) => plan.shapes.walk(shape, from, None, depth)?,
                Op::LongWord(field) => self.into.word(field, from.long()?.cast_unsigned()),
                Op::IntWord(field) => self.into.word(field, from.int()?.cast_unsigned()),
                Op::DoubleWord(field) => {
                    let number = from.double()?;
                    if number.is_finite() {
                        self.into.word(field, number.to_bits());
                    } else {
                        self.into.float(field, number).map_err(|error| self.cell(error))?;
                    }
                }
                Op::StrHeap(field) => self.into.heap(field, from.utf8()?),
                Op::Null(field) => self.into.null(field),
                Op::Union { first, count } => {
                    let branch = from.index(count, "union branch")?;
                    next = plan.jumps.get(first as usize + branch).map_or(usize::MAX, |&target| target as usize);
                }
                Op::Jump(target) => next = target as usize,
                Op::Bool(field) => {
                    let truth = from.bool()?;
                    self.into.bool(field, truth).map_err(|error| self.cell(error))?;
                }
                Op::Int(field) => {
                    let number = from.int()?;
                    self.into.int(field, number).map_err(|error| self.cell(error))?;
                }
                Op::Long(field) => {
                    let number = from.long()?;
                    self.into.int(field, number).map_err(|error| self.cell(error))?;
                }
                Op::Time(field, unit) => {
                    let number = from.long()?;
                    self.into.instant(field, unit.to_millis(number), unit.to_us(number)).map_err(|error| self.cell(error))?;
                }
                Op::Date(field) => {
                    let number = from.int()? * DAY_MS;
                    self.into.instant(field, number, number.saturating_mul(1000)).map_err(|error| self.cell(error))?;
                }
                Op::Float(field) => {
                    let number = from.float()?;
                    self.into.float(field, number).map_err(|error| self.cell(error))?;
                }
                Op::Double(field) => {
                    let number = from.double()?;
                    self.into.float(field, number).map_err(|error| self.cell(error))?;
                }
                Op::Str(field) => {
                    let text = from.str()?;
                    self.into.str(field, text).map_err(|error| self.cell(error))?;
                }
                Op::StrBytes(field) => self.into.heap(field, from.utf8()?),
                Op::Bytes(field) => {
                    let bytes = from.bytes()?;
                    self.into.bytes(field, bytes).map_err(|error| self.cell(error))?;
                }
                Op::Fixed(field, size) => {
                    let bytes = from.take(size as usize)?;
                    self.into.bytes(field, bytes).map_err(|error| self.cell(error))?;
                }
                Op::Uuid(field) => {
                    let text = uuid(from)?;
                    self.into.str(field, text).map_err(|error| self.cell(error))?;
                }
                Op::Return => return Ok(()),
                rarer => next = self.rarer(rarer, next, from, depth)?,
            }
        }
        Ok(())
    }

    /// The ops that do more than move one value; gives where to go on.
    #[inline(never)]
    fn rarer(&mut self, op: Op, next: usize, from: &mut Bytes<'_>, depth: u32) -> Result<usize, Box<BadRow>> {
        let plan = self.plan;
        match op {
            Op::Enum(field, shape) => {
                if let Shape::Enum(symbols) = plan.shapes.get(shape) {
                    let index = from.index(u32::try_from(symbols.len()).unwrap_or(u32::MAX), "enum symbol")?;
                    let symbol = symbols.get(index).map(|symbol| &**symbol).unwrap_or_default();
                    self.into.str(field, symbol).map_err(|error| self.cell(error))?;
                }
            }
            Op::UuidFixed(field) => {
                self.scratch.text.clear();
                push_uuid(from.take(16)?, &mut self.scratch.text);
                self.into.str(field, &self.scratch.text).map_err(|error| self.cell(error))?;
            }
            Op::Decimal { field, shape, form } => self.decimal(field, shape, form, from)?,
            Op::Json(field, shape) => {
                self.scratch.text.clear();
                plan.shapes.walk(shape, from, Some(&mut self.scratch.text), depth)?;
                self.into.json(field, &self.scratch.text).map_err(|error| self.cell(error))?;
            }
            Op::Append(slot, shape) => {
                plan.shapes.walk(shape, from, self.scratch.lists.element(slot), depth)?;
            }
            Op::AppendNull(slot) => {
                if let Some(list) = self.scratch.lists.element(slot) {
                    list.push_str("null");
                }
            }
            Op::List { first, opens, item, end } => {
                let depth = deeper(depth, from)?;
                let range = first as usize..first as usize + usize::from(opens);
                let opens = plan.opens.get(range).unwrap_or_default();
                for &(slot, _) in opens {
                    self.scratch.lists.open(slot);
                }
                plan.shapes.items(item, false, from, false, &mut |from| self.ops(next, from, depth))?;
                for &(slot, taker) in opens {
                    let (lists, found) = (&mut self.scratch.lists, &mut self.scratch.found);
                    json::close(slot, taker, self.into, lists, found).map_err(|error| BadRow::cell(error, self.into.schema()))?;
                }
                return Ok(end as usize);
            }
            Op::Members { table, value, end } => {
                let depth = deeper(depth, from)?;
                let members = plan.members.get(table as usize).map(|members| &**members).unwrap_or_default();
                plan.shapes.items(value, true, from, false, &mut |from| {
                    let key = from.str()?;
                    match members.iter().find(|(name, _)| **name == *key) {
                        Some(&(_, at)) => self.ops(at as usize, from, depth),
                        None => plan.shapes.walk(value, from, None, depth),
                    }
                })?;
                return Ok(end as usize);
            }
            Op::Mark(mark) => {
                if let Some(slot) = self.scratch.marks.get_mut(usize::from(mark)) {
                    *slot = from.pos;
                }
            }
            Op::Rewind(mark) => from.pos = self.scratch.marks.get(usize::from(mark)).copied().unwrap_or(from.pos),
            Op::Forget => {
                self.scratch.found.clear();
                self.scratch.found.resize(plan.candidates, Found::Missing);
            }
            Op::FoundNull(candidate) => self.scratch.found[usize::from(candidate)] = Found::Null,
            Op::FoundAt { candidate, end } => {
                let op = u32::try_from(next).unwrap_or(u32::MAX);
                self.scratch.found[usize::from(candidate)] = Found::At(Place { pos: from.pos, depth, op });
                return Ok(end as usize);
            }
            Op::FoundMisfit(candidate, index) => {
                if let Some(&misfit) = plan.misfits.get(index as usize) {
                    self.scratch.found[usize::from(candidate)] = Found::Misfit(misfit);
                }
            }
            Op::Choose => self.choose(from)?,
            Op::Refuse(index) => {
                let (path, reason) = plan.refusals.get(index as usize).cloned().unwrap_or_default();
                return Err(BadRow::new(Code::DecodeTypeMismatch, path, reason));
            }
            _ => {}
        }
        Ok(next)
    }

    fn choose(&mut self, from: &mut Bytes<'_>) -> Result<(), Box<BadRow>> {
        let end = from.pos;
        for choice in &self.plan.choices {
            match choice.of(&self.scratch.found) {
                Found::At(place) => {
                    from.pos = place.pos;
                    self.ops(place.op as usize, from, place.depth)?;
                }
                Found::List(slot) => {
                    let text = self.scratch.lists.text(slot);
                    self.into.json(choice.field, text).map_err(|error| BadRow::cell(error, self.into.schema()))?;
                }
                Found::Misfit(misfit) => {
                    return Err(BadRow::misfit(Code::DecodeTypeMismatch, choice.field, misfit, self.into.schema()));
                }
                Found::Null => self.into.null(choice.field),
                Found::Missing => {}
            }
        }
        from.pos = end;
        Ok(())
    }

    fn decimal(&mut self, field: FieldIndex, shape: ShapeIndex, taken: DecimalTaken, from: &mut Bytes<'_>) -> Result<(), Box<BadRow>> {
        let Shape::Decimal(form) = self.plan.shapes.get(shape) else { return Ok(()) };
        let (unscaled, scale) = form.read(from)?;
        let text = &mut self.scratch.text;
        let set = if taken != DecimalTaken::Double {
            text.clear();
            if !decimal::push_text(unscaled, scale, text) {
                return Err(too_wide(from));
            }
            if taken == DecimalTaken::Text { self.into.str(field, text) } else { self.into.decimal(field, text) }
        } else {
            let Some(number) = decimal::to_double(unscaled, scale, text) else { return Err(too_wide(from)) };
            self.into.float(field, number)
        };
        set.map_err(|error| self.cell(error))
    }
}
