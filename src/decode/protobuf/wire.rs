//! A checked cursor over one Protobuf body: tags, varints, lengths.
//!
//! ```text
//! body   := { tag value }          tag := varint (number << 3 | wire)
//! wire 0 := varint of 1 to 10 bytes     wire 1 := 8 bytes, little-endian
//! wire 2 := varint length, bytes        wire 5 := 4 bytes, little-endian
//! ```
//!
//! Groups (3, 4) are refused, as is field number 0 and whatever does not end within the body. Every length is
//! compared with the bytes left before it is used.

use crate::decode::error::BadRow;
use streamgauge_api::Code;

pub(super) const VARINT: u8 = 0;
pub(super) const EIGHT: u8 = 1;
pub(super) const BYTES: u8 = 2;
pub(super) const FOUR: u8 = 5;

/// Position in one body, or in a part of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wire<'a> {
    all: &'a [u8],
    pub(super) pos: usize,
    end: usize,
}

impl<'a> Wire<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, pos: 0, end: all.len() }
    }

    /// The same body from there on.
    pub(super) fn at(&self, pos: usize) -> Self {
        Self { pos, end: self.all.len(), ..*self }
    }

    #[inline]
    pub(super) fn at_end(&self) -> bool {
        self.pos >= self.end
    }

    #[cold]
    pub(super) fn malformed(&self, what: &str) -> Box<BadRow> {
        BadRow::new(Code::DecodeMalformed, "", format!("{what} at byte {} of {} of the Protobuf body", self.pos, self.all.len()))
    }

    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64, Box<BadRow>> {
        match self.all.get(self.pos) {
            Some(&byte) if byte < 0x80 && self.pos < self.end => {
                self.pos += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64, Box<BadRow>> {
        let mut number = 0u64;
        for (index, &byte) in self.all.get(self.pos..self.end).unwrap_or_default().iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return Err(self.malformed("a number of more than 64 bits"));
                }
                self.pos += index + 1;
                return Ok(number);
            }
        }
        Err(self.malformed(if self.end - self.pos < 10 { "the body ends in a number" } else { "a number of more than ten bytes" }))
    }

    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Box<BadRow>> {
        let all = self.all;
        match self.pos.checked_add(count).filter(|end| *end <= self.end).and_then(|end| all.get(self.pos..end)) {
            Some(taken) => {
                self.pos += count;
                Ok(taken)
            }
            None => Err(self.malformed("the body ends early")),
        }
    }

    #[inline]
    pub(super) fn four(&mut self) -> Result<[u8; 4], Box<BadRow>> {
        Ok(self.take(4)?.try_into().unwrap_or_default())
    }

    #[inline]
    pub(super) fn eight(&mut self) -> Result<[u8; 8], Box<BadRow>> {
        Ok(self.take(8)?.try_into().unwrap_or_default())
    }

    /// Bytes with their length in front.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Box<BadRow>> {
        let len = self.varint()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.end - self.pos => self.take(len),
            _ => Err(self.malformed(&format!("a length of {len} ends"))),
        }
    }

    /// The inside of bytes with their length in front; this cursor goes behind them.
    #[inline]
    pub(super) fn inside(&mut self) -> Result<Self, Box<BadRow>> {
        let len = self.bytes()?.len();
        Ok(Self { all: self.all, pos: self.pos - len, end: self.pos })
    }

    /// A field's number and wire type.
    #[inline]
    pub(super) fn tag(&mut self) -> Result<(u32, u8), Box<BadRow>> {
        let tag = self.varint()?;
        match u32::try_from(tag >> 3) {
            Ok(number @ 1..=0x1FFF_FFFF) => Ok((number, (tag & 7) as u8)),
            _ => Err(self.malformed(&format!("the field number {} ends", tag >> 3))),
        }
    }

    /// Passes a value that nobody takes.
    #[inline]
    pub(super) fn skip(&mut self, wire: u8) -> Result<(), Box<BadRow>> {
        match wire {
            VARINT => drop(self.varint()?),
            EIGHT => drop(self.take(8)?),
            BYTES => drop(self.bytes()?),
            FOUR => drop(self.take(4)?),
            3 | 4 => return Err(self.malformed("a group")),
            _ => return Err(self.malformed(&format!("the unknown wire type {wire}"))),
        }
        Ok(())
    }

    /// The bytes from a place to here.
    pub(super) fn since(&self, pos: usize) -> &'a [u8] {
        self.all.get(pos..self.pos).unwrap_or_default()
    }
}
