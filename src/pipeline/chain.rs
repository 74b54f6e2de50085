//! Chain steps: `filter select drop rename with_columns map cast fillna`, decoded and compiled.
//!
//! Compiling is substitution: projections and renames only change what names stand for, a computed column becomes one derived column that is evaluated once
//! per row. So a chain costs what its filters and computed columns cost, however long it is, and every feature, key and `where` sees the transformed row.

use super::environment::{Chain, Column, Step};
use super::expression::{CastTo, Constant, Expression, Op, Program, Resolved, cast_kind, cast_target};
use super::payload::{Tree, join};
use super::problem::{Problem, Problems};
use crate::row::{EventSchema, FieldIndex, FieldType};
use serde_json::{Map, Value as Json, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use streamgauge_api::{Code, did_you_mean};

/// Names of steps, for messages.
const STEPS: &[&str] = &["filter", "select", "drop", "rename", "with_columns", "map", "cast", "fillna", "group_by"];

/// One decoded step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum ChainOp {
    Filter(Expression),
    Select(Vec<String>),
    Drop(Vec<String>),
    Rename(BTreeMap<String, String>),
    /// In alphabetical order, each sees the earlier ones. The word is `with_columns` or `map`.
    WithColumns(&'static str, BTreeMap<String, Expression>),
    Cast(BTreeMap<String, (String, CastTo)>),
    Fillna(BTreeMap<String, Json>),
}

impl ChainOp {
    /// Decodes a step; what is wrong goes into `problems`.
    pub(super) fn decode(tree: &Tree, path: &str, problems: &mut Problems) -> Option<Self> {
        let name = tree.get("op").and_then(Tree::as_str).unwrap_or_default();
        let known: &[&str] = match name {
            "filter" => &["op", "expr"],
            "select" | "drop" => &["op", "fields"],
            "rename" => &["op", "mapping"],
            "with_columns" | "map" => &["op", "exprs"],
            "cast" => &["op", "type_map"],
            "fillna" => &["op", "defaults"],
            _ => &[],
        };
        if !known.is_empty() {
            tree.only(path, known, problems);
        }
        match name {
            "filter" => {
                let text = tree.get("expr").and_then(Tree::as_str);
                let Some(text) = text else { return shape(path, "expr", "a string", tree.get("expr"), problems) };
                Some(Self::Filter(expression(text, &join(path, "expr"), problems)?))
            }
            "select" | "drop" => {
                let Some(fields) = tree.get("fields").and_then(Tree::texts) else {
                    return shape(path, "fields", "an array of strings", tree.get("fields"), problems);
                };
                let fields = fields.into_iter().map(str::to_owned).collect();
                Some(if name == "select" { Self::Select(fields) } else { Self::Drop(fields) })
            }
            "rename" => Some(Self::Rename(texts_by_name(tree, "mapping", path, problems)?)),
            "with_columns" | "map" => {
                let texts = texts_by_name(tree, "exprs", path, problems)?;
                let mut exprs = BTreeMap::new();
                for (column, text) in texts {
                    let expression = expression(&text, &join(path, &join("exprs", &column)), problems)?;
                    exprs.insert(column, expression);
                }
                Some(Self::WithColumns(if name == "map" { "map" } else { "with_columns" }, exprs))
            }
            "cast" => {
                let mut targets = BTreeMap::new();
                for (column, text) in texts_by_name(tree, "type_map", path, problems)? {
                    let Some(target) = cast_target(&text) else {
                        let at = join(path, &join("type_map", &column));
                        problems.error(Code::InvalidExpression, at, format!("cast makes str, int, float or bool, not {text:?}"));
                        return None;
                    };
                    targets.insert(column, (text, target));
                }
                Some(Self::Cast(targets))
            }
            "fillna" => {
                let Some(members) = tree.get("defaults").and_then(Tree::members) else {
                    return shape(path, "defaults", "an object", tree.get("defaults"), problems);
                };
                Some(Self::Fillna(members.iter().map(|(column, value)| (column.clone(), value.to_json())).collect()))
            }
            _ => {
                let reason = format!("there is no step {name:?}; there are {}", STEPS.join(", "));
                let problem = Problem::new(Code::InvalidExpression, join(path, "op"), reason);
                problems.errors.push(problem.hint(did_you_mean(name, STEPS.iter())));
                None
            }
        }
    }

    /// The step in canonical form.
    pub(super) fn canonical(&self) -> Json {
        match self {
            Self::Filter(expression) => json!({ "op": "filter", "expr": expression.text() }),
            Self::Select(fields) => json!({ "op": "select", "fields": fields }),
            Self::Drop(fields) => json!({ "op": "drop", "fields": fields }),
            Self::Rename(mapping) => json!({ "op": "rename", "mapping": mapping }),
            Self::WithColumns(word, exprs) => {
                let exprs: Map<String, Json> =
                    exprs.iter().map(|(column, expression)| (column.clone(), expression.text().into())).collect();
                json!({ "op": word, "exprs": exprs })
            }
            Self::Cast(targets) => {
                let types: Map<String, Json> = targets.iter().map(|(column, (text, _))| (column.clone(), text.clone().into())).collect();
                json!({ "op": "cast", "type_map": types })
            }
            Self::Fillna(defaults) => json!({ "op": "fillna", "defaults": defaults }),
        }
    }
}

fn shape<T>(path: &str, member: &str, wanted: &str, found: Option<&Tree>, problems: &mut Problems) -> Option<T> {
    let found = found.map_or("missing", Tree::kind);
    problems.error(Code::InvalidRegistration, "<body>", format!("{path}.{member}: {wanted} is wanted, found {found}"));
    None
}

fn expression(text: &str, path: &str, problems: &mut Problems) -> Option<Expression> {
    match Expression::parse(text) {
        Ok(expression) => Some(expression),
        Err(error) => {
            problems.errors.push(Problem::expression(Code::InvalidExpression, path, &error, std::iter::empty()));
            None
        }
    }
}

fn texts_by_name(tree: &Tree, member: &str, path: &str, problems: &mut Problems) -> Option<BTreeMap<String, String>> {
    let members = tree.get(member).and_then(Tree::members);
    let texts = members.and_then(|members| members.iter().map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned()))).collect());
    if texts.is_none() {
        return shape(path, member, "an object of strings", tree.get(member), problems);
    }
    texts
}

/// What names stand for after the steps so far, and the chain that makes it so.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    pub(super) columns: BTreeMap<Box<str>, Resolved>,
    pub(super) chain: Chain,
    derived: BTreeMap<Box<str>, Column>,
    /// Texts of computed fields so far, by names.
    pub(super) computed: Vec<Box<str>>,
}

impl Scope {
    /// An event's own fields.
    pub(super) fn of_event(schema: &EventSchema) -> Self {
        let columns = schema
            .fields
            .iter()
            .enumerate()
            .filter(|(_, field)| !super::node::is_retired(&field.name))
            .filter_map(|(index, field)| {
                let column = Column::Field(FieldIndex(u16::try_from(index).ok()?));
                Some((field.name.clone(), Resolved { column, kind: Some(field.kind) }))
            })
            .collect();
        Self { columns, chain: Chain::default(), derived: BTreeMap::new(), computed: Vec::new() }
    }

    /// Computed fields of an earlier compilation of the table keep their columns; one whose fields are gone leaves its column empty.
    pub(super) fn keep_computed(&mut self, computed: &[Box<str>]) {
        for text in computed {
            let compiled = Expression::parse(text).and_then(|expression| expression.compile(&|name| self.resolve(name)));
            let program = match compiled {
                Ok(compiled) => compiled.program,
                Err(_) => Program::of(vec![Op::Literal(Constant::Null)], format!("gone {text}")),
            };
            // There were no more of them than columns when they were made.
            let _column = self.derive(program, "", &mut Problems::default());
            self.computed.push(text.clone());
        }
    }

    /// The column of a computed field.
    pub(super) fn compute(&mut self, expression: &Expression, program: Program, path: &str, problems: &mut Problems) -> Option<Column> {
        let text = expression.text();
        if !self.computed.iter().any(|known| **known == text) {
            self.computed.push(text.into());
        }
        self.derive(program, path, problems)
    }

    /// What a name stands for.
    pub(super) fn resolve(&self, name: &str) -> Option<Resolved> {
        self.columns.get(name).copied()
    }

    pub(super) fn known(&self) -> impl Iterator<Item = String> + '_ {
        self.columns.keys().map(ToString::to_string)
    }

    /// Compiles an expression; unlike types become problems that the caller sorts.
    pub(super) fn compile(
        &self,
        expression: &Expression,
        condition: bool,
        code: Code,
        path: &str,
        problems: &mut Problems,
    ) -> Option<(Program, Option<FieldType>)> {
        match expression.compile(&|name| self.resolve(name)) {
            Ok(compiled) => {
                let not_bool = if condition { expression.wants_bool(&compiled) } else { None };
                problems.warnings.extend(compiled.mismatches.into_iter().chain(not_bool).map(|mismatch| Problem::mismatch(path, mismatch)));
                Some((compiled.program, compiled.kind))
            }
            Err(error) => {
                problems.errors.push(Problem::expression(code, path, &error, self.known()));
                None
            }
        }
    }

    /// A derived column for a program; equal programs share one.
    pub(super) fn derive(&mut self, program: Program, path: &str, problems: &mut Problems) -> Option<Column> {
        if let Some(column) = self.derived.get(program.text()) {
            return Some(*column);
        }
        let Ok(index) = u16::try_from(self.derived.len()) else {
            problems.error(Code::InvalidExpression, path, "a table computes at most 65,536 columns");
            return None;
        };
        let column = Column::Derived(index);
        self.derived.insert(program.text().into(), column);
        self.chain.steps.push(Step::Derive(Arc::new(program)));
        Some(column)
    }

    /// Applies one step.
    pub(super) fn apply(&mut self, op: &ChainOp, path: &str, problems: &mut Problems) -> Option<()> {
        match op {
            ChainOp::Filter(expression) => {
                let (program, _) = self.compile(expression, true, Code::InvalidExpression, &join(path, "expr"), problems)?;
                self.chain.steps.push(Step::Filter(Arc::new(program)));
            }
            ChainOp::Select(fields) => {
                let mut kept = BTreeMap::new();
                for (index, name) in fields.iter().enumerate() {
                    let resolved = self.existing(name, &format!("{path}.fields[{index}]"), problems)?;
                    kept.insert(name.as_str().into(), resolved);
                }
                self.columns = kept;
            }
            ChainOp::Drop(fields) => {
                for (index, name) in fields.iter().enumerate() {
                    self.existing(name, &format!("{path}.fields[{index}]"), problems)?;
                }
                for name in fields {
                    self.columns.remove(name.as_str());
                }
            }
            ChainOp::Rename(mapping) => self.rename(mapping, path, problems)?,
            ChainOp::WithColumns(_, exprs) => {
                for (name, expression) in exprs {
                    let at = join(path, &join("exprs", name));
                    if let Some(reason) = super::node::bad_inner_name(name) {
                        problems.error(Code::InvalidExpression, at, format!("column {name:?} {reason}"));
                        return None;
                    }
                    let (program, kind) = self.compile(expression, false, Code::InvalidExpression, &at, problems)?;
                    let column = self.derive(program, &at, problems)?;
                    self.columns.insert(name.as_str().into(), Resolved { column, kind });
                }
            }
            ChainOp::Cast(targets) => {
                for (name, (word, target)) in targets {
                    let at = join(path, &join("type_map", name));
                    let resolved = self.existing(name, &at, problems)?;
                    if resolved.kind == Some(FieldType::Bytes) {
                        problems.error(Code::InvalidExpression, at, format!("\"{name}\" is bytes, which cannot be cast"));
                        return None;
                    }
                    let ops = vec![Op::LoadRaw(resolved.column), Op::Cast(*target)];
                    let program = Program::of(ops, format!("cast {} {word}", text_of(resolved.column)));
                    let column = self.derive(program, &at, problems)?;
                    self.columns.insert(name.as_str().into(), Resolved { column, kind: Some(cast_kind(*target)) });
                }
            }
            ChainOp::Fillna(defaults) => {
                for (name, default) in defaults {
                    let at = join(path, &join("defaults", name));
                    let resolved = self.existing(name, &at, problems)?;
                    self.fill(name, resolved, default, &at, problems)?;
                }
            }
        }
        Some(())
    }

    fn existing(&self, name: &str, path: &str, problems: &mut Problems) -> Option<Resolved> {
        let resolved = self.resolve(name);
        if resolved.is_none() {
            let problem = Problem::new(Code::InvalidExpression, path, format!("there is no field \"{name}\" here"));
            problems.errors.push(problem.hint(did_you_mean(name, self.known())));
        }
        resolved
    }

    /// All at once, so that swaps work.
    fn rename(&mut self, mapping: &BTreeMap<String, String>, path: &str, problems: &mut Problems) -> Option<()> {
        let mut targets = BTreeSet::new();
        for (from, to) in mapping {
            let at = join(path, &join("mapping", from));
            self.existing(from, &at, problems)?;
            let taken = self.columns.contains_key(to.as_str()) && !mapping.contains_key(to);
            let reason = match super::node::bad_inner_name(to) {
                Some(reason) => Some(format!("column {to:?} {reason}")),
                None if taken || !targets.insert(to) => Some(format!("there is a field \"{to}\" already")),
                None => None,
            };
            if let Some(reason) = reason {
                problems.error(Code::InvalidExpression, at, reason);
                return None;
            }
        }
        let moved: Vec<(Box<str>, Resolved)> =
            mapping.iter().filter_map(|(from, to)| Some((to.as_str().into(), self.columns.remove(from.as_str())?))).collect();
        self.columns.extend(moved);
        Some(())
    }

    fn fill(&mut self, name: &str, resolved: Resolved, default: &Json, path: &str, problems: &mut Problems) -> Option<()> {
        let (constant, kind) = match default {
            Json::Bool(truth) => (Constant::Bool(*truth), FieldType::Bool),
            Json::String(text) => (Constant::Str(text.as_str().into()), FieldType::Str),
            Json::Number(number) => match (number.as_i64(), number.as_f64(), resolved.kind) {
                (Some(whole), _, Some(FieldType::F64)) =>
                {
                    #[expect(clippy::cast_precision_loss, reason = "an integer in an f64 column is the nearest double, as in rows")]
                    (Constant::F64(whole as f64), FieldType::F64)
                }
                (Some(whole), ..) => (Constant::I64(whole), FieldType::I64),
                (None, number, _) => (Constant::F64(number.unwrap_or_default()), FieldType::F64),
            },
            // Null stays null.
            Json::Null | Json::Array(_) | Json::Object(_) => {
                problems.warning(Code::InvalidExpression, path, format!("\"{name}\" is filled with null, which changes nothing"));
                return Some(());
            }
        };
        let same = resolved.kind == Some(kind);
        if !same && resolved.kind.is_some() {
            let declared = resolved.kind.map_or("unknown", FieldType::as_str);
            problems.warning(Code::ExpressionTypeMismatch, path, format!("\"{name}\" is {declared} and is filled with {}", kind.as_str()));
        }
        let text = format!("fill {} {default}", text_of(resolved.column));
        let program = Program::of(vec![Op::LoadRaw(resolved.column), Op::Fill(constant)], text);
        let column = self.derive(program, path, problems)?;
        self.columns.insert(name.into(), Resolved { column, kind: resolved.kind.filter(|_| same) });
        Some(())
    }
}

/// A column as program texts name it.
pub(super) fn text_of(column: Column) -> String {
    match column {
        Column::Field(FieldIndex(index)) => format!("#{index}"),
        Column::Derived(index) => format!("${index}"),
    }
}
