//! How a field's value may be written in a source's records, where the config says more than a path.
//!
//! Without a word of the config a value has the declared type or is refused: nothing is guessed. `from` declares that
//! numbers may be text, texts numbers, or that bytes stand in base64, `unit` and `zone` what a time counts and where
//! it was local, `on_bad_field` that a value which cannot be read is null. Pure: one value in, what the cell gets out;
//! [`RowsBuilder`](super::RowsBuilder) sets it. Asked only for fields that have a reading, so others pay nothing.

use super::schema::{FieldType, TimeUnit};
use super::time::{TIMES_MS, parse_local_us, parse_time_us};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::borrow::Cow;
use streamgauge_api::Code;

/// Base64 in the alphabet of JSON producers, with or without padding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&base64::alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Bytes of a number that is written as text, at most.
const NUMBER_TEXT_MAX: usize = 1_200;

/// What a value may be written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Written {
    /// As the declared type.
    #[default]
    Declared,
    /// A number; text and truth are made of it.
    Number,
    /// Text; numbers and truth are read from it.
    Text,
    /// A number or text.
    Any,
    /// Bytes, or their base64 text; numbers are read from it as Debezium writes decimals: unscaled, big-endian.
    Base64,
}

impl Written {
    /// Every word as a config has it.
    pub const NAMES: [&'static str; 4] = ["number", "text", "any", "base64"];

    /// The name; none where the config says nothing.
    pub fn word(self) -> Option<&'static str> {
        Some(match self {
            Self::Declared => return None,
            Self::Number => "number",
            Self::Text => "text",
            Self::Any => "any",
            Self::Base64 => "base64",
        })
    }

    /// The form of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "number" => Self::Number,
            "text" => Self::Text,
            "any" => Self::Any,
            "base64" => Self::Base64,
            _ => return None,
        })
    }
}

/// How one field is read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// What it is written as.
    pub written: Written,
    /// What the number of a time counts; milliseconds when nothing is said.
    pub unit: Option<TimeUnit>,
    /// Where texts without zone are local.
    pub zone: Option<jiff::tz::TimeZone>,
    /// Digits behind the point of a decimal in base64; below zero, zeroes in front of it.
    pub scale: Option<i32>,
    /// A value that cannot be read is null; else the record is bad.
    pub null_if_bad: bool,
}

impl Reading {
    /// What is wrong with it for a field of this type.
    pub fn unfit(&self, kind: FieldType, optional: bool) -> Option<String> {
        let of_time = kind == FieldType::Datetime;
        if self.unit.is_some() && !of_time {
            return Some(format!("unit is for datetime fields, this one is {}", kind.as_str()));
        }
        if self.zone.is_some() && !of_time {
            return Some(format!("zone is for datetime fields, this one is {}", kind.as_str()));
        }
        if self.scale.is_some() && self.written != Written::Base64 {
            return Some("scale is for from = \"base64\"".to_owned());
        }
        if self.written != Written::Declared && kind == FieldType::Json {
            return Some("a json field takes any value as it is: from has no effect".to_owned());
        }
        if self.null_if_bad && !optional {
            return Some(format!("on_bad_field = \"null\" needs a field that may be missing: {}?", kind.as_str()));
        }
        None
    }
}

/// A value as a record has it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Raw<'a> {
    Int(i64),
    Float(f64),
    /// A number with a fraction or exponent, as the nearest double and as it is written.
    Fraction(f64, &'a str),
    /// An integer beyond i64, with its digits.
    Big(f64, &'a str),
    /// An exact number as text.
    Decimal(&'a str),
    Bool(bool),
    Str(&'a str),
    Bytes(&'a [u8]),
    /// A time that says its own unit: milliseconds, microseconds.
    Moment(i64, i64),
    /// An object or array.
    Json(&'a str),
}

impl Raw<'_> {
    pub(super) fn noun(&self) -> &'static str {
        match self {
            Self::Int(_) | Self::Float(_) | Self::Fraction(..) | Self::Big(..) | Self::Decimal(_) => "a number",
            Self::Bool(_) => "a boolean",
            Self::Str(_) => "text",
            Self::Bytes(_) => "bytes",
            Self::Moment(..) => "a time",
            Self::Json(text) if text.starts_with('[') => "an array",
            Self::Json(_) => "an object",
        }
    }

    fn is_number(&self) -> bool {
        !matches!(self, Self::Bool(_) | Self::Str(_) | Self::Bytes(_) | Self::Json(_))
    }
}

/// What the cell gets.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Taken<'a> {
    /// The value as it is, by the rules of fields without a reading.
    Same,
    Int(i64),
    Float(f64),
    Bool(bool),
    Text(Cow<'a, str>),
    Bytes(Vec<u8>),
    Moment(i64, i64),
}

/// Why there is none: a code, and what the value is.
pub(super) type Unread = (Code, String);

fn mismatch<T>(what: impl Into<String>) -> Result<T, Unread> {
    Err((Code::DecodeTypeMismatch, what.into()))
}

fn range<T>(what: impl Into<String>) -> Result<T, Unread> {
    Err((Code::DecodeOutOfRange, what.into()))
}

/// Reads a value for a field of this type.
pub(super) fn read<'a>(reading: &Reading, kind: FieldType, raw: Raw<'a>) -> Result<Taken<'a>, Unread> {
    match (reading.written, &raw) {
        (Written::Base64, _) => return base64(reading, kind, raw),
        (Written::Number, raw) if !raw.is_number() => return mismatch(format!("{} where from = \"number\"", raw.noun())),
        (Written::Text, raw) if !matches!(raw, Raw::Str(_) | Raw::Bytes(_)) => {
            return mismatch(format!("{} where from = \"text\"", raw.noun()));
        }
        _ => {}
    }
    let loose = reading.written != Written::Declared;
    let raw = match raw {
        Raw::Fraction(_, text) if loose && kind == FieldType::Str || kind == FieldType::I64 => return decimal(text, kind),
        Raw::Fraction(number, _) => Raw::Float(number),
        raw => raw,
    };
    match (raw, kind) {
        (Raw::Int(number), FieldType::Datetime) => match reading.unit {
            Some(unit) => instant(unit.to_us(number), number),
            None => Ok(Taken::Same),
        },
        (Raw::Float(number), FieldType::Datetime) => match reading.unit {
            Some(unit) => instant(unit.to_us_from(number), number),
            None => Ok(Taken::Same),
        },
        (Raw::Str(text), FieldType::Datetime) => time_text(reading, text),
        (Raw::Decimal(text), kind) => decimal(text, kind),
        (Raw::Int(number), FieldType::Str) if loose => Ok(Taken::Text(number.to_string().into())),
        (Raw::Float(number), FieldType::Str) if loose && number.is_finite() => {
            Ok(Taken::Text(ryu::Buffer::new().format_finite(number).to_owned().into()))
        }
        (Raw::Big(_, text), FieldType::Str) if loose => Ok(Taken::Text(text.into())),
        (Raw::Int(number @ (0 | 1)), FieldType::Bool) if loose => Ok(Taken::Bool(number == 1)),
        (Raw::Str(text), FieldType::I64 | FieldType::F64) if loose => number(text, kind),
        (Raw::Str(text), FieldType::Bool) if loose => match text {
            "true" => Ok(Taken::Bool(true)),
            "false" => Ok(Taken::Bool(false)),
            _ => mismatch("text that is neither true nor false"),
        },
        _ => Ok(Taken::Same),
    }
}

fn instant<'a>(us: i64, number: impl std::fmt::Display) -> Result<Taken<'a>, Unread> {
    let ms = us.div_euclid(1000);
    if TIMES_MS.contains(&ms) { Ok(Taken::Moment(ms, us)) } else { range(format!("{number}, which is no time of the years 0001 to 9999")) }
}

/// A time as text: with its own zone, local in the declared one, or a number.
fn time_text<'a>(reading: &Reading, text: &str) -> Result<Taken<'a>, Unread> {
    match (parse_time_us(text), &reading.zone) {
        (Ok(us), _) if !is_date(text) => instant(us, text),
        // A date alone is midnight there.
        (_, Some(zone)) if parse_local_us(text, zone).is_some() => instant(parse_local_us(text, zone).unwrap_or_default(), text),
        (Ok(us), None) => instant(us, text),
        (Ok(_), Some(_)) => range("a date that the zone does not have"),
        (Err(why), _) => match (text.parse::<i64>(), text.parse::<f64>(), reading.unit) {
            (Ok(number), _, Some(unit)) => instant(unit.to_us(number), number),
            (Ok(number), _, None) => Ok(Taken::Int(number)),
            (_, Ok(number), Some(unit)) if number.is_finite() => instant(unit.to_us_from(number), number),
            (_, Ok(number), None) if number.is_finite() => Ok(Taken::Float(number)),
            _ => mismatch(why),
        },
    }
}

fn is_date(text: &str) -> bool {
    text.len() == 10
}

/// A number that is written as text, exactly.
fn number<'a>(text: &str, kind: FieldType) -> Result<Taken<'a>, Unread> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let sound = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'-' | b'+'));
    if !sound || text.len() > NUMBER_TEXT_MAX {
        return mismatch("text that is no number");
    }
    decimal(text, kind)
        .map_err(|(code, what)| (code, if code == Code::DecodeOutOfRange { what } else { "text that is no number".to_owned() }))
}

/// An exact number into a field of this type.
fn decimal<'a>(text: &str, kind: FieldType) -> Result<Taken<'a>, Unread> {
    match kind {
        FieldType::Str => Ok(Taken::Text(text.to_owned().into())),
        FieldType::I64 => {
            if let Ok(whole) = text.parse::<i64>() {
                return Ok(Taken::Int(whole));
            }
            match (super::decimal::exact_integer(text), text.parse::<f64>()) {
                (Some(whole), _) => Ok(Taken::Int(whole)),
                (None, Ok(0.0)) if text.bytes().all(|byte| !matches!(byte, b'1'..=b'9')) => Ok(Taken::Int(0)),
                (None, Ok(number)) if number.abs() < 9.3e18 && !text.contains(['e', 'E']) && text.contains('.') => {
                    range(format!("the fraction {text}"))
                }
                (None, Ok(_)) => range(text),
                (None, Err(_)) => mismatch("text that is no number"),
            }
        }
        FieldType::F64 => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Taken::Float(number)),
            Ok(_) => range(text),
            Err(_) => mismatch("text that is no number"),
        },
        FieldType::Json => match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Taken::Float(number)),
            _ => range(text),
        },
        FieldType::Bool | FieldType::Bytes | FieldType::Datetime => mismatch("a number"),
    }
}

/// Bytes in base64, and decimals in them.
fn base64<'a>(reading: &Reading, kind: FieldType, raw: Raw<'a>) -> Result<Taken<'a>, Unread> {
    let decoded = |text: &str| BASE64.decode(text).or_else(|_| mismatch("text that is no base64"));
    let (bytes, scale) = match raw {
        Raw::Str(text) => (decoded(text)?, reading.scale),
        Raw::Bytes(bytes) => (bytes.to_vec(), reading.scale),
        // Debezium's decimals of a scale of their own.
        Raw::Json(text) => match serde_json::from_str::<VariableScale<'_>>(text) {
            Ok(VariableScale { scale, value }) => (decoded(&value)?, Some(scale)),
            Err(_) => return mismatch(format!("{} where from = \"base64\"", raw.noun())),
        },
        _ => return mismatch(format!("{} where from = \"base64\"", raw.noun())),
    };
    match (kind, scale) {
        (FieldType::Bytes, None) => Ok(Taken::Bytes(bytes)),
        (FieldType::Str, None) => match String::from_utf8(bytes) {
            Ok(text) => Ok(Taken::Text(text.into())),
            Err(_) => mismatch("bytes that are no UTF-8"),
        },
        (FieldType::Str | FieldType::I64 | FieldType::F64, Some(scale)) => {
            let mut text = String::new();
            if bytes.is_empty() || !super::decimal::push_scaled(&bytes, scale, &mut text) {
                return range(format!("a decimal of {} bytes and scale {scale}", bytes.len()));
            }
            decimal(&text, kind)
        }
        (FieldType::I64 | FieldType::F64, None) => mismatch("a decimal whose scale the config does not say"),
        _ => mismatch("bytes"),
    }
}

#[derive(serde::Deserialize)]
struct VariableScale<'a> {
    scale: i32,
    #[serde(borrow)]
    value: Cow<'a, str>,
}
