//! The doorway to crc32fast: which polynomial, by name, and how a running checksum is taken.
//!
//! CRC-32 (IEEE 802.3) and CRC-32C (Castagnoli) are different polynomials; a file header names the one its file uses and readers refuse any other.

/// The polynomial, as file headers name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum ChecksumKind {
    /// CRC-32 as in IEEE 802.3, zlib and PNG: reflected, polynomial 0x04C11DB7.
    Crc32Ieee = 1,
}

impl ChecksumKind {
    /// The kind of this number in a file header.
    pub fn from_number(number: u32) -> Option<Self> {
        (number == Self::Crc32Ieee as u32).then_some(Self::Crc32Ieee)
    }
}

/// A running CRC-32 (IEEE).
#[derive(Debug, Clone, Default)]
pub struct Checksum(crc32fast::Hasher);

impl Checksum {
    /// Begins with nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from a finished checksum, as if its bytes stood before.
    pub fn resume(crc: u32) -> Self {
        Self(crc32fast::Hasher::new_with_initial(crc))
    }

    /// Takes bytes in.
    #[must_use]
    pub fn with(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// The checksum of all bytes taken in.
    pub fn finish(self) -> u32 {
        self.0.finalize()
    }

    /// What becomes of a checksum when so many zeroes follow its bytes, without the part that the zeroes have
    /// by themselves: checksums of `a`, of `b` and of `ab` are `ab == shift(a, b.len()) ^ b`. Costs a
    /// microsecond, whatever the length.
    pub fn shift(crc: u32, bytes: u64) -> u32 {
        let mut first = crc32fast::Hasher::new_with_initial(crc);
        // The second half has so many bytes and the checksum 0.
        first.combine(&crc32fast::Hasher::new_with_initial_len(0, bytes));
        first.finalize()
    }

    /// The checksum of one slice.
    pub fn of(bytes: &[u8]) -> u32 {
        Self::new().with(bytes).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_polynomial_is_ieee_and_not_castagnoli() {
        // Check values of "123456789" from the CRC catalogue: CRC-32 is CBF43926, CRC-32C would be E3069283.
        assert_eq!(Checksum::of(b"123456789"), 0xCBF4_3926);
    }

    #[test]
    fn checksums_of_parts_make_that_of_the_whole_and_the_other_way_round() {
        let bytes: Vec<u8> = (0..10_000_u32).map(|number| (number * 31 % 251) as u8).collect();
        for (from, to) in [(0, 0), (0, 1), (7, 7), (3, 10), (100, 9_000), (0, 10_000)] {
            let (before, middle) = (Checksum::of(&bytes[..from]), Checksum::of(&bytes[from..to]));
            let length = (to - from) as u64;
            assert_eq!(Checksum::of(&bytes[..to]), Checksum::shift(before, length) ^ middle, "{from} to {to}");
            assert_eq!(middle, Checksum::of(&bytes[..to]) ^ Checksum::shift(before, length), "{from} to {to}");
        }
    }

    #[test]
    fn a_resumed_checksum_equals_the_whole() {
        assert_eq!(Checksum::resume(Checksum::of(b"12345")).with(b"6789").finish(), Checksum::of(b"123456789"));
    }
}
