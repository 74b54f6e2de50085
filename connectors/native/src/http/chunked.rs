//! A chunked body: `size[;extension] CRLF data CRLF .. 0 CRLF trailers CRLF`, read in any pieces, each byte once.
//!
//! Sizes are checked against what is left of the body bound before anything is kept; extensions are ignored and trailers skipped, both within
//! bounds. A size beyond 32 bits is a broken request rather than a large one: no sane sender means it.

use super::{broken, too_large};
use crate::config::HEAD_BYTES_MAX;
use streamgauge_api::ApiError;

/// Longest size with its extension.
const SIZE_LINE_BYTES_MAX: usize = 256;

/// Most digits of a size.
const SIZE_DIGITS_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// In a size line, of which so many digits are read.
    Size {
        size: u64,
        digits: usize,
        line: usize,
    },
    /// In an extension.
    Extension {
        size: u64,
        line: usize,
    },
    /// The LF of a size line must follow.
    SizeEnd {
        size: u64,
    },
    Data {
        left: usize,
    },
    /// CR, then LF must follow the data.
    DataEnd {
        cr: bool,
    },
    /// In the trailers; `line` counts bytes of the current line, `all` those of all.
    Trailer {
        line: usize,
        all: usize,
        cr: bool,
    },
    Complete,
}

const SIZE_START: At = At::Size { size: 0, digits: 0, line: 0 };

/// The decoder.
#[derive(Debug)]
pub(crate) struct Chunked {
    at: At,
    bytes: Vec<u8>,
    limit: usize,
}

impl Chunked {
    /// A decoder of a body of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { at: SIZE_START, bytes: Vec::new(), limit }
    }

    /// Takes what belongs to the body from the front of `input`; gives the count.
    pub(crate) fn take(&mut self, input: &[u8]) -> Result<usize, ApiError> {
        let mut count = 0;
        while self.at != At::Complete {
            let rest = input.get(count..).unwrap_or_default();
            let Some(byte) = rest.first() else { break };
            if let At::Data { left } = self.at {
                let (now, _) = rest.split_at(left.min(rest.len()));
                self.bytes.extend_from_slice(now);
                count += now.len();
                self.at = if now.len() == left { At::DataEnd { cr: false } } else { At::Data { left: left - now.len() } };
            } else {
                self.at = self.step(*byte)?;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Whether the body ended.
    pub(crate) fn is_complete(&self) -> bool {
        self.at == At::Complete
    }

    /// The decoded body so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn step(&self, byte: u8) -> Result<At, ApiError> {
        Ok(match (self.at, byte) {
            (At::Size { size, digits, .. }, b'\r') if digits > 0 => At::SizeEnd { size },
            (At::Size { size, digits, line }, b';') if digits > 0 => At::Extension { size, line },
            (At::Size { size, digits, line }, byte) => {
                let digit = char::from(byte).to_digit(16).ok_or_else(|| broken("a chunk size is not hexadecimal"))?;
                // Sixteen digits are 64 bits, so the shift loses nothing.
                if digits == SIZE_DIGITS_MAX {
                    return Err(broken("a chunk size has more than 16 digits"));
                }
                At::Size { size: size << 4 | u64::from(digit), digits: digits + 1, line: line + 1 }
            }
            (At::Extension { size, .. }, b'\r') => At::SizeEnd { size },
            (At::Extension { size, line }, byte) => {
                if line == SIZE_LINE_BYTES_MAX || byte.is_ascii_control() && byte != b'\t' {
                    return Err(broken("a chunk extension is too long or holds a control byte"));
                }
                At::Extension { size, line: line + 1 }
            }
            (At::SizeEnd { size: 0 }, b'\n') => At::Trailer { line: 0, all: 0, cr: false },
            (At::SizeEnd { size }, b'\n') => At::Data { left: self.room(size)? },
            (At::DataEnd { cr: false }, b'\r') => At::DataEnd { cr: true },
            (At::DataEnd { cr: true }, b'\n') => SIZE_START,
            (At::Trailer { line: 0, cr: true, .. }, b'\n') => At::Complete,
            (At::Trailer { all, cr: true, .. }, b'\n') => At::Trailer { line: 0, all, cr: false },
            (At::Trailer { line, all, cr: false }, b'\r') => At::Trailer { line, all, cr: true },
            (At::Trailer { line, all, cr: false }, byte) if byte != b'\n' => {
                if all == HEAD_BYTES_MAX {
                    return Err(super::head_too_large());
                }
                At::Trailer { line: line + 1, all: all + 1, cr: false }
            }
            _ => return Err(broken("a chunk does not end with CR LF")),
        })
    }

    /// `size` as a size in memory, when the bound leaves room for it.
    fn room(&self, size: u64) -> Result<usize, ApiError> {
        let size = u32::try_from(size).map_err(|_| broken("a chunk size is beyond 32 bits"))? as usize;
        match self.bytes.len().checked_add(size) {
            Some(sum) if sum <= self.limit => Ok(size),
            _ => Err(too_large(self.limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use streamgauge_api::Code;

    fn check(text: &[u8]) -> Result<(Vec<u8>, usize), Code> {
        let mut body = Chunked::new(100);
        let count = body.take(text).map_err(|error| error.code)?;
        if body.is_complete() { Ok((body.bytes().to_vec(), count)) } else { Ok((Vec::new(), usize::MAX)) }
    }

    #[test]
    fn chunk_arithmetic_is_checked() {
        let broken = Err(Code::HttpProtocolError);
        for (text, expected) in [
            (&b"0\r\n\r\n"[..], Ok((vec![], 5))),
            (b"3\r\nabc\r\n2;x=\"y\"\r\nde\r\n0\r\nT: v\r\nU: w\r\n\r\nnext", Ok((b"abcde".to_vec(), 38))),
            (b"0000000000000003\r\nabc\r\n00\r\n\r\n", Ok((b"abc".to_vec(), 29))),
            (b"64\r\n", Ok((vec![], usize::MAX))),
            (b"65\r\n", Err(Code::PayloadTooLarge)),
            (b"ffffffff\r\n", Err(Code::PayloadTooLarge)),
            (b"100000000\r\n", broken.clone()),
            (b"ffffffffffffffff\r\n", broken.clone()),
            (b"00000000000000003\r\n", broken.clone()),
            (b"+3\r\n", broken.clone()),
            (b"-3\r\n", broken.clone()),
            (b" 3\r\n", broken.clone()),
            (b"0x3\r\n", broken.clone()),
            (b"\r\n", broken.clone()),
            (b";x\r\n", broken.clone()),
            (b"3\nabc", broken.clone()),
            (b"3\rabc", broken.clone()),
            (b"3\r\nabcd", broken.clone()),
            (b"3\r\nabc\n", broken.clone()),
            (b"0\r\nT: v\n\r\n", broken.clone()),
            (b"3;\x01\r\n", broken),
        ] {
            assert_eq!(check(text), expected, "{:?}", String::from_utf8_lossy(text));
        }
    }

    proptest! {
        /// However a body is cut into chunks and reads, the same bytes come out.
        #[test]
        fn bodies_survive_any_cutting(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..8), step in 1usize..20) {
            let mut wire = Vec::new();
            for chunk in &chunks {
                wire.extend_from_slice(format!("{:X}\r\n", chunk.len()).as_bytes());
                wire.extend_from_slice(chunk);
                wire.extend_from_slice(b"\r\n");
            }
            wire.extend_from_slice(b"0\r\n\r\n");
            let mut body = Chunked::new(1_000);
            for piece in wire.chunks(step) {
                prop_assert_eq!(body.take(piece).ok(), Some(piece.len()));
            }
            prop_assert!(body.is_complete());
            prop_assert_eq!(body.bytes(), chunks.concat());
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _any_answer = Chunked::new(50).take(&bytes).is_ok();
        }
    }
}
