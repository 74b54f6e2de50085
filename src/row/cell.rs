//! A cell as readers see it: a borrowed, typed value, or one of two ways of having none.

/// One value of one row. Text is UTF-8, checked when it was written; it stays bytes here because keys, hashes and comparisons want bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cell<'a> {
    /// The row did not name the field.
    Absent,
    /// The row named it with null.
    Null,
    /// Boolean.
    Bool(bool),
    /// Integer.
    I64(i64),
    /// Double, always finite.
    F64(f64),
    /// Text.
    Str(&'a [u8]),
    /// Bytes.
    Bytes(&'a [u8]),
    /// Milliseconds since the Unix epoch.
    Datetime(i64),
    /// JSON object or array text.
    Json(&'a [u8]),
}

impl<'a> Cell<'a> {
    /// Whether it is neither absent nor null.
    pub fn is_value(self) -> bool {
        !matches!(self, Self::Absent | Self::Null)
    }

    /// The number in it, as operators take numbers: integers and doubles only.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::F64(number) => Some(number),
            #[expect(clippy::cast_precision_loss, reason = "operators over doubles take the nearest double of an integer")]
            Self::I64(number) => Some(number as f64),
            _ => None,
        }
    }

    /// Text for messages and readers; invalid UTF-8 cannot occur in checked text.
    pub fn text(self) -> Option<std::borrow::Cow<'a, str>> {
        match self {
            Self::Str(bytes) | Self::Json(bytes) => Some(String::from_utf8_lossy(bytes)),
            _ => None,
        }
    }

    /// The name of its type in messages.
    pub fn type_name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::I64(_) => "i64",
            Self::F64(_) => "f64",
            Self::Str(_) => "str",
            Self::Bytes(_) => "bytes",
            Self::Datetime(_) => "datetime",
            Self::Json(_) => "json",
        }
    }
}

/// Tag bytes of escaped cells in the heap: a value whose type is not the declared one.
pub(super) mod tag {
    pub(crate) const BOOL: u8 = 1;
    pub(crate) const I64: u8 = 2;
    pub(crate) const F64: u8 = 3;
    pub(crate) const STR: u8 = 4;
    pub(crate) const BYTES: u8 = 5;
    pub(crate) const DATETIME: u8 = 6;
    pub(crate) const JSON: u8 = 7;
}

/// Reads an escaped value; damaged bytes read as null.
pub(super) fn unescape(bytes: &[u8]) -> Cell<'_> {
    let Some((&kind, payload)) = bytes.split_first() else { return Cell::Null };
    let word = || payload.get(..8).and_then(|eight| eight.try_into().ok()).map(u64::from_le_bytes);
    match kind {
        tag::BOOL => payload.first().map_or(Cell::Null, |&byte| Cell::Bool(byte != 0)),
        tag::I64 => word().map_or(Cell::Null, |bits| Cell::I64(bits.cast_signed())),
        tag::F64 => word().map_or(Cell::Null, |bits| Cell::F64(f64::from_bits(bits))),
        tag::DATETIME => word().map_or(Cell::Null, |bits| Cell::Datetime(bits.cast_signed())),
        tag::STR => Cell::Str(payload),
        tag::BYTES => Cell::Bytes(payload),
        tag::JSON => Cell::Json(payload),
        _ => Cell::Null,
    }
}
