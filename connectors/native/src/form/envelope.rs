//! The JSON envelope of one push: `{"event":NAME,"data":{..}}` on HTTP, `{"event":NAME,"body":{..}}` on TCP.
//!
//! The usual text (these two members, either order, no escapes in the name, an object as the row) is cut by hand without allocation. Anything
//! else goes through serde_json, which decides alone what is valid. The hand cut accepts nothing that serde_json and the row's own decoder
//! together would refuse: what it does not look at itself is inside the row, which the engine parses strictly.

use super::json::{End, end_of_container, is_too_deep, skip_space};
use super::strict::{Members, Object};
use crate::config::NESTING_MAX;
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;
use serde_json::value::RawValue;
use std::borrow::Cow;
use streamgauge_api::{ApiError, Code};

/// Event name and row of a push.
#[derive(Debug, PartialEq)]
pub(crate) struct Envelope<'a> {
    pub(crate) event: Cow<'a, str>,
    pub(crate) row: &'a [u8],
}

/// The name of the row's member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowMember {
    /// HTTP.
    Data,
    /// TCP.
    Body,
}

impl RowMember {
    pub(crate) fn name(self) -> &'static str {
        match self {
            RowMember::Data => "data",
            RowMember::Body => "body",
        }
    }

    /// What a push has.
    pub(crate) fn members(self) -> &'static [&'static str] {
        match self {
            RowMember::Data => &["event", "data"],
            RowMember::Body => &["event", "body"],
        }
    }
}

/// One push as serde_json reads it, with the names of the row's member in both framings.
#[derive(Deserialize)]
pub(crate) struct Written<'a> {
    event: Option<Json>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    body: Option<&'a RawValue>,
}

impl Members for Written<'_> {
    const NAMES: &'static [&'static str] = &["event", "data", "body"];
}

/// A member that is there counts even when it is `null`, which is then a row that is no object.
fn present<'de, D: Deserializer<'de>>(from: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Cuts a push.
pub(crate) fn cut(text: &[u8], member: RowMember) -> Result<Envelope<'_>, ApiError> {
    match cut_usual(text, member) {
        Cut::Done(envelope) => Ok(envelope),
        Cut::TooDeep => Err(row_too_deep()),
        Cut::Unusual => {
            let written: Object<Written<'_>> = serde_json::from_slice(text).map_err(|error| not_json(&error))?;
            checked(written, member)
        }
    }
}

/// The envelope in what serde_json read.
pub(crate) fn checked(written: Object<Written<'_>>, member: RowMember) -> Result<Envelope<'_>, ApiError> {
    let written = written.only("a push", member.members())?;
    let event = match written.event {
        Some(Json::String(event)) => Cow::Owned(event),
        Some(_) => return Err(no_event("member \"event\" is not a string")),
        None => return Err(no_event("the body has no member \"event\"")),
    };
    let row = match member {
        RowMember::Data => written.data,
        RowMember::Body => written.body,
    };
    let row = row.map_or(&b"{}"[..], |raw| raw.get().as_bytes());
    if is_too_deep(row) {
        return Err(row_too_deep());
    }
    Ok(Envelope { event, row })
}

/// A row that nests too deep.
pub(crate) fn row_too_deep() -> ApiError {
    ApiError::new(Code::InvalidEvent, format!("the row is nested deeper than {NESTING_MAX}"))
}

/// A body that serde_json refuses.
pub(crate) fn not_json(error: &serde_json::Error) -> ApiError {
    ApiError::new(Code::InvalidJsonBody, error.to_string())
}

/// A push that names no event.
pub(crate) fn no_event(reason: &str) -> ApiError {
    ApiError::new(Code::MissingEventNameInBody, reason)
}

enum Cut<'a> {
    Done(Envelope<'a>),
    TooDeep,
    Unusual,
}

fn cut_usual(text: &[u8], member: RowMember) -> Cut<'_> {
    let mut at = skip_space(text, 0);
    if text.get(at) != Some(&b'{') {
        return Cut::Unusual;
    }
    at = skip_space(text, at + 1);
    let (mut event, mut row) = (None, None);
    loop {
        let Some((name, after)) = plain_string(text, at) else { return Cut::Unusual };
        at = skip_space(text, after);
        if text.get(at) != Some(&b':') {
            return Cut::Unusual;
        }
        at = skip_space(text, at + 1);
        if name == b"event" && event.is_none() {
            let Some((value, after)) = plain_string(text, at) else { return Cut::Unusual };
            let Ok(value) = std::str::from_utf8(value) else { return Cut::Unusual };
            event = Some(value);
            at = after;
        } else if name == member.name().as_bytes() && row.is_none() && text.get(at) == Some(&b'{') {
            let rest = text.get(at..).unwrap_or_default();
            match end_of_container(rest) {
                End::At(length) => {
                    row = rest.get(..length);
                    at += length;
                }
                End::Open => return Cut::Unusual,
                End::TooDeep => return Cut::TooDeep,
            }
        } else {
            return Cut::Unusual;
        }
        at = skip_space(text, at);
        match text.get(at) {
            Some(b',') => at = skip_space(text, at + 1),
            Some(b'}') => break,
            _ => return Cut::Unusual,
        }
    }
    if skip_space(text, at + 1) != text.len() {
        return Cut::Unusual;
    }
    match (event, row) {
        (Some(event), Some(row)) => Cut::Done(Envelope { event: Cow::Borrowed(event), row }),
        _ => Cut::Unusual,
    }
}

/// The content of a string without escapes and control bytes that starts at `at`, and the index after it.
fn plain_string(text: &[u8], at: usize) -> Option<(&[u8], usize)> {
    if text.get(at) != Some(&b'"') {
        return None;
    }
    let content = text.get(at + 1..)?;
    let length = content.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..0x20))?;
    (content.get(length) == Some(&b'"')).then(|| (&content[..length], at + length + 2))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use proptest::prelude::*;

    fn codes(text: &str) -> Result<(String, String), Code> {
        cut(text.as_bytes(), RowMember::Data)
            .map(|envelope| (envelope.event.into_owned(), String::from_utf8_lossy(envelope.row).into_owned()))
            .map_err(|error| error.code)
    }

    #[test]
    fn envelopes_are_cut_or_refused_with_a_code() {
        let ok = |event: &str, row: &str| Ok((event.to_owned(), row.to_owned()));
        for (text, expected) in [
            (r#"{"event":"Tx","data":{"a":1}}"#, ok("Tx", r#"{"a":1}"#)),
            (" {\n\"data\" : {\"a\":\"}\"} , \"event\" : \"Tx\" } ", ok("Tx", r#"{"a":"}"}"#)),
            (r#"{"event":"Tx"}"#, ok("Tx", "{}")),
            (r#"{"event":"T\u0078","data":{}}"#, ok("Tx", "{}")),
            (r#"{"e\u0076ent":"Tx","data":{}}"#, ok("Tx", "{}")),
            (r#"{"event":"Tx","data":{},"more":[1]}"#, Err(Code::UnknownMember)),
            (r#"{"event":"Tx","body":{"b":1},"data":{"a":1}}"#, Err(Code::UnknownMember)),
            (r#"{"event":"Tx","body":{"b":1}}"#, Err(Code::UnknownMember)),
            (r#"{"evnet":"Tx","data":{}}"#, Err(Code::UnknownMember)),
            (r#"{"event":"Tx","data":null}"#, ok("Tx", "null")),
            (r#"{"event":"Tx","data":[1]}"#, ok("Tx", "[1]")),
            (r#"{"event":7,"data":{}}"#, Err(Code::MissingEventNameInBody)),
            (r#"{"data":{}}"#, Err(Code::MissingEventNameInBody)),
            (r#"{"event":"a","event":"b","data":{}}"#, Err(Code::InvalidJsonBody)),
            (r#"{"event":"a","data":{},"data":{}}"#, Err(Code::InvalidJsonBody)),
            (r#"{"event":"a","data":{}}x"#, Err(Code::InvalidJsonBody)),
            (r#"{"event":"a","data":{},}"#, Err(Code::InvalidJsonBody)),
            (r#"{"event":"a" "data":{}}"#, Err(Code::InvalidJsonBody)),
            ("", Err(Code::InvalidJsonBody)),
            (r#"["Tx",{}]"#, Err(Code::InvalidJsonBody)),
            ("[1]", Err(Code::InvalidJsonBody)),
            ("{\"event\":\"a\nb\",\"data\":{}}", Err(Code::InvalidJsonBody)),
        ] {
            assert_eq!(codes(text), expected, "{text}");
        }
    }

    #[test]
    fn deep_rows_are_refused_as_events() {
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        for text in [
            format!(r#"{{"event":"a","data":{{"x":{deep}}}}}"#),
            format!(r#"{{"e\u0076ent":"a","data":{deep}}}"#),
            format!(r#"{{"event":"a","data":{{"x":{}"#, "[".repeat(100_000)),
        ] {
            assert_eq!(codes(&text), Err(Code::InvalidEvent));
        }
    }

    proptest! {
        /// Where the hand cut answers, serde_json answers the same.
        #[test]
        fn the_hand_cut_equals_serde_json(
            parts in prop::collection::vec(prop::sample::select(vec![
                "{", "}", "\"event\"", "\"data\"", ":", ",", " ", "\"Tx\"", "{}", "{\"a\":1}", "\"x\"", "1", "[]", "\\", "\"",
            ]), 0..12),
        ) {
            let text = parts.concat();
            let oracle: Result<Object<Written<'_>>, _> = serde_json::from_str(&text);
            let oracle = oracle.map_err(|error| not_json(&error)).and_then(|written| checked(written, RowMember::Data));
            if let Cut::Done(envelope) = cut_usual(text.as_bytes(), RowMember::Data) {
                // A malformed row is the engine's to refuse; everything around it must be what serde_json sees.
                if serde_json::from_slice::<serde::de::IgnoredAny>(envelope.row).is_ok() {
                    prop_assert_eq!(Ok(envelope), oracle);
                }
            }
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any_answer = cut(&bytes, RowMember::Body).is_ok();
        }
    }

    #[test]
    fn usual_pushes_take_the_hand_cut() {
        assert!(matches!(cut_usual(br#"{"event":"Tx","data":{"a":"\"}"}}"#, RowMember::Data), Cut::Done(_)));
    }
}
