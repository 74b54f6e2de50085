//! JSON object -> row, with projection, in one pass and without building a value.
//!
//! The whole text is checked: UTF-8 first, then every value, also skipped ones ([`scan`]). Members the event takes are found through the projection tree; a
//! member that is taken must not stand twice. Records skip unknown members, pushes refuse them. Runs on connector threads; buffers are reused, nothing is
//! allocated per row. serde_json is not used here: walking a 200-byte record with it costs more than everything else on a record's way (`benches/decode.rs`);
//! it is the oracle of the differential tests instead.

mod scan;
#[cfg(test)]
mod tests;

use super::error::{BadRow, Codes};
use super::projection::{Found, Lists, Misfit, Node, Place, Projection, Target};
use crate::row::decimal::exact_integer;
use crate::row::{CellError, FieldIndex, FieldType, RowsBuilder, Strictness};
use scan::{Fault, Number, Scan};
use std::sync::Arc;
use streamgauge_api::Code;

/// Whole numbers up to here have a double of their own each.
const EXACT_WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What happens to a member that the event does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownFields {
    /// It is checked to be JSON and skipped.
    Skip,
    /// The row is refused: `unknown_field_v0`, or `unknown_field_event_time_v0` for `event_time` and `event_time_ms`.
    Refuse,
}

/// The rules of one door.
#[derive(Debug, Clone, Copy)]
pub struct JsonRules {
    /// Unknown members.
    pub unknown: UnknownFields,
    /// Deepest nesting taken, at most 128; the row object is level 1.
    pub depth_max: u32,
    /// Whether a string or name with a Unicode control character is refused (`control_character_in_string`).
    pub refuse_control: bool,
}

impl JsonRules {
    /// As Kafka records are taken.
    pub const RECORD: Self = Self { unknown: UnknownFields::Skip, depth_max: 64, refuse_control: false };
    /// As pushes are taken.
    pub const PUSH: Self = Self { unknown: UnknownFields::Refuse, depth_max: 128, refuse_control: true };
}

/// The code of a member that a push must not have.
pub(super) fn unknown_code(name: &str) -> Code {
    if matches!(name, "event_time" | "event_time_ms") { Code::UnknownFieldEventTimeV0 } else { Code::UnknownFieldV0 }
}

/// Decodes JSON objects for one event.
#[derive(Debug)]
pub struct JsonDecoder {
    projection: Arc<Projection>,
    rules: JsonRules,
    lists: Lists,
    found: Vec<Found>,
    seen: Vec<u64>,
    name: String,
    text: String,
}

impl JsonDecoder {
    /// A decoder of what the projection takes.
    pub fn new(projection: Arc<Projection>, rules: JsonRules) -> Self {
        let lists = Lists::new(projection.lists.len());
        Self { projection, rules, lists, found: Vec::new(), seen: Vec::new(), name: String::new(), text: String::new() }
    }

    /// Sets the fields of the row that was begun in `into` from one JSON object. On an error the caller rolls the row back.
    ///
    /// # Errors
    /// The text is no JSON object, a member is unknown (pushes) or stands twice, or a value does not fit its field.
    #[inline]
    pub fn fields(&mut self, bytes: &[u8], into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        self.read::<false>(bytes, into)
    }

    /// The same of any JSON value, as a key may be: also a text or a number alone.
    ///
    /// # Errors
    /// As [`JsonDecoder::fields`], except that the value may be anything that a field takes.
    pub fn any(&mut self, bytes: &[u8], into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        self.read::<true>(bytes, into)
    }

    fn read<const ANY: bool>(&mut self, bytes: &[u8], into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        let codes = Codes::of_json(into.strictness());
        let Ok(text) = std::str::from_utf8(bytes) else {
            return Err(BadRow::new(codes.malformed, "", "the JSON text is not UTF-8"));
        };
        self.seen.clear();
        let projection = Arc::clone(&self.projection);
        let mut walk = Walk {
            scan: Scan::new(text, self.rules.depth_max, self.rules.refuse_control),
            into,
            rules: self.rules,
            codes,
            projection: &projection,
            lists: &mut self.lists,
            found: &mut self.found,
            seen: &mut self.seen,
            name: &mut self.name,
            text: &mut self.text,
        };
        if walk.scan.token() != b'{' && !ANY {
            let code = if walk.into.strictness() == Strictness::Push { Code::InvalidEvent } else { codes.malformed };
            return match walk.scan.skip(0, false) {
                Ok(()) => Err(BadRow::new(code, "", "the row is no JSON object")),
                Err(fault) => Err(walk.fault(fault)),
            };
        }
        if !projection.choices.is_empty() {
            walk.found.clear();
            walk.found.resize(projection.candidates.len(), Found::Missing);
        }
        if ANY {
            walk.value(&projection.root, 0)?;
        } else {
            walk.object(&projection.root, 1)?;
        }
        walk.scan.token();
        if !walk.scan.at_end() {
            let left = text.len() - walk.scan.pos;
            return Err(BadRow::new(codes.trailing, "", format!("{left} bytes are left behind the JSON object")));
        }
        if projection.choices.is_empty() { Ok(()) } else { walk.choose() }
    }
}

/// One text on its way into one row.
struct Walk<'w> {
    scan: Scan<'w>,
    into: &'w mut RowsBuilder,
    rules: JsonRules,
    codes: Codes,
    projection: &'w Projection,
    lists: &'w mut Lists,
    found: &'w mut Vec<Found>,
    seen: &'w mut Vec<u64>,
    name: &'w mut String,
    text: &'w mut String,
}

impl Walk<'_> {
    #[cold]
    fn fault(&self, fault: Fault) -> Box<BadRow> {
        let at = self.scan.pos;
        match fault {
            Fault::TooDeep => BadRow::new(self.codes.shape, "", format!("nested deeper than {} at byte {at}", self.rules.depth_max)),
            Fault::Range => BadRow::new(self.codes.range, "", format!("a number at byte {at} is out of range of a double")),
            Fault::Control => {
                BadRow::new(Code::ControlCharacterInString, "", format!("a string that ends before byte {at} holds a control character"))
            }
            malformed => BadRow::new(self.codes.malformed, "", format!("{} at byte {at} of the JSON text", malformed.as_str())),
        }
    }

    #[cold]
    fn cell(&self, error: CellError) -> Box<BadRow> {
        BadRow::cell(error, self.into.schema())
    }

    /// The members of an object, position at its brace.
    fn object(&mut self, node: &Node, depth: u32) -> Result<(), Box<BadRow>> {
        self.scan.check_depth(depth).map_err(|fault| self.fault(fault))?;
        self.scan.pos += 1;
        let seen_base = self.seen.len();
        self.seen.resize(seen_base + node.members.len().div_ceil(64), 0);
        let mut expected = 0;
        let mut found_count = 0;
        if self.scan.token() == b'}' {
            self.scan.pos += 1;
        } else {
            loop {
                let found = self.next_member(node, expected, depth)?;
                match found {
                    Some(index) => {
                        let bit = 1u64 << (index % 64);
                        let slot = seen_base + index / 64;
                        let member = &node.members[index];
                        if self.seen[slot] & bit != 0 {
                            let name = &member.name;
                            return Err(BadRow::new(self.codes.shape, &**name, format!("member \"{name}\" stands twice")));
                        }
                        self.seen[slot] |= bit;
                        found_count += 1;
                        self.value(&member.node, depth)?;
                        expected = index + 1;
                    }
                    None => self.scan.skip(depth, false).map_err(|fault| self.fault(fault))?,
                }
                match self.scan.token() {
                    b',' => {
                        self.scan.pos += 1;
                        self.scan.token();
                    }
                    b'}' => {
                        self.scan.pos += 1;
                        break;
                    }
                    _ => return Err(self.fault(Fault::Comma)),
                }
            }
        }
        if found_count < node.members.len() && !self.lists.is_empty() {
            for (index, member) in node.members.iter().enumerate() {
                if self.seen[seen_base + index / 64] >> (index % 64) & 1 == 0 {
                    absent_in_list(&member.node, self.lists);
                }
            }
        }
        self.seen.truncate(seen_base);
        Ok(())
    }

    /// Goes to the next member's value: which member of the node it is. Producers write members in one order, so the expected one is tried first; then those
    /// that nobody takes are passed; what is left, and every fault, is for the careful way.
    #[inline]
    fn next_member(&mut self, node: &Node, expected: usize, depth: u32) -> Result<Option<usize>, Box<BadRow>> {
        if let Some(member) = node.members.get(expected)
            && self.scan.pass_expected(&member.quoted)
        {
            self.scan.token();
            return Ok(Some(expected));
        }
        if self.rules.unknown == UnknownFields::Skip
            && let Some(name) = self.scan.pass_plain_members(|name| node.may_have(name))
        {
            return Ok(node.find(name, expected));
        }
        self.member_name(node, expected, depth)
    }

    /// A member's name in any spelling, up to its value: which member of the node it is.
    #[inline]
    fn member_name(&mut self, node: &Node, expected: usize, depth: u32) -> Result<Option<usize>, Box<BadRow>> {
        if self.scan.token() != b'"' {
            return Err(self.fault(Fault::Name));
        }
        let name = match self.scan.string(self.name) {
            Ok(name) => name,
            Err(fault) => return Err(self.fault(fault)),
        };
        let found = node.find(name, expected);
        if found.is_none() && self.rules.unknown == UnknownFields::Refuse && depth == 1 {
            let event = &self.into.schema().name;
            return Err(BadRow::new(unknown_code(name), name, format!("event {event} has no field \"{name}\"")));
        }
        self.scan.expect(b':', Fault::Colon).map_err(|fault| self.fault(fault))?;
        self.scan.token();
        Ok(found)
    }

    /// A value that something is taken of, position at its first byte; `depth` is the nesting that it stands in.
    #[inline]
    fn value(&mut self, node: &Node, depth: u32) -> Result<(), Box<BadRow>> {
        if let Some(field) = node.only_field() {
            return self.field(field, depth);
        }
        self.value_shared(node, depth)
    }

    fn value_shared(&mut self, node: &Node, depth: u32) -> Result<(), Box<BadRow>> {
        let start = self.scan.pos;
        for &target in &node.targets {
            self.scan.pos = start;
            match target {
                Target::Field(field) => self.field(field, depth)?,
                Target::List(slot) => {
                    self.scan.skip(depth, true).map_err(|fault| self.fault(fault))?;
                    let text = self.scan.since(start);
                    if let Some(list) = self.lists.element(slot) {
                        list.push_str(text);
                    }
                }
                Target::Candidate(candidate) => {
                    let found = match self.scan.peek() {
                        b'n' => Found::Null,
                        _ => Found::At(Place { pos: start, depth, op: 0 }),
                    };
                    self.scan.skip(depth, false).map_err(|fault| self.fault(fault))?;
                    self.found[usize::from(candidate)] = found;
                }
            }
        }
        if !node.looks_inside() {
            return Ok(());
        }
        self.scan.pos = start;
        match (self.scan.peek(), &node.items) {
            (b'{', items) if !node.members.is_empty() => {
                if items.is_some() {
                    self.misfits(&node.of_items(), "an object", "an array")?;
                }
                self.object(node, depth + 1)
            }
            (b'[', Some(items)) => {
                if !node.members.is_empty() {
                    self.misfits(&node.of_members(), "an array", "an object")?;
                }
                self.array(node, items, depth + 1)
            }
            (b'n', _) => {
                self.scan.literal("null").map_err(|fault| self.fault(fault))?;
                let (into, lists, found) = (&mut *self.into, &mut *self.lists, &mut *self.found);
                node.each_inside(&mut |target| null(target, into, lists, found));
                Ok(())
            }
            (byte, _) => self.wrong_shape(node, byte, depth),
        }
    }

    /// A value that no path passes through.
    #[cold]
    fn wrong_shape(&mut self, node: &Node, byte: u8, depth: u32) -> Result<(), Box<BadRow>> {
        let got = match byte {
            b'{' => "an object",
            b'[' => "an array",
            b'"' => "text",
            b't' | b'f' => "a boolean",
            _ => "a number",
        };
        self.scan.skip(depth, false).map_err(|fault| self.fault(fault))?;
        self.misfits(&node.of_items(), got, "an array")?;
        self.misfits(&node.of_members(), got, "an object")
    }

    fn misfits(&mut self, targets: &[Target], got: &'static str, wanted: &'static str) -> Result<(), Box<BadRow>> {
        misfits(targets, got, wanted, self.projection, self.found).map_err(|(field, misfit)| self.refused(field, misfit))
    }

    #[cold]
    fn refused(&self, field: FieldIndex, misfit: Misfit) -> Box<BadRow> {
        BadRow::misfit(self.codes.mismatch, field, misfit, self.into.schema())
    }

    /// Takes what each choice found first.
    #[inline(never)]
    fn choose(&mut self) -> Result<(), Box<BadRow>> {
        for choice in &self.projection.choices {
            match choice.of(self.found) {
                Found::At(place) => {
                    self.scan.pos = place.pos;
                    self.field(choice.field, place.depth)?;
                }
                Found::List(slot) => self.into.json(choice.field, self.lists.text(slot)).map_err(|error| self.cell(error))?,
                Found::Misfit(misfit) => return Err(self.refused(choice.field, misfit)),
                Found::Null => self.into.null(choice.field),
                Found::Missing => {}
            }
        }
        Ok(())
    }

    fn array(&mut self, node: &Node, items: &Node, depth: u32) -> Result<(), Box<BadRow>> {
        self.scan.check_depth(depth).map_err(|fault| self.fault(fault))?;
        for &(slot, _) in &node.opens {
            self.lists.open(slot);
        }
        self.scan.pos += 1;
        if self.scan.token() == b']' {
            self.scan.pos += 1;
        } else {
            loop {
                self.scan.token();
                self.value_shared(items, depth)?;
                match self.scan.token() {
                    b',' => self.scan.pos += 1,
                    b']' => {
                        self.scan.pos += 1;
                        break;
                    }
                    _ => return Err(self.fault(Fault::Comma)),
                }
            }
        }
        for &(slot, taker) in &node.opens {
            close(slot, taker, self.into, self.lists, self.found).map_err(|error| self.cell(error))?;
        }
        Ok(())
    }

    /// Sets a field to the value here, whole.
    #[inline]
    fn field(&mut self, field: FieldIndex, depth: u32) -> Result<(), Box<BadRow>> {
        let start = self.scan.pos;
        let set = match self.scan.peek() {
            b'"' => match self.scan.string(self.text) {
                Ok(text) => self.into.str(field, text),
                Err(fault) => return Err(self.fault(fault)),
            },
            b'-' | b'0'..=b'9' => match self.scan.number() {
                Ok(Number::Int(number)) => self.into.int(field, number),
                Ok(Number::Float(number)) if self.into.has_reading(field) => self.into.fraction(field, number, self.scan.since(start)),
                Ok(Number::Float(number)) if number.abs() >= EXACT_WHOLE_MAX => {
                    // 1e18 is 10^18 exactly; 9007199254740993.0 would be another number as a double.
                    match exact_integer(self.scan.since(start)) {
                        Some(whole) if self.into.schema().fields[usize::from(field.0)].kind == FieldType::I64 => {
                            self.into.int(field, whole)
                        }
                        _ => self.into.float(field, number),
                    }
                }
                Ok(Number::Float(number)) => self.into.float(field, number),
                Ok(Number::Big(number, text)) => self.into.big_int(field, number, text),
                Err(fault) => return Err(self.fault(fault)),
            },
            b'{' | b'[' => {
                let start = self.scan.pos;
                self.scan.skip(depth, true).map_err(|fault| self.fault(fault))?;
                self.into.json(field, self.scan.since(start))
            }
            byte => {
                self.scan.skip(depth, true).map_err(|fault| self.fault(fault))?;
                if byte == b'n' {
                    self.into.null(field);
                    Ok(())
                } else {
                    self.into.bool(field, byte == b't')
                }
            }
        };
        set.map_err(|error| self.cell(error))
    }
}

/// Null where a value would be.
pub(super) fn null(target: Target, into: &mut RowsBuilder, lists: &mut Lists, found: &mut [Found]) {
    match target {
        Target::Field(field) => into.null(field),
        Target::List(slot) => {
            if let Some(list) = lists.element(slot) {
                list.push_str("null");
            }
        }
        Target::Candidate(candidate) => found[usize::from(candidate)] = Found::Null,
    }
}

/// Ends a list and hands it over. A candidate whose elements did not all fit has no list.
pub(super) fn close(slot: u16, taker: Target, into: &mut RowsBuilder, lists: &mut Lists, found: &mut [Found]) -> Result<(), CellError> {
    let text = lists.close(slot);
    match taker {
        Target::Field(field) => into.json(field, text),
        Target::Candidate(candidate) => {
            let found = &mut found[usize::from(candidate)];
            if !matches!(found, Found::Misfit(_)) {
                *found = Found::List(slot);
            }
            Ok(())
        }
        Target::List(outer) => unreachable!("list {slot} is taken by a field or a candidate, not by list {outer}"),
    }
}

/// Paths that need another shape than the value here has: candidates among them note it, since another
/// path may have the value; else gives the field that it is wrong for.
#[cold]
pub(super) fn misfits(
    targets: &[Target],
    got: &'static str,
    wanted: &'static str,
    projection: &Projection,
    found: &mut [Found],
) -> Result<(), (FieldIndex, Misfit)> {
    let misfit = Misfit { got, wanted };
    for &target in targets {
        match projection.behind(target) {
            // A list of it that is being gathered is of no use.
            Target::Candidate(candidate) => found[usize::from(candidate)] = Found::Misfit(misfit),
            _ => return Err((projection.field_of(target), misfit)),
        }
    }
    Ok(())
}

/// Keeps lists aligned: an element without a member gives null.
pub(super) fn absent_in_list(node: &Node, lists: &mut Lists) {
    node.each_target(&mut |target| {
        if let Target::List(slot) = target
            && let Some(list) = lists.element(slot)
        {
            list.push_str("null");
        }
    });
}
