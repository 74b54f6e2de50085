//! What the first word of a windowed row says of its key: no row yet, a list, rings, or that everything has expired.
//!
//! ```text
//! 0                          no row yet
//! 0 | handle, 63 bits        a list (the class of a handle is far below 2^15)
//! 10 | edge ms, 62 bits      expired: a list or rings that were given back. What is left is the key's edge, signed,
//!                            and that it lost rows before it
//! all ones                   rings
//! ```
//! An expired key takes no object: its row and its key are all that it has. The edge stays because lateness goes by it
//! (`head.rs`), and because reads of the past must be refused where rows are gone. The codes of this word are known here
//! only; everybody else asks for the [`Form`].

use super::arena::Handle;
use super::head::Head;

const RINGS: u64 = u64::MAX;
const EXPIRED: u64 = 1 << 63;
const EDGE_BITS: u32 = 62;

/// See the module's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A list; 0 before the first row.
    List(Handle),
    /// A ring of each window.
    Rings,
    /// Nothing is left of what it had but this head: no entries, something dropped, and an edge.
    Expired(Head),
}

impl Form {
    /// What a word says.
    #[inline]
    pub(crate) fn of(word: u64) -> Self {
        if word & EXPIRED == 0 {
            return Self::List(word);
        }
        if word == RINGS {
            return Self::Rings;
        }
        let unused = u64::BITS - EDGE_BITS;
        let edge_ms = (word << unused).cast_signed() >> unused;
        Self::Expired(Head::of(&[]).with_edge(edge_ms.saturating_mul(1000)).with_dropped(true))
    }

    /// The word to write.
    pub(crate) fn word(self) -> u64 {
        match self {
            Self::List(handle) => {
                assert_eq!(handle & EXPIRED, 0, "{handle:x} is no handle");
                handle
            }
            Self::Rings => RINGS,
            Self::Expired(head) => {
                assert!(head.dropped() && head.count() == 0, "what has expired is gone: {head:?}");
                let edge_ms = head.edge_us() / 1000;
                EXPIRED | edge_ms.cast_unsigned() & ((1 << EDGE_BITS) - 1)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_what_its_word_says() {
        let expired = |edge_us| Form::Expired(Head::of(&[]).with_edge(edge_us).with_dropped(true));
        let edges = [0, 1, -1, 999, 1_700_000_000_123_456, -62_135_596_800_000_000, i64::MAX, i64::MIN];
        let forms = edges.map(expired).into_iter().chain([Form::Rings, Form::List(0), Form::List(70 << 48 | 0xFFFF_FFFF_FFFF)]);
        for form in forms {
            assert_eq!(Form::of(form.word()), form);
        }
    }

    /// Words that nobody writes come from a damaged file at worst, and mean something all the same.
    #[test]
    fn every_word_has_a_form() {
        for word in (0..64).flat_map(|bit| [1 << bit, !(1 << bit), u64::MAX << bit, u64::MAX >> bit]) {
            let form = Form::of(word);
            assert_eq!(Form::of(form.word()), form, "{word:x}");
        }
    }
}
