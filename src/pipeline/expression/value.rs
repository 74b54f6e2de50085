//! Values while an expression runs: a cell, or text too short-lived to own a heap.
//!
//! Unlike stored cells, a double may be infinite or NaN here; [`Evaluated::cell`] hands such a number on as null, so that no operator ever sees one.

use crate::row::Cell;

/// Longest text that a cast makes: a double with 17 digits, sign, point and exponent.
const SHORT_TEXT_BYTES_MAX: usize = 30;

/// Text that a cast made, held in place.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShortText {
    bytes: [u8; SHORT_TEXT_BYTES_MAX],
    len: u8,
}

impl ShortText {
    /// Takes the first [`SHORT_TEXT_BYTES_MAX`] bytes of ASCII text; casts make no longer ones.
    pub(super) fn of(text: &str) -> Self {
        debug_assert!(text.len() <= SHORT_TEXT_BYTES_MAX && text.is_ascii(), "casts make short ASCII text");
        let len = text.len().min(SHORT_TEXT_BYTES_MAX);
        let mut bytes = [0; SHORT_TEXT_BYTES_MAX];
        bytes[..len].copy_from_slice(&text.as_bytes()[..len]);
        #[expect(clippy::cast_possible_truncation, reason = "at most SHORT_TEXT_BYTES_MAX")]
        Self { bytes, len: len as u8 }
    }

    /// The text.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// What an expression came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Evaluated<'a> {
    /// A value borrowed from the row, the program or the derived columns, or a plain number.
    Cell(Cell<'a>),
    /// Text that a cast made.
    Short(ShortText),
}

impl Evaluated<'_> {
    /// The value as operators and keys take it: a double that is not finite is null.
    pub fn cell(&self) -> Cell<'_> {
        match self {
            Self::Cell(Cell::F64(number)) if !number.is_finite() => Cell::Null,
            Self::Cell(cell) => *cell,
            Self::Short(text) => Cell::Str(text.bytes()),
        }
    }

    /// The value as expressions take it: infinities and NaN stay.
    pub(crate) fn raw(&self) -> Cell<'_> {
        match self {
            Self::Cell(cell) => *cell,
            Self::Short(text) => Cell::Str(text.bytes()),
        }
    }
}
