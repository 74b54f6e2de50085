//! Values as readers see them, and their JSON and MessagePack text.
//!
//! One encoding for every door: a float always shows a fraction or an exponent (`18.0`), a non-finite float is `null`, a datetime is
//! integer milliseconds, bytes are `bin` in MessagePack and base64 text (RFC 4648, padded) in JSON, as inside of a json value.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::sync::Arc;

/// One feature's value, or one part of it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Value {
    /// No value.
    #[default]
    Null,
    /// A boolean.
    Bool(bool),
    /// A 64-bit integer.
    I64(i64),
    /// A double; written as `null` when it is not finite.
    F64(f64),
    /// Text.
    Str(Box<str>),
    /// Bytes; base64 text in JSON, `bin` in MessagePack.
    Bytes(Box<[u8]>),
    /// Milliseconds since the Unix epoch.
    Datetime(i64),
    /// A JSON object or array, verbatim.
    Json(Box<str>),
    /// An ordered list.
    List(Vec<Value>),
    /// A map, already in key order.
    Map(Vec<(Box<str>, Value)>),
}

/// Names of a table's features in alphabetical order, shared by all replies that carry whole rows.
pub type Names = Arc<[Box<str>]>;

/// Appends `value` as JSON.
pub fn write_json(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bytes(bytes) => write_base64(out, bytes),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::I64(number) | Value::Datetime(number) => write_i64(out, *number),
        Value::F64(number) => write_f64(out, *number),
        Value::Str(text) => write_str(out, text),
        Value::Json(text) => out.extend_from_slice(text.as_bytes()),
        Value::List(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_json(out, item);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            out.push(b'{');
            for (index, (name, item)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write_str(out, name);
                out.push(b':');
                write_json(out, item);
            }
            out.push(b'}');
        }
    }
}

/// Bytes of [`Value::Bytes`] in JSON, quotes included.
pub fn base64_len(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4 + 2
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    let start = out.len();
    out.resize(start + base64_len(bytes.len()), b'"');
    let end = out.len() - 1;
    match STANDARD.encode_slice(bytes, &mut out[start + 1..end]) {
        Ok(written) => assert_eq!(written, end - start - 1, "the length of base64 text is known beforehand"),
        Err(error) => unreachable!("the text was given its room: {error}"),
    }
}

/// Appends an integer.
pub fn write_i64(out: &mut Vec<u8>, number: i64) {
    use std::io::Write;
    let mut text = [0u8; 20];
    let mut rest = &mut text[..];
    // A 20-byte buffer holds every i64.
    let _fits = write!(rest, "{number}").is_ok();
    let left = rest.len();
    out.extend_from_slice(&text[..20 - left]);
}

/// Appends a double: shortest text that reads back equal, with a fraction or an exponent; `null` when it is not finite.
pub fn write_f64(out: &mut Vec<u8>, number: f64) {
    match serde_json::Number::from_f64(number) {
        Some(finite) => out.extend_from_slice(finite.to_string().as_bytes()),
        None => out.extend_from_slice(b"null"),
    }
}

/// Appends a JSON string with its quotes.
pub fn write_str(out: &mut Vec<u8>, text: &str) {
    let plain = !text.bytes().any(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
    if plain {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        // Writing into a Vec cannot fail.
        let _written = serde_json::to_writer(out, text).is_ok();
    }
}

impl Value {
    /// The value as a `serde_json` tree, for documents that are built as trees anyway.
    pub fn to_json(&self) -> serde_json::Value {
        let mut text = Vec::new();
        write_json(&mut text, self);
        serde_json::from_slice(&text).unwrap_or(serde_json::Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(value: &Value) -> String {
        let mut out = Vec::new();
        write_json(&mut out, value);
        String::from_utf8(out).unwrap_or_default()
    }

    #[test]
    fn values_have_one_json_text() {
        for (value, text) in [
            (Value::Null, "null"),
            (Value::F64(18.0), "18.0"),
            (Value::F64(f64::NAN), "null"),
            (Value::F64(1e300), "1e+300"),
            (Value::I64(i64::MIN), "-9223372036854775808"),
            (Value::Datetime(7), "7"),
            (Value::Bytes(Box::new([])), "\"\""),
            (Value::Bytes(Box::new([1])), "\"AQ==\""),
            (Value::Bytes(Box::new([0xFF, 0xFE, 0])), "\"//4A\""),
            (Value::List(vec![Value::Bytes(Box::new([1, 2])), Value::Null]), "[\"AQI=\",null]"),
            (Value::Str("a\"\n".into()), r#""a\"\n""#),
            (Value::Json("{\"b\":1}".into()), "{\"b\":1}"),
            (Value::List(vec![Value::Bool(true), Value::I64(1)]), "[true,1]"),
            (Value::Map(vec![("k".into(), Value::F64(0.5))]), r#"{"k":0.5}"#),
        ] {
            assert_eq!(json(&value), text);
        }
    }
}
