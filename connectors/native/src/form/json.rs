//! JSON text without a tree: where a value ends, and how deep it is.
//!
//! One pass over bytes, no recursion. Neither function says that the text is valid JSON; whoever parses the slice does.

use crate::config::NESTING_MAX;

/// Kinds of bytes that matter for structure.
const PLAIN: u8 = 0;
const QUOTE: u8 = 1;
const OPEN: u8 = 2;
const CLOSE: u8 = 3;

static CLASSES: [u8; 256] = {
    let mut classes = [PLAIN; 256];
    classes[b'"' as usize] = QUOTE;
    classes[b'{' as usize] = OPEN;
    classes[b'[' as usize] = OPEN;
    classes[b'}' as usize] = CLOSE;
    classes[b']' as usize] = CLOSE;
    classes
};

/// What looking for the end of a value found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// Bytes up to and with the closing bracket.
    At(usize),
    /// The text ends first.
    Open,
    /// Nested deeper than [`NESTING_MAX`].
    TooDeep,
}

/// The end of the object or array that `text` starts with. Brackets are counted, not matched.
pub(crate) fn end_of_container(text: &[u8]) -> End {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match CLASSES[usize::from(*byte)] {
            PLAIN => {}
            QUOTE => match end_of_string(text, at) {
                Some(end) => at = end,
                None => return End::Open,
            },
            OPEN => {
                depth += 1;
                if depth > NESTING_MAX {
                    return End::TooDeep;
                }
            }
            _ => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return End::At(at);
                }
            }
        }
    }
    End::Open
}

/// Whether brackets outside of strings nest deeper than [`NESTING_MAX`] anywhere in `text`.
pub(crate) fn is_too_deep(text: &[u8]) -> bool {
    let mut depth = 0usize;
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        at += 1;
        match CLASSES[usize::from(*byte)] {
            PLAIN => {}
            QUOTE => match end_of_string(text, at) {
                Some(end) => at = end,
                None => return false,
            },
            OPEN => {
                depth += 1;
                if depth > NESTING_MAX {
                    return true;
                }
            }
            _ => depth = depth.saturating_sub(1),
        }
    }
    false
}

/// The index after the quote that closes the string whose content starts at `from`.
fn end_of_string(text: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    loop {
        match text.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

/// The index of the first byte at or after `from` that is not JSON white space.
pub(crate) fn skip_space(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while matches!(text.get(at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
        at += 1;
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ends_and_depths_are_found() {
        for (text, end) in [
            ("{}", End::At(2)),
            ("{} tail", End::At(2)),
            (r#"{"a":"}\"}","b":[{}]}x"#, End::At(21)),
            ("[", End::Open),
            (r#"{"a"#, End::Open),
            (r#"{"a\"#, End::Open),
        ] {
            assert_eq!(end_of_container(text.as_bytes()), end, "{text}");
        }
        let deep = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(end_of_container(deep(128).as_bytes()), End::At(256));
        assert_eq!(end_of_container(deep(129).as_bytes()), End::TooDeep);
        assert!(!is_too_deep(deep(128).as_bytes()) && is_too_deep(deep(129).as_bytes()));
        assert!(!is_too_deep(format!("\"{}\"", deep(500)).as_bytes()), "brackets in strings do not nest");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if let End::At(end) = end_of_container(&bytes) {
                prop_assert!(end <= bytes.len());
            }
            is_too_deep(&bytes);
        }
    }
}
