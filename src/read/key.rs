//! Keys as clients write them: strings, numbers, booleans, arrays, path segments; and back to JSON for key listings.

use crate::pipeline::{KeyColumn, KeyKind};
use crate::row::{KEY_BYTES_MAX, Key, key};
use serde_json::Value as Json;
use streamgauge_api::port::KeyText;

/// Why a key does not fit its table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyRefused {
    /// Another number of parts than key columns.
    #[error("the key has {given} parts, the table has {wanted} key columns ({columns})")]
    Parts {
        /// Parts given.
        given: usize,
        /// Parts wanted.
        wanted: usize,
        /// Names of the key columns.
        columns: String,
    },
    /// A part does not parse as its column's type.
    #[error("key part \"{part}\" is no {kind} (key column \"{column}\")")]
    Part {
        /// The part.
        part: String,
        /// The wanted type.
        kind: &'static str,
        /// The key column.
        column: String,
    },
    /// Longer than any key can be.
    #[error("the key is longer than {KEY_BYTES_MAX} bytes")]
    TooLong,
}

/// Canonical bytes of a key.
///
/// # Errors
/// Says which part does not fit.
pub fn parse_key(columns: &[KeyColumn], text: &KeyText) -> Result<Key, KeyRefused> {
    let mut out = Key::new();
    match (columns, text) {
        ([], KeyText::None) => {}
        ([], KeyText::Text(text)) if text.is_empty() => {}
        ([], KeyText::Parts(parts)) if parts.is_empty() => {}
        ([], KeyText::Segments(parts)) if parts.is_empty() => {}
        ([column], KeyText::None) => push_text(&mut out, column, "", true)?,
        ([column], KeyText::Parts(parts)) if parts.len() == 1 => push_part(&mut out, column, &parts[0], true)?,
        ([column], KeyText::Segments(parts)) if parts.len() == 1 => push_text(&mut out, column, &parts[0], true)?,
        (_, KeyText::Parts(parts)) if parts.len() == columns.len() => {
            for (column, part) in columns.iter().zip(parts) {
                push_part(&mut out, column, part, false)?;
            }
        }
        (_, KeyText::Segments(parts)) if parts.len() == columns.len() => {
            for (column, part) in columns.iter().zip(parts) {
                push_text(&mut out, column, part, false)?;
            }
        }
        ([column], part) if !matches!(part, KeyText::Parts(_) | KeyText::Segments(_)) => push_part(&mut out, column, part, true)?,
        // The 0.0.6 form: parts joined by a bar.
        (_, KeyText::Text(joined)) if columns.len() > 1 => {
            let parts: Vec<&str> = joined.split('|').collect();
            if parts.len() != columns.len() {
                return Err(wrong_parts(columns, parts.len()));
            }
            for (column, part) in columns.iter().zip(parts) {
                push_text(&mut out, column, part, false)?;
            }
        }
        // One path segment may hold the joined form, too.
        (_, KeyText::Segments(parts)) if parts.len() == 1 && columns.len() > 1 => {
            return parse_key(columns, &KeyText::Text(parts[0].clone()));
        }
        (_, KeyText::Parts(parts)) => return Err(wrong_parts(columns, parts.len())),
        (_, KeyText::Segments(parts)) => return Err(wrong_parts(columns, parts.len())),
        _ => return Err(wrong_parts(columns, 1)),
    }
    if out.len() > KEY_BYTES_MAX { Err(KeyRefused::TooLong) } else { Ok(out) }
}

fn wrong_parts(columns: &[KeyColumn], given: usize) -> KeyRefused {
    let names: Vec<&str> = columns.iter().map(|column| &*column.name).collect();
    KeyRefused::Parts { given, wanted: columns.len(), columns: names.join(", ") }
}

fn refuse(column: &KeyColumn, part: impl Into<String>) -> KeyRefused {
    let kind = match column.kind {
        KeyKind::Str => "str",
        KeyKind::I64 => "i64",
        KeyKind::Bool => "bool",
        KeyKind::Datetime => "datetime",
    };
    let mut part: String = part.into();
    if part.len() > 64 {
        part = part.chars().take(60).collect::<String>() + "...";
    }
    KeyRefused::Part { part, kind, column: column.name.to_string() }
}

fn push_part(out: &mut Key, column: &KeyColumn, part: &KeyText, alone: bool) -> Result<(), KeyRefused> {
    match (column.kind, part) {
        (_, KeyText::Text(text)) => push_text(out, column, text, alone),
        (KeyKind::I64 | KeyKind::Datetime, KeyText::Int(number)) => {
            key::push_i64(out, *number);
            Ok(())
        }
        #[expect(clippy::cast_possible_truncation, reason = "a whole number within 2^53 is exact")]
        (KeyKind::I64, KeyText::Float(number)) if number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0 => {
            key::push_i64(out, *number as i64);
            Ok(())
        }
        (KeyKind::Bool, KeyText::Bool(truth)) => {
            key::push_bool(out, *truth);
            Ok(())
        }
        // A number or a boolean as a text key is its text.
        (KeyKind::Str, KeyText::Int(number)) => push_text(out, column, &number.to_string(), alone),
        (KeyKind::Str, KeyText::Float(number)) => push_text(out, column, &number.to_string(), alone),
        (KeyKind::Str, KeyText::Bool(truth)) => push_text(out, column, if *truth { "true" } else { "false" }, alone),
        (_, KeyText::Float(number)) => Err(refuse(column, number.to_string())),
        (_, KeyText::Int(number)) => Err(refuse(column, number.to_string())),
        (_, KeyText::Bool(truth)) => Err(refuse(column, truth.to_string())),
        (_, KeyText::None) => Err(refuse(column, "null")),
        (_, KeyText::Parts(_) | KeyText::Segments(_)) => Err(refuse(column, "[...]")),
    }
}

fn push_text(out: &mut Key, column: &KeyColumn, text: &str, alone: bool) -> Result<(), KeyRefused> {
    match column.kind {
        KeyKind::Str if text.len() > KEY_BYTES_MAX => return Err(KeyRefused::TooLong),
        KeyKind::Str => key::push_text(out, text.as_bytes(), alone),
        KeyKind::I64 => key::push_i64(out, text.parse().map_err(|_| refuse(column, text))?),
        KeyKind::Bool => key::push_bool(out, text.parse().map_err(|_| refuse(column, text))?),
        KeyKind::Datetime => {
            let ms = text.parse::<i64>().ok().or_else(|| text.parse::<jiff::Timestamp>().ok().map(|time| time.as_millisecond()));
            key::push_i64(out, ms.ok_or_else(|| refuse(column, text))?);
        }
    }
    Ok(())
}

/// A canonical key as JSON: the scalar of a one-column key, an array for several columns; null for the global key.
pub fn key_to_json(columns: &[KeyColumn], mut bytes: &[u8]) -> Json {
    let alone = columns.len() == 1;
    let mut parts: Vec<Json> = columns
        .iter()
        .map(|column| match column.kind {
            KeyKind::Str => key::take_text(&mut bytes, alone).map_or(Json::Null, |text| String::from_utf8_lossy(text).into_owned().into()),
            KeyKind::I64 | KeyKind::Datetime => key::take_i64(&mut bytes).map_or(Json::Null, Json::from),
            KeyKind::Bool => key::take_bool(&mut bytes).map_or(Json::Null, Json::from),
        })
        .collect();
    match parts.len() {
        0 => Json::Null,
        1 => parts.remove(0),
        _ => Json::Array(parts),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::pipeline::Column;
    use crate::row::FieldIndex;

    fn columns(kinds: &[KeyKind]) -> Vec<KeyColumn> {
        kinds
            .iter()
            .enumerate()
            .map(|(at, kind)| KeyColumn { name: format!("k{at}").into(), column: Column::Field(FieldIndex(0)), kind: *kind })
            .collect()
    }

    #[test]
    fn keys_read_as_they_are_written() {
        let text = |text: &str| KeyText::Text(text.to_owned());
        let segments = |parts: &[&str]| KeyText::Segments(parts.iter().map(|part| (*part).to_owned()).collect());
        for (kinds, written, json) in [
            (&[KeyKind::Str][..], text("a|b"), r#""a|b""#),
            (&[KeyKind::Str], text(""), r#""""#),
            (&[KeyKind::Str], KeyText::None, r#""""#),
            (&[KeyKind::Str], KeyText::Int(7), r#""7""#),
            (&[KeyKind::I64], KeyText::Int(-7), "-7"),
            (&[KeyKind::I64], text("9223372036854775807"), "9223372036854775807"),
            (&[KeyKind::I64], KeyText::Parts(vec![KeyText::Int(1)]), "1"),
            (&[KeyKind::Bool], text("true"), "true"),
            (&[KeyKind::Datetime], text("1970-01-01T00:00:01Z"), "1000"),
            (&[], text(""), "null"),
            (&[], KeyText::None, "null"),
            (&[KeyKind::Str, KeyKind::I64], text("a|5"), r#"["a",5]"#),
            (&[KeyKind::Str, KeyKind::I64], KeyText::Parts(vec![text("a|b"), KeyText::Int(5)]), r#"["a|b",5]"#),
            (&[KeyKind::Str, KeyKind::Str], segments(&["", "b"]), r#"["","b"]"#),
        ] {
            let columns = columns(kinds);
            let key = parse_key(&columns, &written).unwrap();
            assert_eq!(key_to_json(&columns, &key).to_string(), json, "{written:?}");
        }
    }

    #[test]
    fn keys_that_do_not_fit_are_refused() {
        for (kinds, written) in [
            (&[KeyKind::I64][..], KeyText::Text("x".into())),
            (&[KeyKind::I64], KeyText::Float(0.5)),
            (&[KeyKind::Bool], KeyText::Int(1)),
            (&[KeyKind::Str], KeyText::Parts(vec![KeyText::None])),
            (&[KeyKind::Str, KeyKind::Str], KeyText::Text("a".into())),
            (&[KeyKind::Str, KeyKind::Str], KeyText::Segments(vec!["a".into(), "b".into(), "c".into()])),
            (&[], KeyText::Text("a".into())),
            (&[KeyKind::Str], KeyText::Text("x".repeat(5000))),
        ] {
            assert!(parse_key(&columns(kinds), &written).is_err(), "{written:?}");
        }
    }
}
