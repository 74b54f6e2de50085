//! A checked cursor over one Avro body: the primitives of the binary encoding.
//!
//! Every length is compared with the bytes left before it is used, varints take at most ten bytes and must fit, text must be UTF-8, a boolean is 0 or 1.

use crate::decode::error::BadRow;
use streamgauge_api::Code;

/// Position in one body.
#[derive(Debug)]
pub(super) struct Bytes<'a> {
    all: &'a [u8],
    pub(super) pos: usize,
    /// How many more items that take no bytes are walked.
    free_items: u64,
}

impl<'a> Bytes<'a> {
    pub(super) fn new(all: &'a [u8]) -> Self {
        Self { all, pos: 0, free_items: FREE_ITEMS_MAX }
    }

    #[inline]
    pub(super) fn left(&self) -> usize {
        self.all.len() - self.pos
    }

    #[cold]
    pub(super) fn malformed(&self, what: &str) -> Box<BadRow> {
        BadRow::new(Code::DecodeMalformed, "", format!("{what} at byte {} of {} of the Avro body", self.pos, self.all.len()))
    }

    #[inline]
    fn varint(&mut self) -> Result<u64, Box<BadRow>> {
        match self.all.get(self.pos) {
            Some(&byte) if byte < 0x80 => {
                self.pos += 1;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, Box<BadRow>> {
        let mut number = 0u64;
        for (index, &byte) in self.all.get(self.pos..).unwrap_or_default().iter().take(10).enumerate() {
            number |= u64::from(byte & 0x7F) << (7 * index);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return Err(self.malformed("a number of more than 64 bits"));
                }
                self.pos += index + 1;
                return Ok(number);
            }
        }
        Err(self.malformed(if self.left() < 10 { "the body ends in a number" } else { "a number of more than ten bytes" }))
    }

    #[inline]
    pub(super) fn long(&mut self) -> Result<i64, Box<BadRow>> {
        let number = self.varint()?;
        Ok((number >> 1).cast_signed() ^ -(number & 1).cast_signed())
    }

    #[inline]
    pub(super) fn int(&mut self) -> Result<i64, Box<BadRow>> {
        let number = self.long()?;
        if i32::try_from(number).is_err() {
            return Err(self.malformed("an int of more than 32 bits ends"));
        }
        Ok(number)
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], Box<BadRow>> {
        let all = self.all;
        match self.pos.checked_add(count).and_then(|end| all.get(self.pos..end)) {
            Some(taken) => {
                self.pos += count;
                Ok(taken)
            }
            None => Err(self.malformed("the body ends early")),
        }
    }

    #[inline]
    pub(super) fn float(&mut self) -> Result<f64, Box<BadRow>> {
        let bytes = self.take(4)?;
        Ok(f64::from(f32::from_le_bytes(bytes.try_into().unwrap_or_default())))
    }

    #[inline]
    pub(super) fn double(&mut self) -> Result<f64, Box<BadRow>> {
        let bytes = self.take(8)?;
        Ok(f64::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    #[inline]
    pub(super) fn bool(&mut self) -> Result<bool, Box<BadRow>> {
        match self.take(1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(self.malformed("a boolean that is neither 0 nor 1 ends")),
        }
    }

    /// Bytes with their length in front.
    #[inline]
    pub(super) fn bytes(&mut self) -> Result<&'a [u8], Box<BadRow>> {
        let len = self.long()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.left() => self.take(len),
            _ => Err(self.malformed(&format!("a length of {len} ends"))),
        }
    }

    /// The bytes of a text, whose UTF-8 is checked. Nearly all texts are ASCII, which is seen at a glance.
    #[inline]
    pub(super) fn utf8(&mut self) -> Result<&'a [u8], Box<BadRow>> {
        let bytes = self.bytes()?;
        if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() { Ok(bytes) } else { Err(self.malformed(NO_UTF8)) }
    }

    #[inline]
    pub(super) fn str(&mut self) -> Result<&'a str, Box<BadRow>> {
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.malformed(NO_UTF8))
    }

    /// A branch or symbol number below `count`.
    #[inline]
    pub(super) fn index(&mut self, count: u32, what: &str) -> Result<usize, Box<BadRow>> {
        let index = self.long()?;
        match usize::try_from(index) {
            Ok(inside) if inside < count as usize => Ok(inside),
            _ => Err(self.malformed(&format!("{what} {index} of {count} ends"))),
        }
    }

    /// The head of an array or map block: how many items, and how many bytes when the writer says so. No items end the array.
    /// `free` items take no bytes; they are bounded by a constant, all others by the bytes left.
    #[inline]
    pub(super) fn block(&mut self, free: bool) -> Result<(u64, Option<usize>), Box<BadRow>> {
        let count = self.long()?;
        let mut size = None;
        if count < 0 {
            match self.long().map(usize::try_from)? {
                Ok(bytes) if bytes <= self.left() => size = Some(bytes),
                _ => return Err(self.malformed("a block larger than the body")),
            }
        }
        let items = count.unsigned_abs();
        if items > if free { self.free_items } else { self.left() as u64 } {
            return Err(self.malformed(&format!("a block of {items} items")));
        }
        if free {
            self.free_items -= items;
        }
        Ok((items, size))
    }
}

const NO_UTF8: &str = "text that is no UTF-8 ends";

/// Most items of one body that take no bytes: without a bound, ten bytes could ask for 2^63 steps.
const FREE_ITEMS_MAX: u64 = 65_536;
