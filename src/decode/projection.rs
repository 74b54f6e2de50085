//! Which parts of a record an event takes: record paths as a tree, built once, walked by every format.
//!
//! `customer.id` is a member of a member, `items[].price` gathers one value per element into a list field, `items[]` the elements themselves. Lists nest flat:
//! `orders[].items[].price` is one list. An element without the member contributes null, so that lists of one array stay aligned.
//! The tree knows names only; types are checked where values are set.
//!
//! A field that comes from one of several paths has a candidate at each of them. A walker only notes
//! what stands at a candidate; when the record is walked, [`Choice::of`] takes the first in list order
//! that has a value. A field of one path costs nothing of this.

use super::path::{self, Step};
use crate::row::{EventSchema, FieldIndex};
use streamgauge_api::{ApiError, Code};

/// Path steps are bounded, which bounds the recursion of every walker.
const STEPS_MAX: usize = 32;

/// Where a value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// Into a field of the row.
    Field(FieldIndex),
    /// To the end of a list being gathered, by slot.
    List(u16),
    /// Noted as what a candidate found, by its number.
    Candidate(u16),
}

/// What stands at a candidate's path in the record at hand.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) enum Found {
    /// Nothing.
    #[default]
    Missing,
    /// Null, there or above.
    Null,
    /// A value.
    At(Place),
    /// The list gathered in this slot.
    List(u16),
    /// Something that the path cannot pass through.
    Misfit(Misfit),
}

/// Where a value stands in the record, and how to read it from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// First byte of the value.
    pub(crate) pos: usize,
    /// Nesting that it stands in.
    pub(crate) depth: u32,
    /// Avro: the ops that read it.
    pub(crate) op: u32,
}

/// A value of another shape than the path needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit {
    /// What the record has.
    pub(crate) got: &'static str,
    /// What the path wants there.
    pub(crate) wanted: &'static str,
}

/// A field that comes from the first of its candidates that has a value.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    /// The field.
    pub(crate) field: FieldIndex,
    first: u16,
    count: u16,
}

impl Choice {
    /// What the field gets: the first value or list in list order. Without one a misfit is told before
    /// null, and null before nothing.
    pub(crate) fn of(self, found: &[Found]) -> Found {
        let first = usize::from(self.first);
        let mine = found.get(first..first + usize::from(self.count)).unwrap_or_default();
        let first_of = |wanted: fn(&Found) -> bool| mine.iter().find(|found| wanted(found)).copied();
        first_of(|found| matches!(found, Found::At(_) | Found::List(_)))
            .or_else(|| first_of(|found| matches!(found, Found::Misfit(_))))
            .or_else(|| first_of(|found| matches!(found, Found::Null)))
            .unwrap_or_default()
    }
}

/// One place in the record.
#[derive(Debug, Clone, Default)]
pub(crate) struct Node {
    /// Who takes the value here whole.
    pub(crate) targets: Vec<Target>,
    /// Members looked for when the value here is an object.
    pub(crate) members: Vec<Member>,
    /// What to take of each element when the value here is an array.
    pub(crate) items: Option<Box<Node>>,
    /// List slots that an array here begins, with who takes the list; empty inside of another list.
    pub(crate) opens: Vec<(u16, Target)>,
    filter: [u64; 4],
}

/// A named member of an object.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    /// Its name in the record.
    pub(crate) name: Box<str>,
    /// The name as plain JSON writes it, quotes and colon included; empty when the name needs escapes.
    pub(crate) quoted: Box<str>,
    /// What to take of it.
    pub(crate) node: Node,
}

impl Node {
    /// The field that takes the value whole, when nobody else wants anything of it.
    #[inline]
    pub(crate) fn only_field(&self) -> Option<FieldIndex> {
        match self.targets.as_slice() {
            [Target::Field(field)] if self.members.is_empty() && self.items.is_none() => Some(*field),
            _ => None,
        }
    }

    /// Whether anything is taken from inside of the value.
    pub(crate) fn looks_inside(&self) -> bool {
        !self.members.is_empty() || self.items.is_some()
    }

    /// False when no member has this name; most undeclared names are told apart without comparing them.
    #[inline]
    pub(crate) fn may_have(&self, name: &str) -> bool {
        let (word, bit) = filter_bit(name.as_bytes());
        self.filter[word] >> bit & 1 != 0
    }

    /// The member of this name. `expected` is tried first: producers write members in one order.
    #[inline]
    pub(crate) fn find(&self, name: &str, expected: usize) -> Option<usize> {
        if !self.may_have(name) {
            return None;
        }
        if let Some(member) = self.members.get(expected)
            && *member.name == *name
        {
            return Some(expected);
        }
        self.members.iter().position(|member| *member.name == *name)
    }

    fn member(&mut self, name: &str) -> &mut Node {
        let index = if let Some(index) = self.members.iter().position(|member| &*member.name == name) {
            index
        } else {
            let (word, bit) = filter_bit(name.as_bytes());
            self.filter[word] |= 1 << bit;
            let plain = !name.contains(|symbol: char| symbol.is_control() || matches!(symbol, '"' | '\\'));
            let quoted = if plain { format!("\"{name}\":") } else { String::new() };
            self.members.push(Member { name: name.into(), quoted: quoted.into(), node: Node::default() });
            self.members.len() - 1
        };
        &mut self.members[index].node
    }

    /// Visits the targets at and below, not those of further lists.
    pub(crate) fn each_target(&self, visit: &mut dyn FnMut(Target)) {
        for &target in &self.targets {
            visit(target);
        }
        self.each_inside(visit);
    }

    /// Visits the targets below, and those that a list of an array here would go to.
    pub(crate) fn each_inside(&self, visit: &mut dyn FnMut(Target)) {
        for &(_, target) in &self.opens {
            visit(target);
        }
        for member in &self.members {
            member.node.each_target(visit);
        }
    }

    /// Every target that members of an object here would reach.
    pub(crate) fn of_members(&self) -> Vec<Target> {
        let (mut targets, mut slots) = (Vec::new(), Vec::new());
        for member in &self.members {
            member.node.gather_slots(&mut slots);
            member.node.each_target(&mut |target| targets.push(target));
        }
        targets.retain(|target| !matches!(target, Target::List(_)));
        targets.extend(slots.into_iter().map(Target::List));
        targets
    }

    /// Every target that elements of an array here would reach.
    pub(crate) fn of_items(&self) -> Vec<Target> {
        let mut slots = Vec::new();
        if let Some(items) = &self.items {
            items.gather_slots(&mut slots);
        }
        slots.into_iter().map(Target::List).collect()
    }

    fn gather_slots(&self, slots: &mut Vec<u16>) {
        for target in &self.targets {
            if let Target::List(slot) = target {
                slots.push(*slot);
            }
        }
        for member in &self.members {
            member.node.gather_slots(slots);
        }
        if let Some(items) = &self.items {
            items.gather_slots(slots);
        }
    }

    fn open_lists(&mut self, lists: &[Target]) {
        if let Some(items) = &self.items {
            let mut slots = Vec::new();
            items.gather_slots(&mut slots);
            self.opens = slots.into_iter().filter_map(|slot| Some((slot, *lists.get(usize::from(slot))?))).collect();
        }
        for member in &mut self.members {
            member.node.open_lists(lists);
        }
    }
}

/// One of 256 filter bits by length and outer bytes.
#[inline]
fn filter_bit(name: &[u8]) -> (usize, u32) {
    let (first, last) = match name {
        [] => (0, 0),
        [only] => (*only, *only),
        [first, .., last] => (*first, *last),
    };
    let mixed = (name.len() as u32).wrapping_mul(29) ^ u32::from(first).wrapping_mul(3) ^ u32::from(last).wrapping_mul(167);
    ((mixed >> 6 & 3) as usize, mixed & 63)
}

/// One declared taking: a field and the record path that it comes from, or one of several.
#[derive(Debug, Clone, Copy)]
pub struct Taking<'a> {
    /// The event field.
    pub field: FieldIndex,
    /// Its record path.
    pub path: &'a str,
    /// Other paths of the same value, e.g. former names.
    pub aliases: &'a [Box<str>],
}

/// The tree of everything an event takes from a record.
#[derive(Debug, Clone)]
pub struct Projection {
    pub(crate) root: Node,
    /// Who takes the list of each slot: a field or a candidate.
    pub(crate) lists: Vec<Target>,
    /// Fields of several paths.
    pub(crate) choices: Vec<Choice>,
    /// The fields that candidates are for.
    pub(crate) candidates: Vec<FieldIndex>,
    /// Every taken path in declared order, for messages and the Avro compiler: aliases follow their path.
    pub(crate) takings: Vec<(FieldIndex, Vec<Box<str>>)>,
    /// Fields whose values are read as the source says.
    pub(crate) readings: Vec<FieldIndex>,
}

impl Projection {
    /// The path of the value itself; a record has none, a key may.
    pub(crate) const WHOLE: &str = "";

    /// Every field of the event from the member of its own name, as pushes are taken. Names are not split.
    pub fn of_names(schema: &EventSchema) -> Self {
        let mut root = Node::default();
        let mut takings = Vec::new();
        for (index, field) in schema.fields.iter().enumerate() {
            let Ok(index) = u16::try_from(index) else { break };
            root.member(&field.name).targets.push(Target::Field(FieldIndex(index)));
            takings.push((FieldIndex(index), vec![field.name.clone()]));
        }
        Self { root, takings, ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            root: Node::default(),
            lists: Vec::new(),
            choices: Vec::new(),
            candidates: Vec::new(),
            takings: Vec::new(),
            readings: Vec::new(),
        }
    }

    /// The same, with fields that have a reading.
    #[must_use]
    pub(crate) fn with_readings(self, readings: Vec<FieldIndex>) -> Self {
        Self { readings, ..self }
    }

    /// Builds the tree.
    ///
    /// # Errors
    /// `invalid_config_value` naming a path that does not parse.
    pub fn of_paths<'a>(takings: impl IntoIterator<Item = Taking<'a>>) -> Result<Self, ApiError> {
        let mut built = Self::empty();
        for taking in takings {
            let paths: Vec<Box<str>> = std::iter::once(taking.path.into()).chain(taking.aliases.iter().cloned()).collect();
            if let [only] = paths.as_slice() {
                built.add(Target::Field(taking.field), only)?;
            } else {
                let number = |count: usize| u16::try_from(count).map_err(|_| refusal("more than 65,536 paths to choose from".into()));
                built.choices.push(Choice { field: taking.field, first: number(built.candidates.len())?, count: number(paths.len())? });
                for path in &paths {
                    built.add(Target::Candidate(number(built.candidates.len())?), path)?;
                    built.candidates.push(taking.field);
                }
            }
            built.takings.push((taking.field, paths));
        }
        built.root.open_lists(&built.lists);
        Ok(built)
    }

    /// The field that a target is for.
    pub(crate) fn field_of(&self, target: Target) -> FieldIndex {
        match self.behind(target) {
            Target::Field(field) => field,
            Target::Candidate(candidate) => match self.candidates.get(usize::from(candidate)) {
                Some(&field) => field,
                None => unreachable!("candidate {candidate} was numbered when its path was added"),
            },
            Target::List(slot) => unreachable!("list {slot} is taken by a field or a candidate"),
        }
    }

    /// Who takes a value in the end: a list's element goes to whom the list goes.
    pub(crate) fn behind(&self, target: Target) -> Target {
        match target {
            Target::List(slot) => match self.lists.get(usize::from(slot)) {
                Some(&taker) => taker,
                None => unreachable!("list {slot} was numbered when its path was added"),
            },
            other => other,
        }
    }

    fn add(&mut self, target: Target, path: &str) -> Result<(), ApiError> {
        if path == Self::WHOLE {
            self.root.targets.push(target);
            return Ok(());
        }
        let steps = path::steps(path).map_err(|wrong| refusal(format!("record path `{path}` has {wrong}")))?;
        if steps.len() > STEPS_MAX {
            return Err(refusal(format!("record path `{path}` has {} steps, more than {STEPS_MAX}", steps.len())));
        }
        let mut node = &mut self.root;
        let mut in_list = false;
        for Step { name, arrays } in steps {
            if arrays > STEPS_MAX {
                return Err(refusal(format!("record path `{path}` goes through more than {STEPS_MAX} arrays at \"{name}\"")));
            }
            node = node.member(&name);
            for _ in 0..arrays {
                in_list = true;
                node = node.items.get_or_insert_default();
            }
        }
        if in_list {
            let slot = u16::try_from(self.lists.len()).map_err(|_| refusal("more than 65,536 list fields".into()))?;
            node.targets.push(Target::List(slot));
            self.lists.push(target);
        } else {
            node.targets.push(target);
        }
        Ok(())
    }
}

fn refusal(reason: String) -> ApiError {
    ApiError::new(Code::InvalidConfigValue, reason)
        .hint("write member names joined by dots, `[]` behind an array, quotes around a name with a dot: items[].price, attrs.\"user.id\"")
}

/// JSON text of the lists being gathered, by slot; the buffers are reused from row to row.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    texts: Vec<String>,
}

impl Lists {
    pub(crate) fn new(slots: usize) -> Self {
        Self { texts: vec![String::new(); slots] }
    }

    /// Whether no list is ever gathered.
    pub(crate) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.texts.len()
    }

    /// Begins a list.
    pub(crate) fn open(&mut self, slot: u16) {
        if let Some(text) = self.texts.get_mut(usize::from(slot)) {
            text.clear();
            text.push('[');
        }
    }

    /// The buffer, behind a comma when it is not the first element: append one JSON value.
    pub(crate) fn element(&mut self, slot: u16) -> Option<&mut String> {
        let text = self.texts.get_mut(usize::from(slot))?;
        if text.len() > 1 {
            text.push(',');
        }
        Some(text)
    }

    /// Ends a list and gives its text.
    pub(crate) fn close(&mut self, slot: u16) -> &str {
        match self.texts.get_mut(usize::from(slot)) {
            Some(text) => {
                text.push(']');
                text
            }
            None => "[]",
        }
    }

    /// The text of a list that was closed.
    pub(crate) fn text(&self, slot: u16) -> &str {
        match self.texts.get(usize::from(slot)) {
            Some(text) => text,
            None => unreachable!("list {slot} was found, so it was opened"),
        }
    }
}
