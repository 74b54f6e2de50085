//! Canonical key bytes: what a table's index compares and hashes.
//!
//! One text column is its bytes; one integer or time is 8 bytes big-endian with the sign flipped (so byte order is numeric order); one boolean is one byte.
//! Several columns are concatenated: text is preceded by its length (u16 little-endian), the others have fixed sizes. No column at all is the empty key.

use smallvec::SmallVec;

/// Keys up to this length live without an allocation.
const INLINE: usize = 40;

/// Keys longer than this are refused.
pub const KEY_BYTES_MAX: usize = 4096;

/// Canonical bytes of one key.
pub type Key = SmallVec<[u8; INLINE]>;

/// Appends a text part. `alone` = the key has this one column.
pub fn push_text(key: &mut Key, text: &[u8], alone: bool) {
    if !alone {
        // The whole key is bounded by KEY_BYTES_MAX, checked by the caller.
        let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
        key.extend_from_slice(&length.to_le_bytes());
    }
    key.extend_from_slice(text);
}

/// Appends an integer or a time.
pub fn push_i64(key: &mut Key, number: i64) {
    key.extend_from_slice(&(number ^ i64::MIN).to_be_bytes());
}

/// Appends a boolean.
pub fn push_bool(key: &mut Key, truth: bool) {
    key.push(u8::from(truth));
}

/// Takes a text part off the front.
pub fn take_text<'a>(bytes: &mut &'a [u8], alone: bool) -> Option<&'a [u8]> {
    if alone {
        return Some(std::mem::take(bytes));
    }
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes(*length)))?;
    *bytes = rest;
    Some(text)
}

/// Takes an integer off the front.
pub fn take_i64(bytes: &mut &[u8]) -> Option<i64> {
    let (eight, rest) = bytes.split_first_chunk::<8>()?;
    *bytes = rest;
    Some(i64::from_be_bytes(*eight) ^ i64::MIN)
}

/// Takes a boolean off the front.
pub fn take_bool(bytes: &mut &[u8]) -> Option<bool> {
    let (&byte, rest) = bytes.split_first()?;
    *bytes = rest;
    Some(byte != 0)
}
