//! What an answer of many rows weighs while it is being read, so that one that is too large is refused
//! before it is built.
//!
//! Two measures: the JSON text that it will be at the least, held against the largest reply, so that
//! nothing is refused that could be sent; and the bytes that it takes until then, which are several times
//! the text where values are small or explained. Cells are bounded with the latter: each takes its
//! [`Value`]. One walk over values that were just made, a few nanoseconds each.

use std::mem::size_of;
use streamgauge_api::port::{REPLY_BYTES_MAX, Row};
use streamgauge_api::value::base64_len;
use streamgauge_api::{ApiError, Code, Value};

/// Bytes that one answer may take while it is read.
pub(super) const ANSWER_BYTES_MAX: usize = 4 * REPLY_BYTES_MAX;

/// What the allocator adds to a small object.
const OBJECT_BYTES: usize = 16;
/// Names of an error's further members and their values, each.
const MEMBER_BYTES: usize = 128;

/// Bytes of an answer, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct AnswerSize {
    /// In memory.
    pub(super) held: usize,
    /// As JSON, at the least.
    pub(super) text: usize,
}

impl AnswerSize {
    /// An entry of a `batch_get`; the place that it stands in counts elsewhere.
    pub(super) fn of_entry(entry: &Result<Row, ApiError>) -> Self {
        match entry {
            Ok(row) => Self::of_row(row),
            Err(error) => {
                let texts = error.reason.len() + error.path.len() + error.hint.as_ref().map_or(0, String::len);
                // The reason is told twice, once as the message.
                Self { held: texts + error.more.len() * MEMBER_BYTES, text: error.reason.len() * 2 }
            }
        }
    }

    fn of_row(row: &Row) -> Self {
        let selected = row.selected.as_ref();
        let mut size = Self { held: selected.map_or(0, |selected| selected.len() * size_of::<u16>()), text: "{},".len() };
        for (place, value) in row.values.iter().enumerate() {
            size.add(Self::of_value(value));
            let index = selected.map_or(Some(place), |selected| selected.get(place).map(|index| usize::from(*index)));
            let name = index.and_then(|index| row.names.get(index)).map_or(0, |name| name.len());
            size.text += name + "\"\":,".len();
        }
        size
    }

    /// A feature of a matrix read under its name. Its reply may be MessagePack, which is no text.
    pub(super) fn of_cell(name: &str, value: &Value) -> Self {
        let size = Self::of_value(value);
        Self { held: size.held + size_of::<(String, Value)>() + name.len() + OBJECT_BYTES, text: 0 }
    }

    fn of_value(value: &Value) -> Self {
        let (heap, text) = match value {
            Value::Null | Value::Bool(_) => (0, "null".len()),
            Value::I64(_) | Value::Datetime(_) => (0, "0".len()),
            Value::F64(_) => (0, "0.0".len()),
            Value::Str(text) => (text.len() + OBJECT_BYTES, text.len() + "\"\"".len()),
            Value::Bytes(bytes) => (bytes.len() + OBJECT_BYTES, base64_len(bytes.len())),
            Value::Json(text) => (text.len() + OBJECT_BYTES, text.len()),
            Value::List(items) => {
                let mut size = Self { held: OBJECT_BYTES, text: "[]".len() };
                items.iter().for_each(|item| size.add(Self::of_value(item)));
                (size.held, size.text)
            }
            Value::Map(entries) => {
                let mut size = Self { held: OBJECT_BYTES, text: "{}".len() };
                for (name, item) in entries {
                    size.add(Self::of_value(item));
                    size.add(Self { held: size_of::<Box<str>>() + name.len() + OBJECT_BYTES, text: name.len() + "\"\":".len() });
                }
                (size.held, size.text)
            }
        };
        Self { held: heap + size_of::<Value>(), text }
    }

    /// Both together.
    pub(super) fn add(&mut self, other: Self) {
        self.held = self.held.saturating_add(other.held);
        self.text = self.text.saturating_add(other.text);
    }

    /// Refuses what could not be sent, or takes too much until then.
    pub(super) fn check(self) -> Result<(), ApiError> {
        let refused = |reason: String, limit: usize| Err(ApiError::new(Code::ResponseTooLarge, reason).with("limit", limit.into()));
        if self.text > REPLY_BYTES_MAX {
            return refused(format!("the reply is larger than {REPLY_BYTES_MAX} bytes"), REPLY_BYTES_MAX);
        }
        if self.held > ANSWER_BYTES_MAX {
            return refused(format!("the answer takes more than {ANSWER_BYTES_MAX} bytes of memory"), ANSWER_BYTES_MAX);
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use streamgauge_api::value::write_json;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::I64),
            any::<f64>().prop_map(Value::F64),
            ".{0,20}".prop_map(|text| Value::Str(text.into())),
            any::<i64>().prop_map(Value::Datetime),
        ];
        leaf.prop_recursive(3, 20, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::vec((".{0,5}".prop_map(Box::from), inner), 0..5).prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        /// What can be sent is never refused for its text.
        #[test]
        fn the_text_is_at_least_what_is_counted(value in value()) {
            let mut out = Vec::new();
            write_json(&mut out, &value);
            let size = AnswerSize::of_value(&value);
            prop_assert!(size.text <= out.len(), "{size:?} {}", String::from_utf8_lossy(&out));
            prop_assert!(size.held >= size_of::<Value>());
        }
    }
}
