//! Which parts of a record an event takes: record paths as a tree, built once, walked by every format.
//!
//! `customer.id` is a member of a member, `items[].price` gathers one value per element into a list field, `items[]` the elements themselves. Lists nest flat:
//! `orders[].items[].price` is one list. An element without the member contributes null, so that lists of one array stay aligned.
//! The tree knows names only; types are checked where values are set.

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
    /// List slots that an array here begins, with their fields; empty inside of another list.
    pub(crate) opens: Vec<(u16, FieldIndex)>,
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

    /// Visits the targets below, and the list fields that an array here would fill.
    pub(crate) fn each_inside(&self, visit: &mut dyn FnMut(Target)) {
        for &(_, field) in &self.opens {
            visit(Target::Field(field));
        }
        for member in &self.members {
            member.node.each_target(visit);
        }
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

    fn open_lists(&mut self, fields: &[FieldIndex]) {
        if let Some(items) = &self.items {
            let mut slots = Vec::new();
            items.gather_slots(&mut slots);
            self.opens = slots.into_iter().filter_map(|slot| Some((slot, *fields.get(usize::from(slot))?))).collect();
        }
        for member in &mut self.members {
            member.node.open_lists(fields);
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
    /// The list field of each slot.
    pub(crate) lists: Vec<FieldIndex>,
    /// Every taken path in declared order, for messages and the Avro compiler: aliases follow their path.
    pub(crate) takings: Vec<(FieldIndex, Vec<Box<str>>)>,
}

impl Projection {
    /// Every field of the event from the member of its own name, as pushes are taken. Names are not split.
    pub fn of_names(schema: &EventSchema) -> Self {
        let mut root = Node::default();
        let mut takings = Vec::new();
        for (index, field) in schema.fields.iter().enumerate() {
            let Ok(index) = u16::try_from(index) else { break };
            root.member(&field.name).targets.push(Target::Field(FieldIndex(index)));
            takings.push((FieldIndex(index), vec![field.name.clone()]));
        }
        Self { root, lists: Vec::new(), takings }
    }

    /// Builds the tree.
    ///
    /// # Errors
    /// `invalid_config_value` naming a path that does not parse.
    pub fn of_paths<'a>(takings: impl IntoIterator<Item = Taking<'a>>) -> Result<Self, ApiError> {
        let mut built = Self { root: Node::default(), lists: Vec::new(), takings: Vec::new() };
        for taking in takings {
            let mut paths = Vec::new();
            for path in std::iter::once(taking.path).chain(taking.aliases.iter().map(|alias| &**alias)) {
                built.add(taking.field, path)?;
                paths.push(path.into());
            }
            built.takings.push((taking.field, paths));
        }
        built.root.open_lists(&built.lists);
        Ok(built)
    }

    fn add(&mut self, field: FieldIndex, path: &str) -> Result<(), ApiError> {
        let refuse = |reason: String| {
            ApiError::new(Code::InvalidConfigValue, reason).hint("write member names joined by dots, `[]` behind an array: items[].price")
        };
        let steps: Vec<&str> = path.split('.').collect();
        if steps.len() > STEPS_MAX {
            return Err(refuse(format!("record path \"{path}\" has {} steps, more than {STEPS_MAX}", steps.len())));
        }
        let mut node = &mut self.root;
        let mut in_list = false;
        for step in steps {
            let name = step.trim_end_matches("[]");
            let arrays = (step.len() - name.len()) / 2;
            if name.is_empty() || name.contains(['[', ']']) || arrays > STEPS_MAX {
                return Err(refuse(format!("record path \"{path}\" has an empty or malformed step \"{step}\"")));
            }
            node = node.member(name);
            for _ in 0..arrays {
                in_list = true;
                node = node.items.get_or_insert_default();
            }
        }
        if in_list {
            let slot = u16::try_from(self.lists.len()).map_err(|_| refuse("more than 65,536 list fields".into()))?;
            node.targets.push(Target::List(slot));
            self.lists.push(field);
        } else {
            node.targets.push(Target::Field(field));
        }
        Ok(())
    }
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
}
