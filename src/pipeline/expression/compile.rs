//! Syntax tree -> types and flat program, names resolved to columns.
//!
//! Unknown names are errors. Unlike types are reported, not refused: the register call makes warnings of them, the config file errors.

use super::ExpressionError;
use super::program::{Arithmetic, CastTo, Constant, Op, Program};
use super::syntax::{Expression, NodeIndex, NodeKind};
use crate::pipeline::environment::Column;
use crate::row::{FieldIndex, FieldType};
use std::ops::Range;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolved {
    /// Where it is read from.
    pub column: Column,
    /// Its declared or computed type; none when it is only known per row.
    pub kind: Option<FieldType>,
}

/// Two or more places whose types do not go together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TypeMismatch {
    /// What does not go together.
    pub reason: String,
    /// Places in the expression, each with its type.
    pub labels: Vec<(Range<usize>, String)>,
    /// What to write instead, when that is known.
    pub hint: Option<String>,
}

/// A compiled expression and what is known of its value.
#[derive(Debug, Clone, PartialEq)]
pub struct Compiled {
    /// The code.
    pub program: Program,
    /// The type of its value; none for null and for what is only known per row.
    pub kind: Option<FieldType>,
    /// Places where types do not go together.
    pub mismatches: Vec<TypeMismatch>,
}

/// What is known of a node's value before any row is seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Static {
    /// The literal null.
    Null,
    /// Any type.
    Unknown,
    Is(FieldType),
}

impl Static {
    fn of(kind: Option<FieldType>) -> Self {
        kind.map_or(Self::Unknown, Self::Is)
    }

    fn is_number(self) -> bool {
        matches!(self, Self::Null | Self::Unknown | Self::Is(FieldType::I64 | FieldType::F64))
    }

    fn is_bool(self) -> bool {
        matches!(self, Self::Null | Self::Unknown | Self::Is(FieldType::Bool))
    }

    fn compares_with(self, other: Self) -> bool {
        match (self, other) {
            (Self::Null, _) | (_, Self::Null) => true,
            (Self::Is(FieldType::Json), _) | (_, Self::Is(FieldType::Json)) => false,
            (Self::Is(left), Self::Is(right)) => left == right || (self.is_number() && other.is_number()),
            _ => true,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Unknown => "unknown",
            Self::Is(kind) => kind.as_str(),
        }
    }
}

impl Expression {
    /// Compiles the expression over the columns that `resolve` knows.
    ///
    /// # Errors
    /// When it names a column that there is not.
    pub fn compile(&self, resolve: &dyn Fn(&str) -> Option<Resolved>) -> Result<Compiled, ExpressionError> {
        let mut types = Types { expression: self, known: Vec::with_capacity(self.nodes.len()), mismatches: Vec::new() };
        let mut columns = Vec::with_capacity(self.nodes.len());
        for node in &self.nodes {
            let resolved = match &node.kind {
                NodeKind::Name(name) => match resolve(name) {
                    Some(resolved) => Some(resolved),
                    None => return Err(ExpressionError::unknown_name(name, node.span.clone())),
                },
                _ => None,
            };
            let known = types.infer(&node.kind, resolved);
            types.known.push(known);
            columns.push(resolved.map(|resolved| resolved.column));
        }
        let kind = match types.known.last() {
            Some(Static::Is(kind)) => Some(*kind),
            _ => None,
        };
        let ops = self.emit(&columns);
        let text = self.text_by(&|name| match resolve(name) {
            Some(Resolved { column: Column::Derived(index), .. }) => format!("${index}"),
            Some(Resolved { column: Column::Field(FieldIndex(index)), .. }) => format!("#{index}"),
            None => name.to_owned(),
        });
        Ok(Compiled { program: Program { ops, text: text.into() }, kind, mismatches: types.mismatches })
    }

    /// A mismatch when the expression's value cannot be true or false.
    pub fn wants_bool(&self, compiled: &Compiled) -> Option<TypeMismatch> {
        let kind = compiled.kind.filter(|kind| *kind != FieldType::Bool)?;
        let span = self.nodes.last().map_or(0..0, |node| node.span.clone());
        Some(TypeMismatch {
            reason: format!("a condition is true or false, this is {}", kind.as_str()),
            labels: vec![(span, kind.as_str().to_owned())],
            hint: None,
        })
    }

    /// One pass in postfix order. A comparison with the literal null becomes a null test, `and` and `or` skip what cannot change them.
    fn emit(&self, columns: &[Option<Column>]) -> Box<[Op]> {
        let is_null = |index: NodeIndex| matches!(self.nodes.get(index).map(|node| &node.kind), Some(NodeKind::Literal(Constant::Null)));
        let mut elided = vec![false; self.nodes.len()];
        let mut skips: Vec<Option<NodeIndex>> = vec![None; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate() {
            match node.kind {
                NodeKind::Compare(comparison, left, right) if comparison.is_equality() && (is_null(left) || is_null(right)) => {
                    elided[if is_null(right) { right } else { left }] = true;
                }
                NodeKind::And(left, _) | NodeKind::Or(left, _) => skips[left] = Some(index),
                _ => {}
            }
        }
        let mut ops: Vec<Op> = Vec::with_capacity(self.nodes.len());
        let mut patches: Vec<(NodeIndex, usize)> = Vec::new();
        for (index, node) in self.nodes.iter().enumerate() {
            if !elided[index] {
                ops.push(match &node.kind {
                    NodeKind::Literal(constant) => Op::Literal(constant.clone()),
                    NodeKind::Name(_) => columns[index].map_or(Op::Literal(Constant::Null), Op::Load),
                    NodeKind::Not(_) => Op::Not,
                    NodeKind::And(..) => Op::And,
                    NodeKind::Or(..) => Op::Or,
                    NodeKind::Compare(comparison, left, right) => match (elided[*left] || elided[*right], comparison.is_equal()) {
                        (true, true) => Op::IsNull,
                        (true, false) => Op::IsNotNull,
                        (false, _) => Op::Compare(*comparison),
                    },
                    NodeKind::Compute(arithmetic, ..) => Op::Compute(*arithmetic),
                    NodeKind::Cast(_, target) => Op::Cast(*target),
                    NodeKind::IsNull(_) => Op::IsNull,
                    NodeKind::Quadkey(..) => Op::Quadkey,
                });
            }
            fuse(&mut ops);
            while let Some(&(owner, at)) = patches.last().filter(|(owner, _)| *owner == index) {
                debug_assert_eq!(owner, index);
                patches.pop();
                let target = u32::try_from(ops.len()).unwrap_or(u32::MAX);
                if let Some(Op::SkipIfFalse(to) | Op::SkipIfTrue(to)) = ops.get_mut(at) {
                    *to = target;
                }
            }
            if let Some(owner) = skips[index] {
                patches.push((owner, ops.len()));
                let disjunction = matches!(self.nodes.get(owner).map(|node| &node.kind), Some(NodeKind::Or(..)));
                ops.push(if disjunction { Op::SkipIfTrue(0) } else { Op::SkipIfFalse(0) });
            }
        }
        ops.into()
    }
}

/// The commonest filter, a column against a literal, is one instruction.
fn fuse(ops: &mut Vec<Op>) {
    if let [.., Op::Load(column), Op::Literal(constant), Op::Compare(comparison)] = ops.as_slice() {
        let fused = Op::CompareColumn(*column, *comparison, constant.clone());
        ops.truncate(ops.len() - 3);
        ops.push(fused);
    }
}

struct Types<'e> {
    expression: &'e Expression,
    known: Vec<Static>,
    mismatches: Vec<TypeMismatch>,
}

impl Types<'_> {
    fn at(&self, index: NodeIndex) -> Static {
        self.known.get(index).copied().unwrap_or(Static::Unknown)
    }

    fn mismatch(&mut self, reason: String, places: &[NodeIndex], hint: Option<String>) {
        let labels =
            places.iter().filter_map(|&index| Some((self.expression.nodes.get(index)?.span.clone(), self.at(index).name().to_owned())));
        let labels = labels.collect();
        self.mismatches.push(TypeMismatch { reason, labels, hint });
    }

    fn infer(&mut self, kind: &NodeKind, resolved: Option<Resolved>) -> Static {
        match *kind {
            NodeKind::Literal(ref constant) => match constant {
                Constant::Null => Static::Null,
                Constant::Bool(_) => Static::Is(FieldType::Bool),
                Constant::I64(_) => Static::Is(FieldType::I64),
                Constant::F64(_) => Static::Is(FieldType::F64),
                Constant::Str(_) => Static::Is(FieldType::Str),
            },
            NodeKind::Name(_) => Static::of(resolved.and_then(|resolved| resolved.kind)),
            NodeKind::Not(child) => {
                self.wants_bool("not", &[child]);
                Static::Is(FieldType::Bool)
            }
            NodeKind::And(left, right) => {
                self.wants_bool("and", &[left, right]);
                Static::Is(FieldType::Bool)
            }
            NodeKind::Or(left, right) => {
                self.wants_bool("or", &[left, right]);
                Static::Is(FieldType::Bool)
            }
            NodeKind::Compare(_, left, right) => {
                let (left_type, right_type) = (self.at(left), self.at(right));
                if !left_type.compares_with(right_type) {
                    let reason = format!("compares {} with {}", left_type.name(), right_type.name());
                    let hint = self.unquoted(left, right).or_else(|| self.unquoted(right, left));
                    let hint = hint.or_else(|| self.of_time(left, right)).or_else(|| self.of_time(right, left));
                    self.mismatch(reason, &[left, right], hint);
                }
                Static::Is(FieldType::Bool)
            }
            NodeKind::Compute(arithmetic, left, right) => self.arithmetic(arithmetic, left, right),
            NodeKind::Cast(child, target) => {
                if let Static::Is(FieldType::Bytes) = self.at(child) {
                    self.mismatch("bytes cannot be cast".to_owned(), &[child], None);
                }
                Static::Is(cast_kind(target))
            }
            NodeKind::IsNull(_) => Static::Is(FieldType::Bool),
            NodeKind::Quadkey(lat, lon, _) => {
                if !self.at(lat).is_number() || !self.at(lon).is_number() {
                    self.mismatch("quadkey wants numbers".to_owned(), &[lat, lon], None);
                }
                Static::Is(FieldType::I64)
            }
        }
    }

    fn wants_bool(&mut self, operator: &str, operands: &[NodeIndex]) {
        let wrong: Vec<NodeIndex> = operands.iter().copied().filter(|&index| !self.at(index).is_bool()).collect();
        if !wrong.is_empty() {
            self.mismatch(format!("`{operator}` wants true or false"), &wrong, None);
        }
    }

    fn arithmetic(&mut self, arithmetic: Arithmetic, left: NodeIndex, right: NodeIndex) -> Static {
        let (left_type, right_type) = (self.at(left), self.at(right));
        if !left_type.is_number() || !right_type.is_number() {
            let verb = match arithmetic {
                Arithmetic::Add => "adds",
                Arithmetic::Subtract => "subtracts",
                Arithmetic::Multiply => "multiplies",
                Arithmetic::Divide => "divides",
            };
            self.mismatch(format!("{verb} {} and {}", left_type.name(), right_type.name()), &[left, right], None);
            return Static::Null;
        }
        match (left_type, right_type) {
            (Static::Null, _) | (_, Static::Null) => Static::Null,
            (Static::Is(FieldType::I64), Static::Is(FieldType::I64)) => Static::Is(FieldType::I64),
            (Static::Is(FieldType::F64), _) | (_, Static::Is(FieldType::F64)) => Static::Is(FieldType::F64),
            _ => Static::Unknown,
        }
    }

    /// A number that stands in quotes beside a number is the commonest slip.
    fn unquoted(&self, text: NodeIndex, number: NodeIndex) -> Option<String> {
        let NodeKind::Literal(Constant::Str(literal)) = &self.expression.nodes.get(text)?.kind else { return None };
        let numeric = matches!(self.at(number), Static::Is(FieldType::I64 | FieldType::F64)) && literal.parse::<f64>().is_ok();
        numeric.then(|| format!("write {literal} without quotes"))
    }
}

impl Types<'_> {
    /// A time beside a constant: there is no constant of a time, but its milliseconds are a number.
    fn of_time(&self, time: NodeIndex, other: NodeIndex) -> Option<String> {
        let nodes = &self.expression.nodes;
        let NodeKind::Literal(constant) = &nodes.get(other)?.kind else { return None };
        if self.at(time) != Static::Is(FieldType::Datetime) {
            return None;
        }
        let ms = match constant {
            Constant::I64(ms) => *ms,
            Constant::Str(text) => crate::row::parse_time_us(text).ok()?.div_euclid(1000),
            _ => return None,
        };
        let NodeKind::Name(name) = &nodes.get(time)?.kind else { return Some("compare cast(.., int), milliseconds since 1970".to_owned()) };
        Some(format!("compare milliseconds since 1970: cast({name}, int) with {ms}"))
    }
}

/// The type that a cast makes.
pub(crate) fn cast_kind(target: CastTo) -> FieldType {
    match target {
        CastTo::Str => FieldType::Str,
        CastTo::Int => FieldType::I64,
        CastTo::Float => FieldType::F64,
        CastTo::Bool => FieldType::Bool,
    }
}
