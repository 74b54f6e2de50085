//! MessagePack map -> row, for the push ports: the rules of JSON pushes over another encoding.
//!
//! `bin` is bytes, doubles are finite, nesting is bounded, and the map must take all bytes. Of extension types the timestamp
//! (-1) is a time; others are passed over, and bad where a field takes them. A key that is an integer, or `bin` of UTF-8, is
//! the member of that text (`1`); any other that is no text is passed over. A nested map or array becomes JSON text, where
//! `bin` is base64 text, a time milliseconds, and a key of another type its JSON text. Lengths are checked against the
//! bytes at hand before anything is sized by them.

use super::error::{BadRow, Codes};
use super::json::{JsonRules, UnknownFields, absent_in_list, close, misfits, null, unknown_code};
use super::projection::{Found, Lists, Misfit, Node, Place, Projection, Target};
use super::text;
use crate::row::{CellError, FieldIndex, RowsBuilder};
use base64::Engine as _;
use std::sync::Arc;
use streamgauge_api::Code;

/// The extension type of timestamps.
const TIMESTAMP: i8 = -1;

/// Seconds of the years 0001 to 9999.
const SECONDS: std::ops::Range<i64> = -62_135_596_800..253_402_300_800;

/// A value's head: scalars whole, containers by their count.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Head<'a> {
    Nil,
    Bool(bool),
    Int(i64),
    /// An integer above i64.
    Big(u64),
    Float(f64),
    Str(&'a str),
    Bin(&'a [u8]),
    /// A timestamp: milliseconds, microseconds.
    Moment(i64, i64),
    /// Another extension, by its type.
    Extension(i8),
    Array(u32),
    Map(u32),
}

impl Head<'_> {
    fn noun(self) -> &'static str {
        match self {
            Self::Nil => "null",
            Self::Bool(_) => "a boolean",
            Self::Int(_) | Self::Big(_) | Self::Float(_) => "a number",
            Self::Str(_) => "text",
            Self::Bin(_) => "bytes",
            Self::Moment(..) => "a time",
            Self::Extension(_) => "an extension type",
            Self::Array(_) => "an array",
            Self::Map(_) => "an object",
        }
    }
}

/// Decodes MessagePack maps for one event.
#[derive(Debug)]
pub struct MsgpackDecoder {
    projection: Arc<Projection>,
    rules: JsonRules,
    lists: Lists,
    found: Vec<Found>,
    seen: Vec<u64>,
    text: String,
}

impl MsgpackDecoder {
    /// A decoder of what the projection takes.
    pub fn new(projection: Arc<Projection>, rules: JsonRules) -> Self {
        let lists = Lists::new(projection.lists.len());
        Self { projection, rules, lists, found: Vec::new(), seen: Vec::new(), text: String::new() }
    }

    /// Sets the fields of the row that was begun in `into` from one map. On an error the caller rolls the row back.
    ///
    /// # Errors
    /// The bytes are no map, a member is unknown (pushes) or stands twice, or a value does not fit its field.
    pub fn fields(&mut self, bytes: &[u8], into: &mut RowsBuilder) -> Result<(), Box<BadRow>> {
        self.seen.clear();
        let projection = Arc::clone(&self.projection);
        if !projection.choices.is_empty() {
            self.found.clear();
            self.found.resize(projection.candidates.len(), Found::Missing);
        }
        let mut walk = Walk {
            bytes,
            pos: 0,
            rules: self.rules,
            codes: Codes::of_msgpack(into.strictness()),
            into,
            projection: &projection,
            lists: &mut self.lists,
            found: &mut self.found,
            seen: &mut self.seen,
            text: &mut self.text,
        };
        let codes = walk.codes;
        let Head::Map(count) = walk.head()? else {
            return Err(BadRow::new(codes.malformed, "", "the row is no msgpack map"));
        };
        walk.map(&projection.root, count, 1)?;
        let left = bytes.len() - walk.pos;
        if left > 0 {
            return Err(BadRow::new(codes.trailing, "", format!("{left} bytes are left behind the msgpack map")));
        }
        if projection.choices.is_empty() { Ok(()) } else { walk.choose() }
    }
}

/// One body on its way into one row.
struct Walk<'w> {
    bytes: &'w [u8],
    pos: usize,
    into: &'w mut RowsBuilder,
    rules: JsonRules,
    codes: Codes,
    projection: &'w Projection,
    lists: &'w mut Lists,
    found: &'w mut Vec<Found>,
    seen: &'w mut Vec<u64>,
    text: &'w mut String,
}

impl<'w> Walk<'w> {
    #[cold]
    fn malformed(&self, what: &str) -> Box<BadRow> {
        BadRow::new(self.codes.malformed, "", format!("{what} at byte {} of the msgpack body", self.pos))
    }

    #[cold]
    fn cell(&self, error: CellError) -> Box<BadRow> {
        BadRow::cell(error, self.into.schema())
    }

    fn take(&mut self, count: usize) -> Result<&'w [u8], Box<BadRow>> {
        let bytes = self.bytes;
        match self.pos.checked_add(count).and_then(|end| bytes.get(self.pos..end)) {
            Some(taken) => {
                self.pos += count;
                Ok(taken)
            }
            None => Err(self.malformed("the body ends early")),
        }
    }

    /// A big-endian unsigned number of 1 to 8 bytes.
    fn unsigned(&mut self, width: usize) -> Result<u64, Box<BadRow>> {
        Ok(self.take(width)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn signed(&mut self, width: usize) -> Result<i64, Box<BadRow>> {
        let shift = 64 - 8 * width;
        Ok((self.unsigned(width)? << shift).cast_signed() >> shift)
    }

    /// Text of this many bytes, its control characters checked.
    fn str(&mut self, len: u64) -> Result<Head<'w>, Box<BadRow>> {
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        let Ok(text) = std::str::from_utf8(bytes) else { return Err(self.malformed("text that is no UTF-8 ends")) };
        if self.rules.refuse_control && text.chars().any(char::is_control) {
            let reason = format!("a string that ends at byte {} holds a control character", self.pos);
            return Err(BadRow::new(Code::ControlCharacterInString, "", reason));
        }
        Ok(Head::Str(text))
    }

    fn bin(&mut self, len: u64) -> Result<Head<'w>, Box<BadRow>> {
        self.take(usize::try_from(len).unwrap_or(usize::MAX)).map(Head::Bin)
    }

    /// A container of this many values, each at least one byte.
    fn count(&self, count: u64, values: u64) -> Result<u32, Box<BadRow>> {
        let left = (self.bytes.len() - self.pos) as u64;
        match u32::try_from(count) {
            Ok(count) if u64::from(count) * values <= left => Ok(count),
            _ => Err(self.malformed("a container larger than the body")),
        }
    }

    fn head(&mut self) -> Result<Head<'w>, Box<BadRow>> {
        let Some(&mark) = self.bytes.get(self.pos) else { return Err(self.malformed("the body ends early")) };
        self.pos += 1;
        Ok(match mark {
            0x00..=0x7F => Head::Int(i64::from(mark)),
            0x80..=0x8F => Head::Map(self.count(u64::from(mark & 15), 2)?),
            0x90..=0x9F => Head::Array(self.count(u64::from(mark & 15), 1)?),
            0xA0..=0xBF => self.str(u64::from(mark & 31))?,
            0xC0 => Head::Nil,
            0xC2 => Head::Bool(false),
            0xC3 => Head::Bool(true),
            0xC4..=0xC6 => {
                let len = self.unsigned(1 << (mark - 0xC4))?;
                self.bin(len)?
            }
            0xCA => Head::Float(f64::from(f32::from_bits(u32::try_from(self.unsigned(4)?).unwrap_or(0)))),
            0xCB => Head::Float(f64::from_bits(self.unsigned(8)?)),
            0xCC..=0xCF => {
                let number = self.unsigned(1 << (mark - 0xCC))?;
                i64::try_from(number).map_or(Head::Big(number), Head::Int)
            }
            0xD0..=0xD3 => Head::Int(self.signed(1 << (mark - 0xD0))?),
            0xD9..=0xDB => {
                let len = self.unsigned(1 << (mark - 0xD9))?;
                self.str(len)?
            }
            0xDC..=0xDD => {
                let count = self.unsigned(2 << (mark - 0xDC))?;
                Head::Array(self.count(count, 1)?)
            }
            0xDE..=0xDF => {
                let count = self.unsigned(2 << (mark - 0xDE))?;
                Head::Map(self.count(count, 2)?)
            }
            0xC7..=0xC9 => {
                let len = self.unsigned(1 << (mark - 0xC7))?;
                self.extension(len)?
            }
            0xD4..=0xD8 => self.extension(1 << (mark - 0xD4))?,
            0xC1 => return Err(self.malformed("a reserved type")),
            0xE0..=0xFF => Head::Int(i64::from(mark.cast_signed())),
        })
    }

    /// An extension of this many bytes behind its type.
    fn extension(&mut self, len: u64) -> Result<Head<'w>, Box<BadRow>> {
        let kind = self.take(1)?.first().map_or(0, |byte| byte.cast_signed());
        let bytes = self.take(usize::try_from(len).unwrap_or(usize::MAX))?;
        if kind != TIMESTAMP {
            return Ok(Head::Extension(kind));
        }
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        let (seconds, nanos) = match bytes.len() {
            4 => (number(bytes).cast_signed(), 0),
            8 => ((number(bytes) & ((1 << 34) - 1)).cast_signed(), number(bytes) >> 34),
            12 => (number(&bytes[4..]).cast_signed(), number(&bytes[..4])),
            _ => return Err(self.malformed("a timestamp that has neither 4 nor 8 nor 12 bytes ends")),
        };
        let (Ok(nanos @ 0..1_000_000_000), true) = (i64::try_from(nanos), SECONDS.contains(&seconds)) else {
            let reason = format!("a timestamp of {seconds} s and {nanos} ns is none of the years 0001 to 9999");
            return Err(BadRow::new(self.codes.range, "", reason));
        };
        Ok(Head::Moment(seconds * 1_000 + nanos / 1_000_000, seconds * 1_000_000 + nanos / 1_000))
    }

    /// A key, as the member that it names; none where it can name none. Then the value is to be passed over.
    fn name<'n>(&mut self, depth: u32, digits: &'n mut itoa::Buffer) -> Result<Option<&'n str>, Box<BadRow>>
    where
        'w: 'n,
    {
        Ok(match self.head()? {
            Head::Str(name) => Some(name),
            Head::Int(number) => Some(digits.format(number)),
            Head::Big(number) => Some(digits.format(number)),
            Head::Bin(bytes) => std::str::from_utf8(bytes).ok(),
            head => {
                self.skip_inside(head, depth)?;
                None
            }
        })
    }

    fn check_depth(&self, depth: u32) -> Result<(), Box<BadRow>> {
        let most = self.rules.depth_max.min(128);
        if depth > most {
            return Err(BadRow::new(self.codes.shape, "", format!("nested deeper than {most} at byte {}", self.pos)));
        }
        Ok(())
    }

    fn map(&mut self, node: &Node, count: u32, depth: u32) -> Result<(), Box<BadRow>> {
        self.check_depth(depth)?;
        let seen_base = self.seen.len();
        self.seen.resize(seen_base + node.members.len().div_ceil(64), 0);
        let mut expected = 0;
        for _ in 0..count {
            let mut digits = itoa::Buffer::new();
            let Some(name) = self.name(depth, &mut digits)? else {
                if self.rules.unknown == UnknownFields::Refuse && depth == 1 {
                    return Err(self.malformed("a member name that is no text ends"));
                }
                self.skip(depth)?;
                continue;
            };
            let Some(index) = node.find(name, expected) else {
                if self.rules.unknown == UnknownFields::Refuse && depth == 1 {
                    let event = &self.into.schema().name;
                    return Err(BadRow::new(unknown_code(name), name, format!("event {event} has no field \"{name}\"")));
                }
                self.skip(depth)?;
                continue;
            };
            let (slot, bit) = (seen_base + index / 64, 1u64 << (index % 64));
            if self.seen[slot] & bit != 0 {
                return Err(BadRow::new(self.codes.shape, name, format!("member \"{name}\" stands twice")));
            }
            self.seen[slot] |= bit;
            self.value(&node.members[index].node, depth)?;
            expected = index + 1;
        }
        if !self.lists.is_empty() {
            for (index, member) in node.members.iter().enumerate() {
                if self.seen[seen_base + index / 64] >> (index % 64) & 1 == 0 {
                    absent_in_list(&member.node, self.lists);
                }
            }
        }
        self.seen.truncate(seen_base);
        Ok(())
    }

    fn value(&mut self, node: &Node, depth: u32) -> Result<(), Box<BadRow>> {
        let start = self.pos;
        for &target in &node.targets {
            self.pos = start;
            let head = self.head()?;
            match target {
                Target::Candidate(candidate) => {
                    let found = match head {
                        Head::Nil => Found::Null,
                        _ => Found::At(Place { pos: start, depth, op: 0 }),
                    };
                    self.pos = start;
                    self.skip(depth)?;
                    self.found[usize::from(candidate)] = found;
                }
                Target::Field(field) => self.field(field, head, depth)?,
                Target::List(slot) => {
                    self.text.clear();
                    self.render(head, depth)?;
                    if let Some(list) = self.lists.element(slot) {
                        list.push_str(self.text);
                    }
                }
            }
        }
        if !node.looks_inside() {
            return Ok(());
        }
        self.pos = start;
        match (self.head()?, &node.items) {
            (head @ Head::Map(count), items) if !node.members.is_empty() => {
                if items.is_some() {
                    self.misfits(&node.of_items(), head, "an array")?;
                }
                self.map(node, count, depth + 1)
            }
            (head @ Head::Array(count), Some(items)) => {
                if !node.members.is_empty() {
                    self.misfits(&node.of_members(), head, "an object")?;
                }
                self.array(node, items, count, depth + 1)
            }
            (Head::Nil, _) => {
                let (into, lists, found) = (&mut *self.into, &mut *self.lists, &mut *self.found);
                node.each_inside(&mut |target| null(target, into, lists, found));
                Ok(())
            }
            (head, _) => {
                self.pos = start;
                self.skip(depth)?;
                self.misfits(&node.of_items(), head, "an array")?;
                self.misfits(&node.of_members(), head, "an object")
            }
        }
    }

    fn misfits(&mut self, targets: &[Target], head: Head<'_>, wanted: &'static str) -> Result<(), Box<BadRow>> {
        misfits(targets, head.noun(), wanted, self.projection, self.found).map_err(|(field, misfit)| self.refused(field, misfit))
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
                    self.pos = place.pos;
                    let head = self.head()?;
                    self.field(choice.field, head, place.depth)?;
                }
                Found::List(slot) => self.into.json(choice.field, self.lists.text(slot)).map_err(|error| self.cell(error))?,
                Found::Misfit(misfit) => return Err(self.refused(choice.field, misfit)),
                Found::Null => self.into.null(choice.field),
                Found::Missing => {}
            }
        }
        Ok(())
    }

    fn array(&mut self, node: &Node, items: &Node, count: u32, depth: u32) -> Result<(), Box<BadRow>> {
        self.check_depth(depth)?;
        for &(slot, _) in &node.opens {
            self.lists.open(slot);
        }
        for _ in 0..count {
            self.value(items, depth)?;
        }
        for &(slot, taker) in &node.opens {
            close(slot, taker, self.into, self.lists, self.found).map_err(|error| self.cell(error))?;
        }
        Ok(())
    }

    fn field(&mut self, field: FieldIndex, head: Head<'w>, depth: u32) -> Result<(), Box<BadRow>> {
        let set = match head {
            Head::Nil => {
                self.into.null(field);
                Ok(())
            }
            Head::Bool(truth) => self.into.bool(field, truth),
            Head::Int(number) => self.into.int(field, number),
            #[expect(clippy::cast_precision_loss, reason = "an integer beyond i64 is the nearest double, as documented")]
            Head::Big(number) => self.into.big_int(field, number as f64, &number.to_string()),
            Head::Float(number) => self.into.float(field, number),
            Head::Str(text) => self.into.str(field, text),
            Head::Bin(bytes) => self.into.bytes(field, bytes),
            Head::Moment(time_ms, time_us) => self.into.instant(field, time_ms, time_us),
            Head::Extension(kind) => return Err(self.unknown_extension(field, kind)),
            Head::Array(_) | Head::Map(_) => {
                self.text.clear();
                self.render(head, depth)?;
                self.into.json(field, self.text)
            }
        };
        set.map_err(|error| self.cell(error))
    }

    /// Appends a value as JSON to `text`. Recurses, bounded by the depth limit.
    fn render(&mut self, head: Head<'w>, depth: u32) -> Result<(), Box<BadRow>> {
        match head {
            Head::Nil => self.text.push_str("null"),
            Head::Bool(truth) => self.text.push_str(if truth { "true" } else { "false" }),
            Head::Int(number) => text::push_int(self.text, number),
            Head::Big(number) => self.text.push_str(&number.to_string()),
            Head::Float(number) if number.is_finite() => text::push_float(self.text, number),
            Head::Float(_) => return Err(BadRow::new(self.codes.range, "", format!("the number before byte {} is not finite", self.pos))),
            Head::Str(value) => text::push_string(self.text, value),
            Head::Bin(bytes) => {
                self.text.push('"');
                base64::engine::general_purpose::STANDARD.encode_string(bytes, self.text);
                self.text.push('"');
            }
            Head::Moment(time_ms, _) => text::push_int(self.text, time_ms),
            Head::Extension(kind) => {
                return Err(BadRow::new(self.codes.mismatch, "", format!("{}, before byte {}", foreign(kind), self.pos)));
            }
            Head::Array(count) => {
                self.check_depth(depth + 1)?;
                self.text.push('[');
                for index in 0..count {
                    if index > 0 {
                        self.text.push(',');
                    }
                    let head = self.head()?;
                    self.render(head, depth + 1)?;
                }
                self.text.push(']');
            }
            Head::Map(count) => {
                self.check_depth(depth + 1)?;
                self.text.push('{');
                for index in 0..count {
                    if index > 0 {
                        self.text.push(',');
                    }
                    self.render_key(depth + 1)?;
                    self.text.push(':');
                    let head = self.head()?;
                    self.render(head, depth + 1)?;
                }
                self.text.push('}');
            }
        }
        Ok(())
    }

    /// Appends a key: text as it is, what else it may be as its JSON text in quotes.
    fn render_key(&mut self, depth: u32) -> Result<(), Box<BadRow>> {
        match self.head()? {
            Head::Str(name) => text::push_string(self.text, name),
            head @ Head::Bin(bytes) => match std::str::from_utf8(bytes) {
                Ok(name) => text::push_string(self.text, name),
                Err(_) => self.render(head, depth)?,
            },
            head => {
                let start = self.text.len();
                self.render(head, depth)?;
                let key = self.text.split_off(start);
                text::push_string(self.text, &key);
            }
        }
        Ok(())
    }

    #[cold]
    fn unknown_extension(&self, field: FieldIndex, kind: i8) -> Box<BadRow> {
        let schema = self.into.schema();
        let name = schema.fields.get(usize::from(field.0)).map(|field| &*field.name).unwrap_or_default();
        let reason = format!("field \"{name}\" of {}: the record has {}", schema.name, foreign(kind));
        BadRow::new(self.codes.mismatch, name, reason)
    }

    fn skip(&mut self, depth: u32) -> Result<(), Box<BadRow>> {
        let head = self.head()?;
        self.skip_inside(head, depth)
    }

    /// Passes over what a container holds; anything else is behind us with its head.
    fn skip_inside(&mut self, head: Head<'w>, depth: u32) -> Result<(), Box<BadRow>> {
        match head {
            Head::Array(count) => {
                self.check_depth(depth + 1)?;
                for _ in 0..count {
                    self.skip(depth + 1)?;
                }
            }
            Head::Map(count) => {
                self.check_depth(depth + 1)?;
                for _ in 0..u64::from(count) * 2 {
                    self.skip(depth + 1)?;
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn foreign(kind: i8) -> String {
    format!("extension type {kind}, of which only -1, a timestamp, is known")
}
