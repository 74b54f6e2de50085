//! Protobuf values one by one: read by their form, and written as JSON where they are taken whole.
//!
//! JSON has the names of the `.proto` file, numbers as numbers (64-bit too), enums by symbol, bytes in base64,
//! timestamps in milliseconds. What has no presence is written with its default, what has one only where it is set.
//! Fields come in the order of their numbers, keys of a map in the order in which they first stand.

use super::run::DEPTH_MAX;
use super::schema::{Form, Known, MessageIndex, MessageShape, Shapes, Times, Unset};
use super::wire::{BYTES, Wire};
use crate::decode::error::BadRow;
use crate::decode::text::{push_float, push_int, push_string};
use crate::row::decimal as exact;
use base64::Engine as _;
use streamgauge_api::Code;

/// Seconds of the years 0001 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// Why a value is not rendered.
pub(super) enum Fault {
    Bad(Box<BadRow>),
    /// A message stands twice in one field.
    Merge(Box<BadRow>),
}

impl Fault {
    /// The row's error; a merge is noted.
    pub(super) fn of(self, merge: &mut bool) -> Box<BadRow> {
        match self {
            Self::Bad(bad) => bad,
            Self::Merge(bad) => {
                *merge = true;
                bad
            }
        }
    }
}

impl From<Box<BadRow>> for Fault {
    fn from(bad: Box<BadRow>) -> Self {
        Self::Bad(bad)
    }
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    Int(i64),
    /// Beyond i64.
    Big(u64),
    Float(f64),
    Bool(bool),
    Str(&'a str),
    Bytes(&'a [u8]),
    Enum(i32, Option<&'a str>),
    /// Milliseconds, microseconds.
    Moment(i64, i64),
    Decimal(&'a str),
    Json(&'a str),
}

impl<'a> Value<'a> {
    /// What stands for a value that was not written; none for null.
    pub(super) fn of(unset: &'a Unset, shapes: &'a Shapes, form: Form) -> Option<Self> {
        Some(match unset {
            Unset::Null | Unset::Required => return None,
            Unset::Int(number) => Self::Int(*number),
            Unset::Double(number) => Self::Float(*number),
            Unset::Bool(truth) => Self::Bool(*truth),
            Unset::Text(text) => Self::Str(text),
            Unset::Bytes(bytes) => Self::Bytes(bytes),
            Unset::Enum(number) => Self::Enum(*number, if let Form::Enum(of) = form { shapes.symbol(of, *number) } else { None }),
        })
    }

    /// Appends it as JSON.
    pub(super) fn push(self, out: &mut String) -> Result<(), Box<BadRow>> {
        match self {
            Self::Int(number) | Self::Moment(number, _) => push_int(out, number),
            Self::Big(number) => out.push_str(&number.to_string()),
            Self::Float(number) if number.is_finite() => push_float(out, number),
            Self::Float(_) => return Err(BadRow::new(Code::DecodeOutOfRange, "", "a number that is not finite".to_owned())),
            Self::Bool(truth) => out.push_str(if truth { "true" } else { "false" }),
            Self::Str(text) | Self::Enum(_, Some(text)) => push_string(out, text),
            Self::Enum(number, None) => push_int(out, number.into()),
            Self::Bytes(bytes) => {
                out.push('"');
                base64::engine::general_purpose::STANDARD.encode_string(bytes, out);
                out.push('"');
            }
            Self::Decimal(text) | Self::Json(text) => out.push_str(text),
        }
        Ok(())
    }
}

/// Reads a value that is no message.
#[inline]
pub(super) fn scalar<'v, 's: 'v, 'w: 'v>(shapes: &'s Shapes, form: Form, from: &mut Wire<'w>) -> Result<Value<'v>, Box<BadRow>> {
    let zigzag = |number: u64| (number >> 1).cast_signed() ^ -(number & 1).cast_signed();
    // The low half counts: negative numbers are written with ten bytes.
    #[expect(clippy::cast_possible_truncation, reason = "as the encoding says")]
    let low = |number: u64| number as u32;
    Ok(match form {
        Form::Double => Value::Float(f64::from_le_bytes(from.eight()?)),
        Form::Float => Value::Float(f32::from_le_bytes(from.four()?).into()),
        Form::Int32 => Value::Int(low(from.varint()?).cast_signed().into()),
        Form::Int64 => Value::Int(from.varint()?.cast_signed()),
        Form::UInt32 => Value::Int(low(from.varint()?).into()),
        Form::UInt64 => large(from.varint()?),
        Form::SInt32 => Value::Int(zigzag(low(from.varint()?).into())),
        Form::SInt64 => Value::Int(zigzag(from.varint()?)),
        Form::Fixed32 => Value::Int(u32::from_le_bytes(from.four()?).into()),
        Form::Fixed64 => large(u64::from_le_bytes(from.eight()?)),
        Form::SFixed32 => Value::Int(i32::from_le_bytes(from.four()?).into()),
        Form::SFixed64 => Value::Int(i64::from_le_bytes(from.eight()?)),
        Form::Bool => Value::Bool(from.varint()? != 0),
        Form::String => match std::str::from_utf8(from.bytes()?) {
            Ok(text) => Value::Str(text),
            Err(_) => return Err(from.malformed("text that is no UTF-8 ends")),
        },
        Form::Bytes => Value::Bytes(from.bytes()?),
        Form::Enum(of) => {
            let number = low(from.varint()?).cast_signed();
            Value::Enum(number, shapes.symbol(of, number))
        }
        Form::Message(_) => unreachable!("a message is no scalar"),
    })
}

fn large<'a>(number: u64) -> Value<'a> {
    i64::try_from(number).map_or(Value::Big(number), Value::Int)
}

/// What a scalar without a declared default is.
pub(super) fn zero(shapes: &Shapes, form: Form) -> Value<'_> {
    match form {
        Form::Double | Form::Float => Value::Float(0.0),
        Form::Bool => Value::Bool(false),
        Form::String => Value::Str(""),
        Form::Bytes => Value::Bytes(&[]),
        Form::Enum(of) => Value::Enum(0, shapes.symbol(of, 0)),
        _ => Value::Int(0),
    }
}

/// Where the last value of a field stands in a message.
pub(super) fn last(field: u32, wanted: u8, from: &mut Wire<'_>) -> Result<Option<usize>, Box<BadRow>> {
    let mut place = None;
    while !from.at_end() {
        let (number, wire) = from.tag()?;
        if number == field && wire == wanted {
            place = Some(from.pos);
        }
        from.skip(wire)?;
    }
    Ok(place)
}

/// A timestamp in milliseconds and microseconds.
pub(super) fn timestamp(from: &mut Wire<'_>) -> Result<(i64, i64), Box<BadRow>> {
    let (mut seconds, mut nanos) = (0i64, 0i64);
    while !from.at_end() {
        match from.tag()? {
            (1, super::wire::VARINT) => seconds = from.varint()?.cast_signed(),
            #[expect(clippy::cast_possible_truncation, reason = "an int32, as the encoding says")]
            (2, super::wire::VARINT) => nanos = (from.varint()? as i32).into(),
            (_, wire) => from.skip(wire)?,
        }
    }
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        let reason = format!("a timestamp of {seconds} s and {nanos} ns is none of the years 0001 to 9999");
        return Err(BadRow::new(Code::DecodeOutOfRange, "", reason));
    }
    Ok((seconds * 1_000 + nanos / 1_000_000, seconds * 1_000_000 + nanos / 1_000))
}

/// The unscaled number and the scale of a decimal.
pub(super) fn decimal<'a>(from: &mut Wire<'a>) -> Result<(&'a [u8], i32), Box<BadRow>> {
    let (mut unscaled, mut scale) = (&[][..], 0);
    while !from.at_end() {
        match from.tag()? {
            (1, BYTES) => unscaled = from.bytes()?,
            #[expect(clippy::cast_possible_truncation, reason = "an int32, as the encoding says")]
            (3, super::wire::VARINT) => scale = from.varint()? as i32,
            (_, wire) => from.skip(wire)?,
        }
    }
    Ok((unscaled, scale))
}

/// Where key and value of an entry stand.
pub(super) fn entry(key: Form, value: Form, from: &mut Wire<'_>) -> Result<(Option<usize>, Option<usize>), Box<BadRow>> {
    let mut places = (None, None);
    while !from.at_end() {
        let (number, wire) = from.tag()?;
        match number {
            1 if wire == key.wire() => places.0 = Some(from.pos),
            2 if wire == value.wire() => places.1 = Some(from.pos),
            1 | 2 => return Err(from.malformed("an entry of a map with another wire type")),
            _ => {}
        }
        from.skip(wire)?;
    }
    Ok(places)
}

/// Appends an entry's key as text.
pub(super) fn key(form: Form, place: Option<usize>, from: &Wire<'_>, out: &mut String) -> Result<(), Box<BadRow>> {
    let none = Shapes::default();
    let value = match place {
        Some(place) => scalar(&none, form, &mut from.at(place))?,
        None => zero(&none, form),
    };
    match value {
        Value::Str(text) => out.push_str(text),
        other => other.push(out)?,
    }
    Ok(())
}

/// Appends a value of any form as JSON.
pub(super) fn value(shapes: &Shapes, form: Form, from: &mut Wire<'_>, out: &mut String, depth: u32) -> Result<(), Fault> {
    match form {
        Form::Message(index) => {
            let inside = from.inside()?;
            message(shapes, index, inside, out, depth + 1)
        }
        form => Ok(scalar(shapes, form, from)?.push(out)?),
    }
}

/// What was seen of a field.
enum Seen {
    Nothing,
    At(usize),
    Elements(String),
    Entries,
}

/// Appends a message as JSON.
pub(super) fn message(shapes: &Shapes, index: MessageIndex, from: Wire<'_>, out: &mut String, depth: u32) -> Result<(), Fault> {
    if depth > DEPTH_MAX {
        return Err(from.malformed(&format!("nesting deeper than {DEPTH_MAX}")).into());
    }
    let shape = shapes.message(index);
    let body = from;
    let mut from = from;
    match shape.known {
        Known::Timestamp => {
            push_int(out, timestamp(&mut from)?.0);
            return Ok(());
        }
        Known::Decimal => {
            let (unscaled, scale) = decimal(&mut from)?;
            if !exact::push_scaled(unscaled, scale, out) {
                return Err(
                    BadRow::new(Code::DecodeOutOfRange, "", format!("a decimal of {} bytes and scale {scale}", unscaled.len())).into()
                );
            }
            return Ok(());
        }
        Known::Wrapper => {
            let Some(field) = shape.field(1) else { unreachable!("a wrapper has a value") };
            return match last(1, field.form.wire(), &mut from)? {
                Some(place) => value(shapes, field.form, &mut from.at(place), out, depth),
                None => Ok(zero(shapes, field.form).push(out)?),
            };
        }
        Known::Plain => {}
    }
    let mut seen: Vec<Seen> = shape.fields.iter().map(|_| Seen::Nothing).collect();
    while !from.at_end() {
        let (number, wire) = from.tag()?;
        let Ok(at) = shape.fields.binary_search_by_key(&number, |field| field.number) else {
            from.skip(wire)?;
            continue;
        };
        let field = &shape.fields[at];
        let wanted = field.form.wire();
        if wire != wanted && !(field.times == Times::Repeated && wire == BYTES) {
            return Err(from.malformed(&format!("field {number} has wire type {wire}, its declaration wants {wanted},")).into());
        }
        match &field.times {
            Times::Once { oneof, .. } => {
                if let Seen::At(_) = seen[at]
                    && matches!(field.form, Form::Message(_))
                {
                    return Err(Fault::Merge(from.malformed("a message that is merged")));
                }
                if oneof.is_some() {
                    let same =
                        |other: &super::schema::FieldShape| matches!(other.times, Times::Once { oneof: other, .. } if other == *oneof);
                    shape.fields.iter().zip(&mut seen).filter(|(other, _)| same(other)).for_each(|(_, seen)| *seen = Seen::Nothing);
                }
                seen[at] = Seen::At(from.pos);
                from.skip(wire)?;
            }
            Times::Repeated => {
                if !matches!(seen[at], Seen::Elements(_)) {
                    seen[at] = Seen::Elements(String::new());
                }
                let Seen::Elements(text) = &mut seen[at] else { unreachable!("it was just set") };
                let mut push = |from: &mut Wire<'_>| {
                    text.push_str(if text.is_empty() { "" } else { "," });
                    value(shapes, field.form, from, text, depth)
                };
                if wire == wanted {
                    push(&mut from)?;
                } else {
                    let mut packed = from.inside()?;
                    while !packed.at_end() {
                        push(&mut packed)?;
                    }
                }
            }
            Times::Map => {
                seen[at] = Seen::Entries;
                from.skip(wire)?;
            }
        }
    }
    out.push('{');
    let mut first = true;
    for (field, seen) in shape.fields.iter().zip(&seen) {
        if let (Times::Once { unset: Unset::Null, .. }, Seen::Nothing) = (&field.times, seen) {
            continue;
        }
        out.push_str(if first { "" } else { "," });
        first = false;
        push_string(out, &field.name);
        out.push(':');
        match (seen, &field.times) {
            (Seen::At(place), _) => value(shapes, field.form, &mut from.at(*place), out, depth)?,
            (Seen::Elements(text), _) => {
                out.push('[');
                out.push_str(text);
                out.push(']');
            }
            (Seen::Entries, _) => {
                let Form::Message(entry) = field.form else { unreachable!("entries of maps are messages") };
                map(shapes, shapes.message(entry), field.number, body, out, depth)?;
            }
            (Seen::Nothing, Times::Repeated) => out.push_str("[]"),
            (Seen::Nothing, Times::Map) => out.push_str("{}"),
            (Seen::Nothing, Times::Once { unset, .. }) => match Value::of(unset, shapes, field.form) {
                Some(value) => value.push(out)?,
                None => return Err(from.malformed("a message without a field that it requires ends").into()),
            },
        }
    }
    out.push('}');
    Ok(())
}

/// Appends a map, which is field `number` of the body, as an object; true when it is empty.
pub(super) fn map(shapes: &Shapes, shape: &MessageShape, number: u32, body: Wire<'_>, out: &mut String, depth: u32) -> Result<bool, Fault> {
    let (Some(of_key), Some(of_value)) = (shape.field(1), shape.field(2)) else { unreachable!("entries have key and value") };
    let mut from = body;
    let mut entries: Vec<(String, Option<usize>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    while !from.at_end() {
        let (at, wire) = from.tag()?;
        if at != number {
            from.skip(wire)?;
            continue;
        }
        let mut inside = from.inside()?;
        let (name, value) = entry(of_key.form, of_value.form, &mut inside)?;
        let mut text = String::new();
        key(of_key.form, name, &inside, &mut text)?;
        let index = *places.entry(text.clone()).or_insert(entries.len());
        if index == entries.len() {
            entries.push((text, value));
        } else {
            entries[index].1 = value;
        }
    }
    out.push('{');
    for (index, (name, place)) in entries.iter().enumerate() {
        out.push_str(if index > 0 { "," } else { "" });
        push_string(out, name);
        out.push(':');
        match (place, of_value.form) {
            (Some(place), form) => value(shapes, form, &mut body.at(*place), out, depth)?,
            (None, Form::Message(_)) => value(shapes, of_value.form, &mut Wire::new(&[0]), out, depth)?,
            (None, form) => zero(shapes, form).push(out)?,
        }
    }
    out.push('}');
    Ok(entries.is_empty())
}
