//! Runs a plan over one body: tags are matched with what is taken, values are read when their message has ended.
//!
//! The last of several values of a field counts, whatever the order, and the last member that was set of a oneof; so
//! places are remembered first and read once, when nothing can change any more. Elements of repeated fields are read where
//! they stand, packed or not. No allocation but the buffers of [`ProtobufScratch`]. The innermost loop of a source.
//! A message that stands twice in one field is merged, which no writer makes; it is told to the caller and done apart.

use super::compile::{Action, MapTaken, Plan, Reader, Repeated, Slot, Taken};
use super::render::{self, Value};
use super::schema::{Form, Known, Unset};
use super::wire::{BYTES, Wire};
use crate::decode::error::BadRow;
use crate::decode::json;
use crate::decode::projection::{Found, Lists, Place, Target};
use crate::row::{CellError, FieldIndex, FieldType, RowsBuilder, decimal};
use streamgauge_api::Code;

/// Deepest nesting of messages that is taken.
pub(super) const DEPTH_MAX: u32 = 64;

/// No value was seen.
const NONE: usize = usize::MAX;
/// An entry of a map without a value was seen.
const EMPTY: usize = usize::MAX - 1;

/// Buffers of one thread, reused from record to record.
#[derive(Debug, Default)]
pub struct ProtobufScratch {
    places: Vec<usize>,
    lists: Lists,
    found: Vec<Found>,
    text: String,
    /// A message that has to be merged stopped the run.
    pub(super) merge: bool,
}

impl ProtobufScratch {
    pub(super) fn prepare(&mut self, plan: &Plan) {
        self.places.clear();
        self.merge = false;
        self.found.clear();
        self.found.resize(plan.candidates.len(), Found::Missing);
        if self.lists.len() < plan.lists {
            self.lists = Lists::new(plan.lists);
        }
    }
}

/// One body on its way into one row.
pub(super) struct Run<'r> {
    pub(super) plan: &'r Plan,
    pub(super) into: &'r mut RowsBuilder,
    pub(super) scratch: &'r mut ProtobufScratch,
}

impl<'r> Run<'r> {
    #[cold]
    fn cell(&self, error: CellError) -> Box<BadRow> {
        BadRow::cell(error, self.into.schema())
    }

    /// A whole record.
    pub(super) fn record(&mut self, body: &[u8]) -> Result<(), Box<BadRow>> {
        let plan = self.plan;
        for &field in &plan.nulls {
            self.into.null(field);
        }
        let mut from = Wire::new(body);
        self.message(0, &mut from, 1)?;
        if plan.choices.is_empty() { Ok(()) } else { self.choose(&from) }
    }

    fn message(&mut self, index: u32, from: &mut Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        if depth > DEPTH_MAX {
            return Err(from.malformed(&format!("nesting deeper than {DEPTH_MAX}")));
        }
        let plan: &'r Plan = self.plan;
        let taken = &plan.messages[index as usize];
        let base = self.scratch.places.len();
        self.scratch.places.resize(base + taken.slots.len(), NONE);
        for repeated in &taken.repeated {
            let whole = repeated.whole.iter().map(|(slot, _)| *slot);
            repeated.opens.iter().map(|(slot, _)| *slot).chain(whole).for_each(|slot| self.scratch.lists.open(slot));
        }
        let start = *from;
        while !from.at_end() {
            let (number, wire) = from.tag()?;
            let Ok(at) = taken.actions.binary_search_by_key(&number, |&(known, ..)| known) else {
                from.skip(wire)?;
                continue;
            };
            let (_, wanted, action) = taken.actions[at];
            if wire != wanted && !(matches!(action, Action::Repeated(_)) && wire == BYTES) {
                return Err(from.malformed(&format!("field {number} has wire type {wire}, its declaration wants {wanted},")));
            }
            match action {
                Action::Once(slot) => self.once(taken, base, slot, from, wire)?,
                Action::Clear(oneof) => {
                    self.clear(taken, base, oneof);
                    from.skip(wire)?;
                }
                Action::Repeated(repeated) => self.elements(&taken.repeated[usize::from(repeated)], wire, wanted, from, depth)?,
                Action::Map(map) => self.entry(&taken.maps[usize::from(map)], base, from)?,
            }
        }
        for &target in &taken.absent {
            self.null(target);
        }
        for (at, slot) in taken.slots.iter().enumerate() {
            let reader = &plan.readers[slot.reader as usize];
            match self.scratch.places[base + at] {
                NONE => self.unset(reader, slot, from)?,
                EMPTY => self.empty(reader, slot, from, depth)?,
                place => self.read(slot.reader, &mut from.at(place), depth)?,
            }
        }
        self.scratch.places.truncate(base);
        for repeated in &taken.repeated {
            self.close(repeated)?;
        }
        for map in taken.maps.iter().filter(|map| !map.targets.is_empty()) {
            self.map(map, &taken.actions, taken, start, depth)?;
        }
        Ok(())
    }

    #[inline]
    fn once(&mut self, taken: &Taken, base: usize, slot: u16, from: &mut Wire<'_>, wire: u8) -> Result<(), Box<BadRow>> {
        let declared = &taken.slots[usize::from(slot)];
        if let Some(oneof) = declared.oneof {
            let before = self.scratch.places[base + usize::from(slot)];
            self.clear(taken, base, oneof);
            self.scratch.places[base + usize::from(slot)] = before;
        }
        let reader = &self.plan.readers[declared.reader as usize];
        let place = &mut self.scratch.places[base + usize::from(slot)];
        if *place != NONE && matches!(reader.form, Form::Message(_)) {
            self.scratch.merge = true;
            return Err(from.malformed("a message that is merged"));
        }
        *place = from.pos;
        from.skip(wire)
    }

    fn clear(&mut self, taken: &Taken, base: usize, oneof: u16) {
        for (at, slot) in taken.slots.iter().enumerate() {
            if slot.oneof == Some(oneof) {
                self.scratch.places[base + at] = NONE;
            }
        }
    }

    fn elements(&mut self, repeated: &Repeated, wire: u8, wanted: u8, from: &mut Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        if wire == wanted {
            return self.element(repeated, from, depth);
        }
        let mut packed = from.inside()?;
        while !packed.at_end() {
            self.element(repeated, &mut packed, depth)?;
        }
        Ok(())
    }

    fn element(&mut self, repeated: &Repeated, from: &mut Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        let reader = &self.plan.readers[repeated.element as usize];
        if let Some((slot, _)) = &repeated.whole {
            let (mut again, shapes) = (*from, &self.plan.shapes);
            let Some(text) = self.scratch.lists.element(*slot) else { unreachable!("list {slot} is one of the plan's") };
            render::value(shapes, reader.form, &mut again, text, depth).map_err(|fault| fault.of(&mut self.scratch.merge))?;
        }
        self.read(repeated.element, from, depth)
    }

    fn close(&mut self, repeated: &Repeated) -> Result<(), Box<BadRow>> {
        for &(slot, taker) in &repeated.opens {
            let (lists, found) = (&mut self.scratch.lists, &mut self.scratch.found);
            json::close(slot, taker, self.into, lists, found).map_err(|error| BadRow::cell(error, self.into.schema()))?;
        }
        let Some((slot, targets)) = &repeated.whole else { return Ok(()) };
        let lists = &mut self.scratch.lists;
        let text = lists.close(*slot).to_owned();
        for &target in targets {
            match target {
                Target::Field(field) => self.into.json(field, &text).map_err(|error| BadRow::cell(error, self.into.schema()))?,
                // A repeated field without elements is not told from one that is not there.
                Target::Candidate(candidate) if text.len() > 2 => self.scratch.found[usize::from(candidate)] = Found::List(*slot),
                Target::Candidate(_) => {}
                Target::List(outer) => {
                    if let Some(list) = self.scratch.lists.element(outer) {
                        list.push_str(&text);
                    }
                }
            }
        }
        Ok(())
    }

    /// Remembers where the value of a key that is taken stands.
    fn entry(&mut self, map: &MapTaken, base: usize, from: &mut Wire<'_>) -> Result<(), Box<BadRow>> {
        let mut entry = from.inside()?;
        let (key, value) = render::entry(map.key, map.value, &mut entry)?;
        self.scratch.text.clear();
        render::key(map.key, key, &entry, &mut self.scratch.text)?;
        if let Some((_, slot)) = map.members.iter().find(|(name, _)| **name == *self.scratch.text) {
            self.scratch.places[base + usize::from(*slot)] = value.unwrap_or(EMPTY);
        }
        Ok(())
    }

    /// A map that is taken whole, as an object: of one key the last value.
    fn map(&mut self, map: &MapTaken, actions: &[(u32, u8, Action)], taken: &Taken, body: Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        let is_this = |action: &Action| matches!(action, Action::Map(at) if std::ptr::eq(&taken.maps[usize::from(*at)], map));
        let Some(&(number, ..)) = actions.iter().find(|(.., action)| is_this(action)) else { unreachable!("a map has its field") };
        let mut text = String::new();
        let shape = self.plan.shapes.message(map.entry);
        let empty =
            render::map(&self.plan.shapes, shape, number, body, &mut text, depth).map_err(|fault| fault.of(&mut self.scratch.merge))?;
        for &target in &map.targets {
            match target {
                Target::Field(field) => self.into.json(field, &text).map_err(|error| BadRow::cell(error, self.into.schema()))?,
                Target::List(outer) => {
                    if let Some(list) = self.scratch.lists.element(outer) {
                        list.push_str(&text);
                    }
                }
                Target::Candidate(_) if empty => {}
                // Maps have no place that they could be read from again, so they are chosen as they are.
                Target::Candidate(candidate) => {
                    let field = self.plan.candidate_fields[usize::from(candidate)];
                    self.into.json(field, &text).map_err(|error| BadRow::cell(error, self.into.schema()))?;
                }
            }
        }
        Ok(())
    }

    /// Reads a value and hands it to who takes it.
    fn read(&mut self, index: u32, from: &mut Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        let plan: &'r Plan = self.plan;
        self.read_as(&plan.readers[index as usize], index, from, depth)
    }

    fn read_as(&mut self, reader: &Reader, index: u32, from: &mut Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        let plan: &'r Plan = self.plan;
        let start = *from;
        if let Form::Message(message) = reader.form {
            let mut inside = from.inside()?;
            if let Some(taken) = reader.inside {
                self.message(taken, &mut inside, depth + 1)?;
                inside = start;
                inside = inside.inside()?;
            }
            if reader.targets.is_empty() {
                return Ok(());
            }
            let shape = plan.shapes.message(message);
            match shape.known {
                Known::Timestamp => {
                    let (time_ms, time_us) = render::timestamp(&mut inside)?;
                    return self.each(reader, Value::Moment(time_ms, time_us), index, &start, depth);
                }
                Known::Wrapper => {
                    let Some(field) = shape.field(1) else { unreachable!("a wrapper has a value") };
                    return match render::last(1, field.form.wire(), &mut inside.clone())? {
                        Some(place) => {
                            let value = render::scalar(&plan.shapes, field.form, &mut inside.at(place))?;
                            self.each(reader, value, index, &start, depth)
                        }
                        None => self.each(reader, render::zero(&plan.shapes, field.form), index, &start, depth),
                    };
                }
                Known::Decimal => {
                    let (unscaled, scale) = render::decimal(&mut inside)?;
                    let mut text = String::new();
                    if !decimal::push_scaled(unscaled, scale, &mut text) {
                        let reason = format!("a decimal of {} bytes and scale {scale}", unscaled.len());
                        return Err(BadRow::new(Code::DecodeOutOfRange, "", reason));
                    }
                    return self.each(reader, Value::Decimal(&text), index, &start, depth);
                }
                Known::Plain => {}
            }
            let mut text = String::new();
            render::message(&plan.shapes, message, inside, &mut text, depth + 1).map_err(|fault| fault.of(&mut self.scratch.merge))?;
            return self.each(reader, Value::Json(&text), index, &start, depth);
        }
        let value = render::scalar(&plan.shapes, reader.form, from)?;
        self.each(reader, value, index, &start, depth)
    }

    fn each(&mut self, reader: &Reader, value: Value<'_>, index: u32, start: &Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        for &target in &reader.targets {
            match target {
                Target::Field(field) => self.set(field, value).map_err(|error| self.cell(error))?,
                Target::Candidate(candidate) => {
                    self.scratch.found[usize::from(candidate)] = Found::At(Place { pos: start.pos, depth, op: index });
                }
                Target::List(slot) => {
                    let Some(text) = self.scratch.lists.element(slot) else { unreachable!("list {slot} is one of the plan's") };
                    value.push(text)?;
                }
            }
        }
        Ok(())
    }

    fn set(&mut self, field: FieldIndex, value: Value<'_>) -> Result<(), CellError> {
        match value {
            Value::Int(number) => self.into.int(field, number),
            #[expect(clippy::cast_precision_loss, reason = "refused where it is not the nearest double that is wanted")]
            Value::Big(number) => self.into.big_int(field, number as f64, &number.to_string()),
            Value::Float(number) => self.into.float(field, number),
            Value::Bool(truth) => self.into.bool(field, truth),
            Value::Str(text) => self.into.str(field, text),
            Value::Bytes(bytes) => self.into.bytes(field, bytes),
            Value::Enum(number, symbol) => {
                let wants_number = self.into.schema().fields[usize::from(field.0)].kind == FieldType::I64;
                match symbol {
                    Some(symbol) if !wants_number => self.into.str(field, symbol),
                    // A number that the schema has no symbol for is kept, as open enums want it.
                    None if !wants_number && !self.into.has_reading(field) => self.into.str(field, &number.to_string()),
                    _ => self.into.int(field, number.into()),
                }
            }
            Value::Moment(time_ms, time_us) => self.into.instant(field, time_ms, time_us),
            Value::Decimal(text) if self.into.has_reading(field) => self.into.decimal(field, text),
            Value::Decimal(text) => match self.into.schema().fields[usize::from(field.0)].kind {
                FieldType::Str => self.into.str(field, text),
                _ => self.into.float(field, text.parse().unwrap_or(f64::NAN)),
            },
            Value::Json(text) => self.into.json(field, text),
        }
    }

    fn null(&mut self, target: Target) {
        json::null(target, self.into, &mut self.scratch.lists, &mut self.scratch.found);
    }

    /// A value that the message does not have.
    fn unset(&mut self, reader: &Reader, slot: &Slot, from: &Wire<'_>) -> Result<(), Box<BadRow>> {
        // A key that a map does not have is missing, whatever its values would be.
        if slot.unset == Unset::Null || slot.of_map {
            for &target in &reader.nulls {
                match target {
                    Target::Candidate(_) => {}
                    other => self.null(other),
                }
            }
            return Ok(());
        }
        self.default(reader, &slot.unset, from)
    }

    fn default(&mut self, reader: &Reader, unset: &Unset, from: &Wire<'_>) -> Result<(), Box<BadRow>> {
        if *unset == Unset::Required {
            return Err(from.malformed("a message without a field that it requires ends"));
        }
        let Some(value) = Value::of(unset, &self.plan.shapes, reader.form) else { return Ok(()) };
        for &target in &reader.targets {
            match target {
                // Whether it was written is not known, so another path goes first.
                Target::Candidate(_) => {}
                Target::Field(field) => self.set(field, value).map_err(|error| self.cell(error))?,
                Target::List(slot) => {
                    let Some(text) = self.scratch.lists.element(slot) else { unreachable!("list {slot} is one of the plan's") };
                    value.push(text)?;
                }
            }
        }
        Ok(())
    }

    /// A key of a map whose entry has no value.
    fn empty(&mut self, reader: &Reader, slot: &Slot, from: &Wire<'_>, depth: u32) -> Result<(), Box<BadRow>> {
        match reader.form {
            // An empty message.
            Form::Message(_) => self.read(slot.reader, &mut Wire::new(&[0]), depth),
            form if slot.unset == Unset::Null => {
                let value = render::zero(&self.plan.shapes, form);
                self.each(reader, value, slot.reader, from, depth)
            }
            _ => self.default(reader, &slot.unset, from),
        }
    }

    /// Takes what each choice found first.
    fn choose(&mut self, from: &Wire<'_>) -> Result<(), Box<BadRow>> {
        let plan: &'r Plan = self.plan;
        for choice in &plan.choices {
            match choice.of(&self.scratch.found) {
                Found::At(place) => self.chosen(choice.field, place, from)?,
                Found::List(slot) => {
                    let text = self.scratch.lists.text(slot);
                    self.into.json(choice.field, text).map_err(|error| BadRow::cell(error, self.into.schema()))?;
                }
                Found::Misfit(misfit) => {
                    return Err(BadRow::misfit(Code::DecodeTypeMismatch, choice.field, misfit, self.into.schema()));
                }
                Found::Null => self.into.null(choice.field),
                Found::Missing => {
                    let mine = plan.candidates.iter().zip(&plan.candidate_fields).filter(|(_, field)| **field == choice.field);
                    let first = mine.map(|(unset, _)| unset).find(|unset| !matches!(unset, Unset::Null | Unset::Required));
                    if let Some(value) = first.and_then(|unset| Value::of(unset, &plan.shapes, Form::Int64)) {
                        self.set(choice.field, value).map_err(|error| self.cell(error))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the value of a candidate again, into the field.
    fn chosen(&mut self, field: FieldIndex, place: Place, from: &Wire<'_>) -> Result<(), Box<BadRow>> {
        let reader = &self.plan.readers[place.op as usize];
        let chosen = Reader { form: reader.form, targets: vec![Target::Field(field)], inside: None, nulls: Vec::new() };
        self.read_as(&chosen, place.op, &mut from.at(place.pos), place.depth)
    }
}
