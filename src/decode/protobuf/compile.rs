//! Message descriptor + what the event takes -> the plan of a [`MessagePlan`](super::MessagePlan).
//!
//! Runs once per message of a schema, on the thread that got the schema. A path that the message does not have drops
//! out; where a required field has no path left, or a type can never fit, the schema is refused (`schema_unusable`), so
//! that it stops the source instead of rejecting every record. Messages that contain themselves are no matter: a plan
//! goes as deep as its paths, and rendering follows the arena.

use super::schema::{Form, Known, MessageIndex, Shapes, Times, Unset};
use crate::decode::path;
use crate::decode::projection::{Choice, Node, Projection, Taking, Target};
use crate::row::{EventSchema, FieldIndex, FieldType};
use streamgauge_api::{ApiError, Code};

/// What becomes of a field of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Action {
    /// Its last value counts: remembered by this number.
    Once(u16),
    /// Nobody takes it, but it unsets what shares its oneof.
    Clear(u16),
    /// Each value counts.
    Repeated(u16),
    /// Each entry counts, of one key the last.
    Map(u16),
}

/// A value that is read when its message has ended.
#[derive(Debug, Clone)]
pub(super) struct Slot {
    pub(super) reader: u32,
    /// What it is when no record says otherwise.
    pub(super) unset: Unset,
    pub(super) oneof: Option<u16>,
    /// A key of a map: without an entry it is missing, whatever its values would be.
    pub(super) of_map: bool,
}

/// How one value is read, and who takes it.
#[derive(Debug, Clone)]
pub(super) struct Reader {
    pub(super) form: Form,
    pub(super) targets: Vec<Target>,
    /// What is taken of the inside of a message.
    pub(super) inside: Option<u32>,
    /// Who gets null when there is no message.
    pub(super) nulls: Vec<Target>,
}

/// What is taken of a repeated field.
#[derive(Debug, Clone)]
pub(super) struct Repeated {
    pub(super) element: u32,
    /// The list that holds the elements for those who take it whole.
    pub(super) whole: Option<(u16, Vec<Target>)>,
    pub(super) opens: Vec<(u16, Target)>,
}

/// What is taken of a map.
#[derive(Debug, Clone)]
pub(super) struct MapTaken {
    pub(super) entry: MessageIndex,
    pub(super) key: Form,
    pub(super) value: Form,
    /// Keys as text, each with the slot of its value.
    pub(super) members: Vec<(Box<str>, u16)>,
    pub(super) targets: Vec<Target>,
}

/// What is taken of a message.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    /// By number, ascending.
    pub(super) actions: Vec<(u32, u8, Action)>,
    pub(super) slots: Vec<Slot>,
    pub(super) repeated: Vec<Repeated>,
    pub(super) maps: Vec<MapTaken>,
    /// Who takes what the message does not have.
    pub(super) absent: Vec<Target>,
}

/// Everything a body is decoded by.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    pub(super) shapes: Shapes,
    /// The record's message is the first.
    pub(super) messages: Vec<Taken>,
    pub(super) readers: Vec<Reader>,
    pub(super) nulls: Vec<FieldIndex>,
    pub(super) choices: Vec<Choice>,
    /// What each candidate is when no record says otherwise.
    pub(super) candidates: Vec<Unset>,
    pub(super) candidate_fields: Vec<FieldIndex>,
    pub(super) lists: usize,
}

fn unusable(reason: String) -> ApiError {
    ApiError::new(Code::SchemaUnusable, reason)
}

/// Compiles a plan; the arena's first message is the record's.
///
/// # Errors
/// `schema_unusable`, naming the field.
pub(super) fn compile(shapes: Shapes, event: &EventSchema, projection: &Projection) -> Result<Plan, ApiError> {
    let mut chosen: Vec<(FieldIndex, Vec<Box<str>>)> = Vec::new();
    let mut nulls = Vec::new();
    for (field, paths) in &projection.takings {
        let led: Vec<Box<str>> = paths.iter().filter(|path| leads_somewhere(&shapes, path)).cloned().collect();
        if !led.is_empty() {
            chosen.push((*field, led));
            continue;
        }
        let Some(declared) = event.fields.get(usize::from(field.0)) else { unreachable!("a projection takes fields of its event") };
        if !declared.optional {
            let (name, wanted) = (&declared.name, paths.join("\" or \""));
            let reason = format!(
                "message {} has no \"{wanted}\", which required field \"{name}\" of {} comes from",
                shapes.message(0).name,
                event.name
            );
            return Err(unusable(reason).at(&**name));
        }
        nulls.push(*field);
    }
    let takings = chosen.iter().filter_map(|(field, paths)| {
        let (path, aliases) = paths.split_first()?;
        Some(Taking { field: *field, path, aliases })
    });
    let tree = Projection::of_paths(takings)?;
    let mut compiler = Compiler { shapes: &shapes, event, readings: &projection.readings, tree: &tree, plan: Plan::default() };
    compiler.plan.lists = tree.lists.len();
    compiler.plan.candidates = vec![Unset::Null; tree.candidates.len()];
    compiler.message(0, &tree.root)?;
    let mut plan = compiler.plan;
    plan.candidate_fields.clone_from(&tree.candidates);
    plan.choices = tree.choices;
    plan.nulls = nulls;
    plan.shapes = shapes;
    Ok(plan)
}

fn leads_somewhere(shapes: &Shapes, path: &str) -> bool {
    let Ok(parsed) = path::steps(path) else { unreachable!("{path} stands in a projection, so it is a path") };
    let mut at = Some(Form::Message(0));
    let mut of_map: Option<Form> = None;
    for path::Step { name, arrays } in parsed {
        if let Some(value) = of_map.take() {
            at = Some(value);
            if arrays > 0 {
                return false;
            }
            continue;
        }
        let Some(Form::Message(message)) = at else { return false };
        let Some(field) = shapes.message(message).named(&name) else { return false };
        match (&field.times, arrays, field.form) {
            (Times::Once { .. }, 0, form) | (Times::Repeated, 1, form) => at = Some(form),
            // Taken whole; nothing leads on from there.
            (Times::Repeated, 0, _) => at = None,
            (Times::Map, 0, Form::Message(entry)) => {
                of_map = shapes.message(entry).field(2).map(|value| value.form);
            }
            _ => return false,
        }
    }
    true
}

struct Compiler<'c> {
    shapes: &'c Shapes,
    event: &'c EventSchema,
    readings: &'c [FieldIndex],
    tree: &'c Projection,
    plan: Plan,
}

fn number(count: usize) -> Result<u16, ApiError> {
    u16::try_from(count).map_err(|_| unusable("more than 65,536 values of one message are taken".into()))
}

impl Compiler<'_> {
    fn message(&mut self, message: MessageIndex, node: &Node) -> Result<u32, ApiError> {
        let index = self.plan.messages.len();
        self.plan.messages.push(Taken::default());
        let mut taken = Taken::default();
        let shape = self.shapes.message(message);
        for member in &node.members {
            let Some(field) = shape.named(&member.name) else {
                member.node.each_target(&mut |target| taken.absent.push(target));
                continue;
            };
            let action = match &field.times {
                Times::Once { unset, oneof } => {
                    let reader = self.reader(field.form, &member.node)?;
                    self.candidates_are(&member.node.targets, unset);
                    taken.slots.push(Slot { reader, unset: unset.clone(), oneof: *oneof, of_map: false });
                    Action::Once(number(taken.slots.len() - 1)?)
                }
                Times::Repeated => {
                    taken.repeated.push(self.repeated(field.form, &member.node)?);
                    Action::Repeated(number(taken.repeated.len() - 1)?)
                }
                Times::Map => {
                    let map = self.map(field.form, &member.node, &mut taken)?;
                    taken.maps.push(map);
                    Action::Map(number(taken.maps.len() - 1)?)
                }
            };
            taken.actions.push((field.number, field.form.wire(), action));
        }
        let shared: Vec<u16> = taken.slots.iter().filter_map(|slot| slot.oneof).collect();
        for field in shape.fields.iter() {
            if let Times::Once { oneof: Some(oneof), .. } = field.times
                && shared.contains(&oneof)
                && taken.actions.iter().all(|(number, ..)| *number != field.number)
            {
                taken.actions.push((field.number, field.form.wire(), Action::Clear(oneof)));
            }
        }
        taken.actions.sort_by_key(|(number, ..)| *number);
        // What a candidate does not find is missing, not null.
        taken.absent.retain(|target| !matches!(target, Target::Candidate(_)));
        self.plan.messages[index] = taken;
        Ok(u32::try_from(index).unwrap_or(u32::MAX))
    }

    fn candidates_are(&mut self, targets: &[Target], unset: &Unset) {
        for target in targets {
            if let Target::Candidate(candidate) = target {
                self.plan.candidates[usize::from(*candidate)] = unset.clone();
            }
        }
    }

    fn reader(&mut self, form: Form, node: &Node) -> Result<u32, ApiError> {
        for &target in &node.targets {
            self.check(form, target)?;
        }
        let inside = match form {
            Form::Message(message) if !node.members.is_empty() => Some(self.message(message, node)?),
            _ => None,
        };
        let mut nulls = node.targets.clone();
        node.each_inside(&mut |target| nulls.push(target));
        self.plan.readers.push(Reader { form, targets: node.targets.clone(), inside, nulls });
        Ok(u32::try_from(self.plan.readers.len() - 1).unwrap_or(u32::MAX))
    }

    fn repeated(&mut self, form: Form, node: &Node) -> Result<Repeated, ApiError> {
        let items = node.items.as_deref().cloned().unwrap_or_default();
        let element = self.reader(form, &items)?;
        let whole = self.whole(node)?;
        Ok(Repeated { element, whole, opens: node.opens.clone() })
    }

    /// A list of our own for those who take a repeated field whole.
    fn whole(&mut self, node: &Node) -> Result<Option<(u16, Vec<Target>)>, ApiError> {
        for &target in &node.targets {
            self.json_only(target, "an array")?;
        }
        if node.targets.is_empty() {
            return Ok(None);
        }
        let slot = number(self.plan.lists)?;
        self.plan.lists += 1;
        Ok(Some((slot, node.targets.clone())))
    }

    fn map(&mut self, form: Form, node: &Node, taken: &mut Taken) -> Result<MapTaken, ApiError> {
        let Form::Message(entry) = form else { unreachable!("entries of maps are messages") };
        let shape = self.shapes.message(entry);
        let (Some(key), Some(value)) = (shape.field(1), shape.field(2)) else { unreachable!("entries have key and value") };
        let unset = match &value.times {
            Times::Once { unset, .. } => unset.clone(),
            _ => Unset::Null,
        };
        let (key, value) = (key.form, value.form);
        for &target in &node.targets {
            self.json_only(target, "an object")?;
        }
        let mut members = Vec::new();
        for member in &node.members {
            let reader = self.reader(value, &member.node)?;
            members.push((member.name.clone(), number(taken.slots.len())?));
            taken.slots.push(Slot { reader, unset: unset.clone(), oneof: None, of_map: true });
        }
        Ok(MapTaken { entry, key, value, members, targets: node.targets.clone() })
    }

    fn json_only(&self, target: Target, got: &str) -> Result<(), ApiError> {
        let field = self.tree.field_of(target);
        let declared = &self.event.fields[usize::from(field.0)];
        let is_list = matches!(target, Target::List(_));
        if is_list || declared.kind == FieldType::Json || self.readings.contains(&field) {
            return Ok(());
        }
        Err(self.misfit(field, got))
    }

    fn misfit(&self, field: FieldIndex, got: &str) -> ApiError {
        let declared = &self.event.fields[usize::from(field.0)];
        let reason = format!("field \"{}\" of {} wants {}, the message has {got}", declared.name, self.event.name, declared.kind.as_str());
        unusable(reason).at(&*declared.name)
    }

    /// Refuses what can never fit. What one of several paths gives is told when it is chosen.
    fn check(&self, form: Form, target: Target) -> Result<(), ApiError> {
        use FieldType::{Bool, Bytes, Datetime, F64, I64, Json, Str};
        let Target::Field(field) = target else { return Ok(()) };
        let kind = self.event.fields[usize::from(field.0)].kind;
        if kind == Json || self.readings.contains(&field) {
            return Ok(());
        }
        let (got, fits) = match form {
            Form::Double | Form::Float => ("a float", kind == F64),
            Form::Bool => ("a bool", kind == Bool),
            Form::String => ("a string", matches!(kind, Str | Bytes | Datetime)),
            Form::Bytes => ("bytes", matches!(kind, Str | Bytes)),
            Form::Enum(_) => ("an enum", matches!(kind, Str | I64)),
            Form::Message(message) => match self.shapes.message(message).known {
                Known::Timestamp => ("a timestamp", matches!(kind, Datetime | I64)),
                Known::Decimal => ("a decimal", matches!(kind, F64 | Str)),
                Known::Wrapper => match self.shapes.message(message).field(1) {
                    Some(value) => return self.check(value.form, target),
                    None => ("a message", false),
                },
                Known::Plain => ("a message", false),
            },
            _ => ("an integer", matches!(kind, I64 | F64 | Datetime)),
        };
        if fits { Ok(()) } else { Err(self.misfit(field, got)) }
    }
}
