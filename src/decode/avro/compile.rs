//! Writer schema + what the event takes -> the list of ops of an [`AvroPlan`](super::AvroPlan).
//!
//! Runs once per schema id, on the thread that got the schema. Whatever can be known from the schema is decided here: a required field that the writer lacks, or a
//! type that can never fit, refuses the schema (`schema_unusable`), so that it stops the source instead of rejecting every record. A branch of a union that does
//! not fit is refused when it occurs. The depth of compilation is bounded by the schema text's own nesting and by the length of the paths.

use super::ops::{Op, Plan};
use super::shape::{DecimalForm, Shape, ShapeIndex, TimeUnit};
use crate::decode::projection::{Misfit, Node, Projection, Taking, Target};
use crate::row::{EventSchema, FieldIndex, FieldType, TimeSource};
use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, RecordSchema, UuidSchema};
use std::collections::HashMap;
use streamgauge_api::{ApiError, Code};

/// Most ops of one plan: unions inside of taken paths multiply.
const OPS_MAX: usize = 1 << 16;

/// Named types by full name, each with the namespace that it stands in.
#[derive(Debug, Default)]
pub(super) struct Names<'s>(HashMap<String, (&'s Schema, Option<String>)>);

impl<'s> Names<'s> {
    /// The type of this full name and the namespace that it stands in.
    pub(super) fn get(&self, full: &str) -> Option<(&'s Schema, Option<&str>)> {
        self.0.get(full).map(|(schema, namespace)| (*schema, namespace.as_deref()))
    }

    /// Collects the named types at and below a schema.
    pub(super) fn collect(&mut self, schema: &'s Schema, namespace: Option<&str>) {
        match schema {
            Schema::Array(array) => self.collect(&array.items, namespace),
            Schema::Map(map) => self.collect(&map.types, namespace),
            Schema::Union(union) => union.variants().iter().for_each(|branch| self.collect(branch, namespace)),
            Schema::Record(record) => {
                let name = record.name.fully_qualified_name(namespace);
                self.0.insert(name.fullname(None), (schema, namespace.map(str::to_owned)));
                for field in &record.fields {
                    self.collect(&field.schema, name.namespace());
                }
            }
            Schema::Ref { .. } => {}
            named => {
                if let Some(name) = named.name() {
                    self.0.insert(name.fullname(namespace), (schema, namespace.map(str::to_owned)));
                }
            }
        }
    }
}

/// A schema and the namespace that it stands in.
#[derive(Clone, Copy)]
struct At<'s> {
    schema: &'s Schema,
    namespace: Option<&'s str>,
}

/// Compiles a plan.
///
/// # Errors
/// `schema_unusable`, naming the field.
pub(super) fn compile(root: &Schema, names: &Names<'_>, event: &EventSchema, projection: &Projection) -> Result<Plan, ApiError> {
    let none = Projection::of_paths([])?;
    let mut compiler = Compiler { names, event, plan: Plan::default(), shapes: HashMap::new(), tree: &none };
    let root = compiler.resolve(At { schema: root, namespace: None })?;
    if !matches!(root.schema, Schema::Record(_) | Schema::Union(_)) {
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
    for field in absent {
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
    plan.list_slots = tree.lists.len();
    plan.candidates = tree.candidates.len();
    plan.choices = tree.choices;
    Ok(plan)
}

fn unusable(reason: String) -> ApiError {
    ApiError::new(Code::SchemaUnusable, reason)
}

struct Compiler<'c, 's> {
    names: &'c Names<'s>,
    event: &'c EventSchema,
    plan: Plan,
    shapes: HashMap<String, ShapeIndex>,
    tree: &'c Projection,
}

impl<'c, 's> Compiler<'c, 's> {
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

    /// Follows a reference.
    fn resolve<'a>(&self, at: At<'a>) -> Result<At<'a>, ApiError>
    where
        'c: 'a,
        's: 'a,
    {
        let names: &'c Names<'s> = self.names;
        let Schema::Ref { name } = at.schema else { return Ok(at) };
        let full = name.fullname(at.namespace);
        match names.get(&full) {
            Some((schema, namespace)) => Ok(At { schema, namespace }),
            None => Err(unusable(format!("the writer schema refers to \"{full}\", which neither it nor its references define"))),
        }
    }

    /// Whether a record path exists in a schema, in at least one branch of its unions.
    fn leads_somewhere(&self, root: At<'_>, path: &str) -> bool {
        let mut steps = Vec::new();
        for step in path.split('.') {
            let name = step.trim_end_matches("[]");
            steps.push(Some(name));
            steps.extend(std::iter::repeat_n(None, (step.len() - name.len()) / 2));
        }
        self.has(root, &steps)
    }

    fn has(&self, at: At<'_>, steps: &[Option<&str>]) -> bool {
        let Some((step, rest)) = steps.split_first() else { return true };
        let Ok(at) = self.resolve(at) else { return false };
        match (at.schema, step) {
            (Schema::Union(union), _) => {
                union.variants().iter().any(|branch| self.has(At { schema: branch, namespace: at.namespace }, steps))
            }
            (Schema::Record(record), Some(name)) => match record.fields.iter().find(|field| field.name == *name) {
                Some(field) => self.has(At { schema: &field.schema, namespace: namespace_of(record, at.namespace).as_deref() }, rest),
                None => false,
            },
            (Schema::Array(array), None) => self.has(At { schema: &array.items, namespace: at.namespace }, rest),
            (Schema::Map(map), Some(_)) => self.has(At { schema: &map.types, namespace: at.namespace }, rest),
            _ => false,
        }
    }

    /// Ops for a value that something is taken of. `branch`: it stands in a union, so what does not fit is refused when it occurs.
    fn value(&mut self, at: At<'_>, node: &Node, branch: bool) -> Result<(), ApiError> {
        let at = self.resolve(at)?;
        if let Schema::Union(union) = at.schema {
            let first = u32::try_from(self.plan.jumps.len()).unwrap_or(u32::MAX);
            let count = union.variants().len();
            self.plan.jumps.resize(self.plan.jumps.len() + count, 0);
            self.emit(Op::Union { first, count: u32::try_from(count).unwrap_or(u32::MAX) })?;
            let mut ends = Vec::new();
            for (index, variant) in union.variants().iter().enumerate() {
                self.plan.jumps[first as usize + index] = self.here();
                self.value(At { schema: variant, namespace: at.namespace }, node, true)?;
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
    fn inside(&mut self, at: At<'_>, node: &Node, branch: bool) -> Result<(), ApiError> {
        match (at.schema, &node.items) {
            (Schema::Record(record), items) if !node.members.is_empty() => {
                if items.is_some() && !self.misfits(&node.of_items(), at.schema, "an array", branch)? {
                    return Ok(());
                }
                let namespace = namespace_of(record, at.namespace);
                for member in &node.members {
                    if !record.fields.iter().any(|field| *field.name == *member.name) {
                        let mut targets = Vec::new();
                        member.node.each_target(&mut |target| targets.push(target));
                        // What a candidate does not find is missing, not null.
                        targets.retain(|target| !matches!(target, Target::Candidate(_)));
                        self.nulls(&targets)?;
                    }
                }
                for field in &record.fields {
                    let at = At { schema: &field.schema, namespace: namespace.as_deref() };
                    match node.members.iter().find(|member| *member.name == *field.name) {
                        Some(member) => self.value(at, &member.node, false)?,
                        None => self.skip(at)?,
                    }
                }
                Ok(())
            }
            (Schema::Array(array), Some(items)) => {
                if !node.members.is_empty() && !self.misfits(&node.of_members(), at.schema, "a record", branch)? {
                    return Ok(());
                }
                let at = At { schema: &array.items, namespace: at.namespace };
                let item = self.shape(at)?;
                let first = u32::try_from(self.plan.opens.len()).unwrap_or(u32::MAX);
                self.plan.opens.extend_from_slice(&node.opens);
                let list = self.emit(Op::Return)?;
                self.value(at, items, false)?;
                self.emit(Op::Return)?;
                let opens = u16::try_from(node.opens.len()).map_err(|_| unusable("too many lists".into()))?;
                self.plan.ops[list] = Op::List { first, opens, item, end: self.here() };
                Ok(())
            }
            (Schema::Map(map), items) if !node.members.is_empty() => {
                if items.is_some() && !self.misfits(&node.of_items(), at.schema, "an array", branch)? {
                    return Ok(());
                }
                let at = At { schema: &map.types, namespace: at.namespace };
                let value = self.shape(at)?;
                let op = self.emit(Op::Return)?;
                let mut members = Vec::new();
                for member in &node.members {
                    members.push((member.name.clone(), self.here()));
                    self.value(at, &member.node, true)?;
                    self.emit(Op::Return)?;
                }
                let table = u32::try_from(self.plan.members.len()).unwrap_or(u32::MAX);
                self.plan.members.push(members.into_boxed_slice());
                self.plan.ops[op] = Op::Members { table, value, end: self.here() };
                Ok(())
            }
            (Schema::Null, _) => {
                let mut targets = Vec::new();
                node.each_inside(&mut |target| targets.push(target));
                self.nulls(&targets)
            }
            (schema, _) => {
                if self.misfits(&node.of_items(), schema, "an array", branch)?
                    && self.misfits(&node.of_members(), schema, "a record", branch)?
                {
                    self.skip(at)?;
                }
                Ok(())
            }
        }
    }

    /// Paths that need another shape than the writer has here. Candidates note it, since another path may have the value; for others the
    /// schema, or the branch, is refused. True when reading goes on.
    fn misfits(&mut self, targets: &[Target], schema: &Schema, wanted: &'static str, branch: bool) -> Result<bool, ApiError> {
        let plain = targets.iter().find(|&&target| !matches!(self.tree.behind(target), Target::Candidate(_)));
        if plain.is_some() {
            self.refuse(plain.copied(), schema, wanted, branch)?;
            return Ok(false);
        }
        let index = u32::try_from(self.plan.misfits.len()).unwrap_or(u32::MAX);
        self.plan.misfits.push(Misfit { got: kind_of(schema), wanted });
        for &target in targets {
            if let Target::Candidate(candidate) = self.tree.behind(target) {
                self.emit(Op::FoundMisfit(candidate, index))?;
            }
        }
        Ok(true)
    }

    fn refuse(&mut self, target: Option<Target>, schema: &Schema, wanted: &str, branch: bool) -> Result<(), ApiError> {
        let field = target.map(|target| self.tree.field_of(target));
        let name = field.and_then(|field| self.field(field)).map(|declared| declared.name.to_string()).unwrap_or_default();
        let reason = format!("field \"{name}\" of {} wants {wanted}, the writer has {}", self.event.name, noun(schema));
        if !branch {
            return Err(unusable(reason).at(name));
        }
        let index = u32::try_from(self.plan.refusals.len()).unwrap_or(u32::MAX);
        self.plan.refusals.push((name, reason));
        self.emit(Op::Refuse(index))?;
        Ok(())
    }

    /// Ops for a value that may be chosen: noted where it stands, walked, and read when it is chosen.
    fn candidate(&mut self, at: At<'_>, candidate: u16) -> Result<(), ApiError> {
        if matches!(at.schema, Schema::Null) {
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
    fn skip(&mut self, at: At<'_>) -> Result<(), ApiError> {
        let op = match at.schema {
            Schema::Null => return Ok(()),
            Schema::Boolean => Op::SkipBool,
            Schema::Int | Schema::Date | Schema::TimeMillis => Op::SkipInt,
            Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos => Op::SkipLong,
            Schema::Float => Op::SkipFixed(4),
            Schema::Double => Op::SkipFixed(8),
            Schema::Bytes => Op::SkipBytes,
            Schema::String => Op::SkipString,
            _ => Op::SkipShape(self.shape(at)?),
        };
        self.emit(op)?;
        Ok(())
    }

    /// Ops for a value taken whole.
    fn whole(&mut self, at: At<'_>, target: Target, branch: bool) -> Result<(), ApiError> {
        let field = match target {
            Target::Field(field) => field,
            Target::List(slot) => {
                let shape = self.shape(at)?;
                self.emit(Op::Append(slot, shape))?;
                return Ok(());
            }
            Target::Candidate(candidate) => return self.candidate(at, candidate),
        };
        let Some(kind) = self.field(field).map(|declared| declared.kind) else {
            return Err(unusable(format!("{} has no field {}", self.event.name, field.0)));
        };
        match self.taking(at, field, kind)? {
            Some(op) => self.emit(op).map(|_| ()),
            None => self.refuse(Some(target), at.schema, kind.as_str(), branch),
        }
    }

    /// The op that puts a value of this schema into a field of this type; `None` when it can never fit.
    fn taking(&mut self, at: At<'_>, field: FieldIndex, kind: FieldType) -> Result<Option<Op>, ApiError> {
        use FieldType::{Bool, Bytes, Datetime, F64, I64, Json, Str};
        let is_time = self.event.time == TimeSource::Field(field);
        let op = match (at.schema, kind) {
            (Schema::Null, _) => Op::Null(field),
            (Schema::Boolean, Bool | Json) => Op::Bool(field),
            (Schema::Int, I64 | Datetime) => Op::IntWord(field),
            (Schema::Long, I64 | Datetime) => Op::LongWord(field),
            (Schema::Int | Schema::TimeMillis, I64 | F64 | Json) => Op::Int(field),
            (Schema::Long | Schema::TimeMicros, I64 | F64 | Json) => Op::Long(field),
            (Schema::Date, Datetime) => Op::Date(field),
            (Schema::Date, I64) if is_time => Op::Date(field),
            (Schema::Date, I64 | F64 | Json) => Op::Int(field),
            (schema, Datetime | Json) if time_unit(schema).is_some() => Op::Time(field, time_unit(schema).unwrap_or(TimeUnit::Millis)),
            // A number field takes the number as it was written, except where the row's time comes from it: that is in milliseconds.
            (schema, I64) if is_time && time_unit(schema).is_some() => Op::Time(field, time_unit(schema).unwrap_or(TimeUnit::Millis)),
            (schema, I64 | F64) if time_unit(schema).is_some() => Op::Long(field),
            (Schema::Float, F64 | Json) => Op::Float(field),
            (Schema::Double, F64) => Op::DoubleWord(field),
            (Schema::Double, Json) => Op::Double(field),
            (Schema::String, Bytes) => Op::StrBytes(field),
            (Schema::String, Str) => Op::StrHeap(field),
            (Schema::String, Json | Datetime) => Op::Str(field),
            (Schema::Bytes, Bytes | Str | Json) => Op::Bytes(field),
            (Schema::Fixed(fixed), Bytes | Json) | (Schema::Duration(fixed), Bytes | Json) => {
                Op::Fixed(field, u32::try_from(fixed.size).map_err(|_| unusable("a fixed of more than 4 GiB".into()))?)
            }
            (Schema::Enum(_), Str | Json) => Op::Enum(field, self.shape(at)?),
            (Schema::Uuid(UuidSchema::String), Str | Json) => Op::Uuid(field),
            (Schema::Uuid(UuidSchema::Fixed(_)), Str | Json) => Op::UuidFixed(field),
            (Schema::Uuid(UuidSchema::Fixed(_)), Bytes) => Op::Fixed(field, 16),
            (Schema::Uuid(UuidSchema::Bytes), Bytes | Json) => Op::Bytes(field),
            (Schema::Decimal(_) | Schema::BigDecimal, F64 | Str | Json) => {
                Op::Decimal { field, shape: self.shape(at)?, as_text: kind == Str }
            }
            (Schema::Record(_) | Schema::Array(_) | Schema::Map(_), Json) => Op::Json(field, self.shape(at)?),
            _ => return Ok(None),
        };
        Ok(Some(op))
    }

    /// The shape of a schema; named types have one each.
    fn shape(&mut self, at: At<'_>) -> Result<ShapeIndex, ApiError> {
        let at = self.resolve(at)?;
        let shape = match at.schema {
            Schema::Null => Shape::Null,
            Schema::Boolean => Shape::Bool,
            Schema::Int | Schema::Date | Schema::TimeMillis => Shape::Int,
            Schema::Long | Schema::TimeMicros => Shape::Long,
            Schema::Float => Shape::Float,
            Schema::Double => Shape::Double,
            Schema::Bytes | Schema::Uuid(UuidSchema::Bytes) => Shape::Bytes,
            Schema::String => Shape::String,
            Schema::Uuid(UuidSchema::String) => Shape::Uuid,
            Schema::Uuid(UuidSchema::Fixed(_)) => Shape::UuidFixed,
            Schema::Fixed(fixed) | Schema::Duration(fixed) => Shape::Fixed(fixed.size),
            Schema::Enum(symbols) => Shape::Enum(symbols.symbols.iter().map(|symbol| symbol.as_str().into()).collect()),
            Schema::Decimal(decimal) => Shape::Decimal(match &decimal.inner {
                InnerDecimalSchema::Bytes => DecimalForm::Bytes(decimal.scale),
                InnerDecimalSchema::Fixed(fixed) => DecimalForm::Fixed(fixed.size, decimal.scale),
            }),
            Schema::BigDecimal => Shape::Decimal(DecimalForm::Big),
            Schema::Array(array) => Shape::Array(self.shape(At { schema: &array.items, ..at })?),
            Schema::Map(map) => Shape::Map(self.shape(At { schema: &map.types, ..at })?),
            Schema::Union(union) => {
                let branches: Result<_, _> = union.variants().iter().map(|schema| self.shape(At { schema, ..at })).collect();
                Shape::Union(branches?)
            }
            Schema::Record(record) => return self.record_shape(record, at.namespace),
            time => match time_unit(time) {
                Some(unit) => Shape::Time(unit),
                None => return Err(unusable(format!("the writer schema has a type that is not known here: {}", noun(time)))),
            },
        };
        Ok(self.add_shape(shape))
    }

    fn add_shape(&mut self, shape: Shape) -> ShapeIndex {
        let free = matches!(shape, Shape::Null | Shape::Fixed(0));
        self.plan.shapes.all.push(shape);
        self.plan.shapes.free.push(free);
        u32::try_from(self.plan.shapes.all.len() - 1).unwrap_or(u32::MAX)
    }

    fn record_shape(&mut self, record: &RecordSchema, namespace: Option<&str>) -> Result<ShapeIndex, ApiError> {
        let full = record.name.fullname(namespace);
        if let Some(&shape) = self.shapes.get(&full) {
            return Ok(shape);
        }
        // Known before its fields are: a recursive record finds itself.
        let index = self.add_shape(Shape::Record(Box::new([])));
        self.shapes.insert(full, index);
        let namespace = namespace_of(record, namespace);
        let mut fields = Vec::new();
        for field in &record.fields {
            let shape = self.shape(At { schema: &field.schema, namespace: namespace.as_deref() })?;
            fields.push((field.name.as_str().into(), shape));
        }
        self.plan.shapes.free[index as usize] = fields.iter().all(|&(_, shape)| self.plan.shapes.is_free(shape));
        self.plan.shapes.all[index as usize] = Shape::Record(fields.into_boxed_slice());
        Ok(index)
    }
}

fn namespace_of(record: &RecordSchema, enclosing: Option<&str>) -> Option<String> {
    record.name.fully_qualified_name(enclosing).namespace().map(str::to_owned)
}

fn time_unit(schema: &Schema) -> Option<TimeUnit> {
    match schema {
        Schema::TimestampMillis | Schema::LocalTimestampMillis => Some(TimeUnit::Millis),
        Schema::TimestampMicros | Schema::LocalTimestampMicros => Some(TimeUnit::Micros),
        Schema::TimestampNanos | Schema::LocalTimestampNanos => Some(TimeUnit::Nanos),
        _ => None,
    }
}

/// What a value is, without its name.
fn kind_of(schema: &Schema) -> &'static str {
    match schema {
        Schema::Record(_) => "a record",
        Schema::Array(_) => "an array",
        Schema::Map(_) => "a map",
        Schema::Boolean => "a boolean",
        Schema::Bytes | Schema::Fixed(_) | Schema::Duration(_) => "bytes",
        Schema::String | Schema::Enum(_) | Schema::Uuid(_) => "text",
        _ => "a number",
    }
}

fn noun(schema: &Schema) -> String {
    let kind = apache_avro::schema::SchemaKind::from(schema);
    match schema.name() {
        Some(name) => format!("{} {}", format!("{kind:?}").to_lowercase(), name.name()),
        None => format!("{kind:?}").to_lowercase(),
    }
}
