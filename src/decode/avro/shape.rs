//! What a writer wrote where the event takes nothing, or takes it whole as JSON: the schema as an arena, walked by one function.
//!
//! One walk serves both: with a text it renders, without one it only checks. Named types stand once in the arena, so a recursive schema is a cycle of numbers; the
//! walk counts records, arrays and maps. What is rendered stops at 64; what is skipped goes on without calls.

use super::bytes::Bytes;
use crate::decode::error::BadRow;
use crate::decode::text;
use crate::row::{TimeUnit, decimal};
use base64::Engine as _;
use streamgauge_api::Code;

/// Deepest nesting of records, arrays and maps that is taken.
pub(super) const DEPTH_MAX: u32 = 64;

/// Open records and blocks that are skipped at most, once they are not walked by calls: 2.5 MB.
const SKIP_DEPTH_MAX: usize = 1 << 16;

/// Steps of a skip that take no bytes, at most; more than items that take none.
const IDLE_STEPS_MAX: u32 = 1 << 18;

/// Number of a shape in its arena.
pub(super) type ShapeIndex = u32;

/// How a decimal stands in the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DecimalForm {
    /// Length, then the number; the scale is the schema's.
    Bytes(usize),
    /// A number of this many bytes; the scale is the schema's.
    Fixed(usize, usize),
    /// Length, then the number with its length and its own scale.
    Big,
}

/// One node of a writer schema.
#[derive(Debug, Clone)]
pub(super) enum Shape {
    Null,
    Bool,
    Int,
    Long,
    /// An int: days since the epoch.
    Date,
    /// An int or a long: a time of day, which is no point in time.
    TimeInt,
    TimeLong,
    Time(TimeUnit),
    Float,
    Double,
    Bytes,
    String,
    Uuid,
    UuidFixed,
    Fixed(usize),
    Enum(Box<[Box<str>]>),
    Decimal(DecimalForm),
    Array(ShapeIndex),
    Map(ShapeIndex),
    Union(Box<[ShapeIndex]>),
    Record(Box<[(Box<str>, ShapeIndex)]>),
}

/// All shapes of one plan.
#[derive(Debug, Clone, Default)]
pub(super) struct Shapes {
    pub(super) all: Vec<Shape>,
    /// Whether a value of the shape takes no bytes.
    pub(super) free: Vec<bool>,
    /// Names of named types, for messages; empty for others.
    pub(super) names: Vec<Box<str>>,
}

impl Shapes {
    pub(super) fn is_free(&self, shape: ShapeIndex) -> bool {
        self.free.get(shape as usize).copied().unwrap_or(false)
    }

    pub(super) fn get(&self, shape: ShapeIndex) -> &Shape {
        self.all.get(shape as usize).unwrap_or(&Shape::Null)
    }

    /// What a message calls it.
    pub(super) fn noun(&self, shape: ShapeIndex) -> String {
        let kind = match self.get(shape) {
            Shape::Null => "null",
            Shape::Bool => "boolean",
            Shape::Int => "int",
            Shape::Long => "long",
            Shape::Date => "date",
            Shape::TimeInt | Shape::TimeLong => "time of day",
            Shape::Time(_) => "timestamp",
            Shape::Float => "float",
            Shape::Double => "double",
            Shape::Bytes => "bytes",
            Shape::String => "string",
            Shape::Uuid | Shape::UuidFixed => "uuid",
            Shape::Fixed(_) => "fixed",
            Shape::Enum(_) => "enum",
            Shape::Decimal(_) => "decimal",
            Shape::Array(_) => "array",
            Shape::Map(_) => "map",
            Shape::Union(_) => "union",
            Shape::Record(_) => "record",
        };
        match self.names.get(shape as usize) {
            Some(name) if !name.is_empty() => format!("{kind} {name}"),
            _ => kind.to_owned(),
        }
    }

    /// Walks one value; appends it as JSON when there is a text.
    pub(super) fn walk(
        &self,
        shape: ShapeIndex,
        from: &mut Bytes<'_>,
        mut out: Option<&mut String>,
        depth: u32,
    ) -> Result<(), Box<BadRow>> {
        match self.get(shape) {
            Shape::Null => put(out, "null"),
            Shape::Bool => put(out, if from.bool()? { "true" } else { "false" }),
            Shape::Int | Shape::Date | Shape::TimeInt => put_int(out, from.int()?),
            Shape::Long | Shape::TimeLong => put_int(out, from.long()?),
            Shape::Time(unit) => put_int(out, unit.to_millis(from.long()?)),
            Shape::Float => put_float(out, from.float()?, from)?,
            Shape::Double => put_float(out, from.double()?, from)?,
            Shape::Bytes => put_base64(out, from.bytes()?),
            Shape::Fixed(size) => put_base64(out, from.take(*size)?),
            Shape::String => put_string(out, from.str()?),
            Shape::Uuid => put_string(out, uuid(from)?),
            Shape::UuidFixed => {
                let bytes = from.take(16)?;
                if let Some(out) = out {
                    out.push('"');
                    push_uuid(bytes, out);
                    out.push('"');
                }
            }
            Shape::Enum(symbols) => {
                let index = from.index(u32::try_from(symbols.len()).unwrap_or(u32::MAX), "enum symbol")?;
                if let Some(symbol) = symbols.get(index) {
                    put_string(out, symbol);
                }
            }
            Shape::Decimal(form) => {
                let (unscaled, scale) = form.read(from)?;
                if let Some(out) = out
                    && !decimal::push_text(unscaled, scale, out)
                {
                    return Err(too_wide(from));
                }
            }
            Shape::Union(branches) => {
                let index = from.index(u32::try_from(branches.len()).unwrap_or(u32::MAX), "union branch")?;
                if let Some(&branch) = branches.get(index) {
                    self.walk(branch, from, out, depth)?;
                }
            }
            _ if depth >= DEPTH_MAX && out.is_none() && self.nests(shape) => return self.skip_deep(shape, from),
            Shape::Record(fields) => {
                let depth = deeper(depth, from)?;
                put(out.as_deref_mut(), "{");
                for (index, (name, field)) in fields.iter().enumerate() {
                    if let Some(out) = out.as_deref_mut() {
                        put(Some(out), if index > 0 { "," } else { "" });
                        text::push_string(out, name);
                        out.push(':');
                    }
                    self.walk(*field, from, out.as_deref_mut(), depth)?;
                }
                put(out, "}");
            }
            Shape::Array(item) => {
                let depth = deeper(depth, from)?;
                put(out.as_deref_mut(), "[");
                let mut first = true;
                self.items(*item, false, from, out.is_none(), &mut |from| {
                    put(out.as_deref_mut(), if first { "" } else { "," });
                    first = false;
                    self.walk(*item, from, out.as_deref_mut(), depth)
                })?;
                put(out, "]");
            }
            Shape::Map(value) => {
                let depth = deeper(depth, from)?;
                put(out.as_deref_mut(), "{");
                let mut first = true;
                self.items(*value, true, from, out.is_none(), &mut |from| {
                    let key = from.str()?;
                    if let Some(out) = out.as_deref_mut() {
                        put(Some(out), if first { "" } else { "," });
                        text::push_string(out, key);
                        out.push(':');
                    }
                    first = false;
                    self.walk(*value, from, out.as_deref_mut(), depth)
                })?;
                put(out, "}");
            }
        }
        Ok(())
    }

    fn nests(&self, shape: ShapeIndex) -> bool {
        matches!(self.get(shape), Shape::Record(_) | Shape::Array(_) | Shape::Map(_))
    }

    /// Skips a value that is nested deeper than is walked by calls. What is left to do stands on a heap of
    /// its own, one entry an open record or block; the last member of a record leaves none behind, so that
    /// a long chain takes no more than a short one.
    #[cold]
    fn skip_deep(&self, shape: ShapeIndex, from: &mut Bytes<'_>) -> Result<(), Box<BadRow>> {
        enum Left {
            Members(ShapeIndex, usize),
            Items { item: ShapeIndex, keyed: bool, left: u64, end: Option<usize> },
        }
        let mut stack: Vec<Left> = Vec::new();
        let mut next = Some(shape);
        // Values that take no bytes: a record that contains itself would go on for ever.
        let (mut idle, mut last) = (0u32, from.pos);
        loop {
            if from.pos == last {
                idle += 1;
            } else {
                (idle, last) = (0, from.pos);
            }
            if idle > IDLE_STEPS_MAX || stack.len() > SKIP_DEPTH_MAX {
                return Err(from.malformed(&format!("nesting deeper than {SKIP_DEPTH_MAX}")));
            }
            if let Some(shape) = next.take() {
                match self.get(shape) {
                    Shape::Record(_) => stack.push(Left::Members(shape, 0)),
                    &Shape::Array(item) => stack.push(Left::Items { item, keyed: false, left: 0, end: None }),
                    &Shape::Map(item) => stack.push(Left::Items { item, keyed: true, left: 0, end: None }),
                    Shape::Union(branches) => {
                        let index = from.index(u32::try_from(branches.len()).unwrap_or(u32::MAX), "union branch")?;
                        next = branches.get(index).copied();
                        continue;
                    }
                    _ => self.walk(shape, from, None, 1)?,
                }
            }
            match stack.pop() {
                None => return Ok(()),
                Some(Left::Members(record, at)) => {
                    let Shape::Record(fields) = self.get(record) else { unreachable!("members are left of records only") };
                    next = fields.get(at).map(|&(_, field)| field);
                    if at + 1 < fields.len() {
                        stack.push(Left::Members(record, at + 1));
                    }
                }
                Some(Left::Items { item, keyed, left: 0, end }) => {
                    if end.is_some_and(|end| end != from.pos) {
                        return Err(from.malformed("a block that is not as long as its size says ends"));
                    }
                    match from.block(!keyed && self.is_free(item))? {
                        (0, None) => {}
                        (_, Some(size)) => {
                            from.take(size)?;
                            stack.push(Left::Items { item, keyed, left: 0, end: None });
                        }
                        (left, None) => stack.push(Left::Items { item, keyed, left, end: None }),
                    }
                }
                Some(Left::Items { item, keyed, left, end }) => {
                    if keyed {
                        from.str()?;
                    }
                    stack.push(Left::Items { item, keyed, left: left - 1, end });
                    next = Some(item);
                }
            }
        }
    }

    /// Visits the items of an array (or, `keyed`, a map) block by block. A `skipping` visitor is not asked where the writer says how many bytes a block has.
    pub(super) fn items(
        &self,
        item: ShapeIndex,
        keyed: bool,
        from: &mut Bytes<'_>,
        skipping: bool,
        each: &mut dyn FnMut(&mut Bytes<'_>) -> Result<(), Box<BadRow>>,
    ) -> Result<(), Box<BadRow>> {
        let free = !keyed && self.is_free(item);
        loop {
            let (items, size) = from.block(free)?;
            if items == 0 && size.is_none() {
                return Ok(());
            }
            match size {
                Some(size) if skipping => {
                    from.take(size)?;
                }
                size => {
                    let start = from.pos;
                    for _ in 0..items {
                        each(from)?;
                    }
                    if size.is_some_and(|size| from.pos - start != size) {
                        return Err(from.malformed("a block that is not as long as its size says ends"));
                    }
                }
            }
        }
    }
}

impl DecimalForm {
    /// The unscaled number and the scale.
    pub(super) fn read<'a>(self, from: &mut Bytes<'a>) -> Result<(&'a [u8], usize), Box<BadRow>> {
        match self {
            Self::Bytes(scale) => Ok((from.bytes()?, scale)),
            Self::Fixed(size, scale) => Ok((from.take(size)?, scale)),
            Self::Big => {
                let mut inner = Bytes::new(from.bytes()?);
                let unscaled = inner.bytes()?;
                match usize::try_from(inner.long()?) {
                    Ok(scale) if inner.left() == 0 => Ok((unscaled, scale)),
                    _ => Err(from.malformed("a malformed big-decimal ends")),
                }
            }
        }
    }
}

pub(super) fn deeper(depth: u32, from: &Bytes<'_>) -> Result<u32, Box<BadRow>> {
    if depth >= DEPTH_MAX { Err(from.malformed(&format!("nesting deeper than {DEPTH_MAX}"))) } else { Ok(depth + 1) }
}

#[cold]
pub(super) fn too_wide(from: &Bytes<'_>) -> Box<BadRow> {
    BadRow::new(Code::DecodeOutOfRange, "", format!("the decimal that ends at byte {} is wider than 64 bytes", from.pos))
}

/// A uuid as text: hyphenated, or 32 hex digits.
pub(super) fn uuid<'a>(from: &mut Bytes<'a>) -> Result<&'a str, Box<BadRow>> {
    let text = from.str()?;
    let hyphenated = text.len() == 36;
    let sound = (hyphenated || text.len() == 32)
        && text.bytes().enumerate().all(
            |(at, byte)| {
                if hyphenated && matches!(at, 8 | 13 | 18 | 23) { byte == b'-' } else { byte.is_ascii_hexdigit() }
            },
        );
    if sound { Ok(text) } else { Err(from.malformed("text that is no uuid ends")) }
}

/// Appends a uuid of 16 bytes in its hyphenated form.
pub(super) fn push_uuid(bytes: &[u8], out: &mut String) {
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        for nibble in [byte >> 4, byte & 15] {
            out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0'));
        }
    }
}

fn put(out: Option<&mut String>, text: &str) {
    if let Some(out) = out {
        out.push_str(text);
    }
}

fn put_int(out: Option<&mut String>, number: i64) {
    if let Some(out) = out {
        text::push_int(out, number);
    }
}

fn put_float(out: Option<&mut String>, number: f64, from: &Bytes<'_>) -> Result<(), Box<BadRow>> {
    let Some(out) = out else { return Ok(()) };
    if !number.is_finite() {
        return Err(BadRow::new(Code::DecodeOutOfRange, "", format!("the number that ends at byte {} is not finite", from.pos)));
    }
    text::push_float(out, number);
    Ok(())
}

fn put_string(out: Option<&mut String>, value: &str) {
    if let Some(out) = out {
        text::push_string(out, value);
    }
}

fn put_base64(out: Option<&mut String>, bytes: &[u8]) {
    if let Some(out) = out {
        out.push('"');
        base64::engine::general_purpose::STANDARD.encode_string(bytes, out);
        out.push('"');
    }
}
