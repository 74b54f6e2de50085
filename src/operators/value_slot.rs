//! One value of any type inside a slot: a tag and a payload word. Used by the extremes and by `first` and `last`.
//!
//! Where the field's declared type is a scalar, the payload is the value. Where it is text, bytes or json, the payload is always the handle of an object with the
//! value's bytes (a json field may hold a number: then its eight bytes), so that the plan knows for the whole column whether the word is a handle. A replaced object
//! is written in place when it has about the right size. Rows of a scalar field never hold text; should one come, it counts as no value.

use crate::row::{Cell, FieldType};
use crate::state::{Arena, Demand, Handle, holds_bytes, load_bytes, store_bytes, words_of_bytes};
use streamgauge_api::Value;

/// Values beyond this many bytes are passed over: no feature of one key may grow beyond 1 MiB.
const VALUE_BYTES_MAX: usize = (1 << 20) - 8;

/// How a column's values lie in their slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ValueSlot {
    /// The payload is the value.
    Inline,
    /// The payload is a handle of the value's bytes.
    Object,
}

impl ValueSlot {
    /// The layout for a field of this type.
    pub(super) fn of(kind: Option<FieldType>) -> Self {
        match kind {
            Some(FieldType::Str | FieldType::Bytes | FieldType::Json) => Self::Object,
            _ => Self::Inline,
        }
    }

    /// The name in identities.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Object => "object",
        }
    }

    /// Whether a slot of this layout keeps such a cell.
    #[inline]
    pub(super) fn takes(self, cell: Cell<'_>) -> bool {
        match cell {
            Cell::Absent | Cell::Null => false,
            Cell::Str(bytes) | Cell::Bytes(bytes) | Cell::Json(bytes) => self == Self::Object && bytes.len() <= VALUE_BYTES_MAX,
            _ => true,
        }
    }

    /// Words of the object of a scalar.
    pub(super) fn demand_words_max(self) -> usize {
        match self {
            Self::Inline => 0,
            Self::Object => words_of_bytes(8),
        }
    }

    /// Names the object that storing a cell may make in place of the payload's, when that is still the same.
    pub(super) fn demand(self, payload: u64, same: bool, cell: Cell<'_>, demand: &mut Demand) {
        let bytes = match cell {
            Cell::Str(bytes) | Cell::Bytes(bytes) | Cell::Json(bytes) => bytes.len(),
            _ => 8,
        };
        if self == Self::Object && !(same && fits(payload, bytes)) {
            demand.bytes(bytes);
        }
    }

    /// Stores a cell that [`ValueSlot::takes`] into the payload word; gives its tag, 1 to 7.
    #[inline]
    pub(super) fn store(self, payload: &mut u64, arena: &mut Arena, cell: Cell<'_>) -> u64 {
        let (tag, word, bytes) = match cell {
            Cell::Absent | Cell::Null => return 0,
            Cell::Bool(truth) => (1, u64::from(truth), None),
            Cell::I64(number) => (2, number.cast_unsigned(), None),
            // -0.0 and 0.0 are one value.
            Cell::F64(number) => (3, (number + 0.0).to_bits(), None),
            Cell::Str(bytes) => (4, 0, Some(bytes)),
            Cell::Bytes(bytes) => (5, 0, Some(bytes)),
            Cell::Datetime(ms) => (6, ms.cast_unsigned(), None),
            Cell::Json(bytes) => (7, 0, Some(bytes)),
        };
        match self {
            Self::Inline => *payload = word,
            Self::Object => *payload = replace_bytes(arena, *payload, bytes.unwrap_or(&word.to_le_bytes())),
        }
        tag
    }

    /// Whether a tag and a payload that a file brought are ones that [`ValueSlot::store`] writes; tag 0 goes with no payload.
    pub(super) fn holds(self, tag: u64, payload: u64, arena: &Arena) -> bool {
        let is_scalar = matches!(tag, 1..=3 | 6);
        match self {
            _ if tag == 0 => payload == 0,
            Self::Inline => is_scalar && (tag != 1 || payload <= 1),
            Self::Object => {
                let object = arena.get(payload);
                tag <= 7 && holds_bytes(object) && (!is_scalar || object[0] == 8) && object[0] <= VALUE_BYTES_MAX as u64
            }
        }
    }

    /// The cell of a tag and a payload; `Absent` for tag 0.
    #[inline]
    pub(super) fn load(self, tag: u64, payload: u64, arena: &Arena) -> Cell<'_> {
        let bytes = if self == Self::Object { load_bytes(arena, payload) } else { &[] };
        let word = || match self {
            Self::Inline => payload,
            Self::Object => bytes.try_into().map_or(0, u64::from_le_bytes),
        };
        match tag {
            1 => Cell::Bool(word() != 0),
            2 => Cell::I64(word().cast_signed()),
            3 => Cell::F64(f64::from_bits(word())),
            4 => Cell::Str(bytes),
            5 => Cell::Bytes(bytes),
            6 => Cell::Datetime(word().cast_signed()),
            7 => Cell::Json(bytes),
            _ => Cell::Absent,
        }
    }
}

/// A cell as readers see it.
pub(crate) fn value_of(cell: Cell<'_>) -> Value {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned().into_boxed_str();
    match cell {
        Cell::Absent | Cell::Null => Value::Null,
        Cell::Bool(truth) => Value::Bool(truth),
        Cell::I64(number) => Value::I64(number),
        Cell::F64(number) => Value::F64(number),
        Cell::Str(bytes) => Value::Str(text(bytes)),
        Cell::Bytes(bytes) => Value::Bytes(bytes.into()),
        Cell::Datetime(ms) => Value::Datetime(ms),
        Cell::Json(bytes) => Value::Json(text(bytes)),
    }
}

/// Whether an object has room for so many bytes, and not too much of it.
fn fits(handle: Handle, bytes: usize) -> bool {
    let (words, room) = (words_of_bytes(bytes), Arena::capacity(handle));
    words <= room && room <= 2 * words
}

/// The bytes in place of the object's; another object when they do not fit or would leave more than half of it empty.
fn replace_bytes(arena: &mut Arena, handle: Handle, bytes: &[u8]) -> Handle {
    if !fits(handle, bytes.len()) {
        arena.free(handle);
        return store_bytes(arena, bytes);
    }
    let words = words_of_bytes(bytes.len());
    let object = arena.get_mut(handle);
    // Nothing of a longer value may stay behind the new one: equal values are equal bytes.
    object[words - 1..].fill(0);
    object[0] = bytes.len() as u64;
    bytemuck::cast_slice_mut::<u64, u8>(&mut object[1..])[..bytes.len()].copy_from_slice(bytes);
    handle
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::super::laws::Datum;
    use super::*;

    #[test]
    fn every_value_comes_back_as_it_was_stored() {
        let mut arena = Arena::default();
        let mut payload = 0;
        for datum in [
            Datum::Bool(true),
            Datum::I64(i64::MIN),
            Datum::F64(0.1),
            Datum::Datetime(-1),
            Datum::Str(String::new()),
            Datum::Str("a text that is longer than the one before".into()),
            Datum::Str("short".into()),
            Datum::Bytes(vec![0, 255]),
            Datum::Json("{}".into()),
        ] {
            let scalar = !matches!(datum, Datum::Str(_) | Datum::Bytes(_) | Datum::Json(_));
            assert!(ValueSlot::Object.takes(datum.cell()));
            assert_eq!(ValueSlot::Inline.takes(datum.cell()), scalar);
            let tag = ValueSlot::Object.store(&mut payload, &mut arena, datum.cell());
            assert_eq!(ValueSlot::Object.load(tag, payload, &arena), datum.cell());
            if scalar {
                let mut word = 0;
                let tag = ValueSlot::Inline.store(&mut word, &mut arena, datum.cell());
                assert_eq!(ValueSlot::Inline.load(tag, word, &arena), datum.cell());
            }
        }
    }

    #[test]
    fn an_object_is_reused_while_it_fits_and_holds_nothing_of_the_value_before() {
        let mut arena = Arena::default();
        let mut payload = 0;
        let mut store = |arena: &mut Arena, text: &str| {
            ValueSlot::Object.store(&mut payload, arena, Cell::Str(text.as_bytes()));
            payload
        };
        let first = store(&mut arena, "0123456789abcdef");
        assert_eq!(store(&mut arena, "fedcba987"), first);
        assert_eq!(arena.get(first)[2], u64::from(b'7'));
        let long = store(&mut arena, &"x".repeat(400));
        assert!(arena.used_bytes() > 400);
        assert_ne!(store(&mut arena, "x"), long);
        assert_eq!(arena.used_bytes(), 16);
    }

    #[test]
    fn values_beyond_the_bound_are_passed_over() {
        let text = vec![b'x'; VALUE_BYTES_MAX + 1];
        assert!(!ValueSlot::Object.takes(Cell::Str(&text)));
        assert!(ValueSlot::Object.takes(Cell::Str(&text[1..])));
    }
}
