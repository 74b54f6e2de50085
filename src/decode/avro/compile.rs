//! Writer schema + what the event takes -> the list of ops of an [`AvroPlan`](super::AvroPlan).
//!
//! Runs once per schema id, on the thread that got the schema. Whatever can be known from the schema is decided here: a required field that the writer lacks, or a
//! type that can never fit, refuses the schema (`schema_unusable`), so that it stops the source instead of rejecting every record. A branch of a union that does
//! not fit is refused when it occurs. The depth of compilation is bounded by the schema text's own nesting and by the length of the paths.

use super::ops::{DecimalTaken, Op, Plan};
use super::shape::{Shape, ShapeIndex, Shapes};
use crate::decode::path;
use crate::decode::projection::{Misfit, Node, Projection, Taking, Target};
use crate::row::{EventSchema, FieldIndex, FieldType};
use streamgauge_api::{ApiError, Code};

/// Most ops of one plan: unions inside of taken paths multiply.
const OPS_MAX: usize = 1 << 16;

/// Compiles a plan.
///
/// # Errors
/// `schema_unusable`, naming the field.
pub(super) fn compile(shapes: Shapes, root: ShapeIndex, event: &EventSchema, projection: &Projection) -> Result<Plan, ApiError> {
    let none = Projection::of_paths([])?;
    let mut compiler = Compiler { shapes: &shapes, event, readings: &projection.readings, plan: Plan::default(), tree: &none };
    let whole = projection.takings.iter().any(|(_, paths)| paths.iter().any(|path| **path == *Projection::WHOLE));
    if !whole && !matches!(shapes.get(root), Shape::Record(_) | Shape::Union(_)) {
        return Err(unusable("the writer schema is neither a record nor a union of records".into()));
    }
    // Paths that the writer never has drop out here; where one is left, its value is taken as it stands.
    let mut chosen: Vec<(FieldIndex, Vec<Box<str>>)> = Vec::new();
    let mut absent = Vec::new();
    for (field, paths) in &projection.takings {
        let led: Vec<Box<str>> = paths.iter().filter(|path| compiler.leads_somewhere(root, path)).cloned().collect();
        if !led.is_empty() {
            chosen.push((*field, led));
            continue;
        }
        let declared = compiler.field(*field);
        if declared.is_some_and(|declared| !declared.optional) {
            let name = declared.map(|declared| &*declared.name).unwrap_or_default();
            let wanted = paths.join("\" or \"");
            let reason = format!("the writer schema has no \"{wanted}\", which required field \"{name}\" of {} comes from", event.name);
            return Err(unusable(reason).at(name));
        }
        absent.push(*field);
    }
    let takings = chosen.iter().filter_map(|(field, paths)| {
        let (path, aliases) = paths.split_first()?;
        Some(Taking { field: *field, path, aliases })
    });
    let tree = Projection::of_paths(takings)?;
    compiler.tree = &tree;
    for &field in &absent {
        compiler.emit(Op::Null(field))?;
    }
    if !tree.choices.is_empty() {
        compiler.emit(Op::Forget)?;
    }
    compiler.value(root, &tree.root, false)?;
    if !tree.choices.is_empty() {
        compiler.emit(Op::Choose)?;
    }
    compiler.emit(Op::Return)?;
    let mut plan = compiler.plan;
    plan.led_nowhere = absent;
    plan.shapes = shapes;
    plan.list_slots = tree.lists.len();
    plan.candidates = tree.candidates.len();
    plan.choices = tree.choices;
    Ok(plan)
}

fn unusable(reason: String) -> ApiError {
    ApiError::new(Code::SchemaUnusable, reason)
}

struct Compiler<'c> {
    shapes: &'c Shapes,
    event: &'c EventSchema,
    /// Fields whose values are read as the source says.
    readings: &'c [FieldIndex],
    plan: Plan,
    tree: &'c Projection,
}

impl<'c> Compiler<'c> {
    fn shape(&self, at: ShapeIndex) -> &'c Shape {
        let shapes: &'c Shapes = self.shapes;
        shapes.get(at)
    }

    fn field(&self, field: FieldIndex) -> Option<&crate::row::Field> {
        self.event.fields.get(usize::from(field.0))
    }

    fn emit(&mut self, op: Op) -> Result<usize, ApiError> {
        if self.plan.ops.len() >= OPS_MAX {
            return Err(unusable(format!("the plan for {} needs more than {OPS_MAX} steps", self.event.name)));
        }
        self.plan.ops.push(op);
        Ok(self.plan.ops.len() - 1)
    }

    fn here(&self) -> u32 {
        u32::try_from(self.plan.ops.len()).unwrap_or(u32::MAX)
    }

    /// Whether a record path exists in a schema, in at least one branch of its unions.
    fn leads_somewhere(&self, root: ShapeIndex, path: &str) -> bool {
        if path == Projection::WHOLE {
            return true;
        }
        let Ok(parsed) = path::steps(path) else { unreachable!("{path} stands in a projection, so it is a path") };
        let steps: Vec<Option<&str>> = parsed
            .iter()
            .flat_map(|step| std::iter::once(Some(step.name.as_str())).chain(std::iter::repeat_n(None, step.arrays)))
            .collect();
        self.has(root, &steps)
    }

    fn has(&self, at: ShapeIndex, steps: &[Option<&str>]) -> bool {
        let Some((step, rest)) = steps.split_first() else { return true };
        match (self.shape(at), step) {
            (Shape::Union(branches), _) => branches.iter().any(|&branch| self.has(branch, steps)),
            (Shape::Record(fields), Some(name)) => {
                fields.iter().find(|(field, _)| **field == **name).is_some_and(|&(_, field)| self.has(field, rest))
            }
            (Shape::Array(item), None) => self.has(*item, rest),
            (Shape::Map(value), Some(_)) => self.has(*value, rest),
            _ => false,
        }
    }

    /// Ops for a value that something is taken of. `branch`: it stands in a union, so what does not fit is refused when it occurs.
    fn value(&mut self, at: ShapeIndex, node: &Node, branch: bool) -> Result<(), ApiError> {
        if let Shape::Union(branches) = self.shape(at) {
            let first = u32::try_from(self.plan.jumps.len()).unwrap_or(u32::MAX);
            let count = branches.len();
            self.plan.jumps.resize(self.plan.jumps.len() + count, 0);
            self.emit(Op::Union { first, count: u32::try_from(count).unwrap_or(u32::MAX) })?;
            let mut ends = Vec::new();
            for (index, &branch) in branches.iter().enumerate() {
                self.plan.jumps[first as usize + index] = self.here();
                self.value(branch, node, true)?;
                if index + 1 < count {
                    ends.push(self.emit(Op::Jump(0))?);
                }
            }
            let end = self.here();
            for index in ends {
                self.plan.ops[index] = Op::Jump(end);
            }
            return Ok(());
        }
        let readers = node.targets.len() + usize::from(node.looks_inside());
        if readers == 0 {
            return self.skip(at);
        }
        let mark = if readers > 1 { Some(self.mark()?) } else { None };
        for (index, &target) in node.targets.iter().enumerate() {
            if let Some(mark) = mark
                && index > 0
            {
                self.emit(Op::Rewind(mark))?;
            }
            self.whole(at, target, branch)?;
        }
        if node.looks_inside() {
            if let Some(mark) = mark {
                self.emit(Op::Rewind(mark))?;
            }
            self.inside(at, node, branch)?;
        }
        Ok(())
    }

    fn mark(&mut self) -> Result<u16, ApiError> {
        let mark = u16::try_from(self.plan.marks).map_err(|_| unusable("too many fields of one value".into()))?;
        self.plan.marks += 1;
        self.emit(Op::Mark(mark))?;
        Ok(mark)
    }

    fn nulls(&mut self, targets: &[Target]) -> Result<(), ApiError> {
        for &target in targets {
            self.emit(match target {
                Target::Field(field) => Op::Null(field),
                Target::List(slot) => Op::AppendNull(slot),
                Target::Candidate(candidate) => Op::FoundNull(candidate),
            })?;
        }
        Ok(())
    }

    /// Ops for what a node takes from inside of a value.
    fn inside(&mut self, at: ShapeIndex, node: &Node, branch: bool) -> Result<(), ApiError> {
        match (self.shape(at), &node.items) {
            (Shape::Record(fields), items) if !node.members.is_empty() => {
                if items.is_some() && !self.misfits(&node.of_items(), at, "an array", branch)? {
                    return Ok(());
                }
                for member in &node.members {
                    if !fields.iter().any(|(field, _)| **field == *member.name) {
                        let mut targets = Vec::new();
                        member.node.each_target(&mut |target| targets.push(target));
                        // What a candidate does not find is missing, not null.
                        targets.retain(|target| !matches!(target, Target::Candidate(_)));
                        self.nulls(&targets)?;
                    }
                }
                for &(ref name, at) in fields {
                    match node.members.iter().find(|member| *member.name == **name) {
                        Some(member) => self.value(at, &member.node, false)?,
                        None => self.skip(at)?,
                    }
                }
                Ok(())
            }
            (&Shape::Array(item), Some(items)) => {
                if !node.members.is_empty() && !self.misfits(&node.of_members(), at, "a record", branch)? {
                    return Ok(());
                }
                let first = u32::try_from(self.plan.opens.len()).unwrap_or(u32::MAX);
                self.plan.opens.extend_from_slice(&node.opens);
                let list = self.emit(Op::Return)?;
                self.value(item, items, false)?;
                self.emit(Op::Return)?;
                let opens = u16::try_from(node.opens.len()).map_err(|_| unusable("too many lists".into()))?;
                self.plan.ops[list] = Op::List { first, opens, item, end: self.here() };
                Ok(())
            }
            (&Shape::Map(value), items) if !node.members.is_empty() => {
                if items.is_some() && !self.misfits(&node.of_items(), at, "an array", branch)? {
                    return Ok(());
                }
                let op = self.emit(Op::Return)?;
                let mut members = Vec::new();
                for member in &node.members {
                    members.push((member.name.clone(), self.here()));
                    self.value(value, &member.node, true)?;
                    self.emit(Op::Return)?;
                }
                let table = u32::try_from(self.plan.members.len()).unwrap_or(u32::MAX);
                self.plan.members.push(members.into_boxed_slice());
                self.plan.ops[op] = Op::Members { table, value, end: self.here() };
                Ok(())
            }
            (Shape::Null, _) => {
                let mut targets = Vec::new();
                node.each_inside(&mut |target| targets.push(target));
                self.nulls(&targets)
            }
            _ => {
                if self.misfits(&node.of_items(), at, "an array", branch)? && self.misfits(&node.of_members(), at, "a record", branch)? {
                    self.skip(at)?;
                }
                Ok(())
            }
        }
    }

    /// Paths that need another shape than the writer has here. Candidates note it, since another path may have the value; for others the
    /// schema, or the branch, is refused. True when reading goes on.
    fn misfits(&mut self, targets: &[Target], at: ShapeIndex, wanted: &'static str, branch: bool) -> Result<bool, ApiError> {
        let plain = targets.iter().find(|&&target| !matches!(self.tree.behind(target), Target::Candidate(_)));
        if plain.is_some() {
            self.refuse(plain.copied(), at, wanted, branch)?;
            return Ok(false);
        }
        let index = u32::try_from(self.plan.misfits.len()).unwrap_or(u32::MAX);
        self.plan.misfits.push(Misfit { got: kind_of(self.shape(at)), wanted });
        for &target in targets {
            if let Target::Candidate(candidate) = self.tree.behind(target) {
                self.emit(Op::FoundMisfit(candidate, index))?;
            }
        }
        Ok(true)
    }

    fn refuse(&mut self, target: Option<Target>, at: ShapeIndex, wanted: &str, branch: bool) -> Result<(), ApiError> {
        let field = target.map(|target| self.tree.field_of(target));
        let name = field.and_then(|field| self.field(field)).map(|declared| declared.name.to_string()).unwrap_or_default();
        let reason = format!("field \"{name}\" of {} wants {wanted}, the writer has {}", self.event.name, self.shapes.noun(at));
        if !branch {
            return Err(unusable(reason).at(name));
        }
        let index = u32::try_from(self.plan.refusals.len()).unwrap_or(u32::MAX);
        self.plan.refusals.push((name, reason));
        self.emit(Op::Refuse(index))?;
        Ok(())
    }

    /// Ops for a value that may be chosen: noted where it stands, walked, and read when it is chosen.
    fn candidate(&mut self, at: ShapeIndex, candidate: u16) -> Result<(), ApiError> {
        if matches!(self.shape(at), Shape::Null) {
            self.emit(Op::FoundNull(candidate))?;
            return Ok(());
        }
        let found = self.emit(Op::Return)?;
        let field = self.tree.field_of(Target::Candidate(candidate));
        // Whether it fits is asked when it is chosen.
        self.whole(at, Target::Field(field), true)?;
        self.emit(Op::Return)?;
        self.plan.ops[found] = Op::FoundAt { candidate, end: self.here() };
        self.skip(at)
    }

    /// Ops for a value that nothing is taken of.
    fn skip(&mut self, at: ShapeIndex) -> Result<(), ApiError> {
        let op = match self.shape(at) {
            Shape::Null => return Ok(()),
            Shape::Bool => Op::SkipBool,
            Shape::Int | Shape::Date | Shape::TimeInt => Op::SkipInt,
            Shape::Long | Shape::TimeLong | Shape::Time(_) => Op::SkipLong,
            Shape::Float => Op::SkipFixed(4),
            Shape::Double => Op::SkipFixed(8),
            Shape::Bytes => Op::SkipBytes,
            Shape::String => Op::SkipString,
            _ => Op::SkipShape(at),
        };
        self.emit(op)?;
        Ok(())
    }

    /// Ops for a value taken whole.
    fn whole(&mut self, at: ShapeIndex, target: Target, branch: bool) -> Result<(), ApiError> {
        let field = match target {
            Target::Field(field) => field,
            Target::List(slot) => {
                self.emit(Op::Append(slot, at))?;
                return Ok(());
            }
            Target::Candidate(candidate) => return self.candidate(at, candidate),
        };
        let Some(kind) = self.field(field).map(|declared| declared.kind) else {
            return Err(unusable(format!("{} has no field {}", self.event.name, field.0)));
        };
        match self.taking(at, field, kind)? {
            Some(op) => self.emit(op).map(|_| ()),
            None => self.refuse(Some(target), at, kind.as_str(), branch),
        }
    }

    /// The op that puts a value of this schema into a field of this type; `None` when it can never fit.
    fn taking(&self, at: ShapeIndex, field: FieldIndex, kind: FieldType) -> Result<Option<Op>, ApiError> {
        use FieldType::{Bool, Bytes, Datetime, F64, I64, Json, Str};
        if self.readings.contains(&field) {
            return self.reading(at, field, kind);
        }
        let is_time = self.event.time.field() == Some(field);
        let op = match (self.shape(at), kind) {
            (Shape::Null, _) => Op::Null(field),
            (Shape::Bool, Bool | Json) => Op::Bool(field),
            (Shape::Int, I64) => Op::IntWord(field),
            (Shape::Long, I64) => Op::LongWord(field),
            (Shape::Int, Datetime) | (Shape::Int | Shape::TimeInt, I64 | F64 | Json) => Op::Int(field),
            (Shape::Long, Datetime) | (Shape::Long | Shape::TimeLong, I64 | F64 | Json) => Op::Long(field),
            (Shape::Date, Datetime) => Op::Date(field),
            (Shape::Date, I64) if is_time => Op::Date(field),
            (Shape::Date, I64 | F64 | Json) => Op::Int(field),
            (&Shape::Time(unit), Datetime | Json) => Op::Time(field, unit),
            // A number field takes the number as it was written, except where the row's time comes from it: that is in milliseconds.
            (&Shape::Time(unit), I64) if is_time => Op::Time(field, unit),
            (Shape::Time(_), I64 | F64) => Op::Long(field),
            (Shape::Float, F64 | Json) => Op::Float(field),
            (Shape::Double, F64) => Op::DoubleWord(field),
            (Shape::Double, Json) => Op::Double(field),
            (Shape::String, Bytes) => Op::StrBytes(field),
            (Shape::String, Str) => Op::StrHeap(field),
            (Shape::String, Json | Datetime) => Op::Str(field),
            (Shape::Bytes, Bytes | Str | Json) => Op::Bytes(field),
            (Shape::Fixed(size), Bytes | Json) => {
                Op::Fixed(field, u32::try_from(*size).map_err(|_| unusable("a fixed of more than 4 GiB".into()))?)
            }
            (Shape::Enum(_), Str | Json) => Op::Enum(field, at),
            (Shape::Uuid, Str | Json) => Op::Uuid(field),
            (Shape::UuidFixed, Str | Json) => Op::UuidFixed(field),
            (Shape::UuidFixed, Bytes) => Op::Fixed(field, 16),
            (Shape::Decimal(_), F64 | Str | Json) => {
                Op::Decimal { field, shape: at, form: if kind == Str { DecimalTaken::Text } else { DecimalTaken::Double } }
            }
            (Shape::Record(_) | Shape::Array(_) | Shape::Map(_), Json) => Op::Json(field, at),
            _ => return Ok(None),
        };
        Ok(Some(op))
    }
}

impl Compiler<'_> {
    /// The op that gives a value of this schema, as it is, to a field that has a reading; whether it fits is told record by record.
    fn reading(&self, at: ShapeIndex, field: FieldIndex, kind: FieldType) -> Result<Option<Op>, ApiError> {
        use FieldType::{Datetime, Json};
        Ok(Some(match self.shape(at) {
            Shape::Null => Op::Null(field),
            Shape::Bool => Op::Bool(field),
            Shape::Date if kind == Datetime => Op::Date(field),
            Shape::Int | Shape::TimeInt | Shape::Date => Op::Int(field),
            &Shape::Time(unit) if matches!(kind, Datetime | Json) => Op::Time(field, unit),
            Shape::Long | Shape::TimeLong | Shape::Time(_) => Op::Long(field),
            Shape::Float => Op::Float(field),
            Shape::Double => Op::Double(field),
            Shape::String => Op::Str(field),
            Shape::Bytes => Op::Bytes(field),
            Shape::Fixed(size) => Op::Fixed(field, u32::try_from(*size).map_err(|_| unusable("a fixed of more than 4 GiB".into()))?),
            Shape::Enum(_) => Op::Enum(field, at),
            Shape::Uuid => Op::Uuid(field),
            Shape::UuidFixed => Op::UuidFixed(field),
            Shape::Decimal(_) => Op::Decimal { field, shape: at, form: DecimalTaken::Exact },
            Shape::Record(_) | Shape::Array(_) | Shape::Map(_) => Op::Json(field, at),
            Shape::Union(_) => return Ok(None),
        }))
    }
}

/// What a value is, without its name.
fn kind_of(shape: &Shape) -> &'static str {
    match shape {
        Shape::Record(_) => "a record",
        Shape::Array(_) => "an array",
        Shape::Map(_) => "a map",
        Shape::Bool => "a boolean",
        Shape::Bytes | Shape::Fixed(_) => "bytes",
        Shape::String | Shape::Enum(_) | Shape::Uuid | Shape::UuidFixed => "text",
        _ => "a number",
    }
}
