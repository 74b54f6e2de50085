//! Compiled expressions: flat code over a small stack, run once per row on the apply thread.
//!
//! Depth costs no call stack, no input panics, and nothing is allocated for a row unless more than [`STACK_INLINE`] values are pending at once.
//! Names were resolved to columns when the program was compiled; the interpreter knows neither schemas nor names.

use super::value::{Evaluated, ShortText};
use crate::pipeline::environment::{Column, RowEnv};
use crate::row::Cell;
use smallvec::SmallVec;
use std::cmp::Ordering;

/// Values pending at once without an allocation; a left-nested chain of operators needs two.
const STACK_INLINE: usize = 8;

/// A literal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Constant {
    Null,
    Bool(bool),
    I64(i64),
    F64(f64),
    Str(Box<str>),
}

impl Constant {
    fn cell(&self) -> Cell<'_> {
        match self {
            Self::Null => Cell::Null,
            Self::Bool(truth) => Cell::Bool(*truth),
            Self::I64(number) => Cell::I64(*number),
            Self::F64(number) => Cell::F64(*number),
            Self::Str(text) => Cell::Str(text.as_bytes()),
        }
    }
}

/// `==` and its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    pub(super) fn is_equal(self) -> bool {
        self == Self::Equal
    }

    pub(super) fn is_equality(self) -> bool {
        matches!(self, Self::Equal | Self::Unequal)
    }
}

/// `+` and its siblings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// What `cast` makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CastTo {
    Str,
    Int,
    Float,
    Bool,
}

/// One instruction. Operands are taken from the stack, the result is left on it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Op {
    /// A column; absent reads as null.
    Load(Column),
    /// A column; absent stays absent (for chain steps that leave absent fields alone).
    LoadRaw(Column),
    Literal(Constant),
    Compare(Comparison),
    /// A column against a literal.
    CompareColumn(Column, Comparison, Constant),
    Compute(Arithmetic),
    /// Skips to the given instruction when the top of the stack is false, leaving it there.
    SkipIfFalse(u32),
    /// Skips to the given instruction when the top of the stack is true, leaving it there.
    SkipIfTrue(u32),
    And,
    Or,
    Not,
    IsNull,
    IsNotNull,
    Cast(CastTo),
    /// Null becomes the constant, absent stays absent.
    Fill(Constant),
    Quadkey,
}

/// A compiled expression.
#[derive(Debug, Clone, PartialEq)]
pub struct Program {
    pub(super) ops: Box<[Op]>,
    pub(super) text: Box<str>,
}

impl Program {
    /// A program that a chain step consists of.
    pub(crate) fn of(ops: Vec<Op>, text: String) -> Self {
        Self { ops: ops.into(), text: text.into() }
    }

    /// Its instructions.
    pub(crate) fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// The columns that it reads, as often as it does.
    pub(crate) fn columns(&self) -> impl Iterator<Item = Column> + '_ {
        self.ops.iter().filter_map(|op| match op {
            Op::Load(column) | Op::LoadRaw(column) | Op::CompareColumn(column, ..) => Some(*column),
            _ => None,
        })
    }

    /// The expression in normal form. Two programs of one table with equal text compute the same.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the row is kept: the value is exactly true.
    #[inline]
    pub fn test(&self, env: &RowEnv<'_>) -> bool {
        matches!(self.eval(env), Evaluated::Cell(Cell::Bool(true)))
    }

    /// The value for one row.
    pub fn eval<'r>(&'r self, env: &RowEnv<'r>) -> Evaluated<'r> {
        let mut stack: SmallVec<[Evaluated<'r>; STACK_INLINE]> = SmallVec::new();
        let mut next = 0usize;
        while let Some(op) = self.ops.get(next) {
            next += 1;
            match op {
                Op::Load(column) => stack.push(match env.value(*column) {
                    Cell::Absent => NULL,
                    cell => Evaluated::Cell(cell),
                }),
                Op::LoadRaw(column) => stack.push(Evaluated::Cell(env.value(*column))),
                Op::Literal(constant) => stack.push(Evaluated::Cell(constant.cell())),
                Op::SkipIfFalse(target) => {
                    if truth(stack.last()) == Some(false) {
                        next = *target as usize;
                    }
                }
                Op::SkipIfTrue(target) => {
                    if truth(stack.last()) == Some(true) {
                        next = *target as usize;
                    }
                }
                Op::Compare(comparison) => binary(&mut stack, |left, right| compare(*comparison, left, right)),
                Op::CompareColumn(column, comparison, constant) => {
                    stack.push(compare(*comparison, Evaluated::Cell(env.value(*column)), Evaluated::Cell(constant.cell())));
                }
                Op::Compute(arithmetic) => binary(&mut stack, |left, right| compute(*arithmetic, left, right)),
                Op::And => binary(&mut stack, |left, right| three_valued(left, right, false)),
                Op::Or => binary(&mut stack, |left, right| three_valued(left, right, true)),
                Op::Not => unary(&mut stack, |value| match value {
                    Evaluated::Cell(Cell::Bool(truth)) => Evaluated::Cell(Cell::Bool(!truth)),
                    _ => NULL,
                }),
                Op::IsNull => unary(&mut stack, |value| Evaluated::Cell(Cell::Bool(!value.raw().is_value()))),
                Op::IsNotNull => unary(&mut stack, |value| Evaluated::Cell(Cell::Bool(value.raw().is_value()))),
                Op::Cast(target) => unary(&mut stack, |value| cast(*target, value)),
                Op::Fill(constant) => unary(&mut stack, |value| match value {
                    Evaluated::Cell(Cell::Null) => Evaluated::Cell(constant.cell()),
                    other => other,
                }),
                Op::Quadkey => {
                    let zoom = stack.pop().unwrap_or(NULL);
                    binary(&mut stack, |lat, lon| quadkey(lat.raw(), lon.raw(), zoom.raw()));
                }
            }
        }
        stack.pop().unwrap_or(NULL)
    }
}

const NULL: Evaluated<'static> = Evaluated::Cell(Cell::Null);

type Stack<'r> = SmallVec<[Evaluated<'r>; STACK_INLINE]>;

#[inline]
fn unary<'r>(stack: &mut Stack<'r>, compute: impl FnOnce(Evaluated<'r>) -> Evaluated<'r>) {
    if let Some(top) = stack.last_mut() {
        *top = compute(*top);
    }
}

#[inline]
fn binary<'r>(stack: &mut Stack<'r>, compute: impl FnOnce(Evaluated<'r>, Evaluated<'r>) -> Evaluated<'r>) {
    let right = stack.pop().unwrap_or(NULL);
    if let Some(left) = stack.last_mut() {
        *left = compute(*left, right);
    }
}

#[inline]
fn truth(value: Option<&Evaluated<'_>>) -> Option<bool> {
    if let Some(Evaluated::Cell(Cell::Bool(truth))) = value { Some(*truth) } else { None }
}

/// SQL's and/or: `deciding` (false for and, true for or) wins over null.
#[inline]
fn three_valued<'r>(left: Evaluated<'r>, right: Evaluated<'r>, deciding: bool) -> Evaluated<'r> {
    match (truth(Some(&left)), truth(Some(&right))) {
        (Some(truth), _) | (_, Some(truth)) if truth == deciding => Evaluated::Cell(Cell::Bool(deciding)),
        (Some(_), Some(other)) if other == deciding => Evaluated::Cell(Cell::Bool(deciding)),
        (Some(_), Some(_)) => Evaluated::Cell(Cell::Bool(!deciding)),
        _ => NULL,
    }
}

#[inline]
fn compare<'r>(comparison: Comparison, left: Evaluated<'_>, right: Evaluated<'_>) -> Evaluated<'r> {
    #[expect(clippy::cast_precision_loss, reason = "numbers of unlike types compare as doubles, as the language says")]
    let ordering = match (left.raw(), right.raw()) {
        (Cell::I64(left), Cell::I64(right)) | (Cell::Datetime(left), Cell::Datetime(right)) => left.cmp(&right),
        (Cell::F64(left), Cell::F64(right)) => return compare_doubles(comparison, left, right),
        (Cell::I64(left), Cell::F64(right)) => return compare_doubles(comparison, left as f64, right),
        (Cell::F64(left), Cell::I64(right)) => return compare_doubles(comparison, left, right as f64),
        (Cell::Str(left), Cell::Str(right)) | (Cell::Bytes(left), Cell::Bytes(right)) => left.cmp(right),
        (Cell::Bool(left), Cell::Bool(right)) => left.cmp(&right),
        _ => return NULL,
    };
    Evaluated::Cell(Cell::Bool(holds(comparison, ordering)))
}

/// NaN makes every comparison false, `!=` too.
#[inline]
fn compare_doubles<'r>(comparison: Comparison, left: f64, right: f64) -> Evaluated<'r> {
    Evaluated::Cell(Cell::Bool(left.partial_cmp(&right).is_some_and(|ordering| holds(comparison, ordering))))
}

#[inline]
fn holds(comparison: Comparison, ordering: Ordering) -> bool {
    match comparison {
        Comparison::Equal => ordering.is_eq(),
        Comparison::Unequal => ordering.is_ne(),
        Comparison::Less => ordering.is_lt(),
        Comparison::LessOrEqual => ordering.is_le(),
        Comparison::Greater => ordering.is_gt(),
        Comparison::GreaterOrEqual => ordering.is_ge(),
    }
}

/// Integers saturate, division by zero gives null; with a double on either side it is IEEE arithmetic.
#[inline]
fn compute<'r>(arithmetic: Arithmetic, left: Evaluated<'_>, right: Evaluated<'_>) -> Evaluated<'r> {
    let (left, right) = (left.raw(), right.raw());
    if let (Cell::I64(left), Cell::I64(right)) = (left, right) {
        return Evaluated::Cell(match arithmetic {
            Arithmetic::Add => Cell::I64(left.saturating_add(right)),
            Arithmetic::Subtract => Cell::I64(left.saturating_sub(right)),
            Arithmetic::Multiply => Cell::I64(left.saturating_mul(right)),
            Arithmetic::Divide if right == 0 => Cell::Null,
            Arithmetic::Divide => Cell::I64(left.saturating_div(right)),
        });
    }
    let (Some(left), Some(right)) = (left.number(), right.number()) else { return NULL };
    Evaluated::Cell(Cell::F64(match arithmetic {
        Arithmetic::Add => left + right,
        Arithmetic::Subtract => left - right,
        Arithmetic::Multiply => left * right,
        Arithmetic::Divide => left / right,
    }))
}

fn cast(target: CastTo, value: Evaluated<'_>) -> Evaluated<'_> {
    if target == CastTo::Str {
        return cast_to_text(value);
    }
    let text = |bytes| std::str::from_utf8(bytes).unwrap_or_default();
    let cell = value.raw();
    let cast = match (target, cell) {
        (_, Cell::Absent) => Cell::Absent,
        (CastTo::Int, Cell::I64(number) | Cell::Datetime(number)) => Cell::I64(number),
        (CastTo::Int, Cell::F64(number)) if number.is_nan() => Cell::Null,
        #[expect(clippy::cast_possible_truncation, reason = "a cast truncates and saturates, as the language says")]
        (CastTo::Int, Cell::F64(number)) => Cell::I64(number as i64),
        (CastTo::Int, Cell::Bool(truth)) => Cell::I64(i64::from(truth)),
        (CastTo::Int, Cell::Str(bytes)) => text(bytes).parse().map_or(Cell::Null, Cell::I64),
        (CastTo::Float, Cell::Bool(truth)) => Cell::F64(f64::from(u8::from(truth))),
        #[expect(clippy::cast_precision_loss, reason = "the nearest double, as the language says")]
        (CastTo::Float, Cell::Datetime(number)) => Cell::F64(number as f64),
        (CastTo::Float, Cell::Str(bytes)) => match text(bytes).parse::<f64>() {
            Ok(number) if number.is_finite() => Cell::F64(number),
            _ => Cell::Null,
        },
        (CastTo::Float, number) => number.number().map_or(Cell::Null, Cell::F64),
        (CastTo::Bool, Cell::Bool(truth)) => Cell::Bool(truth),
        (CastTo::Bool, Cell::Str(b"true")) => Cell::Bool(true),
        (CastTo::Bool, Cell::Str(b"false")) => Cell::Bool(false),
        (CastTo::Bool, Cell::I64(number)) => Cell::Bool(number != 0),
        (CastTo::Bool, Cell::F64(number)) => Cell::Bool(number != 0.0),
        _ => Cell::Null,
    };
    // A number, a boolean or nothing: it borrows from nowhere.
    match cast {
        Cell::I64(number) => Evaluated::Cell(Cell::I64(number)),
        Cell::F64(number) => Evaluated::Cell(Cell::F64(number)),
        Cell::Bool(truth) => Evaluated::Cell(Cell::Bool(truth)),
        Cell::Absent => Evaluated::Cell(Cell::Absent),
        _ => NULL,
    }
}

fn cast_to_text(value: Evaluated<'_>) -> Evaluated<'_> {
    let Evaluated::Cell(cell) = value else { return value };
    match cell {
        Cell::Str(_) | Cell::Absent => value,
        Cell::Json(text) => Evaluated::Cell(Cell::Str(text)),
        Cell::Bool(truth) => Evaluated::Cell(Cell::Str(if truth { b"true" } else { b"false" })),
        Cell::I64(number) | Cell::Datetime(number) => Evaluated::Short(ShortText::of(itoa::Buffer::new().format(number))),
        Cell::F64(number) => {
            let mut buffer = ryu::Buffer::new();
            let text = buffer.format(number);
            Evaluated::Short(ShortText::of(text.strip_suffix(".0").unwrap_or(text)))
        }
        Cell::Null | Cell::Bytes(_) => NULL,
    }
}

/// `column * 2^zoom + row` of an equal-area grid: rows by `(sin(lat) + 1) / 2`, columns by longitude.
fn quadkey<'r>(lat: Cell<'_>, lon: Cell<'_>, zoom: Cell<'_>) -> Evaluated<'r> {
    let (Some(lat), Some(lon), Cell::I64(zoom @ 1..=24)) = (lat.number(), lon.number(), zoom) else { return NULL };
    if !lat.is_finite() || !lon.is_finite() {
        return NULL;
    }
    let side = 1i64 << zoom;
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        reason = "side is at most 2^24, and the cast saturates before the clamp"
    )]
    let cell_of = |share: f64| ((share * side as f64).floor() as i64).clamp(0, side - 1);
    let column = cell_of((lon + 180.0) / 360.0);
    let row = cell_of((lat.to_radians().sin() + 1.0) / 2.0);
    Evaluated::Cell(Cell::I64(column * side + row))
}
